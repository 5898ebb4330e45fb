// Users who are registered, with their devices.

import { get, type Login, type Node, ofNode, ofNodes, type Registration, send } from "./api";
import { RecentCalls } from "./calls";
import { NodePick, nodeColumn, Silent } from "./nodes";
import { Card, Chip, Coded, clock, Deed, Head, Search, sure, Table, Wait, When } from "./parts";
import { holds, link, scope, tell, useLoaded, useSearch } from "./store";
import { t } from "./texts";

/** A user may be at several nodes: each of them gets the request. */
async function disconnect(user: string, nodes: (string | undefined)[]) {
  if (!(await sure(t.users.sure(user), t.users.detail, t.users.disconnect))) return;
  const path = `/registrations/${encodeURIComponent(user)}`;
  await Promise.all([...new Set(nodes)].map((node) => send(ofNode(path, node), "DELETE")));
  tell(t.users.done(user));
}

const Disconnect = ({ user, nodes }: { user: string; nodes: (string | undefined)[] }) => (
  <Deed needs="admin" act={() => disconnect(user, nodes)}>
    {t.users.disconnect}
  </Deed>
);

function Devices({
  rows,
  nodes,
  empty,
  whose,
}: {
  rows: Registration[];
  nodes: Node[];
  empty: string;
  whose: boolean;
}) {
  const user = {
    name: t.users.user,
    show: (r: Registration) => (
      <a class="row-link" href={link("users", r.user)}>
        {r.user}
      </a>
    ),
  };
  return (
    <Table
      caption={t.users.list}
      rows={rows}
      id={(r) => `${r.node} ${r.user} ${r.remote} ${r.instance}`}
      to={whose ? (r) => link("users", r.user) : undefined}
      empty={empty}
      columns={[
        ...(whose ? [user] : []),
        ...nodeColumn<Registration>(nodes),
        { name: t.users.from, show: (r) => <code>{r.remote ?? t.none}</code> },
        { name: t.users.device, show: (r) => r.user_agent ?? t.none },
        { name: t.users.expires, kind: "num right", show: (r) => clock(r.expires_s) },
        { name: t.users.priority, kind: "num right", show: (r) => r.q },
        { name: t.users.instance, show: (r) => <code>{r.instance ?? t.none}</code> },
        ...(whose
          ? [
              {
                name: "",
                kind: "right",
                show: (r: Registration) => (
                  <Disconnect
                    user={r.user}
                    nodes={rows.filter((x) => x.user === r.user).map((x) => x.node)}
                  />
                ),
              },
            ]
          : []),
      ]}
    />
  );
}

/** When somebody came and went, or was not let in, and why. */
function Logins({ user, find = "" }: { user?: string; find?: string }) {
  const query = user ? `?${new URLSearchParams({ user })}` : "?limit=500";
  const { value, error } = useLoaded(() => get<Login[]>(`/logins${query}`), [user]);
  const wanted = (l: Login) => holds(find, l.user, l.remote, l.code);
  const tone = (l: Login) =>
    l.type === "login.refused" ? "bad" : l.type === "registration.added" ? "good" : "calm";
  return (
    <Card title={t.users.log} id="logins">
      {value ? (
        <Table
          caption={t.users.logList}
          rows={value.filter(wanted).slice(0, 100)}
          id={(l) => `${l.at} ${l.type} ${l.user}`}
          empty={t.users.noLog}
          columns={[
            { name: t.users.when, kind: "num", show: (l) => <When at={l.at} /> },
            {
              name: t.users.user,
              show: (l) => (user ? l.user : <a href={link("users", l.user)}>{l.user}</a>),
            },
            {
              name: t.users.event,
              show: (l) => <Chip tone={tone(l)}>{t.users.events[l.type] ?? l.type}</Chip>,
            },
            { name: t.users.from, show: (l) => <code>{l.remote ?? t.none}</code> },
            { name: t.users.device, show: (l) => l.user_agent ?? t.none },
            {
              name: t.users.why,
              kind: "wide",
              show: (l) => (
                <>
                  <span lang="en">{[l.code, l.why].filter(Boolean).join(" ")}</span>
                  {l.more ? ` (${t.users.more(l.more)})` : ""}
                  {l.fix && (
                    <small class="soft" lang="en">
                      {" "}
                      <Coded text={l.fix} />
                    </small>
                  )}
                </>
              ),
            },
          ]}
        />
      ) : (
        <Wait error={error} />
      )}
    </Card>
  );
}

const registrations = (node: string | null) =>
  ofNodes<Registration>("/registrations", new URLSearchParams(), Infinity, node);

/** Names that are shown at once; the search finds the others. */
const ABSENT = 100;

/** Accounts of the file that nobody is registered by. */
function Absent({ known, present, find }: { known: string[]; present: Set<string>; find: string }) {
  const names = known.filter((n) => !present.has(n) && holds(find, n));
  if (!names.length) return null;
  return (
    <Card title={t.users.absent} id="absent">
      <p class="buttons">
        {names.slice(0, ABSENT).map((name) => (
          <a key={name} class="button" href={link("users", name)}>
            {name}
          </a>
        ))}
        {names.length > ABSENT && <span class="soft">{t.users.others(names.length - ABSENT)}</span>}
      </p>
    </Card>
  );
}

export function Users({ query }: { query: URLSearchParams }) {
  const [find, set] = useSearch();
  const admin = scope.use() === "admin";
  const node = query.get("node");
  const { value, error } = useLoaded(() => registrations(node), [node]);
  // The file is for administrators.
  const file = async () => (admin ? await get<{ user?: object }>("/config") : null);
  const { value: config } = useLoaded(file, [admin], false);
  const wanted = (r: Registration) => holds(find, r.user, r.remote, r.user_agent);
  return (
    <>
      <Head title={t.users.title} />
      <search class="filters">
        <Search hint={t.users.find} value={find} onFind={set} />
        <NodePick nodes={value?.nodes} />
      </search>
      <Silent nodes={value?.silent ?? []} />
      <section class="panel flush">
        {value ? (
          <Devices
            rows={value.items.filter(wanted)}
            nodes={value.nodes}
            empty={value.items.length ? t.users.nobodyFits : t.users.none}
            whose
          />
        ) : (
          <Wait error={error} />
        )}
      </section>
      {value && config && (
        <Absent
          known={Object.keys(config.user ?? {})}
          present={new Set(value.items.map((r) => r.user))}
          find={find}
        />
      )}
      <Logins find={find} />
    </>
  );
}

export function UserView({ name }: { name: string }) {
  const { value, error } = useLoaded(() => registrations(null), [name]);
  const own = value?.items.filter((r) => r.user === name) ?? [];
  const nodes = own.length ? own.map((r) => r.node) : [undefined];
  return (
    <>
      <Head back={link("users")} title={name} side={<Disconnect user={name} nodes={nodes} />} />
      <Card title={t.users.devices}>
        {value ? (
          <Devices rows={own} nodes={value.nodes} empty={t.users.nobodyFits} whose={false} />
        ) : (
          <Wait error={error} />
        )}
      </Card>
      <Logins user={name} />
      <Card title={t.users.recent}>
        <RecentCalls of={{ user: name }} empty={t.calls.noneFits} />
      </Card>
    </>
  );
}
