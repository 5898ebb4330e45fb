// What the web application was sent.

import { type Delivery, get, send } from "./api";
import { Card, Chip, Deed, Facts, Head, Search, Table, Wait, When } from "./parts";
import { holds, link, tell, useLoaded, useSearch } from "./store";
import { t } from "./texts";

const stateOf = (d: Delivery) => t.webhooks.states[d.state] ?? d.state;

function Fate({ delivery: d }: { delivery: Delivery }) {
  const tone = d.state === "delivered" ? "good" : d.state === "dead" ? "bad" : "wait";
  return (
    <span class="fate">
      <Chip tone={tone}>{stateOf(d)}</Chip>
      <span lang="en">{d.why}</span>
    </span>
  );
}

async function again(id: string) {
  await send(`/webhooks/${encodeURIComponent(id)}/resend`, "POST");
  tell(t.webhooks.sent);
}

const Again = ({ id }: { id: string }) => (
  <Deed needs="write" act={() => again(id)}>
    {t.webhooks.again}
  </Deed>
);

const CallOf = ({ delivery: { call } }: { delivery: Delivery }) =>
  call ? <a href={link("calls", call)}>{call}</a> : <span>{t.none}</span>;

const linked = (d: Delivery) => link("webhooks", d.id);

function Deliveries({ rows, empty }: { rows: Delivery[]; empty: string }) {
  return (
    <Table
      caption={t.webhooks.list}
      rows={rows}
      id={(d) => d.id}
      to={linked}
      empty={empty}
      columns={[
        {
          name: t.webhooks.when,
          kind: "num",
          show: (d) => (
            <a class="row-link" href={linked(d)}>
              <When at={d.began} />
            </a>
          ),
        },
        { name: t.webhooks.event, show: (d) => <code>{d.type}</code> },
        { name: t.webhooks.call, show: (d) => <CallOf delivery={d} /> },
        { name: t.webhooks.tries, kind: "num right", show: (d) => d.tries },
        { name: t.webhooks.state, kind: "wide", show: (d) => <Fate delivery={d} /> },
        { name: "", kind: "right", show: (d) => <Again id={d.id} /> },
      ]}
    />
  );
}

export function Webhooks() {
  const [find, set] = useSearch();
  const { value, error } = useLoaded(() => get<Delivery[]>("/webhooks"), []);
  const wanted = (d: Delivery) => holds(find, d.type, d.call, d.id, stateOf(d), d.why);
  return (
    <>
      <Head title={t.webhooks.title} />
      <search class="filters">
        <Search hint={t.webhooks.find} value={find} onFind={set} />
      </search>
      <section class="panel flush">
        {value ? (
          <Deliveries
            rows={value.filter(wanted)}
            empty={value.length ? t.webhooks.noneFits : t.webhooks.none}
          />
        ) : (
          <Wait error={error} />
        )}
      </section>
    </>
  );
}

/** One event: how often it was sent, what came of it, and what was sent. */
export function WebhookView({ id }: { id: string }) {
  const { value, error } = useLoaded(() => get<Delivery[]>("/webhooks"), []);
  if (!value) return <Wait error={error} />;
  const delivery = value.find((d) => d.id === id);
  if (!delivery) return <Wait error={new Error(t.webhooks.gone)} />;
  return (
    <>
      <Head back={link("webhooks")} title={delivery.type} side={<Again id={id} />} />
      <p class="subtitle">
        <Fate delivery={delivery} />
      </p>
      <Card>
        <Facts
          rows={[
            [t.webhooks.when, <When key="when" at={delivery.began} />],
            [t.webhooks.call, <CallOf key="call" delivery={delivery} />],
            [t.webhooks.tries, delivery.tries],
            [t.webhooks.id, <code key="id">{id}</code>],
          ]}
        />
      </Card>
      <Card title={t.webhooks.body}>
        <pre tabIndex={0}>{JSON.stringify(delivery.body, null, 2)}</pre>
      </Card>
    </>
  );
}
