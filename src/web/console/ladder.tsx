// A call's messages as a picture: a lane a party, time downwards, what happened between them.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Ladder as Drawn, Row, Rule } from "./api";
import { explained } from "./headers";
import { t } from "./texts";
import { isFault } from "./tone";

const HEIGHT = 34;
/** Of a line of a note, and what a character of it takes at most, on average. */
const NOTE_LINE = 15;
const NOTE_CHARACTER = 6.4;
/** How wide notes are at least. */
const NOTE_ROOM = 200;
const HEAD = 40;
const GUTTER = 76;
/** Where a telephone is looked at: the lanes are closer, so that more of them are in sight. */
const NARROW = 480;

type Message = Extract<Row, { kind: "message" }>;
interface Line {
  row: Exclude<Row, { kind: "route" }>;
  /** Its place among the rows of the API. */
  at: number;
  /** How often it was sent again. */
  again: number;
}

/** What is drawn: messages and events, retransmissions counted with their first. */
function lines(rows: Row[], repeats: boolean): Line[] {
  const drawn: Line[] = [];
  rows.forEach((row, at) => {
    if (row.kind === "route") return;
    if (row.kind === "message" && row.repeated && !repeats) {
      const first = drawn.findLast((l) => l.row.kind === "message" && l.row.text === row.text);
      if (first) {
        first.again += 1;
        return;
      }
    }
    drawn.push({ row, at, again: 0 });
  });
  return drawn;
}

/** A challenge, busy, declined, and the answer to a CANCEL. */
const NO_FAILURES = [401, 407, 486, 487, 600, 603];
/** How a call ends that nobody answers; elsewhere it is a failure. */
const UNANSWERED = [408, 480];

/** Whether a response says that something failed; `calm`: the call ended as calls do every day. */
function isFailure(row: Message, calm: boolean) {
  const status = Number(/^(\d{3}) /.exec(row.summary)?.[1]);
  return status >= 400 && ![...NO_FAILURES, ...(calm ? UNANSWERED : [])].includes(status);
}

const words = (row: Message, lanes: string[]) =>
  (row.sent ? t.call.sentTo : t.call.receivedFrom)(lanes[row.lane], row.summary);

/** The browser's lane is left of the gateway, the others are right of it. */
function places(lanes: number, width: number) {
  const narrow = width < NARROW;
  const columns = narrow ? lanes : Math.max(2, lanes);
  const [gutter, edge, least] = narrow ? [52, 44, 128] : [GUTTER, 56, 180];
  const first = gutter + edge;
  const step = Math.max(least, Math.min(360, (width - first - 72) / columns));
  const of = (lane: number) => first + (lane === 0 ? 0 : lane + 1) * step;
  const gateway = first + step;
  const most = Math.max(of(columns - 1) + edge + 16, gateway + 20 + NOTE_ROOM);
  return { of, gutter, gateway, width: Math.max(width, most) };
}

/** How high each line stands: what happened may need more lines than one. */
function heights(all: Line[], room: number) {
  return all.map(({ row }) => {
    if (row.kind !== "event") return HEIGHT;
    const lines = Math.ceil((row.text.length * NOTE_CHARACTER) / room);
    return Math.max(HEIGHT, lines * NOTE_LINE + 12);
  });
}

function delta(line: Line, before: Line | undefined) {
  const since = line.row.at_s - (before?.row.at_s ?? 0);
  if (!before) return "0";
  if (since < 0.0005) return "";
  return since < 1 ? `+${Math.round(since * 1000)} ms` : `+${since.toFixed(since < 10 ? 2 : 1)} s`;
}

function useWidth() {
  const frame = useRef<HTMLElement>(null);
  const [width, set] = useState(720);
  useEffect(() => {
    if (!frame.current) return;
    const watch = new ResizeObserver(([entry]) => set(entry.contentRect.width));
    watch.observe(frame.current);
    return () => watch.disconnect();
  }, []);
  return { frame, width };
}

