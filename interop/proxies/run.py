#!/usr/bin/env python3
"""Real reverse proxies by the recipes of the book, pasted from it: pages, logins and a call through
each, and limits that are the browser's and not the proxy's.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import is_open, running, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target/debug/webtrunk"))
BOOK = ROOT / "src/docs/how-to/proxy.md"
CLUSTER = ROOT / "src/docs/how-to/cluster.md"
NAME = "calls.example.com"
# run.sh gives the namespace these; browsers are told apart by them.
ANNA, BERT = "10.44.0.1", "10.45.0.1"


def recipe(name, book=BOOK):
    """A file of the page."""
    found = re.search(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", book.read_text(), re.M | re.S)
    if not found:
        raise AssertionError(f"the book has no {name}")
    return found[1]


def certificates(folder):
    """An authority, and the files the recipes name."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    days = ["-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", *days, "-subj", "/CN=CA")
    openssl("req", *key, "-keyout", f"{NAME}.key", "-out", "csr", "-subj", f"/CN={NAME}")
    (folder / "ext").write_text(f"subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", *days, "-extfile", "ext"]
    openssl("x509", "-req", "-in", "csr", "-out", f"{NAME}.pem", *signed)
    both = (folder / f"{NAME}.pem").read_text() + (folder / f"{NAME}.key").read_text()
    (folder / f"{NAME}.both.pem").write_text(both)


def exchange(source, request, authority):
    """What a browser at this address is answered over TLS."""
    context = ssl.create_default_context(cafile=authority)
    plain = socket.create_connection((BERT, 443), timeout=20, source_address=(source, 0))
    with context.wrap_socket(plain, server_hostname=NAME) as stream:
        stream.sendall(request.encode())
        answer = b""
        while part := stream.recv(65536):
            answer += part
    return answer.decode()


class Browser:
    """An address, and its cookie; what it asks for is below `base`."""

    def __init__(self, source, authority, base=""):
        self.source, self.authority, self.base, self.cookie = source, authority, base, ""

    def ask(self, method, path, body="", more=""):
        cookie = f"Cookie: {self.cookie}\r\n" if self.cookie else ""
        origin = f"Origin: https://{NAME}\r\n" if method != "GET" else ""
        kind = "Content-Type: application/json\r\n" if body else ""
        request = (
            f"{method} {self.base}{path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n"
            f"{cookie}{origin}{kind}{more}Content-Length: {len(body)}\r\n\r\n{body}"
        )
        answer = exchange(self.source, request, self.authority)
        for line in answer.split("\r\n"):
            if line.lower().startswith("set-cookie: "):
                self.cookie = line.split(": ", 1)[1].split(";")[0]
        return int(answer.split(" ")[1])

    def enter(self, password, more=""):
        login = json.dumps({"user": "anna", "password": password})
        return self.ask("POST", "/api/v1/session", login, more)


def equal(got, expected, what):
    if got != expected:
        raise AssertionError(f"{what}: {got!r}, expected {expected!r}")


