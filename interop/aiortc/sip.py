"""A telephone of aiortc: SIP over WebSocket, no more of it than a call each way needs."""

import asyncio
import hashlib
import math
import re
import secrets
import struct
from fractions import Fraction

import websockets
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from av import AudioFrame

RATE = 48_000
FRAME = 960


class Tone(MediaStreamTrack):
    """A sine, a frame every 20 ms."""

    kind = "audio"

    def __init__(self, hz):
        super().__init__()
        self.hz, self.sent, self.began = hz, 0, None

    async def recv(self):
        loop = asyncio.get_running_loop()
        self.began = self.began or loop.time()
        await asyncio.sleep(max(0, self.began + self.sent / RATE - loop.time()))
        wave = (
            int(12_000 * math.sin(2 * math.pi * self.hz * n / RATE))
            for n in range(self.sent, self.sent + FRAME)
        )
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(struct.pack(f"<{FRAME}h", *wave))
        frame.sample_rate, frame.pts, frame.time_base = RATE, self.sent, Fraction(1, RATE)
        self.sent += FRAME
        return frame


def share(samples, hz, rate):
    """How much of the sound is this tone: 0 to 1 (Goertzel), and its level, dBFS."""
    turn = 2 * math.cos(2 * math.pi * hz / rate)
    one = two = 0.0
    for sample in samples:
        one, two = sample + turn * one - two, one
    power = (one * one + two * two - turn * one * two) * 2 / len(samples) ** 2
    whole = sum(sample * sample for sample in samples) / len(samples)
    return power / whole if whole else 0.0, 10 * math.log10(max(whole, 1e-9) / 32_768**2)


async def hears(track, hz, seconds=8):
    """Waits until half a second of what comes is this tone and nothing else."""
    end = asyncio.get_running_loop().time() + seconds
    last = None
    while True:
        samples, rate = [], RATE
        while len(samples) < rate / 2:
            left = end - asyncio.get_running_loop().time()
            try:
                frame = await asyncio.wait_for(track.recv(), max(left, 0.01))
            except TimeoutError:
                raise AssertionError(f"no {hz} Hz within {seconds} s; last {last}") from None
            rate = frame.sample_rate
            channels = len(frame.layout.channels)
            data = bytes(frame.planes[0])[: 2 * channels * frame.samples]
            samples += struct.unpack(f"<{len(data) // 2}h", data)[::channels]
        last = share(samples, hz, rate)
        if last[0] > 0.8 and last[1] > -30:
            return last


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


class Message:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        self.start, *lines = head.split("\r\n")
        self.fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        words = self.start.split(" ", 2)
        self.status = int(words[1]) if words[0] == "SIP/2.0" else None
        self.method = None if self.status else words[0]

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name):
        return next(iter(self.all(name)), "")


