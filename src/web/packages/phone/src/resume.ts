// Takes calls up again after a reload: what names a call's dialog is kept in the tab, and the page
// that comes next makes an INVITE with Replaces (RFC 3891) of it. For JsSIP and SIP.js, of which
// nothing is imported.

/** What a page must know to take a call up again. */
export interface KeptCall {
  /** Names the call across reloads. */
  id: string;
  /** Whose call it is: `sip:alice@calls.example.com`. */
  account: string;
  callId: string;
  localTag: string;
  remoteTag: string;
  direction: "incoming" | "outgoing";
  /** The other side: number or user, and the name that came with it. */
  number: string;
  name: string;
  /** When it was answered, in milliseconds since 1970. */
  startedAt: number;
  /** Whether the page held the call, and whether it had muted the microphone. */
  held: boolean;
  muted: boolean;
}

/** A call that was taken up. */
export interface ResumedCall<Session = unknown> {
  session: Session;
  call: KeptCall;
}

/** What `invite` passes on to SIP.js: to the Inviter and to its `invite()`. */
export interface ResumeRequest {
  extraHeaders: string[];
  requestDelegate: { onReject(response: { message: { statusCode?: number } }): void };
}

export interface ResumeOptions<Session = unknown> {
  /** How JsSIP makes the call: the options of `ua.call()`. */
  call?: object;
  /**
   * SIP.js: makes the call by `new Inviter(agent, target, { extraHeaders })` and
   * `inviter.invite({ requestDelegate })`, and returns the Inviter.
   */
  invite?(uri: string, request: ResumeRequest, call: KeptCall): Session;
  /** Called for a call that could not be resumed, with a status and a reason. */
  lost?(call: KeptCall, status: number | null, reason: string): void;
  /** How long it is tried, in milliseconds. Default: 30,000, as long as the gateway waits. */
  patience?: number;
}

/** A call that is kept; SIP.js does not say of itself whether it is held or muted. */
export interface Kept {
  note(state: Partial<Pick<KeptCall, "held" | "muted">>): void;
  /** Keeps it no longer: a reload ends the call. */
  forget(): void;
}

interface JsSipSession {
  direction: string;
  remote_identity: { uri: { user: string }; display_name?: string };
  on(name: string, listener: (event: never) => void): unknown;
  isEstablished(): boolean;
  isEnded(): boolean;
  isMuted(): { audio?: boolean };
  isOnHold(): { local: boolean };
  mute(what: object): void;
  hold(): boolean;
}
interface JsSipAgent {
  on(name: string, listener: (event: never) => void): unknown;
  call(target: string, options: object): JsSipSession;
  configuration: { uri: { toString(): string } };
  isConnected(): boolean;
}
interface SipJsSession {
  state: string;
  stateChange: { addListener(listener: (state: string) => void): void };
  dialog?: { callId: string; localTag: string; remoteTag: string };
  remoteIdentity: { uri: { user?: string }; displayName: string };
  userAgent: SipJsAgent;
}
interface SipJsAgent {
  configuration: { uri: { toString(): string } };
  isConnected(): boolean;
}

export type AnyAgent = JsSipAgent | SipJsAgent;
export type AnySession = JsSipSession | SipJsSession;

const KEY = "webtrunk-resume";
const INSTANCE = "webtrunk-instance";
/** Calls whose page has been gone for so long are not asked for, in milliseconds. */
const STALE = 10 * 60_000;
/** How long the page before may take to let go of its call, in milliseconds. */
const LET_GO = 2000;
const AGAIN = 1000;
/** What a later attempt may change. */
const PASSING = new Set([408, 480, 491, 500, 502, 503, 504]);

/** Whether another attempt to take a call up may do better than one that ended so. */
export const isPassing = (status: number | null): boolean => status === null || PASSING.has(status);

const isJsSipAgent = (agent: AnyAgent): agent is JsSipAgent => "call" in agent;
const isSipJsSession = (session: AnySession): session is SipJsSession => "stateChange" in session;
/** Whose calls a user agent makes: `sip:alice@calls.example.com`. */
export const accountOf = (agent: AnyAgent): string => agent.configuration.uri.toString();
const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));
const newId = () => globalThis.crypto?.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

// ---- what the tab keeps

type Stored = KeptCall & { leftAt?: number };

