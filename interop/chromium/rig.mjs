// What every case uses: processes started and stopped by pid, pages, tones heard, records written.
import { chromium } from "playwright-core";
import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, cpSync, readFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, dirname } from "node:path";
import { fileURLToPath } from "node:url";

export const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = join(HERE, "..", "..");
export const SHOTS = join(ROOT, "target", "screenshots");
mkdirSync(SHOTS, { recursive: true });
/** Where files of this run are; it stays if a case failed. */
export const work = mkdtempSync(join(tmpdir(), "wt-interop-"));
process.on("exit", (code) => {
  if (code === 0) rmSync(work, { recursive: true, force: true });
});
export const binary = process.env.WEBTRUNK_BIN || join(ROOT, "target", "debug", "webtrunk");
/** The gateway's address for all peers: the second of the two that run.sh gives the namespace. */
export const PUBLIC = "10.45.0.1";
const children = new Set();
const servers = new Set();
execFileSync(join(ROOT, "interop/certificates.sh"), [work]);
process.env.WEBTRUNK_CERTS = work;
// Another gateway of this machine may have the usual place.
process.env.WEBTRUNK_CONTROL = join(work, "c.sock");

export function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  child.output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data) => {
      child.output += data;
    });
  children.add(child);
  child.on("exit", (code) => {
    child.code = code;
    children.delete(child);
  });
  return child;
}

/** A web server of a case's own, as a shop has one; resolves once it listens. */
export async function serveHttp(answer, port, host = "127.0.0.1") {
  const server = createServer(answer);
  servers.add(server);
  server.on("close", () => servers.delete(server));
  await new Promise((listening, failed) =>
    server.once("error", failed).listen(port, host, listening),
  );
  return server;
}

/** Waits for a child to end, asked or forced to. */
export async function stop(child, signal) {
  if (child.code !== undefined) return;
  const over = new Promise((done) => child.on("exit", done));
  if (signal) child.kill(signal);
  const force = setTimeout(() => child.kill("SIGKILL"), 5000);
  await over;
  clearTimeout(force);
}

export async function until(what, test, seconds = 10) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await test();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

export function stopAll() {
  for (const child of children) child.kill("SIGKILL");
  execFileSync(join(ROOT, "interop/asterisk/asterisk.sh"), ["stop"]);
}

export async function webtrunk(config = "webtrunk.toml") {
  cpSync(join(HERE, config), join(work, config));
  cpSync(join(HERE, "dialplans"), join(work, "dialplans"), { recursive: true });
  // The commands of the suite find the first one; a second has a socket of its own.
  const own = config === "webtrunk.toml" ? [] : ["--control", join(work, `${config}.sock`)];
  const node = start(binary, ["serve", "-c", join(work, config), "--log", "text", ...own]);
  await until("webtrunk serves", () => {
    if (node.code !== undefined) throw new Error(node.output);
    return /serves the page/.test(node.output);
  });
  return node;
}

export const asterisk = {
  async start() {
    const child = start(join(ROOT, "interop/asterisk/asterisk.sh"), ["start"]);
    await until(
      "Asterisk is up",
      () => {
        try {
          return /PJSIP|udp/.test(this.cli("pjsip show transports"));
        } catch {
          return false;
        }
      },
      30,
    );
    return child;
  },
  cli(command) {
    return execFileSync(join(ROOT, "interop/asterisk/asterisk.sh"), ["cli", command], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  },
  root: execFileSync(join(ROOT, "interop/asterisk/asterisk.sh"), ["root"], {
    encoding: "utf8",
  }).trim(),
  log() {
    const files = ["messages.log", "messages"].map((name) =>
      join(this.root, "var/log/asterisk", name),
    );
    const written = files.find(existsSync);
    return written ? readFileSync(written, "utf8") : "";
  },
  channels() {
    return Number(/(\d+) active channel/.exec(this.cli("core show channels"))[1]);
  },
};

export function cdrs() {
  const file = join(work, "cdr.jsonl");
  return existsSync(file)
    ? readFileSync(file, "utf8")
        .trim()
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line))
    : [];
}

