#!/usr/bin/env python3
"""Signalling against Kamailio on the same machine, in one run, by the same SIPp.

Measures the CPU of a REGISTER, an OPTIONS and a call. Then webtrunk alone: the memory of 10,000
registered browsers over ws and wss, and a flood of INVITEs that nobody acknowledges. Prints
tables; needs kamailio, sip-tester and a release build. Run by `make bench-sip`.
"""

import base64
import contextlib
import hashlib
import os
import pathlib
import re
import resource
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from common import NG_PING, is_answered, until  # noqa: E402

BINARY = str(ROOT / "target/release/webtrunk")


def register_once(cseq, *lines):
    more = "".join(f"{line}\n" for line in lines)
    return f"""<send retrans="500"><![CDATA[
REGISTER sip:wt.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:branch@wt.test>;tag=[call_number]
To: <sip:branch@wt.test>
Call-ID: [call_id]
CSeq: {cseq} REGISTER
Contact: <sip:branch@[local_ip]:[local_port]>
Expires: 300
{more}Content-Length: 0

]]></send>
"""


REGISTER = f"""<?xml version="1.0"?><scenario name="register">
{register_once(1)}<recv response="401" auth="true"/>
{register_once(2, "[authentication]")}<recv response="200"/></scenario>"""

OPTIONS = """<?xml version="1.0"?><scenario name="options">
<send retrans="500"><![CDATA[
OPTIONS sip:wt.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:probe@wt.test>;tag=[call_number]
To: <sip:wt.test>
Call-ID: [call_id]
CSeq: 1 OPTIONS
Contact: <sip:probe@[local_ip]:[local_port]>
Content-Length: 0

]]></send>
<recv response="200"/></scenario>"""

FLOOD = """<?xml version="1.0"?><scenario name="flood">
<send><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:flood@wt.test>;tag=[call_number]
To: <sip:[service]@wt.test>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:flood@[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=f 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 6000 RTP/AVP 0
]]></send>
<recv response="100" optional="true"/>
<recv response="200"/></scenario>"""


