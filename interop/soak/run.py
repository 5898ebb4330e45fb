#!/usr/bin/env python3
"""Half an hour of calls through one gateway, which must end as it began: run.py [SECONDS]

Beginning and end are measured alike: after calls of a warm-up, idle for longer than a transaction
lives. Calls are echoed, bridged and refused; strangers and a trunk send the messages of RFC 4475
meanwhile. Compared: resident memory, descriptors, sockets of every kind, threads, and the
namespace's UDP ports, by which sessions are seen. Tables and
timers are compared by tests/calls, a day in virtual time.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/release/webtrunk"))
# Longer than 64*T1 and the time a port rests.
SETTLE = 45
# A port that was used stays bound, so in the end all of the range are: it is small, and in the
# warm-up each of its hundred pairs has its turn.
WARM_UP = 90
# What may be more: caches of memory fill, and a connection may come or go.
SPARE = {"rss_kib": 12_288, "threads": 0, "descriptors": 4, "sockets": 4, "udp_ports": 4}
GATEWAY, PORT = "127.0.0.1", 5065
CALLER, CALLEE = "127.1.0.1", "127.2.0.1"

CONFIG = f"""
[server]
domain = "wt.test"
public_ip = "127.0.0.1"
[web]
listen = "127.0.0.1:8094"
[sip]
udp = "127.0.0.1:{PORT}"
[media]
browser_port = 8094
workers = 1
ports = "52000-52199"
[limits]
new_calls_per_second = 1000
[recorder]
calls = 100
[events]
cdr = {{ file = "cdr.jsonl" }}
[trunk.caller]
uri = "sip:{CALLER}:5060"
allow = ["{CALLER}"]
context = "in"
[trunk.callee]
uri = "sip:{CALLEE}:5060"
allow = ["{CALLEE}"]
"""
PLAN = """
[[route]]
name = "echo"
match = "100"
do = [{ echo = true }]
[[route]]
name = "callee"
match = "200"
do = [{ dial = ["trunk:callee"] }]
[[route]]
name = "refused"
match = "300"
do = [{ hangup = 486 }]
"""


def run_sipp(number, seconds, rate, work, talk=2_000):
    """A SIPp that calls `number` with its own scenario."""
    return subprocess.Popen(
        ["sipp", f"{GATEWAY}:{PORT}", "-sn", "uac", "-s", str(number), "-i", CALLER]
        + ["-p", str(5060 + number), "-r", str(rate), "-d", str(talk), "-m", str(rate * seconds)]
        + ["-l", "200", "-nostdin", "-timeout", str(seconds + 60), "-recv_timeout", "40000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=work,
    )


def noise(seconds):
    """What strangers and torn packets bring to the SIP port."""
    strange = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    strange.bind(("127.66.0.1", 0))
    torn = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    torn.bind((CALLER, 0))
    torture = sorted((ROOT / "tests/torture/rfc4475").glob("*.dat"))
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for path in torture:
            for each in (strange, torn):
                each.sendto(path.read_bytes(), (GATEWAY, PORT))
                sent += 1
        time.sleep(1)
    return sent


def calls(seconds, work):
    """Calls of every kind for so long; how many were answered."""
    callee = subprocess.Popen(
        ["sipp", "-sn", "uas", "-i", CALLEE, "-p", "5060", "-nostdin"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=work,
    )
    callers = [run_sipp(number, seconds, rate, work) for number, rate in [(100, 3), (200, 4)]]
    callers.append(run_sipp(300, seconds, 2, work))
    noise(seconds)
    for caller in callers:
        caller.wait(timeout=180)
    callee.terminate()
    callee.wait(timeout=10)


def measure(pid):
    """What the process holds."""
    folder = pathlib.Path(f"/proc/{pid}")
    descriptors = [os.readlink(link) for link in (folder / "fd").iterdir()]
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    udp = sum(
        len((pathlib.Path("/proc/net") / name).read_text().splitlines()) - 1
        for name in ("udp", "udp6")
    )
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "descriptors": len(descriptors),
        "sockets": sum(name.startswith("socket:") for name in descriptors),
        "udp_ports": udp,
    }


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 1_800
    work = pathlib.Path(tempfile.mkdtemp(prefix="webtrunk-soak-"))
    (work / "webtrunk.toml").write_text(CONFIG)
    (work / "dialplans").mkdir()
    (work / "dialplans/in.toml").write_text(PLAN)
    log = open(work / "log", "w")
    gateway = subprocess.Popen(
        [BINARY, "serve", "--config", "webtrunk.toml"], stdout=log, stderr=log, cwd=work
    )
    try:
        time.sleep(3)
        assert gateway.poll() is None, (work / "log").read_text()
        calls(max(WARM_UP, seconds // 15), work)
        time.sleep(SETTLE)
        before = measure(gateway.pid)
        print("before", before, flush=True)
        calls(seconds, work)
        time.sleep(SETTLE)
        after = measure(gateway.pid)
        print("after ", after, flush=True)
    finally:
        gateway.terminate()
        gateway.wait(timeout=60)
    records = (work / "cdr.jsonl").read_text().splitlines()
    text = (work / "log").read_text()
    wrong = [name for name, spare in SPARE.items() if after[name] > before[name] + spare]
    if "ERROR" in text:
        wrong.append("errors in the log")
    if len(records) < seconds:
        wrong.append("too few calls for a soak")
    print(f"{len(records)} calls")
    print("it ended as it began" if not wrong else f"FAILED: {', '.join(wrong)}; see {work}")
    if not wrong:
        shutil.rmtree(work)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
