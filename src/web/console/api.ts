// What the console asks of the gateway: /api/v1, its lists page by page, and its events.

import { t } from "./texts";

export interface Verdict {
  code: string | null;
  title: string | null;
  sentence: string;
  side: string;
  likely: string | null;
  fix: string | null;
}

/** A node of the cluster. */
export interface Node {
  node: string;
  this: boolean;
  state: string;
  lease_s: number | null;
  address: string;
  version: string;
  calls: number;
  registrations: number;
  calls_left: number;
  draining: boolean;
  took: string[];
  config_differs: boolean;
}

/** A line of the list of calls. */
export interface CallLine {
  call: string;
  /** The node that has it, in a list of several. */
  node?: string;
  state: string;
  start: string;
  from: string;
  from_number: string;
  from_name: string;
  to: string;
  with: string | null;
  direction: string;
  outcome: string | null;
  sip_code: number | null;
  code: string | null;
  verdict: string | null;
  talked_s: number | null;
  seconds: number;
  mos_estimated: number | null;
  codecs: string[];
}

export interface Leg {
  leg: string;
  codec: string | null;
  packets_in: number;
  packets_lost: number;
  packets_out: number;
  jitter_ms: number | null;
  rtt_ms: number | null;
  /** Percent. */
  loss_reported: number | null;
  jitter_reported_ms?: number | null;
  mos_in_estimated: number | null;
  mos_out_estimated: number | null;
  srtp: string | null;
  ice_ms: number | null;
  dtls_ms: number | null;
  peer_formats: string[];
}

/** A call, as its record has it. */
export interface Call {
  call: string;
  state: string;
  start: string;
  answer: string | null;
  end: string | null;
  from: { user: string; number: string; name: string; shown: string; ua: string };
  to: { dialled: string; number: string };
  direction: string;
  context: string;
  route: string | null;
  attempts: { target: string; code: number; ms: number }[];
  answered_by: string | null;
  setup_ms: number | null;
  duration_s: number;
  billable_s: number;
  hangup_by: string | null;
  outcome: string | null;
  code: string | null;
  sip_code: number | null;
  why: string;
  legs: Leg[];
  tags: Record<string, string>;
  verdict: Verdict | null;
  mos_estimated: number | null;
}

export interface Sample {
  at_ms: number;
  jitter_ms: number | null;
  lost: number;
  received: number;
  sent: number;
  reported_loss_percent: number | null;
  rtt_ms: number | null;
  mos_estimated: number | null;
  level_dbov: number | null;
  // A node of a version before has none of these.
  reported_jitter_ms?: number | null;
  reported_mos_estimated?: number | null;
  played_level_dbov?: number | null;
}

export interface Quality {
  legs: (Leg & { series: Sample[]; began_ms: number | null })[];
}

export interface Rule {
  line: string | null;
  from: string | null;
  why: string;
}

export type Row =
  | {
      kind: "message";
      at_s: number;
      lane: number;
      sent: boolean;
      repeated: boolean;
      summary: string;
      text: string;
      rules: Rule[];
    }
  | { kind: "route"; at_s: number; route: string; pattern: string; why_not: string | null }
  | { kind: "event"; at_s: number; text: string; code: string | null };

export interface Ladder {
  headline: string;
  lanes: string[];
  rows: Row[];
  verdict: Verdict | null;
}

export interface Trunk {
  trunk: string;
  node?: string;
  state: string;
  usable: boolean;
  since_s: number | null;
  calls: number;
  max_calls: number | null;
  asr: number | null;
  ner: number | null;
  attempts: number;
  options_ms: number | null;
  pdd_ms_p50: number | null;
  pdd_ms_p95: number | null;
  mos_estimated: number | null;
  probes_missed: number;
  uri: string | null;
  registered_from: string | null;
  registrations: unknown[];
  history: { at: string; state: string; why: string | null }[];
  context: string | null;
  code: string | null;
  why_not: string | null;
  last_failure: string | null;
  /** Status 0: nobody answered. */
  last_call_failure: { sip_code: number; ago_s: number } | null;
}

/** Where settings come from, and what the gateway listens on and shows. */
export interface Sources {
  file: string | null;
  lines: Record<string, number>;
  restart_keys: string[];
  reload: { changed: string[]; needs_restart: string[]; problem: string | null };
  ports: { protocol: string; first: number; last: number; for: string }[];
  certificates: { setting: string; names: string[]; ends: string | null }[];
}

export interface Registration {
  user: string;
  node?: string;
  remote: string | null;
  expires_s: number;
  q: number;
  instance: string | null;
  user_agent?: string | null;
}

/** A registration that came or went, or a login that was refused. */
export interface Login {
  at: string;
  type: string;
  user: string;
  remote: string | null;
  user_agent: string | null;
  why: string | null;
  code: string | null;
  fix: string | null;
  more: number | null;
}

export interface Status {
  version: string;
  domain: string;
  calls: number;
  flows: number;
  registrations: number;
  draining: boolean;
  longest_call_s: number | null;
  limits: { calls: number };
  recorder: { calls: number; bytes: number };
}

export interface Considered {
  route: string;
  pattern: string;
  why_not: string | null;
}

export interface Tested {
  dialled: string;
  number: string;
  considered: Considered[];
  route: string | null;
  steps: string[];
}

export interface Context {
  context: string;
  routes: { route: string; steps: string[] }[];
}

export interface Mark {
  file?: string;
  line?: number;
  message: string;
  fix: string;
  warning: boolean;
}

