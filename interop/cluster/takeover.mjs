#!/usr/bin/env node
// Two nodes on machines of their own (namespaces), Debian's redis-server, JsSIP in Chromium: a node
// is killed in the middle of a call, and the other goes on with it, with its address and without.
//   interop/run.sh cluster [PART OF A CASE'S NAME]
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  binary,
  browser,
  connected,
  dial,
  equal,
  hears,
  libraryPage,
  over,
  phone,
  runAll,
  start,
  stop,
  test,
  until,
  work,
} from "../chromium/rig.mjs";

const HERE = "10.46.0.1";
const REDIS = 6399;
const NODES = ["a", "b"];
const OWN = { a: "10.46.0.11", b: "10.46.0.12" };
const FLOATING = "10.46.0.100";
const page = (address) => `http://${address}:8100/`;

const sh = (line) => execFileSync("sh", ["-c", line]);
sh(`mount -t tmpfs none /run/netns 2>/dev/null || { mkdir -p /run/netns && mount -t tmpfs none /run/netns; }
ip link add br0 type bridge && ip address add ${HERE}/24 dev br0 && ip link set br0 up`);
for (const node of NODES)
  sh(`ip netns add n${node} && ip link add v${node} type veth peer name eth0 netns n${node}
ip link set v${node} master br0 && ip link set v${node} up
ip -n n${node} link set lo up && ip -n n${node} address add ${OWN[node]}/24 dev eth0
ip -n n${node} link set eth0 up`);

/** The floating address is this node's from now on, as keepalived does it. */
function give(node) {
  for (const other of NODES)
    sh(`ip -n n${other} address del ${FLOATING}/24 dev eth0 2>/dev/null || true`);
  sh(`ip -n n${node} address add ${FLOATING}/24 dev eth0; ip neigh flush dev br0`);
}

const config = (node, floats) => `[server]
domain = "wt.test"
public_ip = "${floats && node === "a" ? FLOATING : OWN[node]}"
state_dir = "state"
[cluster]
node = "${node}"
store = "redis://${HERE}:${REDIS}"
key = { file = "cluster.key" }
advertise = "${OWN[node]}:5071"
${floats && node === "a" ? `address = "${FLOATING}"` : ""}
[web]
listen = "0.0.0.0:8100"
origins = ["http://localhost:8097"]
[media]
browser_port = 8100
workers = 1
ports = "${node === "a" ? "20000-20999" : "21000-21999"}"
[events]
cdr = { file = "cdr.jsonl" }
[api]
control = "control.sock"
[user.alice]
password = "alice-secret"
context = "phones"
`;
const plan = `[[route]]
name = "echo"
match = "9196"
do = [{ echo = true }]
`;

// Each case has machines of its own.
let round = 0;
const folder = (node) => join(work, `machine-${node}-${round}`);
const running = {};

async function serve(node, floats) {
  mkdirSync(join(folder(node), "dialplans"), { recursive: true });
  writeFileSync(join(folder(node), "webtrunk.toml"), config(node, floats));
  writeFileSync(join(folder(node), "dialplans/phones.toml"), plan);
  writeFileSync(join(folder(node), "cluster.key"), "a key of the whole cluster, for a test only\n");
  const args = ["netns", "exec", `n${node}`, binary, "serve", "-c"];
  const child = start("ip", [...args, join(folder(node), "webtrunk.toml")]);
  running[node] = child;
  await until(`node ${node} serves`, () => {
    if (child.code !== undefined) throw new Error(child.output);
    return /serves the page/.test(child.output);
  });
}

const records = (node) => {
  const file = join(folder(node), "cdr.jsonl");
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").trim().split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line));
};
const ask = (node, ...args) =>
  JSON.parse(
    execFileSync(binary, [...args, "-o", "json", "--control", join(folder(node), "control.sock")], {
      encoding: "utf8",
    }),
  );

async function cluster(floats) {
  round += 1;
  for (const node of NODES) await serve(node, floats);
  if (floats) give("a");
  await until("both are joined", () => ask("b", "nodes").length === 2);
}

async function stopAll() {
  await Promise.all(Object.values(running).map((child) => stop(child, "SIGTERM")));
}

