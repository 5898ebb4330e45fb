import { type Call, type Quality, watchLevel } from "@webtrunk/phone";
import { useEffect, useRef, useState } from "preact/hooks";
import type { App } from "./app.js";
import { Pad } from "./dialler.js";
import { Icon, type IconName } from "./icons.js";
import { t } from "./texts.js";

export const clock = (s: number) =>
  s < 3600
    ? `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`
    : `${Math.floor(s / 3600)}:${String(Math.floor(s / 60) % 60).padStart(2, "0")}:${String(s % 60).padStart(2, "0")}`;

/** The other side's name, of the contacts first, and its number if that says more. */
export function who(app: App, call: { number: string; name: string }): [string, string] {
  const name = app.nameOf(call.number) || call.name;
  const same = name.toLowerCase() === call.number.toLowerCase();
  return name && !same ? [name, call.number] : [name || call.number, ""];
}

export function Avatar({ name }: { name: string }) {
  const letters = /^\p{L}/u.test(name)
    ? name
        .split(/[\s._-]+/)
        .map((word) => word[0] ?? "")
        .join("")
        .slice(0, 2)
        .toUpperCase()
    : "";
  return (
    <span class="avatar" aria-hidden="true">
      {letters || <Icon name="person" />}
    </span>
  );
}

function stateText(call: Call, blocked = false): string {
  if (call.transferring) return t.state.transferring;
  switch (call.state) {
    case "incoming":
      return t.state.incoming;
    case "calling":
      return call.resumed ? t.state.resumed : t.state.calling;
    case "ringing":
      return call.earlyMedia ? t.state.earlyMedia : t.state.ringing;
    case "ended":
      return t.state.ended;
    case "connected":
      if (call.interrupted) return t.state.interrupted;
      if (call.held) return t.state.held;
      if (blocked) return t.state.blocked;
      return call.heldByThem ? t.state.heldByThem : t.state.connected;
  }
}

function Clock({ call }: { call: Call }) {
  const [seconds, setSeconds] = useState(call.seconds);
  useEffect(() => {
    const timer = setInterval(() => setSeconds(call.seconds), 250);
    return () => clearInterval(timer);
  }, [call]);
  return (
    <>
      <span class="visually-hidden">{t.call.duration}</span>
      <time id="clock">{clock(seconds)}</time>
    </>
  );
}

function Level({ id, stream }: { id: string; stream: MediaStream | null }) {
  const meter = useRef<HTMLMeterElement>(null);
  useEffect(() => {
    if (!stream?.getAudioTracks().length) return;
    return watchLevel(stream, (peak) => {
      if (meter.current) meter.current.value = peak;
    });
  }, [stream]);
  return <meter id={id} ref={meter} min={0} max={1} value={0} />;
}

/** Both sides as they sound, the own one with the microphone's name. */
function Levels({ call }: { call: Call }) {
  const track = call.microphone;
  const [own, setOwn] = useState<MediaStream | null>(null);
  useEffect(() => setOwn(track ? new MediaStream([track]) : null), [track]);
  return (
    <div class="levels">
      <label for="level">{t.call.theySay}</label>
      <Level id="level" stream={call.stream} />
      <label for="own-level">{call.muted ? t.call.youAreMuted : t.call.youSay}</label>
      <Level id="own-level" stream={own} />
      <p class="soft" id="own-microphone">
        {track?.label}
      </p>
    </div>
  );
}

function QualityMark({ quality }: { quality: Quality | null }) {
  const mark = quality?.mark ?? "unknown";
  const text = quality ? t.quality[quality.mark] : t.quality.listening;
  return (
    <p id="quality" data-mark={mark} aria-live="polite">
      <span class="bars" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      <b>{text}</b> {quality?.reason}
    </p>
  );
}

interface Action {
  id: string;
  icon: IconName;
  text: string;
  act(): void;
  pressed?: boolean;
  expanded?: boolean;
  hint?: string;
}

function ActionButton({ id, icon, text, act, pressed, expanded, hint }: Action) {
  return (
    <button
      id={id}
      type="button"
      onClick={act}
      aria-pressed={pressed}
      aria-expanded={expanded}
      title={hint}
    >
      <Icon name={icon} />
      {text}
    </button>
  );
}

