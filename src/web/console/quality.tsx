// Estimated quality, loss, jitter, round trip and loudness of both legs on the time axis of the call,
// with what happened on it.

import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import type { Quality, Row } from "./api";
import {
  figure,
  type Line,
  linesOf,
  MEASURES,
  type Mark,
  type Measure,
  marks,
  worst,
} from "./measures";
import { t } from "./texts";

const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name);

/** The threshold, where it is on the chart. */
function drawThreshold(u: uPlot, threshold: number) {
  const y = u.valToPos(threshold, "y", true);
  if (y < u.bbox.top) return;
  u.ctx.save();
  u.ctx.strokeStyle = colour("--bad");
  u.ctx.setLineDash([6, 6]);
  u.ctx.beginPath();
  u.ctx.moveTo(u.bbox.left, y);
  u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
  u.ctx.stroke();
  u.ctx.restore();
}

function drawMarks(u: uPlot, marks: Mark[]) {
  const soft = colour("--soft");
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
}

/** Where a leg is below the threshold: a bar of its colour at the bottom, with the word for it. */
function drawBelow(u: uPlot, line: Line, threshold: number, word: string) {
  const height = 6 * devicePixelRatio;
  const top = u.bbox.top + u.bbox.height - height * (line.lane + 1);
  const right = u.bbox.left + u.bbox.width;
  const x = (at: number) => Math.min(right, Math.max(u.bbox.left, u.valToPos(at, "x", true)));
  u.ctx.save();
  u.ctx.fillStyle = colour(`--lane-${line.lane}`);
  u.ctx.font = `${10 * devicePixelRatio}px system-ui, sans-serif`;
  let before: number | undefined;
  let below = false;
  for (const [time, value] of line.values) {
    const was = below;
    below = value !== null && value < threshold;
    const from = x(before ?? time - 1);
    before = time;
    if (!below) continue;
    u.ctx.globalAlpha = 0.5;
    u.ctx.fillRect(from, top, x(time) - from, height);
    u.ctx.globalAlpha = 1;
    if (!was && x(time) > from) u.ctx.fillText(word, from + 3, top - 3);
  }
  u.ctx.restore();
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
            spanGaps: !measure.below,
            points: { show: false },
            value: (_: uPlot, v: number | null) => figure(measure, v),
          })),
        ],
        hooks: {
          draw: [
            (u) => drawThreshold(u, measure.threshold),
            (u) => {
              const { below } = measure;
              if (below) for (const line of lines) drawBelow(u, line, measure.threshold, below);
            },
            (u) => drawMarks(u, marks),
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
  const said = quality.legs.map((leg) => worst(measure, leg));
  return (
    <figure class="chart">
      <figcaption>
        {measure.title} <span class="soft">{said.join(", ")}</span>
        {measure.hint && <small class="soft">{measure.hint}</small>}
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
          <ol class="marked">
            {happened.map((mark) => (
              <li key={`${mark.at} ${mark.text}`} lang={mark.ours ? undefined : "en"}>
                {mark.at.toFixed(1)} s: {mark.text}
              </li>
            ))}
          </ol>
        </>
      )}
    </div>
  );
}