export interface Files {
  files: { file: string; text: string; marks: Mark[] }[];
  elsewhere: Mark[];
}

export interface Delivery {
  id: string;
  type: string;
  began: string;
  call: string | null;
  tries: number;
  state: string;
  why: string | null;
  body: unknown;
}

/** What a request was refused with (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    body: { detail?: string; fix?: string },
  ) {
    super(body.detail ?? t.answered(status));
    this.fix = body.fix;
  }
  readonly fix?: string;
}

let token: string | null = null;

/** The token of whoever has one; a person's session comes by its cookie. */
export function useToken(text: string | null) {
  token = text;
}

const bearer = (): Record<string, string> => (token ? { Authorization: `Bearer ${token}` } : {});

/** What a view waits for an answer at most; a file that is downloaded may take longer. */
const LONGEST_MS = 30_000;

export async function ask(path: string, method = "GET", body?: unknown, accept?: string) {
  const headers: Record<string, string> = {
    Accept: accept ?? "application/json",
    ...bearer(),
  };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(`api/v1${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: method === "GET" && !accept ? AbortSignal.timeout(LONGEST_MS) : undefined,
  }).catch(() => {
    // Every browser has words of its own for that.
    throw new Error(t.noAnswer);
  });
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  return response;
}

export async function get<T>(path: string): Promise<T> {
  return (await ask(path)).json();
}

export async function send<T>(path: string, method: string, body?: unknown): Promise<T> {
  return (await ask(path, method, body)).json();
}

/** The newest of a list, page after page, and whether there are more. */
export async function listed<T>(path: string, query: URLSearchParams, most: number) {
  const items: T[] = [];
  for (let next: string | undefined = `?${query}`; next && items.length < most; ) {
    const response: Response = await ask(`${path}${next}`);
    items.push(...((await response.json()) as T[]));
    next = /<(\?[^>]*)>; rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
    if (!next) return { items, more: false };
  }
  return { items, more: true };
}

/** A path of another node, where one is named. */
export function ofNode(path: string, node?: string | null) {
  if (!node) return path;
  return `${path}${path.includes("?") ? "&" : "?"}${new URLSearchParams({ node })}`;
}

/** As many entries as the API lists at most. */
const MOST_LISTED = 1000;

/** Whether the gateway was alone when it was asked last. */
let alone = false;

/** The nodes of the cluster, or none. */
export async function nodesOf() {
  const nodes = await get<Node[]>("/nodes");
  alone = nodes.length < 2;
  return nodes;
}

/** What a node lists, or all of them; the gateway itself where it is alone. */
export async function ofNodes<T>(
  path: string,
  query: URLSearchParams,
  most: number,
  node: string | null,
) {
  // It mostly is what it was: then its answer does not wait for that.
  const [nodes, first] = await Promise.all([
    nodesOf(),
    alone ? listed<T>(path, query, most) : undefined,
  ]);
  const silent: string[] = [];
  // Of a node that is gone nothing is shown as if it were its own.
  const own = nodes.length < 2 && (!node || !nodes.length || nodes[0].node === node);
  if (own) return { ...(first ?? (await listed<T>(path, query, most))), nodes, silent };
  const asked = new URLSearchParams(query);
  asked.set("node", node ?? "all");
  if (query.has("limit")) asked.set("limit", String(Math.min(most, MOST_LISTED)));
  const response = await ask(`${path}?${asked}`);
  const items = (await response.json()) as (T & { node?: string })[];
  if (node) for (const item of items) item.node = node;
  silent.push(...(response.headers.get("X-Webtrunk-Unanswered")?.split(", ") ?? []));
  const more = query.has("limit") && items.length >= most && most < MOST_LISTED;
  return { items, more, nodes, silent };
}

/**
 * Calls `heard` with the name of each event, for as long as `stop` has not been raised, and `gone`
 * with the time since when the gateway does not answer, or `null` once it does.
 */
export async function follow(
  heard: (type: string) => void,
  stop: AbortSignal,
  refused: (problem: Problem) => void,
  gone: (since: Date | null) => void,
) {
  let last = "";
  let away = false;
  let since = new Date();
  while (!stop.aborted) {
    let answered = false;
    try {
      const headers = bearer();
      if (last) headers["Last-Event-ID"] = last;
      const response = await fetch("api/v1/events", { headers, signal: stop });
      if (response.status === 401 || response.status === 403)
        return refused(new Problem(response.status, await response.json()));
      // What stands before the gateway says that it is away.
      if (!response.ok) throw new Error(t.answered(response.status));
      answered = true;
      gone(null);
      // What failed meanwhile is asked for again.
      if (away) heard("back");
      away = false;
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      if (!reader) return;
      for (let text = "", part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
        const events = text.split("\n\n");
        text = events.pop() ?? "";
        for (const event of events) {
          last = /^id: ?(.*)$/m.exec(event)?.[1] ?? last;
          const type = /^event: ?(.*)$/m.exec(event)?.[1];
          if (type) heard(type);
        }
      }
    } catch {
      // The gateway restarts; it will be back.
    }
    if (stop.aborted) return;
    // A stream that ends may begin again at once: nobody is told of that.
    if (answered) since = new Date();
    else gone(since);
    away = true;
    await new Promise((done) => setTimeout(done, 2000));
  }
}

/** Saves what the API answers as a file. */
export async function save(path: string, name: string) {
  const response = await ask(path, "GET", undefined, "*/*");
  saveBlob(await response.blob(), name);
}

export function saveBlob(blob: Blob, name: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
