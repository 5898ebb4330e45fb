import { texts } from "./texts.js";

/** Whether the phone can be used, and why not. */
export type Line =
  | { state: "stopped" }
  | { state: "connecting" }
  | { state: "ready" }
  /** The gateway does not answer; the phone retries on its own. */
  | { state: "unreachable" }
  /** This machine has no network; the phone tries again when it has. */
  | { state: "no-network" }
  | { state: "wrong-password" }
  /** Too many wrong passwords from this address; the phone tries again at `until`. */
  | { state: "locked-out"; until: Date }
  | { state: "refused"; reason: string };

/** The sentence for a person. */
export function lineText(line: Line): string {
  const { line: say } = texts();
  switch (line.state) {
    case "stopped":
      return say.stopped;
    case "connecting":
      return say.connecting;
    case "ready":
      return say.ready;
    case "unreachable":
      return say.unreachable;
    case "no-network":
      return say.noNetwork;
    case "wrong-password":
      return say.wrongPassword;
    case "locked-out":
      return say.lockedOut(line.until);
    case "refused":
      return say.refused(line.reason);
  }
}

interface Refusal {
  status_code: number;
  getHeader(name: string): string | undefined;
}

/** A right password is refused too while its address is locked out: that is not a wrong one. */
export function refusedLine(response: Refusal | null, cause: string): Line {
  const code = response?.status_code;
  const seconds = Number.parseInt(response?.getHeader("Retry-After") ?? "", 10);
  if (code === 403 && seconds > 0)
    return { state: "locked-out", until: new Date(Date.now() + seconds * 1000) };
  if (code === 403 || code === 401 || code === 407) return { state: "wrong-password" };
  if (!response) return { state: "unreachable" };
  return { state: "refused", reason: cause };
}
