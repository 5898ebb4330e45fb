// What tells of a call while nobody looks at the page: its title, a notification, and the service
// worker that shows it and keeps the page, never the calls.
import type { Call } from "@webtrunk/phone";
import { named, shown } from "../start.js";
import type { App } from "./app.js";
import { clock, who } from "./calls.js";
import { t } from "./texts.js";

export const mayNotify = (): NotificationPermission =>
  "Notification" in globalThis && "serviceWorker" in navigator ? Notification.permission : "denied";

export async function askToNotify(): Promise<void> {
  if (mayNotify() === "default") await Notification.requestPermission();
}

const tagOf = (call: Call) => `webtrunk-call-${call.id}`;

async function show(call: Call, name: string): Promise<void> {
  const registration = await navigator.serviceWorker.ready;
  if (call.state !== "incoming") return;
  const options = {
    body: call.number,
    tag: tagOf(call),
    icon: "icon-192.png",
    requireInteraction: true,
    data: { call: call.id },
    actions: [
      { action: "answer", title: t.call.answer },
      { action: "decline", title: t.call.decline },
    ],
  };
  await registration.showNotification(t.title.incoming(name), options);
}

async function withdraw(call: Call): Promise<void> {
  const registration = await navigator.serviceWorker.ready;
  for (const shown of await registration.getNotifications({ tag: tagOf(call) })) shown.close();
}

function title(app: App): string {
  const incoming = app.calls.find((call) => call.state === "incoming");
  if (incoming) return `☎ ${t.title.incoming(who(app, incoming)[0])}`;
  const { active } = app;
  if (!active) return named.title;
  const muted = active.muted ? t.title.muted : "";
  const how = active.connectedAt
    ? muted + clock(active.seconds)
    : (t.title.states[active.state] ?? active.state);
  return `${who(app, active)[0]} (${how})`;
}

/** Keeps the title true, tells of calls, and takes what is pressed on a notification. */
export function notify(app: App): void {
  const retitle = () => {
    const wanted = title(app);
    if (document.title !== wanted) document.title = wanted;
  };
  app.on("change", retitle);
  named.again = retitle;
  setInterval(retitle, 1000);
  const told = new Map<Call, string>();
  app.on("change", () => {
    for (const call of app.calls) {
      if (call.state !== "incoming" || told.has(call)) continue;
      told.set(call, call.id);
      const looking = document.visibilityState === "visible" && document.hasFocus();
      if (mayNotify() === "granted" && !looking) void show(call, who(app, call)[0]).catch(() => {});
    }
    for (const call of told.keys()) {
      if (call.state === "incoming") continue;
      told.delete(call);
      if (mayNotify() === "granted") void withdraw(call).catch(() => {});
    }
  });
  if (!("serviceWorker" in navigator)) return;
  // Without one the page works, only not while the gateway is away. It loads the whole page again,
  // to keep it.
  void shown.then(() => navigator.serviceWorker.register("service-worker.js")).catch(() => {});
  navigator.serviceWorker.addEventListener("message", ({ data, ports }) => {
    const call = app.calls.find((one) => one.id === data.call);
    if (!call) return;
    ports[0]?.postMessage(true);
    if (data.action === "answer") app.answer(call);
    if (data.action === "decline") call.hangUp();
  });
}
