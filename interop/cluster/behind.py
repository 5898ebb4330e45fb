"""Three nodes behind the balancer of `balancer.sh`, which knows nothing of SIP, and their store."""

import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "interop"))
from common import running, until  # noqa: E402

BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
BALANCER = ROOT / "interop/cluster/balancer.sh"
SHARED, STORE, REDIS = "10.48.0.100", "10.49.0.2", 6399
OWN = {"a": "10.49.0.11", "b": "10.49.0.12", "c": "10.49.0.13"}

CONFIG = """[server]
domain = "wt.test"
public_ip = "{own}"
[cluster]
node = "{node}"
store = "redis://{store}:{redis}"
key = {{ file = "cluster.key" }}
advertise = "{own}:5071"
[web]
listen = "0.0.0.0:8100"
[sip]
udp = "0.0.0.0:5060"
public_ip = "{shared}"
sha256 = false
[media]
browser_port = 8100
workers = 1
ports = "{ports}"
[limits]
new_calls_per_second = 1000
[metrics]
listen = "0.0.0.0:9091"
[events]
cdr = {{ file = "cdr.jsonl" }}
[api]
control = "control.sock"
"""


def folder(work, node, trunks, routes):
    """What a node is configured with."""
    i, place = list(OWN).index(node), work / node
    (place / "dialplans").mkdir(parents=True)
    ports = f"{20000 + 1000 * i}-{20999 + 1000 * i}"
    more = {"node": node, "own": OWN[node], "ports": ports}
    config = CONFIG.format(store=STORE, redis=REDIS, shared=SHARED, **more)
    (place / "webtrunk.toml").write_text("\n".join([config, *trunks]) + "\n")
    (place / "dialplans/in.toml").write_text("\n".join(routes) + "\n")
    (place / "cluster.key").write_text("a key of the whole cluster, for a test only\n")
    (place / "cdr.jsonl").touch()


def serving(stack, work, trunks, routes):
    """The nodes with these trunks and routes, and the store, until `stack` ends."""
    store = ["--port", str(REDIS), "--bind", STORE, "--protected-mode", "no", "--save", ""]
    beside = ["ip", "netns", "exec", "balancer", "redis-server"]
    stack.enter_context(running([*beside, *store], work / "redis"))
    until("redis-server is ready", lambda: "Ready to accept" in (work / "redis").read_text())
    for node in OWN:
        folder(work, node, trunks, routes)
        place = ["ip", "netns", "exec", f"n{node}", BINARY, "serve", "--log", "text"]
        serve = [*place, "-c", str(work / node / "webtrunk.toml")]
        stack.enter_context(running(serve, work / node / "log", cwd=work / node))
    for node in OWN:
        until(f"node {node} serves", lambda node=node: serves(work, node))
    until("all are joined", lambda: all(joined(work, node) for node in OWN))


def serves(work, node):
    return "serves the page" in (work / node / "log").read_text()


def joined(work, node):
    words = ["nodes", "-o", "json", "--control", str(work / node / "control.sock")]
    told = subprocess.run([BINARY, *words], capture_output=True, text=True)
    found = json.loads(told.stdout) if told.returncode == 0 else []
    return len(found) == len(OWN) and all(one["state"] == "joined" for one in found)


def passed():
    """Requests that nodes got from nodes, and all they got: no trunk here has TLS."""
    counts = {"tls": 0, "udp": 0}
    for own in OWN.values():
        with urllib.request.urlopen(f"http://{own}:9091/metrics", timeout=5) as answer:
            text = answer.read().decode()
        for line in re.findall(
            r'^webtrunk_sip_requests_total\{[^}]*direction="in"[^}]*\} \d+', text, re.M
        ):
            for transport in counts:
                if f'transport="{transport}"' in line:
                    counts[transport] += int(line.rsplit(" ", 1)[1])
    return counts


def records(work):
    """Every node's records, each with its node."""
    lines = [(node, line) for node in OWN for line in (work / node / "cdr.jsonl").open()]
    return [(node, json.loads(line)) for node, line in lines]


def errors(work):
    """What nodes logged as an ERROR."""
    for node in OWN:
        log = (work / node / "log").read_text()
        yield from (f"node {node}: {line}" for line in log.splitlines() if "ERROR" in line)


def report(failed, what, counts):
    """Says what failed, and what was passed between nodes; returns the exit status."""
    for line in failed:
        print(f"FAILED  {line}")
    print(
        f"{what} through a balancer over three nodes, {len(failed)} failures; of "
        f"{counts['udp']} requests of trunks {counts['tls']} were passed between nodes"
    )
    return 1 if failed else 0
