// What a person reads when something did not work: what happened, and what can be done about it.

/** What is wrong with a microphone. */
export type MicrophoneProblem = "denied" | "missing" | "busy" | "insecure";

const MICROPHONE: Record<MicrophoneProblem, string> = {
  denied: "The microphone is blocked. Allow it in the address bar and call again.",
  missing: "No microphone was found. Plug one in and call again.",
  busy: "The microphone cannot be opened. Does another program use it?",
  insecure: "This page may not use the microphone: it needs https, or http://localhost.",
};

const STATUS: Record<number, string> = {
  403: "This number or account is not allowed.",
  404: "There is no route for this number.",
  408: "No answer from the other side.",
  480: "Nobody answered, or the person is not available.",
  486: "The line is busy.",
  487: "The call was cancelled.",
  488: "The two sides have no audio format in common.",
  502: "The trunk did not accept the gateway's credentials.",
  503: "The gateway does not accept calls at the moment.",
  603: "The call was declined.",
};

const CAUSES: Record<string, string> = {
  "Connection Error": "The connection to the gateway was lost.",
  "Request Timeout": "The gateway did not respond.",
  "RTP Timeout": "No sound arrived any more.",
  "WebRTC Error": "The browser could not set up audio.",
};

/** What the gateway says itself in `Reason` (RFC 3326), or the empty string. */
export function reasonText(message?: { getHeader?(name: string): string | undefined }): string {
  const found = /text="((?:[^"\\]|\\.)*)"/.exec(message?.getHeader?.("Reason") ?? "");
  return found ? found[1].replace(/\\(.)/g, "$1") : "";
}

/** The sentence for a status, or for JsSIP's cause where there is none. */
export function statusText(code: number | null, cause: string): string {
  return (code && STATUS[code]) || CAUSES[cause] || `The call failed: ${cause}.`;
}

export const microphoneText = (problem: MicrophoneProblem): string => MICROPHONE[problem];

/** What a failure of `getUserMedia` means. */
export function microphoneProblem(error: { name?: string } | undefined): MicrophoneProblem {
  if (!globalThis.isSecureContext) return "insecure";
  switch (error?.name) {
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "denied";
  }
}
