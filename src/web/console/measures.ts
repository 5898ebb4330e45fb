// What is measured of a call second by second, where people begin to hear it, and what happened
// meanwhile: for the charts and for the report.

import type { Quality, Row, Sample } from "./api";
import { t } from "./texts";

export interface Measure {
  title: string;
  /** Behind a figure. */
  unit: string;
  of: (sample: Sample, before: Sample | undefined) => number | null;
  /** From here on people hear it; or, of what they are to hear, no longer do. */
  threshold: number;
  /** What the other direction's figure is, as the peer reports it. */
  reported?: (sample: Sample) => number | null;
  /** What the figure is of the sound that the gateway plays to a side. */
  played?: (sample: Sample) => number | null;
  /** The scale, where it is not from 0 up. */
  scale?: [number, number];
  /** Less is worse. */
  falling?: boolean;
  /** Digits behind the point. */
  digits?: number;
  /** What lies below the threshold is called so, and drawn as such. */
  below?: string;
  /** How to read it. */
  hint?: string;
}

/** Whose sound a leg brings. */
export const sideOf = (leg: string) => t.call.legs[leg] ?? leg;

/** From where on people hear it; silence has a name of its own. */
export function bound({ threshold, unit, falling, below }: Measure) {
  if (below) return "";
  return (falling ? t.call.hurtsBelow : t.call.hurts)(`${threshold} ${unit}`.trim());
}

/** A figure with its unit, as the pointer shows it. */
export function figure(measure: Measure, value: number | null | undefined) {
  if (value == null) return "–";
  const text = `${value.toFixed(measure.digits ?? 1)} ${measure.unit}`.trim();
  return measure.below && value < measure.threshold ? `${measure.below} (${text})` : text;
}

/** Something that happened: seconds since the call began, and what. */
export interface Mark {
  at: number;
  text: string;
  /** In whose words: the page's, or the gateway's, which are English. */
  ours: boolean;
}

/** Marks of one call that fit on a chart. */
const MARKS = 9;

/** What is marked: the answer, and what is no message. */
export function marks(rows: Row[]): Mark[] {
  const answer = rows.find(
    (r) => r.kind === "message" && r.lane === 0 && r.sent && r.summary.startsWith("200 OK ("),
  );
  const events = rows.flatMap((r) =>
    r.kind === "event" ? [{ at: r.at_s, text: r.text, ours: false }] : [],
  );
  const all = answer ? [{ at: answer.at_s, text: t.call.heard, ours: true }, ...events] : events;
  return all.sort((a, b) => a.at - b.at).slice(-MARKS);
}

export const MEASURES: Measure[] = [
  {
    title: t.call.mos,
    unit: "",
    of: (s) => s.mos_estimated,
    reported: (s) => s.reported_mos_estimated ?? null,
    threshold: 3.6,
    scale: [1, 4.5],
    falling: true,
  },
  {
    title: t.call.loss,
    unit: "%",
    of: (s) => {
      const expected = s.received + s.lost;
      return expected ? (100 * s.lost) / expected : null;
    },
    reported: (s) => s.reported_loss_percent,
    threshold: 3,
  },
  {
    title: t.call.jitter,
    unit: "ms",
    of: (s) => s.jitter_ms,
    reported: (s) => s.reported_jitter_ms ?? null,
    threshold: 30,
  },
  { title: t.call.rtt, unit: "ms", of: (s) => s.rtt_ms, threshold: 300 },
  {
    title: t.call.level,
    unit: "dBov",
    // A node of a version before has none.
    of: (s) => s.level_dbov ?? null,
    played: (s) => s.played_level_dbov ?? null,
    threshold: -60,
    scale: [-80, 0],
    digits: 0,
    below: t.call.silence,
    hint: t.call.levelHint,
  },
];

export interface Line {
  label: string;
  lane: number;
  /** What goes to a side, not what comes from it. */
  outbound: boolean;
  values: Map<number, number | null>;
}

/** A leg's figures by the second of the call. */
export function linesOf(measure: Measure, quality: Quality): Line[] {
  return quality.legs.flatMap((leg, lane) => {
    const label = sideOf(leg.leg);
    const second = (s: Sample) => Math.round(((leg.began_ms ?? 0) + s.at_ms) / 1000);
    const by = (of: Measure["of"]) =>
      new Map(leg.series.map((s, n) => [second(s), of(s, leg.series[n - 1])]));
    const inbound = { label, lane, outbound: false, values: by(measure.of) };
    const outbound = (of: Measure["of"] | undefined, label: string) =>
      of && leg.series.some((s) => of(s, undefined) !== null)
        ? [{ label, lane, outbound: true, values: by(of) }]
        : [];
    return [
      inbound,
      ...outbound(measure.reported, t.call.reported(label)),
      ...outbound(measure.played, t.call.played(label)),
    ];
  });
}

/** What a measure was at its worst on a leg, or that it was not measured. */
export function worst(measure: Measure, leg: Quality["legs"][number]) {
  const [bound, worstOf] = measure.falling ? ["≥", Math.min] : ["≤", Math.max];
  const label = sideOf(leg.leg);
  const values = leg.series.map((s) => measure.of(s, undefined)).filter((v) => v !== null);
  if (!values.length) return `${label} ${t.call.unmeasured}`;
  return `${label} ${bound} ${worstOf(...values).toFixed(measure.digits ?? 1)}`;
}
