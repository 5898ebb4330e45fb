// Estimated quality, loss, jitter, round trip and loudness of both legs on the time axis of the call,
// with what happened on it.

import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Quality, Row } from "./api";
import {
  bound,
  figure,
  linesOf,
  MEASURES,
  type Mark,
  type Measure,
  marks,
  worst,
} from "./measures";
import { failed } from "./store";
import { t } from "./texts";

/** What draws is loaded with the first call that is looked at. */
const charts = () => import("./charts");

function Chart({ measure, quality, marks }: { measure: Measure; quality: Quality; marks: Mark[] }) {
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let over = false;
    let clear = () => {};
    const { threshold, scale, below } = measure;
    const lines = linesOf(measure, quality);
    const told = (value: number | null | undefined) => figure(measure, value);
    charts().then(({ drawChart }) => {
      if (over || !frame.current) return;
      clear = drawChart(frame.current, { lines, marks, threshold, scale, below, told });
    }, failed);
    return () => {
      over = true;
      clear();
    };
  }, [quality, measure, marks]);
  const said = [...quality.legs.map((leg) => worst(measure, leg)), bound(measure)].filter(Boolean);
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
