import { useEffect, useReducer, useState } from "react";
import type { Call } from "./call.js";
import type { Line } from "./line.js";
import { Phone, type PhoneOptions } from "./phone.js";

export interface UsePhone {
  /** `null` until options are given, and on the server. */
  phone: Phone | null;
  line: Line;
  calls: readonly Call[];
  active: Call | null;
}

/**
 * A phone that lives as long as the component, and renders it again whenever something changes.
 * Another `server`, `uri` or secret makes another phone; `null` makes none.
 */
export function usePhone(options: PhoneOptions | null): UsePhone {
  const [phone, setPhone] = useState<Phone | null>(null);
  const [, render] = useReducer((n: number) => n + 1, 0);
  const key = options && JSON.stringify([options.server, options.uri, secretOf(options)]);
  // The key stands for the options, which are another object at every rendering.
  useEffect(() => {
    if (!options) return;
    const own = new Phone(options);
    const stop = own.on("change", render);
    setPhone(own);
    // Failures are reported by `line`.
    own.start().catch(() => {});
    return () => {
      stop();
      own.stop();
      setPhone(null);
    };
  }, [key]);
  return {
    phone,
    line: phone?.line ?? { state: "stopped" },
    calls: phone?.calls ?? [],
    active: phone?.active ?? null,
  };
}

const secretOf = ({ password, ha1, jwt }: PhoneOptions) => password ?? ha1 ?? jwt;

/** Renders the component every second during `call`; returns its seconds. */
export function useSeconds(call: Call | null): number {
  const [, render] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    if (!call) return;
    const timer = setInterval(render, 500);
    return () => clearInterval(timer);
  }, [call]);
  return call?.seconds ?? 0;
}
