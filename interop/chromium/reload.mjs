// Pages that are reloaded in mid-call: the phone, the call button, and pages of JsSIP and SIP.js with
// /resume.js on another origin. The tone is back both ways within 5 s, and the trunk hears of nothing.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import {
  asterisk,
  binary,
  block,
  connected,
  dial,
  equal,
  heard,
  hears,
  over,
  phone,
  recordOf,
  SHOTS,
  test,
  until,
} from "./rig.mjs";
import { bundledFiles as bundled, playing, shop } from "./packages.mjs";

/** Reloads of each page in a row. */
const TIMES = Number(process.env.WEBTRUNK_RELOADS ?? 10);
/** Within which the tone is back, in milliseconds. */
const BACK = 5000;
const BOB = "+12065550112";
const ECHO = "600@from-webtrunk";
const idle = () => until("no channel is left in Asterisk", () => asterisk.channels() === 0);
/** What went between the gateway and the trunk in the newest call, by its ladder. */
function atTrunk() {
  const text = execFileSync(binary, ["trace", "--last", "-o", "json"], { encoding: "utf8" });
  const { lanes, rows } = JSON.parse(text);
  return rows
    .filter((row) => row.kind === "message" && !/^browser/.test(lanes[row.lane]))
    .map((row) => row.summary);
}

