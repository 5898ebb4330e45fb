import type { App } from "./app.js";

const editing = (target: EventTarget | null) =>
  target instanceof HTMLElement && target.matches("input, select, textarea, [contenteditable]");

function pressed(app: App, event: KeyboardEvent): boolean {
  const { key } = event;
  if (key === "Escape") {
    if (!app.calls.length) return false;
    app.escape();
    return true;
  }
  if (editing(event.target)) return false;
  const { active } = app;
  if (key.toLowerCase() === "m" && active?.state === "connected") {
    active.mute(!active.muted);
    return true;
  }
  const digit = /^[0-9*#]$/.test(key);
  if (digit && active?.state === "connected" && app.panel !== "dialler") {
    app.press(key);
    document
      .querySelector(`#pad [data-key="${CSS.escape(key)}"]`)
      ?.animate([{ scale: 0.94 }, { scale: 1 }], 150);
    return true;
  }
  const input = document.querySelector<HTMLInputElement>("#number");
  if (!input || !(digit || key === "+" || key === "Backspace")) return false;
  input.focus();
  app.setNumber(key === "Backspace" ? app.number.slice(0, -1) : app.number + key);
  return true;
}

/** Digits, `+`, Backspace, `M` and Escape from anywhere on the phone's own view. */
export function listenToKeys(app: App): void {
  document.addEventListener("keydown", (event) => {
    const shown = !document.getElementById("view-phone")?.hidden;
    // A dialog in front has its own keys: its Escape hangs nobody up.
    if (!shown || document.querySelector("dialog[open]")) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (pressed(app, event)) event.preventDefault();
  });
}
