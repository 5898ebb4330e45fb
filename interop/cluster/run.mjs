#!/usr/bin/env node
// Three nodes and Debian's redis-server, JsSIP in Chromium: who registered on one rings who
// registered on another; a killed store and a killed node cost what the book says, and no more.
//   interop/run.sh cluster [PART OF A CASE'S NAME]
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  binary,
  browser,
  connected,
  dial,
  equal,
  hears,
  hearsNothing,
  over,
  PUBLIC,
  phone,
  runAll,
  start,
  stop,
  test,
  until,
  work,
} from "../chromium/rig.mjs";

const REDIS = 6399;
const PASSWORD = "store-secret";
const TOKEN = "a token for a test only, and long enough";
const NODES = ["a", "b", "c"];
const USERS = ["alice", "bob", "carol"];
const web = (node) => 8101 + NODES.indexOf(node);

const config = (node) => `[server]
domain = "wt.test"
public_ip = "${PUBLIC}"
[cluster]
node = "${node}"
store = "redis://127.0.0.1:${REDIS}"
password = { env = "STORE_PASSWORD" }
key = { file = "cluster.key" }
listen = "${PUBLIC}:${5071 + NODES.indexOf(node)}"
[web]
listen = "127.0.0.1:${web(node)}"
[media]
browser_port = ${web(node)}
workers = 1
ports = "${20000 + 1000 * NODES.indexOf(node)}-${20999 + 1000 * NODES.indexOf(node)}"
[events]
cdr = { file = "cdr.jsonl" }
[api]
control = "control.sock"
[api.token.test]
sha256 = "${createHash("sha256").update(TOKEN).digest("hex")}"
scope = "admin"
${USERS.map((user) => `[user.${user}]\npassword = "${user}-secret"\ncontext = "phones"\ncalls_per_second = 50\n`).join("")}`;

const plan = USERS.map(
  (user, n) =>
    `[[route]]\nname = "${user}"\nmatch = "20${n}"\ndo = [{ ring = ["user:${user}"], timeout = "20s" }]\n`,
).join("");

const folder = (node) => join(work, node);
const running = {};

async function serve(node) {
  const child = start(binary, ["serve", "-c", join(folder(node), "webtrunk.toml")], {
    env: { ...process.env, STORE_PASSWORD: PASSWORD },
  });
  running[node] = child;
  await until(`node ${node} serves`, () => {
    if (child.code !== undefined) throw new Error(child.output);
    return /serves the page/.test(child.output);
  });
}

let redis;
async function store() {
  redis = start("redis-server", [
    ...["--port", String(REDIS), "--bind", "127.0.0.1", "--requirepass", PASSWORD],
    ...["--save", "", "--appendonly", "no", "--dir", work],
  ]);
  await until("redis-server is ready", () => /Ready to accept/.test(redis.output));
}

const ask = (node, ...args) =>
  JSON.parse(
    execFileSync(binary, [...args, "-o", "json", "--control", join(folder(node), "control.sock")], {
      encoding: "utf8",
    }),
  );
const nodes = (node) => ask(node, "nodes");
const joined = (count) =>
  until(`${count} nodes are joined`, () =>
    NODES.filter((node) => running[node].code === undefined).every((node) => {
      const all = nodes(node);
      return all.length === count && all.every((n) => n.state === "joined");
    }),
  );
const records = (node) =>
  readFileSync(join(folder(node), "cdr.jsonl"), "utf8")
    .trim()
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));

for (const node of NODES) {
  mkdirSync(join(folder(node), "dialplans"), { recursive: true });
  writeFileSync(join(folder(node), "webtrunk.toml"), config(node));
  writeFileSync(join(folder(node), "dialplans/phones.toml"), plan);
  writeFileSync(join(folder(node), "cluster.key"), "a key of the whole cluster, for a test only\n");
  writeFileSync(join(folder(node), "cdr.jsonl"), "");
}
await store();
for (const node of NODES) await serve(node);
const chrome = await browser();
const at = (user, node) => phone(chrome, { user, url: `http://localhost:${web(node)}/` });
const [alice, bob, carol] = await Promise.all([at("alice", "a"), at("bob", "b"), at("carol", "c")]);

async function call(from, to, number) {
  await dial(from, number);
  await to.waitForSelector("#answer:visible", { timeout: 8_000 });
  await to.click("#answer");
  await Promise.all([connected(from), connected(to)]);
}

async function hangUp(page, other) {
  await page.click("#hangup");
  await Promise.all([over(page), over(other)]);
}

test("the nodes see one another, with their load", async () => {
  await joined(3);
  const all = nodes("a");
  equal(
    all
      .map((n) => n.node)
      .sort()
      .join(),
    "a,b,c",
    "nodes",
  );
  await until("registrations are counted", () =>
    nodes("a").every((node) => node.registrations === 1),
  );
});

test("any browser rings any other, on whichever node, and both are heard", async () => {
  for (const [from, to, number] of [
    [alice, bob, "201"],
    [bob, alice, "200"],
    [carol, alice, "200"],
    [bob, carol, "202"],
  ]) {
    await call(from, to, number);
    await Promise.all([hears(from, 440), hears(to, 440)]);
    await hangUp(to, from);
  }
  await until("the records", () => records("a").length === 1 && records("b").length === 2);
  equal(records("a")[0].verdict?.code ?? "WT-0000", "WT-0000", "the verdict");
});

test("a hold and its end go through the edge", async () => {
  await call(alice, bob, "201");
  await hears(alice, 440);
  await bob.click("#hold");
  await hearsNothing(alice);
  await bob.click("#hold");
  await Promise.all([hears(alice, 440), hears(bob, 440)]);
  await hangUp(alice, bob);
});

