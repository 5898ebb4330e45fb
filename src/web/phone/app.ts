// The phone's state, and what a person can do to it; what is drawn follows from it.
import {
  type Call,
  type CallEnd,
  callOptions,
  canChooseSpeaker,
  checkLine,
  type Devices,
  dialled,
  Emitter,
  type Finding,
  type Line,
  lineText,
  listDevices,
  type MicrophoneProblem,
  Phone,
  type PhoneOptions,
} from "@webtrunk/phone";
import { isAway, type PageSettings, settings } from "../start.js";
import { jssip } from "./jssip.js";
import {
  type Choice,
  type Contact,
  type Entry,
  type Fate,
  keep,
  kept,
  type Login,
  MOST_CONTACTS,
  MOST_ENTRIES,
} from "./store.js";
import { t } from "./texts.js";

/** What is open beside a call. */
export type Panel = "none" | "keypad" | "transfer" | "dialler";

/** How long a second Escape hangs up, in milliseconds. */
const ESCAPE_TWICE = 2000;
/** Not answered, busy, given up, declined: what people do every day is no fault. */
const EVERY_DAY = [408, 480, 486, 487, 600, 603];
const NO_DEVICES: Devices = { microphones: [], speakers: [] };

export class App extends Emitter<{ change: App }> {
  readonly callOptions = callOptions();
  settings: PageSettings | null = null;
  phone: Phone | null = null;
  user = "";
  /** Why the login form is shown, if not at the beginning. */
  loginProblem = "";
  verdict = "";
  /** Whether that tells of a fault; busy and declined are none. */
  wrong = false;
  number = "";
  panel: Panel = "none";
  history = kept<Entry[]>("history", []);
  contacts = kept<Contact[]>("contacts", []);
  /** Since when missed calls are news. */
  #seen = kept("seen", "");
  devices = NO_DEVICES;
  choice = kept<Choice>("devices", { microphone: "", speaker: "", ring: "" });
  microphone: MicrophoneProblem | null = null;
  report: Finding[] = [];
  checking = false;
  /** Whether somebody has pressed anything, so that the browser lets the page sound. */
  touched = navigator.userActivation?.hasBeenActive ?? true;
  #audio: HTMLAudioElement;
  #escaped = 0;
  /** The gateway did not answer as the page was opened. */
  #away = false;
  /** Who is being logged in until JsSIP is there, if anybody. */
  #coming: { user: string } | null = null;

  constructor(audio: HTMLAudioElement) {
    super();
    this.#audio = audio;
  }

  changed(): void {
    this.emit("change", this);
  }

  get calls(): Call[] {
    return this.phone?.calls ?? [];
  }
  get active(): Call | null {
    return this.phone?.active ?? null;
  }
  /** Whether nobody is logged in, and it is for a person to change that. */
  get loggedOut(): boolean {
    return !this.phone && !this.#coming && this.settings !== null;
  }
  get line(): Line {
    if (this.phone) return this.phone.line;
    if (this.#coming) return { state: "connecting" };
    if (this.settings) return { state: "stopped" };
    return { state: this.#away ? "unreachable" : "connecting" };
  }
  get lineText(): string {
    if (this.loginProblem) return this.loginProblem;
    if (this.line.state === "ready") return t.readyAs(this.user);
    return lineText(this.line);
  }

  // ---- logging in

  /** Logs in by what the demo gives, or by what was kept. */
  async begin(): Promise<void> {
    void this.lookAround();
    void isAway.then((away) => {
      this.#away = away;
      this.changed();
    });
    this.settings = await settings;
    const { login, domain } = this.settings;
    const known = kept<Login | null>("login", kept<Login | null>("login", null, sessionStorage));
    if (login) void this.#start(login.user, { password: login.password });
    else if (known?.domain === domain) {
      const { realm, ha1 } = known;
      void this.#start(known.user, { realm, ha1 });
    } else {
      // By when somebody has typed a password.
      void jssip();
    }
    this.changed();
  }

  logIn(user: string, password: string, stay: boolean): void {
    this.loginProblem = "";
    void this.#start(user, { password }, stay ? localStorage : sessionStorage);
  }

  logOut(): void {
    this.#forget("");
  }

  #forget(problem: string): void {
    keep("login", null);
    keep("login", null, sessionStorage);
    this.loginProblem = problem;
    const { phone } = this;
    this.phone = null;
    this.#coming = null;
    phone?.stop();
    this.changed();
  }

  async #start(user: string, secret: Partial<PhoneOptions>, store?: Storage): Promise<void> {
    const coming = { user };
    this.#coming = coming;
    this.user = user;
    this.changed();
    await jssip();
    // Whoever has left meanwhile, or is another, is not logged in.
    if (this.#coming !== coming) return;
    this.#coming = null;
    this.#connect(user, secret, store);
  }

  #connect(user: string, secret: Partial<PhoneOptions>, store?: Storage): void {
    const { domain } = this.settings as PageSettings;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const phone = new Phone({
      server: `${scheme}://${location.host}${new URL("sip", document.baseURI).pathname}`,
      uri: `sip:${user}@${domain}`,
      displayName: user,
      audio: this.#audio,
      callOptions: this.callOptions,
      ...secret,
    });
    this.phone = phone;
    let been = false;
    phone.on("line", (line) => {
      if (phone !== this.phone) return;
      if (line.state === "ready") {
        if (store) this.#remember(phone, store);
        been = true;
      }
      // A user who was logged in returns on its own; anybody else tries other credentials.
      const wrong = line.state === "wrong-password" || line.state === "refused";
      if (wrong || (line.state === "locked-out" && !been && store)) this.#forget(lineText(line));
    });
    phone.on("change", () => this.changed());
    phone.on("call", (call) => this.#follow(call));
    void phone.setMicrophone(this.choice.microphone);
    void this.#playOnChosen().catch(() => {});
    // Failures are reported by `line`.
    phone.start().catch(() => {});
    this.changed();
  }

  #remember(phone: Phone, store: Storage): void {
    const [realm, ha1] = [phone.ua.get("realm"), phone.ua.get("ha1")];
    if (realm && ha1)
      keep("login", { user: this.user, domain: this.settings?.domain, realm, ha1 }, store);
  }

