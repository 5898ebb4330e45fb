// The page in German: every text a person meets, in every state of the phone, is the German one.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { accessible, demo, savedBy, stop, threeNodes } from "./console.mjs";
import { ROOT, SHOTS, connected, dial, equal, over, test, until, work } from "./rig.mjs";

const WEB = join(ROOT, "src/web");

/** The texts of `file` in `language`, by their names: `call.mute` and so on. */
async function textsIn(file, language) {
  const out = join(work, `${file.replace("/", "-")}-${language}.mjs`);
  const phone = join(WEB, "packages/phone/src");
  buildSync({
    entryPoints: [join(WEB, file)],
    outfile: out,
    bundle: true,
    format: "esm",
    banner: { js: `const navigator = { languages: ["${language}"] };` },
    alias: {
      "@webtrunk/phone/de": join(phone, "de.ts"),
      "@webtrunk/phone": join(phone, "texts.ts"),
    },
  });
  const { t } = await import(out);
  const found = new Map();
  const collect = (value, name) => {
    if (typeof value === "string") found.set(name, value);
    else if (typeof value === "object")
      for (const [key, inner] of Object.entries(value)) collect(inner, `${name}.${key}`);
  };
  collect(t, "");
  return found;
}

/** Texts that are English and are not written so in German. */
async function english() {
  const only = new Set();
  for (const file of ["phone/texts.ts", "console/texts.ts"]) {
    const [en, de] = [await textsIn(file, "en-US"), await textsIn(file, "de-AT")];
    equal([...en.keys()].filter((name) => !de.has(name)).join(), "", `not German in ${file}`);
    const german = new Set(de.values());
    for (const text of en.values()) if (/[a-z]{3}/i.test(text) && !german.has(text)) only.add(text);
  }
  if (only.size < 150) throw new Error(`only ${only.size} texts are compared`);
  return [...only];
}

/** Words of English that are no words of German, nor of SIP or the configuration. */
const ENGLISH =
  /\b(the|and|of|is|are|with|lost|received|sent|answered|talking|ended|caller|callee|estimated|trip|delivered|hung|packets|called|because|dial|then)\b/i;
/** Names of the demo's routes. */
const NAMES = /The (other pages|world)/g;

/**
 * Texts of the console that hold English words and are not marked as English: what the gateway says
 * is, and so is whatever is of SIP or of the configuration's file.
 */
async function unmarked(page) {
  const texts = await page.evaluate(() => {
    const marked = "script, style, svg, code, pre, [lang=en], .facts.lines dt";
    const said = [];
    const walk = document.createTreeWalker(
      document.getElementById("console"),
      NodeFilter.SHOW_TEXT,
    );
    while (walk.nextNode())
      if (!walk.currentNode.parentElement.closest(marked)) said.push(walk.currentNode.data.trim());
    return said;
  });
  return texts.filter((text) => ENGLISH.test(text.replace(NAMES, "")));
}

