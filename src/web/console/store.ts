// What the whole console shares: where it is, what was told, and when to look again.

import { useEffect, useState } from "preact/hooks";

export interface Place {
  view: string;
  /** What is looked at within the view: a call, a trunk, a user. */
  item: string | null;
  query: URLSearchParams;
}

export function place(): Place {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, item] = path.split("/");
  return {
    view: view || "phone",
    item: item ? decodeURIComponent(item) : null,
    query: new URLSearchParams(query ?? ""),
  };
}

export function link(view: string, item?: string | null, query?: URLSearchParams) {
  const tail = query?.size ? `?${query}` : "";
  return `#/${view}${item ? `/${encodeURIComponent(item)}` : ""}${tail}`;
}

export function usePlace() {
  const [at, set] = useState(place);
  useEffect(() => {
    const moved = () => set(place());
    // An effect runs after a paint: somebody may have gone elsewhere since the first render.
    moved();
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return at;
}

/** What is sought in a list; the address keeps it, so that the way back leads to what was found. */
export function useSearch(): [string, (typed: string) => void] {
  const [typed, set] = useState(() => place().query.get("search") ?? "");
  useEffect(() => {
    const moved = () => set(place().query.get("search") ?? "");
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const find = (text: string) => {
    const { view, item, query } = place();
    if (text.trim()) query.set("search", text);
    else query.delete("search");
    history.replaceState(null, "", link(view, item, query));
    set(text);
  };
  return [typed, find];
}

/** Whether each word that was typed is in one of these texts. */
export function holds(typed: string, ...texts: unknown[]) {
  const within = texts.filter(Boolean).join(" ").toLowerCase();
  return typed
    .toLowerCase()
    .split(/\s+/)
    .every((word) => within.includes(word));
}

/** A value many parts look at. */
export class Shared<T> {
  private readonly watchers = new Set<(value: T) => void>();
  constructor(private current: T) {}
  get value() {
    return this.current;
  }
  set(value: T) {
    this.current = value;
    for (const watcher of this.watchers) watcher(value);
  }
  /** Has a watcher hear of every value from now on; what is returned ends that. */
  watch(watcher: (value: T) => void) {
    this.watchers.add(watcher);
    return () => {
      this.watchers.delete(watcher);
    };
  }
  use(): T {
    const [value, set] = useState(this.current);
    useEffect(() => {
      set(this.current);
      return this.watch(set);
    }, []);
    return value;
  }
}

/** What somebody may do, as of a token; each may what the one before may. */
export const SCOPES = ["read", "write", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

/** What whoever is in may do. */
export const scope = new Shared<Scope>("read");

export interface Toast {
  id: number;
  text: string;
  wrong: boolean;
  /** The gateway's own words are English; the page's are in its language. */
  lang?: "en";
}

export const toasts = new Shared<Toast[]>([]);
let last = 0;

/** Says something for a while. */
export function tell(text: string, wrong = false, lang?: "en") {
  const id = ++last;
  toasts.set([...toasts.value.slice(-3), { id, text, wrong, lang }]);
  setTimeout(() => (held ? due.push(id) : dismiss(id)), wrong ? 12_000 : 6_000);
}

/** Whether somebody is at what was told, and what would be gone by now. */
let held = false;
const due: number[] = [];

/** While somebody points at what was told, or is there by the keyboard, none of it goes. */
export function holdToasts(hold: boolean) {
  held = hold;
  if (!hold) due.splice(0).forEach(dismiss);
}

export function dismiss(id: number) {
  toasts.set(toasts.value.filter((t) => t.id !== id));
}

export function failed(error: unknown) {
  const { message, fix, status } = error as { message: string; fix?: string; status?: number };
  // What has a status is in the gateway's words.
  tell(fix ? `${message}. ${fix}` : message, true, status ? "en" : undefined);
}

/** Goes up whenever something happened at the gateway; at most four times a second. */
export const ticks = new Shared(0);
let ticking = false;
export function tick() {
  if (ticking) return;
  ticking = true;
  setTimeout(() => {
    ticking = false;
    ticks.set(ticks.value + 1);
  }, 250);
}

/** Since when the gateway does not answer, if it does not. */
export const away = new Shared<Date | null>(null);

/** How much of what is looked at has not come for the first time. */
export const coming = new Shared(0);

/** Says that something comes; what is returned, that it has. */
function comes() {
  let left = true;
  coming.set(coming.value + 1);
  return () => {
    if (left) coming.set(coming.value - 1);
    left = false;
  };
}

/** What loads, again whenever something happened; the last answer stays until the next is there. */
export function useLoaded<T>(load: () => Promise<T>, about: unknown[], live = true) {
  const [state, set] = useState<{ value?: T; error?: Error; key?: string }>({});
  const key = JSON.stringify(about);
  useEffect(() => {
    let over = false;
    let loading = false;
    let missed = false;
    const came = comes();
    // One load at a time: where things happen faster than they load, each is still shown.
    const again = async () => {
      missed = loading;
      if (loading || over) return;
      loading = true;
      await load().then(
        (value) => !over && set({ value, key }),
        (error) => !over && set((before) => ({ ...before, error, key })),
      );
      loading = false;
      came();
      if (missed) again();
    };
    again();
    const deaf = live ? ticks.watch(again) : undefined;
    return () => {
      over = true;
      came();
      deaf?.();
    };
  }, [key, live]);
  // What was loaded about something else is not shown for this.
  return state.key === key ? state : {};
}
