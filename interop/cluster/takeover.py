#!/usr/bin/env python3
"""Three nodes on machines of their own (namespaces), Debian's redis-server, and the telephones of
`interop/run.sh chaos`: a node is killed under all their calls, with an address that moves and
without, Redis is killed for a minute, and all nodes are upgraded one after the other. What the
telephones and the trunk heard, and what the records say, is held to what the issue asks.
  interop/cluster/takeover.py [--calls N] [--write FILE] [CASE ...]
Run by `interop/run.sh cluster`. WEBTRUNK_BEFORE: the binary of an earlier version, which `rolling`
begins with.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "interop"))
sys.path.insert(0, str(ROOT / "interop/chaos"))
from common import running, until  # noqa: E402
from report import spread  # noqa: E402
from rig import BINARY, PHONES, ROUTES, Told, build, machine  # noqa: E402

BEFORE = os.environ.get("WEBTRUNK_BEFORE", BINARY)
HERE, REDIS, FLOATING = "10.46.0.1", 6399, "10.46.0.100"
OWN = {"a": "10.46.0.11", "b": "10.46.0.12", "c": "10.46.0.13"}
# The telephones' homes, which are all this machine's.
HOMES = "10.47.0.0/16"
# VRRP with adverts every 0.3 s notices after three of them and its skew.
MOVES_AFTER = 1.1
# By then all that was reserved of SRTP's indices when a call was taken over is used up (24 s), and
# who found it was too old to go on from (20 s): whatever is sent now was reserved since.
USED_UP = 50
# A call in which nobody was heard for this long is not one that goes on.
HEARD = 1_500

CONFIG = """[server]
domain = "wt.test"
public_ip = "{public}"
state_dir = "state"
[cluster]
node = "{node}"
store = "redis://{here}:{redis}"
key = {{ file = "cluster.key" }}
advertise = "{own}:5071"
{address}
[web]
listen = "0.0.0.0:8100"
[sip]
udp = "0.0.0.0:5060"
sha256 = false
[media]
browser_port = 8100
workers = 1
ports = "{ports}"
[limits]
calls_per_user = 10
new_calls_per_second = 1000
[events]
cdr = {{ file = "cdr.jsonl" }}
[api]
control = "control.sock"
[trunk.far]
uri = "sip:{here}:5080"
allow = ["{here}"]
codecs = ["pcmu"]
context = "in"
"""


def sh(*lines):
    for line in lines:
        subprocess.run(["sh", "-c", line], check=True)


def machines():
    """A bridge, and a namespace for each node; those of another suite go."""
    sh(
        "for link in br0 va vb; do ip link del $link 2> /dev/null || true; done",
        "mkdir -p /run/netns && mount -t tmpfs none /run/netns",
        f"ip link add br0 type bridge && ip address add {HERE}/24 dev br0 && ip link set br0 up",
        f"ip route add local {HOMES} dev lo",
    )
    for node, own in OWN.items():
        inside = f"ip -n n{node}"
        sh(
            f"ip netns add n{node}",
            f"ip link add v{node} type veth peer name eth0 netns n{node}",
            f"ip link set v{node} master br0 && ip link set v{node} up",
            f"{inside} link set lo up && {inside} address add {own}/24 dev eth0",
            f"{inside} link set eth0 up && {inside} route add {HOMES} via {HERE}",
        )


def give(node):
    """The floating address is this node's from now on, as keepalived does it."""
    for other in OWN:
        sh(f"ip -n n{other} address del {FLOATING}/24 dev eth0 2> /dev/null || true")
    if node:
        sh(f"ip -n n{node} address add {FLOATING}/24 dev eth0; ip neigh flush dev br0")


