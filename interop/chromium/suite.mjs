// Real Chromium with real JsSIP through webtrunk to real Asterisk and SIPp, judged by what is
// heard.
import { readFileSync, rmSync, existsSync } from "node:fs";
import { join } from "node:path";
import {
  SHOTS,
  ROOT,
  asterisk,
  binary,
  browser,
  connected,
  dial,
  equal,
  hears,
  hearsNothing,
  over,
  phone,
  recordOf,
  runAll,
  start,
  stats,
  stopAll,
  test,
  toneOf,
  until,
  webtrunk,
  work,
} from "./rig.mjs";
import { besideCalls } from "./beside.mjs";
import { consoleCases } from "./console.mjs";
import { bookCases } from "./book.mjs";
import { languages } from "./languages.mjs";
import { latency } from "./latency.mjs";
import { closeFirefox, libraries } from "./libraries.mjs";
import { lighthouseCases } from "./lighthouse.mjs";
import { looks } from "./looks.mjs";
import { packages } from "./packages.mjs";
import { singleSignOn } from "./oidc.mjs";
import { peers } from "./peers.mjs";
import { phones } from "./phone.mjs";
import { moving } from "./moving.mjs";
import { network } from "./network.mjs";
import { reloadCases } from "./reload.mjs";
import { signalling } from "./signalling.mjs";
import { steady } from "./steady.mjs";
import { tickets } from "./tickets.mjs";

let node, chrome, alice;
const hangup = async (page) => {
  await page.click("#hangup");
  await over(page);
};

test("a wrong password is refused in words and the right one registers", async () => {
  const page = await phone(chrome, { password: "wrong", expectOnline: false });
  await page.waitForFunction(
    () => document.getElementById("line").textContent === "Wrong user or password",
    null,
    { timeout: 5000 },
  );
  await page.context().close();
});

test("browser to Asterisk: 440 Hz goes out and comes back, transcoded both ways; the browser hangs up", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "600");
    await connected(alice);
    await hears(alice, 440);
    await alice.screenshot({ path: join(SHOTS, "in-call.png") });
    await hangup(alice);
  });
  equal(cdr.hangup_by, "caller", "hung up by");
  equal(cdr.outcome, "success", "outcome");
  equal(cdr.legs.map((l) => l.codec).join(), "opus,PCMU", "codecs");
  if (
    !cdr.legs[0].peer_formats.includes("opus/48000") ||
    !cdr.legs[1].peer_formats.includes("PCMU/8000")
  )
    throw new Error(`formats: ${JSON.stringify(cdr.legs.map((l) => l.peer_formats))}`);
  equal(cdr.legs[0].srtp, "AEAD_AES_128_GCM", "SRTP profile");
  equal(cdr.legs[0].packets_lost + cdr.legs[1].packets_lost, 0, "lost packets");
  await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
});

test("Asterisk records what the browser says: 440 Hz at the level sent", async () => {
  const file = join(asterisk.root, "tmp/wt-record.wav");
  rmSync(file, { force: true });
  await recordOf(async () => {
    await dial(alice, "608");
    await connected(alice);
    await over(alice);
  });
  const { hz, db } = toneOf(file);
  if (Math.abs(hz - 440) > 6 || db < -14 || db > -6)
    throw new Error(`Asterisk recorded ${hz} Hz at ${db} dB`);
});

test("the trunk hangs up", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "605");
    await connected(alice);
    await over(alice);
  });
  equal(cdr.hangup_by, "callee", "hung up by");
});

test("trunk over TCP and A-law", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "1600");
    await connected(alice);
    await hears(alice, 1004);
    await hangup(alice);
  });
  equal(cdr.legs[1].codec, "PCMA", "trunk codec");
});

