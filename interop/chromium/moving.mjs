// A browser in a network namespace of its own, with two ways to the gateway: it moves from one to the
// other in mid-call, as from Wi-Fi to a mobile network, and nobody resets anything. Stock JsSIP and
// SIP.js, nothing added. The trunk is here too, so that each packet and each message is seen.
import { createSocket } from "node:dgram";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  binary,
  browser,
  connected,
  dial,
  libraryPage,
  phone,
  start,
  stop,
  test,
  until,
  work,
} from "./rig.mjs";

/** The gateway's address, behind both ways. */
const HOST = "10.46.0.1";
const SHOP = 8098;
/** Where browsers' media comes to, and ports that a NAT gives them. */
const PORT = 8094;
const GIVEN = 41_000;
const SIP = { gateway: 5074, trunk: 5094 };
/** Moves a case makes. */
const MOVES = Number(process.env.WEBTRUNK_MOVES || (process.env.WEBTRUNK_SLOW ? 20 : 3));

const CONFIG = `
[server]
domain = "wt.test"
public_ip = "${HOST}"
[web]
listen = "${HOST}:${PORT}"
origins = ["http://${HOST}:${SHOP}"]
[sip]
udp = "${HOST}:${SIP.gateway}"
[media]
browser_port = ${PORT}
workers = 1
ports = "22000-22999"
[user.alice]
password = "alice-secret"
context = "all"
[trunk.far]
uri = "sip:${HOST}:${SIP.trunk}"
codecs = ["pcmu"]
allow = ["${HOST}"]
`;

const ip = (...args) => execFileSync("ip", args, { stdio: ["ignore", "pipe", "inherit"] });

/** A namespace with two links to this one, of which one is up at a time. */
class Elsewhere {
  async open() {
    this.holder = spawn("unshare", ["--net", "sleep", "100000"], { stdio: "ignore" });
    await until("the namespace is there", () => {
      try {
        this.inside("ip", "link", "set", "lo", "up");
        return !this.inside("ip", "-o", "link").includes("wt0");
      } catch {
        return false;
      }
    });
    ip("address", "add", `${HOST}/32`, "dev", "lo");
    for (const n of [1, 2]) {
      ip("link", "add", `mov${n}`, "type", "veth", "peer", `far${n}`, "netns", this.holder.pid);
      ip("address", "add", `10.46.${n}.1/24`, "dev", `mov${n}`);
      ip("link", "set", `mov${n}`, "up");
    }
    this.at = 2;
    this.arrive();
  }
  inside(...command) {
    const all = ["-t", String(this.holder.pid), "-n", ...command];
    return execFileSync("nsenter", all, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  }
  /**
   * The network is gone, and the gateway is told nothing. What the browser has open there ends on its
   * side where the system sees to that, as phones and Windows do.
   */
  leave(ends) {
    this.inside("ip", "link", "set", `far${this.at}`, "down");
    if (ends) this.inside("ss", "-K", "src", `10.46.${this.at}.2`);
    this.inside("ip", "address", "flush", "dev", `far${this.at}`);
  }
  /** The other one is there. */
  arrive() {
    this.at = 3 - this.at;
    this.inside("ip", "address", "add", `10.46.${this.at}.2/24`, "dev", `far${this.at}`);
    this.inside("ip", "link", "set", `far${this.at}`, "up");
    this.inside("ip", "route", "replace", "default", "via", `10.46.${this.at}.1`);
  }
  /**
   * A NAT on the way gives the browser's port `own` another one, and forgets those it gave before:
   * neither end is told. Nothing is tracked, so packets in flight are as lost as behind a real one.
   */
  rebind(own, given) {
    const rules = `table ip rebinding
      delete table ip rebinding
      table ip rebinding {
        chain away {
          type filter hook output priority mangle
          udp sport ${own} udp dport ${PORT} udp sport set ${given}
        }
        chain home {
          type filter hook prerouting priority mangle
          udp sport ${PORT} udp dport ${given} udp dport set ${own} accept
          udp sport ${PORT} udp dport ${GIVEN}-${GIVEN + 9_999} drop
        }
      }\n`;
    const all = ["-t", String(this.holder.pid), "-n", "nft", "-f", "-"];
    execFileSync("nsenter", all, { input: rules, stdio: ["pipe", "ignore", "inherit"] });
  }
  /** What starts Chromium there. */
  launcher() {
    const script = join(work, "chromium-elsewhere");
    const run = `#!/bin/sh\nexec nsenter -t ${this.holder.pid} -n /usr/bin/chromium "$@"\n`;
    writeFileSync(script, run);
    chmodSync(script, 0o755);
    return script;
  }
  close() {
    for (const n of [1, 2]) ip("link", "delete", `mov${n}`);
    ip("address", "delete", `${HOST}/32`, "dev", "lo");
    this.holder.kill("SIGKILL");
  }
}

/** A trunk that answers each call, speaks, and notes every request and when each packet came. */
class Trunk {
  constructor() {
    Object.assign(this, { requests: [], arrivals: [] });
    this.sip = createSocket("udp4");
    this.sip.on("message", (data, from) => this.#message(String(data), from));
    this.sip.bind(SIP.trunk, HOST);
    this.rtp = createSocket("udp4");
    this.rtp.on("message", (data) => {
      if ((data[1] & 0x7f) === 0) this.arrivals.push(Date.now());
    });
    this.rtp.bind(23000, HOST);
  }
  #message(text, from) {
    const method = text.slice(0, text.indexOf(" "));
    if (method.startsWith("SIP/2.0")) return;
    if (method !== "OPTIONS") this.requests.push(method);
    if (method === "ACK") return;
    const kept = text
      .split("\r\n")
      .filter((line) => /^(via|from|to|call-id|cseq|record-route):/i.test(line))
      .map((line) => (/^to:/i.test(line) && !/;tag=/.test(line) ? `${line};tag=far` : line));
    const body =
      method === "INVITE"
        ? `v=0\r\no=- 1 1 IN IP4 ${HOST}\r\ns=-\r\nc=IN IP4 ${HOST}\r\nt=0 0\r\n` +
          "m=audio 23000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        : "";
    if (body) this.#speak(Number(/m=audio (\d+)/.exec(text)[1]));
    const head = ["SIP/2.0 200 OK", ...kept, `Contact: <sip:${HOST}:${SIP.trunk}>`];
    if (body) head.push("Content-Type: application/sdp");
    const answer = `${[...head, `Content-Length: ${body.length}`].join("\r\n")}\r\n\r\n${body}`;
    this.sip.send(answer, from.port, from.address);
  }
  /** A packet every 20 ms by the clock. */
  #speak(port) {
    const began = Date.now();
    let sent = 0;
    clearInterval(this.speaking);
    this.speaking = setInterval(() => {
      for (; sent * 20 < Date.now() - began; sent++) {
        const packet = Buffer.alloc(172, 0x7f);
        packet.writeUInt16BE(0x8000, 0);
        packet.writeUInt16BE(sent & 0xffff, 2);
        packet.writeUInt32BE(sent * 160, 4);
        packet.writeUInt32BE(7, 8);
        for (let n = 12; n < 172; n++) packet[n] = n & 8 ? 0x9f : 0x1f;
        this.rtp.send(packet, port, HOST);
      }
    }, 10);
  }
  close() {
    clearInterval(this.speaking);
    this.sip.close();
    this.rtp.close();
  }
}

