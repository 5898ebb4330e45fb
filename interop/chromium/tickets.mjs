// Ten complaints as people make them, each answered from the console by what it says: a time and the
// end of a number, or a name.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Peer } from "./carrier.mjs";
import { accessible } from "./console.mjs";
import {
  PUBLIC,
  ROOT,
  SHOTS,
  binary,
  equal,
  phone,
  start,
  stop,
  test,
  until,
  work,
} from "./rig.mjs";

const PORT = 8108;
const SIP = { address: "127.0.0.1", port: 5074 };
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const CONFIG = `[server]
domain = "localhost"
public_ip = "${PUBLIC}"
[web]
listen = "127.0.0.1:${PORT}"
[sip]
udp = "127.0.0.1:${SIP.port}"
flow_grace = "1s"
[media]
workers = 1
browser_port = ${PORT}
[api]
control = "c.sock"
[fraud]
calls_per_hour = 100000
minutes_per_hour = 100000
[limits]
new_calls_per_second = 100
[user.alice]
password = "alice-secret"
[user.bob]
password = "bob-secret"
[trunk.carrier]
uri = "sip:127.0.0.11:5062"
codecs = ["pcmu"]
context = "from-carrier"
refer = "execute"
[trunk.pbx]
uri = "sip:127.0.0.12:5062"
codecs = ["pcmu"]
[trunk.menu]
uri = "sip:127.0.0.13:5062"
codecs = ["pcmu"]
dtmf = "info"
[trunk.small]
uri = "sip:127.0.0.14:5062"
codecs = ["pcmu"]
max_calls = 1
`;

const ROUTES = `[[route]]
name  = "The menu"
match = "+12065550207"
do    = [{ dial = ["trunk:menu"] }]

[[route]]
name  = "One line"
match = "+1206555021X"
do    = [{ dial = ["trunk:small"] }]

[[route]]
name  = "Bob"
match = "+12065550205"
do    = [{ ring = ["user:bob"], timeout = "5s" }]

[[route]]
name  = "The PBX"
match = "+1206555XXXX"
do    = [{ dial = ["trunk:pbx"] }]
`;

/** What the PBX does with a call, by the number called. */
const PBX = {
  "+12065550201": { silent: true },
  "+12065550202": { payload: 97 },
  "+12065550203": { status: 403, reason: "Forbidden" },
  "+12065550206": {},
  "+12065550208": { loss: 0.1 },
  "+12065550209": { status: 486, reason: "Busy Here" },
  "+12065550299": { status: 603, reason: "Decline" },
};

/** Each: what is typed, where, and what has to be read. */
const TICKETS = [
  [
    "at TIME a caller from …0177 heard nothing",
    "TIME …0177",
    /WT-3011/,
    /sent no sound|none came back/,
  ],
  ["TIME, …0178: they heard nothing either", "TIME 0178", /WT-3008/, /payload type 97/],
  ["TIME, (206) 555-0179 could not get through", "TIME 555-0179", /WT-2108/, /403 Forbidden/],
  ["bob cannot log in", "bob", /WT-1001/, /password/i, "users"],
  [
    "TIME, …0181 rang bob, and bob's phone did not ring",
    "TIME ..0181",
    /WT-1310/,
    /nobody is registered for user:bob/,
  ],
  [
    "TIME, …0182: handing the call over did not work",
    "0182 TIME",
    /WT-2200/,
    /transfer to .*0299 failed with 603/,
  ],
  [
    "TIME, …0183 pressed 5 in the menu and nothing happened",
    "TIME 0183",
    /WT-3030/,
    /refused 1 digits/,
  ],
  ["TIME, …0184 was choppy", "TIME 0184", /MOS/, /10 % of the packets from trunk:pbx were lost/],
  ["TIME, …0185 was sent away", "TIME 0185", /WT-1301/, /busy/],
  ["TIME, …0186 could not call the one-line office", "TIME 0186", /WT-2110/, /has its 1 calls/],
];
/** What people do every day is no fault, and nothing is to be done about it. */
const NO_FAULT = /WT-1301/;

