// The gateway's side of the page: current state, history, and reasons. The phone is in ../phone.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { draw, named, type PageSettings, settings } from "../start";
import {
  ask,
  type CallLine,
  follow,
  get,
  type Ladder,
  nodesOf,
  type Problem,
  useToken,
} from "./api";
import { CallView, Hero } from "./call";
import { Calls, fateOf, Mos } from "./calls";
import { Dialplan } from "./dialplan";
import { LadderPicture } from "./ladder";
import { Nodes, NodeView } from "./nodes";
import { Away, Chip, Confirm, clock, Toasts, Wait, When } from "./parts";
import { Settings } from "./settings";
import {
  away,
  coming,
  failed,
  link,
  type Place,
  place,
  type Scope,
  scope,
  tick,
  ticks,
  useLoaded,
  usePlace,
} from "./store";
import { t } from "./texts";
import { tone } from "./tone";
import { Trunks, TrunkView } from "./trunks";
import { Users, UserView } from "./users";
import { Webhooks, WebhookView } from "./webhooks";

const VIEWS = ["phone", "calls", "trunks", "users", "nodes", "dialplan", "webhooks", "settings"];
const $ = (id: string) => document.getElementById(id) as HTMLElement;

function View({ at, withFiles }: { at: Place; withFiles: boolean }) {
  const node = at.query.get("node");
  if (at.view === "calls")
    return at.item ? (
      <CallView key={at.item} id={at.item} node={node} />
    ) : (
      <Calls query={at.query} />
    );
  if (at.view === "trunks")
    return at.item ? (
      <TrunkView key={at.item} name={at.item} node={node} />
    ) : (
      <Trunks query={at.query} />
    );
  if (at.view === "users")
    return at.item ? <UserView key={at.item} name={at.item} /> : <Users query={at.query} />;
  if (at.view === "nodes") return at.item ? <NodeView key={at.item} name={at.item} /> : <Nodes />;
  if (at.view === "dialplan") return <Dialplan withFiles={withFiles} chosen={at.item} />;
  if (at.view === "webhooks")
    return at.item ? <WebhookView key={at.item} id={at.item} /> : <Webhooks />;
  return <Settings />;
}

/** What the keys do, by where they do it. */
const KEYS: [string, [string, string][]][] = [
  [
    t.keys.everywhere,
    [
      ["?", t.keys.help],
      ["g p c t u n d w s", t.keys.go],
      ["Esc", t.keys.close],
    ],
  ],
  [
    t.keys.lists,
    [
      ["/", t.keys.search],
      ["j k", t.keys.next],
      ["Enter", t.keys.open],
    ],
  ],
  [
    t.keys.phone,
    [
      ["0 … 9 * #", t.keys.digits],
      ["Enter", t.keys.call],
      ["M", t.keys.mute],
      ["Esc", t.keys.end],
    ],
  ],
];

