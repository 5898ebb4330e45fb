import type { EndEvent, IncomingEvent, OutgoingEvent, RTCSession } from "jssip/lib/RTCSession.js";
import { Emitter } from "./emitter.js";
import { type Counters, count, judge, type Quality } from "./quality.js";
import { isPassing, type KeptCall } from "./resume.js";
import { texts } from "./texts.js";
import {
  type MicrophoneProblem,
  microphoneProblem,
  microphoneText,
  reasonText,
  statusText,
} from "./words.js";

/**
 * `calling`: sent, nothing heard yet; `ringing`: it rings over there; `incoming`: it rings here;
 * `connected`: answered; `ended`.
 */
export type CallState = "calling" | "ringing" | "incoming" | "connected" | "ended";

/** How a call ended. */
export interface CallEnd {
  /** `us`, `them`, or `nobody` when something failed in between. */
  by: "us" | "them" | "nobody";
  failed: boolean;
  /** A sentence for a person; empty when there is nothing to say. */
  text: string;
  /** The gateway's own words (`Reason`), or JsSIP's cause. */
  reason: string;
  /** The SIP status, if there was one. */
  code: number | null;
  microphone: MicrophoneProblem | null;
  /** From answer to end. */
  seconds: number;
  /** It was not taken up, and is tried again. */
  again: boolean;
  /** It was transferred while it rang, and continues without us. */
  handedOver: boolean;
}

export interface CallEvents {
  /** Anything changed: state, mute, hold, quality, digits, stream. */
  change: Call;
  ended: CallEnd;
  quality: Quality;
}

/** How a transfer ended. */
export interface Transferred {
  done: boolean;
  text: string;
}

/** What JsSIP's session knows of its dialogs. */
interface Dialogs {
  _request: { call_id: string };
  _from_tag: string;
  _to_tag: string;
  _earlyDialogs: Record<string, { id: { local_tag: string; remote_tag: string } }>;
}

/** What JsSIP reads of a session whose dialog is to be replaced. */
const named = ({ _request }: Dialogs, _to_tag: string, _from_tag: string) =>
  ({ _request, _to_tag, _from_tag }) as unknown as RTCSession;

/** One call. Made by `Phone.call()`, or delivered by the phone's event `call`. */
export class Call extends Emitter<CallEvents> {
  /** JsSIP's session underneath, for what is not here. */
  readonly session: RTCSession;
  readonly id: string;
  readonly direction: "incoming" | "outgoing";
  /** The other side: number or user, and the name that came with it. */
  readonly number: string;
  readonly name: string;
  readonly began: Date;
  /** What the page before knew of it, if it is taken up after a reload; else `null`. */
  readonly resumed: KeptCall | null;
  state: CallState;
  connectedAt: Date | null = null;
  end: CallEnd | null = null;
  /** What they say. */
  stream: MediaStream | null = null;
  /** Whether something is heard before the answer (an announcement, a ring tone of theirs). */
  earlyMedia = false;
  /** Digits sent so far. */
  digits = "";
  quality: Quality | null = null;
  /** Whether the way of the sound is broken; another one is looked for. */
  interrupted = false;
  /** Whether a transfer of this call is under way. */
  transferring = false;
  #held = false;
  #timer: ReturnType<typeof setInterval> | undefined;
  #microphone: MicrophoneProblem | null = null;
  /** It rings on for somebody else. */
  #left = false;

  constructor(session: RTCSession, withIce: boolean, resumed: KeptCall | null = null) {
    super();
    this.session = session;
    this.id = session.id;
    this.resumed = resumed;
    const incoming = session.direction === "incoming";
    this.state = incoming ? "incoming" : "calling";
    this.direction = resumed?.direction ?? (incoming ? "incoming" : "outgoing");
    this.number = resumed?.number ?? session.remote_identity.uri.user;
    this.name = resumed?.name ?? session.remote_identity.display_name ?? "";
    this.began = resumed ? new Date(resumed.startedAt) : new Date();
    if (resumed) this.connectedAt = this.began;
    // Without a TURN server one candidate is enough: the gateway answers checks from wherever they
    // come.
    if (!withIce) session.on("icecandidate", (event) => event.ready());
    this.#follow();
  }

