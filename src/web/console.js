// The gateway's side of the page: what goes on, what happened, and why. All of it comes from
// /api/v1.

const $ = (id) => document.getElementById(id);
const VIEWS = ["phone", "calls", "trunks", "users", "dialplan", "webhooks", "settings"];
// A program's way in, or a person's: a token, or the name of who is logged in by a cookie.
let token = null,
  user = localStorage.getItem("webtrunk-console-user"),
  chosen = null,
  picked = [],
  settings = {};

/** An element with attributes and children; texts are texts, never HTML. */
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false)
      element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return element;
}

class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `the gateway said ${status}`);
    this.status = status;
    this.fix = body.fix;
  }
}

const bearer = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function ask(path, method = "GET", body = null, accept = "application/json") {
  const headers = { Accept: accept, ...bearer() };
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(`api/v1${path}`, {
    method,
    headers,
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  return response;
}

async function api(path, method, body, accept = "application/json") {
  const response = await ask(path, method, body, accept);
  return accept === "application/json" ? response.json() : response.text();
}

/** The newest of a list, page after page, and whether there are more. */
async function listed(path, query, most) {
  const items = [];
  for (let next = `?${query}`; next && items.length < most; ) {
    const response = await ask(`${path}${next}`);
    items.push(...(await response.json()));
    next = /<(\?[^>]*)>; rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
    if (!next) return { items, more: false };
  }
  return { items, more: true };
}

function tell(text) {
  $("told").textContent = text;
}
function failed(error) {
  tell(error.fix ? `${error.message}. ${error.fix}` : error.message);
}

const clock = (s) => `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;

function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "soft" }, empty);
  const head = h("tr", {}, ...columns.map(([name]) => h("th", { scope: "col" }, name)));
  const body = rows.map((row) =>
    h(
      "tr",
      row.attributes || {},
      ...columns.map(([, show, kind]) => h("td", { class: kind || null }, ...[show(row)].flat())),
    ),
  );
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...body)),
  );
}

/** A route of the dialplan, and why it does not match. */
const routeLine = (r) =>
  r.why_not ? `✗ ${r.route}: ${r.pattern}, ${r.why_not}` : `✓ ${r.route}: ${r.pattern}`;

// ---- calls

function fate(call) {
  if (call.state !== "ended") return h("span", { class: "up" }, call.state);
  return call.code
    ? h("span", {}, h("b", { class: "down" }, call.code), ` ${call.verdict}`)
    : "fine";
}

/** Who calls: a user by its name, anybody else by number, and how that is called. */
function caller(call) {
  const known = call.from.startsWith("trunk:") && call.from_number ? call.from_number : call.from;
  return call.from_name && call.from_name !== known ? `${known} ${call.from_name}` : known;
}

/** When a call began, by this browser's clock; with the date if that was not today. */
function began(call) {
  const start = new Date(call.start);
  const today = start.toDateString() === new Date().toDateString();
  return h(
    "time",
    { datetime: call.start, title: call.start },
    today ? start.toLocaleTimeString() : start.toLocaleString(),
  );
}

const PAGE = 100;
let most = PAGE,
  asked = 0;

async function showCalls() {
  const query = new URLSearchParams({ limit: PAGE });
  for (const [name, value] of new FormData($("calls-filter")))
    if (value.trim()) query.set(name, value.trim());
  const mine = ++asked;
  const { items: calls, more } = await listed("/calls", query, most);
  // Somebody typed on: the answer to that is the one to show.
  if (mine !== asked) return;
  $("calls-more").hidden = !more;
  for (const call of calls) call.attributes = { "aria-selected": String(call.call === chosen) };
  const focus = document.activeElement?.dataset.call;
  $("calls-list").replaceChildren(
    table(
      "Live and remembered",
      [
        [
          "Call",
          (c) =>
            h(
              "button",
              { class: "link", type: "button", "data-call": c.call, onclick: () => choose(c.call) },
              c.call,
            ),
        ],
        ["Start", began],
        ["From", caller],
        ["To", (c) => c.to],
        ["Time", (c) => clock(c.talked_s ?? c.seconds), "num"],
        ["MOS", (c) => c.mos_estimated ?? "–", "num"],
        ["What happened", fate],
      ],
      calls,
      query.size > 1
        ? "No call that is remembered fits. `webtrunk cdr` searches the records on disk."
        : "No call yet. Open the phone and dial 9196 to hear yourself.",
    ),
  );
  if (focus) document.querySelector(`[data-call="${CSS.escape(focus)}"]`)?.focus();
}

function verdictBox(verdict) {
  if (!verdict)
    return h("p", { class: "soft" }, "The call is active; its verdict appears when it ends.");
  if (!verdict.code) return h("p", { class: "said" }, verdict.sentence);
  return h(
    "div",
    { class: "said fault" },
    h("p", {}, h("b", {}, verdict.code), ` ${verdict.sentence}`),
    h("p", {}, `Likely: ${verdict.likely}.`),
    h("p", {}, `Fix: ${verdict.fix}.`),
  );
}

function pick(ladder, at, into, group) {
  picked = picked.includes(at) ? picked.filter((n) => n !== at) : [...picked.slice(-1), at];
  group
    .closest("svg")
    .querySelectorAll("[data-row]")
    .forEach((g) => g.setAttribute("aria-pressed", String(picked.includes(Number(g.dataset.row)))));
  const [a, b] = picked.map((n) => ladder.rows[n].text.split("\n"));
  if (!a) {
    into.replaceChildren(
      h("p", { class: "soft" }, "Choose a message to read it, a second one to compare."),
    );
    return;
  }
  if (!b) {
    into.replaceChildren(messageView(ladder.rows[picked[0]]));
    return;
  }
  const lines = [
    ...a.filter((l) => !b.includes(l)).map((l) => h("del", {}, `- ${l}\n`)),
    ...b.filter((l) => !a.includes(l)).map((l) => h("ins", {}, `+ ${l}\n`)),
  ];
  into.replaceChildren(
    h("pre", { tabindex: "0" }, ...(lines.length ? lines : ["the two are the same"])),
  );
}

/** A message, and beside each line of a description we made the rule it was made by. */
function messageView(row) {
  const rules = [...(row.rules ?? [])];
  const line = (text) => {
    const at = rules.findIndex((r) => r.line === text);
    if (at < 0) return [`${text}\n`];
    const [rule] = rules.splice(at, 1);
    return [
      text,
      h("span", { class: "rule" }, ` ← ${rule.from ? `${rule.from}: ` : ""}${rule.why}`),
      "\n",
    ];
  };
  const lines = row.text.split("\n").flatMap(line);
  const gone = rules
    .filter((r) => !r.line)
    .map((r) => h("span", { class: "rule" }, `left out: ${r.from}: ${r.why}\n`));
  return h("pre", { tabindex: "0" }, ...lines, ...gone);
}

async function ladderView(id, interactive) {
  const [ladder, drawn] = await Promise.all([
    api(`/calls/${id}/ladder`),
    api(`/calls/${id}/ladder?format=svg`, "GET", null, "image/svg+xml"),
  ]);
  const svg = document.adoptNode(
    new DOMParser().parseFromString(drawn, "image/svg+xml").documentElement,
  );
  const text = h(
    "div",
    { "aria-live": "polite" },
    h("p", { class: "soft" }, "Choose a message to read it, a second one to compare."),
  );
  svg.removeAttribute("role");
  svg.querySelectorAll("[data-row]").forEach((group) => {
    if (!interactive) return;
    const at = Number(group.dataset.row),
      row = ladder.rows[at];
    const peer = ladder.lanes[row.lane];
    const words = row.sent
      ? `webtrunk to ${peer}: ${row.summary}`
      : `${peer} to webtrunk: ${row.summary}`;
    for (const [k, v] of Object.entries({
      tabindex: "0",
      role: "button",
      "aria-label": words,
      "aria-pressed": "false",
    }))
      group.setAttribute(k, v);
    group.addEventListener("click", () => pick(ladder, at, text, group));
    group.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") {
        e.preventDefault();
        pick(ladder, at, text, group);
      }
    });
  });
  const frame = h(
    "div",
    { class: "ladder", role: "region", "aria-label": "Ladder", tabindex: "0" },
    svg,
  );
  const considered = ladder.rows
    .filter((r) => r.kind === "route")
    .map((r) => h("li", {}, routeLine(r)));
  const routes = h(
    "details",
    {},
    h("summary", {}, `Routes considered: ${considered.length}`),
    h("ul", {}, ...considered),
  );
  return {
    ladder,
    element: interactive ? h("div", { class: "card" }, frame, routes, text) : frame,
  };
}

function chart(leg) {
  const series = leg.series;
  if (series.length < 2) return null;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const end = series.at(-1).at_ms,
    line = (kind, of, most) => {
      const polyline = document.createElementNS(svg.namespaceURI, "polyline");
      polyline.setAttribute("class", kind);
      polyline.setAttribute(
        "points",
        series
          .map((s) => [(1000 * s.at_ms) / end, 98 - 96 * Math.min(1, of(s) / most)])
          .map((point) => point.map((n) => n.toFixed(1)).join(","))
          .join(" "),
      );
      svg.append(polyline);
    };
  svg.setAttribute("class", "chart");
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const most = (of) => Math.max(1, ...series.map(of)),
    jitter = most((s) => s.jitter_ms),
    lost = most((s) => s.lost);
  const seconds = Math.round(end / 1000);
  const worst = `lost at most ${lost}, jitter at most ${jitter} ms`;
  svg.setAttribute("aria-label", `leg ${leg.leg}: packets per sample, ${worst}, over ${seconds} s`);
  line(
    "in",
    (s) => s.received,
    most((s) => s.received),
  );
  line("jitter", (s) => s.jitter_ms, Math.max(jitter, 20));
  line("lost", (s) => s.lost, Math.max(lost, 5));
  const lines = `packets (green), jitter up to ${jitter} ms (blue), lost ${leg.packets_lost} (red)`;
  return h(
    "figure",
    {},
    h("figcaption", { class: "soft" }, `Leg ${leg.leg} over ${seconds} s: ${lines}`),
    svg,
  );
}

function facts(call) {
  const rows = [
    ["From", `${call.from.user} (${call.from.shown || "no number"})`],
    [
      "To",
      call.to.number && call.to.number !== call.to.dialled
        ? `${call.to.dialled} → ${call.to.number}`
        : call.to.dialled,
    ],
    ["Route", call.route ? `${call.route} in ${call.context}` : "none"],
    [
      "Tried",
      call.attempts.map((a) => `${a.target} ${a.code} after ${a.ms} ms`).join(", ") || "nobody",
    ],
    ["Began", call.start],
    ["Set up", call.setup_ms === null ? "not answered" : `${call.setup_ms} ms`],
    ["Hung up by", call.hangup_by ?? "–"],
  ];
  for (const leg of call.legs.filter((l) => l.codec)) {
    const mos = [leg.mos_in_estimated, leg.mos_out_estimated].map((m) => m ?? "–").join(" / ");
    rows.push([
      `Leg ${leg.leg}`,
      [
        leg.codec,
        `${leg.packets_in} in`,
        `${leg.packets_lost} lost`,
        `${leg.packets_out} out`,
        `jitter ${leg.jitter_ms} ms`,
        `MOS ${mos} (estimated)`,
        ...(leg.srtp ? [leg.srtp] : []),
      ].join(", "),
    ]);
  }
  return h("dl", {}, ...rows.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
}

async function save(id, path, name, accept) {
  const response = await fetch(`api/v1/calls/${id}/${path}`, {
    headers: { ...bearer(), Accept: accept },
  });
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  const link = h("a", { href: URL.createObjectURL(await response.blob()), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

async function choose(id) {
  chosen = id;
  picked = [];
  const [call, quality, drawn] = await Promise.all([
    api(`/calls/${id}`),
    api(`/calls/${id}/quality`),
    ladderView(id, true),
  ]);
  if (chosen !== id) return;
  $("call-title").textContent = drawn.ladder.headline;
  const exports = [
    ["Capture", "pcap", `${id}.pcap`, "*/*"],
    ["Picture", "ladder?format=svg", `${id}.svg`, "*/*"],
    ["Mermaid", "ladder?format=mermaid", `${id}.mmd`, "*/*"],
    ["Text", "ladder?format=text&full=true", `${id}.txt`, "*/*"],
  ];
  const buttons = exports.map(([name, ...rest]) =>
    h("button", { type: "button", onclick: () => save(id, ...rest).catch(failed) }, name),
  );
  if (call.state !== "ended")
    buttons.unshift(
      h(
        "button",
        {
          type: "button",
          class: "danger",
          onclick: () =>
            api(`/calls/${id}`, "DELETE")
              .then(() => tell(`Call ${id} has ended`))
              .catch(failed),
        },
        "Hang up",
      ),
    );
  $("call-view").replaceChildren(
    verdictBox(call.state === "ended" ? call.verdict : null),
    h("div", { class: "row" }, ...buttons),
    drawn.element,
    ...quality.legs.map(chart).filter(Boolean),
    facts(call),
  );
  await showCalls();
}

async function showBeside() {
  const [newest] = await api("/calls?limit=1");
  $("beside").hidden = false;
  $("view-phone").classList.add("wide");
  if (!newest) {
    $("beside-call").replaceChildren(
      h(
        "p",
        { class: "soft" },
        "Dial 9196: every message and every step of the media appears here as it happens.",
      ),
    );
    return;
  }
  const { ladder, element } = await ladderView(newest.call, false);
  $("beside-call").replaceChildren(
    h("p", {}, ladder.headline),
    ...(newest.state === "ended" ? [verdictBox(ladder.verdict)] : []),
    element,
    h(
      "p",
      {},
      h(
        "a",
        { href: "#/calls", onclick: () => choose(newest.call).catch(failed) },
        "All about this call",
      ),
    ),
  );
}

// ---- the other views

async function showTrunks() {
  const act = (name, verb) =>
    h(
      "button",
      {
        type: "button",
        onclick: () =>
          api(`/trunks/${encodeURIComponent(name)}/${verb}`, "POST")
            .then((t) => {
              tell(
                verb === "probe"
                  ? t.answered
                    ? `${name} answered in ${t.options_ms} ms`
                    : `${name} did not answer`
                  : `${name} is ${t.state}`,
              );
              return showTrunks();
            })
            .catch(failed),
      },
      { probe: "Probe", enable: "Enable", disable: "Disable" }[verb],
    );
  const share = (s) => (s === undefined || s === null ? "–" : `${Math.round(100 * s)} %`);
  const trunks = await api("/trunks");
  $("view-trunks").replaceChildren(
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Trunks"),
      table(
        "Health and how calls fare",
        [
          ["Trunk", (t) => t.trunk],
          ["State", (t) => h("span", { class: t.usable ? "up" : "down" }, t.state)],
          ["OPTIONS", (t) => (t.options_ms === null ? "–" : `${t.options_ms} ms`), "num"],
          ["Calls", (t) => `${t.calls}/${t.max_calls ?? "∞"}`, "num"],
          ["ASR", (t) => share(t.asr), "num"],
          ["NER", (t) => share(t.ner), "num"],
          ["Where", (t) => t.uri ?? t.registered_from ?? "not registered"],
          [
            "Last failure",
            (t) =>
              t.why_not ??
              t.last_failure ??
              (t.last_call_failure ? String(t.last_call_failure.sip_code) : "–"),
          ],
          [
            "Do",
            (t) => [
              h(
                "span",
                { class: "row" },
                act(t.trunk, "probe"),
                act(t.trunk, t.state === "disabled" ? "enable" : "disable"),
              ),
            ],
          ],
        ],
        trunks,
        "No trunk yet. `webtrunk init --trunk asterisk` writes one, and the peer's half.",
      ),
    ),
  );
}

async function showUsers() {
  const all = await api("/registrations");
  const off = (user) =>
    h(
      "button",
      {
        type: "button",
        onclick: () =>
          api(`/registrations/${encodeURIComponent(user)}`, "DELETE")
            .then(() => {
              tell(`${user} is disconnected`);
              return showUsers();
            })
            .catch(failed),
      },
      "Disconnect",
    );
  $("view-users").replaceChildren(
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Users and flows"),
      table(
        "Who is registered",
        [
          ["User", (r) => r.user],
          ["From", (r) => r.remote ?? "–"],
          ["Expires in", (r) => clock(r.expires_s), "num"],
          ["q", (r) => r.q, "num"],
          ["Instance", (r) => r.instance ?? "–"],
          ["Do", (r) => off(r.user)],
        ],
        all,
        "Nobody is registered. Open the phone and log in.",
      ),
    ),
  );
}

// Made once: what is being typed, and the answer to it, outlive a view that is drawn anew.
const tester = (() => {
  const number = h("input", { id: "test-number", autocomplete: "off", required: true }),
    who = h("select", { id: "test-context" });
  const result = h("div", { "aria-live": "polite" });
  const test = async () => {
    const t = await api("/dialplan/test", "POST", { number: number.value, context: who.value });
    result.replaceChildren(
      h("p", {}, `${t.dialled} is ${t.number}`),
      h("ul", {}, ...t.considered.map((c) => h("li", {}, routeLine(c)))),
      t.route
        ? h("ol", {}, ...t.steps.map((s) => h("li", {}, s)))
        : h("p", { class: "said fault" }, "No route: the caller gets 404."),
    );
  };
  const form = h(
    "form",
    {
      onsubmit: (e) => {
        e.preventDefault();
        test().catch(failed);
      },
    },
    h("h2", {}, "Which route does it take?"),
    h("label", { for: "test-number" }, "Number"),
    number,
    h("label", { for: "test-context" }, "Dialplan"),
    who,
    h("button", { type: "submit", class: "primary" }, "Test"),
    result,
  );
  const offer = (contexts) => {
    const chosen = who.value;
    who.replaceChildren(
      ...contexts.map((c) => h("option", { selected: c.context === chosen }, c.context)),
    );
  };
  return { form, offer };
})();

async function showDialplan() {
  const contexts = await api("/dialplan");
  tester.offer(contexts);
  // Files are for administrators; the demo, which brings a token along, has none.
  const files = settings.token ? null : await api("/config/dialplans").catch(() => null);
  const marked = (f) =>
    h(
      "pre",
      { tabindex: "0", class: "numbered" },
      ...f.text
        .split("\n")
        .flatMap((text, n) => [
          h("span", { class: "soft" }, `${String(n + 1).padStart(3)}  `),
          `${text}\n`,
          ...f.marks
            .filter((m) => m.line === n + 1)
            .map((m) =>
              h(
                "span",
                { class: m.warning ? "mark" : "mark wrong" },
                `${m.warning ? "⚠" : "✗"} ${m.message}. ${m.fix}`,
              ),
            ),
        ]),
    );
  const shown = files && [
    ...files.elsewhere.map((m) =>
      h(
        "p",
        { class: "said fault" },
        `${m.file ?? ""}${m.line ? `:${m.line}` : ""} ${m.message}. ${m.fix}`,
      ),
    ),
    ...files.files.map((f) =>
      h(
        "section",
        { class: "card" },
        h("h2", {}, f.file.split("/").pop()),
        h(
          "p",
          { class: "soft" },
          f.marks.length ? `${f.marks.length} mark(s)` : "nothing to complain of",
        ),
        marked(f),
      ),
    ),
  ];
  const routes = (c) =>
    h(
      "section",
      { class: "card" },
      h("h2", {}, c.context),
      h(
        "ol",
        {},
        ...c.routes.map((r) => h("li", {}, h("b", {}, r.route), `: ${r.steps.join(", then ")}`)),
      ),
    );
  const view = $("view-dialplan"),
    below = shown?.length ? shown : contexts.map(routes);
  if (tester.form.parentNode !== view) view.replaceChildren(tester.form);
  while (tester.form.nextSibling) tester.form.nextSibling.remove();
  view.append(...below);
}

async function showWebhooks() {
  const again = (id) =>
    h(
      "button",
      {
        type: "button",
        onclick: () =>
          api(`/webhooks/${id}/resend`, "POST")
            .then(() => {
              tell("told once more");
              return showWebhooks();
            })
            .catch(failed),
      },
      "Send again",
    );
  $("view-webhooks").replaceChildren(
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Webhooks"),
      table(
        "What the web application was told",
        [
          ["When", (d) => d.began, "num"],
          ["Event", (d) => d.type],
          ["Call", (d) => d.call ?? "–"],
          ["Tries", (d) => d.tries, "num"],
          [
            "State",
            (d) =>
              h(
                "span",
                { class: d.state === "delivered" ? "up" : d.state === "dead" ? "down" : null },
                d.why ? `${d.state}: ${d.why}` : d.state,
              ),
          ],
          [
            "Body",
            (d) =>
              h(
                "details",
                {},
                h("summary", {}, "Show"),
                h("pre", { tabindex: "0" }, JSON.stringify(d.body, null, 2)),
              ),
          ],
          ["Do", (d) => again(d.id)],
        ],
        await api("/webhooks"),
        "No event was sent yet. [events] webhook = { url, secret } names the receiver.",
      ),
    ),
  );
}

async function showSettings() {
  const [config, status] = await Promise.all([api("/config"), api("/status")]);
  const about = [
    ["Version", status.version],
    ["Calls", `${status.calls} of ${status.limits.calls}`],
    ["Connections", status.flows],
    ["Remembered", `${status.recorder.calls} calls, ${Math.ceil(status.recorder.bytes / 1000)} kB`],
    ["Draining", status.draining ? "yes" : "no"],
  ];
  $("view-settings").replaceChildren(
    h(
      "section",
      { class: "card" },
      h("h2", {}, "This gateway"),
      h("dl", {}, ...about.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, String(v))])),
    ),
    ...Object.entries(config).map(([name, part]) =>
      h(
        "section",
        { class: "card" },
        h("h2", {}, `[${name}]`),
        h("pre", { tabindex: "0" }, JSON.stringify(part, null, 2)),
      ),
    ),
  );
}

const SHOW = {
  phone: showBeside,
  calls: showCalls,
  trunks: showTrunks,
  users: showUsers,
  dialplan: showDialplan,
  webhooks: showWebhooks,
  settings: showSettings,
};

function current() {
  const name = location.hash.replace("#/", "");
  return VIEWS.includes(name) ? name : "phone";
}

/** Who is logged in from now on; nobody by null. */
function entered(name) {
  user = name;
  if (name) localStorage.setItem("webtrunk-console-user", name);
  else localStorage.removeItem("webtrunk-console-user");
}

/** The gateway does not know us any more. */
function lapsed() {
  const [field, text] = token
    ? ["token-wrong", "This token is unknown."]
    : ["entry-wrong", "The session has ended. Log in again."];
  token = null;
  sessionStorage.removeItem("webtrunk-token");
  entered(null);
  $(field).textContent = text;
  return show();
}

async function show() {
  const view = current(),
    may = Boolean(token || user);
  for (const name of VIEWS) $(`view-${name}`).hidden = name !== view || (!may && name !== "phone");
  $("entry").hidden = may || view === "phone";
  $("entered").hidden = !user || view === "phone";
  $("entered-as").textContent = user ?? "";
  document
    .querySelectorAll("#tabs a")
    .forEach((a) =>
      a.hash === `#/${view}`
        ? a.setAttribute("aria-current", "page")
        : a.removeAttribute("aria-current"),
    );
  if (!may) return;
  await SHOW[view]().catch((error) => (error.status === 401 ? lapsed() : failed(error)));
}