function Arrow({
  line,
  y,
  from,
  to,
  picked,
  failed,
  press,
  label,
}: {
  line: Line;
  y: number;
  from: number;
  to: number;
  picked: boolean;
  failed: boolean;
  press?: () => void;
  label: string;
}) {
  const row = line.row as Message;
  const way = to > from ? -1 : 1;
  const middle = (from + to) / 2;
  const room = Math.floor((Math.abs(to - from) - 24) / 6.6);
  const again = line.again ? ` ×${line.again + 1}` : "";
  const text = row.summary + again;
  // Where there is no room, what is in brackets is left to the title, and then the last words.
  const short = text.length > room ? text.replace(/ \(.*?\)/, "") : text;
  const shown = short.length > room ? short.slice(0, room + 1).replace(/\s+\S*$/, "") : short;
  const keys = (e: KeyboardEvent) => {
    if (e.key !== "Enter" && e.key !== " ") return;
    e.preventDefault();
    press?.();
  };
  const role = press ? ({ role: "button", tabindex: 0, "aria-pressed": picked } as const) : {};
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it has the role of a button where it acts.
    <g
      class={`message lane-${row.lane % 4} ${failed ? "failure" : ""}`}
      data-row={line.at}
      aria-label={label}
      onClick={press}
      onKeyDown={keys}
      {...role}
    >
      <rect
        class="hit"
        x={Math.min(from, to)}
        y={y - 22}
        width={Math.abs(to - from)}
        height={HEIGHT - 4}
        rx="4"
      />
      <title>{text}</title>
      <line x1={from} y1={y} x2={to + way * 2} y2={y} />
      <path d={`M${to} ${y}l${way * 8} -4.5v9z`} />
      <text x={middle} y={y - 6} text-anchor="middle">
        {shown}
      </text>
    </g>
  );
}

export function LadderPicture({
  drawn,
  picked,
  press,
  repeats = false,
  calm = false,
}: {
  drawn: Drawn;
  picked?: number[];
  press?: (at: number) => void;
  repeats?: boolean;
  /** Busy, declined, given up: nothing in it is drawn as a failure. */
  calm?: boolean;
}) {
  const { frame, width } = useWidth();
  const all = lines(drawn.rows, repeats);
  const place = places(drawn.lanes.length, width);
  const room = place.width - place.gateway - 20;
  const high = heights(all, room);
  const tops = high.map((_, n) => high.slice(0, n).reduce((sum, h) => sum + h, HEAD));
  const height = high.reduce((sum, h) => sum + h, HEAD + 12);
  const lanes = drawn.lanes.map((name, n) => ({ name, x: place.of(n), kind: `lane-${n % 4}` }));
  return (
    <section class="ladder" ref={frame} aria-label={t.call.ladder} tabIndex={0}>
      <svg width={place.width} height={height}>
        <title>{t.call.ladder}</title>
        {[...lanes, { name: "webtrunk", x: place.gateway, kind: "gateway" }].map((lane) => (
          <g key={lane.x} class={`lane ${lane.kind}`}>
            <line x1={lane.x} x2={lane.x} y1={HEAD - 8} y2={height} />
            <text x={lane.x} y={20} text-anchor="middle">
              {lane.name.length > 26 ? `${lane.name.slice(0, 25)}…` : lane.name}
            </text>
          </g>
        ))}
        {all.map((line, n) => {
          const y = tops[n] + 24;
          const time = (
            <text class="time" x={place.gutter - 12} y={y} text-anchor="end">
              {delta(line, all[n - 1])}
            </text>
          );
          if (line.row.kind === "event") {
            return (
              <g key={line.at} class={`event ${isFault(line.row.code) ? "marked" : ""}`}>
                {time}
                <circle cx={place.gateway} cy={y - 4} r="4" />
                <foreignObject x={place.gateway + 12} y={y - 20} width={room} height={high[n] - 4}>
                  <p class="note" lang="en" title={line.row.text}>
                    {line.row.text}
                  </p>
                </foreignObject>
              </g>
            );
          }
          const row = line.row;
          const ends = [place.gateway, place.of(row.lane)];
          const [from, to] = row.sent ? ends : ends.reverse();
          return (
            <g key={line.at}>
              {time}
              <Arrow
                line={line}
                y={y}
                from={from}
                to={to}
                picked={picked?.includes(line.at) ?? false}
                failed={isFailure(row, calm)}
                press={press && (() => press(line.at))}
                label={words(row, drawn.lanes)}
              />
            </g>
          );
        })}
      </svg>
    </section>
  );
}

/** Where a line of a description comes from, and by what rule. */
const RuleNote = ({ rule }: { rule: Rule }) => (
  <span class="rule" lang="en">
    {" ← "}
    {rule.from && rule.line ? `${rule.from}: ` : ""}
    {rule.why}
  </span>
);

