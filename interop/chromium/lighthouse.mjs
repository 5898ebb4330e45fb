// Lighthouse's figures of every view and of the call button, as a telephone and as a desk has them:
// none of the three may fall below 95. Performance is a time, and other work on the machine lowers
// it: it is held to that where WEBTRUNK_SLOW says that the machine is free, and to a little less
// everywhere else. Where it is free nothing may move visibly while a page is loaded, either.
import lighthouse, { desktopConfig } from "lighthouse";
import { VIEWS, demo, stop } from "./console.mjs";
import { block, browser, connected, over, test, serveHttp } from "./rig.mjs";

const LEAST = 95;
const TIMED = Boolean(process.env.WEBTRUNK_SLOW);
/** Performance beside other work. */
const BESIDE = 70;
/** What moved, as Lighthouse counts it; beyond this, people notice. */
const SHIFT = 0.1;
const CATEGORIES = ["performance", "accessibility", "best-practices"];
const PORT = 8112;
const SHOP = 8113;
const DEBUGGER = 9333;
/** Other work on this machine only ever lowers the figure of performance. */
const ATTEMPTS = 3;
const least = (at) => (at === 0 && !TIMED ? BESIDE : LEAST);
/** Whether a figure, by its place in CATEGORIES, is as asked. */
const holds = (score, at) => score >= least(at);

const settings = {
  onlyCategories: CATEGORIES,
  // The views hold a stream of events open: their network is never quiet, however long one waits.
  maxWaitForLoad: 5_000,
  disableFullPageScreenshot: true,
};
const FORMS = {
  desktop: { ...desktopConfig, settings: { ...desktopConfig.settings, ...settings } },
  mobile: { extends: "lighthouse:default", settings: { ...settings, formFactor: "mobile" } },
};

/** What was loaded before the largest part of a page was painted, and what moved, if any should not. */
function early({ audits }) {
  const { items } = audits["network-requests"].details;
  const [{ observedLargestContentfulPaint: painted }] = audits.metrics.details.items;
  const before = items.filter((item) => item.networkEndTime <= painted);
  const bytes = before.reduce((sum, item) => sum + item.transferSize, 0);
  const moved = audits["cumulative-layout-shift"].numericValue;
  const visible = TIMED && moved > SHIFT;
  return { bytes, wrong: visible ? [`things move: ${moved.toFixed(3)}`] : [] };
}

/** The three figures of a page, and what costs points in those that are too low. */
async function figures(url, form) {
  const { lhr } = await lighthouse(url, { port: DEBUGGER, logLevel: "silent" }, FORMS[form]);
  if (lhr.runtimeError) throw new Error(`${url}: ${lhr.runtimeError.message}`);
  const scores = CATEGORIES.map((name) => Math.round(100 * (lhr.categories[name].score ?? 0)));
  const low = CATEGORIES.filter((_, at) => !holds(scores[at], at))
    .flatMap((name) => lhr.categories[name].auditRefs)
    .filter(({ id, weight }) => weight > 0 && (lhr.audits[id].score ?? 1) < 0.9)
    .map(({ id }) => {
      const { title, displayValue, details } = lhr.audits[id];
      const items = (details?.items ?? []).slice(0, 3);
      const named = items.map(
        ({ node, description, source }) => node?.snippet ?? description ?? source ?? "",
      );
      return `${title} ${displayValue ?? ""} ${named.join(" ")}`.trim();
    });
  const { bytes, wrong } = early(lhr);
  return { scores, bytes, low: [...wrong, ...low], sound: !wrong.length && scores.every(holds) };
}

/** The best of a few attempts, which end as soon as all is well. */
async function best(url, form) {
  let found = { scores: [0, 0, 0], bytes: 0, low: ["it was not measured"], sound: false };
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const now = await figures(url, form).catch((error) => ({ ...found, low: [error.message] }));
    if (now.sound || now.scores[0] >= found.scores[0]) found = now;
    if (found.sound) break;
  }
  return found;
}

/** The page of a shop with the two lines of the book, led to the demo. */
async function shop() {
  const lines = block("how-to/call-button.md", "button.html")
    .replace("https://calls.example.com", `http://localhost:${PORT}`)
    .replace("+12065550123", "9196");
  const page = `<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Shop</title>
<link rel="icon" href="data:,"></head><body><main><h1>Shop</h1>${lines}</main></body></html>`;
  const answer = (_, response) => {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(page);
  };
  return serveHttp(answer, SHOP);
}

export function lighthouseCases() {
  const performance = TIMED ? LEAST : `${BESIDE} beside other work`;
  test(`Lighthouse: every view and the call button, desktop and mobile, at least 95; performance ${performance}`, async () => {
    const own = await browser({ args: [`--remote-debugging-port=${DEBUGGER}`] });
    const served = await demo(own, PORT, { viewport: { width: 1280, height: 900 } });
    const { page } = served;
    // Views with something in them.
    await page.click('#numbers button:has-text("9197")');
    await connected(page);
    await page.click("#hangup");
    await over(page);
    await page.goto(`http://localhost:${PORT}/#/calls`);
    await page.click("#calls-list .row-link");
    await page.waitForSelector("#call-view .said");
    const call = page.url();
    await stop({ ...served, child: { kill() {}, code: 0 } });
    const button = await shop();
    const pages = [
      ...VIEWS.map((view) => [view, `http://localhost:${PORT}/#/${view}`]),
      ["a call", call],
      ["call button", `http://localhost:${SHOP}/`],
      ["button.html", `http://localhost:${PORT}/button.html`],
      ["book", `http://localhost:${PORT}/docs/`],
    ];
    const wrong = [];
    const names = [...CATEGORIES, "kB first"];
    console.log(`        ${"".padEnd(12)} ${"".padEnd(8)} ${names.join("  ")}`);
    for (const [name, url] of pages)
      for (const form of Object.keys(FORMS)) {
        const { scores, bytes, low, sound } = await best(url, form);
        const row = [...scores, Math.round(bytes / 1000)].map((figure, at) =>
          String(figure).padStart(names[at].length),
        );
        console.log(`        ${name.padEnd(12)} ${form.padEnd(8)} ${row.join("  ")}`);
        if (!sound) wrong.push(`${name}, ${form}: ${scores.join(" ")}\n  ${low.join("\n  ")}`);
      }
    button.close();
    await own.close();
    served.child.kill("SIGINT");
    if (wrong.length) throw new Error(wrong.join("\n"));
  });
}