def family(pid):
    """The process and all that came of it."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                )
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu(pid):
    """Seconds of CPU of a process and its children so far, as the scheduler counts them."""
    total = 0
    for one in family(pid):
        for thread in pathlib.Path(f"/proc/{one}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(thread.read_text().split()[0])
    return total / 1e9


def memory(pid):
    """Resident kB."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def sipp(work, name, text, remote, count, rate, more=()):
    file = work / f"{name}.xml"
    if text:
        file.write_text(text)
    scenario = ["-sf", str(file)] if text else ["-sn", name]
    args = [
        "sipp",
        *scenario,
        "-i",
        "127.0.0.5",
        "-nostdin",
        "-m",
        str(count),
        "-r",
        str(rate),
        "-l",
        "20000",
        "-au",
        "branch",
        "-ap",
        "branch-secret",
        "-timeout",
        "90",
        "-s",
        "echo",
        *more,
        remote,
    ]
    done = subprocess.run(
        args,
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    failed = re.findall(r"Failed call\s*\|\s*\d+\s*\|\s*(\d+)", done.stdout)
    return int(failed[-1]) if failed else -1


def webtrunk(work, users=0, tls=False):
    config = f"""[server]
domain = "wt.test"
public_ip = "127.0.0.1"
[web]
listen = "127.0.0.1:8094"
{'tls = "local"' if tls else ""}
[sip]
udp = "127.0.0.1:5067"
sha256 = false
[media]
browser_port = 8094
workers = 1
ports = "20000-59999"
[limits]
calls = 20000
calls_per_user = 10
new_calls_per_second = 100000
[trunk.driver]
uri = "sip:127.0.0.5"
allow = ["127.0.0.5"]
context = "in"
[trunk.far]
uri = "sip:127.0.0.1:5068"
allow = ["127.0.0.6"]
codecs = ["pcmu"]
session_timer = "off"
[trunk.branch]
accepts_registration = true
username = "branch"
password = "branch-secret"
"""
    config += "".join(f'[user.u{n}]\npassword = "p{n}"\ncontext = "in"\n' for n in range(users))
    (work / "webtrunk.toml").write_text(config)
    (work / "dialplans").mkdir(exist_ok=True)
    (work / "dialplans/in.toml").write_text(
        '[[route]]\nname = "echo"\nmatch = "echo"\ndo = [{ echo = true }]\n'
        '[[route]]\nname = "far"\nmatch = "far"\ndo = [{ dial = ["trunk:far"] }]\n'
    )
    log = open(work / "webtrunk.log", "w")
    child = subprocess.Popen(
        [
            BINARY,
            "serve",
            "-c",
            "webtrunk.toml",
            "--log",
            "text",
            "--log-level",
            "warn,webtrunk=warn",
        ],
        cwd=work,
        stdout=log,
        stderr=log,
    )
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", 8094), 0.2).close()
            return child
        except OSError:
            time.sleep(0.1)
    raise SystemExit((work / "webtrunk.log").read_text())


KAMAILIO = ["kamailio", "-f", str(HERE / "kamailio.cfg"), "-DD", "-E", "-m", "256", "-w", "/tmp"]
# Answered without a word of what came before.
PROBE = (
    b"OPTIONS sip:wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKprobe\r\n"
    b"Max-Forwards: 1\r\nFrom: <sip:probe@wt.test>;tag=1\r\nTo: <sip:wt.test>\r\n"
    b"Call-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


def kamailio():
    child = subprocess.Popen(
        KAMAILIO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until("Kamailio answers", lambda: is_answered(("127.0.0.1", 5066), PROBE))
    return child


def with_rtpengine():
    """Kamailio that anchors its calls' media.

    The same shell starts rtpengine, so that it counts as a child of it, and Kamailio once told
    that rtpengine answers.
    """
    rtpengine = (
        "rtpengine --foreground --table=-1 --num-threads=1 --interface=127.0.0.1"
        " --listen-ng=127.0.0.1:2223 --port-min=20000 --port-max=59999"
        " --log-level=1 --pidfile=/dev/null"
    )
    child = subprocess.Popen(
        ["sh", "-c", f"{rtpengine} & read answered; {shlex.join(KAMAILIO)} -A MEDIA & wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until("rtpengine answers", lambda: is_answered(("127.0.0.1", 2223), NG_PING))
    child.stdin.write(b"\n")
    child.stdin.close()
    until("Kamailio answers", lambda: is_answered(("127.0.0.1", 5066), PROBE))
    return child


def stop(child):
    try:
        os.killpg(child.pid, signal.SIGTERM) if child.args[0] in (
            "kamailio",
            "sh",
        ) else child.terminate()
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()


LOADS = (
    ("REGISTER with digest", "register", REGISTER, 1000, ()),
    ("OPTIONS", "options", OPTIONS, 2000, ()),
    ("call: INVITE, 180, 200, ACK, BYE", "uac", None, 300, ("-s", "far", "-mp", "6000")),
)


def middle(values):
    return sorted(values)[len(values) // 2]


def row(theirs, ours):
    """The medians, and the ratio of the middle round.

    Ratios are taken between runs that follow each other: the machine is the same for both.
    """
    ratios = sorted(our / their for their, our in zip(theirs, ours, strict=True))
    each = ", ".join(f"{r:.2f}" for r in ratios)
    return f"{middle(theirs):.1f} | {middle(ours):.1f} | **{middle(ratios):.2f}** ({each}) |"


def compare(work, settle, seconds, rounds):
    """CPU per transaction on both in turn, each load on a fresh process, round after round.

    The ratio of the middle round counts. Measured once a load has run for `settle` seconds: from
    32 on, transactions end as fast as they begin.
    """
    cost, lost = {}, {}
    peers = (
        ("kamailio", kamailio, "127.0.0.1:5066"),
        ("webtrunk", lambda: webtrunk(work), "127.0.0.1:5067"),
        ("anchored", with_rtpengine, "127.0.0.1:5066"),
    )
    for _ in range(rounds):
        for label, kind, text, rate, more in LOADS:
            # Media goes by way of us always; by way of Kamailio's side where rtpengine is with it.
            for name, start, remote in peers if kind == "uac" else peers[:2]:
                child = start()
                far = subprocess.Popen(
                    ["sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", "5068", "-nostdin"],
                    cwd=work,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                time.sleep(0.5)
                sipp(work, kind, text, remote, rate * settle, rate, more)
                before, count = cpu(child.pid), rate * seconds
                failed = sipp(work, kind, text, remote, count, rate, more)
                cost.setdefault((label, name), []).append((cpu(child.pid) - before) * 1e6 / count)
                lost[label] = lost.get(label, 0) + failed
                far.kill()
                stop(child)
    print(
        "\n| load | Kamailio 5.6.3, µs CPU | webtrunk, µs CPU | ratio, and in each round |"
        "\n| --- | --- | --- | --- |"
    )
    for label, *_ in LOADS:
        note = f" ({lost[label]} failed)" if lost[label] else ""
        for name, what in (
            ("kamailio", ""),
            ("anchored", "; Kamailio with rtpengine for the media, which ours includes"),
        ):
            if (label, name) in cost:
                print(
                    f"| {label}{what}{note} | {row(cost[label, name], cost[label, 'webtrunk'])}",
                    flush=True,
                )


# ---- browsers


def digest(challenge, user, password, uri):
    realm, nonce = (
        re.search(r'realm="([^"]+)"', challenge)[1],
        re.search(r'nonce="([^"]+)"', challenge)[1],
    )
    md5 = lambda text: hashlib.md5(text.encode()).hexdigest()  # noqa: E731
    response = md5(
        f"{md5(f'{user}:{realm}:{password}')}:{nonce}:00000001:c:auth:{md5(f'REGISTER:{uri}')}"
    )
    return (
        f'Authorization: Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", '
        f'response="{response}", algorithm=MD5, qop=auth, nc=00000001, cnonce="c"\r\n'
    )


def frame(text):
    data, mask = text.encode(), b"\0\0\0\0"
    head = (
        bytes([0x81, 0x80 | 126]) + len(data).to_bytes(2, "big")
        if len(data) > 125
        else bytes([0x81, 0x80 | len(data)])
    )
    return head + mask + data


def read_frame(stream):
    head = stream.recv(2)
    length = head[1] & 0x7F
    if length == 126:
        length = int.from_bytes(stream.recv(2), "big")
    data = b""
    while len(data) < length:
        data += stream.recv(length - len(data))
    return data.decode()


def register(n, tls):
    stream = socket.create_connection(("127.0.0.1", 8094), 10)
    if tls:
        stream = tls.wrap_socket(stream, server_hostname="wt.test")
    stream.sendall(
        (
            "GET /sip HTTP/1.1\r\nHost: wt.test\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
    )
    while b"\r\n\r\n" not in stream.recv(4096):
        pass
    user, uri = f"u{n // 10}", "sip:wt.test"

    def request(cseq, credentials=""):
        return (
            f"REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK{n}{cseq}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{user}@wt.test>;tag=t{n}\r\n"
            f"To: <sip:{user}@wt.test>\r\nCall-ID: c{n}\r\nCSeq: {cseq} REGISTER\r\n"
            f"Contact: <sip:{user}@x{n}.invalid;transport=ws>;"
            f'+sip.instance="<urn:uuid:00000000-0000-0000-0000-{n:012d}>";reg-id=1;expires=600\r\n'
            f"Supported: path, gruu, outbound\r\nUser-Agent: bench\r\n"
            f"{credentials}Content-Length: 0\r\n\r\n"
        )

    stream.sendall(frame(request(1)))
    challenge = read_frame(stream)
    stream.sendall(frame(request(2, digest(challenge, user, f"p{n // 10}", uri))))
    answer = read_frame(stream)
    assert answer.startswith("SIP/2.0 200"), answer
    return stream


def idle(work, connections, tls):
    child = webtrunk(work, users=connections // 10 + 1, tls=tls)
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    streams = [register(n, context) for n in range(100)]
    before, began = memory(child.pid), cpu(child.pid)
    streams += [register(n, context) for n in range(100, connections)]
    spent = cpu(child.pid) - began
    time.sleep(1)
    each = (memory(child.pid) - before) / (connections - 100)
    print(
        f"| {connections} registered browsers over {'wss' if tls else 'ws'} | {each:.1f} kB each, "
        f"{spent * 1e6 / (connections - 100):.0f} µs CPU to connect and register |"
    )
    for stream in streams:
        stream.close()
    time.sleep(1)
    stop(child)


def flood(work, rate, seconds):
    child = webtrunk(work)
    # Once before, so that the allocator has its share.
    sipp(work, "flood", FLOOD, "127.0.0.1:5067", rate, rate, ("-recv_timeout", "3000"))
    time.sleep(75)
    before = memory(child.pid)
    start = cpu(child.pid)
    began = time.time()
    sipp(work, "flood", FLOOD, "127.0.0.1:5067", rate * seconds, rate, ("-recv_timeout", "3000"))
    during = (cpu(child.pid) - start) / (time.time() - began)
    peak = memory(child.pid)
    time.sleep(75)
    quiet = cpu(child.pid)
    time.sleep(2)
    after = (cpu(child.pid) - quiet) / 2
    print(
        f"| {rate} un-ACKed INVITEs a second for {seconds} s | {during * 100:.0f} % of a core "
        f"during, {after * 100:.1f} % 75 s later; memory {before // 1024} → {peak // 1024} → "
        f"{memory(child.pid) // 1024} MB |"
    )
    stop(child)


def main():
    quick = "--quick" in sys.argv
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="wt-bench-") as folder:
        work = pathlib.Path(folder)
        compare(work, *((1, 3, 1) if quick else (36, 12, 3)))
        print("\n| webtrunk alone | |\n| --- | --- |")
        connections = 2_000 if quick else 10_000
        idle(work, connections, False)
        idle(work, connections, True)
        if not quick:
            flood(work, 200, 15)


main()
