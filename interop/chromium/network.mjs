// A bad network between browser and gateway: a relay of UDP that loses in bursts, delays,
// overtakes, and moves.
import { createSocket } from "node:dgram";
import { echoOverKamailio, isInstalled } from "./kamailio.mjs";
import {
  PUBLIC,
  cdrs,
  connected,
  dial,
  equal,
  hears,
  hearsNothing,
  over,
  phone,
  recordOf,
  stats,
  test,
} from "./rig.mjs";

/** The ports of the gateway's two workers for browsers, and the relay's in front of each. */
const PORTS = [
  [8090, 8190],
  [8091, 8191],
];

/** Bursts of one to four packets; the same every time. */
class Bursts {
  constructor(share, seed) {
    Object.assign(this, { share, state: seed, left: 0 });
  }
  chance() {
    this.state = (Math.imul(this.state, 1103515245) + 12345) >>> 0;
    return this.state / 2 ** 32;
  }
  lose() {
    if (this.left > 0) {
      this.left--;
      return true;
    }
    // Runs are 2.5 packets long on average.
    if (this.chance() < this.share / 2.5) {
      this.left = Math.floor(this.chance() * 4);
      return true;
    }
    return false;
  }
}

class Relay {
  constructor({ loss = 0, jitter = 0 } = {}) {
    Object.assign(this, { loss: [new Bursts(loss, 11), new Bursts(loss, 23)], jitter, open: true });
    this.outers = PORTS.map(([gateway, port]) => {
      const outer = createSocket("udp4");
      outer.on("message", (data, from) => {
        this.back = (answer) => outer.send(answer, from.port, from.address);
        this.pass(0, data, () => this.inner.send(data, this.led ?? gateway, PUBLIC));
      });
      outer.bind(port, PUBLIC);
      return outer;
    });
    this.move();
  }
  /** The browser's address, as the gateway sees it, is another from now on. */
  move() {
    this.inner?.close();
    const inner = createSocket("udp4");
    inner.on("message", (data) => this.pass(1, data, () => this.back(data)));
    inner.bind(0, PUBLIC);
    this.inner = inner;
  }
  /** What comes goes to `port`, whoever it was for; returns ours. */
  lead(port) {
    this.led = port;
    return PORTS[0][1];
  }
  pass(way, data, send) {
    // Checks and handshakes have their own retransmissions and tests: what is judged here is sound.
    const media = data[0] >= 128 && data[0] < 192;
    if (!this.open || (media && this.loss[way].lose())) return;
    if (media && this.jitter)
      setTimeout(() => {
        try {
          send();
        } catch {
          /* moved or closed meanwhile */
        }
      }, this.loss[way].chance() * this.jitter);
    else send();
  }
  close() {
    this.open = false;
    this.inner.close();
    this.outers.forEach((outer) => outer.close());
  }
}

/**
 * A call to `number` from a page of its own, in whose answers each [found, put] was replaced; its
 * record.
 */
async function call(chrome, number, changes, body) {
  const page = await phone(chrome());
  await page.evaluate(
    (changes) =>
      webtrunkPhone.ua.on("newRTCSession", ({ session }) =>
        session.on("sdp", (event) => {
          if (event.originator !== "remote") return;
          for (const [found, put] of changes) event.sdp = event.sdp.replaceAll(found, put);
        }),
      ),
    changes,
  );
  try {
    const [cdr] = await recordOf(async () => {
      await dial(page, number);
      await connected(page);
      await body(page);
      await page.click("#hangup");
      await over(page);
    });
    return cdr;
  } finally {
    await page.context().close();
  }
}

/** The same with its media by `relay`. */
async function callBy(relay, chrome, number, body) {
  const ways = PORTS.map(([gateway, port]) => [` ${gateway} typ host`, ` ${port} typ host`]);
  try {
    return await call(chrome, number, ways, body);
  } finally {
    relay.close();
  }
}

function inbound(stats) {
  const [rtp] = stats["inbound-rtp"];
  const concealed = (100 * rtp.concealedSamples) / rtp.totalSamplesReceived;
  return {
    lost: rtp.packetsLost,
    concealed,
    buffer: (1000 * rtp.jitterBufferDelay) / rtp.jitterBufferEmittedCount,
  };
}

