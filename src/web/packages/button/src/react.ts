import { createElement, type HTMLAttributes, type ReactElement, useEffect, useRef } from "react";
import type { CallButton as CallButtonElement, CallButtonEvents } from "./element.js";
import "./index.js";

type Listeners = {
  [Name in keyof CallButtonEvents as `on${Capitalize<Name>}`]?: (
    detail: CallButtonEvents[Name]["detail"],
  ) => void;
};

type Attributes = Omit<HTMLAttributes<HTMLElement>, keyof Listeners>;

export interface CallButtonProps extends Listeners, Attributes {
  to: string;
  tokenUrl: string;
  label?: string;
  /** The language it speaks, instead of the one of the element around it. */
  lang?: string;
  size?: "small" | "medium" | "large";
  icon?: "phone" | "none";
  /** Which of `timer`, `mute` and `keypad` are shown in a call, separated by blanks. */
  controls?: string;
  /** Checks gateway and microphone before it calls. */
  check?: boolean;
  server?: string;
}

const EVENTS = ["calling", "ringing", "connected", "ended", "failed"] as const;

/** `<call-button>` as a component, its events as properties. */
export function CallButton(props: CallButtonProps): ReactElement {
  const { tokenUrl, check, onCalling, onRinging, onConnected, onEnded, onFailed, ...rest } = props;
  const element = useRef<CallButtonElement>(null);
  const listeners = useRef<Listeners>({});
  listeners.current = { onCalling, onRinging, onConnected, onEnded, onFailed };
  useEffect(() => {
    const own = element.current;
    const hear = (event: Event) => {
      const name = `on${event.type[0].toUpperCase()}${event.type.slice(1)}` as keyof Listeners;
      listeners.current[name]?.((event as CustomEvent).detail);
    };
    for (const name of EVENTS) own?.addEventListener(name, hear);
    return () => {
      for (const name of EVENTS) own?.removeEventListener(name, hear);
    };
  }, []);
  return createElement("call-button", {
    ...rest,
    ref: element,
    "token-url": tokenUrl,
    ...(check && { check: "" }),
  });
}
