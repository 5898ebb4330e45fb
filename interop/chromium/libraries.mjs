// Each browser with each SIP library, and Firefox with the page: calls both ways, sound
// both ways, digits, hold, reload, and how every view fits.
import { join } from "node:path";
import { accessible } from "./console.mjs";
import { firefoxBrowser } from "./firefox.mjs";
import { everyState, everyView, fits, sameLooks } from "./looks.mjs";
import { everyPhone } from "./phone.mjs";
import {
  SHOTS,
  asterisk,
  cdrs,
  connected,
  dial,
  equal,
  hears,
  hearsNothing,
  libraryPage,
  over,
  phone,
  recordOf,
  test,
  until,
} from "./rig.mjs";

let fox;
/** Firefox, started once, where a case wants it. */
const theFox = async () => {
  fox ??= await firefoxBrowser();
  return fox;
};
export const closeFirefox = () => fox?.close();

const BOB = "+12065550112";
/** Asterisk's extensions: its own echo, and what reads four digits. */
const ECHO = "600@from-webtrunk";
const READ = "604@from-webtrunk";

/** Asterisk calls bob and does with him what `extension` says. */
const originate = (extension) =>
  asterisk.cli(`channel originate PJSIP/${BOB}@webtrunk extension ${extension}`);

/** The digits Asterisk reads while `body` runs. */
async function digitsOf(body) {
  const before = asterisk.log().length;
  await body();
  const read = await until(
    "Asterisk has read digits",
    () => /WT-DTMF=(\S*)/.exec(asterisk.log().slice(before)),
    12,
  );
  return read[1];
}

const idle = (seconds) =>
  until("no channel is left in Asterisk", () => asterisk.channels() === 0, seconds);

/** Our page in Firefox. */
function pageCases() {
  const pressed = (page, keys) =>
    page.evaluate(
      (keys) =>
        webtrunkPhone.session.sendDTMF(keys, {
          transportType: "RFC2833",
          duration: 160,
          interToneGap: 100,
        }),
      keys,
    );
  const live = (page) =>
    page.waitForFunction(() => webtrunkPhone.session?.connection?.connectionState === "connected");
  const answer = async (page) => {
    await page.waitForSelector("#answer:visible");
    await page.click("#answer");
    await connected(page);
  };
  const withPage = async (body) => {
    const page = await phone(await theFox(), { user: "bob" });
    try {
      await body(page);
      equal(page.problems.join(), "", "problems on the page");
    } finally {
      await page.context().close();
    }
    await idle();
  };

  test("Firefox, the page: calls Asterisk's echo and hears itself, holds and resumes, hangs up", () =>
    withPage(async (page) => {
      const [cdr] = await recordOf(async () => {
        await dial(page, "600");
        await connected(page);
        await hears(page, 440);
        await page.click("#hold");
        await page.waitForSelector("#hold[aria-pressed=true]");
        await hearsNothing(page);
        await page.click("#hold");
        await page.waitForSelector("#hold[aria-pressed=false]");
        await hears(page, 440);
        await page.click("#hangup");
        await over(page);
      });
      equal(cdr.hangup_by, "caller", "hung up by");
      equal(cdr.legs.map((leg) => leg.codec).join(), "opus,PCMU", "codecs");
    }));

  test("Firefox, the page: is called by Asterisk's echo and hears itself; Asterisk hangs up", () =>
    withPage(async (page) => {
      const [cdr] = await recordOf(async () => {
        originate(ECHO);
        await answer(page);
        await hears(page, 440);
        asterisk.cli("channel request hangup all");
        await over(page);
      });
      equal(cdr.hangup_by, "caller", "hung up by");
    }));

  test("Firefox, the page: digits reach the trunk it called", () =>
    withPage(async (page) => {
      const read = await digitsOf(async () => {
        await dial(page, "604");
        await connected(page);
        await live(page);
        await pressed(page, "1590");
      });
      await over(page);
      equal(read, "1590", "digits Asterisk read");
    }));

  for (const [name, browser] of [
    ["Firefox", theFox],
    ["Chromium", () => world.chrome],
  ]) {
    test(`${name}, the page: digits reach the trunk that called it`, async () => {
      const page = await phone(await browser(), { user: "bob" });
      const read = await digitsOf(async () => {
        originate(READ);
        await answer(page);
        await live(page);
        await pressed(page, "8642");
      });
      await over(page);
      await page.context().close();
      equal(read, "8642", "digits Asterisk read");
      await idle();
    });
  }

  test("Firefox, the page: reloaded in mid-call, it takes the call up again", () =>
    withPage(async (page) => {
      await recordOf(async () => {
        await dial(page, "600");
        await connected(page);
        await hears(page, 440);
        await page.reload();
        await connected(page);
        await hears(page, 440);
        await page.click("#hangup");
        await over(page);
      });
    }));
}