  get muted(): boolean {
    return Boolean(this.session.isMuted().audio);
  }
  /** Whether we hold the call, and whether they do. */
  get held(): boolean {
    return this.session.isOnHold().local;
  }
  get heldByThem(): boolean {
    return this.session.isOnHold().remote;
  }
  /** What we say; `null` before the microphone is open. */
  get microphone(): MediaStreamTrack | null {
    return this.#sender()?.track ?? null;
  }
  /** From answer until now, or until the end. */
  get seconds(): number {
    if (this.end) return this.end.seconds;
    return this.connectedAt ? Math.floor((Date.now() - this.connectedAt.getTime()) / 1000) : 0;
  }

  /** Hangs up, cancels, or declines, whatever fits. */
  hangUp(): void {
    if (this.state === "ended") return;
    this.session.terminate(this.state === "incoming" ? { status_code: 603 } : undefined);
  }

  mute(on = true): void {
    if (on) this.session.mute({ audio: true });
    else this.session.unmute({ audio: true });
    this.#changed();
  }

  /** Holds or resumes; repeated until the signalling is free for it. */
  hold(on = true): void {
    this.#held = on;
    const tries = (left: number) => {
      if (this.state !== "connected" || this.#held !== on || this.held === on) return;
      const begun = on ? this.session.hold() : this.session.unhold();
      if (!begun && left > 0) setTimeout(() => tries(left - 1), 200);
    };
    tries(50);
  }

  /** Sends digits: `0` to `9`, `*`, `#`, `A` to `D`. */
  sendDigits(digits: string): void {
    if (this.state !== "connected") return;
    // In the first moments the browser has no media path yet; INFO always gets through.
    const inBand = Boolean(this.#sender()?.dtmf?.canInsertDTMF);
    const transportType = (inBand ? "RFC2833" : "INFO") as never;
    this.session.sendDTMF(digits, { transportType });
    this.digits += digits;
    this.#changed();
  }

  /** Speaks by another microphone from now on. */
  async useMicrophone(constraints: MediaStreamConstraints): Promise<void> {
    const sender = this.#sender();
    if (!sender?.track) return;
    const enabled = sender.track.enabled;
    const [track] = (await navigator.mediaDevices.getUserMedia(constraints)).getAudioTracks();
    track.enabled = enabled;
    sender.track.stop();
    await sender.replaceTrack(track);
    this.#changed();
  }

  /** Hands the call over to a number, without asking there first. */
  transfer(target: string): Promise<Transferred> {
    return this.#refer(target, target);
  }

  /**
   * Connects this call's other side with `other`'s and leaves both. A party that still rings rings
   * on, and this call's other side hears it; if nobody answers there, this call is back.
   */
  async transferTo(other: Call): Promise<Transferred> {
    const dialog = await other.#dialog();
    if (!dialog) return { done: false, text: other.end?.text ?? "" };
    const name = other.name || other.number;
    // The ringing call continues without us: its end here is not reported.
    other.#left = other.state !== "connected";
    const outcome = await this.#refer(other.number, name, dialog);
    if (!outcome.done) other.#left = false;
    return outcome;
  }

  /** What names its dialog (RFC 3891) once there is one; `null` if it ends before. */
  async #dialog(): Promise<RTCSession | null> {
    if (this.state === "calling")
      await new Promise<void>((done) => {
        const stop = this.on("change", () => {
          if (this.state === "calling") return;
          stop();
          done();
        });
      });
    const { session } = this as unknown as { session: Dialogs };
    // Of several that ring at once the gateway names one.
    const early = Object.values(session._earlyDialogs).at(-1)?.id;
    if (this.state === "ringing" && early) return named(session, early.remote_tag, early.local_tag);
    if (this.state !== "connected") return null;
    // `to-tag` is the gateway's own, which in a call that came in is From's.
    const { _from_tag: from, _to_tag: to } = session;
    return this.direction === "incoming" ? named(session, from, to) : named(session, to, from);
  }

  #refer(target: string, name: string, replaces?: RTCSession): Promise<Transferred> {
    return new Promise((done) => {
      this.transferring = true;
      this.#changed();
      const over = (well: boolean, text: string) => {
        gone();
        this.transferring = false;
        if (well && this.state !== "ended") this.hangUp();
        this.#changed();
        done({ done: well, text });
      };
      const gone = this.on("ended", () => over(true, ""));
      const eventHandlers = {
        requestFailed: () => over(false, texts().transfer.refused),
        failed: () => over(false, texts().transfer.unreachable(name)),
        accepted: () => over(true, ""),
      };
      this.session.refer(target, { eventHandlers, ...(replaces && { replaces }) });
    });
  }

