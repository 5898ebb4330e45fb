// What the record says of a call, line by line, for the page and for the report.

import type { Call, Leg } from "./api";
import { t } from "./texts";

/** The side of a call that its record names by a user or a number. */
export const callerOf = ({ from }: Call) =>
  from.name || (from.user.startsWith("trunk:") && from.number ? from.number : from.user);

export const calleeOf = ({ to }: Call) => to.number || to.dialled;

function legFigures(leg: Leg) {
  const { call: say } = t;
  return [
    leg.codec,
    say.received(leg.packets_in),
    say.lost(leg.packets_lost),
    say.sent(leg.packets_out),
    leg.jitter_ms == null ? null : say.jitterOf(leg.jitter_ms),
    leg.rtt_ms == null ? null : say.rttOf(leg.rtt_ms),
    leg.loss_reported == null || leg.jitter_reported_ms == null
      ? null
      : say.reportedOf(leg.loss_reported, leg.jitter_reported_ms),
    say.mosOf(leg.mos_in_estimated ?? t.none, leg.mos_out_estimated ?? t.none),
    leg.srtp,
  ]
    .filter(Boolean)
    .join(", ");
}

/** How a reader has what is no plain text. */
export interface Written<Part> {
  /** A time. */
  moment(at: string): Part;
  /** Words of the gateway or of the other side, which are English. */
  quoted(text: string): Part;
}

/** Each fact with its name. */
export function factsOf<Part>(
  call: Call,
  { moment, quoted }: Written<Part>,
): [string, string | Part | null][] {
  const { call: say, calls } = t;
  const { from, to } = call;
  const caller = [
    from.user,
    from.name && `“${from.name}”`,
    from.number !== from.user && from.number,
  ];
  const tried = call.attempts.map((a) => `${a.target}: ${a.code} (${a.ms} ms)`).join(", ");
  const legs = call.legs.filter((leg) => leg.codec);
  return [
    [say.from, caller.filter(Boolean).join(" ")],
    [say.shown, from.shown],
    [say.device, from.ua],
    [say.to, to.dialled],
    [say.normalised, to.number !== to.dialled ? to.number : null],
    [say.route, call.route ? `${call.route} (${call.context})` : null],
    [say.tried, tried || say.nobody],
    [say.began, moment(call.start)],
    [say.answered, call.answer && moment(call.answer)],
    [say.setUp, call.setup_ms == null ? null : `${call.setup_ms} ms`],
    [calls.outcome, calls.outcomes[call.outcome ?? ""] ?? call.outcome],
    [say.hungUpBy, call.hangup_by && (say.enders[call.hangup_by] ?? call.hangup_by)],
    [say.reason, call.why && quoted(`${call.sip_code ?? ""} ${call.why}`.trim())],
    ...legs.map((leg): [string, string] => [say.sidesOf[leg.leg] ?? leg.leg, legFigures(leg)]),
    ...Object.entries(call.tags ?? {}),
  ];
}