class Cluster:
    """Nodes, a store and the telephones, in a folder of their own."""

    def __init__(self, stack, calls, floats, binary=BINARY):
        self.stack, self.calls, self.floats, self.binary = stack, calls, floats, binary
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.nodes, self.redis = {}, None
        self.store()
        for node in OWN:
            self.serve(node)
        give("a" if floats else None)
        until("the nodes have joined", self.joined, 30)
        at = FLOATING if floats else OWN["a"]
        webs = [f"{FLOATING}:8100"] if floats else [f"{own}:8100" for own in OWN.values()]
        self.phones = Told(
            [
                *(PHONES, "--web", ",".join(webs), "--sip", f"{at}:5060"),
                *(
                    "--trunk",
                    f"{HERE}:5080",
                    "--media",
                    HERE,
                    "--homes",
                    "10.47.0.1",
                    "--pace",
                    "100",
                ),
                *([] if floats else ["--moves"]),
            ]
        )
        stack.callback(self.phones.close)
        self.empty = self.stored()
        found = self.phones.ask("call", calls)
        if found["talking"] < calls:
            raise AssertionError(f"not all calls began: {found}")
        # Until the store has the last of them.
        time.sleep(3)
        self.phones.ask("gaps")

    def store(self):
        words = ["redis-server", "--port", str(REDIS), "--bind", HERE, "--protected-mode", "no"]
        words += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.redis = self.stack.enter_context(running(words, self.folder / "redis.log"))

    def stored(self):
        """What Redis holds and was sent: bytes, scripts run, bytes that came."""
        words = ["redis-cli", "-h", HERE, "-p", str(REDIS), "INFO", "everything"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        names = ("used_memory", "cmdstat_eval:calls=", "total_net_input_bytes")
        found = [re.search(rf"^{name}:?(\d+)", told, re.M) for name in names]
        return [int(one[1]) if one else 0 for one in found]

    def serve(self, node):
        home = self.folder / node
        (home / "dialplans").mkdir(parents=True, exist_ok=True)
        floats = self.floats and node == "a"
        first = 20_000 + 4_000 * sorted(OWN).index(node)
        text = CONFIG.format(
            node=node,
            here=HERE,
            redis=REDIS,
            own=OWN[node],
            public=FLOATING if floats else OWN[node],
            address=f'address = "{FLOATING}"' if floats else "",
            ports=f"{first}-{first + 3_999}",
        )
        text += "".join(
            f'[user.p{n}]\npassword = "chaos-secret"\ndid = "+49307{n:04}"\ncontext = "in"\n'
            for n in range(self.calls)
        )
        (home / "webtrunk.toml").write_text(text)
        (home / "dialplans/in.toml").write_text(ROUTES)
        (home / "cluster.key").write_text("a key of the whole cluster, for a test only\n")
        words = ["ip", "netns", "exec", f"n{node}", self.binary, "serve", "--log", "text", "-c"]
        serves = running([*words, str(home / "webtrunk.toml")], self.folder / f"{node}.log")
        self.nodes[node] = self.stack.enter_context(serves)
        until(f"{node} serves", lambda: "serves the page" in self.log(node), 30)

    def log(self, node):
        return (self.folder / f"{node}.log").read_text(errors="replace")

    def seen(self, node):
        control = str(self.folder / node / "control.sock")
        words = [BINARY, "nodes", "-o", "json", "--control", control]
        done = subprocess.run(words, capture_output=True, text=True)
        return json.loads(done.stdout or "[]") if done.returncode == 0 else []

    def joined(self):
        return all(
            len(all_of := self.seen(node)) == len(OWN)
            and all(n["state"] == "joined" for n in all_of)
            for node in OWN
        )

    def upgrade(self, node):
        """A process of this version takes the place of the one that runs."""
        control = str(self.folder / node / "control.sock")
        words = [BINARY, "upgrade", "--binary", BINARY, "--control", control]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"{node}: {done.stdout}{done.stderr}")

    def kill(self, node):
        self.nodes[node].send_signal(signal.SIGKILL)
        self.nodes[node].wait()

    def records(self):
        files = [self.folder / node / "cdr.jsonl" for node in OWN]
        lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def heard(self):
        """Of each call: the longest silence at the telephone and at the trunk, and whether it
        lives."""
        found = self.phones.ask("gaps")
        silences = {}
        for n in range(self.calls):
            ends = [found["phones"][f"p{n}"]]
            ends += [
                c for name, c in found["trunk"].items() if name in (f"7{n:04}", f"+49307{n:04}")
            ]
            alive = len(ends) == 2 and all(e["alive"] and e["gap"] is not None for e in ends)
            silences[n] = max(e["gap"] for e in ends) if alive else None
        return silences

    def end(self):
        self.phones.ask("ending")
        found = self.phones.ask("end")
        with contextlib.suppress(AssertionError):
            until("the records", lambda: len(self.records()) >= self.calls, 90)
        time.sleep(1)
        ids = [record["call"] for record in self.records()]
        errors = [line for node in OWN for line in self.log(node).splitlines() if "ERROR" in line]
        return found | {
            "lost": self.calls - len(set(ids)),
            "doubled": len(ids) - len(set(ids)),
            "errors": errors,
        }


