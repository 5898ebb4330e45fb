#!/usr/bin/env python3
"""Runs the SIPp suite: run.py [--all] [--show] [part of a case's name]

Each case has trunks of its own on addresses of 127.0.0.0/8, so all run at once against one
webtrunk; over UDP and over TCP. The gateway must end with no call left and no ERROR logged;
records are compared if a case names one.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import freeswitch  # noqa: E402, F401 (its cases join the others)
from cases import CASES  # noqa: E402
from words import scenario  # noqa: E402

ROOT = HERE.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
GATEWAY = "127.0.0.1"
# run.sh gives the namespace two addresses; the gateway's is the second.
FIRST, PUBLIC = "10.44.0.1", "10.45.0.1"
PORT = 5065
# Cases run over IPv6 too, and from one address of the host to the other; there all are on one
# address, each side at a port of its own.
SHARED = {"udp6": "::1", "tcp6": "::1", "udp-lan": FIRST, "tcp-lan": FIRST}
EVERYWHERE = [
    "call-answered-caller-hangs-up",
    "call-answered-callee-hangs-up",
    "early-media-183",
    "prack-for-a-reliable-183",
    "hold-and-resume-by-the-caller",
    "cancel-while-ringing",
]


def plan(everything, wanted):
    """(case, transport, number) for all that is to run."""
    runs, n = [], 0
    for case in CASES.values():
        for transport in ("udp", "tcp", *(SHARED if case["name"] in EVERYWHERE else ())):
            skip = case["udp_only"] if transport.startswith("tcp") else case["tcp_only"]
            if skip or (case["slow"] and not everything) or (wanted and wanted not in case["name"]):
                continue
            n += 1
            runs.append((case, transport, n))
    return runs


def address(side, n, transport="udp"):
    """Address and port of a side's SIPp."""
    if transport in SHARED:
        return SHARED[transport], 6000 + 2 * n + side
    return f"127.{side}.{n // 250}.{n % 250 + 1}", 5060


def gateway(transport):
    """Where the gateway is."""
    return {"::1": "[::1]", FIRST: PUBLIC}.get(SHARED.get(transport), GATEWAY)


def configure(runs, work):
    config = [
        f'[server]\ndomain = "wt.test"\npublic_ip = "{PUBLIC}"\n[web]\nlisten = "127.0.0.1:8093"',
        f'[sip]\nudp = "[::]:{PORT}"\ntcp = "[::]:{PORT}"\nsha256 = false',
        '[media]\nbrowser_port = 8093\nworkers = 1\nports = "50000-54999"',
        '[limits]\nnew_calls_per_second = 1000\n[events]\ncdr = { file = "cdr.jsonl" }',
    ]
    trunks, routes = trunks_and_routes(runs)
    (work / "webtrunk.toml").write_text("\n".join(config + trunks) + "\n")
    (work / "dialplans").mkdir()
    (work / "dialplans/in.toml").write_text("\n".join(routes) + "\n")


def trunks_and_routes(runs, address=address):
    """What the gateway is configured with for these cases; `address`: where their SIPps are."""
    config = []
    routes = [
        '[[route]]\nname = "echo"\nmatch = "echo"\ndo = [{ echo = true }]',
        '[[route]]\nname = "hangup"\nmatch = "hangup"\ndo = [{ hangup = 480 }]',
    ]
    for case, transport, n in runs:
        name = f"{case['name']}-{transport}"
        (caller, own), (callee, port) = address(1, n, transport), address(2, n, transport)
        host = f"[{callee}]" if ":" in callee else callee
        from_trunk = case["from_trunk"].replace("{name}", f"branch{n}")
        if case["to"] == "register":
            config.append(f'[trunk.from-{n}]\ncontext = "in"\n{from_trunk}')
            continue
        if not any(f'allow = ["{caller}"]' in line for line in config):
            at = f"[{caller}]:{own}" if ":" in caller else caller
            config.append(
                f'[trunk.from-{n}]\nuri = "sip:{at}"\nallow = ["{caller}"]\n'
                f'context = "in"\n{from_trunk}'
            )
        if case["callee"]:
            suffix = ";transport=tcp" if transport.startswith("tcp") else ""
            allow = "127.9.9.9" if transport in SHARED else callee
            config.append(
                f'[trunk.to-{n}]\nuri = "sip:{host}:{port}{suffix}"\nallow = ["{allow}"]\n'
                f"{case['trunk']}"
            )
            lines = [line for line in case["route"].splitlines() if not line.startswith("then")]
            then = ", { echo = true }" if "then = echo" in case["route"] else ""
            extra = "\n".join(lines)
            routes.append(
                f'[[route]]\nname = "{name}"\nmatch = "7{n:04d}"\n{extra}\n'
                f'do = [{{ dial = ["trunk:to-{n}"] }}{then}]'
            )
    return config, routes


