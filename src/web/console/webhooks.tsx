// What the web application was sent.

import { type Delivery, get, send } from "./api";
import { Chip, Deed, Head, Table, Wait, When } from "./parts";
import { link, tell, useLoaded } from "./store";
import { t } from "./texts";

const tone = (d: Delivery) =>
  d.state === "delivered" ? "good" : d.state === "dead" ? "bad" : "wait";

export function Webhooks() {
  const { value, error } = useLoaded(() => get<Delivery[]>("/webhooks"), []);
  const again = async (id: string) => {
    await send(`/webhooks/${id}/resend`, "POST");
    tell(t.webhooks.sent);
  };
  return (
    <>
      <Head title={t.webhooks.title} />
      <section class="panel flush">
        {value ? (
          <Table
            caption={t.webhooks.list}
            rows={value}
            id={(d) => d.id}
            empty={t.webhooks.none}
            columns={[
              { name: t.webhooks.when, kind: "num", show: (d) => <When at={d.began} /> },
              { name: t.webhooks.event, show: (d) => <code>{d.type}</code> },
              {
                name: t.webhooks.call,
                show: (d) => (d.call ? <a href={link("calls", d.call)}>{d.call}</a> : t.none),
              },
              { name: t.webhooks.tries, kind: "num right", show: (d) => d.tries },
              {
                name: t.webhooks.state,
                kind: "wide",
                show: (d) => (
                  <span class="fate">
                    <Chip tone={tone(d)}>{d.state}</Chip>
                    {d.why}
                  </span>
                ),
              },
              {
                name: t.webhooks.body,
                show: (d) => (
                  <details>
                    <summary>{t.webhooks.show}</summary>
                    <pre tabIndex={0}>{JSON.stringify(d.body, null, 2)}</pre>
                  </details>
                ),
              },
              {
                name: "",
                kind: "right",
                show: (d) => (
                  <Deed needs="write" act={() => again(d.id)}>
                    {t.webhooks.again}
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
