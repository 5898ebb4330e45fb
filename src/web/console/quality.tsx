// Loss, jitter and round trip of both legs on the time axis of the call.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import type { Quality, Sample } from "./api";
import { t } from "./texts";

interface Measure {
  title: string;
  of: (sample: Sample, before: Sample | undefined) => number | null;
  /** From here on people hear it. */
  threshold: number;
}

const MEASURES: Measure[] = [
  {
    title: t.call.loss,
    of: (s) => {
      const expected = s.received + s.lost;
      return expected ? (100 * s.lost) / expected : null;
    },
    threshold: 3,
  },
  { title: t.call.jitter, of: (s) => s.jitter_ms, threshold: 30 },
  { title: t.call.rtt, of: (s) => s.rtt_ms, threshold: 300 },
];

const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name);

function Chart({ measure, quality }: { measure: Measure; quality: Quality }) {
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!frame.current) return;
    const times = [...new Set(quality.legs.flatMap((l) => l.series.map((s) => s.at_ms)))];
    times.sort((a, b) => a - b);
    const series = quality.legs.map((leg) => {
      const at = new Map(leg.series.map((s, n) => [s.at_ms, measure.of(s, leg.series[n - 1])]));
      return times.map((time) => at.get(time));
    });
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
          x: { time: false },
          y: { range: (_, __, most) => [0, Math.max(most * 1.1, measure.threshold / 3)] },
        },
        axes: [
          { ...axis, values: (_, all) => all.map((s) => `${s} s`), size: 28 },
          { ...axis, size: 44 },
        ],
        series: [
          { label: "s", value: (_, s) => (s == null ? "–" : `${s.toFixed(0)} s`) },
          ...quality.legs.map((leg, n) => ({
            label: `${t.call.heardOf} ${leg.leg}`,
            stroke: colour(`--lane-${n}`),
            width: 2,
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
          ],
        },
      },
      [times.map((ms) => ms / 1000), ...series] as uPlot.AlignedData,
      frame.current,
    );
    const watch = new ResizeObserver(() => plot.setSize(size()));
    watch.observe(frame.current);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [quality, measure]);
  const worst = quality.legs.map((leg) => {
    const values = leg.series.map((s) => measure.of(s, undefined)).filter((v) => v !== null);
    return `${t.call.heardOf} ${leg.leg} ≤ ${values.length ? Math.max(...values).toFixed(1) : "–"}`;
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

export function QualityView({ quality }: { quality: Quality }) {
  if (!quality.legs.some((l) => l.series.length > 1)) return <p class="soft">{t.call.noMedia}</p>;
  return (
    <div class="charts">
      {MEASURES.map((measure) => (
        <Chart key={measure.title} measure={measure} quality={quality} />
      ))}
    </div>
  );
}
