#!/usr/bin/env python3
"""Clients in TypeScript and Python, generated from a running gateway's own description of its API,
compiled with strict types, and used against it; and its webhooks, read by the libraries of
Standard Webhooks."""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import is_open, running, until  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
TOOLS = ROOT / "target/clients"
URL = "http://127.0.0.1:8088"
EXPECTED = {"domain": "x.test", "user": "anna", "route": "Echo", "calls": 0, "none": 404}


# As the libraries make them.
SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes of key").decode()
ANOTHER = "whsec_" + base64.b64encode(b"the key of another hook.").decode()


@contextlib.contextmanager
def gateway(folder, routes="", settings=""):
    digest = hashlib.sha256(b"a token of the test").hexdigest()
    (folder / "dialplans").mkdir()
    (folder / "dialplans/out.toml").write_text(
        '[[route]]\nname = "Echo"\nmatch = "9196"\ndo = [{ echo = true }]\n' + routes
    )
    (folder / "webtrunk.toml").write_text(
        '[server]\ndomain = "x.test"\npublic_ip = "127.0.0.1"\n[web]\nlisten = "127.0.0.1:8088"\n'
        f'[api.token.test]\nsha256 = "{digest}"\nscope = "write"\n'
        '[credentials]\nsecret = "0123456789012345678901234567890123456789"\n'
        '[user.alice]\npassword = "a word of alice"\ncontext = "out"\n' + settings
    )
    words = [BINARY, "serve", "-c", str(folder / "webtrunk.toml"), "--control", str(folder / "c")]
    with running(words, folder / "log"):
        until("the gateway", lambda: is_open(8088))
        yield


def done(words, folder, env=None, given=None):
    """What a program prints; what it says is shown if it fails."""
    run = subprocess.run(
        [str(w) for w in words], cwd=folder, env=env, input=given, capture_output=True, text=True
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


@contextlib.contextmanager
def application():
    """A web application that keeps what it is told, and routes calls to the echo."""
    told = []

    class Request(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            told.append({"body": body, "headers": dict(self.headers)})
            answer = b'{ "do": [{ "echo": true }] }'
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", told
        finally:
            server.shutdown()


def changed(request, **headers):
    return {**request, "headers": {**request["headers"], **headers}}


def in_pieces(told):
    """What was told, whole, and then with one thing wrong with each; with what is to be said."""
    whole = [{**request, "secret": SECRET} for request in told]
    wrong = []
    for request in whole:
        sent = {name.lower(): value for name, value in request["headers"].items()}
        stamp, signature = sent["webhook-timestamp"], sent["webhook-signature"]
        request["headers"] = sent
        wrong += [
            {**request, "body": request["body"].replace('"type":', '"type" :', 1)},
            {**request, "body": request["body"] + " "},
            {**request, "secret": ANOTHER},
            changed(request, **{"webhook-id": sent["webhook-id"] + "0"}),
            # Within what is taken for the clocks' difference, so that the signature says it.
            changed(request, **{"webhook-timestamp": str(int(stamp) + 1)}),
            # Of another second: a request that somebody kept.
            changed(request, **{"webhook-timestamp": str(int(stamp) - 3_600)}),
            changed(request, **{"webhook-signature": signature.replace("v1,", "v2,")}),
            changed(request, **{"webhook-signature": "v1," + "A" * 43 + "="}),
        ]
    return whole + wrong, [True] * len(whole) + [False] * len(wrong)


def webhooks():
    """A call that a web application routes and is told of, as the libraries of both languages see
    what came."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place, application() as (url, told):
        folder = pathlib.Path(place)
        hook = f'"{url}", secret = "{SECRET}", allow_private = true'
        routes = f'[[route]]\nname = "Asked"\nmatch = "700"\ndo = [{{ webhook = {hook} }}]\n'
        with gateway(folder, routes, f"[events]\nwebhook = {{ url = {hook} }}\n"):
            login = ["--as", "alice", "--password", "a word of alice"]
            done([BINARY, "call", "700", *login, "--for", "1s", "--control", folder / "c"], folder)
            types = lambda: [json.loads(t["body"])["type"] for t in told]  # noqa: E731
            until("the end of the call is told", lambda: "call.ended" in types())
        for kind in ("call.route", "call.started", "call.answered"):
            if kind not in types():
                raise AssertionError(f"no {kind} in {types()}")
    requests, expected = in_pieces(told)
    shutil.copy(HERE / "verify.mjs", TOOLS)
    for words in (
        ["node", TOOLS / "verify.mjs"],
        [TOOLS / "python/bin/python", HERE / "verify.py"],
    ):
        said = json.loads(done(words, TOOLS, given=json.dumps(requests)))
        odd = [(r, s) for r, s, e in zip(requests, said, expected, strict=True) if s != e]
        if odd:
            raise AssertionError(f"{words}: {odd[0]}")
    print(
        f"ok      {len(told)} webhooks are verified by Standard Webhooks' libraries in JavaScript "
        f"and Python, and {expected.count(False)} changed ones are refused "
        f"({time.monotonic() - began:.1f} s)"
    )


def main():
    webhooks()
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