test("Asterisk calls the browser, which answers, hears 1004 Hz and hangs up", async () => {
  const [cdr] = await recordOf(async () => {
    asterisk.cli("channel originate PJSIP/+12065550111@webtrunk application Milliwatt");
    await alice.waitForSelector("#answer:visible");
    await alice.screenshot({ path: join(SHOTS, "incoming.png") });
    await alice.click("#answer");
    await connected(alice);
    await hears(alice, 1004);
    await hangup(alice);
  });
  equal(cdr.direction, "inbound", "direction");
  equal(cdr.hangup_by, "callee", "hung up by");
});

test("Asterisk calls the browser and hangs up itself", async () => {
  const [cdr] = await recordOf(async () => {
    asterisk.cli("channel originate PJSIP/+12065550111@webtrunk application Wait 3");
    await alice.waitForSelector("#answer:visible");
    await alice.click("#answer");
    await connected(alice);
    await over(alice);
  });
  equal(cdr.hangup_by, "caller", "hung up by");
});

test("Asterisk Dial()s the browser and bridges it", async () => {
  await recordOf(async () => {
    asterisk.cli("channel originate Local/700@from-webtrunk application Milliwatt");
    await alice.waitForSelector("#answer:visible");
    await alice.click("#answer");
    await connected(alice);
    await hears(alice, 1004);
    await hangup(alice);
  });
  await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
});

test("a declined call reaches Asterisk as a refusal", async () => {
  const [cdr] = await recordOf(async () => {
    asterisk.cli("channel originate PJSIP/+12065550111@webtrunk application Milliwatt");
    await alice.waitForSelector("#answer:visible");
    await alice.click("#hangup");
    await over(alice);
  });
  equal(cdr.sip_code, 603, "status");
});

test("busy is told in words", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "602");
    await over(alice);
  });
  equal(cdr.sip_code, 486, "status");
  const words = await alice.textContent("#verdict");
  equal(words, "The line is busy.", "what the page says");
  equal(await alice.getAttribute("#verdict", "class"), "", "busy looks like a fault");
  await alice.screenshot({ path: join(SHOTS, "busy.png") });
});

test("no answer ends by the route's timeout, and Asterisk stops ringing", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "606");
    await over(alice);
  });
  equal(cdr.sip_code, 480, "status");
  await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
});

test("cancel before answer", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "606");
    await alice.waitForFunction(() =>
      /Ringing/.test(document.getElementById("state")?.textContent),
    );
    await hangup(alice);
  });
  equal(cdr.sip_code, 487, "status");
  await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
});

test("early media is heard before the answer", async () => {
  await recordOf(async () => {
    await dial(alice, "603");
    await alice.waitForFunction(() =>
      /you hear the far end/.test(document.getElementById("state")?.textContent),
    );
    await hears(alice, 880, 4);
    equal(
      await alice.evaluate(() => webtrunkPhone.session.isEstablished()),
      false,
      "answered already",
    );
    await connected(alice);
    await hears(alice, 1004);
    await hangup(alice);
  });
});

test("hold silences both ways and resume brings both back", async () => {
  await recordOf(async () => {
    await dial(alice, "600");
    await connected(alice);
    await hears(alice, 440);
    await alice.click("#hold");
    await alice.waitForSelector("#hold[aria-pressed=true]");
    await hearsNothing(alice);
    await alice.click("#hold");
    await alice.waitForSelector("#hold[aria-pressed=false]");
    await hears(alice, 440);
    await hangup(alice);
  });
});

test("mute silences what the far end hears", async () => {
  await recordOf(async () => {
    await dial(alice, "600");
    await connected(alice);
    await hears(alice, 440);
    await alice.click("#mute");
    await hearsNothing(alice);
    await hangup(alice);
  });
});

for (const [how, transport] of [
  ["telephone-events", "RFC2833"],
  ["INFO", "INFO"],
]) {
  test(`DTMF by ${how} from the browser is read back digit by digit in Asterisk`, async () => {
    const before = asterisk.log().length;
    await recordOf(async () => {
      await dial(alice, "604");
      await connected(alice);
      await alice.waitForFunction(
        () => webtrunkPhone.session.connection.connectionState === "connected",
      );
      await alice.evaluate(
        (transportType) =>
          webtrunkPhone.session.sendDTMF("1590", {
            transportType,
            duration: 160,
            interToneGap: 100,
          }),
        transport,
      );
      await over(alice);
    });
    const read = /WT-DTMF=(\S*)/.exec(asterisk.log().slice(before));
    equal(read?.[1], "1590", "digits Asterisk read");
  });
}

