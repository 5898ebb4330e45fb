// A page of SIP.js 0.21.2, unmodified, with the few things the test asks of it.
import { Inviter, Registerer, SessionState, UserAgent, Web } from "sip.js";

let agent, registerer, session;

function attach(own) {
  session = own;
  own.stateChange.addListener((state) => {
    if (state !== SessionState.Established) return;
    const connection = own.sessionDescriptionHandler.peerConnection;
    const tracks = connection
      .getReceivers()
      .map((r) => r.track)
      .filter(Boolean);
    document.getElementById("remote").srcObject = new MediaStream(tracks);
  });
}

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

const constraints = {
  audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  video: false,
};

window.sipjs = {
  async register(user, password) {
    agent = new UserAgent({
      uri: UserAgent.makeURI(`sip:${user}@wt.test`),
      authorizationUsername: user,
      authorizationPassword: password,
      transportOptions: { server: window.server ?? "ws://localhost:8090/sip" },
      sessionDescriptionHandlerFactoryOptions: {
        peerConnectionConfiguration: { iceServers: [] },
        iceGatheringTimeout: 500,
      },
      logLevel: "warn",
      // Its own way to come back; it asks the page to register again.
      reconnectionAttempts: 100,
      reconnectionDelay: 2,
      delegate: {
        onConnect: () => registerer?.register(),
        onInvite(invitation) {
          attach(invitation);
          invitation.accept({ sessionDescriptionHandlerOptions: { constraints } });
        },
      },
    });
    await agent.start();
    registerer = new Registerer(agent);
    await registerer.register();
    await until("registered", () => registerer.state === "Registered");
    return registerer.state;
  },
  /** A line nobody is called on, whose microphone is `stream`. */
  async join(server, stream = navigator.mediaDevices.getUserMedia(constraints)) {
    agent = new UserAgent({
      uri: UserAgent.makeURI("sip:guest@wt.test"),
      transportOptions: { server },
      sessionDescriptionHandlerFactory: Web.defaultSessionDescriptionHandlerFactory(() =>
        Promise.resolve(stream),
      ),
      sessionDescriptionHandlerFactoryOptions: {
        peerConnectionConfiguration: { iceServers: [] },
        iceGatheringTimeout: 500,
      },
      logLevel: "warn",
    });
    await agent.start();
  },
  stats: async () => {
    const all = {};
    (await session.sessionDescriptionHandler.peerConnection.getStats()).forEach((s) => {
      (all[s.type] ||= []).push(s);
    });
    return all;
  },
  track: () => session.sessionDescriptionHandler.peerConnection.getReceivers()[0].track,
  async call(number) {
    const options = {
      sessionDescriptionHandlerOptions: { constraints },
      sessionDescriptionHandlerModifiers: window.detour ? [detourModifier] : [],
    };
    const inviter = new Inviter(agent, UserAgent.makeURI(`sip:${number}@wt.test`), options);
    attach(inviter);
    await inviter.invite();
    await until("answered", () => inviter.state === SessionState.Established);
  },
  hold(on) {
    return new Promise((done, failed) => {
      session.sessionDescriptionHandlerOptionsReInvite = { hold: on };
      session.invite({
        sessionDescriptionHandlerModifiers: on ? [holdModifier] : [],
        requestDelegate: {
          onAccept: () => done(),
          onReject: () => failed(new Error("re-INVITE refused")),
        },
      });
    });
  },
  refer(number) {
    return new Promise((done) => {
      const told = [];
      const onNotify = (notification) => {
        const status = Number(/SIP\/2.0 (\d+)/.exec(notification.request.body)?.[1]);
        told.push(status);
        notification.accept();
        if (status >= 200) done(told);
      };
      session.refer(UserAgent.makeURI(`sip:${number}@wt.test`), {
        onNotify,
        requestDelegate: { onReject: (response) => done([response.message.statusCode]) },
      });
    });
  },
  bye: () => session.bye(),
};

/** Media goes to the port that stands for the far end's. */
async function detourModifier(description) {
  const port = /^m=audio (\d+)/m.exec(description.sdp)?.[1];
  if (description.type === "answer")
    description.sdp = description.sdp.replaceAll(` ${port} `, ` ${await window.detour(port)} `);
  return description;
}

function holdModifier(description) {
  description.sdp = description.sdp.replace(/a=sendrecv/g, "a=sendonly");
  return Promise.resolve(description);
}

/** The same words as the page of JsSIP. */
window.line = {
  ...window.sipjs,
  established: () => session?.state === SessionState.Established,
  ended: () => !session || session.state === SessionState.Terminated,
  connection: () => session.sessionDescriptionHandler.peerConnection,
  digits: (keys) =>
    session.sessionDescriptionHandler.sendDtmf(keys, { duration: 160, interToneGap: 100 }),
};
