// What the book promises of pages: logging in by a token and by a password, a call nobody dialled, the book itself,
// the checker's marks.
import { join } from "node:path";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { generateKeyPairSync, sign } from "node:crypto";
import { execFileSync } from "node:child_process";
import {
  PUBLIC,
  SHOTS,
  binary,
  block,
  connected,
  equal,
  over,
  serveHttp,
  start,
  test,
  until,
  work,
} from "./rig.mjs";
import { accessible, demo, stop, threeNodes } from "./console.mjs";
import { readingToken } from "./tickets.mjs";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const base64 = (data) => Buffer.from(data).toString("base64url");

function token(claims) {
  const head = `${base64(JSON.stringify({ alg: "ES256", kid: "1" }))}.${base64(JSON.stringify(claims))}`;
  return `${head}.${base64(sign("sha256", Buffer.from(head), { key: privateKey, dsaEncoding: "ieee-p1363" }))}`;
}

async function serve(name, port, more, dialplans) {
  const folder = join(work, name);
  mkdirSync(join(folder, "dialplans"), { recursive: true });
  for (const [file, text] of Object.entries(dialplans))
    writeFileSync(join(folder, "dialplans", file), text);
  writeFileSync(
    join(folder, "jwks.json"),
    JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "1" }] }),
  );
  writeFileSync(
    join(folder, "webtrunk.toml"),
    `[server]\ndomain = "localhost"\npublic_ip = "${PUBLIC}"\n[web]\nlisten = "127.0.0.1:${port}"\norigins = ["http://localhost:8099"]\n
[media]\nbrowser_port = 0\nworkers = 1\n[sip]\nudp = "127.0.0.1:0"\n[api]\ncontrol = "c.sock"\n${more}`,
  );
  const node = start(binary, ["serve", "-c", join(folder, "webtrunk.toml"), "--log", "text"]);
  await until("it serves", () => /serves the page/.test(node.output));
  return {
    node,
    folder,
    stop: async () => {
      node.kill("SIGTERM");
      await until("the node has stopped", () => node.code !== undefined);
    },
  };
}

const PEOPLE =
  '[user.alice]\npassword = "alice-secret"\n[credentials]\nsecret = "a-secret-of-the-gateway"\n';