export function network(chrome) {
  for (const [loss, jitter] of [
    [0.03, 20],
    [0.1, 40],
  ]) {
    test(`a network that loses ${loss * 100} % in bursts and delays by up to ${jitter} ms: the tone is heard both ways`, async () => {
      const relay = new Relay({ loss, jitter });
      let found;
      const cdr = await callBy(relay, chrome, "600", async (page) => {
        await hears(page, 440);
        await page.waitForTimeout(8000);
        await hears(page, 440);
        found = inbound(await stats(page));
      });
      console.log(
        `        Chromium concealed ${found.concealed.toFixed(1)} % (${found.lost} packets lost), its buffer held ${found.buffer.toFixed(0)} ms; estimated MOS in ${cdr.legs[0].mos_in_estimated}, out ${cdr.legs[0].mos_out_estimated}`,
      );
      if (isInstalled()) {
        const other = new Relay({ loss, jitter });
        const theirs = await echoOverKamailio(chrome(), { relay: other }, async (page) => {
          await hears(page, 440);
          await page.waitForTimeout(8700);
          return inbound(await page.evaluate(() => sipjs.stats()));
        }).finally(() => other.close());
        console.log(
          `        over Kamailio and rtpengine: ${theirs.concealed.toFixed(1)} % concealed (${theirs.lost} lost), ${theirs.buffer.toFixed(0)} ms held`,
        );
        if (theirs.lost < 5) throw new Error("nothing was lost on the other way");
      }
      if (found.concealed > 60 * loss + 15) throw new Error(`${found.concealed} % concealed`);
      if (cdr.legs[0].packets_lost < 5) throw new Error("nothing was lost");
      if (!(cdr.legs[0].mos_in_estimated < 4.3 && cdr.legs[0].mos_in_estimated > 1))
        throw new Error(`estimated as ${cdr.legs[0].mos_in_estimated}`);
    });
  }

  test("a browser whose address changes in mid call is heard again, without a SIP message", async () => {
    const relay = new Relay();
    let renegotiated;
    await callBy(relay, chrome, "600", async (page) => {
      await hears(page, 440);
      await page.evaluate(() => {
        window.reinvites = 0;
        webtrunkPhone.session.on("reinvite", () => {
          window.reinvites++;
        });
      });
      for (let n = 0; n < 2; n++) {
        relay.move();
        const began = Date.now();
        await hears(page, 440, 10);
        console.log(
          `        heard again ${((Date.now() - began) / 1000).toFixed(1)} s after the move`,
        );
      }
      renegotiated = await page.evaluate(() => window.reinvites);
    });
    equal(renegotiated, 0, "re-INVITEs");
  });

  test("an ICE restart by re-INVITE keeps the call, and the tone goes on", async () => {
    const transport = async (page) => (await stats(page)).transport[0];
    let before, after;
    await call(chrome, "600", [], async (page) => {
      await hears(page, 440);
      before = await transport(page);
      await page.evaluate(
        () =>
          new Promise((done, failed) => {
            const { session } = webtrunkPhone;
            if (!session.renegotiate({ rtcOfferConstraints: { iceRestart: true } }, done))
              failed(new Error("no renegotiation now"));
          }),
      );
      await hears(page, 440);
      await page.waitForTimeout(1500);
      await hears(page, 440);
      after = await transport(page);
    });
    if (after.iceLocalUsernameFragment === before.iceLocalUsernameFragment)
      throw new Error("nothing was restarted");
    equal(after.dtlsState, "connected", "DTLS");
  });

  test("a browser that stops sending in silence (Opus DTX) is a stream without a pause to the trunk", async () => {
    const cdr = await call(
      chrome,
      "600",
      [["useinbandfec=1", "useinbandfec=1;usedtx=1"]],
      async (page) => {
        await hears(page, 440);
        await page.evaluate(() => webtrunkPhone.session.mute());
        await page.waitForTimeout(6000);
        await page.evaluate(() => webtrunkPhone.session.unmute());
        await hears(page, 440);
      },
    );
    const [came, went] = [cdr.legs[0].packets_in, cdr.legs[1].packets_out],
      time = cdr.billable_s * 50;
    console.log(
      `        ${came} packets came from the browser, ${went} went to the trunk, in ${cdr.billable_s.toFixed(1)} s`,
    );
    if (came > time - 150) throw new Error("the browser did not stop sending");
    if (went < time - 40 || went > time + 10)
      throw new Error(`${went} packets where ${time} are a stream`);
  });

  test("a network that is gone for eight seconds is told, and does not end the call", async () => {
    const relay = new Relay();
    const before = cdrs().length;
    await callBy(relay, chrome, "600", async (page) => {
      await hears(page, 440);
      relay.open = false;
      await hearsNothing(page);
      await page.waitForFunction(() =>
        /interrupted/.test(document.getElementById("state").textContent),
      );
      await page.waitForTimeout(2000);
      relay.open = true;
      await hears(page, 440, 12);
      await connected(page);
    });
    equal(cdrs().length, before + 1, "records");
  });
}