class Report:
    def __init__(self, calls, path, command):
        self.calls, self.path, self.command = calls, path, command
        self.rows, self.notes, self.failed, self.load = [], [], 0, os.getloadavg()[0]

    def case(self, name, silences, found, bars):
        """`bars`: the longest silence in ms, the share of calls that go on, messages expected."""
        longest, share, told_all = bars
        on = [gap for gap in silences.values() if gap is not None]
        told = found["trunk"]["told"] + found["trunk"]["strange"]
        bad = [
            len(on) < share * self.calls and f"{len(on)} of {self.calls} calls continue",
            bool(on) and max(on) > longest and f"{max(on):,.0f} ms without media",
            not told_all and told > 0 and f"the trunk gets {found['trunk']['what']}",
            found["lost"] > 0 and f"{found['lost']} records lost",
            found["doubled"] > 0 and f"{found['doubled']} records doubled",
            found["repeated"] > 0 and f"{found['repeated']} indices repeated",
            found["unauthentic"] > 0 and f"{found['unauthentic']} packets not authentic",
            bool(found["errors"]) and f"errors are logged: {found['errors'][0][:300]}",
        ]
        bad = [b for b in bad if b]
        self.failed += bool(bad)
        self.rows.append(
            f"| {name} | {len(on)} of {self.calls} | {spread(on)} | {told} | "
            f"{found['lost']} / {found['doubled']} | "
            f"{found['repeated']} of {found['packets']:,} | {'; '.join(bad) or 'as asked'} |"
        )
        print(f"{'FAILED' if bad else 'ok    '}  {self.rows[-1]}", flush=True)

    def note(self, text):
        self.notes.append(f"- {text}")
        print(f"        {text}", flush=True)

    def write(self):
        if not self.path:
            return
        commit, profile = build()
        lines = [
            "# A node is lost",
            "",
            f"<!-- Made by `{self.command}`: do not edit. -->",
            "",
            f"`{self.command}`, {time.strftime('%Y-%m-%d')}, commit {commit} ({profile}); "
            f"{machine()}, load average {self.load:.1f} before it began. Three nodes, Redis, "
            "telephones and trunk share this machine.",
            "",
            "A silence is the longest time without the far end's tone, at the telephone or the "
            "trunk, whichever is longer; p50 / p99 / maximum over the calls that continue. Indices "
            "are those of SRTP and SRTCP that came to the telephones, opened by another "
            "implementation.",
            "",
            "| What happens | Calls that continue | Silence, ms | Messages at the trunk "
            "| Records lost / doubled | Indices repeated | |",
            "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
            *self.rows,
            "",
            *self.notes,
            "",
        ]
        pathlib.Path(self.path).write_text("\n".join(lines))