export function bookCases(chrome) {
  test("the call button logs in by a JSON Web Token, and does what it grants and no more", async () => {
    const own = await serve(
      "jwt",
      8098,
      '[auth.jwt]\njwks = "jwks.json"\naudience = "webtrunk"\n',
      { "visitors.toml": '[[route]]\nname = "Echo"\nmatch = "."\ndo = [{ echo = true }]\n' },
    );
    const grant = JSON.parse(block("how-to/log-in.md", "grant.json"));
    const answer = (request, response) => {
      if (request.url !== "/voice/token") {
        response.setHeader("Content-Type", "text/html");
        const lines = block("how-to/call-button.md", "button.html")
          .replace("https://calls.example.com", "http://localhost:8098")
          .replace("+12065550123", "9196");
        return response.end(`<!doctype html><html lang="en"><title>shop</title>${lines}`);
      }
      response.setHeader("Content-Type", "application/json");
      response.end(
        JSON.stringify({
          uri: `sip:${grant.sub}@localhost`,
          ws: "ws://localhost:8098/sip",
          jwt: token(grant),
        }),
      );
    };
    const shop = await serveHttp(answer, 8099);
    const page = await (await chrome().newContext()).newPage();
    await page.goto("http://localhost:8099/");
    await page.evaluate(() => {
      window.told = [];
      for (const type of ["connected", "ended", "failed"])
        document.addEventListener(type, (e) => told.push({ type, ...e.detail }));
    });
    const told = (type) => page.evaluate((t) => window.told.find((e) => e.type === t), type);
    const press = () => page.locator("call-button").locator('[part~="button"]').click();
    await press();
    await until("connected", () => told("connected"));
    await press();
    await until("ended", () => told("ended"));
    await page.evaluate(() =>
      document.querySelector("call-button").setAttribute("to", "+442079460018"),
    );
    await press();
    await until("it failed", () => told("failed"));
    const failed = await told("failed");
    equal(
      `${failed.code} ${failed.reason}`,
      "403 +442079460018 may not be called: the caller's account allows other numbers only",
      "why",
    );
    const record = JSON.parse(
      execFileSync(
        binary,
        ["calls", "--all", "-o", "json", "--control", join(own.folder, "c.sock")],
        { encoding: "utf8" },
      ),
    ).at(-1);
    equal(record.from, grant.sub, "who called");
    await page.context().close();
    shop.close();
    await own.stop();
  });

  test("a call nobody dialled rings the page, and connects it once it has answered", async () => {
    const own = await demo(chrome(), 8101, {});
    const { page } = own;
    const body = JSON.stringify({ from: "demo", to: "(206) 555-0123", tags: { order: "4711" } });
    execFileSync("curl", [
      "-sf",
      "--unix-socket",
      join(work, "demo-8101.sock"),
      "-X",
      "POST",
      "http://localhost/api/v1/calls",
      "-H",
      "Content-Type: application/json",
      "-d",
      body,
    ]);
    await page.waitForSelector("#answer:visible");
    await page.click("#answer");
    await connected(page);
    await until("it is heard", () =>
      page.evaluate(() => document.getElementById("level").value > 0.02),
    );
    await page.click("#hangup");
    await over(page);
    const record = JSON.parse(
      execFileSync(
        binary,
        ["calls", "--all", "-o", "json", "--control", join(work, "demo-8101.sock")],
        { encoding: "utf8" },
      ),
    )[0];
    equal(
      `${record.from} ${record.to} ${record.with} ${record.outcome}`,
      "demo +12065550123 trunk:loopback success",
      "the record",
    );
    await stop(own);
  });

  test("a browser whose network lets no UDP out telephones over TCP, by the page's own port", async () => {
    const line = await demo(chrome(), 8104, {});
    const { page } = line;
    // As if the network let no UDP out: the candidates that need it are not there.
    await page.evaluate(() =>
      webtrunkPhone.ua.on("newRTCSession", ({ session }) =>
        session.on("sdp", (event) => {
          if (event.originator === "remote")
            event.sdp = event.sdp.replace(/a=candidate:\S+ 1 udp [^\r\n]*\r\n/g, "");
        }),
      ),
    );
    await page.click('#numbers button:has-text("+12065550123")');
    await connected(page);
    await until("it is heard", () =>
      page.evaluate(() => document.getElementById("level").value > 0.02),
    );
    // The pair in use by the transport's own word: a pair's state is not "succeeded" while one
    // more of its checks is on its way.
    const pair = await page.evaluate(async () => {
      const report = await webtrunkPhone.session.connection.getStats();
      const transport = [...report.values()].find((s) => s.type === "transport");
      const pair = report.get(transport.selectedCandidatePairId);
      return report.get(pair.remoteCandidateId).protocol;
    });
    equal(pair, "tcp", "the pair's protocol");
    await page.click("#hangup");
    await over(page);
    await stop(line);
  });

  test("the book is served, clean by axe in both themes, and fits a telephone", async () => {
    const own = await demo(chrome(), 8102, { viewport: { width: 1280, height: 860 } });
    const page = await own.page.context().newPage();
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      for (const path of ["", "tutorial/half-an-hour", "reference/config", "reference/errors"]) {
        await page.goto(`http://localhost:8102/docs/${path}`);
        await accessible(page, `the book, ${path}, ${theme}`);
      }
      await page.goto("http://localhost:8102/docs/how-to/log-in");
      await page.screenshot({ path: join(SHOTS, `book-${theme}.png`), fullPage: true });
    }
    await page.setViewportSize({ width: 360, height: 740 });
    for (const path of [
      "tutorial/five-minutes",
      "reference/config",
      "how-to/log-in",
      "reference/cli",
    ]) {
      await page.goto(`http://localhost:8102/docs/${path}`);
      const wide = await page.evaluate(() =>
        document.documentElement.scrollWidth <= innerWidth
          ? ""
          : [...document.querySelectorAll("body *")]
              .filter((e) => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth)
              .map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}`)
              .join("; "),
      );
      equal(wide, "", `${path} scrolls sideways on a telephone`);
    }
    await page.screenshot({ path: join(SHOTS, "book-small.png") });
    await page.goto("http://localhost:8102/docs/");
    await page.click('nav a:has-text("Five minutes")');
    await until(
      "a link leads to its page",
      async () => (await page.textContent("main h1")) === "Five minutes",
    );
    await page.close();
    await stop(own);
  });

  test("the dialplan's files are shown with the checker's marks", async () => {
    const made = execFileSync("bash", ["-c", `"${binary}" api-token page --scope admin 2>&1`], {
      encoding: "utf8",
    });
    const lines = /\[api\.token\.page\][\s\S]*?scope\s*=\s*"admin"/.exec(made)[0];
    const secret = made
      .split("\n")
      .find((l) => /^[A-Za-z0-9_-]{20,}$/.test(l.trim()))
      .trim();
    const plan =
      '[[route]]\nname = "All"\nmatch = "9X."\ndo = [{ echo = true }]\n\n[[route]]\nname = "Never"\nmatch = "91X"\ndo = [{ hangup = 480 }]\n';
    const own = await serve(
      "marks",
      8103,
      `${lines}\n[user.alice]\npassword = "alice-secret"\ncontext = "phones"\n`,
      { "phones.toml": plan },
    );
    const page = await (
      await chrome().newContext({ viewport: { width: 1280, height: 860 } })
    ).newPage();
    await page.goto("http://localhost:8103/#/dialplan");
    await page.click("#entry-token summary");
    await page.fill("#token", secret);
    await page.click("#token-form button");
    await page.waitForSelector("#view-dialplan .mark");
    const marks = await page.locator("#view-dialplan .mark").allTextContents();
    if (!/"Never" can never be reached/.test(marks.join()))
      throw new Error(`the mark says ${marks}`);
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      await page.screenshot({ path: join(SHOTS, `console-marks-${theme}.png`), fullPage: true });
      await accessible(page, `the dialplan's files, ${theme}`);
    }
    // Settings: where each comes from, and what a reload would change.
    const file = join(own.folder, "webtrunk.toml");
    const text = readFileSync(file, "utf8");
    const line = text.split("\n").findIndex((l) => /^listen/.test(l)) + 1;
    await page.goto("http://localhost:8103/#/settings");
    const said = (selector) => page.textContent(selector);
    await page.waitForSelector(
      '#reload:has-text("Nothing: the file matches the settings in force.")',
    );
    const row = (key) =>
      page.locator("#view-settings .facts.lines > div", { hasText: key }).first();
    const listen = await row("listen").textContent();
    if (!listen.includes(`line ${line}, needs a restart`))
      throw new Error(`web.listen is said to be from ${listen}, not line ${line}`);
    if (!/default/.test(await row("calls_per_user").textContent()))
      throw new Error("a default is not said to be one");
    if (!/udp/.test(await said("#ports"))) throw new Error("no port of media is shown");
    if (!/web\.tls is off/.test(await said("#certificates")))
      throw new Error("that there is no certificate is not said");
    writeFileSync(file, `${text}\n[recorder]\ncalls = 77\n`);
    await page.reload();
    await page.waitForSelector('#reload li:has-text("recorder changed")');
    await accessible(page, "what a reload would change");
    await page.screenshot({ path: join(SHOTS, "console-reload.png"), fullPage: true });
    await page.click("#reload button");
    await until("it is reloaded", async () => /recorder changed/.test(await said("#told")));
    writeFileSync(file, `${text}\n[recorder]\ncals = 77\n`);
    await page.reload();
    await page.waitForSelector('#reload [role="alert"]:has-text("cals")');
    await page.context().close();
    await own.stop();
  });

  test("a person logs in to the page by password, sees events come, and is out when the password changes", async () => {
    const own = await serve("people", 8106, PEOPLE, {
      "default.toml": '[[route]]\nname = "All"\nmatch = "9X."\ndo = [{ echo = true }]\n',
    });
    const user = (...args) =>
      execFileSync(
        binary,
        [
          "user",
          ...args,
          "-c",
          join(own.folder, "webtrunk.toml"),
          "--control",
          join(own.folder, "c.sock"),
        ],
        { encoding: "utf8" },
      ).trim();
    const password = user("add", "anna", "--scope", "admin", "--generate");
    const context = await chrome().newContext({ viewport: { width: 1280, height: 860 } });
    const page = await context.newPage();
    await page.goto("http://localhost:8106/#/calls");
    await page.waitForSelector("#entry:visible");
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      await page.screenshot({ path: join(SHOTS, `console-login-${theme}.png`) });
      await accessible(page, `the login, ${theme}`);
    }
    const enter = async (secret) => {
      await page.fill("#entry-user", "anna");
      await page.fill("#entry-password", secret);
      await page.click("#entry-form button");
    };
    await enter("not the password");
    await until("a wrong password is told", async () =>
      /wrong password/.test(await page.textContent("#entry-wrong")),
    );
    await enter(password);
    await page.waitForSelector("#view-calls:visible");
    const entered = "Logged in as anna (full access)";
    equal(await page.textContent("#entered-as"), entered, "who is logged in");
    await accessible(page, "calls, logged in");
    // What the cookie lets in, and that no script sees it.
    equal(await page.evaluate(() => document.cookie), "", "cookies that scripts see");
    const [cookie] = await context.cookies();
    equal(`${cookie.httpOnly} ${cookie.sameSite}`, "true Strict", "the cookie");
    await page.goto("http://localhost:8106/#/settings");
    await page.reload();
    await page.waitForSelector("#view-settings:visible");
    // Accounts without a telephone are listed for administrators.
    await page.goto("http://localhost:8106/#/users");
    await page.click('#absent a:has-text("alice")');
    await page.waitForSelector('#view-users h2:has-text("alice")');
    // A call comes: its event draws the list anew, by the session's stream.
    await page.goto("http://localhost:8106/#/calls");
    await page.waitForSelector("#view-calls:visible");
    execFileSync(binary, [
      "call",
      "9196",
      "--as",
      "alice",
      "--for",
      "1s",
      "--control",
      join(own.folder, "c.sock"),
    ]);
    await until("the call appears by itself", async () =>
      /9196/.test(await page.textContent("#view-calls")),
    );
    // A page of another origin gets nothing by it.
    const other = await context.newPage();
    const answer = (_, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end('<!doctype html><html lang="en"><title>shop</title>');
    };
    const shop = await serveHttp(answer, 8107);
    await other.goto("http://localhost:8107/");
    const stolen = await other.evaluate(async () => {
      const options = { method: "POST", credentials: "include", mode: "no-cors" };
      const response = await fetch("http://localhost:8106/api/v1/drain", options).catch(() => null);
      return response?.type ?? "none";
    });
    equal(stolen, "opaque", "what another page sees");
    shop.close();
    const status = await page.evaluate(async () => (await fetch("api/v1/status")).json());
    equal(status.draining, false, "another page drained the gateway");
    const changed = user("password", "anna", "--generate");
    await until("the session is over", async () =>
      /session has ended/.test(await page.textContent("#entry-wrong")),
    );
    await enter(changed);
    await page.waitForSelector("#view-calls:visible");
    await page.click("#leave");
    await page.waitForSelector("#entry:visible");
    await page.setViewportSize({ width: 360, height: 740 });
    equal(
      await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
      true,
      "the login scrolls sideways on a telephone",
    );
    await page.screenshot({ path: join(SHOTS, "console-login-small.png") });
    await context.close();
    await own.stop();
  });

  test("events sent to the web application are listed, found, opened one by one, and sent again", async () => {
    const received = [];
    const answer = async (request, response) => {
      let body = "";
      for await (const part of request) body += part;
      received.push(JSON.parse(body).type);
      response.writeHead(204).end();
    };
    const shop = await serveHttp(answer, 8107);
    const { lines, secret } = readingToken("write");
    const key = Buffer.from("a secret of thirty-two characters").toString("base64");
    const webhook = `webhook = { url = "http://127.0.0.1:8107/", secret = "whsec_${key}", allow_private = true }`;
    const own = await serve("events", 8105, `${PEOPLE}${lines}\n[events]\n${webhook}\n`, {
      "default.toml": '[[route]]\nname = "All"\nmatch = "9X."\ndo = [{ echo = true }]\n',
    });
    const control = join(own.folder, "c.sock");
    const call = ["call", "9196", "--as", "alice", "--for", "1s", "--control", control];
    execFileSync(binary, call);
    await until("the end is delivered", () => received.includes("call.ended"));
    const context = await chrome().newContext({ viewport: { width: 1280, height: 860 } });
    await context.addInitScript((token) => sessionStorage.setItem("webtrunk-token", token), secret);
    const page = await context.newPage();
    await page.goto("http://localhost:8105/#/webhooks");
    const rows = page.locator("#view-webhooks tr.leads");
    await rows.first().waitFor();
    await accessible(page, "events");
    await page.fill('#view-webhooks input[type="search"]', "call.ended delivered");
    await until("one is left", async () => (await rows.count()) === 1);
    await rows.locator("td").nth(1).click();
    await page.waitForSelector('#view-webhooks h2:has-text("call.ended")');
    const body = JSON.parse(await page.textContent("#view-webhooks pre"));
    equal(body.data.to.dialled, "9196", "the body");
    await accessible(page, "an event");
    await page.screenshot({ path: join(SHOTS, "console-event.png") });
    const before = received.length;
    await page.click('#view-webhooks button:has-text("Send again")');
    await until("it came again", () => received.length === before + 1);
    equal(received.at(-1), "call.ended", "what came again");
    await page.click("#view-webhooks .facts a");
    await page.waitForSelector("#call-view .hero");
    await page.goBack();
    await page.keyboard.press("Escape");
    await until("Escape leads back", async () => /#\/webhooks$/.test(page.url()));
    await page.goto("http://localhost:8105/#/webhooks/gone");
    await page.waitForSelector('#view-webhooks [role="alert"]:has-text("no longer remembered")');
    await context.close();
    shop.close();
    await own.stop();
  });

  test("nodes are listed, found, and opened one by one", async () => {
    const own = await demo(chrome(), 8120, { viewport: { width: 1280, height: 860 } });
    const { page } = own;
    await threeNodes(page);
    await page.goto("http://localhost:8120/#/nodes");
    await page.reload();
    const rows = page.locator("#view-nodes tr.leads");
    await until("all three", async () => (await rows.count()) === 3);
    await page.fill('#view-nodes input[type="search"]', "draining");
    await until("one drains", async () => (await rows.count()) === 1);
    await rows.locator(".row-link").click();
    await page.waitForSelector('#view-nodes h2:has-text("b")');
    const said = await page.textContent("#view-nodes");
    for (const words of ["draining", "10.0.0.2:5072", "Accept calls", "41"])
      if (!said.includes(words)) throw new Error(`the node's page has no ${words}: ${said}`);
    await accessible(page, "a node");
    await page.keyboard.press("Escape");
    await until("Escape leads back", async () => (await rows.count()) === 3);
    await page.goto("http://localhost:8120/#/nodes/z");
    await page.waitForSelector('#view-nodes [role="alert"]:has-text("There is no node z")');
    // A list of one that is gone says so, and leads back to those that are there.
    const gone = { status: 404, title: "Not Found", detail: 'there is no node "z"' };
    const contentType = "application/problem+json";
    await page.route(/api\/v1\/calls\?.*node=z/, (route) =>
      route.fulfill({ status: 404, contentType, body: JSON.stringify(gone) }),
    );
    await page.goto("http://localhost:8120/#/calls?node=z");
    await page.reload();
    await page.waitForSelector('#calls-list [role="alert"]:has-text("there is no node")');
    equal(await page.inputValue('select[name="node"]'), "z", "the node that is named");
    await page.selectOption('select[name="node"]', "all");
    await page.waitForSelector("#calls-list .row-link");
    // The browser tells of every 404.
    const others = page.problems.filter((problem) => !problem.includes("404"));
    equal(others.join(), "", "problems on the page");
    page.problems.length = 0;
    await stop(own);
  });
}