/** Run in the page: when packets of the call's came, looked at every 50 ms. */
function watch() {
  window.arrivals = [];
  let last = -1;
  setInterval(async () => {
    const connection = line.connection();
    let count = 0;
    (await connection.getStats()).forEach((s) => {
      if (s.type === "inbound-rtp") count += s.packetsReceived;
    });
    if (count > last) window.arrivals.push(Date.now());
    last = count;
  }, 50);
}

/** The longest pause after `since`, milliseconds; one that goes on counts to now. */
function longest(arrivals, since) {
  const times = [since, ...arrivals.filter((at) => at >= since), Date.now()];
  return Math.max(...times.slice(1).map((at, n) => at - times[n]));
}

const quantile = (all, share) => all.toSorted((a, b) => a - b)[Math.ceil(all.length * share) - 1];
const figures = (all) =>
  [0.5, 0.99].map((share) => `p${share * 100} ${(quantile(all, share) / 1000).toFixed(1)} s`);

/** A page of a library's, registered and in a call. */
async function libraryInCall(chrome, library) {
  const { page, shop } = await libraryPage(chrome, library, SHOP, HOST);
  await page.evaluate((server) => {
    window.server = server;
  }, `ws://${HOST}:${PORT}/sip`);
  await page.evaluate(() => line.register("alice", "alice-secret"));
  await page.evaluate(() => line.call("5550"));
  return { page, shop };
}

/** The gateway's own page, likewise. */
async function pageInCall(chrome) {
  const page = await phone(chrome, { url: `http://${HOST}:${PORT}/` });
  await dial(page, "5550");
  await connected(page);
  await page.evaluate(() => {
    window.line = {
      connection: () => webtrunkPhone.session.connection,
      bye: () => webtrunkPhone.session.terminate(),
    };
  });
  return { page };
}

