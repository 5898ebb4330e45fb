// Carriers and PBXes of a few lines, by UDP: what is wrong with their calls is chosen call by call.
import { createSocket } from "node:dgram";

let numbers = 0;
const token = () => `${process.pid.toString(16)}${(++numbers).toString(16)}`;

async function bound(address, port) {
  const socket = createSocket("udp4");
  await new Promise((done) => socket.bind(port, address, done));
  return socket;
}

const header = (text, name) => new RegExp(`^${name}: *(.*?)\\r?$`, "im").exec(text)?.[1];

/** Audio of one call: PCMU with a tone, unless it is `silent`, of another `payload`, or lossy. */
class Audio {
  static async open(address, { silent = false, payload = 0, loss = 0 } = {}) {
    const audio = new Audio();
    audio.socket = await bound(address, 0);
    Object.assign(audio, { address, silent, payload, loss, sequence: 0 });
    return audio;
  }

  sdp({ digits = true } = {}) {
    const { port } = this.socket.address();
    const formats = digits ? "0 101" : "0";
    const lines = [
      "v=0",
      `o=- 1 1 IN IP4 ${this.address}`,
      "s=-",
      `c=IN IP4 ${this.address}`,
      "t=0 0",
      `m=audio ${port} RTP/AVP ${formats}`,
      "a=rtpmap:0 PCMU/8000",
      ...(digits ? ["a=rtpmap:101 telephone-event/8000"] : []),
      "",
    ];
    return lines.join("\r\n");
  }

  packet(payload, marker, body, timestamp) {
    const head = Buffer.alloc(12);
    head[0] = 0x80;
    head[1] = payload | (marker ? 0x80 : 0);
    head.writeUInt16BE(this.sequence++ & 0xffff, 2);
    head.writeUInt32BE(timestamp, 4);
    head.writeUInt32BE(4711, 8);
    return Buffer.concat([head, body]);
  }

  /** Begins to send to what an SDP names. */
  talk(sdp) {
    const port = Number(/^m=audio (\d+)/m.exec(sdp)[1]);
    const address = /^c=IN IP4 (\S+)/m.exec(sdp)[1].trim();
    this.send = (bytes) => this.socket.send(bytes, port, address);
    if (this.silent) return;
    // A square wave of 400 Hz.
    const frame = Buffer.from(Array.from({ length: 160 }, (_, n) => (n % 20 < 10 ? 0x9f : 0x1f)));
    const began = performance.now();
    let sent = 0;
    this.timer = setInterval(() => {
      for (; sent * 20 < performance.now() - began; sent++) {
        const bytes = this.packet(this.payload, sent === 0, frame, sent * 160);
        if (!this.loss || sent % Math.round(1 / this.loss) !== 1) this.send(bytes);
      }
      this.timestamp = sent * 160;
    }, 20);
  }

  /** A key of the pad (RFC 4733). */
  press(digit) {
    const body = Buffer.from([digit, 10, 0, 0]);
    for (let n = 1; n <= 5; n++) {
      const ends = n > 2;
      body[1] = (ends ? 0x80 : 0) | 10;
      body.writeUInt16BE(160 * Math.min(n, 3), 2);
      this.send(this.packet(101, n === 1, Buffer.from(body), this.timestamp ?? 0));
    }
  }

  close() {
    clearInterval(this.timer);
    this.socket.close();
  }
}

/** A SIP peer at an address: makes calls, and takes them as `answers` says of the number. */
export class Peer {
  static async open(address, gateway, answers = () => ({ status: 404 }), port = 5062) {
    const peer = new this();
    Object.assign(peer, { address, gateway, answers, port, waiting: new Map(), taken: new Map() });
    peer.socket = await bound(address, port);
    peer.socket.on("message", (bytes) => void peer.heard(bytes.toString()));
    return peer;
  }

  get contact() {
    return `<sip:peer@${this.address}:${this.port}>`;
  }

  send(lines, body = "") {
    const type = body ? ["Content-Type: application/sdp"] : [];
    const all = [...lines, ...type, `Content-Length: ${body.length}`, "", body];
    this.socket.send(all.join("\r\n"), this.gateway.port, this.gateway.address);
  }

