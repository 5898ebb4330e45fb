// The nodes of a cluster: how each is, and whose calls, users and trunks are shown.

import { useEffect } from "preact/hooks";
import { get, type Node, ofNode, send } from "./api";
import { Chip, Deed, Head, sure, Table, Wait } from "./parts";
import { link, tell, tick, useLoaded } from "./store";
import { t } from "./texts";

/** The state of nodes is polled; there is no event for it. */
const LOOK_MS = 2000;

/** Chooses whose entries a list shows; nothing to choose where the gateway is alone. */
export function NodePick({
  view,
  query,
  nodes,
}: {
  view: string;
  query: URLSearchParams;
  nodes: Node[];
}) {
  if (nodes.length < 2) return null;
  const choose = (node: string) => {
    const next = new URLSearchParams(query);
    if (node === "all") next.delete("node");
    else next.set("node", node);
    location.hash = link(view, null, next);
  };
  return (
    <select
      name="node"
      aria-label={t.nodes.node}
      value={query.get("node") ?? "all"}
      onChange={(e) => choose(e.currentTarget.value)}
    >
      <option value="all">{t.nodes.all}</option>
      {nodes.map((n) => (
        <option key={n.node} value={n.node}>
          {n.node}
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
  nodes.length < 2 ? [] : [{ name: t.nodes.node, show: (row: T) => row.node ?? t.none }];

async function drain(node: Node) {
  const { sureDrain, drainDetail, drain } = t.nodes;
  if (!node.draining && !(await sure(sureDrain(node.node), drainDetail, drain))) return;
  await send(ofNode("/drain", node.node), node.draining ? "DELETE" : "POST");
  tell(node.draining ? t.nodes.takes(node.node) : t.nodes.drains(node.node));
}

function State({ node }: { node: Node }) {
  const tone = node.draining ? "wait" : node.state === "joined" ? "good" : "bad";
  const text = node.draining ? t.nodes.draining : (t.nodes.states[node.state] ?? node.state);
  return (
    <span class="fate">
      <Chip tone={tone}>{text}</Chip>
      {node.config_differs && <Chip tone="bad">{t.nodes.otherConfig}</Chip>}
    </span>
  );
}

export function Nodes() {
  const { value, error } = useLoaded(() => get<Node[]>("/nodes"), []);
  useEffect(() => {
    const timer = setInterval(tick, LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      <Head title={t.nodes.title} />
      <section class="panel flush">
        {value ? (
          <Table
            caption={t.nodes.list}
            rows={value}
            id={(n) => n.node}
            empty={t.nodes.none}
            columns={[
              {
                name: t.nodes.node,
                show: (n) => (
                  <span class="party">
                    <b>{n.node}</b>
                    {n.this && <small>{t.nodes.here}</small>}
                  </span>
                ),
              },
              { name: t.nodes.state, show: (n) => <State node={n} /> },
              {
                name: t.nodes.lease,
                kind: "num right",
                show: (n) => (n.lease_s == null ? t.none : `${n.lease_s.toFixed(1)} s`),
              },
              {
                name: t.nodes.calls,
                kind: "num right",
                show: (n) => (
                  <a href={link("calls", null, new URLSearchParams({ node: n.node }))}>{n.calls}</a>
                ),
              },
              { name: t.nodes.left, kind: "num right", show: (n) => n.calls_left },
              {
                name: t.nodes.registrations,
                kind: "num right",
                show: (n) => (
                  <a href={link("users", null, new URLSearchParams({ node: n.node }))}>
                    {n.registrations}
                  </a>
                ),
              },
              { name: t.nodes.version, show: (n) => n.version },
              { name: t.nodes.address, show: (n) => <code>{n.address}</code> },
              { name: t.nodes.took, show: (n) => n.took.join(", ") || t.none },
              {
                name: "",
                kind: "right",
                show: (n) => (
                  <Deed needs="admin" act={() => drain(n)}>
                    {n.draining ? t.nodes.takeAgain : t.nodes.drain}
                  </Deed>
                ),
              },
            ]}
          />
        ) : (
          <Wait error={error} />
        )}
      </section>
    </>
  );
}
