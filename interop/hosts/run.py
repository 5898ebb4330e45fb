#!/usr/bin/env python3
"""A host with two addresses, IPv4 and IPv6: what is sent to one of them is answered from that one.

Each peer's socket is connected, as a careful peer's is: it takes nothing from any other address
than the one it wrote to.
"""

import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "interop"))
from common import passes, until_serving  # noqa: E402

BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
# run.sh gives the namespace the IPv4 ones.
FIRST, PUBLIC, LOOPBACK = "10.44.0.1", "10.45.0.1", "127.0.0.1"
FIRST6, SECOND6 = "fd00:44::1", "fd00:45::1"
SIP = 5068
CONFIG = f"""[server]
domain = "wt.test"
public_ip = "{PUBLIC}"
[web]
listen = "127.0.0.1:8096"
[sip]
udp = "[::]:{SIP}"
[media]
browser_port = 8096
workers = 1
ports = "24000-24999"
[user.alice]
password = "alice-secret"
context = "phones"
[trunk.lan]
uri = "sip:{FIRST}:5094"
codecs = ["pcmu"]
context = "phones"
allow = ["{FIRST}", "{PUBLIC}", "{LOOPBACK}", "{FIRST6}", "{SECOND6}"]
[api]
control = "control.sock"
"""
ROUTES = '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n'


def addresses(word):
    """Adds the IPv6 addresses, or deletes them."""
    for device, address in (("wt0", FIRST6), ("wt1", SECOND6)):
        more = ["nodad"] if word == "add" else []
        command = ["ip", "address", word, f"{address}/64", "dev", device, *more]
        subprocess.run(command, check=True)


def connected(own, theirs, port):
    found = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
    found.settimeout(3)
    found.bind((own, 0))
    found.connect((theirs, port))
    return found


class Peer:
    """A trunk at `own` that writes to the gateway at `theirs`."""

    def __init__(self, own, theirs):
        self.own, self.theirs = (f"[{a}]" if ":" in a else a for a in (own, theirs))
        self.socket = connected(own, theirs, SIP)
        self.port = self.socket.getsockname()[1]
        self.id, self.tag, self.to = secrets.token_hex(8), secrets.token_hex(4), ""

    def send(self, method, cseq, uri, body=""):
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.own}:{self.port};branch=z9hG4bK{secrets.token_hex(8)};rport",
            "Max-Forwards: 70",
            f"From: <sip:lan@{self.own}>;tag={self.tag}",
            f"To: <sip:9196@{self.theirs}>{self.to}",
            f"Call-ID: {self.id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:lan@{self.own}:{self.port}>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self.socket.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def final(self):
        while True:
            try:
                text = self.socket.recv(65_536).decode()
            except TimeoutError:
                raise AssertionError(f"no answer from {self.theirs} itself") from None
            status = int(text.split(" ", 2)[1]) if text.startswith("SIP/2.0") else 0
            if status >= 200:
                return status, text


def options(own, theirs):
    peer = Peer(own, theirs)
    peer.send("OPTIONS", 1, f"sip:{peer.theirs}:{SIP}")
    status, _ = peer.final()
    assert status == 200, f"{status} to OPTIONS"


def echo(own, theirs):
    """A call to the echo; its sound comes from the address that the gateway announces."""
    peer = Peer(own, theirs)
    with socket.socket(
        socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM
    ) as media:
        media.settimeout(3)
        media.bind((own, 0))
        kind = "IP6" if ":" in own else "IP4"
        body = (
            f"v=0\r\no=- 1 1 IN {kind} {own}\r\ns=-\r\nc=IN {kind} {own}\r\nt=0 0\r\n"
            f"m=audio {media.getsockname()[1]} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )
        uri = f"sip:9196@{peer.theirs}:{SIP}"
        peer.send("INVITE", 1, uri, body)
        status, text = peer.final()
        assert status == 200, text
        peer.to = re.search(r";tag=[^\r;]+", re.search(r"\r\nTo:[^\r]*", text)[0])[0]
        target = re.search(r"\r\nContact: *<([^>]+)>", text)[1]
        announced = re.search(r"c=IN IP[46] (\S+)", text)[1]
        port = int(re.search(r"m=audio (\d+)", text)[1])
        peer.send("ACK", 1, target)
        assert peer.theirs.strip("[]") in target, f"Contact is {target}"
        media.connect((announced, port))
        came = 0
        for n in range(100):
            media.send(struct.pack("!BBHII", 0x80, 0, n, 160 * n, 7) + bytes([n % 100]) * 160)
            media.settimeout(0.01)
            time.sleep(0.01)
            with contextlib.suppress(TimeoutError):
                came += len(media.recv(2_000)) > 12
        assert came > 40, f"{came} packets of sound came from {announced}:{port} itself"
        peer.send("BYE", 2, target)
        status, text = peer.final()
        assert status == 200, text


def own_call(work):
    """`webtrunk call` on the gateway's own host."""
    args = ["call", "9196", "--as", "alice", "--for", "3s", "-o", "json"]
    done = subprocess.run(
        [BINARY, *args, "--control", str(work / "control.sock")],
        env={**os.environ, "WEBTRUNK_PASSWORD": "alice-secret"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    told = json.loads(done.stdout)
    assert told["level_dbfs"] is not None and told["level_dbfs"] > -40, f"nothing was heard: {told}"


def cases(work):
    pairs = [(FIRST, PUBLIC), (PUBLIC, FIRST), (LOOPBACK, PUBLIC), (FIRST, LOOPBACK)]
    for own, theirs in [*pairs, (FIRST6, SECOND6), (SECOND6, FIRST6)]:
        yield f"OPTIONS from {own} to {theirs}", lambda own=own, theirs=theirs: options(own, theirs)
    for own, theirs in [(FIRST, PUBLIC), (PUBLIC, PUBLIC)]:
        yield f"a call from {own} to {theirs}", lambda own=own, theirs=theirs: echo(own, theirs)
    yield "webtrunk call on the gateway's own host", lambda: own_call(work)


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="wt-hosts-"))
    (work / "webtrunk.toml").write_text(CONFIG)
    (work / "dialplans").mkdir()
    (work / "dialplans/phones.toml").write_text(ROUTES)
    addresses("add")
    log = work / "webtrunk.log"
    node = subprocess.Popen(
        [BINARY, "serve", "-c", str(work / "webtrunk.toml"), "--log", "text"],
        cwd=work,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
    )
    failed = passed = 0
    try:
        until_serving(node, log)
        for name, body in cases(work):
            if passes("two addresses", name, body):
                passed += 1
            else:
                failed += 1
    finally:
        node.terminate()
        if failed:
            time.sleep(1)
            node.terminate()
        node.wait(20)
        addresses("del")
    if node.returncode != 0 or re.search(r"\bERROR\b", log.read_text()):
        failed += 1
        print(f"FAILED  two addresses: the gateway ended with {node.returncode}")
    print(f"{passed} passed, {failed} failed: two addresses")
    if failed:
        print(log.read_text()[-4000:])
    else:
        shutil.rmtree(work)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
