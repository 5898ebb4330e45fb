// The console and the API beside thousands of calls that go on and many more that are remembered,
// while others begin and end.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Peer } from "./carrier.mjs";
import { PUBLIC, SHOTS, binary, equal, start, stop, test, until, work } from "./rig.mjs";
import { reader, readingToken } from "./tickets.mjs";

const PORT = 8114;
const SIP = { address: "127.0.0.1", port: 5076 };
const SLOW = Boolean(process.env.WEBTRUNK_SLOW);
/** Under way, and ended before; the larger numbers take minutes to come to. */
const CALLS = SLOW ? 5000 : 3000;
const REMEMBERED = SLOW ? 100_000 : 3000;
/** Of the calls wanted, so many make the case worth its name. */
const ENOUGH = SLOW ? 0.96 : 0.66;
/** At once under way; more would measure how the gateway refuses. */
const BEGINNING = 24;
/** A moment that people do not take for waiting, ms. */
const QUICK = 1000;
const PAGE = 100;
/** Live calls beside which the same is measured first, so that a slow machine is known as that. */
const HUNDREDS = 500;
/** So many times as long beside thousands is not as quick. */
const GROWTH = 3;

const CONFIG = `[server]
domain = "localhost"
public_ip = "${PUBLIC}"
[web]
listen = "127.0.0.1:${PORT}"
[sip]
udp = "127.0.0.1:${SIP.port}"
[media]
workers = 1
browser_port = ${PORT}
ports = "20000-29999"
timeout = "off"
stopped_after = "off"
[recorder]
calls = 200000
memory = "2GB"
[api]
control = "c.sock"
[limits]
calls = 20000
new_calls_per_second = 10000
[trunk.crowd]
uri = "sip:127.0.0.21:5062"
codecs = ["pcmu"]
context = "from-crowd"
`;

const lateAnswer = () => new Promise((done) => setTimeout(done, 5000, { status: 408 }));

/** Many callers who say nothing: one socket takes what is sent to all of them. */
class Crowd extends Peer {
  calls = [];
  /** Numbers that have called to talk. */
  callers = 0;
  /** Calls that were refused. */
  remembered = 0;

  sound() {
    const lines = [
      "v=0",
      `o=- 1 1 IN IP4 ${this.address}`,
      "s=-",
      `c=IN IP4 ${this.address}`,
      "t=0 0",
      "m=audio 40000 RTP/AVP 0",
      "",
    ];
    return { sdp: () => lines.join("\r\n"), talk() {}, close() {} };
  }

  /** One more talks, unless the gateway is asked too much at the moment. */
  async begin(number) {
    const call = await Promise.race([this.call(number, "9196"), lateAnswer()]);
    if (call.status === 200) this.calls.push(call);
    else await new Promise((done) => setTimeout(done, 200));
    return call.status === 200;
  }

  /** So many talk, or as many as have begun in `seconds`. */
  async fill(calls, seconds) {
    const end = performance.now() + seconds * 1000;
    const filler = async () => {
      while (this.calls.length < calls && performance.now() < end)
        await this.begin(`+1206555${String(this.callers++).padStart(4, "0")}`);
    };
    await Promise.all(Array.from({ length: BEGINNING }, filler));
  }

  /** So many call where nobody is, or as many as can in `seconds`; returns how many did. */
  async refused(calls, seconds) {
    const end = performance.now() + seconds * 1000;
    let [next, done] = [0, 0];
    const caller = async () => {
      while (next < calls) {
        const from = `+1312${String(next++).padStart(7, "0")}`;
        // Whoever is told that the gateway is overloaded calls again a little later.
        while (performance.now() < end && !(await this.nobody(from)))
          await new Promise((later) => setTimeout(later, 200));
        if (performance.now() < end) done++;
      }
    };
    await Promise.all(Array.from({ length: BEGINNING }, caller));
    return done;
  }

  /** Whether it is heard that nobody is there. */
  async nobody(from) {
    return (await Promise.race([this.call(from, "404"), lateAnswer()])).status === 404;
  }

  /** Each fifth of a second one call ends and another begins, until it is stopped. */
  churn() {
    let next = 0;
    const timer = setInterval(() => {
      void this.hangUp(this.calls.splice(next % 7, 1)[0]);
      void this.begin(`+1425555${String(next++).padStart(4, "0")}`);
    }, 200);
    return () => clearInterval(timer);
  }
}

