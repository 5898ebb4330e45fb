// The page's telephone as people use it: it rings, stays logged in, holds two lines, remembers, and
// says what is wrong.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { accessible } from "./console.mjs";
import { fits, look as compare, sameLooks, THEMES, WIDTHS } from "./looks.mjs";
import {
  asterisk,
  binary,
  browser,
  cdrs,
  connected,
  dial,
  equal,
  heard,
  hears,
  over,
  phone,
  PUBLIC,
  recordOf,
  ROOT,
  SHOTS,
  start,
  stop,
  test,
  until,
  work,
} from "./rig.mjs";

const BOB = "+12065550112";
const originate = (application) =>
  asterisk.cli(`channel originate PJSIP/${BOB}@webtrunk application ${application}`);
const idle = () => until("no channel is left in Asterisk", () => asterisk.channels() === 0);
const text = (page, selector) => page.textContent(selector);
const says = (page, selector, words) =>
  until(`${selector} says ${words}`, async () => {
    const found = await page
      .locator(selector)
      .first()
      .textContent({ timeout: 200 })
      .catch(() => "");
    return words.test(found);
  });

/** The loudest frequency of what rings, Hz. */
const ringing = (page) =>
  page.evaluate(async () => {
    const { stream } = webtrunkPhone.ringer;
    if (!stream) return 0;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    Object.assign(analyser, { fftSize: 8192, smoothingTimeConstant: 0 });
    context.createMediaStreamSource(stream).connect(analyser);
    const width = context.sampleRate / analyser.fftSize;
    const bins = new Float32Array(analyser.frequencyBinCount);
    let best = { hz: 0, db: -60 };
    for (let n = 0; n < 10; n++) {
      await new Promise((next) => setTimeout(next, 100));
      analyser.getFloatFrequencyData(bins);
      bins.forEach((db, at) => {
        if (db > best.db) best = { hz: at * width, db };
      });
    }
    await context.close();
    return best.hz;
  });

/** A page of bob's; closed, and looked at for problems, when `body` is done. */
async function withBob(chrome, options, body) {
  const page = await phone(chrome, { user: "bob", ...options });
  try {
    await body(page);
    equal(page.problems.join(), "", "problems on the page");
  } finally {
    await page.context().close();
  }
  await idle();
}

/** A gateway of its own, to be taken away, or to be guessed at; `more`: of its file. */
export function gateway(port, folder = join(work, `phone-${port}`), more = "") {
  mkdirSync(join(folder, "dialplans"), { recursive: true });
  writeFileSync(
    join(folder, "dialplans/phones.toml"),
    '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n',
  );
  writeFileSync(
    join(folder, "webtrunk.toml"),
    `[server]\ndomain = "localhost"\npublic_ip = "${PUBLIC}"\n[web]\nlisten = "127.0.0.1:${port}"\n
[media]\nbrowser_port = 0\nworkers = 1\n[sip]\nudp = "127.0.0.1:0"\n[api]\ncontrol = "c.sock"\n
[user.carol]\npassword = "carol-secret"\ncontext = "phones"\n${more}`,
  );
  return start(binary, ["serve", "-c", join(folder, "webtrunk.toml"), "--log", "text"]);
}
const serves = (node) => until("it serves", () => /serves the page/.test(node.output));

