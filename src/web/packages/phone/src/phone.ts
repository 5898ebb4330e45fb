import { UA } from "jssip";
import type { RTCSession } from "jssip/lib/RTCSession.js";
import { Call } from "./call.js";
import { Emitter } from "./emitter.js";
import { type Line, lineText, refusedLine } from "./line.js";
import { dialled } from "./number.js";
import { instanceId, resumable, resume, resumedCall } from "./resume.js";
import { Ringer, TOUCHES } from "./ringer.js";
import { type WatchedSocket, watchedSocket } from "./socket.js";
import { texts } from "./texts.js";

export interface PhoneOptions {
  /** `wss://calls.example.com/sip` */
  server: string;
  /** `sip:alice@calls.example.com` */
  uri: string;
  /** The name of the credentials, if it is not the user of `uri`. */
  username?: string;
  password?: string;
  /** Instead of `password`: MD5 of `username:realm:password`, and its realm. */
  ha1?: string;
  realm?: string;
  /** Instead of `password`: a JSON Web Token (RFC 8898). */
  jwt?: string;
  displayName?: string;
  iceServers?: RTCIceServer[];
  /** Whether others can call: `false` only calls out. Default: true. */
  register?: boolean;
  /** Whether calls are taken up again after a reload of the page. Default: true. */
  resume?: boolean;
  /** Calls at once; a further incoming one gets busy. Default: 2. */
  lines?: number;
  /** Where the call is played; without it an element of the phone's own. */
  audio?: HTMLAudioElement;
  /** Whether the phone rings, and plays a ring tone while they ring. Default: true. */
  ring?: boolean;
  /** How calls are made; read whenever one begins. */
  callOptions?: CallOptions;
}

/** What `POST /api/v1/credentials` answers, or `{ uri, ws, jwt }` of a server of your own. */
export interface Credentials {
  uri: string;
  ws?: string | null;
  username?: string;
  password?: string;
  jwt?: string;
  ice_servers?: RTCIceServer[];
}

/** The options for what the gateway gave your server. */
export const fromCredentials = (given: Credentials, server = ""): PhoneOptions => ({
  server: given.ws ?? server,
  uri: given.uri,
  username: given.username,
  password: given.password,
  jwt: given.jwt,
  iceServers: given.ice_servers,
});

export interface PhoneEvents {
  line: Line;
  /** A call begins, either way. */
  call: Call;
  /** Something about a call, or which one is active, has changed. */
  change: Phone;
}

/** How calls are made; every call takes what stands here when it begins. */
export interface CallOptions {
  mediaConstraints: { audio: MediaTrackConstraints; video: false };
  pcConfig: RTCConfiguration;
  mediaStream?: MediaStream;
}

/** Default call options: one bundle, and sound without echo and noise. */
export const callOptions = (iceServers: RTCIceServer[] = []): CallOptions => ({
  mediaConstraints: {
    audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    video: false,
  },
  pcConfig: { iceServers, bundlePolicy: "max-bundle" },
});

/** A line to a webtrunk gateway, and the calls on it. */
export class Phone extends Emitter<PhoneEvents> {
  readonly ua: UA;
  readonly ringer = new Ringer();
  readonly audio: HTMLAudioElement;
  readonly callOptions: CallOptions;
  line: Line = { state: "stopped" };
  /** The browser plays no sound before somebody has touched the page. */
  blocked = false;
  /** Calls that have not ended, oldest first. */
  calls: Call[] = [];
  /** The call that is heard; the others are on hold, or ring. */
  active: Call | null = null;
  #options: PhoneOptions;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #started = false;
  #socket: WatchedSocket;
  /** The calls that were taken up after a reload, once that is decided. */
  readonly resumed: Promise<Call[]>;
  #begin: () => void = () => {};

