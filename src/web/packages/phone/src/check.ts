// What a person can find out before calling anybody: each finding is fine, or comes with its fix.
import { listDevices } from "./devices.js";
import type { Phone } from "./phone.js";
import { roundTripOf } from "./quality.js";
import { texts } from "./texts.js";
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
    ? { good: true, text: texts().check.heard(dbfs) }
    : { good: false, text: texts().check.silent };
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
    const timer = setTimeout(() => over(false, texts().check.noAnswer), 5000);
    socket.onopen = () => over(true, texts().check.answers);
    socket.onerror = () => over(false, texts().check.unreachable);
  });
}

/** Calls a number that echoes, and judges what comes back. */
async function* checkCall(phone: Phone, echo: string): AsyncGenerator<Finding> {
  const { check: say } = texts();
  const call = phone.call(echo);
  const end = Date.now() + 10_000;
  const answered = () => call.state === "connected";
  while (call.state !== "ended" && !answered() && Date.now() < end) await pause(100);
  if (!answered()) {
    call.hangUp();
    const why = call.end?.text ?? say.callUnanswered;
    yield { good: false, text: say.callFailed(echo, why) };
    return;
  }
  await pause(4000);
  const stats: RTCStatsReport = await call.session.connection.getStats();
  const inbound = [...stats.values()].find((s) => s.type === "inbound-rtp");
  const { packetsReceived = 0, packetsLost = 0, jitter = 0 } = inbound ?? {};
  call.hangUp();
  while (call.state !== "ended") await pause(50);
  if (!packetsReceived) {
    yield { good: false, text: say.noSound };
    return;
  }
  yield { good: true, text: say.sound(packetsReceived) };
  const loss = (100 * packetsLost) / (packetsLost + packetsReceived);
  yield { good: loss < 3, text: say.loss(loss.toFixed(1), loss < 3) };
  const steady = jitter < 0.03;
  yield { good: steady, text: say.jitter(Math.round(1000 * jitter), steady) };
  const trip = roundTripOf(stats);
  if (trip === undefined) return;
  const near = trip < 0.2;
  yield { good: near, text: say.trip(Math.round(1000 * trip), near) };
}

/** Checks registration, microphone, and sound both ways by a call to `echo`. */
export async function* checkLine(phone: Phone, echo = "9196"): AsyncGenerator<Finding> {
  const ready = phone.ready;
  yield {
    good: ready,
    text: ready ? texts().check.registered : texts().check.notRegistered,
  };
  const microphone = await checkMicrophone(phone.callOptions.mediaConstraints);
  yield microphone;
  if (ready && microphone.good) yield* checkCall(phone, echo);
}
