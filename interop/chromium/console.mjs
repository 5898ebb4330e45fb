// The gateway's side of the page, in the demo: what goes on is seen as it happens, and explained when it is over.
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { SHOTS, HERE, binary, connected, dial, equal, over, phone, start, test, until, work } from "./rig.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js", { paths: [HERE] }), "utf8");
const VIEWS = ["phone", "calls", "trunks", "users", "dialplan", "settings"];

/** WCAG 2.2 A and AA, by axe; the page's policy lets no script in, so it comes by the debugger. */
async function accessible(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
  equal(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join("; ")}`).join("\n"), "", `axe on ${what}`);
}

async function demo(chrome, port, options) {
  const child = start(binary, ["demo", "--port", String(port), "--control", join(work, `demo-${port}.sock`)]);
  await until("the demo serves", () => new RegExp(`localhost:${port}`).test(child.output));
  const page = await phone(chrome, { url: `http://localhost:${port}/`, user: null, ...options });
  return { child, page };
}

async function stop({ child, page }) {
  equal(page.problems.join(), "", "problems on the page");
  await page.context().close();
  child.kill("SIGINT");
  await until("the demo has stopped", () => child.code !== undefined);
}

export function consoleCases(chrome) {
  test("the console shows a call as it happens, its ladder, its verdict, and ends it", async () => {
    const own = await demo(chrome(), 8096, { viewport: { width: 1360, height: 900 } });
    const { page } = own;
    await page.waitForSelector("#beside:visible");
    await page.click('#numbers button:has-text("+12065550123")');
    await connected(page);
    await until("the ladder beside the phone moves", async () => /DTLS done/.test(await page.textContent("#beside")));
    await page.screenshot({ path: join(SHOTS, "console-beside.png") });
    await page.click('#tabs a:has-text("Calls")');
    await until("the call is listed as it goes on", async () => /talking/.test(await page.textContent("#calls-list")));
    await page.click("#calls-list button.link");
    await page.waitForSelector("#call-view svg [data-row]");
    await page.focus("#call-view svg [data-row]");
    await page.keyboard.press("Enter");
    if (!/INVITE sip:/.test(await page.textContent("#call-view pre"))) throw new Error("a message is not shown");
    if (/response=[0-9a-f"]/.test(await page.textContent("#call-view pre"))) throw new Error("a credential is shown");
    await page.screenshot({ path: join(SHOTS, "console-message.png") });
    await page.locator("#call-view svg [data-row]").nth(2).press("Enter");
    if (!(await page.locator("#call-view pre del").count())) throw new Error("two messages are not compared");
    await page.click('#call-view button:has-text("Hang up")');
    await until("the call is over", async () => /fine|WT-/.test(await page.textContent("#calls-list")));
    await page.click("#calls-list button.link");
    await until("the verdict", async () => (await page.locator("#call-view .said").count()) > 0);
    const [download] = await Promise.all([page.waitForEvent("download"), page.click('#call-view button:has-text("Capture")')]);
    if (!readFileSync(await download.path()).includes("INVITE sip:")) throw new Error("the capture holds no INVITE");
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
        await until(`${view} has its content`, async () => (await page.locator(`#view-${view}:visible`).textContent()).length > 80);
        if (view === "calls") {
          await page.click("#calls-list button.link");
          await page.waitForSelector("#call-view .said");
        }
        if (view === "trunks") await page.click('#view-trunks button:has-text("Probe")').then(() => until("the probe is answered", async () => /answered in/.test(await page.textContent("#told"))));
        if (view === "dialplan") {
          await page.fill("#test-number", "(206) 555-0123");
          await page.click('#view-dialplan button[type="submit"]');
          await page.waitForSelector('#view-dialplan li:has-text("✓")');
        }
        await page.screenshot({ path: join(SHOTS, `console-${view}-${theme}.png`), fullPage: true });
        await accessible(page, `${view}, ${theme}`);
      }
    }
    await page.setViewportSize({ width: 360, height: 740 });
    for (const view of VIEWS) {
      await page.goto(`http://localhost:8097/#/${view}`);
      await page.waitForSelector(`#view-${view}:visible`);
      equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${view} scrolls sideways on a telephone`);
      await page.screenshot({ path: join(SHOTS, `console-${view}-small.png`) });
    }
    await stop(own);
  });
}
