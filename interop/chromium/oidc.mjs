// Single sign-on as a person has it: the button, the provider's own page on another site, and back
// into the console with the role that the provider gave, or with the reason why not.
import { createHash, createSign, generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { accessible } from "./console.mjs";
import { PUBLIC, SHOTS, binary, equal, serveHttp, start, stop, test, until, work } from "./rig.mjs";

const PORT = 8114;
// Another site, and not only another origin: cookies of the same site alone do not come along.
const ISSUER = "http://127.0.0.1:8115";
const PAGE = `http://localhost:${PORT}`;
const CALLBACK = `${PAGE}/api/v1/session/oidc/callback`;
const SECRET = "s3cret & more";

/** Who can log in there, with the groups of each. */
const PEOPLE = { ada: ["voice-admins", "staff"], sam: ["staff"], eve: ["visitors"] };

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A provider: Authorization Code with PKCE, and ID tokens by ES256. */
async function provider() {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid: "one", alg: "ES256", use: "sig" };
  const grants = new Map();
  const signed = (claims) => {
    const text = `${encoded({ alg: "ES256", kid: "one" })}.${encoded(claims)}`;
    const key = { key: privateKey, dsaEncoding: "ieee-p1363" };
    return `${text}.${createSign("SHA256").update(text).sign(key).toString("base64url")}`;
  };

  /** The page where somebody says who they are, or leads back at once where they have. */
  function authorize(asked, response) {
    equal(asked.get("redirect_uri"), CALLBACK, "where it leads back");
    const back = new URL(CALLBACK);
    back.searchParams.set("state", asked.get("state"));
    const who = asked.get("who");
    if (!who) {
      const kept = [...asked].map(([name, value]) => [name, value.replaceAll('"', "&quot;")]);
      const fields = kept.map(([n, v]) => `<input type="hidden" name="${n}" value="${v}">`);
      const people = [...Object.keys(PEOPLE), "nobody"];
      const buttons = people.map((p) => `<button name="who" value="${p}">${p}</button>`);
      response.setHeader("Content-Type", "text/html; charset=utf-8");
      response.end(`<!doctype html><html lang="en"><title>Example ID</title><h1>Example ID</h1>
<form action="/authorize">${fields.join("")}${buttons.join(" ")}</form></html>`);
      return;
    }
    if (PEOPLE[who]) {
      const code = randomBytes(12).toString("hex");
      const now = Math.floor(Date.now() / 1000);
      const claims = {
        ...{ iss: ISSUER, aud: "webtrunk", sub: `id-${who}`, iat: now, exp: now + 300 },
        ...{ nonce: asked.get("nonce"), preferred_username: who, groups: PEOPLE[who] },
      };
      grants.set(code, { challenge: asked.get("code_challenge"), claims });
      back.searchParams.set("code", code);
    } else {
      back.searchParams.set("error", "access_denied");
    }
    response.writeHead(303, { Location: back.href }).end();
  }

  function token(request, form, response) {
    const [name, secret] = Buffer.from(request.headers.authorization?.split(" ")[1] ?? "", "base64")
      .toString()
      .split(":")
      .map((part) => decodeURIComponent(part.replaceAll("+", " ")));
    const grant = grants.get(form.get("code"));
    grants.delete(form.get("code"));
    const proof = createHash("sha256").update(form.get("code_verifier") ?? "");
    const known = name === "webtrunk" && secret === SECRET;
    if (!known || !grant || proof.digest("base64url") !== grant.challenge)
      return response.writeHead(400).end('{"error":"invalid_grant"}');
    const id_token = signed(grant.claims);
    response.end(JSON.stringify({ access_token: "a", token_type: "Bearer", id_token }));
  }

  const answer = async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, ISSUER);
    let body = "";
    for await (const chunk of request) body += chunk;
    response.setHeader("Content-Type", "application/json");
    switch (pathname) {
      case "/.well-known/openid-configuration":
        return response.end(
          JSON.stringify({
            issuer: ISSUER,
            authorization_endpoint: `${ISSUER}/authorize`,
            token_endpoint: `${ISSUER}/token`,
            jwks_uri: `${ISSUER}/keys`,
          }),
        );
      case "/keys":
        return response.end(JSON.stringify({ keys: [jwk] }));
      case "/authorize":
        return authorize(searchParams, response);
      case "/token":
        return token(request, new URLSearchParams(body), response);
      default:
        return response.writeHead(404).end("{}");
    }
  };
  return serveHttp(answer, 8115);
}

