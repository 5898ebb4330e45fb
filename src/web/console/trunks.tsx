// Trunks: their health, and how calls through them fare.

import { get, ofNode, ofNodes, send, type Trunk } from "./api";
import { Mos, RecentCalls } from "./calls";
import { Card, Chip, clock, Deed, Facts, Head, Search, sure, Table, Wait, When } from "./parts";
import { NodePick, nodeColumn, Silent } from "./nodes";
import { holds, link, tell, useLoaded, useSearch } from "./store";
import { t } from "./texts";

const path = (name: string) => `/trunks/${encodeURIComponent(name)}`;
const share = (of?: number | null) => (of == null ? t.none : `${Math.round(100 * of)} %`);
const ms = (of?: number | null) => (of == null ? t.none : `${of} ms`);

/** Busy, given up, declined: nothing is wrong with a trunk that says so. */
const EVERY_DAY = [486, 487, 600, 603];

function failedCall({ last_call_failure: call }: Trunk) {
  if (!call || EVERY_DAY.includes(call.sip_code)) return null;
  return t.trunks.failed(call.sip_code, clock(call.ago_s));
}

const trouble = (trunk: Trunk) => trunk.why_not ?? trunk.last_failure ?? failedCall(trunk);

/** What went wrong: of the trunk itself in the gateway's words. */
function Trouble({ trunk }: { trunk: Trunk }) {
  const ours = !(trunk.why_not ?? trunk.last_failure);
  return <span lang={ours ? undefined : "en"}>{trouble(trunk) ?? t.none}</span>;
}

const named = (state: string) => t.trunks.states[state] ?? state;

function tone(trunk: Trunk) {
  if (trunk.state === "disabled" || trunk.state === "unknown") return "calm";
  return trunk.usable ? "good" : "bad";
}

async function probe({ trunk: name, node }: Trunk) {
  const said = await send<{ answered: boolean; options_ms: number }>(
    ofNode(`${path(name)}/probe`, node),
    "POST",
  );
  if (said.answered) tell(t.trunks.answered(name, said.options_ms));
  else tell(t.trunks.silent(name), true);
}

async function turn(trunk: Trunk) {
  const off = trunk.state !== "disabled";
  const { sureDisable, disableDetail, disable } = t.trunks;
  if (off && !(await sure(sureDisable(trunk.trunk), disableDetail, disable))) return;
  const verb = off ? "disable" : "enable";
  const now = await send<Trunk>(ofNode(`${path(trunk.trunk)}/${verb}`, trunk.node), "POST");
  tell(t.trunks.is(trunk.trunk, named(now.state)));
}

function Deeds({ trunk }: { trunk: Trunk }) {
  return (
    <span class="buttons">
      <Deed needs="admin" act={() => probe(trunk)}>
        {t.trunks.probe}
      </Deed>
      <Deed needs="admin" act={() => turn(trunk)}>
        {trunk.state === "disabled" ? t.trunks.enable : t.trunks.disable}
      </Deed>
    </span>
  );
}

const linked = (x: Trunk) =>
  link("trunks", x.trunk, x.node ? new URLSearchParams({ node: x.node }) : undefined);

export function Trunks({ query }: { query: URLSearchParams }) {
  const [find, set] = useSearch();
  const node = query.get("node");
  const wanted = (x: Trunk) => holds(find, x.trunk, x.uri, x.context, named(x.state), trouble(x));
  const load = () => ofNodes<Trunk>("/trunks", new URLSearchParams(), Infinity, node);
  const { value, error } = useLoaded(load, [node]);
  return (
    <>
      <Head title={t.trunks.title} />
      <search class="filters">
        <Search hint={t.trunks.find} value={find} onFind={set} />
        <NodePick nodes={value?.nodes} />
      </search>
      <Silent nodes={value?.silent ?? []} />
      <section class="panel flush">
        {value ? (
          <Table
            caption={t.trunks.list}
            rows={value.items.filter(wanted)}
            id={(x) => `${x.node} ${x.trunk}`}
            to={linked}
            empty={value.items.length ? t.trunks.noneFits : t.trunks.none}
            columns={[
              {
                name: t.trunks.trunk,
                show: (x) => (
                  <a class="row-link" href={linked(x)}>
                    {x.trunk}
                  </a>
                ),
              },
              ...nodeColumn<Trunk>(value.nodes),
              { name: t.trunks.state, show: (x) => <Chip tone={tone(x)}>{named(x.state)}</Chip> },
              { name: t.trunks.answer, kind: "num right", show: (x) => ms(x.options_ms) },
              {
                name: t.trunks.calls,
                kind: "num right",
                show: (x) => `${x.calls} / ${x.max_calls ?? "∞"}`,
              },
              { name: t.trunks.asr, kind: "num right", show: (x) => share(x.asr) },
              { name: t.trunks.ner, kind: "num right", show: (x) => share(x.ner) },
              { name: "MOS", kind: "num right", show: (x) => <Mos value={x.mos_estimated} /> },
              { name: t.trunks.trouble, kind: "wide", show: (x) => <Trouble trunk={x} /> },
              { name: "", kind: "right", show: (x) => <Deeds trunk={x} /> },
            ]}
          />
        ) : (
          <Wait error={error} />
        )}
      </section>
    </>
  );
}

export function TrunkView({ name, node }: { name: string; node: string | null }) {
  const { value, error } = useLoaded(() => get<Trunk>(ofNode(path(name), node)), [name, node]);
  if (!value) return <Wait error={error} />;
  const trunk = node ? { ...value, node } : value;
  return (
    <>
      <Head back={link("trunks")} title={name} side={<Deeds trunk={trunk} />} />
      <p class="subtitle">
        <Chip tone={tone(trunk)}>{named(trunk.state)}</Chip>
        {trunk.code && <Chip tone="bad">{trunk.code}</Chip>}
        {trouble(trunk) && <Trouble trunk={trunk} />}
      </p>
      <Card>
        <Facts
          rows={[
            [t.trunks.where, trunk.uri ?? trunk.registered_from],
            [t.trunks.since, trunk.since_s == null ? null : clock(trunk.since_s)],
            [t.trunks.context, trunk.context],
            [t.trunks.calls, `${trunk.calls} / ${trunk.max_calls ?? "∞"}`],
            [t.trunks.answer, ms(trunk.options_ms)],
            [t.trunks.asr, share(trunk.asr)],
            [t.trunks.ner, share(trunk.ner)],
            [
              t.trunks.pdd,
              trunk.pdd_ms_p50 && `${trunk.pdd_ms_p50} ms (p95 ${trunk.pdd_ms_p95} ms)`,
            ],
            ["MOS", <Mos key="mos" value={trunk.mos_estimated} />],
          ]}
        />
      </Card>
      <Card title={t.trunks.history} id="trunk-history">
        <Table
          caption={t.trunks.history}
          rows={trunk.history}
          id={(c) => `${c.at} ${c.state}`}
          empty={t.trunks.noHistory}
          columns={[
            { name: t.trunks.at, kind: "num", show: (c) => <When at={c.at} /> },
            {
              name: t.trunks.state,
              show: (c) => (
                <Chip tone={c.state === "down" ? "bad" : c.state === "disabled" ? "calm" : "good"}>
                  {named(c.state)}
                </Chip>
              ),
            },
            {
              name: t.trunks.why,
              kind: "wide",
              show: (c) => <span lang="en">{c.why ?? t.none}</span>,
            },
          ]}
        />
      </Card>
      <Card title={t.trunks.recent}>
        <RecentCalls of={{ trunk: name }} empty={t.calls.noneFits} />
      </Card>
    </>
  );
}
