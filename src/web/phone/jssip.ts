// JsSIP, which the gateway serves once for all its scripts.
import { shown } from "../start.js";

/** After this it is asked for again, if the gateway is away, milliseconds. */
const AGAIN = 2000;

const load = () =>
  new Promise<boolean>((done) => {
    const script = document.createElement("script");
    script.src = "jssip.js";
    script.onload = () => done(true);
    script.onerror = () => {
      script.remove();
      done(false);
    };
    document.head.append(script);
  });

async function loaded(): Promise<void> {
  await shown;
  while (!(await load())) await new Promise((over) => setTimeout(over, AGAIN));
}

let loading: Promise<void> | undefined;

/** Loads it, once and after what is looked at. */
export function jssip(): Promise<void> {
  loading ??= loaded();
  return loading;
}