const Note = ({ text }: { text: string }) => (
  <span class="rule">
    {" ← "}
    {text}
  </span>
);

/**
 * A message: beside each header what it is for, if that is wanted, and beside each line of a
 * description we made the rule it was made by.
 */
function MessageText({ row, explain }: { row: Message; explain: boolean }) {
  const rules = [...(row.rules ?? [])];
  const all = row.text.split("\n");
  const headers = all.findIndex((line) => !line.trim());
  const texts = all.map((text, n) => {
    const at = rules.findIndex((r) => r.line === text);
    const rule = at < 0 ? null : rules.splice(at, 1)[0];
    const isHeader = n > 0 && (headers < 0 || n < headers);
    return { text, rule, note: explain && isHeader ? explained(text) : null };
  });
  const gone = rules.filter((r) => !r.line);
  return (
    <pre class="message-text" tabIndex={0}>
      {texts.map(({ text, rule, note }, n) => (
        <span key={n}>
          {text}
          {note && <Note text={note} />}
          {rule && <RuleNote rule={rule} />}
          {"\n"}
        </span>
      ))}
      {gone.map((rule) => (
        <span key={rule.from} class="rule">
          {t.call.leftOut}: {rule.from}: <span lang="en">{rule.why}</span>
          {"\n"}
        </span>
      ))}
    </pre>
  );
}

/**
 * What two messages do not have in common; beside it the rule by which the second was made, or what
 * the header is for.
 */
function Difference({ before, after }: { before: Message; after: Message }) {
  const [a, b] = [before.text.split("\n"), after.text.split("\n")];
  const gone = a.filter((l) => !b.includes(l));
  const come = b.filter((l) => !a.includes(l));
  if (!gone.length && !come.length) return <p class="soft">{t.call.same}</p>;
  const rules = [...(after.rules ?? []), ...(before.rules ?? [])];
  const made = (line: string) => rules.find((r) => r.line === line);
  const left = (line: string) => rules.find((r) => !r.line && r.from === line) ?? made(line);
  const shown = (line: string, rule: Rule | undefined) => {
    const note = rule ? null : explained(line);
    return (
      <>
        {line}
        {rule && <RuleNote rule={rule} />}
        {note && <Note text={note} />}
        {"\n"}
      </>
    );
  };
  return (
    <pre class="message-text" tabIndex={0}>
      {gone.map((l, n) => (
        <del key={n}>
          {"- "}
          {shown(l, left(l))}
        </del>
      ))}
      {come.map((l, n) => (
        <ins key={n}>
          {"+ "}
          {shown(l, made(l))}
        </ins>
      ))}
    </pre>
  );
}

function Check({ text, on, set }: { text: string; on: boolean; set: (on: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={on} onChange={(e) => set(e.currentTarget.checked)} />
      {text}
    </label>
  );
}

export function LadderView({ drawn, calm }: { drawn: Drawn; calm: boolean }) {
  const [picked, set] = useState<number[]>([]);
  const [repeats, setRepeats] = useState(false);
  const [explain, setExplain] = useState(true);
  const press = (at: number) =>
    set(picked.includes(at) ? picked.filter((n) => n !== at) : [...picked.slice(-1), at]);
  const [first, second] = picked.map((n) => drawn.rows[n] as Message);
  const routes = drawn.rows.filter((r) => r.kind === "route");
  return (
    <>
      {drawn.rows.some((r) => r.kind === "message" && r.repeated) && (
        <Check text={t.call.showRepeats} on={repeats} set={setRepeats} />
      )}
      <LadderPicture drawn={drawn} picked={picked} press={press} repeats={repeats} calm={calm} />
      <div aria-live="polite">
        {!first && <p class="soft">{t.call.choose}</p>}
        {first && !second && (
          <>
            <Check text={t.call.explain} on={explain} set={setExplain} />
            <MessageText row={first} explain={explain} />
          </>
        )}
        {first && second && <Difference before={first} after={second} />}
      </div>
      {routes.length > 0 && (
        <details>
          <summary>
            {t.call.routes}: {routes.length}
          </summary>
          <ul class="considered" lang="en">
            {routes.map((r, n) => (
              <li key={n} class={r.why_not ? "" : "hit"}>
                {r.why_not ? "✗" : "✓"} <b>{r.route}</b> <code>{r.pattern}</code> {r.why_not}
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}