test("DTMF from Asterisk through webtrunk to another trunk leg", async () => {
  const before = asterisk.log().length;
  await recordOf(async () =>
    asterisk.cli("channel originate PJSIP/+15550004@webtrunk application SendDTMF wwww2468wwww"),
  );
  const read = await until(
    "Asterisk reads the digits",
    () => /WT-DTMF=(\S*)/.exec(asterisk.log().slice(before)),
    15,
  );
  equal(read[1], "2468", "digits Asterisk read");
});

test("an unknown number is told in words", async () => {
  await dial(alice, "777");
  await over(alice);
  const words = await alice.textContent("#verdict");
  if (!/no route/i.test(words)) throw new Error(`the page says ${words}`);
  equal(await alice.getAttribute("#verdict", "class"), "wrong", "a fault looks like none");
});

test("a dead first trunk does not matter when the second lives", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "3600");
    await connected(alice);
    await hears(alice, 1004);
    await hangup(alice);
  });
  equal(cdr.attempts.map((a) => a.target).join(), "trunk:dead,trunk:asterisk", "attempts");
});

test("PCMU end to end is not transcoded", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "2600");
    await connected(alice);
    await hears(alice, 440);
    const found = await stats(alice);
    const inbound = found["inbound-rtp"][0];
    const codec = found.codec.find((c) => c.id === inbound.codecId);
    equal(codec.mimeType, "audio/PCMU", "codec the browser receives");
    await hangup(alice);
  });
  equal(cdr.legs.map((l) => l.codec).join(), "PCMU,PCMU", "codecs");
});

for (const [number, what, codecs, trunkSrtp] of [
  ["7600", "SRTP with keys in the signalling", "opus,PCMU", "AES_CM_128_HMAC_SHA1_80"],
  ["7700", "G.722", "opus,G722", undefined],
  ["7800", "Opus, passed as it is", "opus,opus", undefined],
  ["7900", "L16, uncompressed", "opus,L16", undefined],
]) {
  test(`Asterisk by ${what}: 440 Hz goes out and comes back`, async () => {
    const [cdr] = await recordOf(async () => {
      await dial(alice, number);
      await connected(alice);
      await hears(alice, 440);
      await hangup(alice);
    });
    equal(cdr.legs.map((l) => l.codec).join(), codecs, "codecs");
    equal(cdr.legs[1].srtp ?? undefined, trunkSrtp, "the trunk's SRTP profile");
    equal(cdr.legs[0].packets_lost + cdr.legs[1].packets_lost, 0, "lost packets");
  });
}

test("a trunk that must encrypt its media refuses a peer that cannot, and says so", async () => {
  const [cdr] = await recordOf(async () => {
    await dial(alice, "7601");
    await over(alice);
  });
  equal(cdr.outcome, "refused", "outcome");
  const words = await alice.textContent("#verdict");
  if (!words.trim()) throw new Error("the page says nothing");
});

test("digits pressed in the browser reach Asterisk as tones", async () => {
  const before = asterisk.log().length;
  await recordOf(async () => {
    await dial(alice, "7904");
    await connected(alice);
    await alice.waitForFunction(
      () => webtrunkPhone.session.connection.connectionState === "connected",
    );
    await alice.evaluate(() =>
      webtrunkPhone.session.sendDTMF("8642", {
        transportType: "RFC2833",
        duration: 160,
        interToneGap: 100,
      }),
    );
    await over(alice);
  });
  const read = /WT-DTMF=(\S*)/.exec(asterisk.log().slice(before));
  equal(read?.[1], "8642", "digits Asterisk heard");
});