  constructor(options: PhoneOptions) {
    super();
    this.#options = options;
    this.audio = options.audio ?? new Audio();
    this.audio.autoplay = true;
    this.callOptions = options.callOptions ?? callOptions(options.iceServers);
    this.#socket = watchedSocket(options.server);
    // A user who is not called rings nowhere.
    const rung = options.resume !== false && options.register !== false;
    const instance = rung ? instanceId(options.uri) : undefined;
    this.ua = new UA({
      sockets: [this.#socket],
      uri: options.uri,
      register: options.register ?? true,
      register_expires: 600,
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 10,
      ...(options.username && { authorization_user: options.username }),
      ...(options.password && { password: options.password }),
      ...(options.ha1 && { ha1: options.ha1, realm: options.realm }),
      ...(options.jwt && { authorization_jwt: `Bearer ${options.jwt}` }),
      ...(options.displayName && { display_name: options.displayName }),
      ...(instance && { instance_id: instance }),
    });
    const begun = new Promise<void>((begin) => {
      this.#begin = begin;
    });
    this.resumed = begun.then(() => this.#resume());
    if (options.resume !== false) resumable(this.ua as never);
    this.#follow();
  }

  get ready(): boolean {
    return this.line.state === "ready";
  }

  /** Connects; fulfilled when calls can be made, rejected with the reason as text. */
  start(): Promise<void> {
    return new Promise((done, failed) => {
      const stop = this.on("line", (line) => {
        if (line.state === "connecting") return;
        stop();
        if (line.state === "ready") done();
        else failed(new Error(lineText(line)));
      });
      this.#started = true;
      this.ua.start();
    });
  }

  /** Ends all calls and the connection. */
  stop(): void {
    this.#started = false;
    clearTimeout(this.#retry);
    globalThis.removeEventListener?.("online", this.#online);
    globalThis.removeEventListener?.("offline", this.#offline);
    for (const touch of TOUCHES) globalThis.removeEventListener?.(touch, this.#again);
    this.ringer.stop();
    for (const call of [...this.calls]) call.hangUp();
    this.ua.stop();
    this.#set({ state: "stopped" });
  }

  /** Calls a number in any form, or a user; an active call is put on hold. */
  call(target: string): Call {
    const number = dialled(target);
    if (!number) throw new Error(texts().noNumber);
    if (this.calls.length >= this.#lines()) throw new Error(texts().noLine);
    if (!globalThis.isSecureContext) throw new Error(texts().microphone.insecure);
    this.ua.call(number, { ...this.callOptions, eventHandlers: {} });
    return this.calls[this.calls.length - 1];
  }

  /** Answers an incoming call; an active one is put on hold. */
  answer(call: Call): void {
    if (call.state !== "incoming") return;
    this.activate(call);
    call.session.answer(this.callOptions);
  }

  /** Talks on this call, and holds the others. */
  activate(call: Call): void {
    this.active = call;
    for (const other of this.calls) if (other !== call) other.hold(true);
    if (call.held) call.hold(false);
    this.#changed();
  }

  /** Uses this microphone, also in active calls; the empty string is the system's default. */
  async setMicrophone(id: string): Promise<void> {
    const { audio } = this.callOptions.mediaConstraints;
    if (id) audio.deviceId = { exact: id };
    else delete audio.deviceId;
    await Promise.all(this.calls.map((c) => c.useMicrophone(this.callOptions.mediaConstraints)));
  }

  /** Plays calls on this device; the empty string is the system's own. */
  async setSpeaker(id: string): Promise<void> {
    if ("setSinkId" in this.audio) await this.audio.setSinkId(id);
  }

  #lines(): number {
    return this.#options.lines ?? 2;
  }

  /** Takes the calls up again that the page had before it was reloaded. */
  async #resume(): Promise<Call[]> {
    if (this.#options.resume === false) return [];
    const call = { ...this.callOptions, eventHandlers: {} };
    const taken = await resume(this.ua as never, { call });
    return this.calls.filter((call) => taken.some(({ session }) => session === call.session));
  }

  #set(line: Line): void {
    this.line = line;
    this.emit("line", line);
    if (line.state === "ready") this.#begin();
    this.#changed();
  }

  #changed(): void {
    const { active } = this;
    this.#socket.watch(this.calls.some((call) => call.state === "connected"));
    if (active?.stream && this.audio.srcObject !== active.stream) {
      this.audio.srcObject = active.stream;
      void this.#play();
    }
    this.#ring();
    this.emit("change", this);
  }

  /** A page that was reloaded has not been touched: some browsers play nothing before it is. */
  async #play(): Promise<void> {
    const refused = await this.audio.play().then(
      () => false,
      (error: Error) => error.name === "NotAllowedError",
    );
    if (refused === this.blocked) return;
    this.blocked = refused;
    for (const touch of TOUCHES)
      if (refused) globalThis.addEventListener?.(touch, this.#again);
      else globalThis.removeEventListener?.(touch, this.#again);
    this.emit("change", this);
  }

  #again = () => void this.#play();

  #ring(): void {
    if (this.#options.ring === false) return;
    const incoming = this.calls.some((call) => call.state === "incoming");
    const talking = this.calls.some((call) => call.state === "connected");
    const ringing = this.active?.state === "ringing" && !this.active.earlyMedia;
    if (incoming) this.ringer.play(talking ? "waiting" : "ring");
    else if (ringing) this.ringer.play("ringback");
    else this.ringer.stop();
  }

  #online = () => {
    if (this.line.state !== "no-network") return;
    this.#set({ state: "connecting" });
    this.#reconnect();
  };
  #offline = () => {
    if (this.#started) this.#set({ state: "no-network" });
  };

  /** The network has changed: connections on the old one are dead, closed or not. */
  #reconnect(): void {
    if (!this.#started) return;
    const { ua } = this;
    // JsSIP reconnects on its own, at the latest after ten seconds. Where its socket has survived,
    // this tells whether it leads anywhere; new addresses the gateway asks for when it misses media.
    if (!ua.isConnected()) return;
    this.#socket.check();
    // What was registered still is; whether the way there has survived, the answer to this tells.
    if (this.#options.register === false || ua.isRegistered()) this.#set({ state: "ready" });
    if (this.#options.register !== false) ua.register();
  }

  /** Who does not register is known again by a request within each call. */
  #claim(): void {
    for (const { state, session } of this.calls)
      if (state === "connected")
        (session as RTCSession & { sendRequest(method: string): void }).sendRequest("OPTIONS");
  }

  #follow(): void {
    const { ua } = this;
    globalThis.addEventListener?.("online", this.#online);
    globalThis.addEventListener?.("offline", this.#offline);
    ua.on("connecting", ({ attempts }) => {
      if (this.#started && attempts === 1) this.#set({ state: "connecting" });
    });
    ua.on("connected", () => {
      if (this.#options.register !== false) return;
      this.#set({ state: "ready" });
      this.#claim();
    });
    ua.on("disconnected", () => {
      if (!this.#started) return;
      const offline = globalThis.navigator?.onLine === false;
      this.#set({ state: offline ? "no-network" : "unreachable" });
    });
    ua.on("registered", () => this.#set({ state: "ready" }));
    ua.on("unregistered", () => {
      if (this.#started && this.ready) this.#set({ state: "unreachable" });
    });
    ua.on("registrationFailed", ({ response, cause }) => {
      const line = refusedLine(response, String(cause));
      this.#set(line);
      clearTimeout(this.#retry);
      if (line.state === "locked-out")
        this.#retry = setTimeout(() => ua.register(), line.until.getTime() - Date.now() + 500);
    });
    ua.on("newRTCSession", ({ session }: { session: RTCSession }) => {
      if (this.calls.length >= this.#lines()) {
        session.terminate({ status_code: 486 });
        return;
      }
      const before = resumedCall(session) ?? null;
      this.#take(new Call(session, Boolean(this.#options.iceServers?.length), before));
    });
  }

  #take(call: Call): void {
    this.calls.push(call);
    call.on("change", () => this.#changed());
    call.on("ended", () => {
      this.calls = this.calls.filter((other) => other !== call);
      if (this.active === call) this.active = this.calls[0] ?? null;
    });
    const heard = call.resumed ? !call.resumed.held : call.direction === "outgoing";
    if (heard || !this.active) this.activate(call);
    this.emit("call", call);
    this.#changed();
  }
}
