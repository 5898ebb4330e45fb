// One call: what happened and why, its messages, its quality, its details.

import {
  ask,
  type Call,
  get,
  type Ladder,
  ofNode,
  type Quality,
  save,
  saveBlob,
  send,
  type Verdict,
} from "./api";
import { fateOf, Mos } from "./calls";
import { calleeOf, callerOf, factsOf } from "./facts";
import { LadderView } from "./ladder";
import { Card, Chip, Coded, Copy, clock, Deed, Facts, Head, Menu, sure, Wait, When } from "./parts";
import { QualityView } from "./quality";
import { remedyOf, reportOf } from "./report";
import { link, tell, useLoaded } from "./store";
import { t } from "./texts";
import { isFault, type Tone, tone } from "./tone";

/** The verdict as text, to be pasted into a ticket. */
function told(verdict: Verdict) {
  const remedy = remedyOf(verdict);
  return [
    [verdict.code, verdict.sentence].filter(Boolean).join(" "),
    remedy && `${t.call.likely}: ${remedy.likely}`,
    remedy && `${t.call.fix}: ${remedy.fix}`,
    location.href,
  ]
    .filter(Boolean)
    .join("\n");
}

/** The answer to "what happened to this call, and why". */
export function Hero({ verdict, kind }: { verdict: Verdict | null; kind: Tone }) {
  if (!verdict) {
    return (
      <section class="hero live said">
        <p class="sentence">{t.call.active}</p>
      </section>
    );
  }
  const remedy = remedyOf(verdict);
  // The gateway's own words are English; those about loss are the page's.
  const lang = remedy?.ours ? undefined : "en";
  return (
    <section class={`hero said ${kind} ${isFault(verdict.code) ? "fault" : ""}`}>
      <p class="sentence" lang="en">
        {verdict.sentence}
      </p>
      <p class="marks">
        {verdict.code && (
          <>
            <Chip tone={kind}>{verdict.code}</Chip>
            <span>{t.call.sides[verdict.side] ?? verdict.side}</span>
            <a href={link("calls", null, new URLSearchParams({ code: verdict.code }))}>
              {t.call.alike}
            </a>
          </>
        )}
        <Copy text={told(verdict)}>{t.call.copyVerdict}</Copy>
      </p>
      {remedy && (
        <dl>
          <dt>{t.call.likely}</dt>
          <dd lang={lang}>
            <Coded text={remedy.likely} />
          </dd>
          <dt>{t.call.fix}</dt>
          <dd lang={lang}>
            <Coded text={remedy.fix} />
          </dd>
        </dl>
      )}
    </section>
  );
}

const Details = ({ call }: { call: Call }) => (
  <Facts
    rows={factsOf(call, {
      moment: (at) => <When key={at} at={at} />,
      quoted: (text) => (
        <span key={text} lang="en">
          {text}
        </span>
      ),
    })}
  />
);

/** All about a call in one file. */
async function report(call: Call, node: string | null) {
  const path = `/calls/${call.call}`;
  const text = async (format: string, accept: string) =>
    (await ask(ofNode(`${path}/ladder?format=${format}`, node), "GET", undefined, accept)).text();
  const [ladder, quality, picture, messages, tokens] = await Promise.all([
    get<Ladder>(ofNode(`${path}/ladder`, node)),
    get<Quality>(ofNode(`${path}/quality`, node)),
    text("svg", "image/svg+xml"),
    text("text&full=true", "text/plain"),
    fetch("tokens.css").then((response) => response.text()),
  ]);
  const address = location.href;
  const page = reportOf({ call, ladder, quality, picture, text: messages, tokens, address });
  saveBlob(new Blob([page], { type: "text/html" }), `call-${call.call}.html`);
}

async function hangUp(id: string, node: string | null) {
  if (!(await sure(t.call.sureHangUp, t.call.sureDetail, t.hangUp))) return;
  await send(ofNode(`/calls/${id}`, node), "DELETE");
  tell(t.call.ended);
}

function Exports({ call, node }: { call: Call; node: string | null }) {
  const id = call.call;
  const as = (path: string, end: string) => () =>
    save(ofNode(`/calls/${id}/${path}`, node), `${id}.${end}`);
  return (
    <>
      {call.state !== "ended" && (
        <Deed kind="stop" needs="write" act={() => hangUp(id, node)}>
          {t.hangUp}
        </Deed>
      )}
      <Copy text={location.href}>{t.call.copyLink}</Copy>
      <Deed icon="down" kind="quiet" act={() => report(call, node)}>
        {t.call.report}
      </Deed>
      <Menu title={t.call.exports}>
        <Deed kind="quiet" act={as("pcap", "pcap")}>
          {t.call.capture}
        </Deed>
        <Deed kind="quiet" act={as("ladder?format=svg", "svg")}>
          {t.call.picture}
        </Deed>
        <Deed kind="quiet" act={as("ladder?format=text&full=true", "txt")}>
          {t.call.text}
        </Deed>
        <Deed kind="quiet" act={as("ladder?format=mermaid", "mmd")}>
          {t.call.mermaid}
        </Deed>
      </Menu>
    </>
  );
}

export function CallView({ id, node }: { id: string; node: string | null }) {
  const { value, error } = useLoaded(
    () =>
      Promise.all([
        get<Call>(ofNode(`/calls/${id}`, node)),
        get<Ladder>(ofNode(`/calls/${id}/ladder`, node)),
        get<Quality>(ofNode(`/calls/${id}/quality`, node)),
      ]),
    [id, node],
  );
  if (!value) return <Wait error={error} />;
  const [call, ladder, quality] = value;
  const ended = call.state === "ended";
  return (
    <div class="call" id="call-view">
      <Head
        back={link("calls")}
        title={
          <>
            {callerOf(call)} <span class="soft">→</span> {calleeOf(call)}
          </>
        }
        side={<Exports call={call} node={node} />}
      />
      <p class="subtitle">
        <Chip tone={tone(call)}>{fateOf(call)}</Chip>
        <When at={call.start} />
        <span>{clock(call.duration_s)}</span>
        <span>
          MOS <Mos value={call.mos_estimated} />
        </span>
        <code>{call.call}</code>
      </p>
      <Hero verdict={ended ? call.verdict : null} kind={tone(call)} />
      <Card title={t.call.ladder}>
        <LadderView drawn={ladder} calm={tone(call) === "calm"} />
      </Card>
      <Card title={t.call.qualityTitle}>
        <QualityView quality={quality} rows={ladder.rows} />
      </Card>
      <Card title={t.call.facts}>
        <Details call={call} />
      </Card>
    </div>
  );
}