async function world(library, body) {
  const [elsewhere, trunk] = [new Elsewhere(), new Trunk()];
  const folder = join(work, "moving");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "dialplans"), { recursive: true });
  writeFileSync(join(folder, "webtrunk.toml"), CONFIG);
  const route = '[[route]]\nname = "All"\nmatch = "X."\ndo = [{ dial = ["trunk:far"] }]\n';
  writeFileSync(join(folder, "dialplans/all.toml"), route);
  let node, chrome, shop;
  try {
    await elsewhere.open();
    const control = join(folder, "c.sock");
    node = start(binary, ["serve", "-c", join(folder, "webtrunk.toml"), "--control", control]);
    await until("webtrunk serves", () => {
      if (node.code !== undefined) throw new Error(node.output);
      return /serves the page/.test(node.output);
    });
    const origins = [SHOP, PORT].map((port) => `http://${HOST}:${port}`);
    const safe = `--unsafely-treat-insecure-origin-as-secure=${origins}`;
    chrome = await browser({ executablePath: elsewhere.launcher(), args: [safe] });
    const opened = await (library ? libraryInCall(chrome, library) : pageInCall(chrome));
    shop = opened.shop;
    const { page } = opened;
    await page.evaluate(watch);
    await until("the trunk hears the browser", () => trunk.arrivals.length > 50);
    await body({ elsewhere, trunk, page });
    await page.evaluate(() => line.bye());
    await until("the call is over", () => trunk.requests.includes("BYE"));
    if (/ ERROR /.test(node.output)) throw new Error(`the log holds an ERROR:\n${node.output}`);
  } catch (error) {
    error.stack += `\n--- its log\n${node?.output.split("\n").slice(-40).join("\n")}`;
    throw error;
  } finally {
    shop?.close();
    await chrome?.close();
    if (node) await stop(node, "SIGKILL");
    trunk.close();
    elsewhere.close();
  }
}

/** Lets `event` happen so often, and says how long it cost media, at the trunk and at the browser. */
async function timesOf(what, { trunk, page }, event) {
  const [out, back] = [[], []];
  for (let n = 0; n < MOVES; n++) {
    const since = Date.now();
    await event(n);
    const moved = Date.now() + 500;
    await until(
      `heard both ways after ${what} ${n + 1}`,
      async () => {
        const there = await page.evaluate(() => window.arrivals.at(-1));
        return (
          Math.min(trunk.arrivals.at(-1), there) > moved && Date.now() - trunk.arrivals.at(-1) < 100
        );
      },
      25,
    );
    await new Promise((next) => setTimeout(next, 1500));
    out.push(longest(trunk.arrivals, since));
    back.push(longest(await page.evaluate(() => window.arrivals), since));
  }
  const told = trunk.requests.filter((method) => !["INVITE", "ACK"].includes(method));
  const all = `${MOVES} times ${what}; without media to the trunk ${figures(out).join(", ")}`;
  console.log(`        ${all}; to the browser ${figures(back).join(", ")}`);
  if (told.length || trunk.requests.length !== 2)
    throw new Error(`the trunk was told ${trunk.requests}`);
  return { out, back };
}

export function moving() {
  for (const [name, library] of [
    ["JsSIP", "jssip"],
    ["SIP.js", "sipjs"],
    // Where the system does not end its WebSocket, the page itself must notice.
    ["the page, its WebSocket half open", null],
  ])
    test(`a browser that moves to another network in mid-call goes on talking (${name})`, () =>
      world(library, async (there) => {
        const { out, back } = await timesOf("moved", there, () => {
          there.elsewhere.leave(library !== null);
          there.elsewhere.arrive();
        });
        if (Math.max(...out, ...back) > (library ? 10_000 : 15_000))
          throw new Error(`${out} and ${back} ms`);
      }));

  test("a browser whose NAT gives it another port in mid-call goes on talking at once", () =>
    world("jssip", async (there) => {
      const own = await there.page.evaluate(async () => {
        const stats = await line.connection().getStats();
        const pair = [...stats.values()].find((s) => s.type === "candidate-pair" && s.nominated);
        return stats.get(pair.localCandidateId).port;
      });
      const rebound = (n) => there.elsewhere.rebind(own, GIVEN + n);
      const { out, back } = await timesOf("another port", there, rebound);
      if (Math.max(...out, ...back) > 1_000) throw new Error(`${out} and ${back} ms`);
    }));
}