async function seed(chrome) {
  const open = (end, answers) => Peer.open(`127.0.0.${end}`, SIP, answers);
  const carrier = await open(11);
  const others = await Promise.all([
    open(12, (number) => PBX[number] ?? { status: 404, reason: "Not Found" }),
    open(13, () => ({ refusesInfo: true, noDigits: true })),
    open(14, () => ({})),
  ]);
  const from = (end) => `+1206555${end}`;
  /** A call of some seconds, in which something may happen. */
  const talk = async (caller, called, seconds, within = async () => {}) => {
    const call = await carrier.call(from(caller), from(called));
    equal(call.status, 200, `${caller} calls ${called}`);
    await within(call);
    await sleep(seconds * 1000);
    await carrier.hangUp(call);
  };
  // Bob is there, and then is not.
  const url = `http://localhost:${PORT}/`;
  const bob = await phone(chrome, { url, user: "bob" });
  await bob.context().close();
  // His connection is kept for a second, for a page that comes back.
  await sleep(1500);
  const wrong = await phone(chrome, { url, user: "bob", password: "no", expectOnline: false });
  await until("bob is refused", async () => /Wrong user/.test(await wrong.textContent("#line")));
  await wrong.context().close();
  // Others call as well.
  for (let n = 0; n < 40; n++) await carrier.call(from(7000 + n), from(8000 + n));
  await Promise.all([
    talk("0177", "0201", 11),
    talk("0178", "0202", 11),
    carrier.call(from("0179"), from("0203")),
    carrier.call(from("0181"), from("0205")),
    talk("0182", "0206", 3, async (call) => {
      await sleep(1000);
      await carrier.refer(call, from("0299"));
    }),
    talk("0183", "0207", 4, async (call) => {
      await sleep(1500);
      call.audio.press(5);
    }),
    talk("0184", "0208", 8),
    carrier.call(from("0185"), from("0209")),
    talk("0199", "0210", 3, async () => {
      const call = await carrier.call(from("0186"), from("0210"));
      if (call.status === 200) throw new Error("the small trunk took a second call");
    }),
  ]);
  return [carrier, ...others];
}

/** A token of somebody who may read, or more, and its lines of the configuration. */
export function readingToken(scope = "read") {
  const made = execFileSync("bash", ["-c", `"${binary}" api-token page --scope ${scope} 2>&1`], {
    encoding: "utf8",
  });
  const [lines] = /\[api\.token\.page\][\s\S]*?scope\s*=\s*"\w+"/.exec(made);
  const secret = made.split("\n").find((line) => /^[A-Za-z0-9_-]{20,}$/.test(line.trim()));
  return { lines, secret: secret.trim() };
}

/** Somebody who may read, by a token. */
export async function reader(chrome, token, port) {
  const context = await chrome.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.goto(`http://localhost:${port}/#/calls`);
  await page.click("#entry-token summary");
  await page.fill("#token", token);
  await page.click("#token-form button");
  await page.waitForSelector("#calls-list .row-link");
  return page;
}

async function inCalls(page, typed) {
  await page.goto(`http://localhost:${PORT}/#/calls`);
  await page.fill('#calls-filter [name="search"]', typed);
  await until(
    `one call is left of ${typed}`,
    async () => (await page.locator("#calls-list tr.leads").count()) === 1,
  );
  await page.click("#calls-list tr.leads td:nth-child(3)");
  await page.waitForSelector("#call-view .hero .sentence");
  const hero = page.locator("#call-view .hero");
  const box = await hero.boundingBox();
  if (box.y + box.height > 900) throw new Error("the verdict is below the fold");
  return {
    all: (await hero.textContent()) + (await page.textContent("#call-view .subtitle")),
    parts: await hero.locator("dd").allTextContents(),
  };
}

async function inUsers(page, typed) {
  await page.goto(`http://localhost:${PORT}/#/users`);
  await page.fill('#view-users input[type="search"]', typed);
  const row = page.locator("#logins tbody tr", { hasText: "refused" });
  await row.waitFor();
  const all = await row.textContent();
  const parts = [
    (await row.locator("td").last().textContent()) ?? "",
    await row.locator("small").textContent(),
  ];
  return { all, parts };
}