async function enter(event) {
  event.preventDefault();
  const login = { user: $("entry-user").value, password: $("entry-password").value };
  $("entry-wrong").textContent = "";
  try {
    entered((await api("/session", "POST", login)).user);
  } catch (error) {
    $("entry-wrong").textContent =
      error.status === 401 ? "There is no such user, or the password is another." : error.message;
    return;
  } finally {
    $("entry-password").value = "";
  }
  await show();
  listen();
}

async function leave() {
  await api("/session", "DELETE").catch(() => {});
  entered(null);
  tell("Logged out");
  await show();
}

// ---- what happens, as it happens

let soon = null;
/** At most four times a second, however much happens: waiting for a pause would wait for ever. */
function refresh() {
  if (soon) return;
  soon = setTimeout(async () => {
    soon = null;
    if (current() === "calls" && chosen && !picked.length) await choose(chosen).catch(failed);
    else await show();
  }, 250);
}

let listening = 0;

async function listen() {
  let last = "";
  const mine = ++listening;
  while (mine === listening && (token || user)) {
    try {
      const headers = { ...bearer(), ...(last && { "Last-Event-ID": last }) };
      const response = await fetch("api/v1/events", { headers });
      if (response.status === 401) return await lapsed();
      if (response.status === 403) return;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = "", part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          last = /^id: ?(.*)$/m.exec(event)?.[1] ?? last;
          if (/^event: ?(?!call\.quality)/m.test(event)) refresh();
        }
      }
    } catch {
      /* the gateway restarts; it will be back */
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

async function begin() {
  settings = await (await fetch("settings.json")).json();
  token = settings.token || sessionStorage.getItem("webtrunk-token");
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    sessionStorage.setItem("webtrunk-token", token);
    $("token").value = "";
    $("token-wrong").textContent = "";
    show().then(() => token && listen());
  });
  $("entry-form").addEventListener("submit", enter);
  $("leave").addEventListener("click", leave);
  $("calls-filter").addEventListener("submit", (event) => event.preventDefault());
  $("calls-filter").addEventListener("input", () => {
    most = PAGE;
    refresh();
  });
  $("calls-more").addEventListener("click", () => {
    most += PAGE;
    showCalls().catch(failed);
  });
  addEventListener("hashchange", () => {
    tell("");
    show();
  });
  if (token) entered(null);
  await show();
  if (token || user) listen();
}

begin();
