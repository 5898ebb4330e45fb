import { texts } from "./texts.js";

/** A microphone or a loudspeaker, by the name the system gives it. */
export interface Device {
  id: string;
  name: string;
}

export interface Devices {
  microphones: Device[];
  speakers: Device[];
}

/** All devices; their names are known once the microphone was allowed. */
export async function listDevices(): Promise<Devices> {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const of = (kind: MediaDeviceKind, word: string) =>
    all
      .filter((device) => device.kind === kind && device.deviceId)
      .map((device, n) => ({ id: device.deviceId, name: device.label || `${word} ${n + 1}` }));
  return {
    microphones: of("audioinput", texts().devices.microphone),
    speakers: of("audiooutput", texts().devices.speaker),
  };
}

/** Whether this browser can play on a device that is chosen. */
export const canChooseSpeaker = (): boolean =>
  typeof HTMLMediaElement !== "undefined" && "setSinkId" in HTMLMediaElement.prototype;
