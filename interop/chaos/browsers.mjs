// Real Chromium with stock JsSIP and SIP.js, commanded by lines on the standard input: "call",
// "gaps", "end". Each is answered by one line of JSON; run.py has the other hand.
import { createInterface } from "node:readline";
import { browser, libraryPage, until } from "../chromium/rig.mjs";

const LIBRARIES = [
  { library: "jssip", port: 8097, number: "78001" },
  { library: "sipjs", port: 8098, number: "78002" },
];

/** Hears in the page: the longest silence, by the audio thread's own clock. */
function listen() {
  const source = `registerProcessor("ear", class extends AudioWorkletProcessor {
    constructor() {
      super();
      Object.assign(this, { silent: 0, longest: 0, heard: false });
      this.port.onmessage = () => {
        this.port.postMessage({ gap: 1000 * Math.max(this.longest, this.silent) / sampleRate, heard: this.heard });
        this.longest = 0;
      };
    }
    process([[channel]]) {
      const loud = channel?.some((sample) => Math.abs(sample) > 0.01);
      this.silent = loud ? 0 : this.silent + 128;
      this.heard ||= loud;
      if (this.heard) this.longest = Math.max(this.longest, this.silent);
      return true;
    }
  })`;
  return (async () => {
    const context = new AudioContext();
    await context.audioWorklet.addModule(
      URL.createObjectURL(new Blob([source], { type: "text/javascript" })),
    );
    const ear = new AudioWorkletNode(context, "ear");
    context.createMediaStreamSource(document.getElementById("remote").srcObject).connect(ear);
    // A node that leads nowhere is not run.
    const mute = new GainNode(context, { gain: 0 });
    ear.connect(mute).connect(context.destination);
    window.gap = () =>
      new Promise((done) => {
        ear.port.onmessage = (event) => done(event.data);
        ear.port.postMessage("gap");
      });
  })();
}

const chrome = await browser();
const lines = [];

/** What another handshake, or another path, would change. */
const transport = (page) =>
  page.evaluate(async () => {
    const stats = [...(await window.line.connection().getStats()).values()];
    return stats
      .filter((s) => s.type === "transport")
      .map((s) => [s.iceLocalUsernameFragment, s.dtlsState, s.selectedCandidatePairId].join())
      .join();
  });

async function call() {
  for (const line of LIBRARIES) {
    const { page } = await libraryPage(chrome, line.library, line.port);
    await page.evaluate((user) => window.line.register(user, "chaos-secret"), line.library);
    await page.evaluate((number) => window.line.call(number), line.number);
    await page.waitForFunction(() => document.getElementById("remote").srcObject);
    await page.evaluate(listen);
    await until("the tone", async () => (await page.evaluate(() => window.gap())).heard);
    lines.push({ ...line, page, worst: 0, transport: await transport(page) });
  }
  await gaps();
  for (const line of lines) line.worst = 0;
  return { talking: lines.length };
}

async function gaps() {
  const found = [];
  for (const line of lines) {
    const { gap } = await line.page.evaluate(() => window.gap());
    line.worst = Math.max(line.worst, gap);
    found.push(gap);
  }
  return { gaps: found };
}

async function end() {
  const calls = [];
  for (const { page, library, worst, transport: before } of lines) {
    const alive = await page.evaluate(() => window.line.established());
    const same = before === (await transport(page));
    await page.evaluate(() => window.line.bye());
    calls.push({ library, worst, alive, same });
  }
  return { talking: calls.filter((call) => call.alive).length, calls };
}

const orders = { call, gaps, end };
for await (const order of createInterface({ input: process.stdin }))
  console.log(JSON.stringify(await orders[order]()));
await chrome.close();
process.exit(0);