  // ---- calls

  /** Calls a number in any form, a user, or somebody of the contacts by name. */
  call(typed: string): void {
    const name = typed.trim().toLowerCase();
    const person = this.contacts.find((contact) => contact.name.toLowerCase() === name);
    const target = person?.number ?? typed;
    if (!this.phone || !dialled(target)) {
      this.redial();
      return;
    }
    this.#say("");
    try {
      this.phone.call(target);
      this.panel = "none";
      this.number = "";
    } catch (error) {
      this.#say(`${(error as Error).message}.`, true);
    }
    this.changed();
  }

  /** The last number called, to be looked at before it is called. */
  redial(): void {
    const last = this.history.find((entry) => entry.direction === "outgoing");
    if (last) this.setNumber(last.number);
  }

  setNumber(number: string): void {
    this.number = number;
    this.changed();
  }

  /** A key of the pad, or of the keyboard: a digit of the call, or of the number. */
  press(key: string): void {
    const { active } = this;
    if (active?.state === "connected" && this.panel !== "dialler") active.sendDigits(key);
    else this.setNumber(this.number + key);
  }

  answer(call: Call): void {
    this.panel = "none";
    this.phone?.answer(call);
  }

  toggle(panel: Panel): void {
    this.panel = this.panel === panel ? "none" : panel;
    this.changed();
  }

  async transfer(typed: string): Promise<void> {
    const target = dialled(typed);
    const { active } = this;
    if (!active || !target) return;
    this.panel = "none";
    this.#say("");
    const { text, done } = await active.transfer(target);
    this.#say(text, !done);
    this.changed();
  }

  /** Connects the two other sides and leaves. */
  async join(): Promise<void> {
    const { active } = this;
    const other = this.calls.find((call) => call !== active && call.state === "connected");
    if (!active || !other) return;
    this.#say("");
    const { text, done } = await other.transferTo(active);
    this.#say(text, !done);
    this.changed();
  }

  /** Escape: closes what is open, then declines or cancels; what is talked needs it twice. */
  escape(): void {
    const { active } = this;
    if (this.panel !== "none") this.toggle(this.panel);
    else if (active && (active.state !== "connected" || Date.now() - this.#escaped < ESCAPE_TWICE))
      active.hangUp();
    else if (active) {
      this.#escaped = Date.now();
      this.#say(t.call.escapeAgain);
      setTimeout(() => {
        if (this.verdict === t.call.escapeAgain) this.#say("");
        this.changed();
      }, ESCAPE_TWICE);
      this.changed();
    }
  }

  #say(text: string, wrong = false): void {
    this.verdict = text;
    this.wrong = wrong;
  }

  #follow(call: Call): void {
    this.#say("");
    call.on("ended", (end) => {
      if (end.again) return;
      this.#say(end.text, end.failed && !EVERY_DAY.includes(end.code ?? 0));
      this.#note(call, end);
      if (this.calls.length === 0) this.panel = "none";
      void this.lookAround();
    });
    call.on("change", () => {
      if (call.state === "connected" && !this.devices.microphones.some((d) => d.name))
        void this.lookAround();
    });
  }

