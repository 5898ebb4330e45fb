// Estimated quality, loss, jitter and round trip of both legs on the time axis of the call, with what
// happened on it.

import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import type { Quality, Row, Sample } from "./api";
import { t } from "./texts";

interface Measure {
  title: string;
  of: (sample: Sample, before: Sample | undefined) => number | null;
  /** From here on people hear it. */
  threshold: number;
  /** What the other direction's figure is, as the peer reports it. */
  reported?: (sample: Sample) => number | null;
  /** A score: less is worse, and the scale is its own. */
  scale?: [number, number];
}

/** Something that happened: seconds since the call began, and what. */
interface Mark {
  at: number;
  text: string;
}

/** Marks of one call that fit on a chart. */
const MARKS = 9;

/** What is marked: the answer, and what is no message. */
function marks(rows: Row[]): Mark[] {
  const answer = rows.find(
    (r) => r.kind === "message" && r.lane === 0 && r.sent && r.summary.startsWith("200 OK ("),
  );
  const events = rows.flatMap((r) => (r.kind === "event" ? [{ at: r.at_s, text: r.text }] : []));
  const all = answer ? [{ at: answer.at_s, text: t.call.heard }, ...events] : events;
  return all.sort((a, b) => a.at - b.at).slice(-MARKS);
}

const MEASURES: Measure[] = [
  { title: t.call.mos, of: (s) => s.mos_estimated, threshold: 3.6, scale: [1, 4.5] },
  {
    title: t.call.loss,
    of: (s) => {
      const expected = s.received + s.lost;
      return expected ? (100 * s.lost) / expected : null;
    },
    reported: (s) => s.reported_loss_percent,
    threshold: 3,
  },
  { title: t.call.jitter, of: (s) => s.jitter_ms, threshold: 30 },
  { title: t.call.rtt, of: (s) => s.rtt_ms, threshold: 300 },
];

const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name);

interface Line {
  label: string;
  lane: number;
  reported: boolean;
  values: Map<number, number | null>;
}

/** A leg's figures by the second of the call. */
function linesOf(measure: Measure, quality: Quality): Line[] {
  return quality.legs.flatMap((leg, lane) => {
    const label = `${t.call.heardOf} ${leg.leg}`;
    const second = (s: Sample) => Math.round(((leg.began_ms ?? 0) + s.at_ms) / 1000);
    const by = (of: Measure["of"]) =>
      new Map(leg.series.map((s, n) => [second(s), of(s, leg.series[n - 1])]));
    const line = { label, lane, reported: false, values: by(measure.of) };
    const { reported } = measure;
    if (!reported) return [line];
    const told = {
      label: `${label}, ${t.call.reported}`,
      lane,
      reported: true,
      values: by(reported),
    };
    return [line, told];
  });
}

function Chart({ measure, quality, marks }: { measure: Measure; quality: Quality; marks: Mark[] }) {
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!frame.current) return;
    const lines = linesOf(measure, quality);
    const times = [...new Set(lines.flatMap((line) => [...line.values.keys()]))];
    times.sort((a, b) => a - b);
    const series = lines.map((line) => times.map((time) => line.values.get(time)));
    const size = () => ({ width: frame.current?.clientWidth ?? 600, height: 132 });
    const soft = colour("--soft");
    const axis = {
      stroke: soft,
      grid: { stroke: colour("--rule"), width: 1 },
      ticks: { show: false },
    };
    const plot = new uPlot(
      {
        ...size(),
        cursor: { sync: { key: "quality" }, drag: { x: true, y: false } },
        legend: { live: true },
        scales: {
          x: { time: false, range: (_, __, most) => [0, most] },
          y: {
            range: (_, __, most) =>
              measure.scale ?? [0, Math.max(most * 1.1, measure.threshold / 3)],
          },
        },
        axes: [
          { ...axis, values: (_, all) => all.map((s) => `${s} s`), size: 28 },
          { ...axis, size: 44 },
        ],
        series: [
          { label: "s", value: (_, s) => (s == null ? "–" : `${s.toFixed(0)} s`) },
          ...lines.map((line) => ({
            label: line.label,
            stroke: colour(`--lane-${line.lane}`),
            width: line.reported ? 1 : 2,
            dash: line.reported ? [4, 4] : undefined,
            spanGaps: true,
            points: { show: false },
            value: (_: uPlot, v: number | null) => (v == null ? "–" : v.toFixed(1)),
          })),
        ],
        hooks: {
          draw: [
            (u) => {
              const y = u.valToPos(measure.threshold, "y", true);
              if (y < u.bbox.top) return;
              u.ctx.save();
              u.ctx.strokeStyle = colour("--bad");
              u.ctx.setLineDash([6, 6]);
              u.ctx.beginPath();
              u.ctx.moveTo(u.bbox.left, y);
              u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
              u.ctx.stroke();
              u.ctx.restore();
            },
            (u) => {
              u.ctx.save();
              u.ctx.fillStyle = soft;
              u.ctx.strokeStyle = soft;
              u.ctx.setLineDash([2, 4]);
              u.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
              marks.forEach((mark, n) => {
                const x = u.valToPos(mark.at, "x", true);
                if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) return;
                u.ctx.beginPath();
                u.ctx.moveTo(x, u.bbox.top);
                u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
                u.ctx.stroke();
                u.ctx.fillText(String(n + 1), x + 3, u.bbox.top + 11 * devicePixelRatio);
              });
              u.ctx.restore();
            },
          ],
        },
      },
      [times, ...series] as uPlot.AlignedData,
      frame.current,
    );
    const watch = new ResizeObserver(() => plot.setSize(size()));
    watch.observe(frame.current);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [quality, measure, marks]);
  const [bound, worstOf] = measure.scale ? ["≥", Math.min] : ["≤", Math.max];
  const worst = quality.legs.map((leg) => {
    const values = leg.series.map((s) => measure.of(s, undefined)).filter((v) => v !== null);
    const shown = values.length ? worstOf(...values).toFixed(1) : "–";
    return `${t.call.heardOf} ${leg.leg} ${bound} ${shown}`;
  });
  return (
    <figure class="chart">
      <figcaption>
        {measure.title} <span class="soft">{worst.join(", ")}</span>
      </figcaption>
      <div ref={frame} />
    </figure>
  );
}

export function QualityView({ quality, rows }: { quality: Quality; rows: Row[] }) {
  const happened = useMemo(() => marks(rows), [rows]);
  if (!quality.legs.some((l) => l.series.length > 1)) return <p class="soft">{t.call.noMedia}</p>;
  return (
    <div class="charts">
      {MEASURES.map((measure) => (
        <Chart key={measure.title} measure={measure} quality={quality} marks={happened} />
      ))}
      {happened.length > 0 && (
        <>
          <p class="soft">{t.call.marks}</p>
          <ol class="marked" lang="en">
            {happened.map((mark) => (
              <li key={`${mark.at} ${mark.text}`}>
                {mark.at.toFixed(1)} s: {mark.text}
              </li>
            ))}
          </ol>
        </>
      )}
    </div>
  );
}
