// How every view looks, kept as a fingerprint and compared with the last one: a small grey picture
// of a screenshot, a cell for each 24 pixels. What moved, grew, vanished or changed its contrast is
// found; a digit that is another is not. WEBTRUNK_BLESS=1 keeps what is there as what should be.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { accessible, demo, stop, threeNodes } from "./console.mjs";
import { HERE, SHOTS, connected, dial, equal, over, test } from "./rig.mjs";

const FILE = join(HERE, "looks.json");
const BLESS = Boolean(process.env.WEBTRUNK_BLESS);
/** Pixels of a cell's side. */
const CELL = 24;
/** Shades of grey. */
const SHADES = 16;
/** A cell is another from this many shades on. */
const APART = 2;
/** So many cells may be others, of a hundred, and at least so many. */
const SHARE = 1.5;
const FEW = 6;

export const WIDTHS = [
  [360, 740],
  [768, 1024],
  [1440, 900],
];
export const THEMES = ["light", "dark"];

const kept = JSON.parse(readFileSync(FILE, "utf8"));

/** The grey cells of a PNG, as the browser decodes it. */
async function cellsOf(page, png) {
  const own = await page.context().browser().newContext();
  try {
    const [columns, cells] = await (await own.newPage()).evaluate(
      async ([data, cell, shades]) => {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
        const { width, height } = picture;
        const canvas = new OffscreenCanvas(width, height).getContext("2d");
        canvas.drawImage(picture, 0, 0);
        const pixels = canvas.getImageData(0, 0, width, height).data;
        const columns = Math.ceil(width / cell);
        const sums = new Float64Array(columns * Math.ceil(height / cell));
        const counts = new Uint32Array(sums.length);
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++) {
            const at = 4 * (y * width + x);
            const n = Math.floor(y / cell) * columns + Math.floor(x / cell);
            sums[n] += 0.3 * pixels[at] + 0.59 * pixels[at + 1] + 0.11 * pixels[at + 2];
            counts[n]++;
          }
        return [columns, [...sums].map((s, n) => Math.floor((s / counts[n] / 256) * shades))];
      },
      [png.toString("base64"), CELL, SHADES],
    );
    return { columns, cells };
  } finally {
    await own.close();
  }
}

const packed = ({ columns, cells }) =>
  `${columns} ${deflateRawSync(Buffer.from(cells)).toString("base64")}`;
function unpacked(text) {
  const [columns, data] = text.split(" ");
  return { columns: Number(columns), cells: [...inflateRawSync(Buffer.from(data, "base64"))] };
}

/** What is another between two fingerprints, in words, or nothing. */
function difference(before, now) {
  if (before.columns !== now.columns || before.cells.length !== now.cells.length)
    return `it is ${now.columns} cells wide and has ${now.cells.length}, not ${before.columns} and ${before.cells.length}`;
  const others = now.cells
    .map((shade, n) => (Math.abs(shade - before.cells[n]) >= APART ? n : -1))
    .filter((n) => n >= 0);
  if (others.length <= Math.max(FEW, (SHARE / 100) * now.cells.length)) return null;
  const x = others.map((n) => n % now.columns);
  const y = others.map((n) => Math.floor(n / now.columns));
  const [left, top] = [Math.min(...x) * CELL, Math.min(...y) * CELL];
  const [right, bottom] = [(Math.max(...x) + 1) * CELL, (Math.max(...y) + 1) * CELL];
  return `${others.length} of ${now.cells.length} cells are others, within ${left},${top} to ${right},${bottom}`;
}

const wrong = [];
/** Takes a screenshot and compares it; what is another is told by [`sameLooks`]. */
export async function look(page, name) {
  const path = join(SHOTS, `${name}.png`);
  // Meters move as they like.
  const mask = [page.locator("meter")];
  const png = await page.screenshot({ path, animations: "disabled", mask, maskColor: "#808080" });
  const now = await cellsOf(page, png);
  const told = kept[name] ? difference(unpacked(kept[name]), now) : "it is new";
  if (!told) return;
  if (BLESS) kept[name] = packed(now);
  else wrong.push(`${name}: ${told}`);
}

