import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { App } from "./app.js";
import { Avatar, clock, who } from "./calls.js";
import { Icon, type IconName } from "./icons.js";
import type { Entry } from "./store.js";
import { t } from "./texts.js";

function when(at: string): string {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return today
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleDateString([], { day: "numeric", month: "short" });
}

interface OneRecent {
  app: App;
  entry: Entry;
  save(number: string): void;
}

function Recent({ app, entry, save }: OneRecent) {
  const [title, number] = who(app, entry);
  const missed = entry.fate === "missed";
  const icon: IconName = missed ? "missed" : entry.direction;
  const way = t.people.ways[missed ? "missed" : entry.direction];
  const how = t.people.fates[entry.fate] || clock(entry.seconds);
  return (
    <li data-fate={entry.fate}>
      <span class="way" title={way}>
        <Icon name={icon} />
        <span class="visually-hidden">{way}</span>
      </span>
      <button type="button" class="person" onClick={() => app.call(entry.number)}>
        <b>{title}</b>
        <span class="soft">{[number, how].filter(Boolean).join(" · ")}</span>
      </button>
      <time class="soft" dateTime={entry.at}>
        {when(entry.at)}
      </time>
      {!app.nameOf(entry.number) && (
        <button
          type="button"
          class="quiet"
          title={t.people.save(title)}
          aria-label={t.people.save(title)}
          onClick={() => save(entry.number)}
        >
          <Icon name="addPerson" />
        </button>
      )}
    </li>
  );
}

function Recents({ app, save }: { app: App; save(number: string): void }) {
  if (!app.history.length) return <p class="soft">{t.people.nobody}</p>;
  return (
    <>
      <ul id="recents">
        {app.history.map((entry) => (
          <Recent key={entry.at + entry.number} app={app} entry={entry} save={save} />
        ))}
      </ul>
      <button type="button" class="quiet" onClick={() => app.clearHistory()}>
        {t.people.forget}
      </button>
    </>
  );
}

interface Drafted {
  app: App;
  /** A number that only wants its name; the empty string is none. */
  draft: string;
  saved(): void;
}

function NewContact({ app, draft, saved }: Drafted) {
  const name = useRef<HTMLInputElement>(null);
  // Before anybody can type on.
  useLayoutEffect(() => {
    if (draft) name.current?.focus();
  }, [draft]);
  const number = useRef<HTMLInputElement>(null);
  const last = app.history.find((entry) => !app.nameOf(entry.number))?.number ?? "";
  return (
    <form
      id="contact"
      onSubmit={(event) => {
        event.preventDefault();
        app.keepContact(name.current?.value ?? "", number.current?.value ?? "");
        saved();
        event.currentTarget.reset();
        name.current?.focus();
      }}
    >
      <input
        ref={name}
        aria-label={t.people.name}
        placeholder={t.people.name}
        autocomplete="off"
        required
      />
      <input
        ref={number}
        aria-label={t.people.numberOf}
        placeholder={last || t.people.number}
        defaultValue={draft}
        inputMode="tel"
        autocomplete="off"
        required
      />
      <button type="submit">{t.people.keep}</button>
    </form>
  );
}

function Contacts({ app, draft, saved }: Drafted) {
  return (
    <>
      <ul id="contacts">
        {app.contacts.map((contact) => (
          <li key={contact.number}>
            <Avatar name={contact.name} />
            <button type="button" class="person" onClick={() => app.call(contact.number)}>
              <b>{contact.name}</b>
              <span class="soft">{contact.number}</span>
            </button>
            <button
              type="button"
              class="quiet"
              aria-label={t.people.remove(contact.name)}
              onClick={() => app.dropContact(contact)}
            >
              <Icon name="trash" />
            </button>
          </li>
        ))}
      </ul>
      <NewContact app={app} draft={draft} saved={saved} />
    </>
  );
}

/** Who was called, and who can be. */
export function Lists({ app }: { app: App }) {
  const [tab, setTab] = useState<"recents" | "contacts">("recents");
  const [draft, setDraft] = useState("");
  const show = (which: "recents" | "contacts", number = "") => {
    setDraft(number);
    setTab(which);
  };
  const { missed } = app;
  return (
    <section class="lists" aria-label={t.people.title}>
      <fieldset class="tabs" aria-label={t.people.which}>
        <button
          type="button"
          aria-pressed={tab === "recents"}
          onClick={() => {
            show("recents");
            app.seeMissed();
          }}
        >
          {t.people.recents}
          {missed > 0 && <span class="count">{t.people.missed(missed)}</span>}
        </button>
        <button type="button" aria-pressed={tab === "contacts"} onClick={() => show("contacts")}>
          {t.people.contacts}
        </button>
      </fieldset>
      {tab === "recents" ? (
        <Recents app={app} save={(number) => show("contacts", number)} />
      ) : (
        <Contacts app={app} draft={draft} saved={() => setDraft("")} />
      )}
    </section>
  );
}
