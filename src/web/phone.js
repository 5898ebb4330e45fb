// The phone page. JsSIP speaks SIP; everything a person sees or hears is here.
"use strict";

const $ = (id) => document.getElementById(id);
const NUMBERS = [
  ["9196", "hear yourself"],
  ["9195", "hear yourself 5 s later"],
  ["9197", "1 kHz tone"],
  ["9198", "a tune"],
  ["9101", "ring the other open page"],
  ["+12065550123", "out over a SIP trunk and back"],
];
// What a person can do about it; the gateway's own sentence comes with it in Reason.
const WORDS = {
  403: "This number or account is not allowed.",
  404: "There is no route for this number.",
  408: "No answer from the other side.",
  480: "Nobody answered, or the person is not available.",
  486: "The line is busy.",
  487: "The call was cancelled.",
  488: "The two sides have no audio format in common.",
  502: "The trunk did not accept the gateway's credentials.",
  503: "The gateway does not accept calls at the moment.",
  603: "The call was declined.",
};
const CAUSES = {
  "User Denied Media Access":
    "The microphone is blocked. Allow it in the address bar and call again.",
  "Connection Error": "The connection to the gateway was lost.",
  "Request Timeout": "The gateway did not respond.",
  "WebRTC Error": "The browser could not set up audio.",
};

let ua = null,
  session = null,
  ticking = null,
  meter = null;

function line(state, text) {
  $("line").dataset.state = state;
  $("line").textContent = text;
}

function reasonText(message) {
  const reason = message?.getHeader?.("Reason");
  const found = reason && /text="((?:[^"\\]|\\.)*)"/.exec(reason);
  return found ? found[1].replace(/\\(.)/g, "$1") : "";
}

function explain(event) {
  if (event.cause === "Terminated" || event.cause === "Canceled") return "";
  const status = event.message?.status_code;
  const said = reasonText(event.message);
  const own = WORDS[status] || CAUSES[event.cause] || `The call failed: ${event.cause}.`;
  return said ? `${own} (${said})` : own;
}

function show() {
  const active = session !== null;
  $("call").hidden = !active;
  $("dialler").hidden = active && !session.isEstablished();
  $("dial").disabled = active || !ua?.isRegistered();
  if (!active) return;
  const ringing = session.direction === "incoming" && !session.isEstablished();
  $("answer").hidden = !ringing;
  $("mute").hidden = $("hold").hidden = $("hand-over").hidden = !session.isEstablished();
  $("mute").setAttribute("aria-pressed", String(session.isMuted().audio));
  $("hold").setAttribute("aria-pressed", String(session.isOnHold().local));
  $("progress").hidden = ringing;
  $("hangup").textContent = ringing ? "Decline" : "Hang up";
  $("dial").hidden = active;
}

function state(text) {
  $("state").textContent = text;
}

function startClock() {
  const start = Date.now();
  clearInterval(ticking);
  ticking = setInterval(() => {
    const s = Math.floor((Date.now() - start) / 1000);
    $("clock").textContent = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
  }, 250);
}

/** Shows a stream's peaks in a meter until the returned function is called. */
function watchLevel(stream, id) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  const samples = new Float32Array(analyser.fftSize);
  context.createMediaStreamSource(stream).connect(analyser);
  const draw = () => {
    analyser.getFloatTimeDomainData(samples);
    $(id).value = samples.reduce((max, s) => Math.max(max, Math.abs(s)), 0);
  };
  const timer = setInterval(draw, 100);
  return () => {
    clearInterval(timer);
    context.close();
    $(id).value = 0;
  };
}

function watch(stream) {
  if (meter) meter();
  const own = session?.connection?.getSenders().find((s) => s.track);
  const meters = [
    watchLevel(stream, "level"),
    ...(own ? [watchLevel(new MediaStream([own.track]), "own-level")] : []),
  ];
  meter = () => meters.forEach((stop) => stop());
}

function attach(connection) {
  connection.addEventListener("track", (event) => {
    const stream = event.streams[0] || new MediaStream([event.track]);
    $("remote").srcObject = stream;
    watch(stream);
  });
}

