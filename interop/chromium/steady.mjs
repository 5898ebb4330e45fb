// What arrives late moves nothing that is there: every view is opened over a slow line, at every
// width, and the browser's own account of what moved is read. Nobody touches the page meanwhile.
import { join } from "node:path";
import { demo, stop as stopDemo, threeNodes } from "./console.mjs";
import { WIDTHS } from "./looks.mjs";
import { gateway } from "./phone.mjs";
import { connected, dial, over, phone, stop, test, until, work } from "./rig.mjs";
import { readingToken } from "./tickets.mjs";

/** What may move, as the browser counts it: beyond this, people notice. */
const SHIFT = 0.1;
/** On the phone a finger is on its way to a key. */
const PHONE = 0.05;
const ALONE = 8127;
const SERVED = 8128;

/** How long each kind of answer takes, milliseconds; what is asked together comes one by one. */
const SLOW = [
  [/settings\.json$/, 150],
  [/\/(jssip|charts)\.js$/, 400],
  [/\/api\/v1\/(session|status|nodes)$/, 100],
  [/\/api\/v1\/calls\?/, 300],
  [/\/api\/v1\/.*(ladder|dialplans|sources)$/, 500],
  [/\/api\/v1\/(logins|config|quality)/, 700],
];

/** How many times slower a device is whose line is quick. */
const THROTTLED = 12;

/** Has a page write down what moves of it. */
async function watched(page) {
  await page.addInitScript(() => {
    window.moved = [];
    const note = (entries) => {
      for (const { value, hadRecentInput, sources } of entries)
        if (!hadRecentInput)
          moved.push({
            value,
            what: sources.map(({ node, previousRect: from, currentRect: to }) => {
              const element = node?.nodeType === Node.TEXT_NODE ? node.parentElement : node;
              const name = element?.id || element?.className || element?.localName || "?";
              return `${name} from ${from.x},${from.y} to ${to.x},${to.y}`;
            }),
          });
    };
    const observer = new PerformanceObserver((list) => note(list.getEntries()));
    observer.observe({ type: "layout-shift", buffered: true });
    window.allMoved = () => {
      note(observer.takeRecords());
      return moved;
    };
  });
}

/** Has whatever a page asks for take its time. */
async function slowed(page) {
  await page.route("**/*", async (route) => {
    const { pathname, search } = new URL(route.request().url());
    const [, late] = SLOW.find(([which]) => which.test(pathname + search)) ?? [];
    // A stream of events has no end to be waited for.
    if (!late || pathname.endsWith("/events")) return route.fallback();
    await new Promise((done) => setTimeout(done, late));
    await route.fallback();
  });
}

/** Opens each view anew; returns those of which too much has moved. */
async function restless(page, origin, views, width) {
  const wrong = [];
  // What Playwright asks of a page counts as a touch of it; this does not.
  const devtools = await page.context().newCDPSession(page);
  const ask = async (expression) => {
    const asked = { expression, awaitPromise: true, returnByValue: true };
    return (await devtools.send("Runtime.evaluate", asked)).result.value;
  };
  const seen = (selector) =>
    `document.querySelector(${JSON.stringify(selector)})?.checkVisibility()`;
  for (const [view, [hash, shown]] of Object.entries(views)) {
    await page.goto("about:blank");
    await page.goto(`${origin}/${hash}`);
    for (const selector of shown)
      await until(`${view} shows ${selector}`, () => ask(seen(selector)));
    // Until it is painted, and charts are.
    await ask("new Promise((done) => setTimeout(() => requestAnimationFrame(done), 300))");
    const moved = await ask("allMoved()");
    const sum = moved.reduce((all, { value }) => all + value, 0);
    const what = moved.flatMap((one) => one.what).join("; ");
    if (sum > (view.startsWith("phone") ? PHONE : SHIFT))
      wrong.push(`${view}, ${width}: ${sum.toFixed(3)}: ${what}`);
  }
  await devtools.detach();
  return wrong;
}

const CONSOLE = {
  calls: ["#/calls", ["#calls-list .row-link"]],
  trunks: ["#/trunks", ["#view-trunks .row-link"]],
  trunk: ["#/trunks/loopback", ["#view-trunks .facts", "#view-trunks .row-link"]],
  users: ["#/users", ["#view-users .row-link", "#logins .chip"]],
  user: ["#/users/demo", ["#logins .chip", "#view-users .row-link"]],
  dialplan: ["#/dialplan", ["#view-dialplan li"]],
  webhooks: ["#/webhooks", ["#view-webhooks .empty"]],
  settings: ["#/settings", ["#view-settings .facts.lines"]],
};

