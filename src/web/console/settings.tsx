// The gateway and the settings it runs with.

import { useState } from "preact/hooks";
import { get, type Status } from "./api";
import { Card, Facts, Head, Search, Wait } from "./parts";
import { useLoaded } from "./store";
import { t } from "./texts";

function shown(value: unknown): string {
  if (value === null || value === undefined) return t.settings.notSet;
  if (value === true) return t.settings.yes;
  if (value === false) return t.settings.no;
  if (Array.isArray(value)) return value.length ? value.map(shown).join(", ") : t.none;
  return String(value);
}

/** Settings as they are named in the file: `media.ports`. */
function flat(name: string, value: unknown): [string, unknown][] {
  if (value && typeof value === "object" && !Array.isArray(value))
    return Object.entries(value).flatMap(([k, v]) => flat(name ? `${name}.${k}` : k, v));
  return [[name, value]];
}

/** A word of the file is the same in every language. */
function Value({ value }: { value: unknown }) {
  return <code lang={typeof value === "string" ? "en" : undefined}>{shown(value)}</code>;
}

function Part({ name, value, find }: { name: string; value: unknown; find: string }) {
  const rows = flat("", value).filter(([key, v]) =>
    `${name}.${key} ${shown(v)}`.toLowerCase().includes(find.toLowerCase()),
  );
  if (!rows.length) return null;
  return (
    <Card title={`[${name}]`}>
      <Facts kind="lines" rows={rows.map(([key, v]) => [key, <Value key={key} value={v} />])} />
    </Card>
  );
}

export function Settings() {
  const [find, set] = useState("");
  const { value, error } = useLoaded(
    () => Promise.all([get<Record<string, unknown>>("/config"), get<Status>("/status")]),
    [],
  );
  if (!value) return <Wait error={error} />;
  const [config, status] = value;
  const { settings: s } = t;
  return (
    <>
      <Head title={s.title} />
      <Card title={s.gateway}>
        <Facts
          rows={[
            [s.version, status.version],
            [s.domain, status.domain],
            [s.calls, `${status.calls} ${s.of} ${status.limits.calls}`],
            [s.connections, status.flows],
            [
              s.remembered,
              `${status.recorder.calls}, ${Math.ceil(status.recorder.bytes / 1000)} kB`,
            ],
            [s.draining, status.draining ? s.yes : s.no],
          ]}
        />
      </Card>
      <search class="filters">
        <Search hint={s.find} value={find} onFind={set} />
      </search>
      <div class="masonry">
        {Object.entries(config).map(([name, part]) => (
          <Part key={name} name={name} value={part} find={find} />
        ))}
      </div>
    </>
  );
}
