// Debian's Firefox, driven over WebDriver BiDi, and a sound server without a sound card for it.
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { firefox } from "playwright-core";
import { start, until, work } from "./rig.mjs";

/** Firefox opens no AudioContext where there is nothing to play it by. */
async function soundServer() {
  const folder = join(work, "pulse");
  mkdirSync(folder, { recursive: true });
  const socket = join(folder, "native");
  const server = start(
    "pulseaudio",
    [
      "-n",
      "--daemonize=no",
      "--exit-idle-time=-1",
      "--use-pid-file=no",
      "-L",
      "module-null-sink sink_name=nothing rate=48000",
      "-L",
      `module-native-protocol-unix auth-anonymous=1 socket=${socket}`,
    ],
    { env: { ...process.env, HOME: folder, XDG_RUNTIME_DIR: folder } },
  );
  // Firefox is started once, for all its cases.
  server.stays = true;
  await until("the sound server is up", () => existsSync(socket));
  return `unix:${socket}`;
}

/** Its microphone says 440 Hz, as Chromium's does. */
export async function firefoxBrowser() {
  const env = { ...process.env, PULSE_SERVER: await soundServer(), MOZ_CRASHREPORTER_DISABLE: "1" };
  return firefox.launch({
    channel: "moz-firefox",
    executablePath: "/usr/bin/firefox-esr",
    env,
    firefoxUserPrefs: {
      "app.update.enabled": false,
      "datareporting.policy.dataSubmissionEnabled": false,
      "media.autoplay.block-webaudio": false,
      "media.autoplay.default": 0,
      "media.devices.insecure.enabled": true,
      "media.getusermedia.insecure.enabled": true,
      "media.navigator.audio.fake_frequency": 440,
      "media.navigator.permission.disabled": true,
      "media.navigator.streams.fake": true,
      "media.peerconnection.ice.loopback": true,
      "media.peerconnection.ice.obfuscate_host_addresses": false,
      "network.captive-portal-service.enabled": false,
      "network.connectivity-service.enabled": false,
    },
  });
}