function over(text) {
  if (meter) {
    meter();
    meter = null;
  }
  clearInterval(ticking);
  $("clock").textContent = "0:00";
  session = null;
  hideTransfer();
  $("verdict").textContent = text;
  $("dial").hidden = false;
  show();
  $("number").focus();
}

function follow(fresh) {
  if (session) {
    fresh.terminate({ status_code: 486 });
    return;
  }
  session = fresh;
  $("verdict").textContent = "";
  $("peer").textContent = fresh.remote_identity.display_name || fresh.remote_identity.uri.user;
  state(fresh.direction === "incoming" ? "is calling" : "Calling…");
  if (fresh.connection) attach(fresh.connection);
  fresh.on("peerconnection", (event) => attach(event.peerconnection));
  fresh.on("progress", (event) => {
    if (event.originator !== "local")
      state(event.response?.body ? "Ringing (you hear the far end)" : "Ringing…");
  });
  fresh.on("accepted", () => {
    state("Connected");
    startClock();
    show();
  });
  fresh.on("confirmed", show);
  fresh.on("hold", () => {
    state("On hold");
    show();
  });
  fresh.on("unhold", () => {
    state("Connected");
    show();
  });
  fresh.on("muted", show);
  fresh.on("unmuted", show);
  fresh.on("failed", (event) => over(explain(event)));
  fresh.on("ended", (event) =>
    over(
      event.originator === "local"
        ? ""
        : explain(event) || reasonText(event.message).replace(/^normal call clearing$/, ""),
    ),
  );
  show();
  if (fresh.direction === "incoming") $("answer").focus();
  else $("hangup").focus();
}

// One candidate is enough: the gateway answers checks from wherever they come.
function atOnce(fresh) {
  fresh.on("icecandidate", (event) => event.ready());
}

const OPTIONS = {
  mediaConstraints: {
    audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    video: false,
  },
  pcConfig: { iceServers: [], bundlePolicy: "max-bundle" },
};

function call(number) {
  const target = number.replace(/[\s().-]/g, "");
  if (!target || session || !ua) return;
  ua.call(target, { ...OPTIONS, eventHandlers: {} });
}

function press(digit) {
  if (session?.isEstablished()) {
    // In the first moments the browser has no media path yet; INFO always gets through.
    const sender = session.connection.getSenders().find((s) => s.dtmf);
    session.sendDTMF(digit, {
      transportType: sender?.dtmf.canInsertDTMF ? "RFC2833" : "INFO",
    });
  }
  $("number").value += digit;
}

function start(settings, user, password) {
  // Beside the page, wherever that is.
  const url = new URL("sip", location.origin + location.pathname);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new JsSIP.WebSocketInterface(url.href);
  ua = new JsSIP.UA({
    sockets: [socket],
    uri: `sip:${user}@${settings.domain}`,
    password,
    display_name: user,
    register_expires: 600,
  });
  ua.on("connecting", () => line("offline", "Connecting…"));
  ua.on("disconnected", () => {
    line("offline", "No connection; trying again");
    show();
  });
  ua.on("registered", () => {
    line("online", `Ready as ${user}`);
    $("login").hidden = true;
    $("phone").hidden = false;
    show();
  });
  ua.on("unregistered", () => {
    line("offline", "Not registered");
    show();
  });
  ua.on("registrationFailed", (event) => {
    line("offline", whyRefused(event));
    if (!settings.login) {
      ua.stop();
      ua = null;
      $("login").hidden = false;
      $("user").focus();
    }
  });
  ua.on("newRTCSession", (event) => {
    atOnce(event.session);
    follow(event.session);
  });
  ua.start();
}

// A right password is refused too while its address is locked out: that is not a wrong one.
function whyRefused({ response, cause }) {
  if (response?.status_code !== 403) return `Not registered: ${cause}`;
  const seconds = response.getHeader("Retry-After");
  if (!seconds) return "Wrong user or password";
  return `Too many wrong passwords from this network: locked out for ${seconds} s`;
}

// ---- handing a call over

function hideTransfer() {
  $("transfer").hidden = true;
  $("hand-over").setAttribute("aria-expanded", "false");
}

