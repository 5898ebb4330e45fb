// The nodes of a cluster: how each is, and whose calls, users and trunks are shown.

import { useEffect } from "preact/hooks";
import { get, type Node, ofNode, send } from "./api";
import { RecentCalls } from "./calls";
import { Card, Chip, Deed, Facts, Head, Search, sure, Table, Wait } from "./parts";
import { holds, link, place, tell, tick, useLoaded, useSearch } from "./store";
import { t } from "./texts";

/** The state of nodes is polled; there is no event for it. */
const LOOK_MS = 2000;

/**
 * Chooses whose entries a list shows, `nodes` once they are known; nothing to choose where the
 * gateway is alone. A node that is gone, and still named by the page's address, can be left.
 */
export function NodePick({ nodes }: { nodes?: Node[] }) {
  const { view, query } = place();
  const named = query.get("node");
  const names = new Set(nodes?.map((n) => n.node));
  if (named && nodes?.length !== 0) names.add(named);
  if (names.size < 2 && !(named && !nodes)) return null;
  const choose = (node: string) => {
    const next = place().query;
    if (node === "all") next.delete("node");
    else next.set("node", node);
    location.hash = link(view, null, next);
  };
  return (
    <select
      name="node"
      aria-label={t.nodes.node}
      value={named ?? "all"}
      onChange={(e) => choose(e.currentTarget.value)}
    >
      <option value="all">{t.nodes.all}</option>
      {[...names].map((name) => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
    </select>
  );
}

/** Says which nodes' entries are missing. */
export function Silent({ nodes }: { nodes: string[] }) {
  if (!nodes.length) return null;
  return (
    <p class="soft" role="status">
      {t.nodes.silent(nodes.join(", "))}
    </p>
  );
}

/** The column that says of which node an entry is. */
export const nodeColumn = <T extends { node?: string }>(nodes: Node[]) =>
  nodes.length < 2
    ? []
    : [{ name: t.nodes.node, kind: "of", show: (row: T) => row.node ?? t.none }];

async function drain(node: Node) {
  const { sureDrain, drainDetail, drain } = t.nodes;
  if (!node.draining && !(await sure(sureDrain(node.node), drainDetail, drain))) return;
  await send(ofNode("/drain", node.node), node.draining ? "DELETE" : "POST");
  tell(node.draining ? t.nodes.takes(node.node) : t.nodes.drains(node.node));
}

const stateOf = (node: Node) =>
  node.draining ? t.nodes.draining : (t.nodes.states[node.state] ?? node.state);

function State({ node }: { node: Node }) {
  const tone = node.draining ? "wait" : node.state === "joined" ? "good" : "bad";
  return (
    <span class="fate">
      <Chip tone={tone}>{stateOf(node)}</Chip>
      {node.config_differs && <Chip tone="bad">{t.nodes.otherConfig}</Chip>}
    </span>
  );
}

const Drain = ({ node }: { node: Node }) => (
  <Deed needs="admin" act={() => drain(node)}>
    {node.draining ? t.nodes.takeAgain : t.nodes.drain}
  </Deed>
);

/** A number that leads to what it counts. */
const Counted = ({ view, node, count }: { view: string; node: string; count: number }) => (
  <a href={link(view, null, new URLSearchParams({ node }))}>{count}</a>
);

const lease = (node: Node) => (node.lease_s == null ? t.none : `${node.lease_s.toFixed(1)} s`);

function useNodes() {
  useEffect(() => {
    const timer = setInterval(tick, LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  return useLoaded(() => get<Node[]>("/nodes"), []);
}

const linked = (node: Node) => link("nodes", node.node);

function NodeTable({ nodes, empty }: { nodes: Node[]; empty: string }) {
  return (
    <Table
      caption={t.nodes.list}
      rows={nodes}
      id={(n) => n.node}
      to={linked}
      empty={empty}
      columns={[
        {
          name: t.nodes.node,
          show: (n) => (
            <span class="party">
              <a class="row-link" href={linked(n)}>
                {n.node}
              </a>
              {n.this && <small>{t.nodes.here}</small>}
            </span>
          ),
        },
        { name: t.nodes.state, show: (n) => <State node={n} /> },
        { name: t.nodes.lease, kind: "num right", show: lease },
        {
          name: t.nodes.calls,
          kind: "num right",
          show: (n) => <Counted view="calls" node={n.node} count={n.calls} />,
        },
        { name: t.nodes.left, kind: "num right", show: (n) => n.calls_left },
        {
          name: t.nodes.registrations,
          kind: "num right",
          show: (n) => <Counted view="users" node={n.node} count={n.registrations} />,
        },
        { name: t.nodes.version, show: (n) => n.version },
        { name: t.nodes.address, show: (n) => <code>{n.address}</code> },
        { name: t.nodes.took, show: (n) => n.took.join(", ") || t.none },
        { name: "", kind: "right", show: (n) => <Drain node={n} /> },
      ]}
    />
  );
}

export function Nodes() {
  const [find, set] = useSearch();
  const { value, error } = useNodes();
  const wanted = (n: Node) => holds(find, n.node, n.address, n.version, stateOf(n));
  return (
    <>
      <Head title={t.nodes.title} />
      <search class="filters">
        <Search hint={t.nodes.find} value={find} onFind={set} />
      </search>
      <section class="panel flush">
        {value ? (
          <NodeTable
            nodes={value.filter(wanted)}
            empty={value.length ? t.nodes.noneFits : t.nodes.none}
          />
        ) : (
          <Wait error={error} />
        )}
      </section>
    </>
  );
}

/** One node: what it has to do, and its newest calls. */
export function NodeView({ name }: { name: string }) {
  const { value, error } = useNodes();
  if (!value) return <Wait error={error} />;
  const node = value.find((n) => n.node === name);
  if (!node) return <Wait error={new Error(t.nodes.gone(name))} />;
  const { nodes: say } = t;
  return (
    <>
      <Head back={link("nodes")} title={name} side={<Drain node={node} />} />
      <p class="subtitle">
        <State node={node} />
        {node.this && <span>{say.here}</span>}
      </p>
      <Card>
        <Facts
          rows={[
            [say.address, <code key="address">{node.address}</code>],
            [say.version, node.version],
            [say.lease, lease(node)],
            [say.calls, <Counted key="calls" view="calls" node={name} count={node.calls} />],
            [say.left, node.calls_left],
            [
              say.registrations,
              <Counted key="users" view="users" node={name} count={node.registrations} />,
            ],
            [say.took, node.took.join(", ") || t.none],
          ]}
        />
        <p>
          <a href={link("trunks", null, new URLSearchParams({ node: name }))}>{say.trunks}</a>
        </p>
      </Card>
      <Card title={say.recent}>
        <RecentCalls of={{}} node={name} empty={t.calls.noneYet} />
      </Card>
    </>
  );
}
