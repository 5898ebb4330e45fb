// The packages as a web developer has them: installed from the packed files, bundled, and served by
// a shop of another origin; and the files of the book that use them, or JsSIP and SIP.js, as printed.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { accessible } from "./console.mjs";
import { asterisk, block, equal, HERE, recordOf, ROOT, SHOTS, test, until } from "./rig.mjs";

const APP = join(ROOT, "target/packages/app");
const PORT = 8097;

/** The book's text, led to this gateway. */
const printed = (page, name) =>
  block(page, name)
    .replaceAll("wss://calls.example.com", "ws://localhost:8090")
    .replaceAll("@calls.example.com", "@wt.test");

/** Bundles a module of the application. */
function bundled(file, text, options = {}) {
  const path = join(APP, file);
  if (text) writeFileSync(path, text);
  const nodePaths = [join(APP, "node_modules"), join(HERE, "node_modules")];
  const made = buildSync({
    entryPoints: [path],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    nodePaths,
    ...options,
  });
  return made.outputFiles[0].text;
}

/** As [`bundled`], of a module that imports these others. */
export function bundledFiles(file, text, others) {
  for (const [name, source] of Object.entries(others)) writeFileSync(join(APP, name), source);
  return bundled(file, text);
}

/** The application's sources pass the compiler at its strictest, as bundlers find modules and as
 * Node does. */
function typed(file) {
  const strict = ["--strict", "--noEmit", "--skipLibCheck", "--types", "", "--target", "es2022"];
  for (const found of [
    ["--module", "es2022", "--moduleResolution", "bundler"],
    ["--module", "nodenext", "--moduleResolution", "nodenext"],
  ])
    execFileSync("npx", ["--no-install", "tsc", ...strict, ...found, "--jsx", "react-jsx", file], {
      cwd: APP,
      stdio: "pipe",
    });
}

/** What the button says, by language. */
async function tables() {
  const entry = join(ROOT, "src/web/packages/button/src/texts.ts");
  const made = buildSync({ entryPoints: [entry], bundle: true, write: false, format: "esm" });
  const url = `data:text/javascript,${encodeURIComponent(made.outputFiles[0].text)}`;
  const { languages } = await import(url);
  const names = (language) => Object.keys(language).join();
  equal(names(languages.de), names(languages.en), "what German has");
  return languages;
}

let left = null;
/** A shop with these files, and a page of it; what the page plays can be listened to. */
export async function shop(browser, files) {
  const token = { uri: "sip:bob@wt.test", ws: "ws://localhost:8090/sip" };
  const all = {
    "/voice/token": JSON.stringify({ ...token, username: "bob", password: "bob-secret" }),
    ...files,
  };
  const kinds = { js: "text/javascript", token: "application/json" };
  const server = createServer((request, response) => {
    const found = all[request.url] ?? (request.url === "/favicon.ico" ? "" : undefined);
    const kind = kinds[request.url.split(/[./]/).pop()] ?? "text/html";
    response.writeHead(found === undefined ? 404 : 200, {
      "Content-Type": `${kind}; charset=utf-8`,
    });
    response.end(found);
  });
  // A case that failed has left its own.
  await left?.();
  await new Promise((listening) => server.listen(PORT, "127.0.0.1", listening));
  left = () =>
    new Promise((closed) => {
      server.close(closed);
      server.closeAllConnections();
    });
  const page = await (await browser.newContext()).newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(error.message));
  await page.addInitScript(() => {
    window.players = new Set();
    const own = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "srcObject");
    Object.defineProperty(HTMLMediaElement.prototype, "srcObject", {
      ...own,
      set(stream) {
        players.add(this);
        own.set.call(this, stream);
      },
    });
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    navigator.mediaDevices.getUserMedia = (wanted) => ask({ ...wanted, audio: plain });
  });
  return {
    page,
    async close() {
      equal(page.problems.join(), "", "problems on the page");
      await page.context().close();
      await left();
      left = null;
      await until("no channel is left in Asterisk", () => asterisk.channels() === 0);
    },
  };
}

