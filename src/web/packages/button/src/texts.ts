// Every text of the button itself. What it says of the telephone comes from the telephone's texts.

/** What the button says in one language. */
export interface ButtonTexts {
  /** On the button, where it has no `label`. */
  call: string;
  hangUp: string;
  mute: string;
  unmute: string;
  keypad: string;
  /** For who listens to the page instead of looking at it: the timer, and two keys. */
  duration: string;
  star: string;
  hash: string;
  calling: string;
  ringing: string;
  connected: string;
  muted: string;
  resuming: string;
  /** A call that failed, and the attempt at one. */
  failed: (reason: string) => string;
  noConnection: (address: string) => string;
  gatewayLost: string;
  over: string;
  tokenRefused: (status: number) => string;
  noToken: string;
  noSocket: string;
}

const en: ButtonTexts = {
  call: "Call",
  hangUp: "Hang up",
  mute: "Mute",
  unmute: "Unmute",
  keypad: "Keypad",
  duration: "Duration",
  star: "star",
  hash: "hash",
  calling: "Calling…",
  ringing: "Ringing…",
  connected: "Connected",
  muted: "Connected, muted",
  resuming: "Resuming the call…",
  failed: (reason) => `The call failed: ${reason}`,
  noConnection: (address) => `no connection to the gateway at ${address}`,
  gatewayLost: "the gateway cannot be reached",
  over: "the call has ended in the meantime",
  tokenRefused: (status) => `token-url answered ${status}`,
  noToken: "call-button needs a token-url",
  noSocket: "the answer of token-url names no `ws`",
};

const de: ButtonTexts = {
  call: "Anrufen",
  hangUp: "Auflegen",
  mute: "Stumm",
  unmute: "Laut",
  keypad: "Tasten",
  duration: "Dauer",
  star: "Stern",
  hash: "Raute",
  calling: "Wird angerufen…",
  ringing: "Es klingelt…",
  connected: "Verbunden",
  muted: "Verbunden, stumm",
  resuming: "Das Gespräch wird wieder aufgenommen…",
  failed: (reason) => `Das hat nicht geklappt: ${reason}`,
  noConnection: (address) => `keine Verbindung zum Gateway unter ${address}`,
  gatewayLost: "das Gateway ist nicht zu erreichen",
  over: "das Gespräch ist inzwischen zu Ende",
  tokenRefused: (status) => `token-url antwortete mit ${status}`,
  noToken: "call-button braucht eine token-url",
  noSocket: "die Antwort von token-url nennt kein `ws`",
};

/** The languages the button speaks, by their two letters; a page may add its own. */
export const languages: Record<string, ButtonTexts> = { en, de };

/** The language of an element, by the nearest `lang`, as HTML has it; English where it says none. */
export function languageOf(element: Element): string {
  for (let at: Element | null = element; at; at = parentOf(at)) {
    const said = at.getAttribute("lang")?.toLowerCase().split("-")[0];
    if (said !== undefined) return said in languages ? said : "en";
  }
  return "en";
}

function parentOf(element: Element): Element | null {
  const root = element.parentNode;
  return element.parentElement ?? (root instanceof ShadowRoot ? root.host : null);
}