/** Runs `body` and returns the one record it led to. */
export async function recordOf(body, count = 1) {
  const before = cdrs().length;
  await body();
  await until("the call record", () => cdrs().length >= before + count);
  return cdrs().slice(before);
}

/** A file of the book. */
export function block(page, name) {
  const text = readFileSync(join(HERE, "../../src/docs", page), "utf8");
  const found = new RegExp(`\`\`\`\\w+ ${name.replace(".", "\\.")}\\n([^]*?)\`\`\``).exec(text);
  if (!found) throw new Error(`${page} has no block ${name}`);
  return found[1];
}

export async function browser({ executablePath = "/usr/bin/chromium", args = [] } = {}) {
  const tone = join(work, "440.wav");
  execFileSync("sox", [
    "-n",
    "-r",
    "48000",
    "-c",
    "1",
    "-b",
    "16",
    tone,
    "synth",
    "10",
    "sine",
    "440",
    "gain",
    "-6",
  ]);
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      `--use-file-for-fake-audio-capture=${tone}`,
      "--autoplay-policy=no-user-gesture-required",
      "--disable-dev-shm-usage",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
      "--allow-loopback-in-peer-connection",
      "--disable-quic",
      ...args,
    ],
  });
}

export async function phone(
  browser,
  {
    user = "alice",
    password = `${user}-secret`,
    url = "http://localhost:8090/",
    expectOnline = true,
    ...context
  } = {},
) {
  const own = await browser.newContext({ ignoreHTTPSErrors: true, ...context });
  const page = await own.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 503/.test(message.text()))
      page.problems.push(message.text());
  });
  await page.goto(url);
  if (user) {
    await page.fill("#user", user);
    await page.fill("#password", password);
    await page.click("#login button");
  }
  // A tone must reach the far end as it is.
  await page.evaluate(() =>
    Object.assign(webtrunkPhone.options.mediaConstraints, {
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    }),
  );
  if (expectOnline) await page.waitForSelector("#line[data-state=online]", { timeout: 10_000 });
  return page;
}

/** A page of a SIP library as it comes, served by a shop of another origin. */
export async function libraryPage(browser, library, port = 8097, host = "localhost") {
  const { buildSync } = await import("esbuild");
  const entry = join(work, `${library}-page.mjs`);
  cpSync(join(HERE, `${library}-page.mjs`), entry);
  cpSync(join(ROOT, "src/web/dist/jssip.js"), join(work, "jssip.js"));
  const bundle = buildSync({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "iife",
    nodePaths: [join(HERE, "node_modules")],
  }).outputFiles[0].text;
  const page = await (await browser.newContext()).newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  const sources = { "/page.js": bundle, "/jssip.js": readFileSync(join(work, "jssip.js")) };
  const answer = (request, response) => {
    const type = sources[request.url] ? "text/javascript" : "text/html";
    response.setHeader("content-type", `${type}; charset=utf-8`);
    response.end(
      sources[request.url] ??
        `<!doctype html><audio id="remote" autoplay></audio>${
          library === "jssip" ? '<script src="/jssip.js"></script>' : ""
        }<script src="/page.js"></script>`,
    );
  };
  const shop = await serveHttp(answer, port, host.replace("localhost", "127.0.0.1"));
  await page.goto(`http://${host}:${port}/`);
  return { page, shop, problems };
}

export const sipjsPage = (browser, port) => libraryPage(browser, "sipjs", port);

export async function dial(page, number) {
  await page.fill("#number", number);
  await page.click("#dial");
}

export const connected = (page) =>
  page.waitForFunction(
    () => ["Connected", "Verbunden"].includes(document.getElementById("state")?.textContent),
    null,
    { timeout: 15_000 },
  );
export const over = (page) =>
  page.waitForFunction(() => webtrunkPhone.session === null, null, { timeout: 15_000 });

