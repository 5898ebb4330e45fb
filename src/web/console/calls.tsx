// The list of calls: found by the gateway, a line a call.

import { useRef, useState } from "preact/hooks";
import { type CallLine, get, type Node, ofNodes, type Trunk } from "./api";
import { NodePick, nodeColumn, Silent } from "./nodes";
import { Button, Chip, clock, Head, Icon, Search, Table, Wait, When } from "./parts";
import { link, tick, useLoaded } from "./store";
import { sought } from "./sought";
import { t } from "./texts";
import { isDeclined, tone } from "./tone";

const PAGE = 100;
/** Calls below something else. */
const RECENT = 20;

/** Who calls: a user, or anybody else by number; with the name and the number that came along. */
export function Caller({ call }: { call: CallLine }) {
  const known = call.from.startsWith("trunk:") && call.from_number ? call.from_number : call.from;
  const name = call.from_name && call.from_name !== known ? call.from_name : null;
  const number = call.from_number !== known ? call.from_number : null;
  const besides = [name && known, number].filter(Boolean).join(" · ");
  return (
    <span class="party">
      <b>{name ?? known}</b>
      {besides && <small>{besides}</small>}
    </span>
  );
}

export function Mos({ value }: { value: number | null }) {
  if (value === null || value === undefined) return <span class="soft">{t.none}</span>;
  const tone = value >= 3.6 ? "good" : value >= 3.1 ? "wait" : "bad";
  return <span class={`mos ${tone}`}>{value.toFixed(1)}</span>;
}

/** A word for how a call is, or how it ended. */
export function fateOf({ state, outcome, code }: Pick<CallLine, "state" | "outcome" | "code">) {
  if (state !== "ended") return t.calls.states[state] ?? state;
  if (isDeclined(code)) return t.calls.outcomes.declined;
  return t.calls.outcomes[outcome ?? ""] ?? outcome;
}

function Fate({ call }: { call: CallLine }) {
  const kind = tone(call);
  if (kind === "live") return <Chip tone="live">{fateOf(call)}</Chip>;
  return (
    <span class="fate">
      {call.code && <Chip tone={kind}>{call.code}</Chip>}
      <span class="sentence" lang="en">
        {call.verdict}
      </span>
    </span>
  );
}

const linked = (c: CallLine) =>
  link("calls", c.call, c.node ? new URLSearchParams({ node: c.node }) : undefined);

export function CallTable({
  calls,
  nodes,
  empty,
}: {
  calls: CallLine[];
  nodes: Node[];
  empty: string;
}) {
  return (
    <Table
      caption={t.calls.list}
      kind="cards"
      rows={calls}
      id={(c) => `${c.node} ${c.call}`}
      to={linked}
      empty={empty}
      columns={[
        {
          name: t.calls.start,
          kind: "num",
          show: (c) => (
            <a class="row-link" data-call={c.call} href={linked(c)}>
              <span class={`dot ${tone(c)}`} />
              <When at={c.start} />
            </a>
          ),
        },
        {
          name: t.calls.caller,
          kind: "who",
          show: (c) => (
            <span class="way">
              <Icon name={c.direction === "inbound" ? "in" : "out"} />
              <Caller call={c} />
            </span>
          ),
        },
        ...nodeColumn<CallLine>(nodes),
        { name: t.calls.callee, kind: "whom", show: (c) => <b class="number">{c.to}</b> },
        {
          name: t.calls.duration,
          kind: "num right took",
          show: (c) => (c.talked_s == null ? t.none : clock(c.talked_s)),
        },
        {
          name: t.calls.quality,
          kind: "num right heard",
          show: (c) => <Mos value={c.mos_estimated} />,
        },
        { name: t.calls.what, kind: "wide", show: (c) => <Fate call={c} /> },
      ]}
    />
  );
}

/**
 * The calls as they come; while somebody points at them each stays where it is, so that a click hits
 * the call it is meant for.
 */
function Steady(props: { calls: CallLine[]; nodes: Node[]; empty: string }) {
  const [pointed, point] = useState(false);
  const shown = useRef<CallLine[]>([]);
  const { calls } = props;
  const name = (c: CallLine) => `${c.node} ${c.call}`;
  const now = new Map(calls.map((c) => [name(c), c]));
  const held = pointed && shown.current.length > 0;
  const rows = held ? shown.current.map((c) => now.get(name(c)) ?? c) : calls;
  const there = new Set(rows.map(name));
  const fresh = held ? calls.filter((c) => !there.has(name(c))).length : 0;
  shown.current = rows;
  const come = () => {
    shown.current = calls;
    tick();
  };
  return (
    <div class="steady" onPointerEnter={() => point(true)} onPointerLeave={() => point(false)}>
      {fresh > 0 && (
        <Button id="calls-new" kind="go" onClick={come}>
          {t.calls.come(fresh)}
        </Button>
      )}
      <CallTable {...props} calls={rows} />
    </div>
  );
}

const OUTCOMES = ["success", "busy", "no_answer", "cancelled", "refused", "server_error"];

/** What an address may ask for that has no field here; it is named, and can be taken away. */
const WITHOUT_A_FIELD = ["code", "user", "number", "name", "until"];

