"""The gateway that is hurt, its supervisor, and the telephones that say what they noticed."""

import contextlib
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
PHONES = os.environ.get("WEBTRUNK_PHONES", str(ROOT / "target/debug/examples/phones"))
# The browsers' pages name this port.
WEB, SIP, PUBLIC, TRUNK = "127.0.0.1:8090", "127.0.0.1:5070", "10.45.0.1", "127.0.0.2:5080"
BROWSERS = ["jssip", "sipjs"]
TELEPHONES = [
    "nice", "-n", "-5", PHONES,
    "--web", WEB, "--sip", SIP, "--trunk", TRUNK, "--media", PUBLIC,
]  # fmt: skip

CONFIG = f"""[server]
domain = "wt.test"
public_ip = "{PUBLIC}"
STATE
[web]
listen = "{WEB}"
origins = ["http://localhost:8097", "http://localhost:8098"]
[sip]
udp = "{SIP}"
sha256 = false
[media]
browser_port = 8090
workers = 2
ports = "20000-21999"
[limits]
calls_per_user = 10
new_calls_per_second = 1000
[events]
cdr = {{ file = "cdr.jsonl" }}
[metrics]
listen = "127.0.0.1:9091"
[api]
control = "control.sock"
[trunk.far]
uri = "sip:{TRUNK}"
allow = ["127.0.0.2"]
codecs = ["pcmu"]
context = "in"
"""
ROUTES = """[[route]]
name = "Far"
match = "7XXXX"
do = [{ dial = ["trunk:far"] }]
[[route]]
name = "Whoever owns the number"
match = "+49307XXXX"
do = [{ ring = ["did:{number}"], timeout = "20s" }]
"""


def users(phones):
    of = [(f"p{n}", f"+49307{n:04}") for n in range(phones)]
    of += [(name, f"+49308000{n}") for n, name in enumerate(BROWSERS)]
    return "".join(
        f'[user.{name}]\npassword = "chaos-secret"\ndid = "{did}"\ncontext = "in"\n'
        for name, did in of
    )


def start(command, **more):
    """A process whose standard input is lines of ours, and whose output is lines for us."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, **more)


class Told:
    """A program that answers each line with a line of JSON."""

    def __init__(self, command, **more):
        self.process, self.answers = start(command, **more), queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)

    def ask(self, *words, patience=300):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.answers.get(timeout=patience)
        if answer is None:
            raise RuntimeError(f"{self.process.args[0]} ended, asked for {words[0]}")
        return answer

    def close(self):
        self.process.kill()
        self.process.wait()


def said_of(record):
    """Whose side a record's verdict names."""
    return (record.get("verdict") or {"side": "nobody"})["side"]