export function tickets(chrome) {
  test("ten tickets are each answered from the console, by the time and the number they name", async () => {
    const folder = join(work, "tickets");
    mkdirSync(join(folder, "dialplans"), { recursive: true });
    const { lines, secret } = readingToken();
    writeFileSync(join(folder, "webtrunk.toml"), `${CONFIG}${lines}\n`);
    writeFileSync(join(folder, "dialplans", "from-carrier.toml"), ROUTES);
    writeFileSync(
      join(folder, "dialplans", "default.toml"),
      '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n',
    );
    const node = start(binary, ["serve", "-c", join(folder, "webtrunk.toml"), "--log", "text"]);
    await until("it serves", () => {
      if (node.code !== undefined) throw new Error(node.output);
      return /serves the page/.test(node.output);
    });
    const peers = await seed(chrome());
    const page = await reader(chrome(), secret, PORT);
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    const time = new Date().toTimeString().slice(0, 5);
    const report = [];
    for (const [says, typed, code, sentence, view] of TICKETS) {
      const began = performance.now();
      const read = await (view ? inUsers : inCalls)(page, typed.replace("TIME", time));
      const seconds = (performance.now() - began) / 1000;
      report.push(`${seconds.toFixed(1)} s  ${says.replace("TIME", time)}: ${read.all}`);
      for (const wanted of [code, sentence])
        if (!wanted.test(read.all)) throw new Error(`${says}: ${wanted} is not in ${read.all}`);
      if (!NO_FAULT.test(read.all) && (read.parts.length < 2 || read.parts.some((p) => !p.trim())))
        throw new Error(`${says}: cause and fix are not told: ${read.parts}`);
      if (seconds > 20) throw new Error(`${says}: took ${seconds} s`);
    }
    await page.goto(`http://localhost:${PORT}/#/calls?search=${time} 0177`);
    await page.waitForSelector("#calls-between");
    await page.screenshot({ path: join(SHOTS, "console-ticket.png") });
    await accessible(page, "calls found by time");
    await page.goto(`http://localhost:${PORT}/#/users`);
    await page.waitForSelector("#logins tbody tr");
    await page.screenshot({ path: join(SHOTS, "console-logins.png") });
    await accessible(page, "the log of logins");
    // Another time has none of them.
    await page.goto(`http://localhost:${PORT}/#/calls?search=2020-01-01 0177`);
    await page.waitForSelector('#calls-list:has-text("No remembered call matches")');
    equal(problems.join(), "", "problems on the page");
    console.log(`        ${report.join("\n        ")}`);
    await page.context().close();
    for (const peer of peers) peer.close();
    if (/ ERROR /.test(node.output)) throw new Error(node.output);
    await stop(node, "SIGTERM");
  });

  test("what is typed to find a call: times by this clock, dates, numbers without their beginning", async () => {
    const { buildSync } = await import("esbuild");
    const out = join(work, "sought.mjs");
    buildSync({
      entryPoints: [join(ROOT, "src/web/console/sought.ts")],
      outfile: out,
      format: "esm",
    });
    const { sought } = await import(out);
    const now = new Date(2026, 10, 27, 15, 30);
    const read = (typed) => {
      const { text, between } = sought(typed, now);
      const at = (date) => date.toTimeString().slice(0, 5);
      return `${text}|${between ? `${between[0].getDate()} ${between.map(at).join("-")}` : ""}`;
    };
    equal(read("14:05 …0177"), "0177|27 13:55-14:11", "a time today");
    equal(read("xx0177 16:00"), "0177|26 15:50-16:06", "a time to come was yesterday's");
    equal(read("2026-11-20 9:00 ada müller"), "ada müller|20 08:50-09:06", "a date and a time");
    equal(read("2:05 PM 0177"), "0177|27 13:55-14:11", "a time of twelve hours");
    equal(read("12:30am"), "|27 00:20-00:36", "past midnight");
    equal(read("2026-11-20"), "|20 00:00-00:00", "a whole day");
    equal(read("(206) 555-0123"), "(206) 555-0123|", "no time");
    equal(read("25:00 1:2"), "25:00 1:2|", "no times");
  });
}
