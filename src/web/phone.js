// The phone page. JsSIP speaks SIP; everything a person sees or hears is here.
"use strict";

const $ = (id) => document.getElementById(id);
const NUMBERS = [
  ["9196", "hear yourself"], ["9195", "hear yourself 5 s later"], ["9197", "1 kHz tone"],
  ["9198", "a tune"], ["9101", "ring the other open page"], ["+12065550123", "out over a SIP trunk and back"],
];
// What a person can do about it; the gateway's own sentence comes with it in Reason.
const WORDS = {
  403: "This number or account is not allowed.", 404: "There is no route for this number.",
  408: "No answer from the other side.", 480: "Nobody answered, or nobody is there.",
  486: "The line is busy.", 487: "The call was cancelled.", 488: "The two sides have no audio format in common.",
  502: "The trunk did not accept our credentials.", 503: "The gateway takes no more calls just now.", 603: "The call was declined.",
};
const CAUSES = {
  "User Denied Media Access": "The microphone was not allowed. Allow it in the address bar and call again.",
  "Connection Error": "The connection to the gateway was lost.",
  "Request Timeout": "The gateway did not respond.",
  "WebRTC Error": "The browser could not set up audio.",
};

let ua = null, session = null, ticking = null, meter = null;

function line(state, text) {
  $("line").dataset.state = state;
  $("line").textContent = text;
}

function reasonText(message) {
  const reason = message && message.getHeader && message.getHeader("Reason");
  const found = reason && /text="((?:[^"\\]|\\.)*)"/.exec(reason);
  return found ? found[1].replace(/\\(.)/g, "$1") : "";
}

function explain(event) {
  if (event.cause === "Terminated" || event.cause === "Canceled") return "";
  const status = event.message && event.message.status_code;
  const said = reasonText(event.message);
  const own = WORDS[status] || CAUSES[event.cause] || `The call failed: ${event.cause}.`;
  return said ? `${own} (${said})` : own;
}

function show() {
  const active = session !== null;
  $("call").hidden = !active;
  $("dialler").hidden = active && !session.isEstablished();
  $("dial").disabled = active || !(ua && ua.isRegistered());
  if (!active) return;
  const ringing = session.direction === "incoming" && !session.isEstablished();
  $("answer").hidden = !ringing;
  $("mute").hidden = $("hold").hidden = !session.isEstablished();
  $("mute").setAttribute("aria-pressed", String(session.isMuted().audio));
  $("hold").setAttribute("aria-pressed", String(session.isOnHold().local));
  $("progress").hidden = ringing;
  $("hangup").textContent = ringing ? "Decline" : "Hang up";
  $("dial").hidden = active;
}

function state(text) { $("state").textContent = text; }

function startClock() {
  const start = Date.now();
  clearInterval(ticking);
  ticking = setInterval(() => {
    const s = Math.floor((Date.now() - start) / 1000);
    $("clock").textContent = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
  }, 250);
}

function watchLevel(stream) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  const samples = new Float32Array(analyser.fftSize);
  context.createMediaStreamSource(stream).connect(analyser);
  const draw = () => {
    analyser.getFloatTimeDomainData(samples);
    const peak = samples.reduce((max, s) => Math.max(max, Math.abs(s)), 0);
    $("level").value = peak;
  };
  const timer = setInterval(draw, 100);
  meter = () => { clearInterval(timer); context.close(); $("level").value = 0; };
}

function attach(connection) {
  connection.addEventListener("track", (event) => {
    const stream = event.streams[0] || new MediaStream([event.track]);
    $("remote").srcObject = stream;
    if (meter) meter();
    watchLevel(stream);
  });
}

function over(text) {
  if (meter) { meter(); meter = null; }
  clearInterval(ticking);
  $("clock").textContent = "0:00";
  session = null;
  $("verdict").textContent = text;
  $("dial").hidden = false;
  show();
  $("number").focus();
}