/**
 * The loudest frequency heard in the next half second, Hz, and its level, dBFS; -200 is silence.
 */
export function heard(page) {
  return page.evaluate(async () => {
    const stream = document.getElementById("remote").srcObject;
    // Chromium takes the track away while the far end does not send.
    if (!stream || stream.getAudioTracks().length === 0) return { hz: 0, db: -200 };
    // At the context's own rate: Firefox connects no stream to a context of another.
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 32768;
    analyser.smoothingTimeConstant = 0;
    context.createMediaStreamSource(stream).connect(analyser);
    await new Promise((next) => setTimeout(next, 900));
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    const width = context.sampleRate / analyser.fftSize;
    // From 16 Hz to what a telephone carries.
    let best = Math.ceil(16 / width);
    for (let n = best; n < 4000 / width; n++) if (bins[n] > bins[best]) best = n;
    await context.close();
    return { hz: best * width, db: Number.isFinite(bins[best]) ? bins[best] : -200 };
  });
}

export async function hears(page, hz, seconds = 8) {
  let last;
  await until(
    `hears ${hz} Hz`,
    async () => {
      last = await heard(page);
      return Math.abs(last.hz - hz) < 8 && last.db > -55;
    },
    seconds,
  ).catch((error) => {
    throw new Error(`${error.message}; heard ${JSON.stringify(last)}`);
  });
  return last;
}

export async function hearsNothing(page, seconds = 8) {
  let last;
  await until(
    "silence",
    async () => {
      last = await heard(page);
      return last.db < -70;
    },
    seconds,
  ).catch((error) => {
    throw new Error(`${error.message}; heard ${JSON.stringify(last)}`);
  });
}

export const stats = (page) =>
  page.evaluate(async () => {
    const all = {};
    (await webtrunkPhone.session.connection.getStats()).forEach((s) => {
      (all[s.type] ||= []).push(s);
    });
    return all;
  });

/**
 * The loudest frequency of a WAV file by sox's own analysis of its middle, and its RMS level in dB.
 */
export function toneOf(file) {
  const text = (effects) =>
    execFileSync("sh", ["-c", `sox "${file}" -n ${effects} 2>&1`], { encoding: "utf8" });
  const hz = Number(/Rough\s+frequency:\s+(\d+)/.exec(text("trim 1 2 stat"))[1]);
  const db = Number(/RMS lev dB\s+(-?[\d.]+)/.exec(text("trim 1 2 stats"))[1]);
  return { hz, db };
}

export function equal(actual, expected, what) {
  if (actual !== expected)
    throw new Error(`${what}: ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`);
}

const cases = [];
export const test = (name, body) => cases.push({ name, body });

/** Ends what a case began and, as it failed, did not end: the next may want the same ports. */
async function endSince({ childrenThen, serversThen, contextsThen }, contexts) {
  const since = (now, then) => [...now].filter((one) => !then.has(one));
  for (const context of since(contexts(), contextsThen)) await context.close().catch(() => {});
  for (const server of since(servers, serversThen)) {
    server.closeAllConnections();
    server.close();
  }
  for (const child of since(children, childrenThen)) if (!child.stays) await stop(child, "SIGTERM");
}

/**
 * Runs every case, or those the command line names. With `contexts`, which lists the browser's,
 * a failed case leaves nothing to the next.
 */
export async function runAll(cleanUp, contexts) {
  const only = process.argv.slice(2);
  let failed = 0,
    passed = 0;
  for (const { name, body } of cases) {
    if (only.length && !only.some((part) => name.includes(part))) continue;
    const began = Date.now();
    const before = {
      childrenThen: new Set(children),
      serversThen: new Set(servers),
      contextsThen: new Set(contexts?.()),
    };
    try {
      await body();
      passed++;
      console.log(`ok      ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed++;
      await cleanUp?.();
      if (contexts) await endSince(before, contexts);
      console.log(
        `FAILED  ${name}\n        ${error.stack.split("\n").slice(0, 60).join("\n        ")}`,
      );
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed;
}