  #sender(): RTCRtpSender | undefined {
    return this.session.connection?.getSenders().find((sender) => sender.track);
  }

  #changed(): void {
    this.emit("change", this);
  }

  #follow(): void {
    const { session } = this;
    const attach = (connection: RTCPeerConnection) => {
      connection.addEventListener("track", (event) => {
        this.stream = event.streams[0] ?? new MediaStream([event.track]);
        this.#changed();
      });
      connection.addEventListener("connectionstatechange", () => this.#onWay(connection));
    };
    if (session.connection) attach(session.connection);
    session.on("peerconnection", (event) => attach(event.peerconnection));
    session.on("getusermediafailed", (error) => {
      this.#microphone = microphoneProblem(error);
    });
    session.on("progress", (event: IncomingEvent | OutgoingEvent) => {
      if (this.state === "incoming" || this.state === "connected" || this.resumed) return;
      this.state = "ringing";
      this.earlyMedia ||= "response" in event && Boolean(event.response.body);
      this.#changed();
    });
    session.on("accepted", () => {
      this.state = "connected";
      this.connectedAt ??= new Date();
      this.#watch();
      this.#changed();
    });
    const changed = () => this.#changed();
    for (const name of ["confirmed", "hold", "unhold", "muted", "unmuted"] as const)
      session.on(name, changed);
    session.on("ended", (event) => this.#over(event, false));
    // JsSIP says only afterwards what was wrong with the microphone.
    session.on("failed", (event) => queueMicrotask(() => this.#over(event, true)));
  }

  /** If the path does not recover on its own, the gateway asks for an ICE restart. */
  #onWay({ connectionState }: RTCPeerConnection): void {
    const broken = connectionState === "disconnected" || connectionState === "failed";
    if (broken === this.interrupted || this.state === "ended") return;
    this.interrupted = broken;
    this.#changed();
  }

  /** Judges the sound every two seconds. */
  #watch(): void {
    let before: Counters | null = null;
    this.#timer = setInterval(async () => {
      const { connection } = this.session;
      if (!connection || this.held || this.heldByThem) {
        before = this.quality = null;
        return;
      }
      const now = await count(connection).catch(() => null);
      if (!now || this.state !== "connected") return;
      if (before) {
        this.quality = judge(before, now);
        this.emit("quality", this.quality);
        this.#changed();
      }
      before = now;
    }, 2000);
  }

  #over(event: EndEvent, failed: boolean): void {
    clearInterval(this.#timer);
    const message = event.message as { status_code?: number; getHeader?(n: string): string };
    const code = message?.status_code ?? null;
    const said = reasonText(message).replace(/^normal call clearing$/, "");
    const ours = String(event.originator) === "local";
    const cancelled = this.#left || event.cause === "Canceled" || event.cause === "Terminated";
    // A person who is busy or says no is all there is to say.
    const plain = [486, 603].includes(code ?? 0);
    let text = "";
    if (this.#left) text = "";
    else if (this.#microphone) text = microphoneText(this.#microphone);
    else if (failed && this.resumed) text = texts().endedWhileReloading;
    else if (failed && !cancelled && !(ours && this.direction === "incoming"))
      text = [statusText(code, event.cause), !plain && said && `(${said})`]
        .filter(Boolean)
        .join(" ");
    else if (!ours && !cancelled) text = said || statusText(code, event.cause);
    else if (!ours && !failed) text = said;
    this.end = {
      by: ours ? "us" : String(event.originator) === "remote" ? "them" : "nobody",
      failed: failed && !cancelled,
      text,
      reason: said || (this.#microphone ? text : event.cause),
      code,
      microphone: this.#microphone,
      seconds: this.seconds,
      handedOver: this.#left,
      again: failed && this.resumed !== null && !this.#microphone && isPassing(code),
    };
    this.state = "ended";
    this.emit("ended", this.end);
    this.#changed();
  }
}
