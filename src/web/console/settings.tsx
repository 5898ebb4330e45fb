// The gateway and the settings it runs with.

import { get, type Sources, send, type Status } from "./api";
import { Card, Chip, Coded, Deed, Facts, Head, Search, Wait } from "./parts";
import { holds, scope, tell, useLoaded, useSearch } from "./store";
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

/** Names that the file says otherwise than `GET /config`. */
const AS_WRITTEN: Record<string, string> = {
  "api.tokens": "api.token",
  "api.users": "api.user",
  "api.metrics": "metrics.listen",
};

/** The key of the file that a setting is written by: durations have their unit in the value. */
function written(name: string, sources: Sources): string | null {
  const key = AS_WRITTEN[name] ?? name;
  for (let of = key; of.includes("."); of = of.slice(0, of.lastIndexOf(".")))
    for (const candidate of [of, of.replace(/_s$/, "")])
      if (candidate in sources.lines && (of === key || !isTable(candidate, sources)))
        return candidate;
  return null;
}

/** Whether a key holds others: then its line says nothing of one that is not there. */
const isTable = (key: string, { lines }: Sources) =>
  Object.keys(lines).some((other) => other.startsWith(`${key}.`));

function Origin({ name, sources }: { name: string; sources: Sources }) {
  const { settings: s } = t;
  const key = written(name, sources);
  const file = AS_WRITTEN[name] ?? name.replace(/_s$/, "");
  const waits = sources.restart_keys.some((k) => file === k || file.startsWith(`${k}.`));
  return (
    <small class="soft">
      {key ? s.line(sources.lines[key]) : sources.file ? s.byDefault : s.builtIn}
      {waits && `, ${s.restart}`}
    </small>
  );
}

function Part({
  name,
  value,
  find,
  sources,
}: {
  name: string;
  value: unknown;
  find: string;
  sources: Sources;
}) {
  const rows = flat("", value).filter(([key, v]) => holds(find, `${name}.${key}`, shown(v)));
  if (!rows.length) return null;
  return (
    <Card title={`[${name}]`}>
      <Facts
        kind="lines"
        rows={rows.map(([key, v]) => [
          key,
          <span key={key} class="setting">
            <Value value={v} />
            <Origin name={key ? `${name}.${key}` : name} sources={sources} />
          </span>,
        ])}
      />
    </Card>
  );
}

async function reload() {
  const done = await send<{ changed: string[]; needs_restart: string[] }>("/reload", "POST");
  if (done.changed.length) tell(done.changed.join(", "), false, "en");
  else tell(t.settings.nothingChanged);
}

/** What a reload would change, of the file as it is now. */
function Foretold({ sources }: { sources: Sources }) {
  const { settings: s } = t;
  const { changed, needs_restart: waits, problem } = sources.reload;
  const none = !changed.length && !waits.length && !problem;
  return (
    <Card
      title={s.reload}
      id="reload"
      side={
        sources.file && (
          <Deed needs="admin" act={reload}>
            {s.reloadNow}
          </Deed>
        )
      }
    >
      <p class="soft">
        {sources.file ? (
          <>
            {s.file} <code>{sources.file}</code>
          </>
        ) : (
          s.noFile
        )}
      </p>
      {problem && (
        <pre class="problem" role="alert" lang="en">
          {problem}
        </pre>
      )}
      {none && sources.file && <p>{s.nothingChanges}</p>}
      {(changed.length > 0 || waits.length > 0) && (
        <ul lang="en">
          {changed.map((change) => (
            <li key={change}>{change}</li>
          ))}
          {waits.map((key) => (
            <li key={key}>
              <code>{key}</code> <Chip tone="wait">{s.restart}</Chip>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

const DAY = 86_400_000;

function Certificates({ sources }: { sources: Sources }) {
  const { settings: s } = t;
  const state = (ends: string | null) => {
    if (!ends) return null;
    const days = Math.floor((Date.parse(ends) - Date.now()) / DAY);
    const tone = days < 7 ? "bad" : days < 21 ? "wait" : "good";
    return (
      <>
        {new Date(ends).toLocaleDateString()} <Chip tone={tone}>{s.days(days)}</Chip>
      </>
    );
  };
  return (
    <Card title={s.certificates} id="certificates">
      {sources.certificates.length ? (
        <Facts
          kind="lines"
          rows={sources.certificates.map((c) => [
            c.setting,
            <span key={c.setting} class="setting">
              <span>{state(c.ends)}</span>
              <small class="soft">{c.names.join(", ")}</small>
            </span>,
          ])}
        />
      ) : (
        <p class="soft">
          <Coded text={s.noCertificate} />
        </p>
      )}
    </Card>
  );
}

function Ports({ sources }: { sources: Sources }) {
  const range = (first: number, last: number) => {
    if (!first) return t.settings.anyPort;
    return first === last ? first : `${first}–${last}`;
  };
  return (
    <Card title={t.settings.ports} id="ports">
      <Facts
        kind="lines"
        rows={sources.ports.map((p) => [
          `${p.protocol} ${range(p.first, p.last)}`,
          <span key={p.for} lang="en">
            {p.for}
          </span>,
        ])}
      />
    </Card>
  );
}

function OfFile({
  config,
  sources,
  find,
  set,
}: {
  config: Record<string, unknown>;
  sources: Sources;
  find: string;
  set: (typed: string) => void;
}) {
  return (
    <>
      <Foretold sources={sources} />
      <div class="halves">
        <Ports sources={sources} />
        <Certificates sources={sources} />
      </div>
      <search class="filters">
        <Search hint={t.settings.find} value={find} onFind={set} />
      </search>
      <div class="masonry">
        {Object.entries(config).map(([name, part]) => (
          <Part key={name} name={name} value={part} find={find} sources={sources} />
        ))}
      </div>
    </>
  );
}

export function Settings() {
  const [find, set] = useSearch();
  const admin = scope.use() === "admin";
  // The file is for administrators; how the gateway is, for everybody who is in.
  const file = () =>
    Promise.all([get<Record<string, unknown>>("/config"), get<Sources>("/config/sources")]);
  const { value, error } = useLoaded(
    () => Promise.all([get<Status>("/status"), admin ? file() : null]),
    [admin],
  );
  if (!value) return <Wait error={error} />;
  const [status, known] = value;
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
      {!known && <p class="soft">{s.forAdmins}</p>}
      {known && <OfFile config={known[0]} sources={known[1]} find={find} set={set} />}
    </>
  );
}
