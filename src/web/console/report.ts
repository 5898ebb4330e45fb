// All about a call in one file that can be attached to a ticket: it loads nothing, runs nothing, and
// shows what the API shows, which masks what is secret.

import type { Call, Ladder, Quality, Verdict } from "./api";
import { calleeOf, callerOf, factsOf, type Written } from "./facts";
import { bound, linesOf, MEASURES, type Measure, marks, worst } from "./measures";
import { t } from "./texts";
import { isFault, tone } from "./tone";

/** Likely cause and fix, or `null` where nothing is to be mended. */
export function remedyOf({ code, side, likely, fix }: Verdict) {
  if (isFault(code)) return { likely: likely ?? "", fix: fix ?? "", ours: false };
  const lossy = !code && side === "network";
  return lossy ? { likely: t.call.lossyLikely, fix: t.call.lossyFix, ours: true } : null;
}

/** Beside the tokens, which the page has from the same place. */
const STYLE = `body{font:16px/1.5 var(--sans);margin:2rem auto;max-width:72rem;padding:0 1rem;color:var(--ink);background:var(--card)}
h1{font-size:1.25rem;margin:0 0 .5rem}h2{font-size:1rem;margin:2rem 0 .5rem}
.hero{border:1px solid var(--rule);border-left:5px solid var(--edge);border-radius:.5rem;padding:1rem 1.5rem}
.good{border-left-color:var(--good)}.bad{border-left-color:var(--bad)}.wait{border-left-color:var(--wait)}.live{border-left-color:var(--accent)}
.soft,dt,figcaption{color:var(--soft);font-size:.875rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.25rem 1rem;margin:0}dd{margin:0;overflow-wrap:anywhere}
figure{margin:0 0 .75rem}figure svg{display:block;width:100%;height:5rem;background:var(--ground)}
.picture{overflow:auto}pre{background:var(--ground);padding:1rem;overflow:auto;font-size:13px}
@media print{pre{white-space:pre-wrap}}`;

const safe = (text: string | number | null) =>
  String(text ?? "").replace(
    /[&<>"]/g,
    (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] ?? c,
  );
/** With what is to be typed `between backticks`. */
const coded = (text: string) =>
  text
    .split("`")
    .map((part, n) => (n % 2 ? `<code>${safe(part)}</code>` : safe(part)))
    .join("");
/** What the gateway says, which is English. */
const said = (text: string) => `<span lang="en">${coded(text)}</span>`;
const terms = (rows: [string, string][]) =>
  `<dl>${rows.map(([name, value]) => `<dt>${safe(name)}</dt><dd>${value}</dd>`).join("")}</dl>`;

/** What is HTML already. */
interface Html {
  html: string;
}

const written: Written<Html> = {
  // By this clock, and as the log has it.
  moment: (at) => ({ html: safe(`${new Date(at).toLocaleString()} (${at})`) }),
  quoted: (text) => ({ html: said(text) }),
};

function details(call: Call) {
  const facts = factsOf(call, written).flatMap(([name, value]): [string, string][] => {
    if (!value) return [];
    return [[name, typeof value === "string" ? safe(value) : value.html]];
  });
  return terms(facts);
}

/** Units of a chart; it is stretched to the page. */
const [WIDE, HIGH] = [1000, 80];

/** A measure as lines, a colour a leg, with its threshold. */
function chart(measure: Measure, quality: Quality) {
  const lines = linesOf(measure, quality).filter((line) => !line.outbound);
  const values = lines.flatMap((line) => [...line.values.values()].filter((v) => v !== null));
  const worsts = quality.legs.map((leg) => worst(measure, leg));
  const caption = [...worsts, bound(measure)].filter(Boolean).join(", ");
  const head = `<figcaption>${safe(measure.title)}: ${safe(caption)}</figcaption>`;
  if (!values.length) return `<figure>${head}</figure>`;
  const longest = Math.max(1, ...lines.flatMap((line) => [...line.values.keys()]));
  const [least, most] = measure.scale ?? [0, 1.1 * Math.max(measure.threshold, ...values)];
  const y = (value: number) => (HIGH * (1 - (value - least) / (most - least))).toFixed(1);
  const drawn = lines.map(({ lane, values }) => {
    const known = [...values].filter((point): point is [number, number] => point[1] !== null);
    const points = known.map(([at, v]) => `${((WIDE * at) / longest).toFixed(1)},${y(v)}`);
    return `<polyline points="${points.join(" ")}" stroke="var(--lane-${lane % 2})"/>`;
  });
  const limit = y(measure.threshold);
  return `<figure>${head}<svg viewBox="0 0 ${WIDE} ${HIGH}" preserveAspectRatio="none" fill="none" stroke-width="2" aria-hidden="true"><line x1="0" x2="${WIDE}" y1="${limit}" y2="${limit}" stroke="var(--bad)" stroke-dasharray="8 8"/>${drawn.join("")}</svg></figure>`;
}

function verdict(call: Call, ladder: Ladder) {
  const found = call.verdict;
  if (!found) return `<section class="hero live"><h1>${safe(t.call.active)}</h1></section>`;
  const remedy = remedyOf(found);
  const word = (text: string) => (remedy?.ours ? coded(text) : said(text));
  const mended = remedy
    ? terms([
        [t.call.likely, word(remedy.likely)],
        [t.call.fix, word(remedy.fix)],
      ])
    : "";
  const side = found.code
    ? `<p>${safe(found.code)} · ${safe(t.call.sides[found.side] ?? found.side)}</p>`
    : "";
  const summary = `<p class="soft">${said(ladder.headline)}</p>`;
  return `<section class="hero ${tone(call)}"><h1 lang="en">${safe(found.sentence)}</h1>${side}${mended}${summary}</section>`;
}

function sound(quality: Quality, ladder: Ladder) {
  if (!quality.legs.some((leg) => leg.series.length > 1))
    return `<p class="soft">${safe(t.call.noMedia)}</p>`;
  const events = marks(ladder.rows).map(
    ({ at, text, ours }) => `<li>${at.toFixed(1)} s: ${ours ? safe(text) : said(text)}</li>`,
  );
  return `${MEASURES.map((measure) => chart(measure, quality)).join("")}<ol>${events.join("")}</ol>`;
}

/** What a report is made of; `picture` is the ladder as SVG, `text` with every message. */
export interface Told {
  call: Call;
  ladder: Ladder;
  quality: Quality;
  picture: string;
  text: string;
  /** tokens.css, with the colours of both themes. */
  tokens: string;
  /** Where the console shows this call. */
  address: string;
}

export function reportOf({ call, ladder, quality, picture, text, tokens, address }: Told): string {
  const title = `${callerOf(call)} → ${calleeOf(call)}, ${new Date(call.start).toLocaleString()}`;
  return `<!doctype html>
<html lang="${t.language}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${safe(title)}</title><style>${tokens}${STYLE}</style></head><body><main>
<p class="soft">${safe(title)} · <code>${safe(call.call)}</code> · ${safe(address)}</p>
${verdict(call, ladder)}
<h2>${safe(t.call.ladder)}</h2><div class="picture" tabindex="0">${picture.replace(/<\?xml[^>]*>/, "")}</div>
<h2>${safe(t.call.qualityTitle)}</h2>${sound(quality, ladder)}
<h2>${safe(t.call.facts)}</h2>${details(call)}
<h2>${safe(t.call.inFull)}</h2><pre tabindex="0" lang="en">${safe(text)}</pre>
<details><summary>JSON</summary><pre tabindex="0">${safe(JSON.stringify(call, null, 2))}</pre></details>
</main></body></html>`;
}
