// The gateway's side of the page, in the demo: what goes on is seen as it happens, and explained
// when it is over.
import { join } from "node:path";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import {
  PUBLIC,
  SHOTS,
  HERE,
  block,
  binary,
  connected,
  dial,
  equal,
  over,
  phone,
  serveHttp,
  start,
  test,
  until,
  work,
} from "./rig.mjs";

const axe = readFileSync(
  createRequire(import.meta.url).resolve("axe-core/axe.min.js", { paths: [HERE] }),
  "utf8",
);
export const VIEWS = ["phone", "calls", "trunks", "users", "dialplan", "webhooks", "settings"];

/** WCAG 2.2 A and AA, by axe; the page's policy lets no script in, so it comes by the debugger. */
export async function accessible(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() =>
    axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }),
  );
  equal(
    found.violations
      .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join("; ")}`)
      .join("\n"),
    "",
    `axe on ${what}`,
  );
}

async function gateway(port) {
  const child = start(binary, [
    "demo",
    "--port",
    String(port),
    "--control",
    join(work, `demo-${port}.sock`),
  ]);
  await until("the demo serves", () => new RegExp(`localhost:${port}`).test(child.output));
  return child;
}

async function stopped(child) {
  child.kill("SIGINT");
  await until("the demo has stopped", () => child.code !== undefined);
}

export async function demo(chrome, port, options) {
  const child = await gateway(port);
  const page = await phone(chrome, { url: `http://localhost:${port}/`, user: null, ...options });
  return { child, page };
}

export async function stop({ child, page }) {
  equal(page.problems.join(), "", "problems on the page");
  await page.context().close();
  await stopped(child);
}

/** The gateway is alone; its page is told of two nodes besides, one of which drains. */
export async function threeNodes(page) {
  const node = (name, more) => ({
    node: name,
    this: false,
    state: "joined",
    lease_s: 2.5,
    address: `10.0.0.${name.charCodeAt(0) - 96}:5072`,
    version: "0.2.0",
    calls: 41,
    registrations: 120,
    calls_left: 459,
    draining: false,
    took: [],
    config_differs: false,
    ...more,
  });
  const json = [
    node("a", { this: true }),
    node("b", { draining: true }),
    node("c", { took: ["d"] }),
  ];
  await page.route("**/api/v1/nodes", (route) => route.fulfill({ json }));
  const call = (node, more) => ({
    node,
    call: `0000000${node}`,
    state: "ended",
    start: new Date(Date.now() - 60_000).toISOString(),
    from: "trunk:loopback",
    from_number: "+12065550177",
    from_name: "Ada Lovelace",
    to: "+12065550123",
    with: "trunk:loopback",
    direction: "inbound",
    outcome: "success",
    sip_code: 200,
    code: null,
    verdict: "talked for 12 s, the caller hung up",
    talked_s: 12,
    seconds: 14,
    mos_estimated: 4.3,
    codecs: ["PCMU"],
    ...more,
  });
  const calls = [
    call("a"),
    call("b", {
      code: "WT-1301",
      outcome: "busy",
      sip_code: 486,
      verdict: "the called side is busy",
      talked_s: null,
      mos_estimated: null,
    }),
  ];
  await page.route(/\/api\/v1\/\w+\?.*node=/, (route) => {
    const of = new URL(route.request().url());
    const node = of.searchParams.get("node");
    const listed = of.pathname.endsWith("/calls") ? calls : [];
    return route.fulfill({ json: listed.filter((one) => [one.node, "all"].includes(node)) });
  });
}

/** What a button saves, as text. */
export async function savedBy(page, selector) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  return readFileSync(await download.path(), "utf8");
}

/** A report opened as a file: it is clean by axe, and loads nothing from anywhere. */
export async function opened(page, report, what) {
  const file = join(work, "report.html");
  writeFileSync(file, report);
  const own = await page.context().browser().newContext();
  const reader = await own.newPage();
  const asked = [];
  reader.on("request", (request) => asked.push(request.url()));
  reader.on("pageerror", (error) => asked.push(error.message));
  await reader.goto(`file://${file}`);
  await accessible(reader, what);
  await reader.screenshot({ path: join(SHOTS, "report.png"), fullPage: true });
  await own.close();
  equal(asked.length, 1, `what the report asks for: ${asked}`);
}