function rings(chrome) {
  test("the phone rings: by tone, title and notification, and is answered from there", () =>
    withBob(chrome(), { permissions: ["notifications", "microphone"] }, async (page) => {
      await page.evaluate(async () => {
        await navigator.serviceWorker.ready;
        window.shown = [];
        // Another window is in front.
        document.hasFocus = () => false;
        ServiceWorkerRegistration.prototype.showNotification = async (title, options) => {
          shown.push({ title, ...options });
        };
      });
      await recordOf(async () => {
        originate("Milliwatt");
        await page.waitForSelector("#answer:visible");
        equal(await page.evaluate(() => webtrunkPhone.ringer.tone), "ring", "what sounds");
        const hz = await ringing(page);
        if (Math.abs(hz - 880) > 12 && Math.abs(hz - 1175) > 12)
          throw new Error(`it rings ${hz} Hz`);
        if (!/^☎ .* is calling$/.test(await page.title()))
          throw new Error(`the title is ${await page.title()}`);
        await page.screenshot({ path: join(SHOTS, "phone-rings.png") });
        const [shown] = await until("a notification", () =>
          page.evaluate(() => shown.length && shown),
        );
        equal(shown.actions.map((a) => a.action).join(), "answer,decline", "what it offers");
        await page.evaluate(
          (call) =>
            navigator.serviceWorker.dispatchEvent(
              new MessageEvent("message", { data: { action: "answer", call } }),
            ),
          shown.data.call,
        );
        await connected(page);
        equal(await page.evaluate(() => webtrunkPhone.ringer.tone), null, "what sounds then");
        await hears(page, 1004);
        if (!/\(0:0\d\)$/.test(await page.title()))
          throw new Error(`in a call: ${await page.title()}`);
        await page.click("#hangup");
        await over(page);
      });
      equal(await page.title(), "Phone – webtrunk", "title");
    }));

  test("a notification is answered at the page whose call it is, of several", async () => {
    const options = { permissions: ["notifications", "microphone"] };
    const first = await phone(chrome(), { user: "bob", ...options });
    await first.evaluate(() => navigator.serviceWorker.ready);
    const context = first.context();
    const second = await context.newPage();
    await second.goto(first.url());
    await second.waitForSelector("#line[data-state=online]");
    const pages = [first, second];
    for (const page of pages)
      await page.evaluate(() => {
        // Another window is in front.
        document.hasFocus = () => false;
      });
    const [worker] = context.serviceWorkers();
    for (const page of pages)
      await recordOf(async () => {
        originate("Wait 9");
        await Promise.all(pages.map((one) => one.waitForSelector("#answer:visible")));
        const call = await page.evaluate(() => webtrunkPhone.session.id);
        await until("both are told", () =>
          worker.evaluate(async () => (await registration.getNotifications()).length === 2),
        );
        await worker.evaluate(async (call) => {
          const all = await registration.getNotifications();
          const notification = all.find(({ data }) => data.call === call);
          dispatchEvent(
            new NotificationEvent("notificationclick", { notification, action: "answer" }),
          );
        }, call);
        await connected(page);
        await page.click("#hangup");
        await Promise.all(pages.map(over));
      });
    equal(pages.map((page) => page.problems ?? []).join(), ",", "problems on the pages");
    await context.close();
    await idle();
  });

  test("the phone of a telephone is heard from its first tap on, and what is tapped does not move away", async () => {
    const policy = ["--autoplay-policy=document-user-activation-required"];
    const own = await browser({ args: policy });
    const context = await own.newContext({
      viewport: { width: 360, height: 740 },
      hasTouch: true,
      isMobile: true,
    });
    const page = await context.newPage();
    // What Playwright asks of a page counts as a touch of it; this does not.
    const devtools = await context.newCDPSession(page);
    const ask = async (expression) =>
      (await devtools.send("Runtime.evaluate", { expression, returnByValue: true })).result.value;
    await page.goto("http://localhost:8090/");
    const login = { user: "bob", domain: await ask("location.hostname") };
    const known = await phone(chrome(), { user: "bob" });
    const kept = await known.evaluate(() => localStorage.getItem("webtrunk-phone-login"));
    await known.context().close();
    if (!kept.includes(login.user)) throw new Error(`kept: ${kept}`);
    await ask(`localStorage.setItem("webtrunk-phone-login", ${JSON.stringify(kept)})`);
    await page.goto("about:blank");
    await page.goto("http://localhost:8090/");
    const online = "#line[data-state=online]";
    await until("it is online", () => ask(`Boolean(document.querySelector("${online}"))`));
    equal(await ask('Boolean(document.querySelector("#silent-note"))'), true, "it says so");
    equal(await ask("webtrunkPhone.ringer.audible"), false, "heard before it is touched");
    const [x, y] = await ask(
      `(({ x, y }) => [x + 20, y + 20])(document.querySelector('#pad [data-key="5"]').getBoundingClientRect())`,
    );
    for (let tap = 0; tap < 2; tap++) await page.touchscreen.tap(x, y);
    await until("it is heard", () => ask("webtrunkPhone.ringer.audible"));
    equal(await ask('document.querySelector("#number").value'), "55", "what was tapped");
    equal(await ask('Boolean(document.querySelector("#silent-note"))'), false, "it says so still");
    await own.close();
  });

  test("what rings there is heard here, and a second call knocks", () =>
    withBob(chrome(), {}, async (page) => {
      await dial(page, "606");
      await says(page, "#state", /^Ringing…$/);
      equal(await page.evaluate(() => webtrunkPhone.ringer.tone), "ringback", "what sounds");
      await page.click("#hangup");
      await over(page);
      await recordOf(async () => {
        await dial(page, "601");
        await connected(page);
        originate("Wait 5");
        await page.waitForSelector('.other[data-state="incoming"]');
        equal(await page.evaluate(() => webtrunkPhone.ringer.tone), "waiting", "what sounds");
        await page.screenshot({ path: join(SHOTS, "phone-knocks.png") });
        await page.click('.other button:has-text("Hold and answer")');
        await connected(page);
        equal(await page.locator('.other:has-text("On hold")').count(), 1, "the first is held");
        await page.click('.other button:has-text("Switch")');
        await connected(page);
        await hears(page, 1004);
        await page.click("#hangup");
        await until("one is left", async () => (await page.locator(".other").count()) === 0);
        await page.click("#hangup");
        await over(page);
      }, 2);
    }));
}

