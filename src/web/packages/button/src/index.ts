// Makes `<call-button>` known by being imported.
import { defineCallButton } from "./element.js";

defineCallButton({ load: () => import("@webtrunk/phone"), gateway: null });

export { CallButton, type CallButtonEvents, defineCallButton, type Source } from "./element.js";
export { type ButtonTexts, languages } from "./texts.js";