function transfer(target) {
  const said = session;
  state(`Transferring to ${target}…`);
  said.refer(target, {
    eventHandlers: {
      requestFailed: () => {
        if (session === said) {
          state("Connected");
          $("verdict").textContent = "The transfer was refused; the call continues.";
        }
      },
      failed: () => {
        if (session === said) {
          state("Connected");
          $("verdict").textContent = `${target} could not be reached; the call continues.`;
        }
      },
      accepted: () => {
        if (session === said && !said.isEnded()) said.terminate();
      },
    },
  });
  hideTransfer();
}

// ---- devices

async function listDevices() {
  const all = await navigator.mediaDevices.enumerateDevices();
  for (const [id, kind, name] of [
    ["microphone", "audioinput", "Microphone"],
    ["speaker", "audiooutput", "Loudspeaker"],
  ]) {
    const chosen = $(id).value;
    const own = all.filter((d) => d.kind === kind && d.deviceId);
    const first = document.createElement("option");
    first.value = "";
    first.textContent = "As the system says";
    $(id).replaceChildren(
      first,
      ...own.map((d, n) =>
        Object.assign(document.createElement("option"), {
          value: d.deviceId,
          textContent: d.label || `${name} ${n + 1}`,
        }),
      ),
    );
    $(id).value = own.some((d) => d.deviceId === chosen) ? chosen : "";
  }
  const hidden = !("setSinkId" in HTMLMediaElement.prototype);
  $("speaker").hidden = hidden;
  document.querySelector('label[for="speaker"]').hidden = hidden;
}

async function useMicrophone() {
  const id = $("microphone").value;
  if (id) OPTIONS.mediaConstraints.audio.deviceId = { exact: id };
  else delete OPTIONS.mediaConstraints.audio.deviceId;
  const sender = session?.connection?.getSenders().find((s) => s.track);
  if (!sender) return;
  const [track] = (
    await navigator.mediaDevices.getUserMedia(OPTIONS.mediaConstraints)
  ).getAudioTracks();
  sender.track.stop();
  await sender.replaceTrack(track);
}

// ---- "Check my line": what a person can find out before calling anybody, each line fine or with
// its fix

const ECHO = "9196";
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function found(good, text) {
  const item = document.createElement("li");
  item.textContent = `${good ? "✓" : "✗"} ${text}`;
  item.className = good ? "up" : "down";
  $("report").append(item);
  return good;
}

async function checkMicrophone() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia(OPTIONS.mediaConstraints);
  } catch (error) {
    return found(
      false,
      error.name === "NotAllowedError"
        ? "The microphone is blocked: allow it in the address bar."
        : `No microphone can be used: ${error.message}`,
    );
  }
  await listDevices();
  const context = new AudioContext(),
    analyser = context.createAnalyser(),
    samples = new Float32Array(analyser.fftSize);
  context.createMediaStreamSource(stream).connect(analyser);
  let peak = 0;
  for (let n = 0; n < 15; n++) {
    await pause(100);
    analyser.getFloatTimeDomainData(samples);
    peak = samples.reduce((max, s) => Math.max(max, Math.abs(s)), peak);
  }
  stream.getTracks().forEach((track) => track.stop());
  await context.close();
  return found(
    peak > 0.001,
    peak > 0.001
      ? `The microphone hears something (${Math.round(20 * Math.log10(peak))} dBFS at its peak).`
      : "The microphone is silent: is it muted, or is it another one?",
  );
}

async function checkCall() {
  call(ECHO);
  const test = session;
  const end = Date.now() + 10_000;
  while (session === test && !test.isEstablished() && Date.now() < end) await pause(100);
  if (session !== test)
    return found(false, `The test call to ${ECHO} failed: ${$("verdict").textContent}`);
  await pause(4_000);
  const stats = {};
  (await test.connection.getStats()).forEach((s) => {
    if (s.type === "inbound-rtp" || (s.type === "candidate-pair" && s.nominated)) stats[s.type] = s;
  });
  const heard = stats["inbound-rtp"] || { packetsReceived: 0, packetsLost: 0, jitter: 0 };
  test.terminate();
  while (session === test) await pause(50);
  if (!heard.packetsReceived)
    return found(
      false,
      "The call was answered, but no sound arrived: UDP to the gateway is blocked on the way.",
    );
  const loss = (100 * heard.packetsLost) / (heard.packetsLost + heard.packetsReceived);
  const trip = stats["candidate-pair"]?.currentRoundTripTime;
  found(
    true,
    `Sound arrives in both directions: ${heard.packetsReceived} packets in four seconds.`,
  );
  found(
    loss < 3,
    `${loss.toFixed(1)} % were lost${loss < 3 ? "." : ": the network is bad; a cable helps."}`,
  );
  const steady = heard.jitter < 0.03;
  const unsteady = steady ? "." : ": too much for a good call; a cable helps.";
  found(steady, `Jitter is ${Math.round(1000 * heard.jitter)} ms${unsteady}`);
  const far = trip < 0.2 ? "." : ": people will interrupt each other.";
  if (trip !== undefined)
    found(trip < 0.2, `The gateway is ${Math.round(1000 * trip)} ms away, there and back${far}`);
  return true;
}