def lost(cluster, report, name, bars):
    """Node a is killed under all calls."""
    began = time.monotonic()
    cluster.kill("a")
    if cluster.floats:
        time.sleep(MOVES_AFTER)
        give("b")
    taken = "of its calls"
    with contextlib.suppress(AssertionError):
        until("somebody has its calls", lambda: any(taken in cluster.log(n) for n in "bc"), 15)
    report.note(f"{name}: its calls were another node's after {time.monotonic() - began:.1f} s")
    time.sleep(max(0, began + USED_UP - time.monotonic()))
    silences = cluster.heard()
    time.sleep(3)
    later = cluster.heard()
    quiet = [n for n, gap in later.items() if gap is None or gap > HEARD]
    silences |= dict.fromkeys(quiet)
    found = cluster.end()
    report.case(name, silences, found, bars)
    gaps = [i["gap_ms"] for r in cluster.records() for i in r.get("interruptions", [])]
    report.note(f"{name}: {len(gaps)} interruptions in the records, {spread(gaps)} ms")
    if quiet:
        states = {**found["states"]}
        report.note(f"{name}: not heard at the end: {quiet[:20]}; telephones: {states}")
        for node in "bc":
            print("\n".join(cluster.log(node).splitlines()[-40:]))


def with_address(calls, report):
    """A node is killed, and its address moves."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster(stack, calls, True)
        lost(cluster, report, "a node is killed, its address moves", (3_000, 1.0, False))


def without_address(calls, report):
    """A node is killed, and its address is gone."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster(stack, calls, False)
        lost(cluster, report, "a node is killed, no address moves", (8_000, 0.95, True))


def store_away(calls, report):
    """Redis is killed for a minute."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster(stack, calls, False)
        first = cluster.stored()
        time.sleep(20)
        last = cluster.stored()
        # Each node renews its lease by one script a second, of some hundred bytes.
        scripts = (last[1] - first[1]) / 20 - len(OWN)
        held, came = (last[0] - cluster.empty[0]) / calls, (last[2] - first[2]) / 20
        report.note(
            f"{calls} calls in Redis, their telephones' registrations included: {held:,.0f} bytes "
            f"each; while they talk, {scripts:.1f} scripts and {came:,.0f} bytes a second in all"
        )
        cluster.redis.send_signal(signal.SIGKILL)
        cluster.redis.wait()
        time.sleep(60)
        cluster.store()
        until("the nodes have joined", cluster.joined, 30)
        silences = cluster.heard()
        found = cluster.end()
        report.case("Redis is killed for 60 s", silences, found, (1_000, 1.0, False))


def rolling(calls, report):
    """All nodes are upgraded, one after the other."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster(stack, calls, False, BEFORE)
        versions = []
        for node in OWN:
            cluster.upgrade(node)
            until("the nodes have joined", cluster.joined, 30)
            versions.append("/".join(sorted(n["version"] for n in cluster.seen(node))))
            # Two versions stand side by side under calls.
            time.sleep(5)
        silences = cluster.heard()
        found = cluster.end()
        name = "nodes are upgraded one after the other"
        report.case(name, silences, found, (1_000, 1.0, False))
        report.note(f"{name}: versions after each, {', '.join(versions)}")


CASES = {
    "with-address": with_address,
    "without-address": without_address,
    "store-away": store_away,
    "rolling": rolling,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--write", help="the page, written after each case")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    args = parser.parse_args()
    machines()
    command = " ".join(["interop/cluster/takeover.py", f"--calls {args.calls}", *args.cases])
    report = Report(args.calls, args.write, command)
    for name in args.cases or CASES:
        try:
            CASES[name](args.calls, report)
        except AssertionError as e:
            report.failed += 1
            print(f"FAILED  {name}: {e}", flush=True)
        report.write()
    sys.exit(bool(report.failed))


if __name__ == "__main__":
    main()