function login(chrome) {
  test("the phone stays logged in over a reload without the password, until it logs out", () =>
    withBob(chrome(), {}, async (page) => {
      const kept = await page.evaluate(() => JSON.stringify({ ...localStorage }));
      if (/bob-secret/.test(kept)) throw new Error("the password is kept");
      await page.reload();
      await page.waitForSelector("#line[data-state=online]");
      equal(await text(page, "#line"), "Ready as bob", "who");
      await page.click("#devices summary");
      await dial(page, "601");
      await connected(page);
      equal(await page.isDisabled("#log-out"), true, "logging out in a call, which would end it");
      await page.click("#hangup");
      await over(page);
      await page.click("#log-out");
      await page.waitForSelector("#login");
      await page.reload();
      await page.waitForSelector("#login");
      await page.uncheck("#stay");
      await page.fill("#user", "bob");
      await page.fill("#password", "bob-secret");
      await page.click("#login button");
      await page.waitForSelector("#line[data-state=online]");
      equal(await page.evaluate(() => localStorage.getItem("webtrunk-phone-login")), null, "kept");
    }));

  test("a password that was changed is told as wrong, and one locked out is told until when", async () => {
    const node = gateway(8103);
    await serves(node);
    const options = { user: "carol", url: "http://localhost:8103/" };
    const page = await phone(chrome(), options);
    await page.evaluate(() => {
      const login = JSON.parse(localStorage.getItem("webtrunk-phone-login"));
      const changed = JSON.stringify({ ...login, ha1: "0".repeat(32) });
      localStorage.setItem("webtrunk-phone-login", changed);
    });
    await page.reload();
    await says(page, "#login .problem", /^Wrong user or password$/);
    await until(
      "it is locked out",
      async () => {
        await page.fill("#user", "nobody");
        await page.fill("#password", "guess");
        await page.click("#login button");
        await page.waitForSelector("#login .problem");
        return /locked out until \d+:\d+/.test(await text(page, "#login .problem"));
      },
      30,
    );
    await page.screenshot({ path: join(SHOTS, "phone-locked-out.png") });
    await accessible(page, "the login");
    await page.context().close();
    await stop(node, "SIGTERM");
  });
}