/** The middle one of three times, ms; what comes before each does not count. */
async function middle(act, before = async () => {}) {
  const times = [];
  for (let n = 0; n < 3; n++) {
    await before(n);
    const began = performance.now();
    await act(n);
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[1];
}

const rows = (page, count) =>
  page.waitForFunction(
    (wanted) => document.querySelectorAll("#calls-list tr.leads").length === wanted,
    count,
    { timeout: 10_000 },
  );

/** What people do with the list, and how long each takes. */
async function used(page, crowd) {
  const list = `http://localhost:${PORT}/#/calls`;
  const sought = async (typed, count) => {
    await page.fill('#calls-filter [name="search"]', typed);
    await rows(page, count);
  };
  const open = async () => {
    await page.goto(list);
    await rows(page, PAGE);
  };
  // Early ones and late ones; whoever has hung up meanwhile is remembered.
  const callers = [0.1, 0.5, 0.9].map(
    (at) => crowd.calls[Math.floor(at * crowd.calls.length)].from,
  );
  const took = {};
  took["the list opens"] = await middle(open, () => page.goto("about:blank"));
  if (crowd.remembered > 0) {
    const early = `+1312${String(crowd.remembered >> 1).padStart(7, "0")}`;
    took["one that ended long ago is found"] = await middle(
      () => sought(early, 1),
      () => sought("", PAGE),
    );
    await sought("", PAGE);
  }
  took["one number is found among all"] = await middle(
    (n) => sought(callers[n], 1),
    () => sought("", PAGE),
  );
  await sought("", PAGE);
  const choose = (state) => page.selectOption('[name="state"]', state);
  took["those that ended are listed"] = await middle(
    async () => {
      await choose("ended");
      await page.waitForSelector('#calls-list:not(:has-text("talking")) tr.leads');
    },
    async () => {
      await choose("live");
      await rows(page, PAGE);
    },
  );
  await choose("live");
  await rows(page, PAGE);
  took["the next page is shown"] = await middle(async (n) => {
    await page.click("#calls-more");
    await rows(page, (n + 2) * PAGE);
  });
  took["a call opens"] = await middle(async (n) => {
    await page
      .locator("#calls-list tr.leads td:nth-child(3)")
      .nth(20 * n)
      .click();
    await page.waitForSelector("#call-view svg [data-row]");
  }, open);
  return took;
}

async function asked(secret) {
  const headers = { authorization: `Bearer ${secret}` };
  const get = async (path) => {
    const answer = await fetch(`http://localhost:${PORT}/api/v1${path}`, { headers });
    equal(answer.status, 200, path);
    return answer.json();
  };
  const took = {};
  for (const path of [
    "/calls?state=live",
    "/calls?state=live&limit=1000",
    "/calls?number=5551500",
    "/calls?number=13120001000",
    "/calls?outcome=refused&since=1h",
    "/calls?search=WT-1104+0001234",
    "/calls?trunk=crowd&state=live",
    "/status",
    "/trunks",
  ])
    took[`GET ${path}`] = await middle(() => get(path));
  return { took, status: await get("/status") };
}

export function besideCalls(chrome) {
  test("beside thousands of calls the console opens, finds, filters and pages within a second", async () => {
    const folder = join(work, "beside");
    mkdirSync(join(folder, "dialplans"), { recursive: true });
    const { lines, secret } = readingToken();
    writeFileSync(join(folder, "webtrunk.toml"), `${CONFIG}${lines}\n`);
    const echo = '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n';
    for (const plan of ["from-crowd", "default"])
      writeFileSync(join(folder, "dialplans", `${plan}.toml`), echo);
    const node = start(binary, ["serve", "-c", join(folder, "webtrunk.toml"), "--log", "text"]);
    await until("it serves", () => {
      if (node.code !== undefined) throw new Error(node.output);
      return /serves the page/.test(node.output);
    });
    const crowd = await Crowd.open("127.0.0.21", SIP);
    await crowd.fill(HUNDREDS, 60);
    const page = await reader(chrome(), secret, PORT);
    const small = { ...(await asked(secret)).took, ...(await used(page, crowd)) };
    // Fifteen seconds each where the machine is its own; minutes for the larger numbers.
    crowd.remembered = await crowd.refused(REMEMBERED, SLOW ? 900 : 60);
    await crowd.fill(CALLS, SLOW ? 300 : 90);
    for (const [what, is, wanted] of [
      ["began", crowd.calls.length, CALLS],
      ["were refused", crowd.remembered, REMEMBERED],
    ])
      if (is < ENOUGH * wanted) throw new Error(`only ${is} calls of ${wanted} ${what}`);
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    const still = crowd.churn();
    const { took, status } = await asked(secret);
    Object.assign(took, await used(page, crowd));
    await page.goto(`http://localhost:${PORT}/#/calls`);
    await rows(page, PAGE);
    await page.screenshot({ path: join(SHOTS, "console-thousands.png") });
    still();
    const report = Object.entries(took).map(([what, ms]) => `${Math.round(ms)} ms  ${what}`);
    console.log(
      `        ${status.calls} calls, ${status.recorder.calls} remembered\n        ${report.join("\n        ")}`,
    );
    if (status.calls < 0.98 * crowd.calls.length)
      throw new Error(`${status.calls} of ${crowd.calls.length} calls go on`);
    if (status.recorder.calls < crowd.remembered)
      throw new Error(`${status.recorder.calls} of ${crowd.remembered} calls are remembered`);
    // Where the machine is busy with something else, all of it takes longer.
    const isSlow = (what) => took[what] > QUICK && !(took[what] < GROWTH * small[what]);
    const slow = Object.keys(took).filter(isSlow);
    const told = slow.map((what) => `${took[what]} ms (${small[what]} beside hundreds) ${what}`);
    equal(told.join(), "", "what took longer than a second");
    equal(problems.join(), "", "problems on the page");
    if (/ ERROR /.test(node.output)) throw new Error(node.output);
    await page.context().close();
    crowd.close();
    await stop(node, "SIGKILL");
  });
}