export function consoleCases(chrome) {
  test("the console shows a call as it happens, its ladder, its verdict, and ends it", async () => {
    const own = await demo(chrome(), 8096, { viewport: { width: 1360, height: 900 } });
    const { page } = own;
    await page.waitForSelector("#beside:visible");
    await page.click('#numbers button:has-text("+12065550123")');
    await connected(page);
    await until("the ladder beside the phone moves", async () =>
      /DTLS done/.test(await page.textContent("#beside")),
    );
    await page.evaluate(() => window.scrollTo(0, 0));
    await page.screenshot({ path: join(SHOTS, "console-beside.png") });
    await page.click('#tabs a:has-text("Calls")');
    await until("the call is listed as it goes on", async () =>
      /talking/.test(await page.textContent("#calls-list")),
    );
    if (!(await page.locator("#calls-list time[datetime]").count()))
      throw new Error("a call has no start");
    const caller = await page.textContent("#calls-list td.who");
    for (const part of ["Demo", "demo", "+12065550100"])
      if (!caller.includes(part)) throw new Error(`the caller is ${caller}, without ${part}`);
    await page.fill('#calls-filter [name="search"]', "555-01");
    await until("a call is found by part of its number", async () =>
      /talking/.test(await page.textContent("#calls-list")),
    );
    await page.fill('#calls-filter [name="search"]', "nobody");
    await until("and by nothing else", async () =>
      /No remembered call matches/.test(await page.textContent("#calls-list")),
    );
    await page.fill('#calls-filter [name="search"]', "");
    await page.waitForSelector("#calls-list .row-link");
    await page.click("#calls-list tbody td:nth-child(3)");
    await page.waitForSelector("#call-view svg [data-row]");
    const permalink = page.url();
    if (!/#\/calls\/[0-9a-f]{8}$/.test(permalink)) throw new Error(`no permalink: ${permalink}`);
    await page.focus("#call-view svg [data-row]");
    await page.keyboard.press("Enter");
    if (!/INVITE sip:/.test(await page.textContent("#call-view pre")))
      throw new Error("a message is not shown");
    if (/response=[0-9a-f"]/.test(await page.textContent("#call-view pre")))
      throw new Error("a credential is shown");
    const note = page.locator("#call-view pre .rule", { hasText: "hops that are left" });
    equal(await note.count(), 1, "Max-Forwards is explained");
    await accessible(page, "a message with its headers explained");
    await page.screenshot({ path: join(SHOTS, "console-message.png") });
    await page.uncheck('#call-view label:has-text("Explain the headers") input');
    equal(await note.count(), 0, "explanations that are not wanted");
    // The caller's INVITE, and the one made of it: each line that differs says by what rule.
    const invite = (way) =>
      page.locator(`#call-view svg [data-row][aria-label*="${way}"][aria-label*=": INVITE"]`);
    await page.locator("#call-view svg [aria-pressed=true]").press("Enter");
    await invite(" to webtrunk").last().press("Enter");
    await invite("webtrunk to ").first().press("Enter");
    await page.waitForSelector("#call-view pre del");
    const made = page.locator("#call-view pre ins", { hasText: "m=audio" });
    if (!/← .*our port/.test(await made.textContent()))
      throw new Error(`the rule is not told: ${await made.textContent()}`);
    if (!(await page.locator('#call-view pre del:has-text("←")').count()))
      throw new Error("a line that is gone does not say why");
    await page.click('#call-view button:has-text("Hang up")');
    await page.click('dialog button:has-text("Cancel")');
    if (!/active/.test(await page.textContent("#call-view .hero")))
      throw new Error("what was cancelled was done");
    // A figure is of a second, and a quick machine is here before there are two of them; a browser
    // reports after some seconds.
    const id = permalink.slice(-8);
    await until("there are seconds to draw", () =>
      page.evaluate(async (id) => {
        const { token } = await (await fetch("settings.json")).json();
        const headers = { authorization: `Bearer ${token}` };
        const answer = await fetch(`api/v1/calls/${id}/quality`, { headers });
        const { legs } = await answer.json();
        const reported = (leg) => leg.series.some((s) => s.reported_mos_estimated > 4);
        return legs.some((leg) => leg.series.length > 2) && legs.some(reported);
      }, id),
    );
    await page.click('#call-view button:has-text("Hang up")');
    await page.click('dialog button:has-text("Hang up")');
    await until("the verdict", async () =>
      /talked for|hung up|WT-/.test(await page.textContent("#call-view .hero")),
    );
    await until("it is told", async () => /has ended/.test(await page.textContent("#told")));
    await page.waitForSelector('#call-view .chart:has-text("Estimated quality, MOS")');
    await page.waitForSelector('#call-view .marked li:has-text("answered")');
    // Where it begins to hurt is told, though so good a call comes nowhere near it.
    for (const bound of ["poor below 3.6", "noticeable from 3 %", "noticeable from 30 ms"])
      await page.waitForSelector(`#call-view .chart figcaption:has-text("${bound}")`);
    for (const title of ["Estimated quality, MOS", "Packet loss, %", "Jitter, ms"])
      await page.waitForSelector(
        `#call-view .chart:has-text("${title}") .u-legend:has-text("by its report")`,
      );
    const level = page.locator('#call-view .chart:has-text("Sound level of each side, dBov")');
    const loudest = await level.locator("figcaption").textContent();
    if (!/caller ≤ -\d+, called side ≤ -\d+/.test(loudest)) throw new Error(`no level: ${loudest}`);
    await level.locator(".u-over").hover();
    await until("the level under the pointer has its unit", async () =>
      /-\d+ dBov/.test(await level.locator(".u-legend").textContent()),
    );
    await page
      .locator("#call-view .charts")
      .screenshot({ path: join(SHOTS, "console-charts.png") });
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.click('#call-view .hero button:has-text("Copy")');
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    if (!copied.includes("#/calls/")) throw new Error(`what is copied is ${copied}`);
    const saved = async (click) => {
      const [download] = await Promise.all([page.waitForEvent("download"), click()]);
      return readFileSync(await download.path());
    };
    // The menu has keys of its own: Escape closes it, and leaves the call where it is.
    const menu = page.locator("#call-view .menu");
    await menu.locator("summary").press("Enter");
    await page.keyboard.press("ArrowUp");
    equal(await page.evaluate(() => document.activeElement.textContent), "Mermaid", "the last");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Escape");
    equal(await menu.getAttribute("open"), null, "the menu after Escape");
    equal(page.url(), permalink, "where Escape in a menu leads");
    await page.keyboard.press("Enter");
    await page.click("#call-view h2");
    equal(await menu.getAttribute("open"), null, "the menu after a click elsewhere");
    await page.click("#call-view .menu summary");
    const capture = await saved(() => page.click('#call-view button:has-text("Capture")'));
    if (!capture.includes("INVITE sip:")) throw new Error("the capture holds no INVITE");
    const report = (
      await saved(() => page.click('#call-view button:has-text("Report")'))
    ).toString();
    for (const part of ["<svg", "INVITE sip:", "<h1 ", "Estimated quality, MOS: caller"])
      if (!report.includes(part)) throw new Error(`the report has no ${part}`);
    if (/response=[0-9a-f"]/.test(report)) throw new Error("a credential is in the report");
    if (!report.includes(permalink)) throw new Error("the report does not name the call's page");
    await opened(page, report, "a good call's report");
    equal(await page.title(), `${id} – Calls – webtrunk`, "the title");
    await page.keyboard.press("Escape");
    await until("Escape leads back", async () => /#\/calls$/.test(page.url()));
    await until("to the line of the call", () =>
      page.evaluate((id) => document.activeElement.dataset.call === id, id),
    );
    await page.goto(permalink);
    await page.waitForSelector("#call-view .hero");
    await stop(own);
  });

  test("the console says in its own words that the gateway is away, and comes back with it", async () => {
    const port = 8125;
    const own = await demo(chrome(), port, { locale: "de-DE" });
    const { page } = own;
    const unanswered = "**/api/v1/calls?*";
    await page.route(unanswered, (route) => route.abort());
    await page.goto(`http://localhost:${port}/#/calls`);
    await until("it is told", async () =>
      /Das Gateway antwortet nicht\./.test(await page.textContent("#calls-list")),
    );
    await page.unroute(unanswered);
    await stopped(own.child);
    const again = await gateway(port);
    // It has another token and another password, which nobody has to know.
    await page.waitForSelector("#calls-list .empty:has-text('9196')", { timeout: 20_000 });
    await page.goto(`http://localhost:${port}/#/phone`);
    await page.waitForSelector("#line[data-state=online]", { timeout: 20_000 });
    await dial(page, "999");
    await over(page);
    await page.goto(`http://localhost:${port}/#/calls`);
    await page.click("#calls-list .row-link");
    await page.waitForSelector("#call-view .hero.said");
    // As a page without HTTPS has it that is not of this machine.
    await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
    await page.click("#call-view .hero button");
    await until("that nothing is copied is told", async () =>
      /nicht kopieren/.test(await page.textContent("#told")),
    );
    const strange = page.problems.filter((p) => !/Failed to load|WebSocket|ERR_/.test(p));
    page.problems.splice(0, page.problems.length, ...strange);
    await stop({ child: again, page });
  });

  test("the console is driven by keys, keeps its filters in the address, and speaks German", async () => {
    const own = await demo(chrome(), 8102, {
      viewport: { width: 1280, height: 900 },
      locale: "de-DE",
    });
    const { page } = own;
    await dial(page, "999");
    await over(page);
    await page.click('#numbers button:has-text("9197")');
    await connected(page);
    await page.click("#hangup");
    await over(page);
    await page.goto("http://localhost:8102/#/calls?outcome=refused");
    await until(
      "one call is left",
      async () => (await page.locator("#calls-list tr.leads").count()) === 1,
    );
    equal(await page.locator("#view-calls h2").textContent(), "Anrufe", "the title");
    equal(
      await page.locator('[name="outcome"]').inputValue(),
      "refused",
      "the filter of the address",
    );
    await page.selectOption('[name="outcome"]', "");
    await until(
      "both are listed",
      async () => (await page.locator("#calls-list tr.leads").count()) === 2,
    );
    await page.selectOption('[name="mos_below"]', "3.6");
    await until(
      "none of them sounded badly",
      async () => (await page.locator("#calls-list tr.leads").count()) === 0,
    );
    await page.selectOption('[name="mos_below"]', "");
    await until(
      "both are listed again",
      async () => (await page.locator("#calls-list tr.leads").count()) === 2,
    );
    await page.locator("#view-calls h2").click();
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await until("the older call is open", async () =>
      /WT-1104/.test(await page.textContent("#console")),
    );
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.waitForSelector('dialog:has-text("Tastatur")');
    await accessible(page, "the list of keys");
    await page.keyboard.press("Escape");
    await page.keyboard.press("g");
    await page.keyboard.press("t");
    await page.waitForSelector("#view-trunks .row-link");
    await page.keyboard.press("/");
    await page.keyboard.type("nirgends");
    await page.waitForSelector('#view-trunks .empty:has-text("Kein Trunk passt.")');
    equal(new URL(page.url()).hash, "#/trunks?search=nirgends", "the address");
    await page.fill('#view-trunks input[type="search"]', "LOOP 127.0");
    await page.click("#view-trunks .row-link");
    await until("the trunk's own page", async () =>
      /Letzte Anrufe/.test(await page.textContent("#view-trunks")),
    );
    await page.click('#view-trunks button:has-text("Ausschalten")');
    await page.waitForSelector("dialog[open]");
    await accessible(page, "a question");
    await page.click('dialog button:has-text("Ausschalten")');
    await until("it is disabled", async () =>
      /ausgeschaltet/.test(await page.textContent("#view-trunks .subtitle")),
    );
    await page.click('#view-trunks button:has-text("Einschalten")');
    await until("it is enabled again", async () =>
      /noch nicht geprüft/.test(await page.textContent("#view-trunks .subtitle")),
    );
    await until("both are in its history", async () =>
      /eingeschaltet.*ausgeschaltet/s.test(await page.textContent("#trunk-history")),
    );
    await page.goto("http://localhost:8102/#/users");
    await page.waitForSelector("#view-users .row-link");
    await page.click("#view-users .row-link");
    await page.waitForSelector('#view-users :text("Geräte")');
    await until("toasts go away", async () => (await page.locator(".toast").count()) === 0, 15);
    await stop(own);
  });

  test("busy, declined and given up are not red and have no fix, in the list, the call and the report; a fault has", async () => {
    const own = await demo(chrome(), 8118, { viewport: { width: 1280, height: 900 } });
    const { page } = own;
    const options = { url: "http://localhost:8118/", user: null };
    const other = await phone(chrome(), options);
    const rung = async (ended) => {
      await page.click('#numbers button:has-text("9101")');
      await other.waitForSelector("#answer:visible");
      await ended();
      await Promise.all([over(page), over(other)]);
    };
    const newest = async (number) => {
      await page.goto("http://localhost:8118/#/calls");
      await until(`a call of ${number}`, async () =>
        (await page.locator("#calls-list tr.leads").first().textContent()).includes(number),
      );
    };
    /** The newest call: what is red of it, what is to be mended, and its report. */
    const looked = async (code) => {
      const row = page.locator("#calls-list tr.leads").first();
      await row.locator(`.chip:has-text("${code}")`).waitFor();
      const inList = await row.locator(".bad").count();
      await row.locator("td").nth(2).click();
      await page.waitForSelector(`#call-view .hero:has-text("${code}")`);
      const red = await page
        .locator("#call-view")
        .locator(".bad, .ladder .failure, .ladder .marked")
        .count();
      const mended = await page.locator("#call-view .hero dd").count();
      const report = await savedBy(page, '#call-view button:has-text("Report")');
      const advice = /Likely cause|What to do/.test(report);
      const word = await page.textContent("#call-view .subtitle .chip");
      await page.goto("http://localhost:8118/#/phone");
      return { found: `${inList} ${red} ${mended} ${advice}`, word, report };
    };
    await dial(page, "(206) 555-0199");
    await over(page);
    await newest("0199");
    equal((await looked("WT-1301")).found, "0 0 0 false", "busy");
    await page.goto("http://localhost:8118/#/trunks/loopback");
    await page.waitForSelector("#view-trunks .facts");
    equal(await page.textContent("#view-trunks .subtitle"), "up", "a trunk that was busy");
    await page.goto("http://localhost:8118/#/phone");
    await rung(() => other.click("#hangup"));
    await newest("9101");
    const declined = await looked("WT-1303");
    equal(`${declined.word} ${declined.found}`, "declined 0 0 0 false", "declined");
    await rung(() => page.click("#hangup"));
    await newest("9101");
    equal((await looked("WT-1300")).found, "0 0 0 false", "given up");
    await dial(page, "999");
    await over(page);
    await newest("999");
    const { found, report } = await looked("WT-1104");
    if (!/^[1-9]\d* [1-9]\d* 2 true$/.test(found)) throw new Error(`a fault: ${found}`);
    await opened(page, report, "the report of a call that failed");
    // The code leads to the calls that ended by it, and says that it was asked for.
    await page.goto("http://localhost:8118/#/calls");
    await page.click("#calls-list tr.leads td:nth-child(3)");
    await page.click('#call-view .hero a:has-text("Calls like this")');
    const asked = page.locator('#calls-filter button:has-text("Code: WT-1104")');
    await asked.waitFor();
    await until(
      "one call is left",
      async () => (await page.locator("#calls-list tr.leads").count()) === 1,
    );
    await asked.click();
    await until(
      "all are there again",
      async () => (await page.locator("#calls-list tr.leads").count()) === 4,
    );
    await other.context().close();
    await stop(own);
  });

  test("what is shown while the gateway is away says since when, and no longer once it is back", async () => {
    const port = 8129;
    const own = await demo(chrome(), port, { viewport: { width: 1280, height: 900 } });
    const { page } = own;
    await dial(page, "999");
    await over(page);
    await page.goto(`http://localhost:${port}/#/trunks`);
    await page.waitForSelector("#view-trunks .row-link");
    await stopped(own.child);
    await page.waitForSelector(
      '#away:has-text("The gateway does not answer. What is shown is as of")',
    );
    await accessible(page, "a gateway that is away");
    equal(await page.locator("#view-trunks .row-link").count(), 1, "trunks that are still shown");
    // The phone says so itself.
    await page.goto(`http://localhost:${port}/#/phone`);
    await page.waitForSelector("#line-note");
    equal(await page.locator("#away").count(), 0, "told twice");
    await page.goto(`http://localhost:${port}/#/trunks`);
    await page.waitForSelector("#away");
    const again = await gateway(port);
    await page.waitForSelector("#away", { state: "detached", timeout: 20_000 });
    const strange = page.problems.filter((p) => !/Failed to load|WebSocket|ERR_/.test(p));
    page.problems.splice(0, page.problems.length, ...strange);
    await stop({ child: again, page });
  });

  test("a call stays under the pointer while others come; they are counted, and shown when asked for", async () => {
    const own = await demo(chrome(), 8130, { viewport: { width: 1280, height: 900 } });
    const { page } = own;
    const other = await phone(chrome(), { url: "http://localhost:8130/", user: null });
    const ends = async (number) => {
      await dial(other, number);
      await over(other);
    };
    await ends("999");
    await page.goto("http://localhost:8130/#/calls");
    const rows = page.locator("#calls-list tr.leads");
    await rows.first().hover();
    const under = await rows.first().locator(".row-link").getAttribute("data-call");
    await ends("998");
    await page.waitForSelector('#calls-new:has-text("1 new call")');
    await ends("997");
    await page.waitForSelector('#calls-new:has-text("2 new calls")');
    await accessible(page, "calls that have come");
    await page.screenshot({ path: join(SHOTS, "console-new-calls.png") });
    equal(await rows.count(), 1, "calls while it is pointed at");
    equal(await rows.first().locator(".row-link").getAttribute("data-call"), under, "the first");
    await page.click("#calls-new");
    await until("all are there", async () => (await rows.count()) === 3);
    // What is sought is no call that comes: it is shown wherever the pointer is.
    await page.fill('#calls-filter [name="search"]', "998");
    await until("one is found", async () => (await rows.count()) === 1);
    await page.fill('#calls-filter [name="search"]', "");
    await until("all are there again", async () => (await rows.count()) === 3);
    equal(await page.locator("#calls-new").count(), 0, "calls that are kept back");
    await rows.first().hover();
    await ends("996");
    await page.waitForSelector("#calls-new");
    await page.mouse.move(700, 20);
    await until("they come on their own", async () => (await rows.count()) === 4);
    equal(await page.locator("#calls-new").count(), 0, "calls that are kept back");
    equal(other.problems.join(), "", "problems on the other page");
    await other.context().close();
    await stop(own);
  });

  test("keys: ? lists them all, on the phone too, and g leads away from it; Esc closes the list and hangs nobody up", async () => {
    const own = await demo(chrome(), 8119, { viewport: { width: 1280, height: 900 } });
    const { page } = own;
    const list = page.locator("dialog[open]");
    await page.focus("#number");
    await page.keyboard.press("?");
    await list.waitFor();
    const words = await list.textContent();
    for (const said of ["Everywhere", "In lists", "On the phone", "Mute, unmute"])
      if (!words.includes(said)) throw new Error(`the list has no ${said}`);
    await accessible(page, "the list of keys, on the phone");
    await page.keyboard.press("Escape");
    await list.waitFor({ state: "detached" });
    equal(await page.inputValue("#number"), "", "the number");
    await page.click('#numbers button:has-text("9197")');
    await connected(page);
    await page.keyboard.press("?");
    await list.waitFor();
    await page.keyboard.press("Escape");
    await list.waitFor({ state: "detached" });
    equal(await page.evaluate(() => webtrunkPhone.session !== null), true, "still in the call");
    equal(await page.textContent("#verdict"), "", "what the phone says of Esc");
    await page.keyboard.press("g");
    await page.keyboard.press("c");
    await page.waitForSelector("#view-calls:visible");
    await page.keyboard.press("g");
    await page.keyboard.press("p");
    await page.waitForSelector("#phone:visible");
    await page.click("#hangup");
    await over(page);
    await stop(own);
  });

  test("a microphone that is muted from the start is named, and one that speaks is not", async () => {
    const own = await demo(chrome(), 8101, { viewport: { width: 1280, height: 900 } });
    const { page } = own;
    const verdict = async (seconds) => {
      await page.click('#numbers button:has-text("+12065550123")');
      await connected(page);
      await new Promise((done) => setTimeout(done, seconds * 1000));
      await page.click("#hangup");
      await over(page);
      await page.waitForSelector("#beside .said");
      return page.textContent("#beside .said");
    };
    const loud = await verdict(5);
    if (!/talked for/.test(loud)) throw new Error(`a good call is blamed: ${loud}`);
    await page.evaluate(() => {
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await ask(wanted);
        stream.getTracks().forEach((track) => {
          track.enabled = false;
        });
        return stream;
      };
    });
    const muted = await verdict(5);
    if (!/WT-3013/.test(muted)) throw new Error(`a muted microphone is not named: ${muted}`);
    await stop(own);
  });

  test("the phone checks its line, shows both levels, and hands a call over", async () => {
    const own = await demo(chrome(), 8100, { viewport: { width: 1280, height: 900 } });
    const { page } = own;
    await page.click("#devices summary");
    await page.click("#check");
    await until(
      "the report is whole",
      async () => /round trip/.test(await page.textContent("#report")),
      30,
    );
    const report = await page.textContent("#report");
    if (/✗/.test(report)) throw new Error(`the line is fine, and it says ${report}`);
    await page.screenshot({ path: join(SHOTS, "console-check.png"), fullPage: true });
    await accessible(page, "the line check");
    await page.click('#numbers button:has-text("9196")');
    await connected(page);
    await until("both meters move", () =>
      page.evaluate(
        () =>
          document.getElementById("level").value > 0.02 &&
          document.getElementById("own-level").value > 0.02,
      ),
    );
    await page.selectOption("#microphone", { index: 1 });
    await until("the new microphone is heard", () =>
      page.evaluate(() => document.getElementById("level").value > 0.02),
    );
    await page.click("#hangup");
    await over(page);
    await page.click('#numbers button:has-text("+12065550123")');
    await connected(page);
    await page.click("#hand-over");
    await page.screenshot({ path: join(SHOTS, "console-transfer.png"), fullPage: true });
    await page.fill("#transfer-to", "999");
    await page.click('#transfer button[type="submit"]');
    await until("a transfer to nowhere is told, and the call goes on", async () =>
      /call continues/.test(await page.textContent("#verdict")),
    );
    await page.click("#hand-over");
    await page.fill("#transfer-to", "9197");
    await page.click('#transfer button[type="submit"]');
    await over(page);
    await stop(own);
  });

  test("a view shows though somebody goes there at once, and though things happen faster than it loads", async () => {
    const own = await demo(chrome(), 8116, {});
    const { page } = own;
    await page.addInitScript(() => {
      document.addEventListener("DOMContentLoaded", () => {
        const beside = document.getElementById("beside");
        // It is shown as the console is rendered for the first time.
        new MutationObserver(() => {
          if (!beside.hidden && location.hash !== "#/calls") location.hash = "#/calls";
        }).observe(beside, { attributes: true });
      });
    });
    await page.reload();
    await page.waitForSelector("#view-calls:visible");
    await page.route("**/api/v1/registrations*", async (route) => {
      await new Promise((later) => setTimeout(later, 600));
      await route.continue();
    });
    await page.evaluate(() => {
      setInterval(() => dispatchEvent(new HashChangeEvent("hashchange")), 100);
      location.hash = "#/users";
    });
    await until("the users are listed", async () =>
      /demo/.test(await page.textContent("#view-users")),
    );
    await stop(own);
  });

  test("every view of the console is clean by axe in both themes and fits a telephone", async () => {
    const own = await demo(chrome(), 8097, { viewport: { width: 1280, height: 860 } });
    const { page } = own;
    for (const view of VIEWS.slice(1)) {
      await page.goto(`http://localhost:8097/#/${view}`);
      await page.waitForSelector(`#view-${view}:visible`);
    }
    await page.screenshot({ path: join(SHOTS, "console-empty.png") });
    await page.goto("http://localhost:8097/#/phone");
    await page.click('#numbers button:has-text("9197")');
    await connected(page);
    await page.click("#hangup");
    await over(page);
    await dial(page, "999");
    await over(page);
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      for (const view of VIEWS) {
        await page.goto(`http://localhost:8097/#/${view}`);
        await until(
          `${view} has its content`,
          async () => (await page.locator(`#view-${view}:visible`).textContent()).length > 80,
        );
        const odd = /NaN|undefined|\[object|\bnull\b/.exec(await page.textContent("main"));
        if (odd) throw new Error(`${view} shows ${odd}`);
        if (view === "calls") {
          await page.screenshot({ path: join(SHOTS, `console-list-${theme}.png`), fullPage: true });
          await accessible(page, `list of calls, ${theme}`);
          await page.click("#calls-list .row-link");
          await page.waitForSelector("#call-view .said");
        }
        if (view === "trunks")
          await page
            .click('#view-trunks button:has-text("Probe")')
            .then(() =>
              until("the probe is answered", async () =>
                /answered in/.test(await page.textContent("#told")),
              ),
            );
        if (view === "settings")
          // The demo takes whatever port is free for SIP; 0 is none.
          await page.waitForSelector('#ports dt:has-text("udp any free port")');
        if (view === "dialplan") {
          await page.fill("#test-number", "(206) 555-0123");
          await page.click('#view-dialplan button[type="submit"]');
          await page.waitForSelector('#view-dialplan li.hit:has-text("✓")');
        }
        await page.screenshot({
          path: join(SHOTS, `console-${view}-${theme}.png`),
          fullPage: true,
        });
        await accessible(page, `${view}, ${theme}`);
      }
    }
    await page.setViewportSize({ width: 360, height: 740 });
    for (const view of VIEWS) {
      await page.goto(`http://localhost:8097/#/${view}`);
      await page.waitForSelector(`#view-${view}:visible`);
      equal(
        await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
        true,
        `${view} scrolls sideways on a telephone`,
      );
      await page.screenshot({ path: join(SHOTS, `console-${view}-small.png`) });
    }
    await page.goto("http://localhost:8097/#/calls");
    await page.click("#calls-list .row-link");
    const gateway = page.locator("#call-view .lane.gateway text");
    await gateway.waitFor();
    const [lane, ladder] = [
      await gateway.boundingBox(),
      await page.locator("#call-view .ladder").boundingBox(),
    ];
    if (lane.x + lane.width > ladder.x + ladder.width)
      throw new Error("the gateway's lane is out of sight on a telephone");
    await stop(own);
  });

  test("the call button telephones from a page of another origin with credentials that last a while, and says why it did not", async () => {
    const config = join(work, "button");
    mkdirSync(join(config, "dialplans"), { recursive: true });
    writeFileSync(
      join(config, "dialplans/visitors.toml"),
      '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n',
    );
    writeFileSync(
      join(config, "webtrunk.toml"),
      `[server]\ndomain = "localhost"\npublic_ip = "${PUBLIC}"\n[web]\nlisten = "127.0.0.1:8098"\norigins = ["http://localhost:8099"]\n
[media]\nbrowser_port = 0\nworkers = 1\n[sip]\nudp = "127.0.0.1:0"\n[credentials]\nsecret = "a-secret-of-the-web-application"\n[api]\ncontrol = "c.sock"\n`,
    );
    const node = start(binary, ["serve", "-c", join(config, "webtrunk.toml"), "--log", "text"]);
    await until("it serves", () => /serves the page/.test(node.output));
    let ttl = "10m";
    // The web application: its own page, and the one request its server makes of the gateway.
    const answer = (request, response) => {
      if (request.url !== "/voice/token") {
        response.setHeader("Content-Type", "text/html");
        // The two lines of the book.
        const lines = block("how-to/call-button.md", "button.html")
          .replace("https://calls.example.com", "http://localhost:8098")
          .replace("+12065550123", "9196");
        return response.end(`<!doctype html><html lang="en"><title>shop</title>${lines}`);
      }
      const made = execFileSync(
        binary,
        [
          "token",
          "visitor-1",
          "--context",
          "visitors",
          "--ttl",
          ttl,
          "--control",
          join(config, "c.sock"),
        ],
        { encoding: "utf8" },
      );
      response.setHeader("Content-Type", "application/json");
      response.end(made);
    };
    const shop = await serveHttp(answer, 8099);
    const page = await (await chrome().newContext()).newPage();
    await page.goto("http://localhost:8099/");
    await page.evaluate(() => {
      window.told = [];
      for (const type of ["calling", "ringing", "connected", "ended", "failed"])
        document.addEventListener(type, (e) => told.push({ type, ...e.detail }));
    });
    const told = () => page.evaluate(() => window.told);
    const press = () => page.locator("call-button").locator('[part~="button"]').click();
    await press();
    await until("connected", async () => (await told()).some((e) => e.type === "connected"));
    equal(
      await page.locator("call-button").locator('[part~="button"]').textContent(),
      "Hang up",
      "the button while it talks",
    );
    await until("it hears itself", () =>
      page.evaluate(async () => {
        const stream = document
          .querySelector("call-button")
          .shadowRoot.querySelector("audio").srcObject;
        if (!stream) return false;
        const context = new AudioContext(),
          analyser = context.createAnalyser(),
          samples = new Float32Array(2048);
        context.createMediaStreamSource(stream).connect(analyser);
        await new Promise((done) => setTimeout(done, 400));
        analyser.getFloatTimeDomainData(samples);
        await context.close();
        return samples.some((s) => Math.abs(s) > 0.05);
      }),
    );
    await page.screenshot({ path: join(SHOTS, "call-button.png") });
    await press();
    await until("ended", async () => (await told()).some((e) => e.type === "ended"));
    await page.evaluate(() => {
      window.told = [];
      document.querySelector("call-button").setAttribute("to", "9999");
    });
    await press();
    await until("it failed", async () => (await told()).some((e) => e.type === "failed"));
    const failed = (await told()).find((e) => e.type === "failed");
    equal(`${failed.code} ${failed.reason}`, "404 no route for 9999 in context visitors", "why");
    ttl = "1s";
    await page.evaluate(() => {
      window.told = [];
      document.querySelector("call-button").setAttribute("to", "9196");
    });
    await page.route("**/voice/token", async (route) => {
      const response = await route.fetch();
      await new Promise((done) => setTimeout(done, 2500));
      await route.fulfill({ response });
    });
    await press();
    await until("too late", async () => (await told()).some((e) => e.type === "failed"));
    if (!/expired/.test((await told()).find((e) => e.type === "failed").reason))
      throw new Error(`not told that they expired: ${JSON.stringify(await told())}`);
    await accessible(page, "the call button");
    await page.context().close();
    shop.close();
    node.kill("SIGTERM");
    await until("the node has stopped", () => node.code !== undefined);
    equal(/ERROR/.test(node.output), false, node.output);
  });
}