function lines(chrome) {
  /** Bob is talked to by alice, who asks somebody else in. */
  const three = async (target, body) => {
    const [alice, bob] = [await phone(chrome()), await phone(chrome(), { user: "bob" })];
    await dial(alice, "5000");
    await bob.waitForSelector("#answer:visible");
    await bob.click("#answer");
    await Promise.all([connected(alice), connected(bob)]);
    await alice.click("#add-call");
    await dial(alice, target);
    await alice.waitForSelector('.other:has-text("On hold")');
    await body(alice, bob);
    await over(alice);
    equal(await text(alice, "#verdict"), "", "what alice is told");
    await hears(bob, 1004, 12);
    await bob.click("#hangup");
    await over(bob);
    equal([...alice.problems, ...bob.problems].join(), "", "problems on the pages");
    await Promise.all([alice, bob].map((page) => page.context().close()));
    await idle();
  };

  test("two lines: asks somebody else while the first waits, and connects both", () =>
    three("601", async (alice) => {
      await connected(alice);
      await hears(alice, 1004);
      await alice.screenshot({ path: join(SHOTS, "phone-two-lines.png"), fullPage: true });
      await alice.click("#join");
    }));

  test("two lines: connects both while the other side rings; nobody answers there, and the first comes back", async () => {
    const [alice, bob] = [await phone(chrome()), await phone(chrome(), { user: "bob" })];
    await dial(alice, "5000");
    await bob.waitForSelector("#answer:visible");
    await bob.click("#answer");
    await Promise.all([connected(alice), connected(bob)]);
    await alice.click("#add-call");
    await dial(alice, "606");
    await says(alice, "#state", /^Ringing…$/);
    await alice.click("#join");
    await until("one line is left", async () => (await alice.locator(".other").count()) === 0);
    await says(alice, "#verdict", /could not be reached; the call continues/);
    await says(alice, "#state", /^On hold$/);
    await alice.click("#hold");
    await connected(alice);
    await hears(alice, 440, 12);
    await hears(bob, 440, 12);
    await alice.click("#hangup");
    await Promise.all([over(alice), over(bob)]);
    equal([...alice.problems, ...bob.problems].join(), "", "problems on the pages");
    await Promise.all([alice, bob].map((page) => page.context().close()));
    await idle();
  });

  test("two lines: connects both while the other side still rings, and who waits hears it ring", async () => {
    for (const [target, sound] of [
      ["607", [440, 480]],
      // What the other side plays before it answers is heard instead.
      ["603", [880]],
    ])
      await three(target, async (alice, bob) => {
        await says(alice, "#state", /^Ringing/);
        await alice.click("#join");
        await says(alice, "#state", /^Transferring…$/);
        await until("one line is left", async () => (await alice.locator(".other").count()) === 0);
        await until(`bob hears ${sound}`, async () => {
          const { hz, db } = await heard(bob);
          return db > -55 && sound.some((wanted) => Math.abs(hz - wanted) < 12);
        });
        equal(asterisk.channels(), 1, "what rings rings on: there is no second call");
        await says(alice, "#state", /^Transferring…$/);
      });
  });
}

