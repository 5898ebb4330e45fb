// On a page of another origin: the colours are those of tokens.css, which is not there.
export const STYLE = `
:host {
  --_back: var(--call-button-background, #12703a);
  --_ink: var(--call-button-color, #fff);
  --_stop: var(--call-button-hangup-background, #b3261e);
  --_radius: var(--call-button-radius, 999px);
  --_rule: color-mix(in srgb, currentColor 30%, transparent);
  --_unit: 1rem;
  display: inline-flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 0.5em;
  font: 600 var(--_unit) / 1.25 var(--call-button-font, system-ui, sans-serif);
}
:host([hidden]) { display: none; }
:host([size="small"]) { --_unit: 0.875rem; }
:host([size="large"]) { --_unit: 1.25rem; }
button {
  font: inherit;
  display: inline-flex;
  align-items: center;
  justify-content: center;
  gap: 0.5em;
  min-width: 2.75em;
  min-height: 2.75em;
  padding: 0.5em 0.75em;
  border: 1px solid var(--_rule);
  border-radius: var(--_radius);
  color: inherit;
  background: transparent;
  cursor: pointer;
}
button:focus-visible { outline: 3px solid var(--call-button-focus, #3d4fd6); outline-offset: 2px; }
[part~="button"] {
  padding-inline: 1.25em;
  border-color: transparent;
  color: var(--_ink);
  background: var(--_back);
}
:host([data-state]:not([data-state="idle"])) [part~="button"] { background: var(--_stop); color: #fff; }
:host([data-state]:not([data-state="idle"])) [part~="icon"] { rotate: 135deg; }
[part~="mute"][aria-pressed="true"] { background: #8a5300; border-color: transparent; color: #fff; }
[part~="timer"] { font-variant-numeric: tabular-nums; }
[part~="state"] { font-weight: 400; }
[part~="keypad"] {
  flex-basis: 100%;
  display: grid;
  grid-template-columns: repeat(3, 3.25em);
  gap: 0.375em;
}
[part~="keypad"] button { border-radius: min(var(--_radius), 0.75em); }
svg { width: 1.25em; height: 1.25em; flex: none; fill: currentColor; transition: rotate 0.2s; }
[hidden] { display: none !important; }
@media (prefers-reduced-motion: reduce) { svg { transition: none; } }
`;

const PHONE =
  "M6.6 10.8a15.1 15.1 0 0 0 6.6 6.6l2.2-2.2a1 1 0 0 1 1-.25 11.4 11.4 0 0 0 3.6.57 1 1 0 0 1 1 1V20a1 1 0 0 1-1 1A17 17 0 0 1 3 4a1 1 0 0 1 1-1h3.5a1 1 0 0 1 1 1 11.4 11.4 0 0 0 .57 3.6 1 1 0 0 1-.25 1z";

/** The receiver, drawn. */
export function icon(): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PHONE);
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("part", "icon");
  svg.append(path);
  return svg;
}
