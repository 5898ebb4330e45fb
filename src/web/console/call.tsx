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
import { Mos, tone } from "./calls";
import { LadderView } from "./ladder";
import { Card, Chip, Copy, Coded, clock, Deed, Facts, Head, Icon, sure, Wait, When } from "./parts";
import { QualityView } from "./quality";
import { link, tell, useLoaded } from "./store";
import { t } from "./texts";

/** The verdict as text, to be pasted into a ticket. */
function told(verdict: Verdict, withFix: boolean) {
  const lossy = !verdict.code;
  const likely = lossy ? t.call.lossyLikely : verdict.likely;
  const fix = lossy ? t.call.lossyFix : verdict.fix;
  return [
    [verdict.code, verdict.sentence].filter(Boolean).join(" "),
    withFix && likely && `${t.call.likely}: ${likely}`,
    withFix && fix && `${t.call.fix}: ${fix}`,
    location.href,
  ]
    .filter(Boolean)
    .join("\n");
}

/** The answer to "what happened to this call, and why". */
export function Hero({ verdict, kind }: { verdict: Verdict | null; kind: string }) {
  if (!verdict) {
    return (
      <section class="hero live said">
        <p class="sentence">{t.call.active}</p>
      </section>
    );
  }
  const fault = verdict.code && kind !== "calm";
  const lossy = !verdict.code && verdict.side === "network";
  return (
    <section class={`hero said ${kind} ${fault ? "fault" : ""}`}>
      <p class="sentence" lang="en">
        {verdict.sentence}
      </p>
      <p class="marks">
        {verdict.code && (
          <>
            <Chip tone={kind as "good"}>{verdict.code}</Chip>
            <span>{t.call.sides[verdict.side] ?? verdict.side}</span>
          </>
        )}
        <Copy text={told(verdict, fault || lossy)}>{t.call.copyVerdict}</Copy>
      </p>
      {(fault || lossy) && (
        <dl>
          <dt>{t.call.likely}</dt>
          <dd>
            <Coded text={(lossy ? t.call.lossyLikely : verdict.likely) ?? ""} />
          </dd>
          <dt>{t.call.fix}</dt>
          <dd>
            <Coded text={(lossy ? t.call.lossyFix : verdict.fix) ?? ""} />
          </dd>
        </dl>
      )}
    </section>
  );
}

function codecs(call: Call) {
  const leg = (l: Call["legs"][number]): [string, string] => [
    `${t.call.heardOf} ${l.leg}`,
    [
      l.codec,
      `${l.packets_in} in`,
      `${l.packets_lost} lost`,
      `${l.packets_out} out`,
      l.jitter_ms == null ? null : `jitter ${l.jitter_ms} ms`,
      l.rtt_ms == null ? null : `round trip ${l.rtt_ms} ms`,
      `MOS ${l.mos_in_estimated ?? t.none} / ${l.mos_out_estimated ?? t.none} (estimated)`,
      l.srtp,
    ]
      .filter(Boolean)
      .join(", "),
  ];
  return call.legs.filter((l) => l.codec).map(leg);
}

function Details({ call }: { call: Call }) {
  const { from, to } = call;
  return (
    <Facts
      rows={[
        [
          t.call.from,
          [from.user, from.name && `“${from.name}”`, from.number !== from.user && from.number]
            .filter(Boolean)
            .join(" "),
        ],
        [t.call.shown, from.shown],
        [t.call.device, from.ua],
        [t.call.to, to.dialled],
        [t.call.normalised, to.number !== to.dialled ? to.number : null],
        [t.call.route, call.route ? `${call.route} (${call.context})` : null],
        [
          t.call.tried,
          call.attempts.map((a) => `${a.target}: ${a.code} (${a.ms} ms)`).join(", ") ||
            t.call.nobody,
        ],
        [t.call.began, <When key="began" at={call.start} />],
        [t.call.answered, call.answer && <When key="answer" at={call.answer} />],
        [t.call.setUp, call.setup_ms == null ? null : `${call.setup_ms} ms`],
        [t.call.hungUpBy, call.hangup_by],
        [t.call.reason, call.why && `${call.sip_code ?? ""} ${call.why}`],
        ...codecs(call),
        ...Object.entries(call.tags ?? {}),
      ]}
    />
  );
}

const safe = (text: string) =>
  text.replace(
    /[&<>"]/g,
    (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] ?? c,
  );

/** All about a call in one file that can be attached to a ticket; the API masks what is secret. */
async function report(call: Call, node: string | null) {
  const path = `/calls/${call.call}/ladder`;
  const get = async (format: string, accept: string) =>
    (await ask(ofNode(`${path}?format=${format}`, node), "GET", undefined, accept)).text();
  const [picture, text] = await Promise.all([
    get("svg", "image/svg+xml"),
    get("text&full=true", "text/plain"),
  ]);
  const v = call.verdict;
  const why = v?.code
    ? `<p><b>${safe(v.code)}</b> ${safe(t.call.sides[v.side] ?? v.side)}</p><p>${safe(v.likely ?? "")}</p><p>${safe(v.fix ?? "")}</p>`
    : "";
  const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${safe(call.call)}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}pre{background:#f4f5f7;padding:1rem;overflow:auto;font-size:13px}svg{max-width:100%}</style>
<h1>${safe(v?.sentence ?? call.call)}</h1>${why}<p>${safe(call.start)}</p>
${picture.replace(/<\?xml[^>]*>/, "")}<pre>${safe(text)}</pre>
<details><summary>JSON</summary><pre>${safe(JSON.stringify(call, null, 2))}</pre></details></html>`;
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
      <details class="menu">
        <summary class="button">
          {t.call.exports}
          <Icon name="more" />
        </summary>
        <div>
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
        </div>
      </details>
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
  const known = call.from.user.startsWith("trunk:") ? call.from.number : call.from.user;
  return (
    <div class="call" id="call-view">
      <Head
        back={link("calls")}
        title={
          <>
            {call.from.name || known} <span class="soft">→</span>{" "}
            {call.to.number || call.to.dialled}
          </>
        }
        side={<Exports call={call} node={node} />}
      />
      <p class="subtitle">
        <Chip tone={tone(call)}>
          {ended ? (t.calls.outcomes[call.outcome ?? ""] ?? call.outcome) : call.state}
        </Chip>
        <When at={call.start} />
        <span>{clock(call.duration_s)}</span>
        <span>
          MOS <Mos value={call.mos_estimated} />
        </span>
        <code>{call.call}</code>
      </p>
      <Hero verdict={ended ? call.verdict : null} kind={tone(call)} />
      <Card title={t.call.ladder}>
        <LadderView drawn={ladder} />
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