async function checkLine() {
  if (session) return;
  $("check").disabled = true;
  $("report").replaceChildren();
  const ready = found(
    Boolean(ua?.isRegistered()),
    ua?.isRegistered() ? "You are registered." : "There is no connection to the gateway.",
  );
  if ((await checkMicrophone()) && ready) await checkCall();
  $("check").disabled = false;
}

function build() {
  for (const digit of "123456789*0#") {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = digit;
    button.setAttribute("aria-label", { "*": "star", "#": "hash" }[digit] || digit);
    button.addEventListener("click", () => press(digit));
    $("pad").append(button);
  }
  for (const [number, what] of NUMBERS) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.append(number);
    const words = document.createElement("span");
    words.textContent = what;
    button.append(words);
    button.addEventListener("click", () => {
      $("number").value = number;
      call(number);
    });
    item.append(button);
    $("numbers").append(item);
  }
  $("dialler").addEventListener("submit", (event) => {
    event.preventDefault();
    call($("number").value);
  });
  $("answer").addEventListener("click", () => session?.answer(OPTIONS));
  $("hangup").addEventListener("click", () =>
    session?.terminate(
      session.direction === "incoming" && !session.isEstablished()
        ? { status_code: 603 }
        : undefined,
    ),
  );
  $("mute").addEventListener("click", () => {
    if (session)
      session.isMuted().audio ? session.unmute({ audio: true }) : session.mute({ audio: true });
  });
  $("hand-over").addEventListener("click", () => {
    const open = $("transfer").hidden;
    $("transfer").hidden = !open;
    $("hand-over").setAttribute("aria-expanded", String(open));
    if (open) $("transfer-to").focus();
  });
  $("transfer").addEventListener("submit", (event) => {
    event.preventDefault();
    const target = $("transfer-to").value.replace(/[\s().-]/g, "");
    $("transfer-to").value = "";
    if (session && target) transfer(target);
  });
  $("devices").addEventListener("toggle", () => listDevices().catch(() => {}));
  $("microphone").addEventListener("change", () =>
    useMicrophone().catch((error) => {
      $("verdict").textContent = `This microphone cannot be used: ${error.message}`;
    }),
  );
  $("speaker").addEventListener("change", () =>
    $("remote")
      .setSinkId($("speaker").value)
      .catch((error) => {
        $("verdict").textContent = `This loudspeaker cannot be used: ${error.message}`;
      }),
  );
  $("check").addEventListener("click", () =>
    checkLine().catch((error) => found(false, error.message)),
  );
  $("hold").addEventListener("click", () => {
    if (session) session.isOnHold().local ? session.unhold() : session.hold();
  });
}

async function begin() {
  build();
  const settings = await (await fetch("settings.json")).json();
  $("login").addEventListener("submit", (event) => {
    event.preventDefault();
    start(settings, $("user").value, $("password").value);
  });
  if (settings.login) {
    $("try").hidden = false;
    $("hint").textContent = "Paste a number in any form, or dial 9196 to hear yourself.";
    start(settings, settings.login.user, settings.login.password);
  } else {
    line("offline", "Not logged in");
    $("login").hidden = false;
    $("user").focus();
  }
}

// Tests look in here; nothing else does.
window.webtrunkPhone = {
  get session() {
    return session;
  },
  get ua() {
    return ua;
  },
  options: OPTIONS,
  call,
};
begin();