async function gateway() {
  const folder = join(work, "oidc");
  mkdirSync(join(folder, "dialplans"), { recursive: true });
  writeFileSync(
    join(folder, "dialplans/phones.toml"),
    '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n',
  );
  writeFileSync(
    join(folder, "webtrunk.toml"),
    `[server]\ndomain = "localhost"\npublic_ip = "${PUBLIC}"
[web]\nlisten = "127.0.0.1:${PORT}"\npublic_url = "${PAGE}"
[media]\nbrowser_port = 0\nworkers = 1\n[sip]\nudp = "127.0.0.1:0"\n[api]\ncontrol = "c.sock"
[api.oidc]\nissuer = "${ISSUER}"\nclient_id = "webtrunk"\nclient_secret = "${SECRET}"
allow_private = true\nlabel = "Example ID"
roles = { read = ["staff"], admin = ["voice-admins"] }
[trunk.carrier]\nuri = "sip:127.0.0.1:5999"\n`,
  );
  const node = start(binary, ["serve", "-c", join(folder, "webtrunk.toml"), "--log", "text"]);
  await until("it serves", () => {
    if (node.code !== undefined) throw new Error(node.output);
    return /serves the page/.test(node.output);
  });
  return node;
}

export function singleSignOn(chrome) {
  test("single sign-on: the button leads to the provider and back with the right role, out again, and says why not", async () => {
    const [server, node] = [await provider(), await gateway()];
    const page = await (await chrome().newContext({ locale: "en-US" })).newPage();
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    const logInAs = async (who) => {
      await page.goto(`${PAGE}/#/trunks`);
      await page.click('#entry-elsewhere a:has-text("Log in with Example ID")');
      await page.waitForURL(`${ISSUER}/authorize?**`);
      await page.click(`button:has-text("${who}")`);
      await page.waitForURL(`${PAGE}/**`);
    };
    const isEntered = async (words) => {
      await page.waitForSelector("#entered:visible");
      equal(await page.textContent("#entered-as"), words, "who is in");
      equal(new URL(page.url()).search, "", "what the address keeps of the login");
      await page.waitForSelector("#view-calls:visible");
    };
    const logOut = async () => {
      await page.click("#leave");
      await page.waitForSelector("#entry:visible");
      const status = await page.evaluate(async () => (await fetch("api/v1/calls")).status);
      equal(status, 401, "who has logged out asks for calls");
    };

    await page.goto(`${PAGE}/#/calls`);
    await page.waitForSelector("#entry-elsewhere a");
    await page.screenshot({ path: join(SHOTS, "oidc-entry.png") });
    await accessible(page, "the login with a provider");

    await logInAs("sam");
    await isEntered("Logged in as sam (view only)");
    await page.screenshot({ path: join(SHOTS, "oidc-entered.png") });
    await page.goto(`${PAGE}/#/trunks/carrier`);
    const disable = page.locator('#view-trunks button:has-text("Disable")');
    equal(await disable.isDisabled(), true, "who may look disables no trunk");
    // How the gateway is, and not the file; nor is that taken for a fault.
    await page.goto(`${PAGE}/#/settings`);
    await page.waitForSelector('#view-settings :text("are shown to the role")');
    equal(await page.locator("#view-settings .facts").count(), 1, "what is shown of the settings");
    await accessible(page, "settings of who may look");
    await page.reload();
    await page.waitForSelector("#entered:visible");
    await logOut();

    await logInAs("ada");
    await isEntered("Logged in as ada (full access)");
    await page.goto(`${PAGE}/#/trunks/carrier`);
    await disable.click();
    await page.click('dialog button:has-text("Disable")');
    await until("the trunk is disabled", async () =>
      /disabled/.test(await page.textContent("#view-trunks .subtitle")),
    );
    await logOut();

    for (const [who, why] of [
      ["eve", /You have no role here/],
      ["nobody", /The provider refused the login/],
    ]) {
      await logInAs(who);
      await page.waitForSelector("#entry-wrong:not(:empty)");
      const said = await page.textContent("#entry-wrong");
      if (!why.test(said)) throw new Error(`${who} reads: ${said}`);
      await page.screenshot({ path: join(SHOTS, `oidc-${who}.png`) });
      await accessible(page, `a refusal of ${who}`);
    }
    await page.goto(`${CALLBACK}?code=x&state=guessed`);
    await page.waitForSelector('#entry-wrong:has-text("took too long")');

    equal(problems.join(), "", "problems on the page");
    await page.context().close();
    server.close();
    server.closeAllConnections();
    await stop(node, "SIGTERM");
    equal(/ERROR/.test(node.output), false, node.output);
  });
}