test("hold and resume by re-INVITE from the trunk", async () => {
  const sipp = start(
    "sipp",
    [
      "-sf",
      join(ROOT, "interop/chromium/uas-hold.xml"),
      "-i",
      "127.0.0.1",
      "-p",
      "5090",
      "-m",
      "1",
      "-nostdin",
      "-rtp_echo",
      "-trace_err",
      "-error_file",
      join(work, "sipp-hold.err"),
    ],
    { cwd: work },
  );
  await until("SIPp listens", () => readFileSync("/proc/net/udp", "utf8").includes(":13E2 "));
  await recordOf(async () => {
    await dial(alice, "4001");
    await connected(alice);
    await over(alice);
  });
  await until("SIPp has ended", () => sipp.code !== undefined);
  equal(
    sipp.code,
    0,
    `SIPp's exit code; ${existsSync(join(work, "sipp-hold.err")) ? readFileSync(join(work, "sipp-hold.err"), "utf8") : ""}`,
  );
});

test("a lost WebSocket is replaced and the next call works", async () => {
  await alice.evaluate(() => webtrunkPhone.ua._transport.socket._ws.close());
  await alice.waitForSelector("#line[data-state=offline]");
  await alice.waitForSelector("#line[data-state=online]", { timeout: 15_000 });
  await recordOf(async () => {
    await dial(alice, "601");
    await connected(alice);
    await hears(alice, 1004);
    await hangup(alice);
  });
});

test("two tabs of one user ring together; the first to answer wins, the other stops", async () => {
  const [one, two] = [await phone(chrome, { user: "bob" }), await phone(chrome, { user: "bob" })];
  await recordOf(async () => {
    await dial(alice, "5000");
    await Promise.all([one, two].map((p) => p.waitForSelector("#answer:visible")));
    await two.click("#answer");
    await connected(two);
    await connected(alice);
    await over(one);
    await hears(two, 440);
    await hears(alice, 440);
    await hangup(two);
    await over(alice);
  });
  await Promise.all([one, two].map((p) => p.context().close()));
});

test("five calls at once in one browser", async () => {
  const pages = await Promise.all(Array.from({ length: 5 }, () => phone(chrome)));
  await recordOf(async () => {
    await Promise.all(
      pages.map(async (page) => {
        await dial(page, "600");
        await connected(page);
      }),
    );
    await Promise.all(pages.map((page) => hears(page, 440, 12)));
    await Promise.all(pages.map(hangup));
  }, 5);
  await Promise.all(pages.map((page) => page.context().close()));
});

consoleCases(() => chrome);
bookCases(() => chrome);
signalling({
  get alice() {
    return alice;
  },
  get chrome() {
    return chrome;
  },
  get node() {
    return node;
  },
});
peers({
  get alice() {
    return alice;
  },
  get chrome() {
    return chrome;
  },
  get node() {
    return node;
  },
});
libraries({
  get chrome() {
    return chrome;
  },
});
packages(() => chrome);
tickets(() => chrome);
besideCalls(() => chrome);
languages(() => chrome);
lighthouseCases();
singleSignOn(() => chrome);
looks(() => chrome);
steady(() => chrome);
phones(() => chrome);
reloadCases(() => chrome);
network(() => chrome);
moving();
latency(() => chrome);

test("over wss with an own certificate authority", async () => {
  const secure = await webtrunk("webtrunk-tls.toml");
  // A browser that overlooks a certificate, as this one does, takes no service worker with it.
  const options = { url: "https://localhost:8443/", serviceWorkers: "block" };
  const page = await phone(chrome, options);
  await dial(page, "9196");
  await connected(page);
  await hears(page, 440);
  await hangup(page);
  equal(page.problems.join(), "", "problems on the page");
  await page.context().close();
  secure.kill("SIGTERM");
  await until("the node has stopped", () => secure.code !== undefined);
});