/** A page nobody has touched, of a width, that is watched. */
async function fresh(chrome, [width, height]) {
  const viewport = { width, height };
  const own = await chrome().newContext({ viewport, serviceWorkers: "block" });
  const page = await own.newPage();
  await watched(page);
  await slowed(page);
  return page;
}

/** The phone, on a device that is slow where the line is not: what is there may come too early. */
async function hurried(chrome, origin, [width, height]) {
  const viewport = { width, height };
  const own = await chrome().newContext({ viewport, serviceWorkers: "block" });
  const page = await own.newPage();
  await watched(page);
  const devtools = await own.newCDPSession(page);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: THROTTLED });
  const phone = ["#/phone", ["#line[data-state=online]", "#beside .said"]];
  const wrong = [];
  for (let time = 1; time <= 3; time++)
    wrong.push(...(await restless(page, origin, { [`phone, hurried, ${time}`]: phone }, width)));
  await own.close();
  return wrong;
}

/** What a demo shows, and what it shows besides of a cluster. */
async function demoViews(chrome) {
  const own = await demo(chrome(), ALONE, { serviceWorkers: "block" });
  const { page } = own;
  const origin = `http://localhost:${ALONE}`;
  await page.click('#numbers button:has-text("+12065550123")');
  await connected(page);
  await page.click("#hangup");
  await over(page);
  await dial(page, "999");
  await over(page);
  await page.goto(`${origin}/#/calls`);
  await page.waitForSelector("#calls-list .row-link");
  const [failed, talked] = await page
    .locator("#calls-list .row-link")
    .evaluateAll((rows) => rows.map((row) => row.hash));
  const call = ["#call-view .said", "#call-view .facts", "#call-view svg [data-row]"];
  const views = {
    phone: ["#/phone", ["#line[data-state=online]", "#beside .said"]],
    ...CONSOLE,
    "a call that failed": [failed, call],
    "a call that was talked": [talked, call],
  };
  const nodes = {
    nodes: ["#/nodes", ["#view-nodes .row-link"]],
    node: ["#/nodes/b", ["#view-nodes .facts"]],
    "calls of all nodes": ["#/calls", ["#calls-list .row-link"]],
  };
  const wrong = [];
  for (const size of WIDTHS) {
    const watching = await fresh(chrome, size);
    wrong.push(...(await restless(watching, origin, views, size[0])));
    await threeNodes(watching);
    wrong.push(...(await restless(watching, origin, nodes, size[0])));
    await watching.context().close();
    wrong.push(...(await hurried(chrome, origin, size)));
  }
  await stopDemo(own);
  return wrong;
}

/** What a gateway with a file shows: its logins, its file, and a phone that stays logged in. */
async function servedViews(chrome) {
  const { lines, secret } = readingToken("admin");
  const node = gateway(SERVED, join(work, "steady"), `${lines}\n`);
  await until("it serves", () => /serves the page/.test(node.output));
  const origin = `http://localhost:${SERVED}`;
  const wrong = [];
  for (const size of WIDTHS) {
    const [width, height] = size;
    const stranger = await fresh(chrome, size);
    const out = {
      "phone, logged out": ["#/phone", ["#login"]],
      login: ["#/calls", ["#entry-form"]],
    };
    wrong.push(...(await restless(stranger, origin, out, width)));
    await stranger.context().close();
    const viewport = { width, height };
    const options = { user: "carol", url: `${origin}/`, viewport, serviceWorkers: "block" };
    const page = await phone(chrome(), options);
    await dial(page, "9196");
    await connected(page);
    await page.click("#hangup");
    await over(page);
    await watched(page);
    await slowed(page);
    const known = { phone: ["#/phone", ["#line[data-state=online]", "#recents li"]] };
    wrong.push(...(await restless(page, origin, known, width)));
    await page.evaluate((token) => sessionStorage.setItem("webtrunk-token", token), secret);
    const views = {
      "phone beside the console": ["#/phone", ["#line[data-state=online]", "#beside .said"]],
      calls: CONSOLE.calls,
      users: CONSOLE.users,
      "the dialplan's files": ["#/dialplan", ["#view-dialplan pre"]],
      "the file's settings": ["#/settings", ["#ports .facts"]],
    };
    wrong.push(...(await restless(page, origin, views, width)));
    await page.context().close();
  }
  await stop(node, "SIGTERM");
  return wrong;
}

export function steady(chrome) {
  test("steady: what arrives late moves nothing that is there, in any view at 360, 768 and 1440 px", async () => {
    const wrong = [...(await demoViews(chrome)), ...(await servedViews(chrome))];
    if (wrong.length) throw new Error(wrong.join("\n"));
  });
}
