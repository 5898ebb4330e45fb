// Tones made by WebAudio, so that no file has to be loaded to ring.

/** Two frequencies in Hz, and how long they sound and pause, in seconds. */
interface Cadence {
  tones: [number, number];
  pattern: number[];
  gain: number;
}

/** An incoming call: a double ring that is heard across a room. */
const RING: Cadence = { tones: [880, 1174.7], pattern: [0.4, 0.2, 0.4, 2], gain: 0.35 };
/** What a caller hears while the other side rings and the network plays nothing. */
const RINGBACK: Cadence = { tones: [440, 480], pattern: [2, 4], gain: 0.08 };
/** A second call during another one: quiet, and not over the voice. */
const WAITING: Cadence = { tones: [440, 440], pattern: [0.25, 6], gain: 0.08 };

export type Tone = "ring" | "ringback" | "waiting";
const CADENCES: Record<Tone, Cadence> = { ring: RING, ringback: RINGBACK, waiting: WAITING };

/** What lets a page sound: a finger does once it is lifted, a mouse as it is pressed. */
export const TOUCHES = ["pointerdown", "pointerup", "keydown"] as const;

/** Plays one tone at a time, on a device of its own. */
export class Ringer {
  #context: AudioContext | null = null;
  #audio: HTMLAudioElement | null = null;
  #gain: GainNode | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #device = "";
  #tone: Tone | null = null;

  /** What sounds now. */
  get tone(): Tone | null {
    return this.#tone;
  }

  /** Whether the browser lets the page sound: it does once somebody has touched the page. */
  get audible(): boolean {
    return this.#context?.state === "running";
  }

  /** What sounds, for meters and tests; `null` before the first tone. */
  get stream(): MediaStream | null {
    return (this.#audio?.srcObject as MediaStream | null) ?? null;
  }

  /** Rings on this device from now on; the empty string is the system's own. */
  async setDevice(id: string): Promise<void> {
    this.#device = id;
    if (this.#audio && "setSinkId" in this.#audio) await this.#audio.setSinkId(id);
  }

  /** Makes the page able to sound; to be called when somebody touches it. */
  async unlock(): Promise<boolean> {
    this.#open();
    await this.#context?.resume().catch(() => {});
    await this.#audio?.play().catch(() => {});
    return this.audible;
  }

  /** Plays `tone` until `stop`, or until another one is played. */
  play(tone: Tone): void {
    if (this.#tone === tone) return;
    this.stop();
    this.#tone = tone;
    this.#open();
    void this.unlock();
    const { tones, pattern, gain } = CADENCES[tone];
    const context = this.#context as AudioContext;
    const out = context.createGain();
    out.gain.value = 0;
    const sources = tones.map((hz) => {
      const source = context.createOscillator();
      source.frequency.value = hz;
      source.connect(out);
      source.start();
      return source;
    });
    out.connect((this.#gain ?? context.destination) as AudioNode);
    let at = 0;
    const step = () => {
      const on = at % 2 === 0;
      out.gain.setTargetAtTime(on ? gain / tones.length : 0, context.currentTime, 0.01);
      this.#timer = setTimeout(step, pattern[at++ % pattern.length] * 1000);
    };
    step();
    this.#silence = () => {
      sources.forEach((source) => source.stop());
      out.disconnect();
    };
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#silence();
    this.#silence = () => {};
    this.#tone = null;
  }

  #silence: () => void = () => {};

  #open(): void {
    if (this.#context) return;
    this.#context = new AudioContext();
    this.#gain = this.#context.createGain();
    const end = this.#context.createMediaStreamDestination();
    this.#gain.connect(end);
    // An element, because only elements can be led to a device in every browser.
    this.#audio = new Audio();
    this.#audio.srcObject = end.stream;
    if (this.#device) void this.setDevice(this.#device).catch(() => {});
  }
}
