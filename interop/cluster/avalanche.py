#!/usr/bin/env python3
"""Two of four nodes die, and their browsers come back to the other two at once, over TLS: how long
until all are registered again, what calls in progress lose, and how long new calls take meanwhile.
  interop/run.sh avalanche [BROWSERS [ADDRESSES]]   2000 from 40 otherwise; 1: all behind one NAT
"""

import asyncio
import json
import os
import pathlib
import random
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from browsers import Browser, Crowd, Refused, all_files, each, stay  # noqa: E402
from common import running, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
NAME, REDIS = "calls.example.com", 6421
WEB = {"a": 8301, "b": 8302, "c": 8303, "d": 8304}
# Half of the browsers are at each of these; they are the ones that die.
DYING = "cd"
# run.sh gives the namespace this one.
HOST = "10.45.0.1"
CALLS, LENGTH, WITHIN = 2, 100, 60
# New calls at once meanwhile, and how long one may take to be answered, ms.
CALLERS, SLOWEST = 3, 500
AT_ONCE = 50
# Of those that come back at once, so many of each process are in their handshake: more than it can
# play at a time would time out here, which no machine with one browser does.
COMING = 2_000


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
    ports = 30000 + 1000 * "abcd".index(node)
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
        '[user.caller]\npassword = "secret-of-caller"\ncontext = "phones"\n'
        "max_calls = 20\ncalls_per_second = 50\nfraud_brake = false\n"
        + "".join(
            f'[user.u{n}]\npassword = "secret-of-u{n}"\ncontext = "phones"\n'
            for n in range(BROWSERS)
        )
    )
    return [BINARY, "serve", "--log", "text", "-c", str(home / "webtrunk.toml")]


def office(number):
    """The address that so many browsers share."""
    return f"10.46.0.{1 + number}"


async def come(browser, nodes, tls, refusals, coming):
    """Connects and registers, as often as it takes, at one of these nodes."""
    source = office(int(browser.user[1:]) % ADDRESSES)
    while True:
        try:
            at = WEB[random.choice(nodes)]
            async with coming:
                await asyncio.wait_for(browser.connect(at, tls, HOST, source), 20)
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


def half_of(folder):
    """What a process with half of the browsers does: it comes, and comes back."""

    async def work(part, step):
        # Browsers are machines of their own: they take nothing from the gateways.
        os.nice(10)
        tls = ssl.create_default_context(cafile=folder / "cert.pem")
        mine = range(part, BROWSERS, len(DYING))
        browsers = [Browser(NAME, f"u{n}", f"secret-of-u{n}") for n in mine]
        coming = asyncio.Semaphore(COMING)
        await step()
        at = DYING[part]
        await each(browsers, AT_ONCE, lambda browser: come(browser, at, tls, [], coming))
        staying = [asyncio.create_task(stay(browser)) for browser in browsers]
        yield len(browsers)
        began, refusals = await step(), []
        [task.cancel() for task in staying]
        await asyncio.gather(*staying)
        [browser.close() for browser in browsers]
        again = (come(browser, "ab", tls, refusals, coming) for browser in browsers)
        back = await asyncio.gather(*again)
        staying = [asyncio.create_task(stay(browser)) for browser in browsers]
        yield [at - began for at in back], refusals
        await step()
        [task.cancel() for task in staying]
        [browser.close() for browser in browsers]
        yield None

    return work


def call(folder, node, length):
    words = ["call", "9196", "--as", "caller", "--password", "secret-of-caller", "-o", "json"]
    words += ["--ws", f"wss://{NAME}:{WEB[node]}/sip", "--for", length]
    words += ["--control", str(folder / node / "c.sock")]
    env = {**os.environ, "SSL_CERT_FILE": str(folder / "cert.pem")}
    out = subprocess.PIPE
    return subprocess.Popen([BINARY, *words], stdout=out, stderr=out, text=True, env=env)


async def new_calls(folder, until_done, took):
    """One new call after the other: how long until each is answered."""
    while not until_done.is_set():
        child = call(folder, random.choice("ab"), "500ms")
        out, err = await asyncio.to_thread(child.communicate)
        said = json.loads(out) if out else {}
        # What is heard in so short a call is not asked here.
        if said.get("sip_code") != 200:
            raise AssertionError(f"a new call failed: {out}{err}")
        took.append(said["answered_ms"])


async def avalanche(folder, nodes, crowd):
    await crowd.go()
    held = [call(folder, node, f"{LENGTH}s") for node in "ab" for _ in range(CALLS)]
    await asyncio.sleep(3)
    for node in DYING:
        nodes[node].kill()
    began, done, took = time.monotonic(), asyncio.Event(), []
    measuring = [asyncio.create_task(new_calls(folder, done, took)) for _ in range(CALLERS)]
    halves = await crowd.go(began)
    done.set()
    await asyncio.gather(*measuring)
    ended = [await asyncio.to_thread(child.communicate) for child in held]
    if any(child.returncode for child in held):
        raise AssertionError(f"a call in progress failed: {ended}")
    await crowd.go()
    return (
        sorted(at for back, _ in halves for at in back),
        [refused for _, refusals in halves for refused in refusals],
        sorted(took),
        [json.loads(o) for o, _ in ended],
    )


def main():
    most = 2 * (all_files() - 2_000)
    if most < BROWSERS:
        sys.exit(f"a process may open so many files here that {most} browsers are the most")
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = pathlib.Path(place)
        hosts = folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{HOST} {NAME}\n")
        # The namespace's own, as run.sh has made it.
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        stack.callback(subprocess.run, ["umount", "/etc/hosts"], check=True)
        for number in range(ADDRESSES):
            own = ["address", "add", f"{office(number)}/32", "dev", "lo"]
            subprocess.run(["ip", *own], check=True)
        certificate(folder)
        store = ["redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", ""]
        stack.enter_context(running([*store, "--dir", str(folder)], folder / "redis.log"))
        nodes = {}
        for node in WEB:
            log = folder / f"{node}.log"
            nodes[node] = stack.enter_context(running(gateway(folder, node), log))
            until("a gateway serves", lambda log=log: "serves the page" in log.read_text(), 60)
        crowd = Crowd(len(DYING), half_of(folder))
        stack.callback(crowd.end)
        back, refusals, took, held = asyncio.run(avalanche(folder, nodes, crowd))
        sent = sum(call["packets_expected"] for call in held)
        lost = sent - sum(call["packets_in"] for call in held)
        worst = max(max(call["loss_in"], call["loss_out"]) for call in held)
        print(
            f"{BROWSERS} browsers of {ADDRESSES} addresses over TLS, cut off at once: half are "
            f"back after {back[len(back) // 2]:.1f} s, the last after {back[-1]:.1f} s"
        )
        print(f"told to come later: {refusals.count(503)}; connections that failed: "
              f"{refusals.count('connection')}")  # fmt: skip
        slow = took[len(took) * 99 // 100] if took else 0
        print(
            f"new calls meanwhile: {len(took)}, half answered within "
            f"{took[len(took) // 2]:.0f} ms, 99 % within {slow:.0f} ms, the slowest after "
            f"{took[-1]:.0f} ms"
        )
        print(f"{len(held)} calls in progress: {lost} of {sent} packets lost")
        if back[-1] > WITHIN or lost or worst or slow > SLOWEST:
            print(
                f"FAILED  not all within {WITHIN} s, or a call lost packets, or a new one took "
                f"more than {SLOWEST} ms"
            )
            sys.exit(1)


BROWSERS = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
ADDRESSES = int(sys.argv[2]) if len(sys.argv) > 2 else 40

if __name__ == "__main__":
    main()
