// What somebody types to find a call, as a complaint has it: "14:05 …0177".

const MINUTE = 60_000;
/** Clocks differ, and who complains says when it went wrong rather than when it began. */
const BEFORE = 10 * MINUTE;
const AFTER = 6 * MINUTE;

const TIME = /^([01]?\d|2[0-3]):([0-5]\d)(?::[0-5]\d)?(am|pm)?$/i;
const DATE = /^(\d{4})-(\d\d)-(\d\d)$/;
/** What a number begins with where its first digits are left out. */
const LEFT_OUT = /^(?:…|\.\.+|x{2,})/i;

/** The hour of a day of 24. */
const hour = (n: number, half?: string) =>
  half && n <= 12 ? (n % 12) + (half.toLowerCase() === "pm" ? 12 : 0) : n;

export interface Sought {
  /** Words that are part of a call. */
  text: string;
  /** When it began, where a time or a date was named. */
  between: [Date, Date] | null;
}

/** Reads a time by this browser's clock, the last one there was, and a date; the rest is text. */
export function sought(typed: string, now = new Date()): Sought {
  let time: number[] | null = null;
  let date: number[] | null = null;
  const words: string[] = [];
  // "2:05 PM" is one word, as this page itself may write it.
  for (const word of typed
    .replace(/\s+([ap]m)\b/gi, "$1")
    .split(/\s+/)
    .filter(Boolean)) {
    const [, ...at] = TIME.exec(word) ?? [];
    const [, ...on] = DATE.exec(word) ?? [];
    if (at.length && !time) time = [hour(Number(at[0]), at[2]), Number(at[1])];
    else if (on.length && !date) date = on.map(Number);
    else words.push(word.replace(LEFT_OUT, ""));
  }
  const text = words.filter(Boolean).join(" ");
  if (!time && !date) return { text, between: null };
  const at = new Date(now);
  if (date) at.setFullYear(date[0], date[1] - 1, date[2]);
  at.setHours(time?.[0] ?? 0, time?.[1] ?? 0, 0, 0);
  if (!time) {
    const next = new Date(at);
    next.setDate(at.getDate() + 1);
    return { text, between: [at, next] };
  }
  if (!date && at > now) at.setDate(at.getDate() - 1);
  return {
    text,
    between: [new Date(at.getTime() - BEFORE), new Date(at.getTime() + AFTER)],
  };
}