function memory(chrome) {
  test("history with redial, contacts and their names, and what was missed", () =>
    withBob(chrome(), {}, async (page) => {
      await dial(page, "601");
      await connected(page);
      await page.click("#hangup");
      await over(page);
      await says(page, "#recents li", /601.*0:0\d/);
      await page.click('#recents [aria-label="Save 601 as a contact"]');
      equal(await page.inputValue('#contact [aria-label^="Number"]'), "601", "the number to save");
      await page.keyboard.type("Mill & Watt <b>");
      await page.fill('#contact [aria-label^="Number"]', "6-01");
      await page.click('#contact button[type="submit"]');
      await says(page, "#contacts li", /Mill & Watt <b>/);
      await page.click('.tabs button:has-text("Recents")');
      await says(page, "#recents li", /Mill & Watt <b>/);
      await page.fill("#number", "");
      await page.focus("#number");
      await page.keyboard.press("Enter");
      equal(await page.inputValue("#number"), "601", "what is called again");
      await page.keyboard.press("Enter");
      await connected(page);
      await says(page, "#peer", /Mill & Watt <b>/);
      await page.click("#hangup");
      await over(page);
      await page.fill("#number", "mill & watt <B>");
      await page.keyboard.press("Enter");
      await connected(page);
      await page.click("#hangup");
      await over(page);
      originate("Wait 1");
      await page.waitForSelector("#answer:visible");
      asterisk.cli("channel request hangup all");
      await over(page);
      await says(page, "#recents li", /missed/);
      await page.reload();
      await says(page, "#recents li", /missed/);
      equal(await page.locator("#recents li").count(), 4, "remembered");
      const news = page.locator(".tabs .count");
      equal(await news.textContent(), "1 missed", "what is new");
      await page.click('.tabs button:has-text("Recents")');
      await news.waitFor({ state: "detached" });
      await page.reload();
      await says(page, "#recents li", /missed/);
      equal(await news.count(), 0, "what is new after a reload");
    }));

  test("keys: digits edit the number outside a call and are sent in one; M mutes, Esc hangs up", () =>
    withBob(chrome(), {}, async (page) => {
      await page.evaluate(() => document.activeElement.blur());
      await page.keyboard.type("605");
      await page.keyboard.press("Backspace");
      await page.click('#pad [data-key="4"]');
      equal(await page.inputValue("#number"), "604", "the number");
      const before = asterisk.log().length;
      await page.keyboard.press("Enter");
      await connected(page);
      await page.waitForFunction(
        () => webtrunkPhone.session.connection.connectionState === "connected",
      );
      await page.keyboard.press("1");
      await page.click("#keys");
      await page.click('#pad [data-key="5"]');
      await page.keyboard.press("9");
      await page.keyboard.press("0");
      equal(await text(page, "#digits"), "1590", "digits shown");
      const read = await until("Asterisk has read", () =>
        /WT-DTMF=(\S*)/.exec(asterisk.log().slice(before)),
      );
      equal(read[1], "1590", "digits Asterisk read");
      await over(page);
      await dial(page, "600");
      await connected(page);
      await hears(page, 440);
      await page.keyboard.press("m");
      await page.waitForSelector("#muted-note");
      equal(await text(page, "#mute"), "Unmute", "what the button does");
      await page.screenshot({ path: join(SHOTS, "phone-muted.png") });
      await page.keyboard.press("M");
      await page.waitForSelector("#muted-note", { state: "detached" });
      await page.keyboard.press("Escape");
      await says(page, "#verdict", /Esc once more/);
      equal(await page.getAttribute("#verdict", "class"), "", "a hint that looks like a fault");
      equal(await page.evaluate(() => webtrunkPhone.session !== null), true, "still in the call");
      const ended = cdrs().length;
      await page.keyboard.press("Escape");
      await over(page);
      await until("its record", () => cdrs().length > ended);
      const [cdr] = await recordOf(async () => {
        originate("Wait 1");
        await page.waitForSelector("#answer:visible");
        await page.keyboard.press("Escape");
        await over(page);
      });
      equal(cdr.sip_code, 603, "Escape declines");
    }));
}

