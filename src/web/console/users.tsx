// Users who are registered, with their devices.

import { useState } from "preact/hooks";
import { get, type Registration, send } from "./api";
import { RecentCalls } from "./calls";
import { Card, clock, Deed, Head, Search, sure, Table, Wait } from "./parts";
import { link, tell, useLoaded } from "./store";
import { t } from "./texts";

async function disconnect(user: string) {
  if (!(await sure(t.users.sure(user), t.users.detail, t.users.disconnect))) return;
  await send(`/registrations/${encodeURIComponent(user)}`, "DELETE");
  tell(t.users.done(user));
}

const Disconnect = ({ user }: { user: string }) => (
  <Deed act={() => disconnect(user)}>{t.users.disconnect}</Deed>
);

function Devices({ rows, empty, whose }: { rows: Registration[]; empty: string; whose: boolean }) {
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
      id={(r) => `${r.user} ${r.remote} ${r.instance}`}
      to={whose ? (r) => link("users", r.user) : undefined}
      empty={empty}
      columns={[
        ...(whose ? [user] : []),
        { name: t.users.from, show: (r) => <code>{r.remote ?? t.none}</code> },
        { name: t.users.device, show: (r) => r.user_agent ?? t.none },
        { name: t.users.expires, kind: "num right", show: (r) => clock(r.expires_s) },
        { name: t.users.priority, kind: "num right", show: (r) => r.q },
        { name: t.users.instance, show: (r) => <code>{r.instance ?? t.none}</code> },
        ...(whose
          ? [{ name: "", kind: "right", show: (r: Registration) => <Disconnect user={r.user} /> }]
          : []),
      ]}
    />
  );
}

export function Users() {
  const [find, set] = useState("");
  const { value, error } = useLoaded(() => get<Registration[]>("/registrations"), []);
  const wanted = (r: Registration) =>
    `${r.user} ${r.remote}`.toLowerCase().includes(find.toLowerCase());
  return (
    <>
      <Head title={t.users.title} />
      <search class="filters">
        <Search hint={t.users.find} value={find} onFind={set} />
      </search>
      <section class="panel flush">
        {value ? (
          <Devices
            rows={value.filter(wanted)}
            empty={value.length ? t.users.nobodyFits : t.users.none}
            whose
          />
        ) : (
          <Wait error={error} />
        )}
      </section>
    </>
  );
}

export function UserView({ name }: { name: string }) {
  const { value, error } = useLoaded(() => get<Registration[]>("/registrations"), [name]);
  return (
    <>
      <Head back={link("users")} title={name} side={<Disconnect user={name} />} />
      <Card title={t.users.devices}>
        {value ? (
          <Devices
            rows={value.filter((r) => r.user === name)}
            empty={t.users.nobodyFits}
            whose={false}
          />
        ) : (
          <Wait error={error} />
        )}
      </Card>
      <Card title={t.users.recent}>
        <RecentCalls by="user" of={name} empty={t.calls.noneFits} />
      </Card>
    </>
  );
}
