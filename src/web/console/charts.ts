// Draws figures on the time axis of a call. It is a script of its own: whoever looks at no call loads
// none of this.

import uPlot from "uplot";
import type { Line, Mark } from "./measures";

/** What is drawn. */
export interface Figures {
  lines: Line[];
  marks: Mark[];
  threshold: number;
  /** The scale, where it is not from 0 up. */
  scale?: [number, number];
  /** What lies below the threshold is called so, and drawn as such. */
  below?: string;
  /** A figure with its unit. */
  told: (value: number | null | undefined) => string;
}

/** Without its legend, pixels. */
const HEIGHT = 132;

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

/** What happens within this of the first of a group shares its line and its number, pixels. */
const TOGETHER = 20;

/** The marks on a chart, those in one place together: where, and the first and the last of them. */
function groups(u: uPlot, marks: Mark[]) {
  const found: { x: number; first: number; last: number }[] = [];
  marks.forEach((mark, n) => {
    const x = u.valToPos(mark.at, "x", true);
    const before = found.at(-1);
    if (before && x - before.x < TOGETHER * devicePixelRatio) before.last = n + 1;
    else found.push({ x, first: n + 1, last: n + 1 });
  });
  return found.filter(({ x }) => x >= u.bbox.left && x <= u.bbox.left + u.bbox.width);
}

function drawMarks(u: uPlot, marks: Mark[]) {
  const soft = colour("--soft");
  u.ctx.save();
  u.ctx.fillStyle = soft;
  u.ctx.strokeStyle = soft;
  u.ctx.setLineDash([2, 4]);
  u.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  const right = u.bbox.left + u.bbox.width;
  for (const { x, first, last } of groups(u, marks)) {
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    const text = first === last ? String(first) : `${first}–${last}`;
    // At the end there is room at the left alone.
    const fits = x + u.ctx.measureText(text).width + 3 < right;
    u.ctx.textAlign = fits ? "left" : "right";
    u.ctx.fillText(text, fits ? x + 3 : x - 3, u.bbox.top + 11 * devicePixelRatio);
  }
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

/** The axes and lines of figures; how wide they are is for the frame to say. */
function optionsOf({ lines, marks, threshold, scale, below, told }: Figures): uPlot.Options {
  const axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--rule"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: 0,
    height: HEIGHT,
    cursor: { sync: { key: "quality" }, drag: { x: true, y: false } },
    legend: { live: true },
    scales: {
      // What ended the call is on it, too.
      x: { time: false, range: (_, __, most) => [0, Math.max(most, marks.at(-1)?.at ?? 0)] },
      y: { range: (_, __, most) => scale ?? [0, Math.max(most * 1.1, threshold / 3)] },
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
        width: line.outbound ? 1 : 2,
        dash: line.outbound ? [4, 4] : undefined,
        spanGaps: !below,
        // One figure alone is no line.
        points: { show: [...line.values.values()].filter((v) => v !== null).length === 1 },
        value: (_: uPlot, v: number | null) => told(v),
      })),
    ],
    hooks: {
      draw: [
        (u) => drawThreshold(u, threshold),
        (u) => {
          // Of what is played, a pause is part: ringing has one of four seconds.
          const measured = lines.filter((line) => !line.outbound);
          if (below) for (const line of measured) drawBelow(u, line, threshold, below);
        },
        (u) => drawMarks(u, marks),
      ],
    },
  };
}

/** Draws them into `frame` at its width, whatever that becomes; what is returned takes them away. */
export function drawChart(frame: HTMLElement, figures: Figures): () => void {
  const { lines } = figures;
  const times = [...new Set(lines.flatMap((line) => [...line.values.keys()]))];
  times.sort((a, b) => a - b);
  const series = lines.map((line) => times.map((time) => line.values.get(time)));
  const size = () => ({ width: frame.clientWidth, height: HEIGHT });
  const plot = new uPlot(
    { ...optionsOf(figures), ...size() },
    [times, ...series] as uPlot.AlignedData,
    frame,
  );
  const watch = new ResizeObserver(() => plot.setSize(size()));
  watch.observe(frame);
  return () => {
    watch.disconnect();
    plot.destroy();
  };
}