class Phone:
    """One user's line.

    A stack's habits are its `certificate`, `said` (what becomes of each description of ours) and
    `heard` (what becomes of the gateway's answer before aiortc reads it).
    """

    def __init__(self, user, password, uri, certificate=None, said=str, heard=str):
        self.user, self.password, self.uri, self.domain = user, password, uri, "wt.test"
        self.certificate, self.said, self.heard = certificate, said, heard
        self.contact = f"<sip:{user}@{secrets.token_hex(6)}.invalid;transport=ws>"
        self.replies, self.invited, self.ended = {}, asyncio.Queue(), asyncio.Event()
        self.cseq, self.connection, self.dialog, self.track = 0, None, None, None

    async def start(self):
        self.socket = await websockets.connect(self.uri, subprotocols=["sip"])
        self.reader = asyncio.create_task(self.read())
        response = await self.ask("REGISTER", f"sip:{self.domain}", ["Expires: 300"])
        assert response.status == 200, response.start

    async def stop(self):
        await self.drop()
        await self.socket.close()
        self.reader.cancel()

    async def drop(self):
        if self.connection:
            await self.connection.close()
        self.connection = None

    async def read(self):
        async for text in self.socket:
            message = Message(text if isinstance(text, str) else text.decode())
            if message.status:
                queue = self.replies.get(message.get("Call-ID"))
                if queue:
                    queue.put_nowait(message)
            elif message.method == "INVITE":
                self.invited.put_nowait(message)
            elif message.method != "ACK":
                await self.respond(message, 200, "OK")
                if message.method == "BYE":
                    self.ended.set()

    async def respond(self, request, status, phrase, body=""):
        tag = "" if "tag=" in request.get("To") else f";tag={self.user}-1"
        lines = [f"SIP/2.0 {status} {phrase}"]
        lines += [
            f"{name}: {value}" for name in ("Via", "Record-Route") for value in request.all(name)
        ]
        lines += [f"From: {request.get('From')}", f"To: {request.get('To')}{tag}"]
        lines += [f"{name}: {request.get(name)}" for name in ("Call-ID", "CSeq")]
        await self.send(lines + [f"Contact: {self.contact}"], body)

    async def send(self, lines, body=""):
        lines += ["Content-Type: application/sdp"] if body else []
        lines += [f"Content-Length: {len(body.encode())}"]
        await self.socket.send("\r\n".join(lines) + "\r\n\r\n" + body)

    def head(self, method, uri, dialog):
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        lines = [f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/WS {self.user}.invalid;branch={branch}"]
        lines += ["Max-Forwards: 70", f"From: {dialog['from']}", f"To: {dialog['to']}"]
        lines += [f"Call-ID: {dialog['id']}", f"CSeq: {self.cseq} {method}"]
        lines += [f'Contact: {self.contact};reg-id=1;+sip.instance="<urn:uuid:{self.instance}>"']
        return lines + [f"Route: {route}" for route in dialog["routes"]]

    @property
    def instance(self):
        text = md5(self.user)
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    async def ask(self, method, uri, more=(), body="", dialog=None):
        """The final response, a challenge answered."""
        me = f"<sip:{self.user}@{self.domain}>"
        to = me if method == "REGISTER" else f"<{uri}>"
        tag = secrets.token_hex(4)
        dialog = dialog or {
            "from": f"{me};tag={tag}",
            "to": to,
            "id": secrets.token_hex(8),
            "routes": [],
        }
        queue = self.replies[dialog["id"]] = asyncio.Queue()
        proof = []
        for _ in range(2):
            self.cseq += 1
            await self.send(self.head(method, uri, dialog) + [*more, *proof], body)
            response = await asyncio.wait_for(queue.get(), 10)
            while response.status < 200:
                response = await asyncio.wait_for(queue.get(), 10)
            if method == "INVITE":
                await self.acknowledge(response, uri, dialog)
            if response.status not in (401, 407):
                break
            proof = [self.proof(response, method, uri)]
        self.dialog = dialog
        return response

    async def acknowledge(self, response, uri, dialog):
        answered = response.status < 300
        if answered:
            dialog["to"] = response.get("To")
            dialog["routes"] = list(reversed(response.all("Record-Route")))
            dialog["target"] = re.search(r"<([^>]+)>", response.get("Contact"))[1]
        lines = self.head("ACK", dialog["target"] if answered else uri, dialog)
        if not answered:
            # The ACK of a refusal belongs to its transaction.
            lines[1], lines[4] = f"Via: {response.get('Via')}", f"To: {response.get('To')}"
        await self.send(lines)

    def proof(self, challenge, method, uri):
        kind = "WWW-Authenticate" if challenge.status == 401 else "Proxy-Authenticate"
        asked = next(v for v in challenge.all(kind) if re.search(r"algorithm=\"?MD5\b", v))
        fields = dict(re.findall(r'(\w+)="?([^",]+)"?', asked))
        cnonce = secrets.token_hex(4)
        one = md5(f"{self.user}:{fields['realm']}:{self.password}")
        two = md5(f"{method}:{uri}")
        response = md5(f"{one}:{fields['nonce']}:00000001:{cnonce}:auth:{two}")
        name = "Authorization" if challenge.status == 401 else "Proxy-Authorization"
        return (
            f'{name}: Digest username="{self.user}", realm="{fields["realm"]}", '
            f'nonce="{fields["nonce"]}", uri="{uri}", response="{response}", algorithm=MD5, '
            f'cnonce="{cnonce}", nc=00000001, qop=auth'
            + (f', opaque="{fields["opaque"]}"' if "opaque" in fields else "")
        )

    def open(self, hz):
        # No server is asked: its answer would be waited for.
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        if self.certificate:
            self.connection._RTCPeerConnection__certificates = [self.certificate]
        self.connection.addTrack(Tone(hz))
        found = asyncio.get_running_loop().create_future()
        self.connection.on("track", lambda track: found.done() or found.set_result(track))
        self.ended.clear()
        return found

    async def call(self, number, hz=440):
        """Calls, says `hz`, and returns what is heard."""
        found = self.open(hz)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = self.said(self.connection.localDescription.sdp)
        response = await self.ask("INVITE", f"sip:{number}@{self.domain}", body=offer)
        assert response.status == 200, response.start
        answer = RTCSessionDescription(self.heard(response.body), "answer")
        await self.connection.setRemoteDescription(answer)
        return await asyncio.wait_for(found, 5)

    async def answer(self, hz=440):
        """Takes the next call."""
        invite = await asyncio.wait_for(self.invited.get(), 10)
        await self.respond(invite, 180, "Ringing")
        found = self.open(hz)
        await self.connection.setRemoteDescription(RTCSessionDescription(invite.body, "offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        body = self.said(self.connection.localDescription.sdp)
        await self.respond(invite, 200, "OK", body)
        self.dialog = {
            "from": f"{invite.get('To')};tag={self.user}-1",
            "to": invite.get("From"),
            "id": invite.get("Call-ID"),
            "routes": invite.all("Record-Route"),
            "target": re.search(r"<([^>]+)>", invite.get("Contact"))[1],
        }
        return await asyncio.wait_for(found, 5)

    async def hang_up(self):
        response = await self.ask("BYE", self.dialog["target"], dialog=self.dialog)
        assert response.status == 200, response.start
        await self.drop()

    async def hung_up(self):
        await asyncio.wait_for(self.ended.wait(), 10)
        await self.drop()