/** Fails if something looked otherwise since the last time or did not fit, or keeps how it looks. */
export function sameLooks() {
  const told = wrong.splice(0);
  if (BLESS) {
    const sorted = Object.fromEntries(Object.entries(kept).sort(([a], [b]) => (a < b ? -1 : 1)));
    writeFileSync(FILE, `${JSON.stringify(sorted, null, 1)}\n`);
  }
  if (told.length)
    throw new Error(
      `${told.join("\n")}\nlook at target/screenshots, and bless with WEBTRUNK_BLESS=1`,
    );
}

/**
 * Nothing stands out of what it is in: no sideways scrolling, and no word beyond its button; told by
 * [`sameLooks`].
 */
export async function fits(page, what) {
  const wide = await page.evaluate(() => {
    const found = [];
    if (document.documentElement.scrollWidth > innerWidth) found.push("the page");
    // All views in one row, and none of them to be looked for beyond its end.
    const tabs = document.getElementById("tabs");
    if (tabs && tabs.scrollWidth > tabs.clientWidth) found.push("the navigation");
    for (const e of document.querySelectorAll("button, .button, .chip, th, h1, h2, h3, dt, label"))
      if (e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1)
        found.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)}`);
    return found;
  });
  if (wide.length) wrong.push(`${what}: wider than its place: ${wide.join(" | ")}`);
}

const VIEWS = {
  phone: ["#/phone", "#view-phone"],
  calls: ["#/calls", "#calls-list .row-link"],
  call: [null, "#call-view .said"],
  trunks: ["#/trunks", "#view-trunks .row-link"],
  trunk: ["#/trunks/loopback", "#view-trunks .subtitle"],
  users: ["#/users", "#logins .chip"],
  user: ["#/users/demo", "#logins .chip"],
  dialplan: ["#/dialplan", "#view-dialplan li"],
  webhooks: ["#/webhooks", "#view-webhooks .empty"],
  settings: ["#/settings", "#view-settings .facts.lines"],
};

/** A demo with a call that went well and one that did not, each view of it, and the second call. */
export async function everyView(chrome, port, locale, body) {
  const own = await demo(await chrome(), port, { viewport: { width: 1440, height: 900 }, locale });
  const { page } = own;
  await page.click('#numbers button:has-text("9197")');
  await connected(page);
  await page.click("#hangup");
  await over(page);
  await dial(page, "999");
  await over(page);
  await page.goto(`http://localhost:${port}/#/calls`);
  await page.click("#calls-list .row-link");
  await page.waitForSelector("#call-view .said");
  const call = new URL(page.url()).hash;
  await page.mouse.move(0, 0);
  for (const [width, height] of WIDTHS)
    for (const theme of THEMES) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: theme });
      for (const [view, [hash, shown]] of Object.entries(VIEWS)) {
        await page.goto(`http://localhost:${port}/${hash ?? call}`);
        await page.waitForSelector(shown);
        await page.evaluate(() => {
          document.activeElement?.blur();
          scrollTo(0, 0);
        });
        await body(page, view, width, theme);
      }
    }
  await stop(own);
}