function step(by: number) {
  const rows = [...document.querySelectorAll<HTMLElement>("#console .row-link")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  rows[Math.max(0, Math.min(rows.length - 1, at + by))]?.focus();
}

/** Whether what is typed belongs to a field; no number begins with a question mark. */
function isTyped({ key, target }: KeyboardEvent) {
  const field = (target as Element).closest<HTMLInputElement>("input, select, textarea, dialog");
  return field && !(key === "?" && field.id === "number" && !field.value);
}

/** Keys of the lists; the phone's own dial. */
function actInList(key: string, at: Place) {
  if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
  else if (key === "/")
    document.querySelector<HTMLElement>('#console input[type="search"]')?.focus();
  else if (key === "Escape" && at.item) location.hash = link(at.view);
  else return false;
  return true;
}

/** The keys of the page; none while somebody types. */
function useKeys(help: () => void) {
  const going = useRef(false);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const { key } = event;
      if (isTyped(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (going.current) {
        going.current = false;
        const view = VIEWS.find((v) => v[0] === key);
        if (view) location.hash = link(view);
        return;
      }
      const at = place();
      if (key === "g") going.current = true;
      else if (key === "?") help();
      else if (at.view === "phone" || !actInList(key, at)) return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
    // The button at the end has the focus; the list is read from its beginning.
    dialog.current?.scrollTo(0, 0);
  }, []);
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="keys" onClose={close}>
      <h2 id="keys">{t.keys.title}</h2>
      {KEYS.map(([where, keys]) => (
        <section key={where}>
          <h3>{where}</h3>
          <dl class="keys">
            {keys.map(([key, does]) => (
              <div key={key}>
                <dt>
                  {key.split(" ").map((k) => (
                    <kbd key={k}>{k}</kbd>
                  ))}
                </dt>
                <dd>{does}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
      <form method="dialog" class="buttons end">
        <button type="submit" class="button">
          {t.dismiss}
        </button>
      </form>
    </dialog>
  );
}

/** The keys and their list, for whoever is logged in, and for whoever only telephones. */
function Keyboard() {
  const [help, setHelp] = useState(false);
  useKeys(() => setHelp(true));
  return help ? <Help close={() => setHelp(false)} /> : null;
}

/** Whether what a view shows first has come; until then its parts would push each other about. */
function useSettled(path: string) {
  const [settled, set] = useState("");
  useEffect(() => {
    const look = (left: number) => {
      if (left) return;
      set(path);
      draw();
    };
    look(coming.value);
    return coming.watch(look);
  }, [path]);
  return settled === path;
}

/** The way back from a thing leads to its line in the list. */
function useWayBack(at: Place, settled: boolean) {
  const before = useRef(at);
  const left = useRef<string | null>(null);
  if (before.current !== at) {
    if (before.current.view !== at.view || at.item) left.current = null;
    else left.current = before.current.item ?? left.current;
    before.current = at;
  }
  useEffect(() => {
    if (!settled || !left.current) return;
    const rows = document.querySelectorAll<HTMLAnchorElement>("#console .row-link");
    const its = link(at.view, left.current);
    left.current = null;
    if (document.activeElement !== document.body) return;
    [...rows].find((row) => row.hash.split("?")[0] === its)?.focus();
  }, [settled, at]);
}

function Console({ withFiles }: { withFiles: boolean }) {
  const at = usePlace();
  const settled = useSettled(`${at.view}/${at.item}`);
  useWayBack(at, settled);
  return (
    <>
      {at.view !== "phone" && (
        <div id={`view-${at.view}`} class={settled ? "console" : "console settling"}>
          <View at={at} withFiles={withFiles} />
        </div>
      )}
      <Toasts>{at.view !== "phone" && <Away />}</Toasts>
      <Confirm />
    </>
  );
}

/** The newest call, beside the phone. */
function Beside() {
  const load = async () => {
    const [newest] = await get<CallLine[]>("/calls?limit=1");
    if (!newest) return null;
    return { newest, drawn: await get<Ladder>(`/calls/${newest.call}/ladder`) };
  };
  const { value, error } = useLoaded(load, []);
  if (value === undefined) return <Wait error={error} />;
  if (!value) return <p class="soft">{t.beside.empty}</p>;
  const { newest, drawn } = value;
  const kind = tone(newest);
  return (
    <>
      <p class="subtitle">
        <Chip tone={kind}>{fateOf(newest)}</Chip>
        <span>
          {newest.from_name || newest.from_number || newest.from} → {newest.to}
        </span>
        <When at={newest.start} />
        {newest.talked_s != null && <span>{clock(newest.talked_s)}</span>}
        {newest.mos_estimated != null && (
          <span>
            MOS <Mos value={newest.mos_estimated} />
          </span>
        )}
      </p>
      {newest.state === "ended" && <Hero verdict={drawn.verdict} kind={kind} />}
      <LadderPicture drawn={drawn} calm={kind === "calm"} />
      <a class="button" href={link("calls", newest.call)}>
        {t.beside.all}
      </a>
    </>
  );
}

/** When a gateway that is away is asked again. */
const AGAIN_MS = 2000;

let token: string | null = null;
/** Who is logged in by a session, which only its cookie knows. */
let user: string | null = null;
/** What the user may do, as soon as the gateway has answered. */
let role: Scope | null = null;
let listening: AbortController | null = null;
const USER = "webtrunk-console-user";
/** Whether there were nodes: their tab, if it came late, would move those below it. */
const NODES = "webtrunk-console-nodes";

function remember(name: string | null) {
  user = name;
  if (name) localStorage.setItem(USER, name);
  else localStorage.removeItem(USER);
}

/** The view we are at. */
function nowAt() {
  const { view } = place();
  return VIEWS.includes(view) ? view : "phone";
}

/** Shows what belongs to where we are; the console is there for whoever was let in. */
function show() {
  const known = nowAt();
  named.title = [place().item, t.nav[known], "webtrunk"].filter(Boolean).join(" – ");
  named.again();
  $("view-phone").hidden = known !== "phone";
  const entered = Boolean(token || user);
  $("console").hidden = !entered;
  $("entry").hidden = entered || known === "phone";
  // Until the gateway says what the user may do, the page says nothing of it.
  $("entered").hidden = !user || !role || known === "phone";
  $("entered-as").textContent = user && role && t.entered(user, role);
  for (const tab of document.querySelectorAll<HTMLAnchorElement>("#tabs a")) {
    if (tab.hash === `#/${known}`) {
      tab.setAttribute("aria-current", "page");
      // Where there is no room for all, the one we are at is in sight.
      tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else tab.removeAttribute("aria-current");
  }
}

/** The demo has a token of its own each time: where it was started anew, so is its page. */
async function restarted(known: PageSettings) {
  const now: PageSettings | null = await fetch("settings.json")
    .then((response) => response.json())
    .catch(() => null);
  return Boolean(now?.token && now.token !== known.token);
}

async function refused(problem: Problem, known: PageSettings) {
  if (known.token && (await restarted(known))) return location.reload();
  const [field, unknown] = token ? ["token-wrong", t.unknownToken] : ["entry-wrong", t.sessionOver];
  $(field).textContent = problem.status === 401 ? unknown : problem.message;
  out();
}

/** Nobody is let in any more. */
function out() {
  token = null;
  role = null;
  sessionStorage.removeItem("webtrunk-token");
  remember(null);
  listening?.abort();
  away.set(null);
  render(null, $("console"));
  render(null, $("beside-call"));
  $("beside").hidden = true;
  $("nodes-tab").hidden = true;
  $("view-phone").classList.remove("wide");
  show();
}

async function logIn(known: PageSettings) {
  const field = (id: string) => $(id) as HTMLInputElement;
  const login = { user: field("entry-user").value, password: field("entry-password").value };
  $("entry-wrong").textContent = "";
  try {
    remember((await (await ask("/session", "POST", login)).json()).user);
  } catch (error) {
    const { status, message } = error as Problem;
    $("entry-wrong").textContent = status === 401 ? t.unknownUser : message;
    return;
  } finally {
    field("entry-password").value = "";
  }
  await enter(known);
}

async function logOut() {
  await ask("/session", "DELETE").catch(failed);
  out();
}

/** Makes room for what stands beside the phone. */
function widen() {
  $("beside").hidden = false;
  $("view-phone").classList.add("wide");
}

async function enter(known: PageSettings) {
  useToken(token);
  try {
    const [session, nodes] = await Promise.all([
      get<{ scope: Scope | null }>("/session"),
      nodesOf().catch(() => []),
      // Who is unknown is refused this.
      get("/status"),
    ]);
    role = session.scope ?? "read";
    // A gateway that is alone has no nodes to look at.
    $("nodes-tab").hidden = !nodes.length;
    if (nodes.length) localStorage.setItem(NODES, "true");
    else localStorage.removeItem(NODES);
  } catch (error) {
    const problem = error as Problem;
    if (problem.status) return refused(problem, known);
    // A gateway that is away says nothing of who asks.
    setTimeout(() => enter(known), AGAIN_MS);
    return;
  }
  scope.set(role);
  widen();
  render(<Beside />, $("beside-call"));
  render(<Console withFiles={!known.token} />, $("console"));
  show();
  listening?.abort();
  listening = new AbortController();
  const heard = (type: string) => {
    if (type !== "call.quality") tick();
  };
  follow(heard, listening.signal, (problem) => refused(problem, known), away.set.bind(away));
}

/** What `index.html` says before a script runs, by the names it has there. */
const TEXTS = { ...t.entry, beside: t.beside.title };

/** The outcome of a login at the provider, from the address; it is shown once. */
async function returned() {
  const query = new URLSearchParams(location.search);
  const came = query.get("login");
  if (!came) return;
  query.delete("login");
  const rest = query.size ? `?${query}` : "";
  history.replaceState(null, "", `${location.pathname}${rest}${location.hash}`);
  if (came !== "done") $("entry-wrong").textContent = t.notEntered[came] ?? t.notEntered.unknown;
  else remember((await get<{ user: string | null }>("/session")).user);
}

/** Says what `index.html` says in this language. */
function translate() {
  $("leave").textContent = t.leave;
  for (const tab of document.querySelectorAll<HTMLAnchorElement>("#tabs a")) {
    const text = t.nav[tab.hash.slice(2)] ?? t.book;
    // Where there is room for the drawings alone, the words are shown by the pointer.
    tab.title = text;
    for (const word of tab.getElementsByTagName("span")) word.textContent = text;
  }
  document.documentElement.lang = t.language;
  $("tabs").ariaLabel = t.views;
  for (const element of document.querySelectorAll<HTMLElement>("[data-text]"))
    element.textContent = TEXTS[element.dataset.text as keyof typeof TEXTS];
}

function listen(known: PageSettings) {
  addEventListener("hashchange", () => {
    show();
    ticks.set(ticks.value + 1);
  });
  $("leave").addEventListener("click", logOut);
  $("entry-form").addEventListener("submit", (event) => {
    event.preventDefault();
    logIn(known);
  });
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = $("token") as HTMLInputElement;
    token = field.value.trim();
    sessionStorage.setItem("webtrunk-token", token);
    field.value = "";
    $("token-wrong").textContent = "";
    enter(known);
  });
}

async function begin() {
  translate();
  render(<Keyboard />, $("keyboard"));
  $("view-phone").hidden = nowAt() !== "phone";
  const known = await settings;
  // The demo alone hands a token out.
  $("demo-mark").hidden = !known.token;
  if (known.oidc) {
    const [link] = $("entry-elsewhere").getElementsByTagName("a");
    link.textContent = t.elsewhere(known.oidc);
    $("entry-elsewhere").hidden = false;
  }
  await returned().catch(() => {});
  token = known.token ?? sessionStorage.getItem("webtrunk-token");
  user = token ? null : localStorage.getItem(USER);
  listen(known);
  show();
  if (token || user) {
    widen();
    $("nodes-tab").hidden = !localStorage.getItem(NODES);
    $("view-phone").classList.remove("settling");
    await enter(known);
  } else draw();
}

begin().finally(() => $("view-phone").classList.remove("settling"));