  reply(request, status, reason, { tag, extra = [], body = "" } = {}) {
    const to = header(request, "To");
    const vias = request.split("\r\n").filter((line) => /^(Via|Record-Route):/i.test(line));
    this.send(
      [
        `SIP/2.0 ${status} ${reason}`,
        ...vias,
        `From: ${header(request, "From")}`,
        `To: ${tag && !/;tag=/.test(to) ? `${to};tag=${tag}` : to}`,
        `Call-ID: ${header(request, "Call-ID")}`,
        `CSeq: ${header(request, "CSeq")}`,
        ...extra,
      ],
      body,
    );
  }

  async heard(text) {
    const id = header(text, "Call-ID");
    if (text.startsWith("SIP/2.0")) {
      const [, status] = /^SIP\/2.0 (\d+)/.exec(text);
      const method = header(text, "CSeq").split(" ")[1];
      if (Number(status) >= 200) this.waiting.get(`${id} ${method}`)?.(text);
      return;
    }
    const method = text.split(" ")[0];
    if (method === "ACK") return;
    if (method === "INVITE" && !this.taken.has(id)) return this.take(text, id);
    if (method === "INVITE") return;
    const refused = method === "INFO" && this.taken.get(id)?.how.refusesInfo;
    if (refused) return this.reply(text, 415, "Unsupported Media Type");
    this.reply(text, 200, "OK");
    if (method === "BYE") {
      this.taken.get(id)?.audio?.close();
      this.taken.delete(id);
    }
  }

  async take(invite, id) {
    const number = /^INVITE sip:([^@;>]+)/.exec(invite)[1];
    const how = this.answers(decodeURIComponent(number));
    const call = { how };
    this.taken.set(id, call);
    if (how.status)
      return this.reply(invite, how.status, how.reason ?? "Refused", { tag: token() });
    const tag = token();
    this.reply(invite, 180, "Ringing", { tag, extra: [`Contact: ${this.contact}`] });
    call.audio = await this.sound(how);
    const body = call.audio.sdp({ digits: !how.noDigits });
    this.reply(invite, 200, "OK", { tag, extra: [`Contact: ${this.contact}`], body });
    call.audio.talk(invite);
  }

  request(method, call, extra = [], body = "") {
    const cseq = method === "ACK" ? call.cseq : ++call.cseq;
    const answer = new Promise((done) => this.waiting.set(`${call.id} ${method}`, done));
    this.send(
      [
        `${method} ${call.target} SIP/2.0`,
        `Via: SIP/2.0/UDP ${this.address}:${this.port};branch=z9hG4bK${token()};rport`,
        "Max-Forwards: 70",
        `From: <sip:${call.from}@${this.address}>;tag=${call.tag}`,
        `To: ${call.to}`,
        `Call-ID: ${call.id}`,
        `CSeq: ${cseq} ${method}`,
        `Contact: ${this.contact}`,
        ...extra,
      ],
      body,
    );
    return answer;
  }

  /** The sound of a call that begins. */
  sound(wanted) {
    return Audio.open(this.address, wanted);
  }

  /** Calls `number`; returns the call, with `status`. */
  async call(from, number, audio = {}) {
    const sip = `sip:${number}@${this.gateway.address}:${this.gateway.port}`;
    const call = { from, to: `<${sip}>`, target: sip, tag: token(), id: token(), cseq: 0 };
    call.audio = await this.sound(audio);
    const answer = await this.request("INVITE", call, [], call.audio.sdp());
    call.status = Number(/^SIP\/2.0 (\d+)/.exec(answer)[1]);
    call.to = header(answer, "To");
    if (call.status < 300) call.target = /<([^>]+)>/.exec(header(answer, "Contact"))[1];
    if (call.status >= 300) {
      this.acknowledge(call, answer);
      call.audio.close();
    } else {
      void this.request("ACK", call);
      call.audio.talk(answer);
    }
    return call;
  }

  /** Of a refusal, which belongs to the INVITE's transaction. */
  acknowledge(call, answer) {
    this.send([
      `ACK ${call.target} SIP/2.0`,
      `Via: ${header(answer, "Via")}`,
      "Max-Forwards: 70",
      `From: ${header(answer, "From")}`,
      `To: ${call.to}`,
      `Call-ID: ${call.id}`,
      "CSeq: 1 ACK",
    ]);
  }

  async hangUp(call) {
    await this.request("BYE", call);
    call.audio.close();
  }

  /** Hands the other party on, and waits until it is over. */
  async refer(call, number) {
    const to = `<sip:${number}@${this.gateway.address}:${this.gateway.port}>`;
    return this.request("REFER", call, [`Refer-To: ${to}`]);
  }

  close() {
    for (const { audio } of this.taken.values()) audio?.close();
    this.socket.close();
  }
}