def sipp(work, name, file, own, transport, remote, calls, more):
    args = [
        "sipp",
        "-sf",
        str(file),
        "-i",
        own[0],
        "-p",
        str(own[1]),
        "-t",
        "t1" if transport.startswith("tcp") else "u1",
        "-m",
        str(calls),
        "-l",
        "1",
        "-r",
        "1",
        "-nostdin",
        "-trace_err",
        "-error_file",
        str(work / f"{name}.err"),
        "-trace_msg",
        "-message_file",
        str(work / f"{name}.msg"),
        "-timeout",
        "110",
        "-timeout_error",
        "-recv_timeout",
        "70000",
        "-mp",
        str(20_000 + 8 * (own[1] - 5_060)),
        "-cid_str",
        f"%u-{name}@sipp",
        *more,
        *remote,
    ]
    return subprocess.Popen(args, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def bound(own, transport):
    """Whether a SIPp at this address and port listens: an unbound one would fail its first call."""
    ip, port = own
    hexed = "" if ":" in ip else "".join(f"{int(b):02X}" for b in reversed(ip.split(".")))
    table = pathlib.Path(f"/proc/net/{transport.removesuffix('-lan')}")
    return f"{hexed}:{port:04X} " in table.read_text()


def run(work, case, transport, n, address=address, to=None):
    """Runs a case against the gateway at `to`."""
    name = f"{case['name']}-{transport}"
    files = {}
    for side in ("caller", "callee"):
        if case[side]:
            files[side] = work / f"{name}-{side}.xml"
            files[side].write_text(scenario(name, case[side]))
    callee = None
    if case["callee"]:
        callee = sipp(
            work,
            f"{name}-callee",
            files["callee"],
            address(2, n, transport),
            transport,
            [],
            case["calls"],
            case["callee_args"],
        )
        deadline = time.time() + 10
        while not bound(address(2, n, transport), transport) and time.time() < deadline:
            time.sleep(0.05)
    dialled = {"callee": f"7{n:04d}", "register": f"branch{n}"}.get(case["to"], case["to"])
    caller = sipp(
        work,
        f"{name}-caller",
        files["caller"],
        address(1, n, transport),
        transport,
        [
            "-s",
            dialled,
            "-au",
            dialled,
            to or f"{gateway(transport)}:{PORT}",
        ],
        case["calls"],
        case["args"],
    )
    codes = [caller.wait()]
    if callee:
        try:
            codes.append(callee.wait(timeout=20 if not case["slow"] else 60))
        except subprocess.TimeoutExpired:
            callee.kill()
            codes.append("still waiting")
    return name, codes, dialled


def explain(work, name):
    out = []
    for side in ("caller", "callee"):
        for kind in ("err", "msg"):
            file = work / f"{name}-{side}.{kind}"
            if file.exists():
                out.append(f"--- {side} {kind}\n" + file.read_text(errors="replace")[-4000:])
    return "\n".join(out)


def judge(work, case, transport, n, records):
    """Compares the call's record with what the case expects."""
    if case["seen"]:
        side, wanted, times = case["seen"]
        text = (work / f"{case['name']}-{transport}-{side}.msg").read_text(errors="replace")
        came = len(re.findall(r"received \[\d+\] bytes :\s+" + re.escape(wanted), text))
        if came < times:
            return f"{wanted} came {came} times, expected {times}"
    if not case["record"]:
        return None
    same = lambda r: r["from"]["user"] == f"trunk:from-{n}" or transport in SHARED  # noqa: E731
    found = [
        r
        for r in records
        if r["to"]["dialled"] in (f"7{n:04d}", "echo")
        and same(r)
        and (r["to"]["dialled"] != "echo" or transport not in SHARED)
    ]
    if len(found) != 1:
        return f"{len(found)} records"
    said = (found[0]["sip_code"], found[0]["hangup_by"])
    came = found[0]["legs"][-1]["packets_in"]
    if case["heard"] and came < case["heard"]:
        return f"{came} packets came from the callee, expected {case['heard']}"
    code, by = case["record"]
    fits = said[0] == code and said[1] in ((by,) if isinstance(by, str) else by)
    return None if fits else f"record says {said}, expected {case['record']}"


def main():
    arguments = sys.argv[1:]
    everything, show = "--all" in arguments, "--show" in arguments
    wanted = next((a for a in arguments if not a.startswith("--")), None)
    runs = plan(everything, wanted)
    work = pathlib.Path(tempfile.mkdtemp(prefix="wt-sipp-"))
    configure(runs, work)
    tone = ["synth", "2", "sine", "440", "gain", "-6"]
    kind = ["-r", "8000", "-c", "1", "-e", "mu-law", "-b", "8"]
    subprocess.run(["sox", "-n", *kind, str(work / "tone.ul"), *tone], check=True)
    log = open(work / "webtrunk.log", "w")
    node = subprocess.Popen(
        [BINARY, "serve", "-c", str(work / "webtrunk.toml"), "--log", "text"],
        cwd=work,
        stdout=log,
        stderr=log,
    )
    deadline = time.time() + 15
    while "serves the page" not in (work / "webtrunk.log").read_text():
        if node.poll() is not None or time.time() > deadline:
            print((work / "webtrunk.log").read_text())
            return 1
        time.sleep(0.1)
    failed, outcomes, lock = [], {}, threading.Lock()
    slow_first = sorted(runs, key=lambda r: not r[0]["slow"])
    with concurrent.futures.ThreadPoolExecutor(max_workers=24) as pool:
        for future in concurrent.futures.as_completed(
            [pool.submit(run, work, *r) for r in slow_first]
        ):
            name, codes, _ = future.result()
            with lock:
                outcomes[name] = codes
                if any(code != 0 for code in codes):
                    failed.append(name)
                    print(f"FAILED  {name}: SIPp ended with {codes}")
                    print(explain(work, name) if show else "        (--show prints its messages)")
    node.terminate()
    try:
        node.wait(timeout=20)
    except subprocess.TimeoutExpired:
        node.kill()
        failed.append("the gateway did not stop")
    text = (work / "webtrunk.log").read_text()
    if re.search(r"\bERROR\b", text):
        failed.append("ERROR in the log")
        print("\n".join(line for line in text.splitlines() if "ERROR" in line))
    lines = (work / "cdr.jsonl").read_text().splitlines() if (work / "cdr.jsonl").exists() else []
    records = [json.loads(line) for line in lines]
    for case, transport, n in runs:
        why = judge(work, case, transport, n, records)
        if why:
            failed.append(f"{case['name']}-{transport}")
            print(f"FAILED  {case['name']}-{transport}: {why}")
    cases = len({r[0]["name"] for r in runs})
    failed = sorted(set(failed))
    print(
        f"{len(runs) - len(failed)} of {len(runs)} passed: {cases} SIPp cases, "
        "over UDP and TCP, some over IPv6 and between two addresses too"
    )
    if failed and show:
        print(text[-6000:])
    if not failed:
        shutil.rmtree(work)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
