#!/usr/bin/env python3
"""Certificates of a real ACME authority (Pebble): got, shown, renewed and kept, by both proofs."""

import contextlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import is_open, running, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
NAME = "calls.example.com"
# Seconds: renewed after two thirds of it.
LIFE = 24


def pebble_folder(folder):
    """The authority's own certificate and settings."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-keyout", "own.key", "-out", "own.pem"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        + ["-addext", "basicConstraints=critical,CA:FALSE"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    settings = {
        "listenAddress": "127.0.0.1:14000",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": str(folder / "own.pem"),
        "privateKey": str(folder / "own.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "certificateValidityPeriod": LIFE,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))


def root_of(folder):
    """The certificate that signs what the authority gives; another at each of its starts."""
    context = ssl.create_default_context(cafile=folder / "own.pem")
    plain = socket.create_connection(("127.0.0.1", 15000), timeout=5)
    with context.wrap_socket(plain, server_hostname="localhost") as stream:
        stream.sendall(b"GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while part := stream.recv(65536):
            answer += part
    (folder / "root.pem").write_bytes(answer.split(b"\r\n\r\n", 1)[1])


def shown(folder):
    """A connection by TLS, and the certificate's serial number, if the name is proved by it."""
    context = ssl.create_default_context(cafile=folder / "root.pem")
    with contextlib.suppress(OSError, ssl.SSLError):
        plain = socket.create_connection(("127.0.0.1", 443), timeout=5)
        stream = context.wrap_socket(plain, server_hostname=NAME)
        return stream, stream.getpeercert()["serialNumber"]
    return None


def asked(stream):
    stream.sendall(f"GET /livez HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    return stream.recv(65536).decode().split(" ")[1]


def configured(folder, acme, name="webtrunk.toml"):
    acme = ", ".join([f'directory = "https://localhost:14000/dir", ca = "{folder}/own.pem"', *acme])
    (folder / name).write_text(
        f'[server]\ndomain = "{NAME}"\npublic_ip = "10.45.0.1"\n'
        f'[web]\nlisten = ":443"\ntls = {{ acme = {{ {acme} }} }}\n'
        "[media]\nbrowser_port = 8088\n"
    )
    return [BINARY, "serve", "-c", str(folder / name), "--control", str(folder / "c.sock")]


def got_and_renewed(folder, acme):
    words, log = configured(folder, acme), folder / "log"
    with running(words, log):
        stream, first = until(
            "a certificate that browsers believe", lambda: shown(folder), seconds=40
        )
        if asked(stream) != "200":
            raise AssertionError("the page does not answer")

        def another():
            if asked(stream) != "200":
                raise AssertionError("a connection that was open did not go on")
            time.sleep(0.5)
            found = shown(folder)
            return found and found[1] != first

        until("another one, while a connection goes on", another, seconds=40)
        _, last = shown(folder)
    with running(words, log):
        until("the port", lambda: is_open(443))
        found = shown(folder)
        if not found or found[1] != last:
            raise AssertionError("the certificate was not kept across the restart")
    text = log.read_text()
    if text.count("was given by") != 2 or "WARN" in text or "ERROR" in text:
        raise AssertionError(f"the log is not as expected:\n{text}")
    for path in (folder / "state/acme").rglob("*.*"):
        if path.stat().st_mode & 0o077 and path.is_file():
            raise AssertionError(f"others may read {path}")


def alpn(folder):
    got_and_renewed(folder, ['email = "anna@example.com"'])


def http(folder):
    words = configured(folder, ['http = ":80"'])
    with running(words, folder / "redirect.log"):
        until("the port", lambda: is_open(80))
        with socket.create_connection(("127.0.0.1", 80), timeout=5) as plain:
            plain.sendall(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = plain.recv(65536).decode()
        if " 308 " not in answer or f"location: https://{NAME}/a?b" not in answer:
            raise AssertionError(f"not sent to https: {answer}")
    got_and_renewed(folder, ['http = ":80"'])


def refused(folder):
    """The authority finds nobody at port 80, and the log says so."""
    words, log = configured(folder, ['http = ":81"']), folder / "refused.log"
    with running(words, log):
        until("why there is none", lambda: "WT-5007" in log.read_text(), seconds=40)
    text = log.read_text()
    if "onnection refused" not in text or "the next try is in 5 min" not in text:
        raise AssertionError(f"it does not say why:\n{text}")


def main():
    cases = {"alpn": alpn, "http": http, "refused": refused}
    for name in sys.argv[1:] or cases:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place)
            pebble_folder(folder)
            dns = ["pebble-challtestsrv", "-dns01", "127.0.0.1:8053", "-defaultIPv4", "127.0.0.1"]
            dns += ["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]
            pebble = ["pebble", "-config", str(folder / "pebble.json")]
            pebble += ["-dnsserver", "127.0.0.1:8053"]
            quick = {**os.environ, "PEBBLE_VA_NOSLEEP": "1"}
            with running(dns, folder / "dns.log"), running(pebble, folder / "p.log", env=quick):
                try:
                    until("the authority", lambda: is_open(14000) and is_open(15000))
                    root_of(folder)
                    cases[name](folder)
                except BaseException:
                    for log in folder.glob("*log"):
                        print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
                    raise
        print(f"ok      a certificate by ACME: {name} ({time.monotonic() - began:.1f} s)")


main()
