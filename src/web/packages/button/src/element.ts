import type { Call, CallEnd, Credentials, Finding, Phone } from "@webtrunk/phone";
import { accountOf, keptCalls } from "@webtrunk/phone/resume";
import { icon, STYLE } from "./style.js";
import { type ButtonTexts, languageOf, languages } from "./texts.js";

type Library = typeof import("@webtrunk/phone");

/** Where the button gets its telephone from, and the gateway it belongs to. */
export interface Source {
  /** Loads the telephone at the first press. */
  load(): Promise<Library>;
  /** The gateway that serves this script; `null` in a bundle of the page's own. */
  gateway: URL | null;
}

/** Details of the events, which all bubble. */
export interface CallButtonEvents {
  calling: CustomEvent<Record<string, never>>;
  ringing: CustomEvent<Record<string, never>>;
  connected: CustomEvent<Record<string, never>>;
  ended: CustomEvent<{ seconds: number; reason: string; code?: number | null }>;
  failed: CustomEvent<{ seconds?: number; reason: string; code: number | null }>;
}

/** What the tab stores of a button's call while it is active. */
interface KeptButton {
  account: string;
  given: Credentials;
}

const KEYS = "123456789*0#";
/** Seconds that credentials must be good for to be used again. */
const LEFT = 5;
const clock = (s: number) => `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
/** On a server, which renders the tag and runs none of this, there is no such class. */
const Base = globalThis.HTMLElement ?? (class {} as typeof HTMLElement);

function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  part: string,
  attributes: Record<string, string> = {},
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  made.setAttribute("part", part);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** `<call-button to="+12065550123" token-url="/voice/token">`: a button that telephones. */
export class CallButton extends Base {
  static source: Source;
  static readonly observedAttributes = ["label", "icon", "lang", "controls"];
  /** What it says, by language; a page may add one: `CallButton.languages.fr = …`. */
  static readonly languages = languages;
  #phone: Phone | null = null;
  #call: Call | null = null;
  #busy = false;
  /** Counts attempts: one that was given up does not continue when its answer comes. */
  #attempt = 0;
  #muted = false;
  /** What it said last. */
  #said = "";
  #ticking: ReturnType<typeof setInterval> | undefined;
  #button = element("button", "button", { type: "button" });
  #label = element("span", "label");
  #icon = icon();
  #timer = element("span", "timer", { role: "timer" });
  #mute = element("button", "control mute", { type: "button", "aria-pressed": "false" });
  #keys = element("button", "control keys", { type: "button", "aria-expanded": "false" });
  #keypad = element("div", "keypad", { role: "group" });
  #state = element("span", "state", { role: "status" });
  #audio = document.createElement("audio");

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    this.#button.append(this.#icon, this.#label);
    this.#button.addEventListener("click", () => (this.#busy ? this.hangUp() : this.call()));
    this.#mute.addEventListener("click", () => this.mute(!this.#muted));
    this.#keys.addEventListener("click", () => this.#open(Boolean(this.#keypad.hidden)));
    for (const key of KEYS) {
      const button = element("button", "key", { type: "button" });
      button.textContent = key;
      button.dataset.key = key;
      button.addEventListener("click", () => this.#call?.sendDigits(key));
      this.#keypad.append(button);
    }
    this.#audio.autoplay = true;
    const controls = [this.#timer, this.#mute, this.#keys];
    root.append(this.#button, ...controls, this.#state, this.#keypad, this.#audio);
  }

  connectedCallback(): void {
    if (!this.#busy) this.#show("");
    // Not before its attributes are there, whoever sets them.
    queueMicrotask(() => {
      const kept = this.isConnected && !this.#busy ? this.#kept() : null;
      if (kept) void this.#resume(kept);
    });
  }
  attributeChangedCallback(): void {
    this.#show(this.#busy ? this.#said : "");
  }
  disconnectedCallback(): void {
    // A page that moves it takes it out and puts it in again: the call continues.
    queueMicrotask(() => {
      if (!this.isConnected) this.hangUp();
    });
  }

  get #texts(): ButtonTexts {
    return languages[languageOf(this)];
  }

  /** The telephone, which says what it says in the button's language. */
  async #load(): Promise<Library> {
    const library = await CallButton.source.load().catch(() => {
      throw new Error(this.#texts.gatewayLost);
    });
    const german = languageOf(this) === "de" && (await import("@webtrunk/phone/de")).german;
    library.speak(german || library.english);
    return library;
  }

  /** Whether there is a call, or an attempt at one. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Calls; does nothing during a call. */
  async call(): Promise<void> {
    if (this.#busy) return;
    const attempt = this.#begin();
    this.#show(this.#texts.calling, "calling");
    this.#tell("calling");
    try {
      if (this.hasAttribute("check")) {
        const wrong = (await this.preflight()).find((finding) => !finding.good);
        if (wrong) throw new Error(wrong.text);
      }
      const [library, given] = await Promise.all([this.#load(), this.#credentials()]);
      if (this.#is(attempt)) await this.#dial(library, given, attempt);
    } catch (error) {
      this.#failed(attempt, error as Error);
    }
  }

  #begin(): number {
    this.#busy = true;
    this.#attempt += 1;
    return this.#attempt;
  }

  /** Whether this attempt is not over, nor another in its place. */
  #is(attempt: number): boolean {
    return this.#busy && this.#attempt === attempt;
  }

  #failed(attempt: number, { message }: Error): void {
    if (this.#is(attempt)) this.#over("failed", { reason: message, code: null });
  }

  /** Ends the call, or the attempt at one. */
  hangUp(): void {
    if (this.#call && this.#call.state !== "ended") this.#call.hangUp();
    else this.#over("ended", { seconds: 0, reason: "" });
  }

  mute(on = true): void {
    if (!this.#call) return;
    this.#call.mute(on);
    this.#muted = on;
    this.#show(this.#said);
  }

  /** What stands in the way of a call, found without calling: the gateway, the microphone. */
  async preflight(): Promise<Finding[]> {
    const { checkGateway, checkMicrophone } = await this.#load();
    const server = this.getAttribute("server") ?? CallButton.source.gateway?.href;
    const gateway = server ? [await checkGateway(socketOf(server))] : [];
    return [...gateway, await checkMicrophone({ audio: true, video: false })];
  }

  #show(text: string, state = this.dataset.state ?? "idle"): void {
    const talking = state === "connected";
    this.dataset.state = state;
    this.#said = text;
    const texts = this.#texts;
    this.#label.textContent = this.#busy
      ? texts.hangUp
      : (this.getAttribute("label") ?? texts.call);
    this.#icon.toggleAttribute("hidden", this.getAttribute("icon") === "none");
    const controls = (this.getAttribute("controls") ?? "timer mute keypad").split(/\s+/);
    this.#timer.hidden = !talking || !controls.includes("timer");
    this.#mute.hidden = !talking || !controls.includes("mute");
    this.#keys.hidden = !talking || !controls.includes("keypad");
    this.#mute.setAttribute("aria-pressed", String(this.#muted));
    this.#mute.textContent = this.#muted ? texts.unmute : texts.mute;
    this.#name(texts);
    if (!talking) this.#open(false);
    this.#state.textContent = this.#muted && talking ? texts.muted : text;
  }

  /** The names of what is always the same. */
  #name({ keypad, duration, star, hash }: ButtonTexts): void {
    this.#keys.textContent = keypad;
    this.#keypad.setAttribute("aria-label", keypad);
    this.#timer.setAttribute("aria-label", duration);
    const names: Record<string, string> = { "*": star, "#": hash };
    for (const button of this.#keypad.querySelectorAll("button")) {
      const { key = "" } = button.dataset;
      button.setAttribute("aria-label", names[key] ?? key);
    }
  }

  #open(keypad: boolean): void {
    this.#keypad.hidden = !keypad;
    this.#keys.setAttribute("aria-expanded", String(keypad));
  }

  #tell(type: keyof CallButtonEvents, detail = {}): void {
    this.dispatchEvent(new CustomEvent(type, { bubbles: true, composed: true, detail }));
  }

  async #credentials(): Promise<Credentials> {
    const url = this.getAttribute("token-url");
    const { gateway } = CallButton.source;
    if (url) {
      const headers = { Accept: "application/json" };
      const response = await fetch(url, { method: "POST", credentials: "same-origin", headers });
      if (!response.ok) throw new Error(this.#texts.tokenRefused(response.status));
      return response.json();
    }
    if (!gateway) throw new Error(this.#texts.noToken);
    // The demo, and only on this machine: its own login.
    const demo = await (await fetch(new URL("settings.json", gateway))).json();
    if (!demo.login) throw new Error(this.#texts.noToken);
    const { user, password } = demo.login;
    return { uri: `sip:${user}@${demo.domain}`, username: user, password };
  }

  async #connect({ Phone, fromCredentials }: Library, given: Credentials): Promise<Phone> {
    const server = this.getAttribute("server") ?? CallButton.source.gateway?.href;
    if (!given.ws && !server) throw new Error(this.#texts.noSocket);
    const options = fromCredentials(given, server && socketOf(server));
    const phone = new Phone({ ...options, register: false, lines: 1, audio: this.#audio });
    this.#phone = phone;
    phone.on("call", (call) => this.#follow(call, given));
    await phone.start().catch(() => {
      throw new Error(this.#texts.noConnection(given.ws ?? socketOf(server ?? "")));
    });
    return phone;
  }

  async #dial(library: Library, given: Credentials, attempt: number): Promise<void> {
    const phone = await this.#connect(library, given);
    if (this.#is(attempt)) phone.call(this.getAttribute("to") ?? "");
  }

  /** Where the tab keeps this button's call; its position distinguishes it from other buttons. */
  get #key(): string {
    const place = [...document.querySelectorAll("call-button")].indexOf(this);
    return `webtrunk-button ${place} ${this.getAttribute("to") ?? ""}`;
  }

  #kept(): KeptButton | null {
    try {
      const kept = JSON.parse(sessionStorage.getItem(this.#key) ?? "null") as KeptButton | null;
      return kept && keptCalls().some((call) => call.account === kept.account) ? kept : null;
    } catch {
      return null;
    }
  }

  #keep(kept: KeptButton | null): void {
    try {
      if (kept) sessionStorage.setItem(this.#key, JSON.stringify(kept));
      else sessionStorage.removeItem(this.#key);
    } catch {
      // A browser that keeps nothing: a reload ends the call.
    }
  }

  /** Takes the call up that the page had before it was reloaded. */
  async #resume(kept: KeptButton): Promise<void> {
    const attempt = this.#begin();
    this.#show(this.#texts.resuming, "calling");
    try {
      const library = await this.#load();
      const given = expired(kept.given) ? await this.#credentials() : kept.given;
      if (!this.#is(attempt)) return;
      const phone = await this.#connect(library, given);
      if ((await phone.resumed).length === 0) throw new Error(this.#texts.over);
    } catch (error) {
      this.#keep(null);
      this.#failed(attempt, error as Error);
    }
  }

  #follow(call: Call, given: Credentials): void {
    this.#call = call;
    let state = call.state;
    call.on("change", () => {
      if (call.state === state || call.state === "ended") return;
      state = call.state;
      const talking = state === "connected";
      if (talking && call.resumed) this.#muted = call.resumed.muted;
      if (talking && this.#phone)
        this.#keep({ account: accountOf(this.#phone.ua as never), given });
      const { connected, ringing } = this.#texts;
      this.#show(talking ? connected : ringing, state);
      this.#tell(talking ? "connected" : "ringing");
      const tick = () => {
        this.#timer.textContent = clock(call.seconds);
      };
      tick();
      if (talking) this.#ticking = setInterval(tick, 500);
    });
    call.on("ended", (end: CallEnd) => {
      // A call that is not resumed at once is retried, and reported when that ends.
      if (call.resumed && end.failed) return;
      const { seconds, code } = end;
      const reason = end.microphone || !end.reason ? end.text : end.reason;
      this.#over(end.failed ? "failed" : "ended", { seconds, reason, code }, end.text);
    });
  }

  /** Ends the call; `said` is the reason for people, if there is another for programs. */
  #over(
    type: "ended" | "failed",
    detail: { reason: string; [key: string]: unknown },
    said = detail.reason,
  ): void {
    if (!this.#busy) return;
    this.#busy = this.#muted = false;
    this.#keep(null);
    clearInterval(this.#ticking);
    this.#call = null;
    this.#phone?.stop();
    this.#phone = null;
    this.#show(type === "failed" ? this.#texts.failed(said || detail.reason) : "", "idle");
    this.#tell(type, detail);
  }
}

/** Whether credentials with a time in their name, as the gateway gives them, are used up. */
function expired({ username = "" }: Credentials): boolean {
  const until = /^(\d{9,}):/.exec(username);
  return until !== null && Number(until[1]) < Date.now() / 1000 + LEFT;
}

/** The address of the SIP connection of the gateway at `address`. */
function socketOf(address: string): string {
  const url = new URL(address, globalThis.location?.href);
  url.protocol = url.protocol.replace("http", "ws");
  if (!url.pathname.endsWith("/sip")) url.pathname = `${url.pathname.replace(/\/$/, "")}/sip`;
  return url.href;
}

/** Makes `<call-button>` known to the page; done once. */
export function defineCallButton(source: Source): void {
  if (!globalThis.customElements || customElements.get("call-button")) return;
  CallButton.source = source;
  customElements.define("call-button", CallButton);
}

declare global {
  interface HTMLElementTagNameMap {
    "call-button": CallButton;
  }
}