/** What else the console shows: empty lists, questions, keys, nodes, and the login. */
export async function everyState(chrome, port, shown) {
  const own = await demo(await chrome(), port, { viewport: { width: 1440, height: 900 } });
  const { page } = own;
  const states = {
    empty: ["#/calls", "#calls-list .empty"],
    "nothing-fits": ["#/calls?search=nobody", "#calls-list .empty"],
    wrong: ["#/trunks/none", '#view-trunks [role="alert"]'],
    trunks: ["#/trunks", "#view-trunks .row-link"],
  };
  const nodes = {
    "calls-of-nodes": ["#/calls", "#calls-list .row-link"],
    nodes: ["#/nodes", "#view-nodes .row-link"],
    node: ["#/nodes/b", "#view-nodes .facts"],
  };
  const dialogs = {
    question: () => page.locator("#view-trunks").getByRole("button", { name: "Disable" }).click(),
    keys: () => page.keyboard.press("?"),
  };
  const everyLook = async (body) => {
    for (const [width, height] of WIDTHS)
      for (const theme of THEMES) {
        await page.setViewportSize({ width, height });
        await page.emulateMedia({ colorScheme: theme });
        await body(width, theme);
      }
  };
  const each = async (all, width, theme) => {
    for (const [state, [hash, selector]] of Object.entries(all)) {
      await page.goto(`http://localhost:${port}/${hash}`);
      await page.waitForSelector(selector);
      // Who comes back from one of them finds its line in focus; here the list is looked at.
      await page.evaluate(() => document.querySelector(".row-link:focus")?.blur());
      // Trunks have a look of their own; here a question is asked of them.
      if (state !== "trunks") await shown(page, state, width, theme);
    }
  };
  await everyLook(async (width, theme) => {
    await each(states, width, theme);
    for (const [state, open] of Object.entries(dialogs)) {
      await open();
      await page.waitForSelector("dialog[open]");
      await shown(page, state, width, theme);
      await page.keyboard.press("Escape");
      await page.waitForSelector("dialog[open]", { state: "detached" });
    }
  });
  await threeNodes(page);
  await everyLook((width, theme) => each(nodes, width, theme));
  // As a gateway has it that is no demo.
  await page.route("**/settings.json", async (route) => {
    const settings = await (await route.fetch()).json();
    await route.fulfill({ json: { ...settings, token: null, oidc: "Example ID" } });
  });
  await page.goto(`http://localhost:${port}/#/calls`);
  await page.reload();
  await page.waitForSelector("#entry:visible");
  await page.click("#entry-token summary");
  await everyLook((width, theme) => shown(page, "login", width, theme));
  page.problems.splice(0, page.problems.length, ...page.problems.filter((p) => !/40[14]/.test(p)));
  await stop(own);
}

export function looks(chrome) {
  test("how it looks: every view of the console at 360, 768 and 1440 px in both themes is as it was", async () => {
    await everyView(chrome, 8116, "en-US", async (page, view, width, theme) => {
      await look(page, `look-${view}-${width}-${theme}`);
      await fits(page, `${view}, ${width}, ${theme}`);
      await accessible(page, `${view}, ${width}, ${theme}`);
    });
    sameLooks();
  });

  test("how it looks: the login, questions, keys, empty lists and nodes are as they were", async () => {
    await everyState(chrome, 8122, async (page, state, width, theme) => {
      await look(page, `look-${state}-${width}-${theme}`);
      await fits(page, `${state}, ${width}, ${theme}`);
      await accessible(page, `${state}, ${width}, ${theme}`);
    });
    sameLooks();
  });

  test("how it looks: German fits every view at 360, 768 and 1440 px", async () => {
    await everyView(chrome, 8117, "de-DE", async (page, view, width, theme) => {
      if (theme === "dark") return;
      await page.screenshot({ path: join(SHOTS, `german-${view}-${width}.png`), fullPage: true });
      await fits(page, `${view} in German, ${width}`);
    });
    sameLooks();
  });

  test("how it looks: what moved, grew or changed its contrast is found, and a digit is not", async () => {
    const page = await (
      await chrome().newContext({ viewport: { width: 360, height: 740 } })
    ).newPage();
    const shot = async (style, words) => {
      await page.setContent(
        `<style>body { font: 16px sans-serif } p { ${style} }</style><h1>Calls</h1>${`<p>${words}</p>`.repeat(12)}`,
      );
      return cellsOf(page, await page.screenshot());
    };
    const before = unpacked(packed(await shot("", "05:55:59 PM demo")));
    equal(difference(before, await shot("", "06:02:13 PM demo")), null, "another time");
    for (const style of ["margin: 2em 0", "color: #bbb", "visibility: hidden", "font-size: 20px"])
      if (!difference(before, await shot(style, "05:55:59 PM demo")))
        throw new Error(`not noticed: ${style}`);
    await page.context().close();
  });
}