function sound(chrome) {
  test("microphone and speaker by name, both levels, and a quality mark with its reason", () =>
    withBob(chrome(), {}, async (page) => {
      await dial(page, "600");
      await connected(page);
      await until("both meters move", () =>
        page.evaluate(() =>
          ["level", "own-level"].every((id) => document.getElementById(id).value > 0.02),
        ),
      );
      await says(page, "#quality", /^Good sound $/);
      await says(page, "#own-microphone", /Fake/);
      await page.click("#hangup");
      await over(page);
      await page.click("#devices summary");
      const names = await page.locator("#microphone option, #speaker option").allTextContents();
      if (names.filter((name) => /Fake/.test(name)).length < 4)
        throw new Error(`devices: ${names.join()}`);
      await page.selectOption("#ring-device", { index: 1 });
      await page.selectOption("#microphone", { index: 1 });
      const wanted = await page.locator("#ring-device").inputValue();
      await page.addInitScript(() => {
        window.sinks = [];
        const { setSinkId } = HTMLMediaElement.prototype;
        HTMLMediaElement.prototype.setSinkId = function (id) {
          sinks.push(id);
          return setSinkId.call(this, id);
        };
      });
      await page.reload();
      await page.waitForSelector("#line[data-state=online]");
      await page.click("#devices summary");
      const chosen = await page.locator("#microphone").inputValue();
      if (!chosen) throw new Error("the microphone is forgotten");
      await recordOf(async () => {
        originate("Wait 9");
        await page.waitForSelector("#answer:visible");
        await until("it rings where it shall", () =>
          page.evaluate((id) => sinks.includes(id), wanted),
        );
        await page.click("#answer");
        await connected(page);
        await says(page, "#quality", /Silence No sound arrives from them/);
        await page.click("#hangup");
        await over(page);
      });
    }));

  test("the quality mark's judgement: loss either way, jitter, distance, silence", async () => {
    const { text: script } = buildSync({
      entryPoints: [join(ROOT, "src/web/packages/phone/src/quality.ts")],
      bundle: true,
      write: false,
      format: "esm",
    }).outputFiles[0];
    const { judge } = await import(`data:text/javascript,${encodeURIComponent(script)}`);
    const before = { received: 100, lost: 0, jitter: 0, lossOut: 0, roundTrip: null };
    const now = { received: 200, lost: 0, jitter: 5, lossOut: 0, roundTrip: 40 };
    for (const [change, mark, reason] of [
      [{}, "good", ""],
      [{ lost: 2 }, "fair", "2.0 % of what you hear is lost on the way."],
      [{ lost: 25 }, "bad", "20 % of what you hear is lost on the way."],
      [{ lossOut: 0.06 }, "bad", "6.0 % of what you say is lost on the way."],
      [{ jitter: 45 }, "fair", "Sound arrives unevenly (jitter 45 ms)."],
      [{ roundTrip: 420, lost: 2 }, "bad", "The delay is long (round trip 420 ms)."],
      [{ received: 100 }, "none", "No sound arrives from them."],
    ]) {
      const found = judge(before, { ...now, ...change });
      equal(`${found.mark} ${found.reason}`, `${mark} ${reason}`, JSON.stringify(change));
    }
  });
}

function truth(chrome) {
  test("a page in a call asks before it is closed, and an idle one does not", () =>
    withBob(chrome(), {}, async (page) => {
      const asked = [];
      page.on("dialog", (dialog) => {
        asked.push(dialog.type());
        return dialog.dismiss();
      });
      await dial(page, "601");
      await connected(page);
      await page.close({ runBeforeUnload: true });
      await until("it asks", () => asked.length === 1);
      equal(asked[0], "beforeunload", "what it asks");
      await hears(page, 1004);
      await page.click("#hangup");
      await over(page);
      await page.reload();
      equal(asked.length, 1, "times it asked");
    }));

  test("no microphone, or one that is denied, is told as that", () =>
    withBob(chrome(), {}, async (page) => {
      const refuse = (name) =>
        page.evaluate((name) => {
          navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", name));
        }, name);
      for (const [name, words] of [
        ["NotAllowedError", /^The microphone is blocked/],
        ["NotFoundError", /^No microphone was found/],
        ["NotReadableError", /another program/],
      ]) {
        await refuse(name);
        await dial(page, "601");
        await says(page, "#verdict", words);
        await over(page);
      }
      await page.evaluate(() => {
        navigator.mediaDevices.enumerateDevices = async () => [];
        navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
      });
      await says(page, "#microphone-note", /No microphone was found/);
    }));

  test("the page can be installed: the browser finds nothing wrong with its manifest, and its icons are of their sizes", () =>
    withBob(chrome(), {}, async (page) => {
      await page.evaluate(() => navigator.serviceWorker.ready);
      const devtools = await page.context().newCDPSession(page);
      const { errors, data } = await devtools.send("Page.getAppManifest");
      equal(errors.map((error) => error.message).join(), "", "the manifest's errors");
      const { installabilityErrors: found } = await devtools.send("Page.getInstallabilityErrors");
      // A context of a test is private, as no person's is.
      const wrong = found.map(({ errorId }) => errorId).filter((id) => id !== "in-incognito");
      equal(wrong.join(), "", "what keeps it from being installed");
      const icons = JSON.parse(data).icons.filter(({ sizes }) => sizes !== "any");
      const sizes = await page.evaluate(
        (all) =>
          Promise.all(
            all.map(async ({ src }) => {
              const image = await createImageBitmap(await (await fetch(src)).blob());
              return `${image.width}x${image.height}`;
            }),
          ),
        icons,
      );
      equal(sizes.join(), icons.map((icon) => icon.sizes).join(), "sizes of its icons");
    }));

  test("the gateway goes: the page says so, opens without it, and comes back with it", async () => {
    let node = gateway(8104);
    await serves(node);
    const page = await phone(chrome(), { user: "carol", url: "http://localhost:8104/" });
    await page.evaluate(() => navigator.serviceWorker.ready);
    await until("the page is kept", () =>
      page.evaluate(async () =>
        Boolean(await (await caches.open("webtrunk-page")).match("jssip.js")),
      ),
    );
    const missing = await page.evaluate(async () => {
      const kept = await caches.open("webtrunk-page");
      const all = [
        ...document.querySelectorAll("script[src], link[rel=stylesheet], link[rel=icon]"),
      ];
      const found = await Promise.all(all.map((e) => kept.match(e.src || e.href)));
      return all.filter((_, n) => !found[n]).map((e) => e.outerHTML);
    });
    equal(missing.join(), "", "what the page needs and the service worker does not keep");
    await stop(node, "SIGKILL");
    await says(page, "#line-note", /gateway does not answer; trying again/);
    equal(await page.isDisabled("#dial"), true, "the button to call");
    await page.reload();
    await says(page, "#line-note", /gateway does not answer/);
    await page.screenshot({ path: join(SHOTS, "phone-gateway-gone.png") });
    node = gateway(8104);
    await serves(node);
    await page.waitForSelector("#line[data-state=online]", { timeout: 20_000 });
    await dial(page, "9196");
    await connected(page);
    await page.context().setOffline(true);
    await says(page, "#line-note", /This device is offline/);
    await page.context().setOffline(false);
    await page.waitForSelector("#line[data-state=online]", { timeout: 20_000 });
    await hears(page, 440);
    const known = await page.evaluate(async () =>
      (await (await caches.open("webtrunk-page")).keys()).map((kept) => new URL(kept.url).pathname),
    );
    if (known.some((path) => /^\/(sip|api|settings)/.test(path))) throw new Error(`kept: ${known}`);
    await page.click("#hangup");
    await over(page);
    await page.context().close();
    await stop(node, "SIGTERM");
  });
}