/** The loudest frequency among the elements that play, Hz, and its level, dBFS. */
export const playing = (page) =>
  page.evaluate(async () => {
    let best = { hz: 0, db: -60 };
    for (const { srcObject, paused } of window.players ?? []) {
      if (paused || !srcObject?.getAudioTracks().length) continue;
      const context = new AudioContext();
      const analyser = context.createAnalyser();
      Object.assign(analyser, { fftSize: 32768, smoothingTimeConstant: 0 });
      context.createMediaStreamSource(srcObject).connect(analyser);
      await new Promise((next) => setTimeout(next, 900));
      const bins = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(bins);
      const width = context.sampleRate / analyser.fftSize;
      for (let n = 5; n < 4000 / width; n++)
        if (bins[n] > best.db) best = { hz: n * width, db: bins[n] };
      await context.close();
    }
    return best;
  });

const hears = async (page, hz) => {
  let last;
  await until(`${hz} Hz is played`, async () => {
    last = (await playing(page)).hz;
    return Math.abs(last - hz) < 8;
  }).catch((error) => {
    throw new Error(`${error.message}; ${last} Hz is`);
  });
};

const html =
  '<!doctype html><html lang="en"><title>shop</title><body><script type="module" src="/page.js"></script></body></html>';

/** What each of the three softphones of the book must do. */
function softphone(chrome, title, name, files) {
  test(`a softphone of thirty lines, ${title}: calls, mutes, holds, is called, and says why not`, async () => {
    const lines = block("how-to/softphone.md", name).trimEnd().split("\n").length;
    if (lines > 30) throw new Error(`${name} has ${lines} lines`);
    const own = await shop(chrome(), files());
    const { page } = own;
    const press = (name) => page.click(`#calls button:has-text("${name}")`);
    const dial = async (number) => {
      await page.fill("#number", number);
      await page.click("#dial button");
    };
    const gone = () => page.waitForSelector("#calls li", { state: "detached" });
    await page.goto(`http://localhost:${PORT}/`);
    await page.waitForSelector('#line:has-text("Ready")');
    await recordOf(async () => {
      await dial("600");
      await page.waitForSelector('#calls li:has-text("connected")');
      await hears(page, 440);
      await press("Mute");
      await until("nothing comes back", async () => (await playing(page)).hz === 0);
      await press("Unmute");
      await hears(page, 440);
      await press("Hold");
      await page.waitForSelector('#calls li:has-text("on hold")');
      await press("Resume");
      await hears(page, 440);
      await press("Hang up");
      await gone();
    });
    await recordOf(async () => {
      asterisk.cli("channel originate PJSIP/+12065550112@webtrunk application Milliwatt");
      await press("Answer");
      await hears(page, 1004);
      await press("Hang up");
      await gone();
    });
    await dial("602");
    await page.waitForSelector('#why:has-text("busy")');
    await own.close();
  });
}

/** The two of the book that use a library as it is. */
function snippet(chrome, name) {
  test(`the book's ${name} gives audio as printed`, async () => {
    const main = `import { call } from "./${name}";
      const user = { user: "bob", password: "bob-secret" };
      window.dial = (number) => { call(number, { ...user, audio: document.querySelector("audio") }); };`;
    writeFileSync(join(APP, name), printed("how-to/jssip.md", name));
    const body = html.replace("<body>", "<body><audio></audio>");
    const own = await shop(chrome(), { "/": body, "/page.js": bundled("snippet.js", main) });
    await own.page.goto(`http://localhost:${PORT}/`);
    await own.page.waitForFunction(() => window.dial);
    await recordOf(async () => {
      await own.page.evaluate(() => dial("600"));
      await hears(own.page, 440);
      asterisk.cli("channel request hangup all");
    });
    await own.close();
  });
}

