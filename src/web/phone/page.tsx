import { type Line, lineText, microphoneText } from "@webtrunk/phone";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { App } from "./app.js";
import { ActiveCall, OtherCall } from "./calls.js";
import { Dialler } from "./dialler.js";
import { Icon } from "./icons.js";
import { Lists } from "./lists.js";
import { askToNotify, mayNotify } from "./notify.js";
import { Settings } from "./settings.js";
import { keep, kept } from "./store.js";
import { t } from "./texts.js";

function LogIn({ app }: { app: App }) {
  const user = useRef<HTMLInputElement>(null);
  const password = useRef<HTMLInputElement>(null);
  const stay = useRef<HTMLInputElement>(null);
  useEffect(() => user.current?.focus(), []);
  return (
    <form
      id="login"
      onSubmit={(event) => {
        event.preventDefault();
        app.logIn(
          user.current?.value ?? "",
          password.current?.value ?? "",
          stay.current?.checked ?? false,
        );
      }}
    >
      <h2>{t.logIn.title}</h2>
      <label for="user">{t.logIn.user}</label>
      <input id="user" ref={user} autocomplete="username" required />
      <label for="password">{t.logIn.password}</label>
      <input
        id="password"
        ref={password}
        type="password"
        autocomplete="current-password"
        required
      />
      <label class="tick">
        <input id="stay" ref={stay} type="checkbox" defaultChecked /> {t.logIn.stay}
      </label>
      {app.loginProblem && (
        <p role="alert" class="problem">
          {app.loginProblem}
        </p>
      )}
      <button type="submit" class="primary">
        {t.logIn.submit}
      </button>
    </form>
  );
}

function Note({ id, bad, children }: { id: string; bad?: boolean; children: ComponentChildren }) {
  return (
    <p id={id} class={bad ? "note bad" : "note"} role="status">
      <Icon name={bad ? "warning" : "bell"} />
      <span>{children}</span>
    </p>
  );
}

const QUIET: Line["state"][] = ["ready", "connecting", "stopped"];

/** What stands in the way of a call: above all else. */
function Hindrances({ app }: { app: App }) {
  return (
    <>
      {!QUIET.includes(app.line.state) && (
        <Note id="line-note" bad>
          {lineText(app.line)}.
        </Note>
      )}
      {app.microphone && (
        <Note id="microphone-note" bad>
          {microphoneText(app.microphone)}
        </Note>
      )}
    </>
  );
}

/** What helps to hear a call come in: below the keys, which neither its coming nor its going moves. */
function Hints({ app }: { app: App }) {
  const [hidden, hide] = useState(() => kept("not-to-notify", false));
  if (!app.touched) return <Note id="silent-note">{t.notes.touch}</Note>;
  if (hidden || mayNotify() !== "default" || app.settings?.login) return null;
  return (
    <Note id="notify-note">
      {t.notes.notify}{" "}
      <button type="button" class="link" onClick={() => void askToNotify().then(() => hide(true))}>
        {t.notes.turnOn}
      </button>{" "}
      <button
        type="button"
        class="link"
        onClick={() => {
          keep("not-to-notify", true);
          hide(true);
        }}
      >
        {t.notes.notNow}
      </button>
    </Note>
  );
}

function Try({ app }: { app: App }) {
  return (
    <section id="try" aria-labelledby="try-title">
      <h2 id="try-title">{t.demo.title}</h2>
      <p class="soft" id="demo-note">
        {t.demo.note}
      </p>
      <ul id="numbers">
        {t.demo.numbers.map(([number, what]) => (
          <li key={number}>
            <button type="button" disabled={!app.phone?.ready} onClick={() => app.call(number)}>
              {number}
              <span>{what}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** All of the phone. */
export function Page({ app }: { app: App }) {
  const [, render] = useState(0);
  // Before anything is painted: what changes until then is drawn, too.
  useLayoutEffect(() => app.on("change", () => render((n) => n + 1)), [app]);
  if (app.loggedOut) return <LogIn app={app} />;
  if (!app.settings) return <Hindrances app={app} />;
  const { active, calls } = app;
  return (
    <section id="phone" aria-labelledby="phone-title">
      <h2 id="phone-title" class="visually-hidden">
        {t.phone}
      </h2>
      <div class="main">
        <Hindrances app={app} />
        {calls
          .filter((call) => call !== active)
          .map((call) => (
            <OtherCall key={call.id} app={app} call={call} />
          ))}
        {active && <ActiveCall key={active.id} app={app} call={active} />}
        <p id="verdict" role="alert" class={app.wrong ? "wrong" : ""}>
          {app.verdict}
        </p>
        {(calls.length === 0 || app.panel === "dialler") && <Dialler app={app} />}
        <Hints app={app} />
      </div>
      <div class="side">
        {app.settings?.login && <Try app={app} />}
        <Lists app={app} />
        <Settings app={app} />
      </div>
    </section>
  );
}
