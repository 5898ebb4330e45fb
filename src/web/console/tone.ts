// How the end of a call is coloured, and whether anything is to be mended.

/** Given up, busy, not answered, declined: what people do every day is no fault. */
const EVERY_DAY = /^WT-130[0-3]$/;

/** Whether a code names a fault. */
export const isFault = (code: string | null | undefined) => Boolean(code && !EVERY_DAY.test(code));

/** A person said no: its outcome is that of a refusal, which it is not. */
export const isDeclined = (code: string | null) => code === "WT-1303";

const EVERY_DAY_OUTCOMES = ["busy", "no_answer", "cancelled"];

/** Below this, people complain of the sound. */
const POOR_MOS = 3.1;

export type Tone = "good" | "bad" | "wait" | "calm" | "live";

export function tone(call: {
  state: string;
  outcome: string | null;
  code: string | null;
  mos_estimated: number | null;
}): Tone {
  if (call.state !== "ended") return "live";
  if (call.outcome === "success")
    return call.code || (call.mos_estimated ?? 5) < POOR_MOS ? "wait" : "good";
  const everyDay = call.code
    ? !isFault(call.code)
    : EVERY_DAY_OUTCOMES.includes(call.outcome ?? "");
  return everyDay ? "calm" : "bad";
}
