// The parts every view is made of.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import {
  away,
  dismiss,
  failed,
  holdToasts,
  SCOPES,
  type Scope,
  Shared,
  scope,
  tell,
  tick,
  toasts,
} from "./store";
import { t } from "./texts";
import type { Tone } from "./tone";

export function Chip({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`chip ${tone}`}>{children}</span>;
}

const PATHS: Record<string, string> = {
  in: "M17 7 7 17M7 9v8h8",
  out: "M7 17 17 7M9 7h8v8",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "m5 12 5 5 9-10",
  close: "M6 6l12 12M18 6 6 18",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
  back: "M15 5l-7 7 7 7",
  more: "m6 9 6 6 6-6",
  down: "M12 4v12m-5-5 5 5 5-5M5 20h14",
  warn: "M12 4 2.5 20h19zM12 10v5m0 2v.5",
};

export function Icon({ name }: { name: keyof typeof PATHS | string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Button({
  kind = "",
  icon,
  children,
  ...rest
}: { kind?: string; icon?: string } & JSX.IntrinsicElements["button"]) {
  return (
    <button type="button" class={`button ${kind}`} {...rest}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

/**
 * A button that does something at the gateway, and cannot be pressed twice meanwhile, nor by whoever
 * may not do what it needs.
 */
export function Deed({
  act,
  needs = "read",
  children,
  ...rest
}: {
  act: () => Promise<unknown>;
  needs?: Scope;
  kind?: string;
  icon?: string;
  children: ComponentChildren;
}) {
  const [busy, set] = useState(false);
  const may = SCOPES.indexOf(scope.use()) >= SCOPES.indexOf(needs);
  const run = async () => {
    set(true);
    try {
      await act();
      tick();
    } catch (error) {
      failed(error);
    } finally {
      set(false);
    }
  };
  return (
    <Button {...rest} disabled={busy || !may} title={may ? "" : t.needs[needs]} onClick={run}>
      {children}
    </Button>
  );
}

export function Copy({ text, children }: { text: string; children: ComponentChildren }) {
  const copy = async () => {
    // A page without HTTPS has no clipboard.
    const copied = await navigator.clipboard?.writeText(text).then(
      () => true,
      () => false,
    );
    if (copied) tell(t.copied);
    else tell(t.cannotCopy, true);
  };
  return (
    <Deed act={copy} kind="quiet" icon="copy">
      {children}
    </Deed>
  );
}

/** Words with what is to be typed `between backticks`. */
export function Coded({ text }: { text: string }) {
  return text.split("`").map((part, n) => (n % 2 ? <code key={n}>{part}</code> : part));
}

interface Question {
  text: string;
  detail: string;
  deed: string;
  answer: (yes: boolean) => void;
}

const question = new Shared<Question | null>(null);

/** Asks before something that disconnects people. */
export function sure(text: string, detail: string, deed: string): Promise<boolean> {
  return new Promise((answer) => question.set({ text, detail, deed, answer }));
}

export function Confirm() {
  const asked = question.use();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (asked) dialog.current?.showModal();
  }, [asked]);
  const answer = (yes: boolean) => {
    asked?.answer(yes);
    question.set(null);
    dialog.current?.close();
  };
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="sure" onCancel={() => answer(false)}>
      {asked && (
        <>
          <h2 id="sure">{asked.text}</h2>
          <p class="soft">{asked.detail}</p>
          <div class="buttons end">
            <Button onClick={() => answer(false)}>{t.cancel}</Button>
            <Button kind="stop" onClick={() => answer(true)}>
              {asked.deed}
            </Button>
          </div>
        </>
      )}
    </dialog>
  );
}

/** Where keys lead in a menu; Escape, out of it. */
const WAYS: Record<string, number | undefined> = { ArrowDown: 1, ArrowUp: -1, Escape: 0 };

/**
 * Deeds behind a button: the browser's own disclosure, walked by arrows besides, and closed by
 * Escape, by a choice, and by whatever is done elsewhere.
 */
export function Menu({ title, children }: { title: string; children: ComponentChildren }) {
  const menu = useRef<HTMLDetailsElement>(null);
  const close = () => menu.current?.removeAttribute("open");
  useEffect(() => {
    const elsewhere = ({ target }: Event) => {
      if (!menu.current?.contains(target as Node)) close();
    };
    const chosen = ({ target }: Event) => {
      if ((target as Element).closest("button")) close();
    };
    const { current } = menu;
    current?.addEventListener("click", chosen);
    for (const type of ["pointerdown", "focusin"]) addEventListener(type, elsewhere);
    return () => {
      current?.removeEventListener("click", chosen);
      for (const type of ["pointerdown", "focusin"]) removeEventListener(type, elsewhere);
    };
  }, []);
  const pressed = (event: KeyboardEvent) => {
    const way = WAYS[event.key];
    if (!menu.current?.open || way === undefined) return;
    event.preventDefault();
    // Elsewhere this Escape leaves what is looked at.
    event.stopPropagation();
    const all = [...menu.current.querySelectorAll<HTMLElement>("summary, button")];
    const at = all.indexOf(document.activeElement as HTMLElement);
    if (way) return all[(at + way + all.length) % all.length].focus();
    close();
    all[0].focus();
  };
  return (
    <details ref={menu} class="menu" onKeyDown={pressed}>
      <summary class="button">
        {title}
        <Icon name="more" />
      </summary>
      <div>{children}</div>
    </details>
  );
}

/** Says that what is shown is old. */
export function Away() {
  const since = away.use();
  if (!since) return null;
  return (
    <div class="toast wrong" id="away">
      <span>{t.away(since.toLocaleTimeString())}</span>
    </div>
  );
}

export function Toasts({ children }: { children: ComponentChildren }) {
  const all = toasts.use();
  return (
    <div
      id="told"
      class="toasts"
      role="status"
      aria-live="polite"
      onPointerEnter={() => holdToasts(true)}
      onPointerLeave={() => holdToasts(false)}
      onFocusIn={() => holdToasts(true)}
      onFocusOut={() => holdToasts(false)}
    >
      {children}
      {all.map((toast) => (
        <div key={toast.id} class={`toast ${toast.wrong ? "wrong" : ""}`}>
          <span lang={toast.lang}>{toast.text}</span>
          <button type="button" aria-label={t.dismiss} onClick={() => dismiss(toast.id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}

export interface Column<T> {
  name: string;
  show: (row: T) => ComponentChildren;
  kind?: string;
}

/** A table of things; `to` makes each row lead somewhere. */
export function Table<T>({
  caption,
  columns,
  rows,
  id,
  to,
  empty,
  kind = "",
}: {
  caption: string;
  columns: Column<T>[];
  rows: T[];
  id: (row: T) => string;
  to?: (row: T) => string;
  empty: ComponentChildren;
  /** How it is laid out where there is no room. */
  kind?: string;
}) {
  if (!rows.length)
    return <div class="empty">{typeof empty === "string" ? <Coded text={empty} /> : empty}</div>;
  const open = (row: T) => (event: MouseEvent) => {
    const within = (event.target as Element).closest("a, button, summary, pre");
    if (to && !within && !getSelection()?.toString()) location.hash = to(row);
  };
  return (
    <section class="scroll" aria-label={caption} tabIndex={0}>
      <table class={`table ${kind}`}>
        <caption class="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((c) => (
              <th scope="col" class={c.kind} key={c.name}>
                {c.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={id(row)} class={to ? "leads" : ""} onClick={open(row)}>
              {columns.map((c) => (
                <td class={c.kind} key={c.name} data-name={c.name}>
                  {c.show(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** A box to search in, by name where the address keeps what is sought. */
export function Search({
  name,
  hint,
  value,
  onFind,
}: {
  name?: string;
  hint: string;
  value: string;
  onFind: (value: string) => void;
}) {
  return (
    <label class="find">
      <Icon name="search" />
      <span class="visually-hidden">{t.search}</span>
      <input
        name={name}
        type="search"
        autocomplete="off"
        placeholder={hint}
        value={value}
        onInput={(e) => onFind(e.currentTarget.value)}
      />
    </label>
  );
}

export function Facts({ rows, kind = "" }: { rows: [string, ComponentChildren][]; kind?: string }) {
  return (
    <dl class={`facts ${kind}`}>
      {rows
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** A moment by this browser's clock; with the date if it was not today. */
export function When({ at }: { at: string }) {
  const moment = new Date(at);
  const today = moment.toDateString() === new Date().toDateString();
  const time = moment.toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
  const day = moment.toLocaleDateString([], { day: "numeric", month: "short" });
  return (
    <time dateTime={at} title={moment.toLocaleString()}>
      {today ? time : `${day}, ${time}`}
    </time>
  );
}

/** `0:07`, `12:04`, `1:02:33`. */
export function clock(seconds: number) {
  const s = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  const minutes = Math.floor(s / 60);
  return minutes < 60
    ? `${minutes}:${two(s % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(s % 60)}`;
}

export function Wait({ error }: { error?: Error }) {
  if (error) {
    const { message, fix } = error as Error & { fix?: string };
    return (
      <div class="empty" role="alert" lang={"status" in error ? "en" : undefined}>
        <p>{message}</p>
        {fix && (
          <p class="soft">
            <Coded text={fix} />
          </p>
        )}
      </div>
    );
  }
  return <div class="empty soft">{t.loading}</div>;
}

export function Card({
  title,
  side,
  children,
  id,
}: {
  title?: ComponentChildren;
  side?: ComponentChildren;
  children: ComponentChildren;
  id?: string;
}) {
  return (
    <section class="panel" id={id}>
      {title && (
        <header class="panel-head">
          <h3>{title}</h3>
          {side}
        </header>
      )}
      {children}
    </section>
  );
}

export function Head({
  title,
  side,
  back,
}: {
  title: ComponentChildren;
  side?: ComponentChildren;
  back?: string;
}) {
  return (
    <header class="view-head">
      {back && (
        <a class="button quiet" href={back} aria-label={t.back}>
          <Icon name="back" />
        </a>
      )}
      <h2>{title}</h2>
      <div class="buttons">{side}</div>
    </header>
  );
}
