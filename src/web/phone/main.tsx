// The page's phone.
import { TOUCHES } from "@webtrunk/phone";
import { render } from "preact";
import { App } from "./app.js";
import { listenToKeys } from "./keys.js";
import { notify } from "./notify.js";
import { Page } from "./page.js";
import { t } from "./texts.js";

const $ = (id: string) => document.getElementById(id) as HTMLElement;
const app = new App($("remote") as HTMLAudioElement);

app.on("change", () => {
  const line = $("line");
  line.dataset.state = app.line.state === "ready" ? "online" : "offline";
  if (line.textContent !== app.lineText) line.textContent = app.lineText;
});
notify(app);
listenToKeys(app);

// A call ends half a minute after its page, unless that is opened again: nobody closes it without
// having been asked.
addEventListener("beforeunload", (event) => {
  if (app.calls.some((call) => call.state !== "incoming")) event.preventDefault();
});
// Browsers let a page sound once somebody has touched it; by a finger, once that is lifted.
for (const type of TOUCHES) addEventListener(type, () => void app.phone?.ringer.unlock());
// What is pressed stays where it is until it has been.
for (const type of ["click", "keyup"])
  addEventListener(type, () => {
    if (app.touched) return;
    app.touched = true;
    app.changed();
  });
navigator.mediaDevices?.addEventListener("devicechange", () => void app.lookAround());

// Tests look in here; nothing else does.
Object.assign(globalThis, {
  webtrunkPhone: {
    get session() {
      return app.active?.session ?? null;
    },
    get ua() {
      return app.phone?.ua ?? null;
    },
    get ringer() {
      return app.phone?.ringer ?? null;
    },
    options: app.callOptions,
  },
});

$("view-phone").lang = t.language;
render(<Page app={app} />, $("phone-root"));
void app.begin();