function follow(fresh) {
  if (session) { fresh.terminate({ status_code: 486 }); return; }
  session = fresh;
  $("verdict").textContent = "";
  $("peer").textContent = fresh.remote_identity.display_name || fresh.remote_identity.uri.user;
  state(fresh.direction === "incoming" ? "is calling" : "Calling…");
  if (fresh.connection) attach(fresh.connection);
  fresh.on("peerconnection", (event) => attach(event.peerconnection));
  fresh.on("progress", (event) => {
    if (event.originator !== "local") state(event.response && event.response.body ? "Ringing (you hear the far end)" : "Ringing…");
  });
  fresh.on("accepted", () => { state("Connected"); startClock(); show(); });
  fresh.on("confirmed", show);
  fresh.on("hold", () => { state("On hold"); show(); });
  fresh.on("unhold", () => { state("Connected"); show(); });
  fresh.on("muted", show);
  fresh.on("unmuted", show);
  fresh.on("failed", (event) => over(explain(event)));
  fresh.on("ended", (event) => over(event.originator === "local" ? "" : explain(event) || reasonText(event.message).replace(/^normal call clearing$/, "")));
  show();
  if (fresh.direction === "incoming") $("answer").focus(); else $("hangup").focus();
}

// One candidate is enough: the gateway answers checks from wherever they come.
function atOnce(fresh) {
  fresh.on("icecandidate", (event) => event.ready());
}

const OPTIONS = {
  mediaConstraints: { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true }, video: false },
  pcConfig: { iceServers: [], bundlePolicy: "max-bundle" },
};

function call(number) {
  const target = number.replace(/[\s().-]/g, "");
  if (!target || session || !ua) return;
  ua.call(target, { ...OPTIONS, eventHandlers: {} });
}

function press(digit) {
  if (session && session.isEstablished()) {
    // In the first moments the browser has no media path yet; INFO always gets through.
    const sender = session.connection.getSenders().find((s) => s.dtmf);
    session.sendDTMF(digit, { transportType: sender && sender.dtmf.canInsertDTMF ? "RFC2833" : "INFO" });
  }
  $("number").value += digit;
}

function start(settings, user, password) {
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/sip`;
  const socket = new JsSIP.WebSocketInterface(url);
  ua = new JsSIP.UA({ sockets: [socket], uri: `sip:${user}@${settings.domain}`, password, display_name: user, register_expires: 600 });
  ua.on("connecting", () => line("offline", "Connecting…"));
  ua.on("disconnected", () => { line("offline", "No connection; trying again"); show(); });
  ua.on("registered", () => { line("online", `Ready as ${user}`); $("login").hidden = true; $("phone").hidden = false; show(); });
  ua.on("unregistered", () => { line("offline", "Not registered"); show(); });
  ua.on("registrationFailed", (event) => {
    line("offline", event.response && event.response.status_code === 403 ? "Wrong user or password" : `Not registered: ${event.cause}`);
    if (!settings.login) { ua.stop(); ua = null; $("login").hidden = false; $("user").focus(); }
  });
  ua.on("newRTCSession", (event) => { atOnce(event.session); follow(event.session); });
  ua.start();
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
    button.addEventListener("click", () => { $("number").value = number; call(number); });
    item.append(button);
    $("numbers").append(item);
  }
  $("dialler").addEventListener("submit", (event) => { event.preventDefault(); call($("number").value); });
  $("answer").addEventListener("click", () => session && session.answer(OPTIONS));
  $("hangup").addEventListener("click", () => session && session.terminate(session.direction === "incoming" && !session.isEstablished() ? { status_code: 603 } : undefined));
  $("mute").addEventListener("click", () => { if (session) session.isMuted().audio ? session.unmute({ audio: true }) : session.mute({ audio: true }); });
  $("hold").addEventListener("click", () => { if (session) session.isOnHold().local ? session.unhold() : session.hold(); });
}

async function begin() {
  build();
  const settings = await (await fetch("settings.json")).json();
  $("login").addEventListener("submit", (event) => { event.preventDefault(); start(settings, $("user").value, $("password").value); });
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
window.webtrunkPhone = { get session() { return session; }, get ua() { return ua; }, options: OPTIONS, call };
begin();