test("the page shows calls and users of all nodes or of one, and drains another node", async () => {
  await call(bob, carol, "202");
  const context = await chrome.newContext({ locale: "en" });
  await context.addInitScript((token) => sessionStorage.setItem("webtrunk-token", token), TOKEN);
  const page = await context.newPage();
  const rows = (view) => page.locator(`#view-${view} .panel`).first().locator("tbody tr");
  const looks = async (view, count) => {
    await page.goto(`http://localhost:${web("a")}/#/${view}`);
    await until(
      `${count} rows of ${view}`,
      async () => (await rows(view.split("?")[0]).count()) === count,
    );
  };
  await looks("nodes", 3);
  equal(await page.locator("#nodes-tab").isVisible(), true, "the tab of nodes is seen");
  const b = rows("nodes").filter({ hasText: `${PUBLIC}:5072` });
  const draining = (is) =>
    until(`b drains: ${is}`, () => nodes("a").find((n) => n.node === "b").draining === is);
  await b.getByRole("button", { name: "Drain" }).click();
  await page.locator("dialog[open] .stop").click();
  await draining(true);
  await b.getByRole("button", { name: "Accept calls" }).click();
  await draining(false);
  await looks("users", 3);
  await page.locator('#view-users select[name="node"]').selectOption("c");
  await until("carol alone", async () =>
    (await rows("users").allInnerTexts()).join().includes("carol"),
  );
  equal(await rows("users").count(), 1, "users of c");
  await looks("calls?state=live", 1);
  await looks("calls?state=live&node=a", 0);
  await looks("calls?state=live&node=b", 1);
  await rows("calls").first().click();
  await page.waitForSelector("#call-view");
  equal((await page.locator("#call-view h2").textContent()).includes("202"), true, "the call of b");
  await context.close();
  await hangUp(bob, carol);
});

test("without the store calls on a node go on, others are 480, and it heals", async () => {
  await call(alice, bob, "201");
  await stop(redis, "SIGKILL");
  await until("the nodes notice", () => nodes("a").find((n) => n.this).state === "store away");
  await Promise.all([hears(alice, 440), hears(bob, 440)]);
  await hangUp(bob, alice);
  const before = records("c").length;
  await dial(carol, "200");
  await until("the refusal", () => records("c").length > before);
  const record = records("c").at(-1);
  equal(record.verdict.code, "WT-4001", `the verdict of ${JSON.stringify(record)}`);
  await over(carol);
  await store();
  await joined(3);
  await call(carol, alice, "200");
  await hangUp(carol, alice);
});

test("a node that was killed is gone within 4 s; started again, its user is reached", async () => {
  await stop(running.b, "SIGKILL");
  const began = Date.now();
  await until("it is gone", () => nodes("a").length === 2, 6);
  const gone = (Date.now() - began) / 1000;
  await serve("b");
  await joined(3);
  await bob.waitForSelector("#line[data-state=online]", { timeout: 30_000 });
  await until("its registration is told", () =>
    nodes("a").every((node) => node.registrations === 1),
  );
  await call(alice, bob, "201");
  await Promise.all([hears(alice, 440), hears(bob, 440)]);
  await hangUp(alice, bob);
  console.log(`        gone after ${gone.toFixed(1)} s`);
});

test("a node that stops gives its lease back at once", async () => {
  await stop(running.c, "SIGTERM");
  await until("it is gone", () => nodes("a").length === 2, 2);
  await serve("c");
  await joined(3);
});

test("who has another key gets nowhere", async () => {
  const file = join(folder("c"), "cluster.key");
  const key = readFileSync(file);
  writeFileSync(file, "another key, which is long enough but not the same\n");
  await stop(running.c, "SIGTERM");
  await serve("c");
  await until("a says so", () => /WT-4004/.test(running.a.output));
  equal(nodes("a").length, 2, "nodes that a knows");
  await stop(running.c, "SIGTERM");
  writeFileSync(file, key);
  await serve("c");
  await joined(3);
});

test("how much longer a call across nodes takes to ring", async () => {
  const took = async (from, to, number) => {
    const began = performance.now();
    await dial(from, number);
    await to.waitForSelector("#answer:visible");
    const ms = performance.now() - began;
    await from.click("#hangup");
    // What still rings would be taken for the next call.
    await Promise.all([over(from), over(to)]);
    return ms;
  };
  const other = await at("bob", "a");
  const median = (all) => all.sort((x, y) => x - y)[Math.floor(all.length / 2)];
  const [here, there] = [[], []];
  for (let n = 0; n < 5; n++) here.push(await took(alice, other, "201"));
  await other.context().close();
  await bob.waitForSelector("#line[data-state=online]");
  await until("bob is at b alone", () => nodes("a").find((n) => n.this).registrations === 1);
  for (let n = 0; n < 5; n++) there.push(await took(alice, bob, "201"));
  console.log(
    `        rings after ${median(here).toFixed(0)} ms on one node, ${median(there).toFixed(0)} ms across two`,
  );
});

let failed = 1;
try {
  failed = await runAll(async () => {
    for (const page of [alice, bob, carol]) await page.click("#hangup").catch(() => {});
  });
  for (const node of NODES) {
    const errors = running[node].output.split("\n").filter((line) => /\bERROR\b/.test(line));
    if (errors.length) {
      failed++;
      console.log(`node ${node}:\n${errors.join("\n")}`);
    }
  }
  if (failed) for (const node of NODES) console.log(running[node].output.slice(-3000));
} finally {
  await chrome.close();
  await Promise.all([...Object.values(running), redis].map((child) => stop(child, "SIGTERM")));
}
process.exit(failed ? 1 : 0);
