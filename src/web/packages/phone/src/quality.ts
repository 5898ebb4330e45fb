// How a call sounds, judged from what the browser counts, every two seconds.

import { texts } from "./texts.js";

export type Mark = "good" | "fair" | "bad" | "none";

/** How a call sounds at the moment, and why it does not sound better. */
export interface Quality {
  mark: Mark;
  /** A sentence; empty while the mark is good. */
  reason: string;
  /** Share of packets lost in the last two seconds, 0 to 1: what we hear, and what they hear. */
  lossIn: number;
  lossOut: number;
  /** Milliseconds. */
  jitter: number;
  roundTrip: number | null;
}

/** What is counted since the call began. */
export interface Counters {
  received: number;
  lost: number;
  jitter: number;
  lossOut: number;
  roundTrip: number | null;
}

/**
 * Seconds to the gateway and back by the candidate pair in use. Others may be nominated beside it,
 * as after an ICE restart.
 */
export function roundTripOf(stats: RTCStatsReport): number | undefined {
  const all = [...stats.values()];
  const used = all.find((s) => s.type === "transport")?.selectedCandidatePairId;
  // Firefox has no transport there, and marks the pair itself.
  const pair = used ? stats.get(used) : all.find((s) => s.type === "candidate-pair" && s.selected);
  return pair?.currentRoundTripTime;
}

export async function count(connection: RTCPeerConnection): Promise<Counters> {
  const found: Counters = { received: 0, lost: 0, jitter: 0, lossOut: 0, roundTrip: null };
  const stats = await connection.getStats();
  stats.forEach((s) => {
    if (s.type === "inbound-rtp") {
      found.received += s.packetsReceived ?? 0;
      found.lost += s.packetsLost ?? 0;
      found.jitter = Math.max(found.jitter, 1000 * (s.jitter ?? 0));
    }
    if (s.type === "remote-inbound-rtp") {
      found.lossOut = s.fractionLost ?? 0;
      if (s.roundTripTime !== undefined) found.roundTrip = 1000 * s.roundTripTime;
    }
  });
  const trip = roundTripOf(stats);
  if (trip !== undefined) found.roundTrip ??= 1000 * trip;
  return found;
}

/** Judges what happened between two counts. */
export function judge(before: Counters, now: Counters): Quality {
  const { quality: say } = texts();
  const received = now.received - before.received;
  const lost = Math.max(0, now.lost - before.lost);
  const lossIn = received + lost > 0 ? lost / (received + lost) : 0;
  const { jitter, lossOut, roundTrip } = now;
  const figures = { lossIn, lossOut, jitter, roundTrip };
  if (received === 0) return { mark: "none", reason: say.none, ...figures };
  const worse: [number, number, number, string][] = [
    [lossIn, 0.015, 0.05, say.lossIn(lossIn)],
    [lossOut, 0.015, 0.05, say.lossOut(lossOut)],
    [jitter, 30, 60, say.jitter(Math.round(jitter))],
    [roundTrip ?? 0, 250, 400, say.far(Math.round(roundTrip ?? 0))],
  ];
  const at = (limit: 1 | 2) => worse.find((row) => row[0] >= row[limit]);
  const found = at(2) ?? at(1);
  if (!found) return { mark: "good", reason: "", ...figures };
  return { mark: at(2) ? "bad" : "fair", reason: found[3], ...figures };
}