  // ---- people

  /** Who has this number; the empty string is nobody known. */
  nameOf(number: string): string {
    const wanted = dialled(number);
    return this.contacts.find((contact) => dialled(contact.number) === wanted)?.name ?? "";
  }

  keepContact(name: string, number: string): void {
    const others = this.contacts.filter((c) => dialled(c.number) !== dialled(number));
    this.contacts = [...others, { name: name.trim(), number: number.trim() }]
      .sort((a, b) => a.name.localeCompare(b.name))
      .slice(0, MOST_CONTACTS);
    keep("contacts", this.contacts);
    this.changed();
  }

  dropContact(contact: Contact): void {
    this.contacts = this.contacts.filter((other) => other !== contact);
    keep("contacts", this.contacts);
    this.changed();
  }

  /** Calls that were missed since somebody looked. */
  get missed(): number {
    return this.history.filter(({ fate, at }) => fate === "missed" && at > this.#seen).length;
  }

  seeMissed(): void {
    this.#seen = new Date().toISOString();
    keep("seen", this.#seen);
    this.changed();
  }

  clearHistory(): void {
    this.history = [];
    keep("history", null);
    this.changed();
  }

  #note(call: Call, end: CallEnd): void {
    const { number, name, direction } = call;
    const { seconds, text } = end;
    const entry = { number, name, direction, at: call.began.toISOString(), seconds, text };
    this.history = [{ ...entry, fate: fateOf(call, end) }, ...this.history].slice(0, MOST_ENTRIES);
    keep("history", this.history);
  }

  // ---- devices

  /** Which microphones and speakers there are, and whether the microphone may be used at all. */
  async lookAround(): Promise<void> {
    if (!isSecureContext || !navigator.mediaDevices) this.microphone = "insecure";
    else {
      this.devices = await listDevices().catch(() => NO_DEVICES);
      const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
      const none = !all.some((device) => device.kind === "audioinput");
      // Not every browser tells of this permission.
      const told = await navigator.permissions
        ?.query({ name: "microphone" as PermissionName })
        .catch(() => null);
      if (told) told.onchange = () => void this.lookAround();
      this.microphone = told?.state === "denied" ? "denied" : none ? "missing" : null;
    }
    this.changed();
  }

  async choose(what: keyof Choice, id: string): Promise<void> {
    this.choice = { ...this.choice, [what]: id };
    keep("devices", this.choice);
    this.changed();
    try {
      if (what === "microphone") await this.phone?.setMicrophone(id);
      else await this.#playOnChosen();
    } catch (error) {
      const word = what === "microphone" ? "microphone" : "speaker";
      this.#say(t.devices.unusable[word]((error as Error).message), true);
      this.changed();
    }
  }

  async #playOnChosen(): Promise<void> {
    if (!this.phone || !canChooseSpeaker()) return;
    const { speaker, ring } = this.choice;
    // A device that was unplugged is not there: the system's own rings and plays.
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const there = (id: string) => (all.some((device) => device.deviceId === id) ? id : "");
    await this.phone.setSpeaker(there(speaker));
    await this.phone.ringer.setDevice(there(ring));
  }

  async check(): Promise<void> {
    if (!this.phone || this.calls.length || this.checking) return;
    this.checking = true;
    this.report = [];
    try {
      for await (const finding of checkLine(this.phone)) {
        this.report = [...this.report, finding];
        this.changed();
      }
    } catch (error) {
      this.report = [...this.report, { good: false, text: (error as Error).message }];
    }
    this.checking = false;
    await this.lookAround();
  }
}

function fateOf(call: Call, end: CallEnd): Fate {
  if (call.connectedAt) return "answered";
  if (end.handedOver) return "handedOver";
  const incoming = call.direction === "incoming";
  if (incoming && /elsewhere/i.test(end.reason)) return "elsewhere";
  if (end.by === "us") return incoming ? "declined" : end.failed ? "failed" : "cancelled";
  return incoming ? "missed" : "failed";
}
