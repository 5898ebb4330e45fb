#!/usr/bin/env python3
"""Clients in TypeScript and Python, generated from a running gateway's own description of its API,
compiled with strict types, and used against it."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import is_open, running, until  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
TOOLS = ROOT / "target/clients"
URL = "http://127.0.0.1:8088"
EXPECTED = {"domain": "x.test", "user": "anna", "route": "Echo", "calls": 0, "none": 404}


@contextlib.contextmanager
def gateway(folder):
    digest = hashlib.sha256(b"a token of the test").hexdigest()
    (folder / "dialplans").mkdir()
    (folder / "dialplans/out.toml").write_text(
        '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n'
    )
    (folder / "webtrunk.toml").write_text(
        '[server]\ndomain = "x.test"\npublic_ip = "127.0.0.1"\n[web]\nlisten = "127.0.0.1:8088"\n'
        f'[api.token.test]\nsha256 = "{digest}"\nscope = "write"\n'
        '[credentials]\nsecret = "0123456789012345678901234567890123456789"\n'
        '[user.alice]\npassword = "a word of alice"\ncontext = "out"\n'
    )
    words = [BINARY, "serve", "-c", str(folder / "webtrunk.toml"), "--control", str(folder / "c")]
    with running(words, folder / "log"):
        until("the gateway", lambda: is_open(8088))
        yield


def done(words, folder, env=None):
    """What a program prints; what it says is shown if it fails."""
    run = subprocess.run(
        [str(w) for w in words], cwd=folder, env=env, capture_output=True, text=True
    )
    if run.returncode:
        raise AssertionError(f"{words}: {run.stdout}{run.stderr}")
    return run.stdout


def typescript(folder, described):
    # Beside the generator's own modules, which it and the compiler look for there.
    work = TOOLS / "typescript"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for name in ("client.ts", "tsconfig.json", "package.json", "generator.mjs"):
        shutil.copy(HERE / name, work)
    bin = TOOLS / "node_modules/.bin"
    env = {**os.environ, "DESCRIBED": str(described)}
    done([bin / "openapi-ts", "-f", "generator.mjs"], work, env)
    done([bin / "tsc", "-p", "."], work)
    return done(["node", "out/client.js", URL, "a token of the test"], work)


def python(folder, described):
    (folder / "settings.yml").write_text(
        "content_type_overrides:\n  application/vnd.tcpdump.pcap: application/octet-stream\n"
        "post_hooks: []\n"
    )
    shutil.copy(HERE / "client.py", folder)
    words = ["generate", "--path", described, "--output-path", "generated", "--meta", "none"]
    generator = TOOLS / "python/bin/openapi-python-client"
    said = done([generator, *words, "--config", "settings.yml", "--fail-on-warning"], folder)
    if "WARNING" in said:
        raise AssertionError(said)
    run = [TOOLS / "python/bin/python", "client.py", URL, "a token of the test"]
    return done(run, folder)


def main():
    for make in (typescript, python):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as place, gateway(pathlib.Path(place)):
            folder = pathlib.Path(place)
            described = folder / "openapi.json"
            words = [BINARY, "openapi", "--control", folder / "c"]
            described.write_text(done(words, folder))
            seen = json.loads(make(folder, described))
            # Its end, the visitor, the dialplan.
            seen["user"] = seen["user"].split(":")[1]
            if seen != EXPECTED:
                raise AssertionError(f"{seen}, expected {EXPECTED}")
        print(f"ok      a client in {make.__name__}, generated ({time.monotonic() - began:.1f} s)")


main()
