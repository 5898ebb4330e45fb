"""The gateway that is attacked, the namespace of everybody else, and what is measured of both."""

import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
ATTACKER = str(ROOT / "target/debug/examples/attacker")
GATEWAY, WORLD = "10.40.0.1", "10.40.0.2"
WEB, SIP, BROWSERS, PORTS = 8443, 5060, 8444, (20_000, 23_999)
CALLER, FAR, SECOND = "10.60.0.1", "10.60.0.2", "10.60.0.3"
HOMES, STRANGERS, CROWD = "10.50.0.1", "10.66.0.1", "10.70.0.1"
# Nobody may make the gateway send anything there.
INTERNAL = "10.99.0.1"
NETWORKS = ["10.50.0.0/16", "10.60.0.0/16", "10.66.0.0/16", "10.70.0.0/16", "10.99.0.0/16"]
SECRETS = ["alice-secret", "bob-secret", "clerk-secret", "storm-secret", "branch-secret"]
# Who logs in while others attack.
CLERKS = "\n".join(
    f'[user.clerk_{letter}]\npassword = "clerk-secret"\ncontext = "in"' for letter in "abcdefghij"
)
CONFIG = f"""[server]
domain = "hostile.test"
public_ip = "{GATEWAY}"
[web]
listen = "{GATEWAY}:{WEB}"
tls = {{ cert = "cert.pem", key = "key.pem" }}
[sip]
udp = "{GATEWAY}:{SIP}"
tcp = "{GATEWAY}:{SIP}"
sha256 = false
[media]
browser_port = {BROWSERS}
workers = 1
ports = "{PORTS[0]}-{PORTS[1]}"
[limits]
calls = 2000
calls_per_user = 1000
new_calls_per_second = 100000
[events]
cdr = {{ file = "cdr.jsonl" }}
[metrics]
listen = "127.0.0.1:9091"
[api]
control = "control.sock"
[user.alice]
password = "alice-secret"
context = "in"
# Its calls are those of a hundred.
fraud_brake = false
[user.bob]
password = "bob-secret"
context = "in"
{CLERKS}
[trunk.branch]
accepts_registration = true
username = "branch"
password = "branch-secret"
context = "in"
[trunk.far]
uri = "sip:{FAR}:5060"
allow = ["{FAR}"]
codecs = ["pcmu"]
[trunk.caller]
uri = "sip:{CALLER}:5060"
allow = ["{CALLER}"]
codecs = ["pcmu"]
context = "in"
[trunk.second]
uri = "sip:{SECOND}:5060"
allow = ["{SECOND}"]
codecs = ["pcmu"]
context = "in"
"""
ROUTES = '[[route]]\nname = "Far"\nmatch = "7XXX"\ndo = [{ dial = ["trunk:far"] }]\n'


def run(*command, **more):
    return subprocess.run(command, check=True, **more)


class World:
    """A namespace beside the gateway's: attackers, trunks and browsers, an address for each."""

    def __init__(self):
        self.keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        pid = self.keeper.pid
        own = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{pid}/ns/net").st_ino == own:
            time.sleep(0.01)
        self.enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        run("ip", "link", "add", "hg0", "type", "veth", "peer", "name", "hw0", "netns", str(pid))
        run("ip", "address", "add", f"{GATEWAY}/24", "dev", "hg0")
        run("ip", "link", "set", "hg0", "up")
        for command in (
            ["ip", "link", "set", "lo", "up"],
            ["ip", "address", "add", f"{WORLD}/24", "dev", "hw0"],
            ["ip", "link", "set", "hw0", "up"],
        ):
            run(*self.enter, *command)
        for network in NETWORKS:
            run("ip", "route", "add", network, "via", WORLD)
            # Every address of it is the world's own.
            run(*self.enter, "ip", "route", "add", "local", network, "dev", "lo")
        rules = (
            "table ip watch { counter internal { }\n"
            "chain in { type filter hook prerouting priority 0;\n"
            f'iifname "hw0" ip daddr {INTERNAL} counter name internal\n}}\n}}\n'
        )
        run(*self.enter, "nft", "-f", "-", input=rules.encode())

    def internal(self):
        """Packets that came from the gateway for a host it must not send to."""
        out = run(*self.enter, "nft", "-j", "list", "counters", capture_output=True).stdout
        return sum(e["counter"]["packets"] for e in json.loads(out)["nftables"] if "counter" in e)

    def start(self, *command, nice=10, **more):
        command = [*self.enter, "nice", "-n", str(nice), *map(str, command)]
        more = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        } | more
        return subprocess.Popen(command, **more)

    def attack(self, kind, *args, nice=10):
        return self.start(ATTACKER, kind, *args, nice=nice)

    def close(self):
        self.keeper.kill()
        self.keeper.wait()


