// The same way over Kamailio and rtpengine, for comparison in the same run; SIP.js calls, for
// nobody registers there.
import { createSocket } from "node:dgram";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PUBLIC, ROOT, sipjsPage, start, until, work } from "./rig.mjs";

const modules = ["x86_64", "aarch64"].map(
  (cpu) => `/usr/lib/${cpu}-linux-gnu/kamailio/modules/websocket.so`,
);

/** Whether both are here; says so where they are not. */
export function isInstalled() {
  const found = modules.some(existsSync) && existsSync("/usr/bin/rtpengine");
  if (!found)
    console.log("        not compared: `interop/setup.sh bench` installs Kamailio and rtpengine");
  return found;
}

/** Whether somebody answers this datagram, as rtpengine its control port. */
async function isAnswered(question, port) {
  const socket = createSocket("udp4");
  const answered = new Promise((done) => {
    socket.once("message", () => done(true)).on("error", () => done(false));
    setTimeout(done, 200, false);
  });
  socket.connect(port, "127.0.0.1", () => socket.send(question));
  return answered.finally(() => socket.close());
}

/**
 * Calls Asterisk's echo and returns what `body` does of the page. `prepare` runs in the page first
 * and may leave `window.microphone`; media goes through `relay` if one is given.
 */
export async function echoOverKamailio(chrome, { prepare, relay }, body) {
  const rtpengine = start("rtpengine", [
    "--foreground",
    "--table=-1",
    `--interface=${PUBLIC}`,
    "--listen-ng=127.0.0.1:2223",
    "--port-min=52000",
    "--port-max=52999",
    "--log-stderr",
    "--log-level=4",
    `--pidfile=${join(work, "rtpengine.pid")}`,
  ]);
  // Kamailio asks it once as it starts, and passes over one that does not answer for a minute.
  await until("rtpengine answers", () => isAnswered("1 d7:command4:pinge", 2223)).catch((error) => {
    throw new Error(`${error.message}; ${rtpengine.output.slice(-1500)}`);
  });
  const kamailio = start("kamailio", [
    "-f",
    join(ROOT, "interop/kamailio/browsers.cfg"),
    "-DD",
    "-E",
    "-m",
    "64",
    "-w",
    work,
  ]);
  const { page, shop, problems } = await sipjsPage(chrome, 8098);
  await page.exposeFunction("detour", (port) => (relay ? relay.lead(Number(port)) : Number(port)));
  try {
    if (prepare) await page.evaluate(prepare);
    await until("Kamailio takes the line", () =>
      page.evaluate(() =>
        sipjs.join("ws://127.0.0.1:8070/", window.microphone).then(
          () => true,
          () => false,
        ),
      ),
    );
    await page.evaluate(() => sipjs.call("600"));
    const found = await body(page);
    await page.evaluate(() => sipjs.bye());
    return found;
  } catch (error) {
    throw new Error(
      `${error.message}; ${problems}; ${kamailio.output.slice(-1500)}; ${rtpengine.output.slice(-1500)}`,
    );
  } finally {
    await page.context().close();
    shop.close();
    const over = [kamailio, rtpengine].map(
      (child) => new Promise((done) => child.on("exit", done)),
    );
    [kamailio, rtpengine].forEach((child) => child.kill("SIGTERM"));
    await Promise.all(over);
  }
}
