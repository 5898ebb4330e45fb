// Signalling with demanding peers: a strict Asterisk, TLS, registration both ways, transfers,
// SIP.js and baresip.
import { writeFileSync, mkdirSync, rmSync, existsSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import {
  ROOT,
  asterisk,
  binary,
  connected,
  dial,
  equal,
  hears,
  over,
  phone,
  recordOf,
  sipjsPage,
  start,
  test,
  toneOf,
  until,
} from "./rig.mjs";

/**
 * A call of a page that is not the page's own: JsSIP alone, several at a time. Returns its handle's
 * name.
 */
async function call(page, target, name) {
  await page.evaluate(
    ({ target, name }) => {
      // The page itself knows one call at a time.
      webtrunkPhone.ua.removeAllListeners("newRTCSession");
      const session = webtrunkPhone.ua.call(target, {
        mediaConstraints: { audio: true, video: false },
        pcConfig: { iceServers: [] },
      });
      (window.sessions ||= {})[name] = session;
      session.on("icecandidate", (event) => event.ready());
    },
    { target, name },
  );
  await until(`${target} has answered`, () =>
    page.evaluate((name) => sessions[name].isEstablished(), name),
  );
}

/** JsSIP's refer(), and what it is told of the transfer's course. */
function refer(page, target, { from = "one", replaces } = {}) {
  return page.evaluate(
    ({ target, from, replaces }) =>
      new Promise((done) => {
        const told = [];
        const session = from === "page" ? webtrunkPhone.session : sessions[from];
        const eventHandlers = {
          progress: (event) => told.push(event.status_line.status_code),
          accepted: (event) => {
            told.push(event.status_line.status_code);
            done(told);
          },
          failed: (event) => {
            told.push(event.status_line.status_code);
            done(told);
          },
          requestFailed: (event) => done([event.cause]),
        };
        session.refer(target, { eventHandlers, replaces: replaces && sessions[replaces] });
      }),
    { target, from, replaces },
  );
}

export function signalling(world) {
  const strict = async (number, hz) => {
    const [cdr] = await recordOf(async () => {
      await dial(world.alice, number);
      await connected(world.alice);
      await hears(world.alice, hz);
      await world.alice.click("#hangup");
      await over(world.alice);
    });
    equal(cdr.outcome, "success", "outcome");
    return cdr;
  };

  test("strict Asterisk (timers=always, 100rel=required): a call out, and one with early media", async () => {
    await strict("7101", 1004);
    await recordOf(async () => {
      await dial(world.alice, "7203");
      await world.alice.waitForFunction(() =>
        /you hear the far end/.test(document.getElementById("state")?.textContent),
      );
      await hears(world.alice, 880, 4);
      await connected(world.alice);
      await world.alice.click("#hangup");
      await over(world.alice);
    });
  });

  /** Asterisk calls alice by this endpoint; she answers, hears its tone and hangs up. */
  const called = (endpoint) =>
    recordOf(async () => {
      asterisk.cli(`channel originate PJSIP/${endpoint} application Milliwatt`);
      await world.alice.waitForSelector("#answer:visible");
      await world.alice.click("#answer");
      await connected(world.alice);
      await hears(world.alice, 1004);
      await world.alice.click("#hangup");
      await over(world.alice);
    });

  test("strict Asterisk calls the browser: its reliable responses and timers are met", () =>
    called("+12065550111@wt-strict"));

  if (process.env.WEBTRUNK_SLOW) {
    test("strict Asterisk: a call outlives two session refreshes", async () => {
      await recordOf(async () => {
        await dial(world.alice, "7101");
        await connected(world.alice);
        await new Promise((next) => setTimeout(next, 100_000));
        await hears(world.alice, 1004);
        await world.alice.click("#hangup");
        await over(world.alice);
      });
    });
  }

  test("TLS to Asterisk: chain and name verified, and back from it", async () => {
    await strict("7300", 1004);
    await called("+12065550111@wt-secure");
  });

  test("TLS with a certificate of another name is refused, and the log says why", async () => {
    const [cdr] = await recordOf(async () => {
      await dial(world.alice, "7301");
      await over(world.alice);
    });
    if (cdr.outcome === "success") throw new Error("the call went through");
    await until("the log names the fault", () =>
      /WT-2104.*TLS with 127\.0\.0\.1:5081 failed|TLS with 127\.0\.0\.1:5081 failed.*WT-2104/.test(
        world.node.output,
      ),
    );
  });

  test("Asterisk registers with webtrunk and is called where it registered from", async () => {
    await until(
      "the branch has registered",
      () => /trunk branch registered here/.test(world.node.output),
      15,
    );
    await strict("7400", 1004);
  });

  test("webtrunk registers with Asterisk, is called by it, and answers its digest", async () => {
    await until(
      "registered",
      () => /trunk acme registered with 127\.0\.0\.1/.test(world.node.output),
      15,
    );
    if (!/acme/.test(asterisk.cli("pjsip show contacts")))
      throw new Error(asterisk.cli("pjsip show contacts"));
    await until("the probe found it up", () => /trunk acme up/.test(world.node.output), 15);
    await strict("7500", 1004);
    await called("acme");
  });

  test("a blind transfer by the browser: the two others hear each other, the browser is free", async () => {
    const bob = await phone(world.chrome, { user: "bob" });
    const [cdr] = await recordOf(async () => {
      await dial(world.alice, "5000");
      await bob.waitForSelector("#answer:visible");
      await bob.click("#answer");
      await connected(bob);
      await connected(world.alice);
      const told = await refer(world.alice, "601", { from: "page" });
      equal(told.at(-1), 200, `told ${told}`);
      await over(world.alice);
      await hears(bob, 1004);
      equal(asterisk.channels(), 1, "channels in Asterisk");
      await bob.click("#hangup");
      await over(bob);
    });
    equal(cdr.hangup_by, "callee", "a transfer does not make the called the caller");
    await bob.context().close();
    await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
  });

  test("a blind transfer to a number that is busy comes back", async () => {
    const bob = await phone(world.chrome, { user: "bob" });
    await recordOf(async () => {
      await dial(world.alice, "5000");
      await bob.waitForSelector("#answer:visible");
      await bob.click("#answer");
      await connected(world.alice);
      const told = await refer(world.alice, "602", { from: "page" });
      equal(told.at(-1), 486, `told ${told}`);
      await hears(bob, 440);
      await hears(world.alice, 440);
      await world.alice.click("#hangup");
      await over(world.alice);
      await over(bob);
    });
    await bob.context().close();
  });

  test("an attended transfer by the browser joins its two calls", async () => {
    const [page, bob] = [await phone(world.chrome), await phone(world.chrome, { user: "bob" })];
    await recordOf(async () => {
      const ringing = bob.waitForSelector("#answer:visible").then(() => bob.click("#answer"));
      await Promise.all([call(page, "sip:5000@wt.test", "one"), ringing]);
      await connected(bob);
      await call(page, "sip:601@wt.test", "two");
      const told = await refer(page, "sip:601@wt.test", { replaces: "two" });
      equal(told.at(-1), 200, `told ${told}`);
      await until("both of the referrer's calls have ended", () =>
        page.evaluate(() => sessions.one.isEnded() && sessions.two.isEnded()),
      );
      await hears(bob, 1004);
      await bob.click("#hangup");
      await over(bob);
    }, 2);
    await Promise.all([page, bob].map((p) => p.context().close()));
    await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
  });

  test("Asterisk transfers the browser by REFER", async () => {
    const [cdr] = await recordOf(async () => {
      await dial(world.alice, "609");
      await connected(world.alice);
      await hears(world.alice, 1000);
      await world.alice.click("#hangup");
      await over(world.alice);
    });
    equal(cdr.transfers.join(), "9197", "transferred to");
    await until("Asterisk heard that it succeeded", () =>
      /WT-TRANSFER=SUCCESS/.test(asterisk.log()),
    );
  });

  test("SIP.js: registers, calls, holds, is called, transfers", async () => {
    // A page of another origin, as a shop's would be; web.origins lets it in.
    const { page, shop, problems } = await sipjsPage(world.chrome);
    const states = await page.evaluate(() => sipjs.register("bob", "bob-secret"));
    equal(states, "Registered", "registration");
    await recordOf(async () => {
      await page.evaluate(() => sipjs.call("601"));
      await hears(page, 1004);
      await page.evaluate(() => sipjs.hold(true));
      await page.evaluate(() => sipjs.hold(false));
      await hears(page, 1004);
      await page.evaluate(() => sipjs.bye());
    });
    await recordOf(async () => {
      await dial(world.alice, "5000");
      await connected(world.alice);
      await hears(page, 440);
      await hears(world.alice, 440);
      // SIP.js writes Refer-To in its own way.
      const told = await page.evaluate(() => sipjs.refer("601"));
      equal(told.at(-1), 200, `told ${told}`);
      await hears(world.alice, 1004);
      await world.alice.click("#hangup");
      await over(world.alice);
    });
    equal(problems.join(), "", "problems on the page");
    await page.context().close();
    shop.close();
    await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
  });

  test("baresip over WebSocket: registers, calls, is called; tones both ways", async () => {
    const inside = "/tmp/wt-baresip",
      folder = join(asterisk.root, inside);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const tone = join(folder, "660.wav");
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
      "60",
      "sine",
      "660",
      "gain",
      "-6",
    ]);
    const modules = [
      "account",
      "menu",
      "ctrl_tcp",
      "aufile",
      "opus",
      "g711",
      "ice",
      "srtp",
      "dtls_srtp",
      "uuid",
    ];
    writeFileSync(
      join(folder, "config"),
      [
        "module_path /usr/lib/baresip/modules",
        `audio_source aufile,${inside}/660.wav`,
        `audio_player aufile,${inside}/heard.wav`,
        `audio_alert aufile,${inside}/alert.wav`,
        "ausrc_srate 48000",
        "auplay_srate 48000",
        "ausrc_channels 1",
        "auplay_channels 1",
        "ctrl_tcp_listen 127.0.0.1:4444",
        "sip_listen 127.0.0.1:0",
        "call_local_timeout 30",
        "rtcp_mux yes",
        ...modules.map(
          (m) => `${["account", "menu", "ctrl_tcp"].includes(m) ? "module_app" : "module"} ${m}.so`,
        ),
        "",
      ].join("\n"),
    );
    writeFileSync(
      join(folder, "accounts"),
      '<sip:bob@wt.test;transport=ws>;auth_pass=bob-secret;outbound="sip:127.0.0.1:8090;transport=ws";mediaenc=dtls_srtp;medianat=ice;audio_codecs=opus/48000/2,pcmu/8000/1;answermode=auto;regint=300\n',
    );
    writeFileSync(join(folder, "contacts"), "");
    const baresip = start(join(ROOT, "interop/asterisk/asterisk.sh"), [
      "baresip",
      "-f",
      inside,
      "-v",
    ]);
    await until(
      "baresip has registered",
      () => {
        if (baresip.code !== undefined) throw new Error(baresip.output);
        // The log tells of a user's registrations once in ten seconds; the gateway knows them all.
        const known = execFileSync(binary, ["registrations"], { encoding: "utf8" });
        return /^bob .*sip:bob-0x/m.test(known);
      },
      15,
    ).catch((e) => {
      throw new Error(`${e.message}\n${baresip.output.slice(-3000)}`);
    });
    await recordOf(async () => {
      await dial(world.alice, "5000");
      await connected(world.alice);
      await hears(world.alice, 660);
      await new Promise((next) => setTimeout(next, 2500));
      await world.alice.click("#hangup");
      await over(world.alice);
    });
    const heard = join(folder, "heard.wav");
    await until("baresip has written what it heard", () => existsSync(heard));
    const { hz } = toneOf(heard);
    if (Math.abs(hz - 440) > 6) throw new Error(`baresip heard ${hz} Hz`);
    const [cdr] = await recordOf(async () => {
      const { Socket } = await import("node:net");
      const say = (command, params = "") =>
        new Promise((done) => {
          const text = JSON.stringify({ command, params, token: "t" });
          const socket = new Socket();
          socket.connect(4444, "127.0.0.1", () => socket.write(`${text.length}:${text},`));
          socket.once("data", () => {
            socket.destroy();
            done();
          });
        });
      await say("dial", "sip:605@wt.test");
    });
    equal(cdr.outcome, "success", "outcome");
    baresip.kill("SIGKILL");
  });
}