def through(folder, base):
    """Everything a browser does, by the proxy at port 443, below this path."""
    authority = folder / "ca.pem"
    control = ["--control", str(folder / "c.sock")]
    config = ["-c", str(folder / "webtrunk.toml")]
    added = subprocess.run(
        [BINARY, "user", "add", "anna", "--scope", "admin", "--generate", *config, *control],
        check=True,
        capture_output=True,
        text=True,
    )
    password = added.stdout.strip()
    anna, bert = (Browser(source, authority, base) for source in (ANNA, BERT))
    equal(anna.ask("GET", "/"), 200, "the page")
    for what in ("/page.js", "/call-button.js", "/docs/"):
        equal(anna.ask("GET", what), 200, what)
    if base:
        beside = exchange(ANNA, f"GET / HTTP/1.0\r\nHost: {NAME}\r\n\r\n", authority)
        if "webtrunk" in beside:
            raise AssertionError(f"the gateway answers beside its path: {beside}")
        equal(Browser(ANNA, authority).ask("GET", base) // 100, 3, "its path without a slash")
    equal(anna.ask("GET", "/api/v1/calls"), 401, "without a login")
    equal(anna.enter(password), 200, "a login")
    equal(anna.cookie.split("=")[0], "__Host-webtrunk", "the cookie's name, since it is TLS")
    equal(anna.ask("GET", "/api/v1/config"), 200, "with its cookie")
    equal(anna.ask("POST", "/api/v1/config/check"), 200, "a change from the own page")

    called = subprocess.run(
        [BINARY, "call", "9196", "--ws", f"wss://{NAME}{base}/sip", "--as", "alice", "--for", "2s",
         "--password", "alice-secret", "-o", "json", *control],
        capture_output=True,
        text=True,
        env={**os.environ, "SSL_CERT_FILE": str(authority)},
    )  # fmt: skip
    equal(called.returncode, 0, f"a call: {called.stdout}{called.stderr}")

    # Ten guesses, whoever they say they are, cost their browser and not the proxy.
    for n in range(10):
        equal(bert.enter(f"guess {n}", f"X-Forwarded-For: 203.0.113.{n}\r\n"), 401, "a guess")
    equal(bert.enter(password), 429, "one more")
    equal(Browser(ANNA, authority, base).enter(password), 200, "another browser")
    log = (folder / "log").read_text()
    if f"source={BERT}" not in log or "203.0.113" in log:
        raise AssertionError(f"the log names somebody else:\n{log}")


def served(folder, config, program, files, words):
    """A case: the gateway by `config`, and a proxy by a recipe."""
    (folder / "dialplans").mkdir()
    certificates(folder)
    paths = ("/etc/ssl/", f"{folder}/")
    text = recipe(config).replace(*paths)
    if "[user.alice]" not in text:
        main = recipe("webtrunk.toml")
        text += main[main.index("[user.alice]") :]
    text += '[api]\ncontrol = "c.sock"\n[media]\nbrowser_port = 0\nworkers = 1\n'
    (folder / "webtrunk.toml").write_text(text)
    (folder / "dialplans/phones.toml").write_text(recipe("dialplans/phones.toml"))
    for name, change in files.items():
        (folder / pathlib.Path(name).name).write_text(change(recipe(name).replace(*paths)))
    gateway = [BINARY, "serve", "--log", "text", "-c", str(folder / "webtrunk.toml")]
    with running(gateway, folder / "log"):
        until("the gateway serves", lambda: "serves the page" in (folder / "log").read_text())
        with running([shutil.which(program) or program, *words], folder / "proxy.log", cwd=folder):
            try:
                until(f"{program} listens", lambda: is_open(443))
                through(folder, "/phone" if config.startswith("path/") else "")
            except (AssertionError, OSError) as e:
                logs = [(folder / name).read_text()[-3000:] for name in ("log", "proxy.log")]
                raise AssertionError(f"{e}\n{''.join(logs)}") from e
    if "ERROR" in (folder / "log").read_text():
        raise AssertionError((folder / "log").read_text())


def nginx_by(folder, config, name):
    whole = (
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "user root; events {} http { access_log off;\n"
    )
    # Its own pages, beside the gateway's, are where it looks for them.
    (folder / "html").mkdir()
    (folder / "html/index.html").write_text("the site\n")
    file = {name: lambda text: f"{whole}{text}}}\n"}
    words = ["-c", f"{folder}/{pathlib.Path(name).name}", "-p", str(folder)]
    served(folder, config, "nginx", file, words)


def nginx(folder):
    nginx_by(folder, "webtrunk.toml", "conf.d/webtrunk.conf")


def nginx_below_a_path(folder):
    nginx_by(folder, "path/webtrunk.toml", "path/nginx.conf")


def haproxy(folder):
    words = ["-f", "haproxy.cfg", "-db"]
    served(folder, "webtrunk.toml", "haproxy", {"haproxy.cfg": str}, words)


def haproxy_passing_on(folder):
    words = ["-f", "haproxy.cfg", "-db"]
    served(folder, "passed/webtrunk.toml", "haproxy", {"passed/haproxy.cfg": str}, words)


def caddy_by(folder, config, name):
    # No authority can be reached from here, so it is given the certificate.
    own = f"\ttls {folder}/{NAME}.pem {folder}/{NAME}.key\n}}"
    file = {name: lambda text: "{\n\tadmin off\n}\n" + text.replace("\n}", "\n" + own, 1)}
    os.environ["XDG_DATA_HOME"] = os.environ["XDG_CONFIG_HOME"] = str(folder)
    words = ["run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    served(folder, config, "caddy", file, words)


def caddy(folder):
    caddy_by(folder, "webtrunk.toml", "Caddyfile")


def caddy_below_a_path(folder):
    caddy_by(folder, "path/webtrunk.toml", "path/Caddyfile")


def balancers(folder):
    """The recipes for several nodes: each program reads its own."""
    certificates(folder)
    head = f"pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\nhttp {{\n"
    files = {
        "haproxy": ("cluster/haproxy.cfg", "", "", ["-c", "-f"]),
        "nginx": ("cluster/nginx.conf", head, "}\n", ["-t", "-c"]),
        "keepalived": ("keepalived.conf", "", "", ["--config-test", "-f"]),
    }
    for program, (name, before, after, words) in files.items():
        text = recipe(name, CLUSTER).replace("/etc/ssl/", f"{folder}/")
        # The namespace's own interface, and a program that is there.
        text = text.replace("eth0", "wt0").replace("/usr/bin/webtrunk", "/bin/true")
        text = text.replace("script_user webtrunk", "script_user root")
        file = folder / pathlib.Path(name).name
        file.write_text(before + text + after)
        done = subprocess.run([program, *words, str(file)], capture_output=True, text=True)
        equal(done.returncode, 0, f"{program}: {done.stdout}{done.stderr}")


CASES = {
    "nginx": nginx,
    "HAProxy, which holds the certificate": haproxy,
    "HAProxy, which passes bytes and a PROXY header on": haproxy_passing_on,
    "Caddy": caddy,
    "nginx, which keeps a path": nginx_below_a_path,
    "Caddy, which strips a path": caddy_below_a_path,
    "HAProxy, nginx and keepalived before several nodes": balancers,
}


def main():
    wanted = " ".join(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        hosts = pathlib.Path(folder) / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {NAME}\n")
        # The namespace's own, as run.sh has made it.
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        failed = 0
        for n, (name, case) in enumerate(CASES.items()):
            if wanted not in name:
                continue
            place = pathlib.Path(folder) / str(n)
            place.mkdir()
            try:
                case(place)
                print(f"ok      {name}", flush=True)
            except Exception as e:
                failed += 1
                print(f"FAILED  {name}\n{e}", flush=True)
        subprocess.run(["umount", "/etc/hosts"], check=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
