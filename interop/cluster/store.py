#!/usr/bin/env python3
"""Debian's redis-server: every script of src/store beside the simulation's model, several takers at
once, and a claim that a failover loses. Then Redis by Sentinel, TLS and a password, with
three sentinels and two gateways: a primary of which no replica hears takes no writes; one that is
made to take them is killed with writes that no replica has, and every user is in the next one all
the same.
  interop/run.sh store
"""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from browsers import Browser  # noqa: E402
from common import running, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
TAKERS = os.environ.get("WEBTRUNK_TAKERS", str(ROOT / "target/debug/examples/takers"))
PASSWORD = "store-secret"
SENTINELS_OWN = "sentinels-secret"
PLAIN = (6421, 6422)
DATA, SENTINELS, USERS = (6401, 6402), (6411, 6412, 6413), 40
WEB = {"a": 8201, "b": 8202}
ODD = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"


def certificates(folder):
    """An authority, and a certificate of 127.0.0.1 for everything that speaks Redis."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca = ["-subj", "/CN=CA", "-addext", "basicConstraints=critical,CA:TRUE"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", *ca)
    openssl("req", *key, "-keyout", "redis.key", "-out", "csr", "-subj", "/CN=redis")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    openssl("x509", "-req", "-in", "csr", "-out", "redis.pem", *signed, "-extfile", "ext")


def tls(folder, port):
    return (
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ntls-cert-file {folder}/redis.pem\n"
        f"tls-key-file {folder}/redis.key\ntls-ca-cert-file {folder}/ca.pem\n"
        f"tls-auth-clients no\ntls-replication yes\ndir {folder}\n"
    )


def data_server(folder, port, primary=None):
    text = tls(folder, port) + f"requirepass {PASSWORD}\nmasterauth {PASSWORD}\n"
    text += 'save ""\nappendonly no\nrepl-diskless-sync-delay 0\n'
    # As the book says: one that the network has cut off takes no writes beside the next.
    text += "min-replicas-to-write 1\nmin-replicas-max-lag 2\n"
    text += f"replicaof 127.0.0.1 {primary}\n" if primary else ""
    file = folder / f"redis-{port}.conf"
    file.write_text(text)
    return ["redis-server", str(file)]


def sentinel(folder, port):
    file = folder / f"sentinel-{port}.conf"
    file.write_text(
        tls(folder, port) + f"requirepass {SENTINELS_OWN}\nsentinel sentinel-pass {SENTINELS_OWN}\n"
        f"sentinel monitor calls 127.0.0.1 {DATA[0]} 2\nsentinel auth-pass calls {PASSWORD}\n"
        "sentinel down-after-milliseconds calls 1000\nsentinel failover-timeout calls 5000\n"
    )
    return ["redis-server", str(file), "--sentinel"]


def cli(folder, port, *words):
    password = SENTINELS_OWN if port in SENTINELS else PASSWORD
    own = ["-a", password, "--no-auth-warning"]
    tls = ["--tls", "--cacert", str(folder / "ca.pem")]
    done = subprocess.run(
        ["redis-cli", "-p", str(port), *own, *tls, *words], capture_output=True, text=True
    )
    return done.stdout.strip()


def gateway(folder, node):
    home = folder / node
    (home / "dialplans").mkdir(parents=True)
    users = "".join(
        f'[user.u{n}]\npassword = "secret-of-u{n}"\ncontext = "phones"\n' for n in range(USERS)
    )
    (home / "dialplans/phones.toml").write_text(
        '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n'
    )
    # One is given the authority by a file of its own, on a machine that has none; the other has it
    # from its machine, between others of which one cannot be read.
    (folder / "odd.pem").write_text(ODD + (folder / "ca.pem").read_text())
    ca, machine = {"a": (f'ca = "{folder}/ca.pem"\n', "none.pem"), "b": ("", "odd.pem")}[node]
    names = ", ".join(f'"rediss://127.0.0.1:{port}"' for port in SENTINELS)
    (home / "webtrunk.toml").write_text(
        f'[server]\ndomain = "wt.test"\npublic_ip = "127.0.0.1"\n'
        f'[web]\nlisten = "127.0.0.1:{WEB[node]}"\n'
        f'public_url = "http://wt.test"\n[media]\nbrowser_port = 0\nworkers = 1\n'
        f'[api]\ncontrol = "c.sock"\n[events]\ncdr = {{ file = "cdr.jsonl" }}\n'
        f'[cluster]\nnode = "{node}"\nstore = [{names}]\nsentinel = "calls"\n'
        f'password = "{PASSWORD}"\nsentinel_password = "{SENTINELS_OWN}"\n{ca}'
        f'listen = "127.0.0.1:{WEB[node] + 1000}"\n'
        f'key = "a key of the whole cluster, for a test only"\n{users}'
    )
    serve = [BINARY, "serve", "--log", "text", "-c", str(home / "webtrunk.toml")]
    return ["env", f"SSL_CERT_FILE={folder / machine}", *serve]


def nodes(folder, node):
    words = ["nodes", "-o", "json", "--control", str(folder / node / "c.sock")]
    done = subprocess.run([BINARY, *words], capture_output=True, text=True)
    return json.loads(done.stdout or "[]") if done.returncode == 0 else []


def joined(folder):
    return all(
        len(seen) == 2 and all(n["state"] == "joined" for n in seen)
        for seen in (nodes(folder, node) for node in WEB)
    )


def state(folder, node):
    """Where a node says that it stands."""
    return next((n["state"] for n in nodes(folder, node) if n["this"]), None)


def doctor(folder, node):
    words = [BINARY, "doctor", "-c", str(folder / node / "webtrunk.toml")]
    return subprocess.run(words, capture_output=True, text=True).stdout


def alone(folder, servers):
    """The primary is left without its replica, and takes writes again once it is there."""
    if "no replica hears" in (said := doctor(folder, "a")):
        raise AssertionError(said)
    os.kill(servers[DATA[1]].pid, signal.SIGSTOP)
    cli(folder, DATA[0], "CLIENT", "KILL", "TYPE", "replica")
    began = time.monotonic()
    away = lambda: all(state(folder, node) == "store away" for node in WEB)  # noqa: E731
    until("both nodes see a store that is away", away, 15)
    took = time.monotonic() - began
    os.kill(servers[DATA[1]].pid, signal.SIGCONT)
    until("the replica follows again", lambda: online(folder), 30)
    until("the gateways have joined again", lambda: joined(folder), 30)
    print(f"ok      a primary without a replica was away for its nodes after {took:.1f} s")
    for port in DATA:
        cli(folder, port, "CONFIG", "SET", "min-replicas-to-write", "0")
    if "no replica hears" not in (said := doctor(folder, "a")):
        raise AssertionError(said)
    print("ok      doctor says that a primary takes writes of which no replica hears")


def online(folder):
    return "state=online" in cli(folder, DATA[0], "INFO", "replication")


async def registered(browsers):
    async def one(n, browser):
        await browser.connect(WEB["ab"[n % 2]])
        await browser.register()

    await asyncio.gather(*(one(n, browser) for n, browser in enumerate(browsers)))


def known(folder, port):
    """How many users a server knows; one question, for much happens meanwhile."""
    return len(cli(folder, port, "KEYS", "webtrunk:wt.test:user:*").split())


def primary(folder):
    said = cli(folder, SENTINELS[0], "SENTINEL", "get-master-addr-by-name", "calls").split()
    return int(said[1]) if len(said) == 2 else None


def knows(folder, sentinel):
    return str(DATA[1]) in cli(folder, sentinel, "SENTINEL", "replicas", "calls")


def cases(folder, servers):
    until("the replica follows", lambda: "connected_slaves:1" in cli(folder, DATA[0], "INFO"))
    until("the sentinels name the primary", lambda: primary(folder) == DATA[0])
    until("the gateways have joined", lambda: joined(folder), 30)
    # They ask the primary for its replicas every ten seconds; of one that they have not heard of
    # they can make no primary.
    until("the sentinels know the replica", lambda: all(knows(folder, at) for at in SENTINELS), 30)
    alone(folder, servers)
    # The replica hears nothing of what follows.
    os.kill(servers[DATA[1]].pid, signal.SIGSTOP)
    cli(folder, DATA[0], "CLIENT", "KILL", "TYPE", "replica")
    loop = asyncio.new_event_loop()
    browsers = [Browser("wt.test", f"u{n}", f"secret-of-u{n}") for n in range(USERS)]
    loop.run_until_complete(registered(browsers))
    until("the primary knows all", lambda: known(folder, DATA[0]) == USERS)
    print(f"ok      {USERS} users are known by a primary that Sentinel names, over TLS")
    key = "webtrunk:wt.test:user:u7"
    print(f"        a user takes {cli(folder, DATA[0], 'MEMORY', 'USAGE', key)} bytes of Redis")
    os.kill(servers[DATA[0]].pid, signal.SIGKILL)
    os.kill(servers[DATA[1]].pid, signal.SIGCONT)
    began = time.monotonic()
    before = known(folder, DATA[1])
    if before:
        raise AssertionError(f"the replica has {before} users: nothing was lost")
    until("the replica is the primary", lambda: primary(folder) == DATA[1], 60)
    promoted = time.monotonic() - began
    until("everybody is written again", lambda: known(folder, DATA[1]) == USERS, 30)
    until("the gateways have joined again", lambda: joined(folder), 30)
    print(
        f"ok      a primary that died with its writes: the next one came after {promoted:.1f} s, "
        f"with nobody in it, and had all {USERS} users after {time.monotonic() - began:.1f} s"
    )
    [browser.close() for browser in browsers]
    for node in WEB:
        if "ERROR" in (log := (folder / f"{node}.log").read_text()):
            raise AssertionError(log)


def plain(folder, port, primary=None):
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    words += ["--appendonly", "no", "--dir", str(folder), "--repl-diskless-sync-delay", "0"]
    return words + (["--replicaof", f"127.0.0.1 {primary}"] if primary else [])


def ask(port, *words):
    done = subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True)
    return done.stdout.strip()


def takers(*words):
    """Runs it to its end, and says what it says."""
    done = subprocess.run([TAKERS, *words], capture_output=True, text=True, timeout=400)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise AssertionError(done.stderr[-3000:])


def scripts(folder):
    """What nodes ask of the store, without nodes."""
    urls = [f"redis://127.0.0.1:{port}" for port in PLAIN]
    with (
        running(plain(folder, PLAIN[0]), folder / "plain.log") as primary,
        running(plain(folder, PLAIN[1], PLAIN[0]), folder / "replica.log") as replica,
    ):
        until("the replica follows", lambda: "connected_slaves:1" in ask(PLAIN[0], "INFO"))
        takers("all", urls[0])
        pipe = subprocess.PIPE
        lost = subprocess.Popen(
            [TAKERS, "lost", *urls], stdin=pipe, stdout=pipe, text=True, bufsize=1
        )
        try:
            kept = "webtrunk:wt.test:calls:a:0000000000000001"
            said(lost, "kept")
            until("the replica has it", lambda: ask(PLAIN[1], "HLEN", kept) == "2")
            os.kill(replica.pid, signal.SIGSTOP)
            ask(PLAIN[0], "CLIENT", "KILL", "TYPE", "replica")
            lost.stdin.write("go on\n")
            said(lost, "claimed")
            os.kill(primary.pid, signal.SIGKILL)
            os.kill(replica.pid, signal.SIGCONT)
            ask(PLAIN[1], "REPLICAOF", "NO", "ONE")
            lost.stdin.write("go on\n")
            rest, _ = lost.communicate(timeout=60)
            print(rest, end="", flush=True)
            if lost.returncode:
                raise AssertionError("a claim that is lost: see above")
        finally:
            lost.kill()
            lost.wait()


def said(program, what):
    line = program.stdout.readline().strip()
    if line != what:
        raise AssertionError(f"{what} was expected, {line!r} said")


def main():
    with tempfile.TemporaryDirectory() as place:
        scripts(pathlib.Path(place))
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        certificates(folder)
        programs = {
            DATA[0]: data_server(folder, DATA[0]),
            DATA[1]: data_server(folder, DATA[1], DATA[0]),
            **{port: sentinel(folder, port) for port in SENTINELS},
        }
        with ExitStack() as stack:
            servers = {
                port: stack.enter_context(running(words, folder / f"{port}.log"))
                for port, words in programs.items()
            }
            for node in WEB:
                stack.enter_context(running(gateway(folder, node), folder / f"{node}.log"))
            try:
                cases(folder, servers)
            except AssertionError as e:
                logs = [f.read_text()[-1500:] for f in sorted(folder.glob("*.log"))]
                print(f"FAILED  {e}\n" + "\n".join(logs))
                sys.exit(1)


if __name__ == "__main__":
    main()
