// What a person can find out before calling anybody: each finding is fine, or comes with its fix.
import { listDevices } from "./devices.js";
import type { Phone } from "./phone.js";
import { roundTripOf } from "./quality.js";
import { microphoneProblem, microphoneText } from "./words.js";

export interface Finding {
  good: boolean;
  text: string;
}

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Opens the microphone for a moment and listens to it. */
export async function checkMicrophone(constraints: MediaStreamConstraints): Promise<Finding> {
  let stream: MediaStream;
  try {
    if (!navigator.mediaDevices) throw new DOMException("", "NotAllowedError");
    stream = await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    return { good: false, text: microphoneText(microphoneProblem(error as Error)) };
  }
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  const samples = new Float32Array(analyser.fftSize);
  context.createMediaStreamSource(stream).connect(analyser);
  let peak = 0;
  for (let n = 0; n < 15; n++) {
    await pause(100);
    analyser.getFloatTimeDomainData(samples);
    peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), peak);
  }
  stream.getTracks().forEach((track) => track.stop());
  await context.close();
  await listDevices();
  const dbfs = Math.round(20 * Math.log10(peak));
  return peak > 0.001
    ? { good: true, text: `The microphone hears something (${dbfs} dBFS at its peak).` }
    : { good: false, text: "The microphone is silent: is it muted, or is it another one?" };
}

/** Whether a SIP connection to the gateway opens from here; fulfilled within five seconds. */
export function checkGateway(server: string): Promise<Finding> {
  return new Promise((done) => {
    const socket = new WebSocket(server, "sip");
    const over = (good: boolean, text: string) => {
      clearTimeout(timer);
      socket.close();
      done({ good, text });
    };
    const timer = setTimeout(() => over(false, "The gateway did not answer in 5 s."), 5000);
    socket.onopen = () => over(true, "The gateway answers.");
    socket.onerror = () =>
      over(false, "The gateway cannot be reached, or this page's origin is not in web.origins.");
  });
}

/** Calls a number that echoes, and judges what comes back. */
async function* checkCall(phone: Phone, echo: string): AsyncGenerator<Finding> {
  const call = phone.call(echo);
  const end = Date.now() + 10_000;
  const answered = () => call.state === "connected";
  while (call.state !== "ended" && !answered() && Date.now() < end) await pause(100);
  if (!answered()) {
    call.hangUp();
    yield {
      good: false,
      text: `The test call to ${echo} failed: ${call.end?.text ?? "no answer"}`,
    };
    return;
  }
  await pause(4000);
  const stats: RTCStatsReport = await call.session.connection.getStats();
  const inbound = [...stats.values()].find((s) => s.type === "inbound-rtp");
  const { packetsReceived = 0, packetsLost = 0, jitter = 0 } = inbound ?? {};
  call.hangUp();
  while (call.state !== "ended") await pause(50);
  if (!packetsReceived) {
    const why = "UDP to the gateway is blocked on the way.";
    yield { good: false, text: `The call was answered, but no sound arrived: ${why}` };
    return;
  }
  const heard = `Sound arrives in both directions: ${packetsReceived} packets in four seconds.`;
  yield { good: true, text: heard };
  const loss = (100 * packetsLost) / (packetsLost + packetsReceived);
  const lossy = loss < 3 ? "." : ": the network is bad; a cable helps.";
  yield { good: loss < 3, text: `${loss.toFixed(1)} % were lost${lossy}` };
  const steady = jitter < 0.03;
  const uneven = steady ? "." : ": too much for a good call; a cable helps.";
  yield { good: steady, text: `Jitter is ${Math.round(1000 * jitter)} ms${uneven}` };
  const trip = roundTripOf(stats);
  if (trip === undefined) return;
  const far = trip < 0.2 ? "." : ": people will interrupt each other.";
  const ms = Math.round(1000 * trip);
  yield { good: trip < 0.2, text: `The gateway is ${ms} ms away, there and back${far}` };
}

/** Checks registration, microphone, and sound both ways by a call to `echo`. */
export async function* checkLine(phone: Phone, echo = "9196"): AsyncGenerator<Finding> {
  const ready = phone.ready;
  yield {
    good: ready,
    text: ready ? "You are registered." : "There is no connection to the gateway.",
  };
  const microphone = await checkMicrophone(phone.callOptions.mediaConstraints);
  yield microphone;
  if (ready && microphone.good) yield* checkCall(phone, echo);
}