/** What can be done in a call that was answered. */
function Actions({ app, call }: { app: App; call: Call }) {
  const other = app.calls.find((c) => c !== call && c.state === "connected");
  const { muted, held } = call;
  const all: Action[] = [
    {
      id: "mute",
      icon: muted ? "muted" : "microphone",
      text: muted ? t.call.unmute : t.call.mute,
      act: () => call.mute(!muted),
      pressed: muted,
      hint: "M",
    },
    {
      id: "hold",
      icon: held ? "play" : "pause",
      text: held ? t.call.resume : t.call.hold,
      act: () => (held ? app.phone?.activate(call) : call.hold(true)),
      pressed: held,
    },
    {
      id: "keys",
      icon: "keypad",
      text: t.call.keypad,
      act: () => app.toggle("keypad"),
      expanded: app.panel === "keypad",
    },
    {
      id: "hand-over",
      icon: "transfer",
      text: t.call.transfer,
      act: () => app.toggle("transfer"),
      expanded: app.panel === "transfer",
    },
  ];
  if (app.calls.length < 2)
    all.push({
      id: "add-call",
      icon: "add",
      text: t.call.add,
      act: () => app.toggle("dialler"),
      expanded: app.panel === "dialler",
    });
  return (
    <>
      {call.state === "connected" &&
        all.map((action) => <ActionButton key={action.id} {...action} />)}
      {other && call.state !== "incoming" && (
        <ActionButton id="join" icon="join" text={t.call.join} act={() => void app.join()} />
      )}
    </>
  );
}

function Transfer({ app }: { app: App }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  return (
    <form
      id="transfer"
      onSubmit={(event) => {
        event.preventDefault();
        void app.transfer(input.current?.value ?? "");
      }}
    >
      <label for="transfer-to">{t.transfer.to}</label>
      <input
        id="transfer-to"
        ref={input}
        inputMode="tel"
        autocomplete="off"
        spellcheck={false}
        list="people-too"
        required
      />
      <datalist id="people-too">
        {app.contacts.map((contact) => (
          <option key={contact.number} value={contact.number}>
            {contact.name}
          </option>
        ))}
      </datalist>
      <button type="submit" class="primary">
        {t.transfer.submit}
      </button>
      <p class="soft">{t.transfer.ask}</p>
    </form>
  );
}

/** The call that is heard, or the only one that rings. */
export function ActiveCall({ app, call }: { app: App; call: Call }) {
  const [title, number] = who(app, call);
  const incoming = call.state === "incoming";
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const typing = document.activeElement?.matches("input, select, textarea") && incoming;
    if (!typing) first.current?.focus({ preventScroll: true });
  }, [incoming]);
  return (
    <section id="call" aria-labelledby="peer" data-state={call.state} data-muted={call.muted}>
      <div class="party">
        <Avatar name={title} />
        <div>
          <h2 id="peer">{title}</h2>
          {number && <p class="soft">{number}</p>}
          <p id="state" role="status" aria-live="polite">
            {stateText(call, app.phone?.blocked)}
          </p>
        </div>
        {call.connectedAt && <Clock call={call} />}
      </div>
      {call.muted && (
        <p id="muted-note" role="status">
          <Icon name="muted" /> {t.call.mutedNote}
        </p>
      )}
      {call.state === "connected" && (
        <>
          <QualityMark quality={call.quality} />
          <Levels call={call} />
        </>
      )}
      {call.digits && (
        <output id="digits" aria-label={t.call.digits}>
          {call.digits}
        </output>
      )}
      {call.state !== "incoming" && (
        <div class="actions">
          <Actions app={app} call={call} />
        </div>
      )}
      {app.panel === "keypad" && call.state === "connected" && (
        <Pad press={(key) => app.press(key)} plus={false} />
      )}
      {app.panel === "transfer" && call.state === "connected" && <Transfer app={app} />}
      <div class="ends">
        {incoming && (
          <button
            id="answer"
            ref={first}
            type="button"
            class="primary"
            onClick={() => app.answer(call)}
          >
            <Icon name="phone" />
            {t.call.answer}
          </button>
        )}
        <button
          id="hangup"
          ref={incoming ? undefined : first}
          type="button"
          class="danger"
          title="Esc"
          onClick={() => call.hangUp()}
        >
          <Icon name="phone" />
          {incoming ? t.call.decline : call.state === "connected" ? t.call.hangUp : t.call.cancel}
        </button>
      </div>
    </section>
  );
}

/** The other line: a call on hold, or one that knocks. */
export function OtherCall({ app, call }: { app: App; call: Call }) {
  const [title, number] = who(app, call);
  const incoming = call.state === "incoming";
  return (
    <section class="other" aria-label={t.call.otherLine(title)} data-state={call.state}>
      <Avatar name={title} />
      <div>
        <b>{title}</b>
        {number && <span class="soft"> {number}</span>}
        <p class="soft">{stateText(call)}</p>
      </div>
      {incoming ? (
        <button type="button" class="primary" onClick={() => app.answer(call)}>
          <Icon name="phone" />
          {t.call.holdAndAnswer}
        </button>
      ) : (
        <button type="button" class="switch" onClick={() => app.phone?.activate(call)}>
          <Icon name="play" />
          {t.call.switch}
        </button>
      )}
      <button
        type="button"
        class="danger"
        aria-label={`${incoming ? t.call.decline : t.call.hangUp} ${title}`}
        onClick={() => call.hangUp()}
      >
        <Icon name="phone" />
      </button>
    </section>
  );
}
