// What the gateway serves as /call-button.js. JsSIP is loaded from there on the first press.
import { defineCallButton } from "./element.js";

const gateway = new URL(".", (document.currentScript as HTMLScriptElement).src);
let library: Promise<void> | null = null;

function load(): Promise<void> {
  library ??= new Promise((done, lost) => {
    const script = Object.assign(document.createElement("script"), {
      src: new URL("jssip.js", gateway).href,
      onload: () => done(),
      onerror: () => {
        library = null;
        lost(new Error(`${script.src} cannot be loaded`));
      },
    });
    document.head.append(script);
  });
  return library;
}

defineCallButton({ load: () => load().then(() => import("@webtrunk/phone")), gateway });
