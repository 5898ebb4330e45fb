#!/usr/bin/env python3
"""aiortc as a foreign WebRTC stack: run.py [part of a case's name]

It registers, calls and is called over WebSocket; what it says and what it hears are tones. It
speaks as it comes, and with the habits of other stacks: RSA, each `setup`, neither BUNDLE nor mid,
other profiles.
"""

import asyncio
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON = ROOT / "target/aiortc/bin/python"
if pathlib.Path(sys.prefix).resolve() != (ROOT / "target/aiortc").resolve():
    os.execv(PYTHON, [PYTHON, __file__, *sys.argv[1:]])

sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "sipp")]
import aioice.ice  # noqa: E402
from aiortc import RTCCertificate  # noqa: E402
from common import passes, until_serving  # noqa: E402
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402
from cryptography.hazmat.primitives.hashes import SHA256  # noqa: E402
from words import answered, invite, ok, request, scenario  # noqa: E402

from sip import Phone, hears  # noqa: E402

BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
# The two addresses of run.sh's namespace; the gateway's is the second.
FIRST, PUBLIC = "10.44.0.1", "10.45.0.1"
SERVER = "ws://127.0.0.1:8094/sip"
CONFIG = f"""[server]
domain = "wt.test"
public_ip = "{PUBLIC}"
[web]
listen = "127.0.0.1:8094"
[sip]
udp = ":5067"
[media]
browser_port = 8094
workers = 1
ports = "23000-23999"
[user.alice]
password = "alice-secret"
did = "+12065550111"
context = "phones"
[user.bob]
password = "bob-secret"
did = "+12065550112"
context = "phones"
[trunk.sipp]
uri = "sip:127.0.0.1:5093"
codecs = ["pcmu"]
context = "phones"
[events]
cdr = {{ file = "cdr.jsonl" }}
"""
ROUTES = """[[route]]
name = "Echo"
match = "9196"
do = [{ echo = true }]
[[route]]
name = "Tone"
match = "9197"
do = [{ tone = 1000 }]
[[route]]
name = "bob"
match = "5000"
do = [{ ring = ["user:bob"], timeout = "10s" }]
[[route]]
name = "Whoever owns the number"
match = "+1206555011X"
do = [{ ring = ["did:{number}"], timeout = "15s" }]
"""
CASES = []


def case(name):
    return lambda body: CASES.append((name, body))


async def line(user="alice", **habits):
    phone = Phone(user, f"{user}-secret", SERVER, **habits)
    await phone.start()
    return phone


async def echo(number="9196", **habits):
    """One call to an echo, heard and hung up."""
    phone = await line(**habits)
    track = await phone.call(number)
    await hears(track, 440)
    await phone.hang_up()
    await phone.stop()


@case("registers, calls the echo and hears its own tone")
async def _(_work):
    await echo()


@case("hears a tone that is not its own")
async def _(_work):
    alice = await line()
    track = await alice.call("9197")
    await hears(track, 1000)
    await alice.hang_up()
    await alice.stop()


@case("is called by another of its kind: tones both ways, the called one hangs up")
async def _(_work):
    alice, bob = await line(), await line("bob")
    heard, answered_by = await asyncio.gather(alice.call("5000", 440), bob.answer(880))
    await asyncio.gather(hears(heard, 880), hears(answered_by, 440))
    await bob.hang_up()
    await alice.hung_up()
    await asyncio.gather(alice.stop(), bob.stop())


@case("is called by a trunk that echoes, and hangs up")
async def _(work):
    steps = [invite(), *answered(), request("BYE"), ok()]
    (work / "called.xml").write_text(scenario("called", steps))
    alice = await line()
    args = ["-sf", "called.xml", "-i", "127.0.0.1", "-p", "5093", "-m", "1", "-nostdin"]
    args += ["-rtp_echo", "-s", "+12065550111", "-timeout", "30", "-timeout_error"]
    sipp = subprocess.Popen(
        ["sipp", *args, "127.0.0.1:5067"],
        cwd=work,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await hears(await alice.answer(), 440)
        await alice.hang_up()
        await alice.stop()
        assert await asyncio.to_thread(sipp.wait, 10) == 0, "SIPp's exit code"
    finally:
        sipp.kill()


@case("at the host's other address: what it sends to one comes back from that one")
async def _(_work):
    usual = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [FIRST]
    try:
        await echo()
    finally:
        aioice.ice.get_host_addresses = usual


@case("with a certificate of RSA")
async def _(_work):
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "aiortc")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    await echo(certificate=RTCCertificate(key, certificate))


def habit(name, change):
    @case(name)
    async def _(_work):
        await echo(said=change)


for role in ("active", "passive", "actpass"):
    habit(
        f"offers setup:{role}",
        lambda sdp, role=role: re.sub(r"a=setup:\w+", f"a=setup:{role}", sdp),
    )


@case("offers neither BUNDLE nor mid")
async def _(_work):
    def heard(sdp):
        assert not re.search("a=(mid|group):", sdp), f"answered with what was not offered: {sdp}"
        return sdp.replace("a=rtcp-mux", "a=mid:0\r\na=rtcp-mux", 1)

    names = r"a=(group:BUNDLE|mid:|msid-semantic:).*\r\n"
    await echo(said=lambda sdp: re.sub(names, "", sdp), heard=heard)


for profile in ("RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP"):
    habit(
        f"offers {profile} with a fingerprint",
        lambda sdp, profile=profile: sdp.replace("UDP/TLS/RTP/SAVPF", profile),
    )


@case("offers PCMU alone")
async def _(_work):
    def plain(sdp):
        sdp = re.sub(r"(m=audio \d+ \S+) [\d ]+", r"\1 0", sdp)
        return re.sub(r"a=(rtpmap|fmtp|rtcp-fb):(?!0 ).*\r\n", "", sdp)

    await echo(said=plain)


async def limited(case):
    await asyncio.wait_for(case, 40)


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="wt-aiortc-"))
    (work / "webtrunk.toml").write_text(CONFIG)
    (work / "dialplans").mkdir()
    (work / "dialplans/phones.toml").write_text(ROUTES)
    log = work / "webtrunk.log"
    node = subprocess.Popen(
        [BINARY, "serve", "-c", str(work / "webtrunk.toml"), "--log", "text"],
        cwd=work,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
    )
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    failed = passed = 0
    try:
        until_serving(node, log)
        for name, body in CASES:
            if wanted not in name:
                continue
            if passes("aiortc", name, lambda body=body: asyncio.run(limited(body(work)))):
                passed += 1
            else:
                failed += 1
    finally:
        node.terminate()
        if failed:
            # A case that failed may have left its call; the second signal ends it.
            time.sleep(1)
            node.terminate()
        try:
            code = node.wait(20)
        except subprocess.TimeoutExpired:
            node.kill()
            code = "none: it did not stop"
    text = log.read_text()
    if code != 0 or re.search(r"\bERROR\b", text):
        failed += 1
        print(f"FAILED  aiortc: the gateway ended with {code}")
    records = [json.loads(record) for record in (work / "cdr.jsonl").read_text().splitlines()]
    lost = [r for r in records if r["outcome"] != "success"]
    if lost and not failed:
        failed += 1
        print(f"FAILED  aiortc: {len(lost)} calls are recorded as no success: {lost}")
    print(f"{passed} passed, {failed} failed: aiortc")
    if failed:
        print(text[-6000:])
    else:
        shutil.rmtree(work)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