export function packages(chrome) {
  softphone(chrome, "in plain JavaScript without a bundler", "softphone.html", () => ({
    "/": printed("how-to/softphone.md", "softphone.html"),
    "/webtrunk-phone.js": readFileSync(
      join(APP, "node_modules/@webtrunk/phone/dist/webtrunk-phone.js"),
    ),
  }));
  for (const [title, file] of [
    ["in TypeScript", "softphone.ts"],
    ["in React", "softphone.tsx"],
  ])
    softphone(chrome, title, file, () => {
      const script = bundled(file, printed("how-to/softphone.md", file));
      typed(file);
      return { "/": html, "/page.js": script };
    });

  test("a softphone that React mounts twice (StrictMode): ready, calls, is called once, and goes on after a reload", async () => {
    const text = printed("how-to/softphone.md", "softphone.tsx")
      .replace("import { useEffect", "import { StrictMode, useEffect")
      .replace(/render\((<Softphone .* \/>)\)/, "render(<StrictMode>$1</StrictMode>)");
    if (!text.includes("<StrictMode>")) throw new Error("it is not mounted twice");
    const own = await shop(chrome(), { "/": html, "/page.js": bundled("strict.tsx", text) });
    const { page } = own;
    let invites = 0;
    page.on("websocket", (socket) =>
      socket.on("framereceived", ({ payload }) => {
        invites += Number(/^INVITE /.test(payload));
      }),
    );
    await page.goto(`http://localhost:${PORT}/`);
    await page.waitForSelector('#line:has-text("Ready")');
    await recordOf(async () => {
      await page.fill("#number", "600");
      await page.click("#dial button");
      await page.waitForSelector('#calls li:has-text("connected")');
      await hears(page, 440);
      await page.reload();
      await page.waitForSelector('#calls li:has-text("connected")');
      await page.click("body");
      await hears(page, 440);
      await page.click('#calls button:has-text("Hang up")');
      await page.waitForSelector("#calls li", { state: "detached" });
    });
    await recordOf(async () => {
      asterisk.cli("channel originate PJSIP/+12065550112@webtrunk application Milliwatt");
      await page.click('#calls button:has-text("Answer")');
      await hears(page, 1004);
      equal(invites, 1, "INVITEs for one call");
      await page.click('#calls button:has-text("Hang up")');
      await page.waitForSelector("#calls li", { state: "detached" });
    });
    await own.close();
  });

  snippet(chrome, "jssip.js");
  snippet(chrome, "sipjs.js");

  test("a bundler leaves out what a page does not import, and React where it is not used", () => {
    const size = (text) => bundled("size.js", text, { minify: true }).length;
    const words = size('import { dialled } from "@webtrunk/phone"; console.log(dialled("1"));');
    if (words > 600) throw new Error(`one function costs ${words} bytes`);
    const phone = bundled("size.js", 'import { Phone } from "@webtrunk/phone"; window.P = Phone;');
    if (/useReducer|call-button/.test(phone)) throw new Error("React or the button came along");
    // JsSIP is the page's own, once, whoever imports it.
    const both =
      'import JsSIP from "jssip"; import { Phone } from "@webtrunk/phone"; window.P = [JsSIP, Phone];';
    const { metafile } = buildSync({
      stdin: { contents: both, resolveDir: APP },
      bundle: true,
      write: false,
      metafile: true,
      format: "esm",
      outfile: "both.js",
    });
    const copies = Object.keys(metafile.inputs).filter((path) => path.endsWith("/JsSIP.js"));
    equal(copies.length, 1, `copies of JsSIP: ${copies}`);
    const alone = bundled("size.js", 'import { Phone } from "@webtrunk/phone"; window.P = Phone;', {
      external: ["jssip"],
      minify: true,
    });
    if (alone.length > 25_000) throw new Error(`the phone without JsSIP is ${alone.length} bytes`);
  });

  test("the packages can be imported where there is no page, for a server that renders", () => {
    const script = `import { createElement } from "react";
      import { renderToString } from "react-dom/server";
      import { usePhone } from "@webtrunk/phone/react";
      import { CallButton } from "@webtrunk/button/react";
      const options = { uri: "sip:a@b.test", server: "wss://b.test/sip", password: "x" };
      const Line = () => createElement("p", null, usePhone(options).line.state);
      const button = createElement(CallButton, { to: "1", tokenUrl: "/voice/token" });
      console.log(renderToString(createElement(Line)) + renderToString(button));`;
    writeFileSync(join(APP, "server.mjs"), script);
    const made = execFileSync("node", ["server.mjs"], { cwd: APP, encoding: "utf8" });
    const button = '<call-button to="1" token-url="/voice/token"></call-button>';
    equal(made.trim(), `<p>stopped</p>${button}`, "what a server makes of them");
  });

  test("one design: the button, the application's icon and its frame have the colours of the tokens", () => {
    const web = (path) => readFileSync(join(ROOT, "src/web", path), "utf8");
    const colours = (text) => text.match(/#[0-9a-f]{3,8}\b/gi) ?? [];
    const tokens = new Set([...colours(web("console/tokens.css")), "#fff"]);
    const files = ["packages/button/src/style.ts", "manifest.webmanifest", "icon.svg"];
    for (const file of [...files, "phone.css", "docs.css", "console/console.css"]) {
      const own = colours(web(file));
      equal(own.filter((c) => !tokens.has(c)).join(), "", `colours of ${file} alone`);
    }
    const [theme] = colours(/theme-color[^>]*/.exec(web("index.html"))[0]);
    equal(tokens.has(theme), true, "the page's theme colour is a token");
  });

  test("the call button from the package, in React: colours, size, timer, mute, keypad, check", async () => {
    const script = `import { CallButton } from "@webtrunk/button/react";
      import { createRoot } from "react-dom/client";
      const told: string[] = Object.assign(window, { told: [] }).told;
      createRoot(document.body).render(<main><h1>Shop</h1><CallButton to="604" tokenUrl="/voice/token" label="Call us"
        size="large" check server="http://localhost:8090" onConnected={() => told.push("connected")}
        onEnded={({ seconds }) => told.push("ended " + (seconds >= 0))}
        onFailed={({ reason }) => told.push(reason)} /></main>);`;
    const css = block("how-to/call-button.md", "button.css");
    const page0 = html.replace("<body>", `<style>${css}</style><body>`);
    const own = await shop(chrome(), { "/": page0, "/page.js": bundled("button.tsx", script) });
    typed("button.tsx");
    const { page } = own;
    await page.goto(`http://localhost:${PORT}/`);
    const part = (name) => page.locator("call-button").locator(`[part~="${name}"]`);
    await part("button").waitFor();
    const style = (name) => part("button").evaluate((e, name) => getComputedStyle(e)[name], name);
    equal(await style("backgroundColor"), "rgb(67, 56, 202)", "its colour");
    equal(await style("fontSize"), "20px", "its size");
    await page.screenshot({ path: join(SHOTS, "button-idle.png") });
    await accessible(page, "the button");
    const before = asterisk.log().length;
    await recordOf(async () => {
      await part("button").click();
      await part("timer").waitFor();
      equal(await part("button").textContent(), "Hang up", "its words in a call");
      await part("mute").click();
      equal(await part("mute").getAttribute("aria-pressed"), "true", "muted");
      await part("mute").click();
      await part("keys").click();
      await page.screenshot({ path: join(SHOTS, "button-call.png") });
      await accessible(page, "the button in a call");
      for (const key of "1590") {
        await part("key").filter({ hasText: key }).click();
        await page.waitForTimeout(300);
      }
      await until("it has ended", () => page.evaluate(() => told.includes("ended true")), 20);
    });
    const read = /WT-DTMF=(\S*)/.exec(asterisk.log().slice(before));
    equal(read?.[1], "1590", "digits Asterisk read");
    await page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = () =>
        Promise.reject(new DOMException("", "NotAllowedError"));
    });
    await part("button").click();
    await part("state").filter({ hasText: "microphone is blocked" }).waitFor();
    equal(await page.evaluate(() => told.length), 3, "events: connected, ended, failed");
    await own.close();
  });

  test("the call button moved and changed in a call, given up and pressed again, muted without a call", async () => {
    const body = `<!doctype html><html lang="en"><title>Shop</title>
      <script src="http://localhost:8090/call-button.js" defer></script><main><h1>Shop</h1>
      <call-button to="600" token-url="/voice/token" server="http://localhost:8090"></call-button>
      </main><footer></footer></html>`;
    const own = await shop(chrome(), { "/": body });
    const { page } = own;
    const calls = new Set();
    page.on("websocket", (socket) =>
      socket.on("framesent", ({ payload }) => {
        if (/^INVITE /.test(payload)) calls.add(/Call-ID: (.*)/.exec(payload)[1]);
      }),
    );
    // The first token comes only when the second has.
    let asked = 0;
    let release;
    const second = new Promise((done) => {
      release = done;
    });
    await page.route("**/voice/token", async (route) => {
      asked += 1;
      if (asked === 1) await second;
      else release();
      await route.continue();
    });
    await page.goto(`http://localhost:${PORT}/`);
    const button = page.locator("call-button");
    const part = (name) => button.locator(`[part~="${name}"]`);
    const state = () => button.getAttribute("data-state");
    await button.evaluate((e) => e.mute());
    equal(await state(), "idle", "muted without a call");
    await recordOf(async () => {
      await part("button").click();
      await part("button").click();
      await part("button").click();
      await part("timer").waitFor();
      await page.waitForTimeout(500);
      equal(calls.size, 1, "calls of an attempt that was given up and of one that was not");
      await button.evaluate((e) => document.querySelector("footer").append(e));
      await button.evaluate((e) => e.setAttribute("controls", "timer keypad"));
      await part("mute").waitFor({ state: "hidden" });
      await page.waitForTimeout(500);
      equal(await state(), "connected", "moved in a call");
      equal(await part("state").textContent(), "Connected", "what it says");
      await button.evaluate((e) => e.remove());
    });
    await own.close();
  });

  for (const [how, script] of [
    ["by the gateway's script", null],
    ["from the package", 'import "@webtrunk/button"; window.CallButton = 1;'],
  ])
    test(`the call button speaks the page's language, ${how}: German in every state, English, and one more`, async () => {
      const tag = script
        ? '<script type="module" src="/page.js"></script>'
        : '<script src="http://localhost:8090/call-button.js" defer></script>';
      const body = `<!doctype html><html lang="de-AT"><title>Laden</title>${tag}
        <main><h1>Laden</h1><call-button to="600" token-url="/voice/token"
        server="http://localhost:8090"></call-button></main></html>`;
      const files = { "/": body, ...(script && { "/page.js": bundled("german.js", script) }) };
      const own = await shop(chrome(), files);
      const { page } = own;
      await page.goto(`http://localhost:${PORT}/`);
      const part = (name) => page.locator("call-button").locator(`[part~="${name}"]`);
      const says = (name, words) => part(name).filter({ hasText: words }).waitFor();
      const { en, de } = await tables();
      const english = Object.values(en).filter((text) => !Object.values(de).includes(text));
      /** Whatever is seen of it, or said to who listens. */
      const german = async (state) => {
        const said = await page
          .locator("call-button")
          .evaluate((button) =>
            [...button.shadowRoot.querySelectorAll("*")]
              .filter((e) => !e.closest("style"))
              .flatMap((e) => [e.ariaLabel, e.children.length ? "" : e.textContent.trim()]),
          );
        equal(said.filter((text) => english.includes(text)).join(" | "), "", `English, ${state}`);
      };
      await says("button", /^Anrufen$/);
      await german("idle");
      await recordOf(async () => {
        await part("button").click();
        await says("state", /^Verbunden$/);
        await part("keys").click();
        await part("mute").click();
        await says("state", /^Verbunden, stumm$/);
        await german("in a call");
        equal(await part("timer").getAttribute("aria-label"), "Dauer", "the timer's name");
        await accessible(page, "the button in a call, German");
        await page.screenshot({ path: join(SHOTS, `button-german-${script ? 2 : 1}.png`) });
        await part("button").filter({ hasText: "Auflegen" }).click();
        await says("button", /^Anrufen$/);
      });
      const to = (number) =>
        page.locator("call-button").evaluate((e, to) => e.setAttribute("to", to), number);
      await to("602");
      await part("button").click();
      await says("state", /^Das hat nicht geklappt: Die Leitung ist besetzt/);
      await page.evaluate(() => {
        document.querySelector("call-button").setAttribute("lang", "en");
      });
      await says("button", /^Call$/);
      await part("button").click();
      await says("state", /^The call failed: The line is busy/);
      await page.evaluate(
        (printed) => {
          new Function("CallButton", printed)(customElements.get("call-button"));
          document.querySelector("call-button").setAttribute("lang", "fr-CA");
        },
        block("how-to/call-button.md", "languages.js"),
      );
      await says("button", /^Appeler$/);
      await own.close();
    });
}