/** Reloads, and waits until 440 Hz is back from the trunk's echo: both ways, then. */
async function reload(page, back = (page) => heard(page)) {
  const began = Date.now();
  await page.reload();
  for (;;) {
    const found = await back(page).catch(() => ({ hz: 0, db: -200 }));
    const gap = Date.now() - began;
    if (Math.abs(found.hz - 440) < 8 && found.db > -55) {
      return gap;
    }
    if (gap > 2 * BACK)
      throw new Error(`440 Hz is not back after ${gap} ms; heard ${JSON.stringify(found)}`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

async function reloads(page, back) {
  const gaps = [];
  for (let n = 1; n <= TIMES; n++) {
    const gap = await reload(page, back);
    if (gap > BACK) throw new Error(`reload ${n}: the tone was back after ${gap} ms`);
    gaps.push(gap);
  }
  gaps.sort((a, b) => a - b);
  const at = (share) => gaps[Math.min(TIMES - 1, Math.floor(share * TIMES))];
  console.log(`        the tone was back after ${at(0.5)} ms (median), ${at(0.99)} ms (p99)`);
}

/** One call is one record, and no message at the trunk is of a reload. */
async function oneCall(body) {
  const [cdr] = await recordOf(body);
  equal(cdr.outcome, "success", "outcome");
  if (cdr.billable_s < TIMES) throw new Error(`it lasted ${cdr.billable_s} s`);
  const messages = atTrunk();
  const strange = messages.filter((m) => !/^(INVITE|1\d\d|200|ACK|BYE)/.test(m));
  const invites = messages.filter((m) => /^INVITE/.test(m)).length;
  const byes = messages.filter((m) => /^BYE/.test(m)).length;
  equal(`${invites} ${byes} ${strange}`, "1 1 ", `at the trunk: ${messages.join(", ")}`);
  await idle();
}

const plays = (page, hz) =>
  until(`${hz} Hz is played`, async () => Math.abs((await playing(page)).hz - hz) < 8);

/** The page's clock, seconds. */
const clock = async (page) => {
  const [seconds, minutes] = (await page.textContent("#clock")).split(":").reverse().map(Number);
  return minutes * 60 + seconds;
};

async function withBob(chrome, body) {
  const page = await phone(chrome, { user: "bob" });
  page.on("dialog", (dialog) => dialog.accept());
  await body(page);
  equal(page.problems.join(), "", "problems on the page");
  await page.context().close();
  await idle();
}

function phoneCases(chrome) {
  test(`the phone takes a call that it dialled up again after each of ${TIMES} reloads`, () =>
    withBob(chrome(), (page) =>
      oneCall(async () => {
        await dial(page, "600");
        await connected(page);
        await hears(page, 440);
        await reloads(page);
        await connected(page);
        if ((await clock(page)) < TIMES) throw new Error("the clock began anew");
        equal(await page.textContent("#peer"), "600", "who it talks to");
        await page.screenshot({ path: join(SHOTS, "phone-reloaded.png") });
        await page.click("#hangup");
        await over(page);
      }),
    ));

  test(`the phone takes a call that came in up again after each of ${TIMES} reloads`, () =>
    withBob(chrome(), (page) =>
      oneCall(async () => {
        asterisk.cli(`channel originate PJSIP/${BOB}@webtrunk extension ${ECHO}`);
        await page.waitForSelector("#answer:visible");
        await page.click("#answer");
        await connected(page);
        await hears(page, 440);
        await reloads(page);
        await page.click("#hangup");
        await over(page);
      }),
    ));

  test("the phone is reloaded on hold and muted, and is both after it; what rings rings again", () =>
    withBob(chrome(), async (page) => {
      await recordOf(async () => {
        await dial(page, "600");
        await connected(page);
        await hears(page, 440);
        await page.click("#mute");
        await page.click("#hold");
        await page.waitForSelector('#state:has-text("On hold")');
        await page.reload();
        await page.waitForSelector('#state:has-text("On hold")');
        await page.click("#hold");
        await connected(page);
        await page.waitForSelector("#muted-note");
        await page.click("#mute");
        await hears(page, 440);
        await page.click("#hangup");
        await over(page);
      });
      await recordOf(async () => {
        asterisk.cli(`channel originate PJSIP/${BOB}@webtrunk extension ${ECHO}`);
        await page.waitForSelector("#answer:visible");
        await page.reload();
        await page.waitForSelector("#answer:visible");
        await page.click("#answer");
        await connected(page);
        await hears(page, 440);
        await page.click("#hangup");
        await over(page);
      });
    }));

  test("a tab that is duplicated leaves the other tab's call alone, and the other may be reloaded", () =>
    withBob(chrome(), (page) =>
      recordOf(async () => {
        await dial(page, "600");
        await connected(page);
        await hears(page, 440);
        const copied = page.context().waitForEvent("page");
        await page.evaluate(() => void window.open(location.href));
        const copy = await copied;
        await copy.waitForSelector("#line[data-state=online]");
        await copy.waitForTimeout(4000);
        equal(await copy.evaluate(() => webtrunkPhone.session), null, "what the copy talks in");
        await hears(page, 440);
        await copy.reload();
        await copy.waitForSelector("#line[data-state=online]");
        await reload(page);
        await copy.waitForTimeout(3000);
        equal(await copy.evaluate(() => webtrunkPhone.session), null, "what the copy talks in");
        await hears(page, 440);
        await page.click("#hangup");
        await over(page);
      }),
    ));

  test("a page that is closed for good ends its call after the grace, and the verdict says so", async () => {
    const page = await phone(chrome(), { user: "bob" });
    const [cdr] = await recordOf(async () => {
      await dial(page, "600");
      await connected(page);
      await hears(page, 440);
      await page.context().close();
      await new Promise((next) => setTimeout(next, 6000));
      equal(asterisk.channels() > 0, true, "the trunk is still there");
    });
    equal(cdr.code, "WT-1206", "code");
    if (!/the page was closed or reloaded/.test(cdr.verdict.sentence))
      throw new Error(cdr.verdict.sentence);
    await idle();
  });

  test("the other side hangs up while the page is away: the page says so when it is back", () =>
    withBob(chrome(), (page) =>
      recordOf(async () => {
        await dial(page, "600");
        await connected(page);
        await hears(page, 440);
        await page.goto("about:blank");
        asterisk.cli("channel request hangup all");
        await idle();
        await page.goBack();
        await page.waitForSelector('#verdict:has-text("ended while the page was reloaded")');
        equal(await page.evaluate(() => webtrunkPhone.session), null, "what it talks in");
      }),
    ));
}

const token = () => {
  const given = { uri: "sip:bob@wt.test", ws: "ws://localhost:8090/sip" };
  return JSON.stringify({ ...given, username: "bob", password: "bob-secret" });
};

function buttonCases(chrome) {
  test(`<call-button> of another origin takes its call up again after each of ${TIMES} reloads`, async () => {
    const page0 = `<!doctype html><html lang="en"><title>shop</title>
      <script src="http://localhost:8090/call-button.js" defer></script>
      <script>window.told = [];
        for (const type of ["calling", "connected", "ended", "failed"])
          document.addEventListener(type, (e) => told.push(type + (e.detail.reason ?? "")));
      </script>
      <call-button to="601" token-url="/voice/token"></call-button>
      <call-button to="600" token-url="/voice/token"></call-button></html>`;
    const own = await shop(chrome(), { "/": page0, "/voice/token": token() });
    const { page } = own;
    const part = (name) => page.locator('call-button[to="600"]').locator(`[part~="${name}"]`);
    await page.goto("http://localhost:8097/");
    await oneCall(async () => {
      await part("button").click();
      await plays(page, 440);
      await reloads(page, playing);
      equal((await page.evaluate(() => told)).join(), "connected", "what it tells");
      equal(await part("button").textContent(), "Hang up", "its words");
      const shown = (await part("timer").textContent()).split(":").map(Number);
      if (shown[0] * 60 + shown[1] < TIMES) throw new Error(`the timer shows ${shown}`);
      equal(
        await page.locator('call-button[to="601"]').getAttribute("data-state"),
        "idle",
        "the other button",
      );
      await part("button").click();
    });
    equal(await page.evaluate(() => sessionStorage.length), 0, "what the tab keeps");
    await own.close();
  });
}

/** The two of the book, as printed, on a page of another origin. */
function libraryCases(chrome) {
  for (const [library, name] of [
    ["JsSIP", "resume-jssip.js"],
    ["SIP.js", "resume-sipjs.js"],
  ])
    test(`a page of ${library} with /resume.js takes its call up again after each of ${TIMES} reloads`, async () => {
      const main = `import { connect } from "./${name}";
        window.shown = [];
        const audio = document.querySelector("audio");
        const show = (text, session) => { shown.push(text); window.session ??= session; };
        window.line = Promise.resolve(
          connect({ user: "bob", password: "bob-secret", audio, shown: show }));`;
      const printed = block("how-to/resume.md", name)
        .replaceAll("wss://calls.example.com", "ws://localhost:8090")
        .replaceAll("https://calls.example.com", "http://localhost:8090")
        .replaceAll("@calls.example.com", "@wt.test");
      const script = bundled(`main-${name}`, main, { [name]: printed });
      const body = `<!doctype html><audio></audio><script type="module" src="/page.js"></script>`;
      const own = await shop(chrome(), { "/": body, "/page.js": script });
      const { page } = own;
      await page.goto("http://localhost:8097/");
      await page.waitForFunction(() => window.line);
      await oneCall(async () => {
        await page.evaluate(async () => {
          const { ua, dial } = await window.line;
          if (ua && !ua.isConnected()) await new Promise((done) => ua.once("connected", done));
          window.session = dial("600");
        });
        await plays(page, 440);
        await reloads(page, playing);
        await until("the page is told", () => page.evaluate(() => shown.length > 0));
        const [shown] = await page.evaluate(() => window.shown);
        if (!/^talking to 600 since /.test(shown)) throw new Error(shown);
        await page.evaluate(() => (window.session.bye ?? window.session.terminate).call(session));
      });
      await own.close();
    });
}

export function reloadCases(chrome) {
  phoneCases(chrome);
  buttonCases(chrome);
  libraryCases(chrome);
}
