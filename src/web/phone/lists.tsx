import { useRef, useState } from "preact/hooks";
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

function Recent({ app, entry }: { app: App; entry: Entry }) {
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
    </li>
  );
}

function Recents({ app }: { app: App }) {
  if (!app.history.length) return <p class="soft">{t.people.nobody}</p>;
  return (
    <>
      <ul id="recents">
        {app.history.map((entry) => (
          <Recent key={entry.at + entry.number} app={app} entry={entry} />
        ))}
      </ul>
      <button type="button" class="quiet" onClick={() => app.clearHistory()}>
        {t.people.forget}
      </button>
    </>
  );
}

function NewContact({ app }: { app: App }) {
  const name = useRef<HTMLInputElement>(null);
  const number = useRef<HTMLInputElement>(null);
  const last = app.history.find((entry) => !app.nameOf(entry.number))?.number ?? "";
  return (
    <form
      id="contact"
      onSubmit={(event) => {
        event.preventDefault();
        app.keepContact(name.current?.value ?? "", number.current?.value ?? "");
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
        inputMode="tel"
        autocomplete="off"
        required
      />
      <button type="submit">{t.people.keep}</button>
    </form>
  );
}

function Contacts({ app }: { app: App }) {
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
      <NewContact app={app} />
    </>
  );
}

/** Who was called, and who can be. */
export function Lists({ app }: { app: App }) {
  const [tab, setTab] = useState<"recents" | "contacts">("recents");
  const missed = app.history.filter((entry) => entry.fate === "missed").length;
  return (
    <section class="lists" aria-label={t.people.title}>
      <fieldset class="tabs" aria-label={t.people.which}>
        <button type="button" aria-pressed={tab === "recents"} onClick={() => setTab("recents")}>
          {t.people.recents}
          {missed > 0 && <span class="count">{t.people.missed(missed)}</span>}
        </button>
        <button type="button" aria-pressed={tab === "contacts"} onClick={() => setTab("contacts")}>
          {t.people.contacts}
        </button>
      </fieldset>
      {tab === "recents" ? <Recents app={app} /> : <Contacts app={app} />}
    </section>
  );
}