/** The phone of `browser` in every state, at every width and in both themes. */
export async function everyPhone(browser, shown) {
  for (const [width, height] of WIDTHS)
    for (const colorScheme of THEMES) {
      const options = { user: "bob", viewport: { width, height }, colorScheme };
      const page = await phone(browser, { ...options });
      const look = (state) => shown(page, state, width, colorScheme);
      await look("idle");
      await dial(page, "601");
      await connected(page);
      await page.keyboard.press("m");
      await page.click("#keys");
      await says(page, "#quality", /Good/);
      await look("call");
      await page.click("#hand-over");
      await look("transfer");
      await page.keyboard.press("Escape");
      await page.click("#add-call");
      await dial(page, "600");
      await page.waitForSelector(".other");
      await connected(page);
      await look("two");
      await page.click("#hangup");
      await until("one is left", async () => (await page.locator(".other").count()) === 0);
      await page.click("#hangup");
      await over(page);
      await page.click("#devices summary");
      await page.click('.tabs button:has-text("Contacts")');
      await look("devices");
      await page.click("#log-out");
      await page.waitForSelector("#login");
      await look("login");
      equal(page.problems.join(), "", "problems on the page");
      await page.context().close();
    }
  await idle();
}

function looks(chrome) {
  test("the phone at 360, 768 and 1440 px, in both themes and every state, by axe and without scrolling sideways", async () => {
    await everyPhone(chrome(), async (page, state, width, theme) => {
      await accessible(page, `${state}, ${width}, ${theme}`);
      await fits(page, `${state}, ${width}`);
      await compare(page, `phone-${state}-${width}-${theme}`);
    });
    sameLooks();
  });
}

export function phones(chrome) {
  rings(chrome);
  login(chrome);
  lines(chrome);
  memory(chrome);
  sound(chrome);
  truth(chrome);
  looks(chrome);
}
