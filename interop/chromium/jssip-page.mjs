// A page of JsSIP as it comes (the page's own bundle), with the few things the test asks of it.
/* global JsSIP */
let agent, session;

const until = (what, test) =>
  new Promise((done, failed) => {
    const began = Date.now();
    const timer = setInterval(() => {
      if (test()) {
        clearInterval(timer);
        done();
      }
      if (Date.now() - began > 10_000) {
        clearInterval(timer);
        failed(new Error(what));
      }
    }, 50);
  });

const options = {
  mediaConstraints: {
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    video: false,
  },
  pcConfig: { iceServers: [] },
};

function attach(own) {
  session = own;
  session.on("icecandidate", (event) => event.ready());
  session.on("accepted", () => {
    const tracks = session.connection.getReceivers().map((receiver) => receiver.track);
    document.getElementById("remote").srcObject = new MediaStream(tracks);
  });
}

window.line = {
  async register(user, password) {
    const servers = [window.server ?? "ws://localhost:8090/sip"].flat();
    // The first is tried first.
    const sockets = servers.map((server, n) => ({
      socket: new JsSIP.WebSocketInterface(server),
      weight: servers.length - n,
    }));
    agent = new JsSIP.UA({ sockets, uri: `sip:${user}@wt.test`, password });
    agent.on("newRTCSession", (event) => {
      attach(event.session);
      if (event.originator === "remote") event.session.answer(options);
    });
    agent.start();
    await until("registered", () => agent.isRegistered());
    return "Registered";
  },
  async call(number) {
    agent.call(`sip:${number}@wt.test`, options);
    await until("answered", () => session.isEstablished());
  },
  hold: (on) =>
    new Promise((done, failed) => {
      if (!(on ? session.hold({}, done) : session.unhold({}, done)))
        failed(new Error("JsSIP cannot hold now"));
    }),
  established: () => Boolean(session?.isEstablished()),
  ended: () => !session || session.isEnded(),
  connection: () => session.connection,
  digits: (keys) =>
    session.sendDTMF(keys, { transportType: "RFC2833", duration: 160, interToneGap: 100 }),
  text: (number, words) =>
    new Promise((done) => {
      agent.sendMessage(`sip:${number}@wt.test`, words, {
        eventHandlers: {
          succeeded: (event) => done(event.response.status_code),
          failed: (event) => done(event.response?.status_code ?? event.cause),
        },
      });
    }),
  bye: () => session.terminate(),
};
