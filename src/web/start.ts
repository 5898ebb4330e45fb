// What the phone and the gateway's side of the page both begin with.

/** What the gateway tells its page. */
export interface PageSettings {
  domain: string;
  /** The demo's login. */
  login: { user: string; password: string } | null;
  /** The demo's token. */
  token: string | null;
  /** What the provider is called at which people log in besides. */
  oidc: string | null;
}

/** After this a gateway that is away is asked again, milliseconds. */
const AGAIN = 2000;
/** Something is shown by then; a page in the background is not painted at all, milliseconds. */
const SOON = 1000;

const pause = (ms: number) => new Promise<void>((over) => setTimeout(over, ms));

const ask = (): Promise<PageSettings | null> =>
  fetch("settings.json")
    .then((response) => (response.ok ? response.json() : null))
    .catch(() => null);

async function askAgain(): Promise<PageSettings> {
  for (;;) {
    await pause(AGAIN);
    const settings = await ask();
    if (settings) return settings;
  }
}

const first = ask();

/** Whether the gateway is away as the page opens. */
export const isAway: Promise<boolean> = first.then((settings) => settings === null);

/** As soon as the gateway tells them. */
export const settings: Promise<PageSettings> = first.then((settings) => settings ?? askAgain());

/** What the page is called while no call is, and what says so. */
export const named = { title: document.title, again: () => {} };

let seen = () => {};
const drawn = new Promise<void>((done) => {
  seen = done;
});

/** What the address asks for is drawn. */
export const draw = (): void => seen();

/**
 * Once what the address asks for can be seen: what nobody looks at, a third of the page and more, is
 * loaded after it.
 */
export const shown: Promise<void> = Promise.race([
  drawn.then(
    () => new Promise<void>((painted) => requestAnimationFrame(() => setTimeout(painted))),
  ),
  pause(SOON),
]);