test("the demo needs no configuration: echoes, tones, a tune, the trunk, another page, busy", async () => {
  const demo = start(binary, ["demo", "--port", "8095", "--cdr", join(work, "cdr.jsonl")]);
  await until("the demo serves", () => /localhost:8095/.test(demo.output));
  const page = await phone(chrome, {
    url: "http://localhost:8095/",
    user: null,
    viewport: { width: 440, height: 760 },
  });
  const hear = async (number, hz, seconds) =>
    recordOf(async () => {
      await page.click(`#numbers button:has-text("${number}")`);
      await connected(page);
      await hears(page, hz, seconds);
      if (number.startsWith("+")) await page.screenshot({ path: join(SHOTS, "demo.png") });
      await hangup(page);
    });
  await hear("9196", 440);
  await hear("9195", 440, 12);
  await hear("9197", 1000);
  await hear("9198", 659);
  const [cdr] = await hear("+12065550123", 440, 12);
  equal(cdr.legs.map((l) => l.codec).join(), "opus,PCMU", "codecs through the demo's trunk");
  const other = await phone(chrome, { url: "http://localhost:8095/", user: null });
  await recordOf(async () => {
    await page.click('#numbers button:has-text("9101")');
    await other.waitForSelector("#answer:visible");
    await other.click("#answer");
    await connected(page);
    await hears(other, 440);
    await hangup(other);
    await over(page);
  });
  await dial(page, "(206) 555-0199");
  await over(page);
  if (!/busy/i.test(await page.textContent("#verdict"))) throw new Error("busy is not told");
  equal([...page.problems, ...other.problems].join(), "", "problems on the pages");
  await Promise.all([page, other].map((p) => p.context().close()));
  demo.kill("SIGINT");
  await until("the demo has stopped", () => demo.code !== undefined);
  equal(demo.code, 0, "exit code");
});

test("the page is usable by keyboard, fits a telephone and reads in the dark", async () => {
  const page = await phone(chrome, { viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  await page.focus("#number");
  await page.keyboard.type("9197");
  await page.keyboard.press("Enter");
  await connected(page);
  await hears(page, 1000);
  equal(await page.evaluate(() => document.activeElement.id), "hangup", "focus while calling");
  await page.screenshot({ path: join(SHOTS, "phone-dark.png"), fullPage: true });
  equal(
    await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
    true,
    "no sideways scrolling",
  );
  await page.keyboard.press("Enter");
  await over(page);
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, meter")]
      .filter((e) => !(e.textContent.trim() || e.labels?.length || e.ariaLabel))
      .map((e) => e.id),
  );
  equal(unnamed.join(), "", "controls without a name");
  await page.context().close();
});

test("SIGTERM drains: new calls get 503, the call in progress goes on and ends with BYE at the second signal", async () => {
  await dial(alice, "601");
  await connected(alice);
  node.kill("SIGTERM");
  const other = await phone(chrome, { user: "bob" });
  await until(
    "not ready",
    async () => (await fetch("http://localhost:8090/readyz")).status === 503,
  );
  equal((await fetch("http://localhost:8090/livez")).status, 200, "livez");
  await dial(other, "601");
  await over(other);
  const words = await other.textContent("#verdict");
  if (!/no new calls/.test(words)) throw new Error(`the page says ${words}`);
  await hears(alice, 1004);
  equal(alice.problems.join(), "", "problems on the page");
  node.kill("SIGTERM");
  await over(alice);
  await until("the node has stopped", () => node.code !== undefined);
  equal(node.code, 0, "exit code");
  if (/ ERROR /.test(node.output)) throw new Error(`the log holds an ERROR:\n${node.output}`);
  await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
});

let failed = 1;
try {
  await asterisk.start();
  node = await webtrunk();
  chrome = await browser();
  alice = await phone(chrome);
  failed = await runAll(
    () => alice?.evaluate(() => webtrunkPhone.session?.terminate()).catch(() => {}),
    () => chrome.contexts(),
  );
  if (failed) console.log(`--- webtrunk's log\n${node.output.split("\n").slice(-60).join("\n")}`);
} finally {
  await closeFirefox();
  await chrome?.close();
  stopAll();
}
process.exit(failed ? 1 : 0);