const redis = start("redis-server", [
  ...["--port", String(REDIS), "--bind", HERE, "--protected-mode", "no"],
  ...["--save", "", "--appendonly", "no", "--dir", work],
]);
await until("redis-server is ready", () => /Ready to accept/.test(redis.output));
const secure = [FLOATING, ...Object.values(OWN)].map((ip) => page(ip).slice(0, -1)).join(",");
const chrome = await browser({ args: [`--unsafely-treat-insecure-origin-as-secure=${secure}`] });

/** What the record at the taker says of the interruption. */
async function interrupted(most) {
  await until("the record", () => records("b").length > 0);
  const record = records("b").at(-1);
  equal(record.interruptions.length, 1, "interruptions");
  const [{ gap_ms, lost_node, by_node }] = record.interruptions;
  equal(`${lost_node} ${by_node}`, "a b", "the nodes");
  console.log(`        ${(gap_ms / 1000).toFixed(1)} s without media by the record`);
  if (gap_ms > most) throw new Error(`${gap_ms} ms without media`);
  const sentence = record.verdict?.sentence ?? "";
  if (!/node a was lost; node b took the call over/.test(sentence)) throw new Error(sentence);
  equal(records("a").length, 0, "records at the lost node");
}

test("a node is killed, and its address moves: the call goes on and nobody is told", async () => {
  await cluster(true);
  const alice = await phone(chrome, { user: "alice", url: page(FLOATING) });
  await dial(alice, "9196");
  await connected(alice);
  await hears(alice, 440);
  await new Promise((next) => setTimeout(next, 2_000));
  const began = Date.now();
  await stop(running.a, "SIGKILL");
  setTimeout(() => give("b"), 1_000);
  await until(
    "b has the call",
    () => /WT-4006.*1 of its calls|1 of its calls continue/.test(running.b.output),
    15,
  );
  await hears(alice, 440);
  console.log(`        heard again at most ${((Date.now() - began) / 1000).toFixed(1)} s later`);
  equal(
    ask("b", "nodes")
      .find((n) => n.this)
      .took.join(),
    "a",
    "whose calls b took",
  );
  await alice.waitForSelector("#line[data-state=online]", { timeout: 30_000 });
  await hears(alice, 440);
  await alice.click("#hangup");
  await over(alice);
  await interrupted(5_000);
  await stopAll();
});

test("a node is killed, and no address moves: stock JsSIP goes on at the other", async () => {
  await cluster(false);
  const { page, shop } = await libraryPage(chrome, "jssip", 8097);
  await page.evaluate(
    (servers) => {
      window.server = servers;
    },
    NODES.map((node) => `ws://${OWN[node]}:8100/sip`),
  );
  await page.evaluate(() => window.line.register("alice", "alice-secret"));
  await until(
    "a has the registration",
    () => ask("a", "nodes").find((n) => n.this).registrations === 1,
  );
  await page.evaluate(() => window.line.call("9196"));
  await hears(page, 440);
  await new Promise((next) => setTimeout(next, 2_000));
  const began = Date.now();
  await stop(running.a, "SIGKILL");
  await until("b has the call", () => /1 of its calls/.test(running.b.output), 15);
  await until(
    "an ICE restart",
    () => page.evaluate(() => window.line.connection().iceConnectionState === "connected"),
    15,
  );
  await hears(page, 440, 15);
  console.log(`        heard again at most ${((Date.now() - began) / 1000).toFixed(1)} s later`);
  equal(await page.evaluate(() => window.line.established()), true, "the call");
  await page.evaluate(() => window.line.bye());
  await interrupted(8_000);
  shop.close();
  await stopAll();
});

let failed = 1;
try {
  failed = await runAll(async () => {});
  for (const node of NODES) {
    const errors = (running[node]?.output ?? "").split("\n").filter((l) => /\bERROR\b/.test(l));
    if (errors.length) {
      failed++;
      console.log(`node ${node}:\n${errors.join("\n")}`);
    }
  }
  if (failed) for (const node of NODES) console.log(running[node]?.output.slice(-3000));
} finally {
  await chrome.close();
  await Promise.all([...Object.values(running), redis].map((child) => stop(child, "SIGTERM")));
}
process.exit(failed ? 1 : 0);
