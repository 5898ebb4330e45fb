import type { Texts } from "./texts.js";

const percent = (share: number) =>
  `${(100 * share).toFixed(share < 0.1 ? 1 : 0).replace(".", ",")} %`;

/** German: `speak(german)`. */
export const german: Texts = {
  percent,
  microphone: {
    denied:
      "Das Mikrofon ist gesperrt. Erlauben Sie es in der Adresszeile, und rufen Sie noch einmal an.",
    missing:
      "Es wurde kein Mikrofon gefunden. Schließen Sie eines an, und rufen Sie noch einmal an.",
    busy: "Das Mikrofon lässt sich nicht öffnen. Benutzt es ein anderes Programm?",
    insecure:
      "Diese Seite darf das Mikrofon nicht benutzen: Sie braucht https oder http://localhost.",
  },
  status: {
    403: "Diese Nummer oder dieses Konto ist nicht erlaubt.",
    404: "Für diese Nummer gibt es keine Route.",
    408: "Die andere Seite antwortet nicht.",
    480: "Niemand hat abgenommen, oder die Person ist nicht erreichbar.",
    486: "Die Leitung ist besetzt.",
    487: "Der Anruf wurde abgebrochen.",
    488: "Die beiden Seiten haben kein gemeinsames Tonformat.",
    502: "Der Trunk nimmt die Zugangsdaten des Gateways nicht an.",
    503: "Das Gateway nimmt im Moment keine Anrufe an.",
    603: "Der Anruf wurde abgelehnt.",
  },
  causes: {
    "Connection Error": "Die Verbindung zum Gateway ist abgerissen.",
    "Request Timeout": "Das Gateway hat nicht geantwortet.",
    "RTP Timeout": "Es kam kein Ton mehr an.",
    "WebRTC Error": "Der Browser konnte keinen Ton einrichten.",
  },
  failed: (cause) => `Der Anruf ist gescheitert: ${cause}.`,
  endedWhileReloading: "Der Anruf endete, während die Seite neu geladen wurde.",
  transfer: {
    refused: "Die Übergabe wurde abgelehnt; das Gespräch geht weiter.",
    unreachable: (name) => `${name} war nicht zu erreichen; das Gespräch geht weiter.`,
  },
  noNumber: "Es gibt keine Nummer, die angerufen werden könnte",
  noLine: "Alle Leitungen sind belegt",
  line: {
    stopped: "Nicht angemeldet",
    connecting: "Verbindet …",
    ready: "Bereit",
    unreachable: "Das Gateway antwortet nicht; neuer Versuch",
    noNetwork: "Dieses Gerät ist offline; das Telefon kommt mit dem Netz zurück",
    wrongPassword: "Benutzer oder Passwort falsch",
    lockedOut: (until) =>
      `Zu viele falsche Passwörter aus diesem Netz: gesperrt bis ${until.toLocaleTimeString()}`,
    refused: (reason) => `Nicht angemeldet: ${reason}`,
  },
  quality: {
    none: "Von der anderen Seite kommt kein Ton an.",
    lossIn: (share) => `${percent(share)} von dem, was Sie hören, geht unterwegs verloren.`,
    lossOut: (share) => `${percent(share)} von dem, was Sie sagen, geht unterwegs verloren.`,
    jitter: (ms) => `Der Ton kommt ungleichmäßig an (Jitter ${ms} ms).`,
    far: (ms) => `Der Weg ist lang (${ms} ms hin und zurück).`,
  },
  devices: { microphone: "Mikrofon", speaker: "Lautsprecher" },
  check: {
    heard: (dbfs) => `Das Mikrofon hört etwas (höchstens ${dbfs} dBFS).`,
    silent: "Das Mikrofon ist still: Ist es stumm, oder ist es ein anderes?",
    noAnswer: "Das Gateway hat in 5 s nicht geantwortet.",
    answers: "Das Gateway antwortet.",
    unreachable:
      "Das Gateway ist nicht zu erreichen, oder der Ursprung dieser Seite steht nicht in web.origins.",
    callFailed: (number, why) => `Der Probeanruf bei ${number} ist gescheitert: ${why}`,
    callUnanswered: "keine Antwort",
    noSound:
      "Der Anruf wurde angenommen, aber es kam kein Ton an: UDP zum Gateway ist unterwegs gesperrt.",
    sound: (packets) => `Ton kommt in beiden Richtungen an: ${packets} Pakete in vier Sekunden.`,
    loss: (percent, fine) =>
      `${percent.replace(".", ",")} % gingen verloren${fine ? "." : ": Das Netz ist schlecht; ein Kabel hilft."}`,
    jitter: (ms, fine) =>
      `Der Jitter ist ${ms} ms${fine ? "." : ": zu viel für ein gutes Gespräch; ein Kabel hilft."}`,
    trip: (ms, fine) =>
      `Das Gateway ist ${ms} ms entfernt, hin und zurück${fine ? "." : ": Man wird einander ins Wort fallen."}`,
    registered: "Sie sind angemeldet.",
    notRegistered: "Es gibt keine Verbindung zum Gateway.",
  },
};
