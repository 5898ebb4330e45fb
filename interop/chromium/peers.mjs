// Other people's SIP on the trunk: linphone, Asterisk behind a Kamailio that record-routes, FreeSWITCH's 407 to a text.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  PUBLIC,
  ROOT,
  asterisk,
  connected,
  dial,
  equal,
  hears,
  hearsNothing,
  libraryPage,
  over,
  recordOf,
  start,
  stop,
  test,
  toneOf,
  until,
  work,
} from "./rig.mjs";

const LINPHONE = `[sip]
sip_port=5064
sip_tcp_port=-1
sip_tls_port=-1
contact="linphone" <sip:linphone@${PUBLIC}>
guess_hostname=0
media_encryption=none
use_info=0
use_rfc2833=1
[rtp]
audio_rtp_port=17000
[sound]
echocancellation=0
`;

/** linphone's console: it says 660 Hz, and writes down what it hears. */
async function linphone() {
  const folder = join(work, "linphone");
  // It makes no folder for its database, and does not listen without one.
  mkdirSync(join(folder, ".local/share/linphone"), { recursive: true });
  const [said, heard] = [join(folder, "660.wav"), join(folder, "heard.wav")];
  const tone = ["synth", "60", "sine", "660", "gain", "-6"];
  execFileSync("sox", ["-n", "-r", "8000", "-c", "1", "-b", "16", said, ...tone]);
  writeFileSync(join(folder, "linphonerc"), LINPHONE);
  const child = start("linphonec", ["-S", "-c", join(folder, "linphonerc")], {
    env: { ...process.env, HOME: folder },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const say = (line) => child.stdin.write(`${line}\n`);
  const bound = `:${(5064).toString(16).toUpperCase().padStart(4, "0")} `;
  await until("linphone listens", () =>
    ["udp", "udp6"].some((file) => readFileSync(`/proc/net/${file}`, "utf8").includes(bound)),
  );
  say("soundcard use files");
  say(`play ${said}`);
  say(`record ${heard}`);
  say("codec disable all");
  say("codec enable 3");
  return { child, say, heard };
}

function linphoneCases(world) {
  const withPhone = async (body) => {
    const own = await linphone();
    try {
      await body(own);
    } catch (error) {
      throw new Error(`${error.message}\n${own.child.output.slice(-4000)}`);
    } finally {
      own.say("quit");
      await stop(own.child);
    }
  };

  test("linphone is called by the browser: tones both ways, digits reach it, the browser hangs up", () =>
    withPhone(async ({ child, say, heard }) => {
      say("autoanswer enable");
      const [cdr] = await recordOf(async () => {
        await dial(world.alice, "7670");
        await connected(world.alice);
        await hears(world.alice, 660);
        await world.alice.evaluate(() =>
          webtrunkPhone.session.sendDTMF("42", {
            transportType: "RFC2833",
            duration: 160,
            interToneGap: 100,
          }),
        );
        await until("linphone has heard both digits", () =>
          /tone 4 [\s\S]*tone 2 /.test(child.output),
        );
        await world.alice.waitForTimeout(2000);
        await world.alice.click("#hangup");
        await over(world.alice);
      });
      equal(cdr.hangup_by, "caller", "hung up by");
      equal(cdr.legs[1].codec, "PCMU", "trunk codec");
      await until("linphone has written what it heard", () => existsSync(heard));
      await until("linphone has ended the call", () => /Call \d+ .*ended/.test(child.output));
      const { hz } = toneOf(heard);
      if (Math.abs(hz - 440) > 8) throw new Error(`linphone heard ${hz} Hz`);
    }));

  test("linphone calls the browser, is held and resumed, and hangs up", () =>
    withPhone(async ({ child, say }) => {
      const [cdr] = await recordOf(async () => {
        say(`call sip:+12065550111@${PUBLIC}:5070`);
        await world.alice.waitForSelector("#answer:visible");
        await world.alice.click("#answer");
        await connected(world.alice);
        await hears(world.alice, 660);
        await world.alice.click("#hold");
        await world.alice.waitForSelector("#hold[aria-pressed=true]");
        await hearsNothing(world.alice);
        await world.alice.click("#hold");
        await world.alice.waitForSelector("#hold[aria-pressed=false]");
        await hears(world.alice, 660);
        // What it plays is its music on hold, too.
        say("pause");
        await until("linphone holds", () => /Call \d+ .*paused/.test(child.output));
        await hears(world.alice, 660);
        say("resume");
        await until("linphone resumes", () => child.output.split("streams established").length > 2);
        await hears(world.alice, 660);
        say("terminate");
        await over(world.alice);
      });
      equal(cdr.direction, "inbound", "direction");
      equal(cdr.hangup_by, "caller", "hung up by");
    }));

  test("linphone's digits reach Asterisk", () =>
    withPhone(async ({ child, say }) => {
      const before = asterisk.log().length;
      await recordOf(async () => {
        say(`call sip:+15550004@${PUBLIC}:5070`);
        await until("linphone is connected", () => /connected/i.test(child.output));
        for (const digit of "2468") {
          say(digit);
          await new Promise((next) => setTimeout(next, 300));
        }
      });
      const read = /WT-DTMF=(\S*)/.exec(asterisk.log().slice(before));
      equal(read?.[1], "2468", "digits Asterisk read");
    }));
}

/** Kamailio as a trunk, with what it saw within dialogs. */
async function kamailio(world, define) {
  const child = start("kamailio", [
    "-f",
    join(ROOT, "interop/kamailio/trunk.cfg"),
    "-DD",
    "-E",
    "-m",
    "64",
    "-w",
    work,
    ...(process.arch === "arm64" ? ["-A", "CPU_ARM"] : []),
    ...(define ? ["-A", define] : []),
  ]);
  const answers = () =>
    world.node.output.lastIndexOf("trunk kamailio up") >
    world.node.output.lastIndexOf("trunk kamailio down");
  await until("Kamailio is known to be up", answers, 15).catch((error) => {
    throw new Error(`${error.message}\n${child.output.slice(-1500)}`);
  });
  return child;
}

function kamailioCases(world) {
  for (const [title, define] of [
    ["a Kamailio that record-routes twice", undefined],
    ["a Kamailio that hides topologies", "HIDING"],
  ]) {
    const withProxy = async (body) => {
      const child = await kamailio(world, define);
      try {
        await body((method) => child.output.split(`WT-WITHIN ${method} `).length - 1);
        if (/WT-STRAY/.test(child.output)) throw new Error("a request strayed from the route set");
      } catch (error) {
        throw new Error(`${error.message}\n${child.output.slice(-1500)}`);
      } finally {
        await stop(child, "SIGTERM");
      }
      await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
    };

    test(`${title}: calls through it to Asterisk, hold and BYE by the route set`, () =>
      withProxy(async (within) => {
        await recordOf(async () => {
          await dial(world.alice, "7650");
          await connected(world.alice);
          await hears(world.alice, 440);
          await world.alice.click("#hold");
          await world.alice.waitForSelector("#hold[aria-pressed=true]");
          await hearsNothing(world.alice);
          await world.alice.click("#hold");
          await world.alice.waitForSelector("#hold[aria-pressed=false]");
          await hears(world.alice, 440);
          await world.alice.click("#hangup");
          await over(world.alice);
        });
        equal(within("BYE"), 1, "BYE by the proxy");
        // The call's own, and one for each re-INVITE that went across.
        equal(within("ACK"), within("INVITE") + 1, "ACK by the proxy");
        // Its far end hangs up.
        const [cdr] = await recordOf(async () => {
          await dial(world.alice, "7655");
          await connected(world.alice);
          await over(world.alice);
        });
        equal(cdr.hangup_by, "callee", "hung up by");
        equal(within("BYE"), 2, "BYE by the proxy");
      }));

    test(`${title}: a call that is cancelled while it rings`, () =>
      withProxy(async () => {
        const [cdr] = await recordOf(async () => {
          await dial(world.alice, "7656");
          await world.alice.waitForFunction(() =>
            /Ringing/.test(document.getElementById("state")?.textContent),
          );
          await world.alice.click("#hangup");
          await over(world.alice);
        });
        equal(cdr.sip_code, 487, "status");
      }));

    test(`${title}: Asterisk calls the browser through it, and either side hangs up`, () =>
      withProxy(async (within) => {
        for (const ends of ["browser", "Asterisk"]) {
          await recordOf(async () => {
            asterisk.cli("channel originate PJSIP/+12065550111@kamailio application Milliwatt");
            await world.alice.waitForSelector("#answer:visible");
            await world.alice.click("#answer");
            await connected(world.alice);
            await hears(world.alice, 1004);
            if (ends === "browser") await world.alice.click("#hangup");
            else asterisk.cli("channel request hangup all");
            await over(world.alice);
          });
        }
        equal(within("BYE"), 2, "BYE by the proxy");
        equal(within("ACK"), 2, "ACK by the proxy");
      }));
  }
}

function freeswitchCases(world) {
  test("FreeSWITCH's 407 to a text is answered, and the text arrives", async () => {
    const sipp = start(
      "sipp",
      [
        "-sf",
        join(ROOT, "interop/sipp/message-407.xml"),
        ...["-i", "127.0.0.1", "-p", "5092", "-m", "1", "-nostdin", "-trace_err"],
        ...["-error_file", join(work, "sipp-message.err"), "-timeout", "20", "-timeout_error"],
      ],
      { cwd: work },
    );
    await until("SIPp listens", () =>
      readFileSync("/proc/net/udp", "utf8").includes(`:${(5092).toString(16).toUpperCase()} `),
    );
    const { page, shop } = await libraryPage(world.chrome, "jssip");
    try {
      await page.evaluate(() => line.register("bob", "bob-secret"));
      equal(await page.evaluate(() => line.text("7680", "hello")), 200, "the text's status");
      await until("SIPp has ended", () => sipp.code !== undefined);
      equal(sipp.code, 0, "SIPp's exit code");
    } finally {
      sipp.kill("SIGKILL");
      await page.context().close();
      shop.close();
    }
  });
}

export function peers(world) {
  linphoneCases(world);
  kamailioCases(world);
  freeswitchCases(world);
}
