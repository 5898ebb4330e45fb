// Every text of the telephone that a person reads, in the language that was chosen.
import type { MicrophoneProblem } from "./words.js";

const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

/** English, and the shape of every other language. */
export const english = {
  percent,
  microphone: {
    denied: "The microphone is blocked. Allow it in the address bar and call again.",
    missing: "No microphone was found. Plug one in and call again.",
    busy: "The microphone cannot be opened. Is another program using it?",
    insecure: "This page may not use the microphone: it needs https, or http://localhost.",
  } as Record<MicrophoneProblem, string>,
  /** By the SIP status a call was refused with. */
  status: {
    403: "This number or account is not allowed.",
    404: "There is no route for this number.",
    408: "No answer from the other side.",
    480: "Nobody answered, or the person is not available.",
    486: "The line is busy.",
    487: "The call was cancelled.",
    488: "The two sides have no audio format in common.",
    502: "The trunk did not accept the gateway's credentials.",
    503: "The gateway is not accepting calls at the moment.",
    603: "The call was declined.",
  } as Record<number, string>,
  /** By JsSIP's cause where there was no status. */
  causes: {
    "Connection Error": "The connection to the gateway was lost.",
    "Request Timeout": "The gateway did not respond.",
    "RTP Timeout": "Sound stopped arriving.",
    "WebRTC Error": "The browser could not set up audio.",
  } as Record<string, string>,
  failed: (cause: string) => `The call failed: ${cause}.`,
  endedWhileReloading: "The call ended while the page was reloaded.",
  transfer: {
    refused: "The transfer was refused; the call continues.",
    unreachable: (name: string) => `${name} could not be reached; the call continues.`,
  },
  noNumber: "there is no number to call",
  noLine: "all lines are in use",
  line: {
    stopped: "Not logged in",
    connecting: "Connecting…",
    ready: "Ready",
    unreachable: "The gateway does not answer; trying again",
    noNetwork: "This device is offline; the phone comes back with the network",
    wrongPassword: "Wrong user or password",
    lockedOut: (until: Date) =>
      `Too many wrong passwords from this network: locked out until ${until.toLocaleTimeString()}`,
    refused: (reason: string) => `Not registered: ${reason}`,
  },
  quality: {
    none: "No sound arrives from them.",
    lossIn: (share: number) => `${percent(share)} of what you hear is lost on the way.`,
    lossOut: (share: number) => `${percent(share)} of what you say is lost on the way.`,
    jitter: (ms: number) => `Sound arrives unevenly (jitter ${ms} ms).`,
    far: (ms: number) => `The delay is long (round trip ${ms} ms).`,
  },
  devices: { microphone: "Microphone", speaker: "Speaker" },
  check: {
    heard: (dbfs: number) => `The microphone picks up sound (${dbfs} dBFS at its peak).`,
    silent: "The microphone is silent: is it muted, or is another one meant?",
    noAnswer: "The gateway did not answer in 5 s.",
    answers: "The gateway answers.",
    unreachable: "The gateway cannot be reached, or this page's origin is not in web.origins.",
    callFailed: (number: string, why: string) => `The test call to ${number} failed: ${why}`,
    callUnanswered: "no answer",
    noSound:
      "The call was answered, but no sound arrived: UDP to the gateway is blocked on the way.",
    sound: (packets: number) =>
      `Sound arrives in both directions: ${packets} packets in four seconds.`,
    loss: (percent: string, fine: boolean) =>
      `${percent} % were lost${fine ? "." : ": the network is poor; a cable helps."}`,
    jitter: (ms: number, fine: boolean) =>
      `Jitter is ${ms} ms${fine ? "." : ": too much for a good call; a cable helps."}`,
    trip: (ms: number, fine: boolean) =>
      `The round trip to the gateway takes ${ms} ms${fine ? "." : ": people will interrupt each other."}`,
    registered: "You are registered.",
    notRegistered: "There is no connection to the gateway.",
  },
};

/** A language of the telephone. */
export type Texts = typeof english;

let spoken: Texts = english;

/** The texts of the chosen language. */
export const texts = (): Texts => spoken;

/** Speaks this language from now on; the default is English. `@webtrunk/phone/de` has German. */
export function speak(language: Texts): void {
  spoken = language;
}