function read(): Stored[] {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

function write(calls: Stored[]): void {
  try {
    if (calls.length) sessionStorage.setItem(KEY, JSON.stringify(calls));
    else sessionStorage.removeItem(KEY);
  } catch {
    // A browser that keeps nothing: a reload ends the call.
  }
}

const store = (call: Stored) => write([...read().filter((c) => c.id !== call.id), call]);
const forget = (id: string) => write(read().filter((call) => call.id !== id));

let marks = false;
/** A page that leaves says when, so that the next one knows what is worth asking for. */
function markWhenLeaving(): void {
  if (marks) return;
  marks = true;
  addEventListener("pagehide", () => {
    write(read().map((call) => (locks.has(call.id) ? { ...call, leftAt: Date.now() } : call)));
  });
}

// ---- whose call it is

/**
 * The locks of this page's calls. A tab that is duplicated takes what its tab keeps along; the
 * lock of a call that goes on there is held there, and goes with its page, however that ends.
 */
const locks = new Map<string, () => void>();

async function take(id: string, fresh = false): Promise<boolean> {
  if (locks.has(id)) return false;
  const { locks: manager } = navigator;
  if (!manager) {
    // Not known: of a page that was reloaded it can only be its own.
    if (fresh || wasReloaded()) locks.set(id, () => {});
    return locks.has(id);
  }
  return new Promise((done) => {
    const signal = AbortSignal.timeout(LET_GO);
    const held = () =>
      new Promise<void>((release) => {
        locks.set(id, release);
        done(true);
      });
    manager.request(`${KEY}-${id}`, { signal }, held).catch(() => done(false));
  });
}

function release(id: string): void {
  locks.get(id)?.();
  locks.delete(id);
}

const wasReloaded = () => {
  const [entry] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  return entry?.type === "reload";
};

const given = new Set<string>();

/**
 * A UUID that is the tab's over reloads, for JsSIP's `instance_id` and SIP.js's `instanceId`: what
 * rings when the page is reloaded rings again. `of` tells lines of one page apart. `undefined`
 * where the browser makes none.
 */
export function instanceId(of = ""): string | undefined {
  const key = `${INSTANCE} ${of}`;
  const fresh = globalThis.crypto?.randomUUID?.();
  if (given.has(key)) return fresh;
  given.add(key);
  try {
    // A tab that was duplicated, or opened by another, has its own from now on.
    const id = (wasReloaded() && sessionStorage.getItem(key)) || fresh;
    if (id) sessionStorage.setItem(key, id);
    return id;
  } catch {
    return fresh;
  }
}

// ---- keeping

const sessions = new WeakMap<object, Kept>();
const origins = new WeakMap<object, KeptCall>();
/** The call that is being taken up, while its session is made. */
let resuming: KeptCall | null = null;

/** The call that a session takes up again, if it does. */
export const resumedCall = (session: object): KeptCall | undefined => origins.get(session);

/**
 * Keeps the calls of a JsSIP user agent, or one session of either library, so that
 * {@link resume} takes them up after a reload. Call it before the user agent is started, or where
 * the session is made.
 */
export function resumable(of: JsSipAgent | AnySession): Kept | undefined {
  markWhenLeaving();
  if ("stateChange" in of) return keep(of, null);
  if (!("call" in of)) return undefined;
  of.on("newRTCSession", ({ session }: { session: JsSipSession }) => {
    keep(session, of);
  });
  return undefined;
}

function keep(session: AnySession, agent: JsSipAgent | null): Kept {
  const known = sessions.get(session);
  if (known) return known;
  const before = resuming;
  if (before) origins.set(session, before);
  const id = before?.id ?? newId();
  let call: KeptCall | null = null;
  const kept: Kept = {
    note(state) {
      if (call) store(Object.assign(call, state));
    },
    forget() {
      // A call that could not be taken up is for `resume` to forget.
      if (!call) return;
      call = null;
      forget(id);
      release(id);
    },
  };
  const begun = async (now: Omit<KeptCall, "id" | "startedAt" | "held" | "muted">) => {
    if (call) return;
    const { number, name, direction, startedAt, held, muted } = before ?? {
      ...now,
      startedAt: Date.now(),
      held: false,
      muted: false,
    };
    call = { ...now, id, number, name, direction, startedAt, held, muted };
    store(call);
    if (!before) await take(id, true);
  };
  sessions.set(session, kept);
  if (isSipJsSession(session)) followSipJs(session, begun, kept);
  else followJsSip(session, agent as JsSipAgent, begun, kept);
  return kept;
}

type Begun = (call: Omit<KeptCall, "id" | "startedAt" | "held" | "muted">) => Promise<void>;

function followJsSip(session: JsSipSession, agent: JsSipAgent, begun: Begun, kept: Kept): void {
  session.on("accepted", () => {
    const { _request, _from_tag, _to_tag } = session as unknown as {
      _request: { call_id: string };
      _from_tag: string;
      _to_tag: string;
    };
    const incoming = session.direction === "incoming";
    void begun({
      account: accountOf(agent),
      callId: _request.call_id,
      localTag: incoming ? _to_tag : _from_tag,
      remoteTag: incoming ? _from_tag : _to_tag,
      direction: incoming ? "incoming" : "outgoing",
      number: session.remote_identity.uri.user,
      name: session.remote_identity.display_name ?? "",
    });
  });
  const note = () =>
    kept.note({ held: session.isOnHold().local, muted: Boolean(session.isMuted().audio) });
  for (const name of ["hold", "unhold", "muted", "unmuted"]) session.on(name, note);
  for (const name of ["ended", "failed"]) session.on(name, kept.forget);
}

function followSipJs(session: SipJsSession, begun: Begun, kept: Kept): void {
  const on = (state: string) => {
    const { dialog, remoteIdentity } = session;
    if (state === "Terminated") kept.forget();
    if (state !== "Established" || !dialog) return;
    void begun({
      account: accountOf(session.userAgent),
      callId: dialog.callId,
      localTag: dialog.localTag,
      remoteTag: dialog.remoteTag,
      direction: "accept" in session ? "incoming" : "outgoing",
      number: remoteIdentity.uri.user ?? "",
      name: remoteIdentity.displayName,
    });
  };
  session.stateChange.addListener(on);
  on(session.state);
}

// ---- taking up

/** How an attempt ended: taken up, or refused with a status. */
interface Outcome {
  done: boolean;
  status: number | null;
  reason: string;
}

/**
 * Takes the calls up that the page before had, and that no other tab has. Fulfilled when each was
 * taken up or lost; it waits for the user agent to be connected, and for the microphone.
 */
export async function resume<Session = unknown>(
  agent: AnyAgent,
  options: ResumeOptions<Session> = {},
): Promise<ResumedCall<Session>[]> {
  markWhenLeaving();
  const account = accountOf(agent);
  const mine = read().filter((call) => call.account === account && !locks.has(call.id));
  const taken: ResumedCall<Session>[] = [];
  // One after the other: the one that is not held comes last, and is the one that is heard.
  for (const call of mine.sort((a, b) => Number(b.held) - Number(a.held))) {
    const stale = call.leftAt !== undefined && Date.now() - call.leftAt > STALE;
    if (stale || !(await take(call.id))) {
      // Of another tab it is not this one's to forget: what is kept here is a copy.
      forget(call.id);
      continue;
    }
    const session = await takeUp(agent, call, options);
    if (session) taken.push({ session, call });
  }
  return taken;
}

/** The calls that this tab keeps; a tab that was duplicated keeps those of the other one too. */
export const keptCalls = (): KeptCall[] => read();

async function takeUp<Session>(
  agent: AnyAgent,
  call: KeptCall,
  options: ResumeOptions<Session>,
): Promise<Session | null> {
  const end = Date.now() + (options.patience ?? 30_000);
  let last: Outcome = { done: false, status: null, reason: "the gateway does not answer" };
  while (Date.now() < end) {
    if (!agent.isConnected()) {
      await sleep(50);
      continue;
    }
    const { session, outcome } = attempt(agent, call, options);
    last = await outcome;
    if (last.done) return session;
    if (!isPassing(last.status)) break;
    await sleep(AGAIN);
  }
  forget(call.id);
  release(call.id);
  options.lost?.(call, last.status, last.reason);
  return null;
}

function attempt<Session>(
  agent: AnyAgent,
  call: KeptCall,
  options: ResumeOptions<Session>,
): { session: Session; outcome: Promise<Outcome> } {
  const { callId, localTag, remoteTag, number, account } = call;
  // The number is for people: the gateway goes by Replaces.
  const user = encodeURIComponent(number || "call").replaceAll("%2B", "+");
  const uri = `sip:${user}@${account.split("@")[1]}`;
  const extraHeaders = [
    `Replaces: ${callId};to-tag=${remoteTag};from-tag=${localTag}`,
    "Require: replaces",
  ];
  resuming = call;
  try {
    if (isJsSipAgent(agent)) {
      const session = agent.call(uri, { ...options.call, extraHeaders });
      keep(session, agent);
      return { session: session as Session, outcome: outcomeOfJsSip(session, call) };
    }
    if (!options.invite) throw new Error("resume() needs options.invite for SIP.js");
    let status: number | null = null;
    const onReject = (response: { message: { statusCode?: number } }) => {
      status = response.message.statusCode ?? null;
    };
    const session = options.invite(uri, { extraHeaders, requestDelegate: { onReject } }, call);
    keep(session as AnySession, null);
    return { session, outcome: outcomeOfSipJs(session as SipJsSession, () => status) };
  } finally {
    resuming = null;
  }
}

function outcomeOfJsSip(session: JsSipSession, call: KeptCall): Promise<Outcome> {
  return new Promise((done) => {
    session.on("accepted", () => {
      if (call.muted) session.mute({ audio: true });
    });
    session.on("confirmed", () => {
      if (call.held) session.hold();
      done({ done: true, status: 200, reason: "" });
    });
    session.on("failed", (event: { cause: string; message?: { status_code?: number } }) => {
      const local = /^User Denied|^WebRTC/.test(event.cause);
      const status = event.message?.status_code ?? (local ? 0 : null);
      done({ done: false, status, reason: event.cause });
    });
  });
}

function outcomeOfSipJs(session: SipJsSession, status: () => number | null): Promise<Outcome> {
  return new Promise((done) => {
    const on = (state: string) => {
      if (state === "Established") done({ done: true, status: 200, reason: "" });
      // The outcome of the rejection is reported after the state.
      if (state === "Terminated")
        setTimeout(() => done({ done: false, status: status(), reason: `status ${status()}` }));
    };
    session.stateChange.addListener(on);
    on(session.state);
  });
}