export function languages(chrome) {
  test("the console speaks German in every view: what is English is the gateway's, and marked so", async () => {
    const wrong = await english();
    const own = await demo(chrome(), 8121, {
      viewport: { width: 1280, height: 900 },
      locale: "de-DE",
    });
    const { page } = own;
    const german = async (view, shown) => {
      await page.waitForSelector(shown);
      equal((await unmarked(page)).join(" | "), "", `English in ${view}`);
      const names = await page
        .locator("#console [aria-label], #console [title], #console [placeholder]")
        .evaluateAll((all) => all.flatMap((e) => [e.ariaLabel, e.title, e.placeholder]));
      const foreign = names.filter((name) => wrong.includes(name) || / to webtrunk: /.test(name));
      equal(foreign.join(" | "), "", `English names in ${view}`);
    };
    const go = (hash) => page.goto(`http://localhost:8121/#/${hash}`);
    await page.click('#numbers button:has-text("+12065550123")');
    await connected(page);
    await go("calls");
    await page.waitForSelector('#calls-list .chip:has-text("im Gespräch")');
    await german("the list during a call", "#calls-list .row-link");
    await page.click("#calls-list tr.leads td:nth-child(3)");
    await german("a call that goes on", "#call-view .hero.live");
    await go("phone");
    await page.click("#hangup");
    await over(page);
    await dial(page, "999");
    await over(page);
    await go("calls");
    await until("both have ended", async () =>
      /999/.test(await page.textContent("#calls-list tr.leads:has(.sentence)")),
    );
    for (const [n, what] of ["a call that failed", "a call that was talked"].entries()) {
      await go("calls");
      await page.locator("#calls-list tr.leads td:nth-child(3)").nth(n).click();
      await page.waitForSelector("#call-view .hero.said .sentence[lang=en]");
      await german(what, "#call-view .facts");
    }
    const facts = await page.textContent("#call-view .facts");
    for (const said of ["Pakete empfangen", "geschätzter MOS"])
      if (!facts.includes(said)) throw new Error(`the facts have no ${said}: ${facts}`);
    const report = await savedBy(page, '#call-view button:has-text("Bericht")');
    if (!/<html lang="de">/.test(report) || !/Pakete empfangen/.test(report))
      throw new Error("the report is not German");
    for (const [hash, shown] of [
      ["trunks", "#view-trunks .row-link"],
      ["trunks/loopback", "#view-trunks .facts"],
      ["users", "#logins .chip"],
      ["users/demo", "#logins .chip"],
      ["dialplan", "#view-dialplan li"],
      ["webhooks", "#view-webhooks .empty"],
      ["settings", "#view-settings .facts.lines"],
      ["trunks/none", '#view-trunks [role="alert"]'],
    ]) {
      await go(hash);
      await german(hash, shown);
    }
    await go("dialplan");
    await page.fill("#test-number", "(206) 555-0123");
    await page.click('#view-dialplan button[type="submit"]');
    await german("a number that was tested", "#view-dialplan li.hit");
    page.problems.splice(0, page.problems.length, ...page.problems.filter((p) => !/404/.test(p)));
    await threeNodes(page);
    await go("nodes");
    await german("nodes", "#view-nodes .row-link");
    await go("nodes/b");
    await german("a node", "#view-nodes .facts");
    await stop(own);
  });

  test("the phone speaks German in every state, where the browser does", async () => {
    const wrong = await english();
    const own = await demo(chrome(), 8109, {
      viewport: { width: 1280, height: 900 },
      locale: "de-DE",
    });
    const { page } = own;
    const german = async (state) => {
      const left = await page.evaluate((texts) => {
        const foreign = new Set(texts);
        const said = [];
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
          const { parentElement: parent, data } = walk.currentNode;
          if (!parent.closest("script, style, [lang=en]")) said.push(data.trim());
        }
        for (const element of document.querySelectorAll("[aria-label], [placeholder], [title]"))
          said.push(element.ariaLabel, element.title, element.placeholder);
        return said.filter((text) => foreign.has(text));
      }, wrong);
      equal(left.join(" | "), "", `English in ${state}`);
    };
    const states = (words) =>
      until(`the state is ${words}`, async () =>
        words.test((await page.textContent("#state").catch(() => "")) ?? ""),
      );
    equal(await page.evaluate(() => document.documentElement.lang), "de", "the page's language");
    if (!/^Bereit als /.test(await page.textContent("#line"))) throw new Error("the line");
    if (!/Demo/.test(await page.textContent("#demo-note")))
      throw new Error("it does not say: demo");
    await german("the idle phone");
    await page.click('#numbers button:has-text("+12065550123")');
    await states(/^Verbunden$/);
    await page.keyboard.press("m");
    await until("it says that nobody hears", async () =>
      /Man hört Sie nicht/.test(await page.textContent("#muted-note")),
    );
    await page.click("#keys");
    await german("a call, muted, with its keypad");
    await page.click("#hold");
    await states(/^Gehalten$/);
    await page.click("#hand-over");
    await german("a call on hold, to be handed over");
    await page.fill("#transfer-to", "999");
    await page.click('#transfer button[type="submit"]');
    await until("a transfer to nowhere is told", async () =>
      /geht weiter/.test(await page.textContent("#verdict")),
    );
    await page.screenshot({ path: join(SHOTS, "phone-german.png") });
    await accessible(page, "a call in German");
    await page.click("#hangup");
    await over(page);
    await dial(page, "999");
    await over(page);
    await until("why a call failed", async () =>
      /keine Route/.test(await page.textContent("#verdict")),
    );
    await page.click("#devices summary");
    await page.click("#check");
    await until(
      "the report is whole",
      async () => /hin und zurück/.test(await page.textContent("#report")),
      30,
    );
    await page.click('.tabs button:has-text("Kontakte")');
    await german("devices, the line check and contacts");
    for (const view of ["calls", "trunks", "users", "dialplan", "webhooks", "settings"]) {
      await page.goto(`http://localhost:8109/#/${view}`);
      await until(
        `${view} has its content`,
        async () => (await page.locator(`#view-${view}:visible`).textContent()).length > 80,
      );
      await german(view);
    }
    await stop(own);
  });

  test("no text of the page is written where it is shown", () => {
    const written =
      /(?:(?<!=)>\s*|(?:aria-label|placeholder|title|label)=")([A-Z][a-z]{2,}[^<{"=]*)[<"]/g;
    for (const folder of ["phone", "console"])
      for (const file of readdirSync(join(WEB, folder)).filter((name) => name.endsWith(".tsx"))) {
        const found = [...readFileSync(join(WEB, folder, file), "utf8").matchAll(written)]
          .map(([, text]) => text.trim())
          // A key's name, and types.
          .filter((text) => !["Esc"].includes(text) && !/[;()]/.test(text));
        equal(found.join(" | "), "", `texts in ${folder}/${file}`);
      }
  });
}