function Filters({ query, nodes }: { query: URLSearchParams; nodes?: Node[] }) {
  const { value: trunks = [] } = useLoaded(() => get<Trunk[]>("/trunks"), [], false);
  const change = (name: string, value: string) => {
    const next = new URLSearchParams(query);
    if (value.trim()) next.set(name, value.trim());
    else next.delete(name);
    history.replaceState(null, "", link("calls", null, next));
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const pick = (name: string, label: string, options: [string, string][]) => (
    <select
      name={name}
      aria-label={label}
      value={query.get(name) ?? ""}
      onChange={(e) => change(name, e.currentTarget.value)}
    >
      {options.map(([value, text]) => (
        <option key={value} value={value}>
          {text}
        </option>
      ))}
    </select>
  );
  return (
    <search class="filters" id="calls-filter">
      <Search
        name="search"
        hint={t.calls.find}
        value={query.get("search") ?? ""}
        onFind={(value) => change("search", value)}
      />
      {pick("since", t.calls.since, [
        ["", t.calls.anyTime],
        ["1h", t.calls.hour],
        ["24h", t.calls.day],
        ["7d", t.calls.week],
      ])}
      {pick("state", t.calls.state, [
        ["", t.calls.allStates],
        ["live", t.calls.active],
        ["ended", t.calls.ended],
      ])}
      {pick("outcome", t.calls.outcome, [
        ["", t.calls.anyOutcome],
        ...OUTCOMES.map((o): [string, string] => [o, t.calls.outcomes[o]]),
      ])}
      {pick("mos_below", t.calls.worst, [
        ["", t.calls.anyQuality],
        ["3.6", t.calls.below("3.6")],
        ["3.1", t.calls.below("3.1")],
      ])}
      {trunks.length > 0 &&
        pick("trunk", t.calls.trunk, [
          ["", t.calls.anyTrunk],
          ...trunks.map((x): [string, string] => [x.trunk, x.trunk]),
        ])}
      <NodePick nodes={nodes} />
      {WITHOUT_A_FIELD.filter((name) => query.has(name)).map((name) => (
        <Button key={name} icon="close" onClick={() => change(name, "")}>
          {t.calls.only[name]}: {query.get(name)}
        </Button>
      ))}
    </search>
  );
}

const KNOWN = ["search", "since", "state", "outcome", "trunk", "mos_below", ...WITHOUT_A_FIELD];

/** The newest of all nodes' first. */
const newest = (calls: CallLine[], most: number) =>
  [...calls].sort((a, b) => Date.parse(b.start) - Date.parse(a.start)).slice(0, most);

const moment = (at: Date) =>
  at.toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export function Calls({ query }: { query: URLSearchParams }) {
  const [most, setMost] = useState(PAGE);
  const asked = new URLSearchParams({ limit: String(PAGE) });
  for (const name of KNOWN) {
    const value = query.get(name);
    if (value) asked.set(name, value);
  }
  const meant = sought(query.get("search") ?? "");
  if (meant.text) asked.set("search", meant.text);
  else asked.delete("search");
  if (meant.between) {
    asked.set("since", meant.between[0].toISOString());
    asked.set("until", meant.between[1].toISOString());
  }
  const node = query.get("node");
  const about = `${asked} ${node}`;
  const before = useRef(about);
  if (before.current !== about) {
    before.current = about;
    if (most !== PAGE) setMost(PAGE);
  }
  const { value, error } = useLoaded(
    () => ofNodes<CallLine>("/calls", asked, most, node),
    [about, most],
  );
  // What was found before stays until what is sought is found.
  const last = useRef({ found: value, about: "" });
  if (value) last.current = { found: value, about: `${about} ${most}` };
  const { found: shown } = last.current;
  // A gateway that is away says nothing of what was asked for.
  const refused = error && "status" in error;
  return (
    <>
      <Head title={t.calls.title} />
      <Filters query={query} nodes={shown?.nodes} />
      {meant.between && (
        <p class="soft" id="calls-between" role="status">
          {t.calls.between(...(meant.between.map(moment) as [string, string]))}
        </p>
      )}
      <Silent nodes={shown?.silent ?? []} />
      <section class="panel flush" id="calls-list">
        {shown && !refused ? (
          <Steady
            key={last.current.about}
            calls={newest(shown.items, most)}
            nodes={shown.nodes}
            empty={asked.size > 1 ? t.calls.noneFits : t.calls.noneYet}
          />
        ) : (
          <Wait error={error} />
        )}
      </section>
      {shown?.more && (
        <Button id="calls-more" onClick={() => setMost(most + PAGE)}>
          {t.more}
        </Button>
      )}
    </>
  );
}

/** The newest calls of a user, through a trunk, or of a node. */
export function RecentCalls({
  of,
  node = null,
  empty,
}: {
  of: Record<string, string>;
  node?: string | null;
  empty: string;
}) {
  const query = new URLSearchParams({ ...of, limit: String(RECENT) });
  const load = () => ofNodes<CallLine>("/calls", query, RECENT, node);
  const { value, error } = useLoaded(load, [of, node]);
  if (!value) return <Wait error={error} />;
  return <CallTable calls={newest(value.items, RECENT)} nodes={value.nodes} empty={empty} />;
}
