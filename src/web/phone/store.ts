// What this browser keeps: the login, the people, what was called.

/** The password's digest (RFC 7616's A1), never the password. */
export interface Login {
  user: string;
  domain: string;
  realm: string;
  ha1: string;
}

export type Fate =
  | "answered"
  | "missed"
  | "elsewhere"
  | "declined"
  | "cancelled"
  | "handedOver"
  | "failed";

export interface Entry {
  number: string;
  name: string;
  direction: "incoming" | "outgoing";
  at: string;
  seconds: number;
  fate: Fate;
  text: string;
}

export interface Contact {
  name: string;
  number: string;
}

/** The devices chosen; the empty string is the system's own. */
export interface Choice {
  microphone: string;
  speaker: string;
  ring: string;
}

export const MOST_ENTRIES = 100;
export const MOST_CONTACTS = 1000;

const key = (name: string) => `webtrunk-phone-${name}`;

/** What was kept under `name`, or `otherwise`; a browser that keeps nothing is no error. */
export function kept<Value>(name: string, otherwise: Value, store = localStorage): Value {
  try {
    return JSON.parse(store.getItem(key(name)) ?? "null") ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function keep(name: string, value: unknown, store = localStorage): void {
  try {
    if (value === null) store.removeItem(key(name));
    else store.setItem(key(name), JSON.stringify(value));
  } catch {
    // Full, or forbidden: it is forgotten with the tab.
  }
}
