// What a person reads when something did not work: what happened, and what can be done about it.

import { texts } from "./texts.js";

/** What is wrong with a microphone. */
export type MicrophoneProblem = "denied" | "missing" | "busy" | "insecure";

/** What the gateway says itself in `Reason` (RFC 3326), or the empty string. */
export function reasonText(message?: { getHeader?(name: string): string | undefined }): string {
  const found = /text="((?:[^"\\]|\\.)*)"/.exec(message?.getHeader?.("Reason") ?? "");
  return found ? found[1].replace(/\\(.)/g, "$1") : "";
}

/** The sentence for a status, or for JsSIP's cause where there is none. */
export function statusText(code: number | null, cause: string): string {
  const { status, causes, failed } = texts();
  return (code && status[code]) || causes[cause] || failed(cause);
}

export const microphoneText = (problem: MicrophoneProblem): string => texts().microphone[problem];

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
