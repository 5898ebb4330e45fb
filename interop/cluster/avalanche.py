#!/usr/bin/env python3
"""A node dies, and its browsers come back to the other two at once, over TLS: how long until all
are registered again, what calls in progress lose, and how long new calls take meanwhile.
  interop/run.sh avalanche [BROWSERS]
"""

import asyncio
import json
import os
import pathlib
import random
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from browsers import Browser, Refused  # noqa: E402
from common import running, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
NAME, REDIS = "calls.example.com", 6421
WEB = {"a": 8301, "b": 8302, "c": 8303}
# run.sh gives the namespace this one: all browsers are behind one address, as behind a NAT.
HOST = "10.45.0.1"
CALLS, LENGTH, WITHIN = 2, 75, 60


def certificate(folder):
    own = ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", f"/CN={NAME}"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        + [*own, "-addext", f"subjectAltName=DNS:{NAME}", "-addext", "basicConstraints=CA:FALSE"],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def gateway(folder, node):
    home = folder / node
    (home / "dialplans").mkdir(parents=True)
    (home / "dialplans/phones.toml").write_text(
        '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n'
    )
    ports = 30000 + 1000 * "abc".index(node)
    (home / "webtrunk.toml").write_text(
        f'[server]\ndomain = "{NAME}"\npublic_ip = "{HOST}"\n'
        f'[web]\nlisten = "0.0.0.0:{WEB[node]}"\n'
        f'public_url = "https://{NAME}"\n'
        f'tls = {{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}\n'
        f'[media]\nbrowser_port = 0\nworkers = 1\nports = "{ports}-{ports + 999}"\n'
        f'[api]\ncontrol = "c.sock"\n[events]\ncdr = {{ file = "cdr.jsonl" }}\n'
        "[limits]\nconnections_per_source = 12000\n"
        f'[cluster]\nnode = "{node}"\nstore = "redis://127.0.0.1:{REDIS}"\n'
        f'listen = "127.0.0.1:{WEB[node] + 1000}"\n'
        'key = "a key of the whole cluster, for a test only"\n'
        '[user.crowd]\npassword = "secret-of-crowd"\ncontext = "phones"\n'
        '[user.caller]\npassword = "secret-of-caller"\ncontext = "phones"\nmax_calls = 20\n'
        + "".join(
            f'[user.u{n}]\npassword = "secret-of-u{n}"\ncontext = "phones"\n'
            for n in range(BROWSERS)
        )
    )
    return [BINARY, "serve", "--log", "text", "-c", str(home / "webtrunk.toml")]


async def come(browser, nodes, tls, refusals):
    """Connects and registers, as often as it takes, at one of these nodes."""
    while True:
        try:
            await asyncio.wait_for(browser.connect(WEB[random.choice(nodes)], tls, HOST), 20)
            await asyncio.wait_for(browser.register(), 20)
            return time.monotonic()
        except Refused as refused:
            refusals.append(refused.status)
            browser.close()
            await asyncio.sleep(refused.after)
        except (TimeoutError, OSError, EOFError, ssl.SSLError):
            refusals.append("connection")
            browser.close()
            await asyncio.sleep(random.uniform(0.5, 4))


def call(folder, node, length):
    words = ["call", "9196", "--as", "caller", "--password", "secret-of-caller", "-o", "json"]
    words += ["--ws", f"wss://{NAME}:{WEB[node]}/sip", "--for", length]
    words += ["--control", str(folder / node / "c.sock")]
    env = {**os.environ, "SSL_CERT_FILE": str(folder / "cert.pem")}
    out = subprocess.PIPE
    return subprocess.Popen([BINARY, *words], stdout=out, stderr=out, text=True, env=env)


async def new_calls(folder, until_done, took):
    """A new call now and then: how long until it is answered."""
    while not until_done.is_set():
        child = call(folder, random.choice("ab"), "1s")
        out, err = await asyncio.to_thread(child.communicate)
        if child.returncode != 0:
            raise AssertionError(f"a new call failed: {out}{err}")
        took.append(json.loads(out).get("answered_ms"))


async def avalanche(folder, nodes):
    tls = ssl.create_default_context(cafile=folder / "cert.pem")
    browsers = [Browser(NAME, f"u{n}", f"secret-of-u{n}") for n in range(BROWSERS)]
    refusals = []
    for start in range(0, BROWSERS, 100):
        some = browsers[start : start + 100]
        await asyncio.gather(*(come(browser, ["c"], tls, refusals) for browser in some))
    held = [call(folder, node, f"{LENGTH}s") for node in "ab" for _ in range(CALLS)]
    await asyncio.sleep(3)
    refusals.clear()
    nodes["c"].kill()
    began, done, took = time.monotonic(), asyncio.Event(), []
    measuring = asyncio.create_task(new_calls(folder, done, took))
    back = await asyncio.gather(*(come(browser, ["a", "b"], tls, refusals) for browser in browsers))
    done.set()
    await measuring
    back = sorted(at - began for at in back)
    ended = [await asyncio.to_thread(child.communicate) for child in held]
    if any(child.returncode for child in held):
        raise AssertionError(f"a call in progress failed: {ended}")
    [browser.close() for browser in browsers]
    return (
        back,
        refusals,
        sorted(t for t in took if t is not None),
        [json.loads(o) for o, _ in ended],
    )


def main():
    soft = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = pathlib.Path(place)
        hosts = folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{HOST} {NAME}\n")
        # The namespace's own, as run.sh has made it.
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        stack.callback(subprocess.run, ["umount", "/etc/hosts"], check=True)
        certificate(folder)
        store = ["redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", ""]
        stack.enter_context(running([*store, "--dir", str(folder)], folder / "redis.log"))
        nodes = {}
        for node in WEB:
            log = folder / f"{node}.log"
            nodes[node] = stack.enter_context(running(gateway(folder, node), log))
            until("a gateway serves", lambda log=log: "serves the page" in log.read_text(), 60)
        back, refusals, took, held = asyncio.run(avalanche(folder, nodes))
        sent = sum(call["packets_expected"] for call in held)
        lost = sent - sum(call["packets_in"] for call in held)
        worst = max(max(call["loss_in"], call["loss_out"]) for call in held)
        print(
            f"{BROWSERS} browsers over TLS, cut off at once: half are back after "
            f"{back[len(back) // 2]:.1f} s, the last after {back[-1]:.1f} s"
        )
        print(f"told to come later: {refusals.count(503)}; connections that failed: "
              f"{refusals.count('connection')}")  # fmt: skip
        if took:
            print(f"new calls meanwhile: {len(took)}, the slowest answered after {took[-1]:.0f} ms")
        print(f"{len(held)} calls in progress: {lost} of {sent} packets lost")
        if back[-1] > WITHIN or lost or worst:
            print(f"FAILED  not all within {WITHIN} s, or a call lost packets")
            sys.exit(1)


BROWSERS = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000

if __name__ == "__main__":
    main()
