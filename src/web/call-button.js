// <call-button to="+12065550123" token-url="/voice/token">: two lines of HTML make a page
// telephone.
//
// Attributes: to (number or user), label, and token-url, which answers with what
// POST /api/v1/credentials gave your server, or with { uri, ws, jwt } if your pages already have a
// JSON Web Token.
// Events, all bubbling: calling, ringing, connected, ended ({ seconds, reason }),
// failed ({ reason, code }).
// Parts for CSS: button, state. Methods: call(), hangUp(). JsSIP is loaded from this gateway on
// the first press.
"use strict";
(() => {
  const base = new URL(".", document.currentScript.src);
  let library = null;

  function load() {
    library ||= new Promise((done, lost) => {
      const script = Object.assign(document.createElement("script"), {
        src: new URL("jssip.js", base),
        onload: done,
        onerror: () => {
          library = null;
          lost(new Error("the gateway cannot be reached"));
        },
      });
      document.head.append(script);
    });
    return library;
  }

  const WORDS = {
    "User Denied Media Access": "the microphone was not allowed",
    "Connection Error": "no connection to the gateway",
    "Request Timeout": "the gateway did not respond",
  };

  function reasonOf(event) {
    const said = /text="((?:[^"\\]|\\.)*)"/.exec(event.message?.getHeader?.("Reason") ?? "");
    return said ? said[1].replace(/\\(.)/g, "$1") : (WORDS[event.cause] ?? event.cause ?? "");
  }

  class CallButton extends HTMLElement {
    #ua = null;
    #session = null;
    #busy = false;
    #began = 0;
    #button = document.createElement("button");
    #state = document.createElement("span");
    #audio = document.createElement("audio");

    constructor() {
      super();
      const root = this.attachShadow({ mode: "open" });
      this.#button.setAttribute("part", "button");
      this.#button.type = "button";
      this.#button.addEventListener("click", () => (this.#busy ? this.hangUp() : this.call()));
      this.#state.setAttribute("part", "state");
      this.#state.setAttribute("role", "status");
      this.#audio.autoplay = true;
      root.append(this.#button, " ", this.#state, this.#audio);
    }

    static get observedAttributes() {
      return ["label"];
    }
    connectedCallback() {
      this.#show("");
    }
    attributeChangedCallback() {
      if (!this.#busy) this.#show("");
    }
    disconnectedCallback() {
      this.hangUp();
    }

    #show(state) {
      this.#button.textContent = this.#busy ? "Hang up" : (this.getAttribute("label") ?? "Call");
      this.#state.textContent = state;
    }

    #tell(type, detail = {}) {
      this.dispatchEvent(new CustomEvent(type, { bubbles: true, composed: true, detail }));
    }

    async #credentials() {
      const url = this.getAttribute("token-url");
      if (url) {
        const response = await fetch(url, {
          method: "POST",
          credentials: "same-origin",
          headers: { Accept: "application/json" },
        });
        if (!response.ok) throw new Error(`token-url answered ${response.status}`);
        return response.json();
      }
      // The demo, and only on this machine: its own login.
      const demo = await (await fetch(new URL("settings.json", base))).json();
      if (!demo.login) throw new Error("call-button needs a token-url");
      return {
        uri: `sip:${demo.login.user}@${demo.domain}`,
        username: demo.login.user,
        password: demo.login.password,
        ws: null,
        ice_servers: [],
      };
    }

    /** Calls; a second call while one goes on does nothing. */
    async call() {
      if (this.#busy) return;
      this.#busy = true;
      this.#show("Calling…");
      this.#tell("calling");
      try {
        const [token] = await Promise.all([this.#credentials(), load()]);
        if (!this.#busy) return;
        this.#dial(token);
      } catch (error) {
        this.#over("failed", { reason: error.message, code: null });
      }
    }

    #dial(token) {
      const own = `${base.protocol === "https:" ? "wss" : "ws"}://${base.host}${base.pathname}sip`;
      const socket = new JsSIP.WebSocketInterface(token.ws ?? own);
      this.#ua = new JsSIP.UA({
        sockets: [socket],
        uri: token.uri,
        authorization_user: token.username,
        password: token.password,
        register: false,
        // RFC 8898: a token of the page's own login instead of a password.
        ...(token.jwt && { authorization_jwt: `Bearer ${token.jwt}` }),
      });
      let dialled = false;
      this.#ua.on("connected", () => {
        if (dialled) return;
        dialled = true;
        this.#follow(
          this.#ua.call(this.getAttribute("to"), {
            mediaConstraints: { audio: true, video: false },
            pcConfig: { iceServers: token.ice_servers ?? [], bundlePolicy: "max-bundle" },
          }),
          token,
        );
      });
      this.#ua.on("disconnected", () => {
        if (!dialled) this.#over("failed", { reason: WORDS["Connection Error"], code: null });
      });
      this.#ua.start();
    }

    #follow(session, token) {
      this.#session = session;
      const attach = (connection) =>
        connection.addEventListener("track", (event) => {
          this.#audio.srcObject = event.streams[0] ?? new MediaStream([event.track]);
        });
      if (session.connection) attach(session.connection);
      session.on("peerconnection", (event) => attach(event.peerconnection));
      // Without a TURN server one candidate is enough: the gateway answers checks from wherever
      // they come.
      if (!token.ice_servers?.length) session.on("icecandidate", (event) => event.ready());
      session.on("progress", (event) => {
        if (event.originator !== "local") {
          this.#show("Ringing…");
          this.#tell("ringing");
        }
      });
      session.on("accepted", () => {
        this.#began = Date.now();
        this.#show("Connected");
        this.#tell("connected");
      });
      session.on("ended", (event) =>
        this.#over("ended", {
          seconds: Math.round((Date.now() - this.#began) / 1000),
          reason: reasonOf(event),
        }),
      );
      session.on("failed", (event) =>
        this.#over(event.cause === "Canceled" ? "ended" : "failed", {
          seconds: 0,
          reason: reasonOf(event),
          code: event.message?.status_code ?? null,
        }),
      );
    }

    #over(type, detail) {
      if (!this.#busy) return;
      this.#busy = false;
      this.#session = null;
      this.#ua?.stop();
      this.#ua = null;
      this.#show(type === "failed" ? `It did not work: ${detail.reason}` : "");
      this.#tell(type, detail);
    }

    /** Ends the call, or the attempt at one. */
    hangUp() {
      if (this.#session && !this.#session.isEnded()) this.#session.terminate();
      else this.#over("ended", { seconds: 0, reason: "" });
    }
  }

  if (!customElements.get("call-button")) customElements.define("call-button", CallButton);
})();