def result(process, patience=900):
    """What a program of ours printed."""
    out, err = process.communicate(timeout=patience)
    if process.returncode:
        # A backtrace says nothing here, and names paths of this machine.
        raise RuntimeError(err.strip().split("\n\n")[0][:200])
    return json.loads(out)


class Gateway:
    """One gateway; `users` are those of a storm."""

    def __init__(self, work, users=0, before=(), env=None, more="", files=None):
        self.work = pathlib.Path(tempfile.mkdtemp(dir=work))
        self.log = self.work / "log"
        for name in ("cert.pem", "key.pem"):
            shutil.copy(work / name, self.work / name)
        storm = "".join(
            f'[user.u{n}]\npassword = "storm-secret"\ncontext = "in"\n' for n in range(users)
        )
        (self.work / "webtrunk.toml").write_text(CONFIG + more + storm)
        (self.work / "dialplans").mkdir()
        (self.work / "dialplans/in.toml").write_text(ROUTES)
        self.before, self.env, self.files = list(before), env or {}, files
        self.samples, self.process = [], None
        self.start()
        threading.Thread(target=self.watch, daemon=True).start()

    def start(self):
        command = [*self.before, BINARY, "serve", "--log", "json", "-c", "webtrunk.toml"]
        limit = self.files and (
            lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (self.files,) * 2)
        )
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                ["nice", "-n", "-10", *command],
                cwd=self.work,
                env=os.environ | self.env,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=limit or None,
            )
        end = time.time() + 30
        while not self.alive():
            if time.time() > end or self.process.poll() is not None:
                raise RuntimeError(f"the gateway does not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def alive(self):
        try:
            return bool(self.metrics())
        except OSError:
            return False

    def metrics(self):
        """Every series, by name and labels."""
        with urllib.request.urlopen("http://127.0.0.1:9091/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def rss(self):
        """Resident memory, KiB."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))

    def cpu(self):
        """CPU used, s."""
        text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        return sum(map(int, text.rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def watch(self):
        while True:
            with contextlib.suppress(OSError, AttributeError):
                self.samples.append((time.time(), self.rss()))
            time.sleep(0.25)

    def peak(self, since):
        return max((rss for at, rss in self.samples if at >= since), default=0)

    def lines(self):
        return self.log.read_text(errors="replace").splitlines()

    def command(self, *args):
        return run(
            BINARY, *args, "--control", str(self.work / "control.sock"), capture_output=True
        ).stdout.decode()

    def records(self):
        path = self.work / "cdr.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def close(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait()


def prepare(work):
    """A certificate that programs here believe, and a name they find."""
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-keyout", str(work / "key.pem"), "-out", str(work / "cert.pem"), "-days", "2",
        "-subj", "/CN=hostile.test", "-addext", "subjectAltName=DNS:hostile.test",
        "-addext", "basicConstraints=critical,CA:FALSE", stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.environ["SSL_CERT_FILE"] = str(work / "cert.pem")
    hosts = work / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{GATEWAY} hostile.test\n")
    run("mount", "--bind", str(hosts), "/etc/hosts")
