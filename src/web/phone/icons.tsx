// One set of drawings, 24 units wide, in the colour of the text around them.

const PATHS = {
  phone:
    "M5 4h4l2 5-2.5 1.5a11 11 0 0 0 5 5L15 13l5 2v4a2 2 0 0 1-2 2A16 16 0 0 1 3 6a2 2 0 0 1 2-2",
  microphone: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3M5 11a7 7 0 0 0 14 0M12 18v3",
  muted:
    "M9 9v2a3 3 0 0 0 5 2.2M15 10V6a3 3 0 0 0-5.7-1.3M5 11a7 7 0 0 0 11 5.7M19 11a7 7 0 0 1-.4 2.3M12 18v3M3 3l18 18",
  pause: "M8 5v14M16 5v14",
  play: "M8 5l11 7-11 7z",
  keypad: "M5 5h.01M12 5h.01M19 5h.01M5 12h.01M12 12h.01M19 12h.01M5 19h.01M12 19h.01M19 19h.01",
  transfer: "M4 8h14m-4-4 4 4-4 4M20 16H6m4-4-4 4 4 4",
  add: "M12 5v14M5 12h14",
  join: "M6 4v4a4 4 0 0 0 4 4h4a4 4 0 0 1 4 4v4M18 4v4a4 4 0 0 1-4 4M6 20v-4a4 4 0 0 1 4-4",
  incoming: "M18 6 7 17m0-8v8h8",
  outgoing: "M6 18 17 7M9 7h8v8",
  missed: "M4 7l8 8 8-8M4 13V7h6",
  erase: "M20 5H9l-6 7 6 7h11zM17 9l-6 6M11 9l6 6",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4",
  person: "M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8M4 21a8 8 0 0 1 16 0",
  addPerson: "M10 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8M2 21a8 8 0 0 1 13-6M19 14v7M15.5 17.5h7",
  warning: "M12 4 2.5 20h19zM12 10v4M12 17h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
