// From the page to Asterisk's echo and back, by the clock of the page's own samples, beside a loop
// within the page.
import { echoOverKamailio, isInstalled } from "./kamailio.mjs";
import { connected, dial, over, phone, recordOf, test } from "./rig.mjs";

/** Run in the page: a context that clicks every half second, and measures when it hears itself. */
function install() {
  const context = new AudioContext({ latencyHint: 0, sampleRate: 48000 });
  const tone = new OscillatorNode(context, { frequency: 1000 });
  const gate = new GainNode(context, { gain: 0 });
  const out = context.createMediaStreamDestination();
  tone.connect(gate).connect(out);
  tone.start();
  for (let at = context.currentTime + 0.5; at < context.currentTime + 120; at += 0.5) {
    gate.gain.setValueAtTime(0.5, at);
    gate.gain.setValueAtTime(0, at + 0.04);
  }
  /** Milliseconds from each click to its return on `track`. */
  const measure = (track, seconds) =>
    new Promise((done) => {
      const back = context.createMediaStreamSource(new MediaStream([track]));
      const both = context.createChannelMerger(2);
      gate.connect(both, 0, 0);
      back.connect(both, 0, 1);
      const ear = context.createScriptProcessor(256, 2, 1);
      const onsets = [[], []],
        loud = [-1e9, -1e9];
      let sample = 0;
      ear.onaudioprocess = ({ inputBuffer }) => {
        for (const side of [0, 1]) {
          const heard = inputBuffer.getChannelData(side);
          for (let n = 0; n < heard.length; n++) {
            if (Math.abs(heard[n]) < 0.05) continue;
            // A click begins where a quarter of a second was silent before.
            if (sample + n - loud[side] > context.sampleRate / 4) onsets[side].push(sample + n);
            loud[side] = sample + n;
          }
        }
        sample += inputBuffer.length;
      };
      both.connect(ear).connect(context.destination);
      setTimeout(() => {
        ear.disconnect();
        const times = onsets[0]
          .map((sent) => onsets[1].find((heard) => heard > sent) - sent)
          .filter((t) => t < context.sampleRate / 2);
        done(times.map((t) => (1000 * t) / context.sampleRate).sort((a, b) => a - b));
      }, seconds * 1000);
    });
  window.latency = { stream: out.stream, measure };
  window.microphone = out.stream;
}

/** Run in the page: the same through two connections of its own. */
async function loopback() {
  const [near, far] = [new RTCPeerConnection(), new RTCPeerConnection()];
  near.onicecandidate = ({ candidate }) => far.addIceCandidate(candidate);
  far.onicecandidate = ({ candidate }) => near.addIceCandidate(candidate);
  const track = new Promise((found) => {
    far.ontrack = (event) => found(event.track);
  });
  near.addTrack(latency.stream.getAudioTracks()[0], latency.stream);
  await near.setLocalDescription();
  await far.setRemoteDescription(near.localDescription);
  await far.setLocalDescription();
  await near.setRemoteDescription(far.localDescription);
  const audio = new Audio();
  audio.srcObject = new MediaStream([await track]);
  audio.play();
  await new Promise((next) => setTimeout(next, 2000));
  const times = await latency.measure(await track, 10);
  near.close();
  far.close();
  return times;
}

const median = (times) => times[Math.floor(times.length / 2)];

const describe = (times) =>
  `${median(times).toFixed(0)} ms (${times.length} clicks, ${times[0].toFixed(0)} to ${times.at(-1).toFixed(0)})`;

export function latency(chrome) {
  let ours;
  test("from the page to Asterisk's echo and back costs little more than a loop within the page", async () => {
    const page = await phone(chrome());
    await page.evaluate(install);
    const within = await page.evaluate(loopback);
    await page.evaluate(() =>
      Object.assign(webtrunkPhone.options, { mediaStream: window.latency.stream }),
    );
    let echoed;
    await recordOf(async () => {
      await dial(page, "600");
      await connected(page);
      await page.waitForTimeout(2000);
      echoed = await page.evaluate(() =>
        window.latency.measure(webtrunkPhone.session.connection.getReceivers()[0].track, 15),
      );
      await page.click("#hangup");
      await over(page);
    });
    await page.context().close();
    console.log(
      `        ${describe(echoed)} by Asterisk, ${median(within).toFixed(0)} ms within the page`,
    );
    ours = echoed;
    if (echoed.length < 15 || within.length < 10)
      throw new Error(`only ${echoed.length} and ${within.length} clicks came back`);
    // One more Opus encoder (its look-ahead is 6.5 ms) and two hops; a held-back frame on either
    // way would be 20 ms.
    if (median(echoed) > median(within) + 30)
      throw new Error(`${median(echoed)} ms, ${median(within)} ms within the page`);
  });

  test("from the page to Asterisk's echo takes longer over Kamailio and rtpengine", async () => {
    if (!isInstalled()) return;
    if (!ours) return console.log("        not compared: it goes with the case before");
    const theirs = await echoOverKamailio(chrome(), { prepare: install }, async (page) => {
      await page.waitForTimeout(2000);
      return page.evaluate(() => window.latency.measure(sipjs.track(), 15));
    });
    console.log(
      `        ${describe(theirs)} by Asterisk over Kamailio and rtpengine, ${median(ours).toFixed(0)} ms over webtrunk`,
    );
    if (theirs.length < 15) throw new Error(`only ${theirs.length} clicks came back`);
    if (median(theirs) < median(ours)) throw new Error("they are faster");
  });
}