class Gateway:
    """One gateway in a folder of its own; its supervisor is whoever holds this."""

    def __init__(self, folder, phones, env=None, state='state_dir = "state"'):
        self.folder, self.env, self.process, self.upgraded = folder, env or {}, None, False
        self.log = folder / "log"
        (folder / "webtrunk.toml").write_text(CONFIG.replace("STATE", state) + users(phones))
        (folder / "dialplans").mkdir()
        (folder / "dialplans/in.toml").write_text(ROUTES)
        self.start()
        self.wait()

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                ["nice", "-n", "-10", BINARY, "serve", "--log", "json", "-c", "webtrunk.toml"],
                cwd=self.folder, env=os.environ | self.env, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def wait(self, patience=30):
        """Until it serves."""
        end = time.time() + patience
        while not self.answers():
            if time.time() > end or self.process.poll() is not None:
                raise RuntimeError(f"it does not start: {self.log.read_text()[-1500:]}")
            time.sleep(0.05)

    def answers(self):
        with contextlib.suppress(OSError):
            urllib.request.urlopen("http://127.0.0.1:9091/metrics", timeout=5).read()
            return True
        return False

    def kill(self):
        """kill -9, as the kernel does when memory is out."""
        self.process.kill()
        self.process.wait()

    def restart(self):
        """What a supervisor does at once."""
        self.kill()
        self.start()

    def upgrade(self):
        """A new process of the same binary takes the place of the running one."""
        done = subprocess.run(
            [BINARY, "upgrade", "--control", str(self.folder / "control.sock")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.upgraded = True
        return done.returncode, (done.stdout + done.stderr).strip()

    def shown(self):
        """What it says of its calls, for whoever reads of a run that failed."""
        control = ["--control", str(self.folder / "control.sock")]
        told = [self.log.read_text(errors="replace")[-4_000:]]
        for words in (["calls"], ["trace", "--last"]):
            done = subprocess.run([BINARY, *words, *control], capture_output=True, text=True)
            told.append(done.stdout + done.stderr)
        return "\n".join(told)

    def signal(self, which):
        self.process.send_signal(which)

    def cpu(self):
        """CPU used, s."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def records(self):
        path = self.folder / "cdr.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def warnings(self, level="ERROR"):
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if f'"level":"{level}"' in line]

    def kept(self):
        """Bytes kept of each call: signalling and media."""
        with tempfile.TemporaryDirectory() as copy:
            for name in ("checkpoints.db", "checkpoints.db-wal"):
                with contextlib.suppress(OSError):
                    shutil.copy(self.folder / "state" / name, copy)
            database = sqlite3.connect(f"{copy}/checkpoints.db")
            rows = database.execute("SELECT name, LENGTH(sealed) FROM checkpoint").fetchall()
        calls = {}
        for name, length in rows:
            call = name.removesuffix(".media")
            calls[call] = calls.get(call, 0) + length
        return list(calls.values())

    def close(self):
        self.signal(signal.SIGCONT)
        if self.upgraded:
            # The first process passes it on to the last, and ends as that does.
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.kill()


class World:
    """A gateway, `phones` test phones, and real browsers if wanted."""

    def __init__(self, work, phones, browsers=False, **gateway):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=work))
        gateway.pop("prepare", lambda folder: None)(self.folder)
        self.gateway = Gateway(self.folder, phones, **gateway)
        self.phones, self.browsers = Told(TELEPHONES), None
        self.calls, self.silences = phones, []
        try:
            self.begin(phones, browsers)
        except Exception:
            self.close()
            raise

    def begin(self, phones, browsers):
        if browsers:
            script = ROOT / "interop/chaos/browsers.mjs"
            self.browsers = Told(["node", str(script)], cwd=script.parent)
        found = self.phones.ask("call", phones)
        if found["talking"] < phones:
            raise RuntimeError(f"not all calls began: {found}")
        if self.browsers:
            self.calls += self.browsers.ask("call")["talking"]
        # Until the trunk has heard browsers too, and the last call is on disk.
        time.sleep(2 if browsers else 1)
        self.look()
        self.silences.clear()

    def look(self, but=None):
        """The silences since the last look, in ms: those of browsers, those of the trunk. Without
        those of one phone's call, if it is named."""
        found = self.phones.ask("gaps")
        left_out = () if but is None else (f"p{but}", f"7{but:04}")

        def gaps(calls):
            return [c["gap"] for name, c in calls.items() if c["alive"] and name not in left_out]

        at = {"browser": gaps(found["phones"]), "trunk": gaps(found["trunk"])}
        if self.browsers:
            at["browser"] += self.browsers.ask("gaps")["gaps"]
        self.silences.append(at)
        return at

    def end(self):
        """Everybody hangs up; what they, the trunk and the records say."""
        # From now on the trunk may be told that calls end.
        self.phones.ask("ending")
        real = self.browsers.ask("end") if self.browsers else {"talking": 0, "calls": []}
        found = self.phones.ask("end")
        end = time.time() + 20
        while len(self.gateway.records()) < self.calls and time.time() < end:
            time.sleep(0.1)
        # One that comes twice has time to.
        time.sleep(1)
        records = self.gateway.records()
        ids = [record["call"] for record in records]
        return found | {
            "calls": self.calls,
            "went_on": found["talking"] + real["talking"],
            "browsers": real["calls"],
            "lost": self.calls - len(set(ids)),
            "doubled": len(ids) - len(set(ids)),
            "blamed": [r["verdict"] for r in records if said_of(r) != "nobody"],
            "errors": self.gateway.warnings(),
        }

    def close(self):
        for told in (self.phones, self.browsers):
            if told:
                told.close()
        with contextlib.suppress(ProcessLookupError):
            self.gateway.close()
        state = self.folder / "state"
        while state.is_mount():
            subprocess.run(["umount", "--lazy", str(state)], check=True)


def build():
    """The commit, and how the gateway was built."""
    rev = ["git", "log", "-1", "--format=%h of %cs"]
    commit = (
        os.environ.get("WEBTRUNK_COMMIT")
        or subprocess.run(rev, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    )
    return commit, "release" if "/release/" in BINARY else "debug"


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores ({cpu.group(1) if cpu else 'unknown'})"