/** One library in one browser. */
function libraryCases(name, browser, library, title) {
  const withLine = async (body) => {
    const { page, shop, problems } = await libraryPage(await browser(), library);
    try {
      equal(
        await page.evaluate(() => line.register("bob", "bob-secret")),
        "Registered",
        "registration",
      );
      await body(page);
      equal(problems.join(), "", "problems on the page");
    } finally {
      await page.context().close();
      await new Promise((closed) => {
        shop.close(closed);
        shop.closeAllConnections();
      });
    }
    await idle();
  };
  const live = (page) =>
    page.waitForFunction(
      () => line.established() && line.connection().connectionState === "connected",
    );
  const ended = (page) => page.waitForFunction(() => line.ended());

  test(`${name}, ${title}: calls Asterisk's echo and hears itself, holds and resumes; is called`, () =>
    withLine(async (page) => {
      await recordOf(async () => {
        await page.evaluate(() => line.call("600"));
        await hears(page, 440);
        await page.evaluate(() => line.hold(true));
        await hearsNothing(page);
        await page.evaluate(() => line.hold(false));
        await hears(page, 440);
        await page.evaluate(() => line.bye());
        await ended(page);
      });
      await recordOf(async () => {
        originate(ECHO);
        await live(page);
        await hears(page, 440);
        asterisk.cli("channel request hangup all");
        await ended(page);
      });
    }));

  test(`${name}, ${title}: digits reach the trunk it called, and the trunk that called it`, () =>
    withLine(async (page) => {
      const out = await digitsOf(async () => {
        await page.evaluate(() => line.call("604"));
        await live(page);
        await page.evaluate(() => line.digits("1590"));
      });
      await ended(page);
      const back = await digitsOf(async () => {
        originate(READ);
        await live(page);
        await page.evaluate(() => line.digits("8642"));
      });
      await ended(page);
      equal(`${out} ${back}`, "1590 8642", "digits Asterisk read");
    }));

  test(`${name}, ${title}: reloaded in mid-call, it registers and calls again; the call it left ends`, () =>
    withLine(async (page) => {
      const before = cdrs().length;
      await page.evaluate(() => line.call("600"));
      await hears(page, 440);
      await page.reload();
      await page.evaluate(() => line.register("bob", "bob-secret"));
      await page.evaluate(() => line.call("601"));
      await hears(page, 1004);
      await page.evaluate(() => line.bye());
      await until("both calls have ended", () => cdrs().length === before + 2, 20);
    }));
}

/** All of the page in Firefox. */
function viewCases() {
  const shown = async (page, what, width, theme) => {
    const name = `firefox-${what}-${width}-${theme}`;
    await page.screenshot({ path: join(SHOTS, `${name}.png`) });
    await fits(page, name);
    await accessible(page, name);
  };
  test("Firefox, the page: every view at 360, 768 and 1440 px in both themes fits and is clean by axe", async () => {
    await everyView(theFox, 8123, "en-US", shown);
    sameLooks();
  });
  test("Firefox, the page: the login, questions, keys, empty lists and nodes fit and are clean by axe", async () => {
    await everyState(theFox, 8124, shown);
    sameLooks();
  });
  test("Firefox, the page: the phone in every state fits and is clean by axe", async () => {
    await everyPhone(await theFox(), (page, state, width, theme) =>
      shown(page, `phone-${state}`, width, theme),
    );
    sameLooks();
  });
}

let world;
export function libraries(given) {
  world = given;
  pageCases();
  // Some hundred and fifty pictures, minutes long.
  if (process.env.WEBTRUNK_SLOW) viewCases();
  for (const [name, browser] of [
    ["Firefox", theFox],
    ["Chromium", () => world.chrome],
  ])
    for (const [library, title] of [
      ["jssip", "JsSIP"],
      ["sipjs", "SIP.js"],
    ])
      libraryCases(name, browser, library, title);
}
