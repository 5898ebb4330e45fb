#!/usr/bin/env python3
"""A newcomer, scripted: an empty folder, the package, the commands of README and nothing else.

    run.py [--write FILE]     writes the stopwatch's figures there, besides printing them

The package is installed; the demo is called and heard; a trunk to a real Asterisk is made by
`init`, its half pasted into Asterisk; a number is called over it and heard; a page of another
origin telephones over it by the call button. Then one mistake is seeded into each file and mended
from its message alone.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from xml.etree import ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = os.environ.get("WEBTRUNK_BIN", str(ROOT / "target" / "debug" / "webtrunk"))
# Asterisk's address is the one `public_ip = "auto"` finds: run.sh's default route leaves by it.
HOST = "10.45.0.1:5080"
work = pathlib.Path(tempfile.mkdtemp(prefix="wt-newcomer-"))
os.environ.update({"XDG_RUNTIME_DIR": str(work), "WEBTRUNK_CERTS": str(work)})
children = []


class Stopwatch:
    """How long a newcomer takes: the machine's time, and typing, at three characters a second."""

    RATE = 3.0

    def __init__(self):
        self.restart()

    def restart(self):
        self.began = time.monotonic()
        self.paused = 0.0
        self.characters = 0
        self.commands = 0
        self.figures = []

    def typed(self, *words):
        self.commands += 1
        self.characters += len(" ".join(str(word) for word in words)) + 1

    def wrote(self, text):
        """Something typed or pasted into a file."""
        self.characters += len(text)

    def aside(self, work):
        """Does what a newcomer would not, such as trying what is wrong."""
        began, characters, commands = time.monotonic(), self.characters, self.commands
        done = work()
        self.paused += time.monotonic() - began
        self.characters, self.commands = characters, commands
        return done

    def stands(self, what, most):
        machine = time.monotonic() - self.began - self.paused
        typing = self.characters / self.RATE
        self.figures.append((what, machine, self.commands, typing, machine + typing, most))
        ok(
            f"{what}: {machine + typing:.0f} s, {machine:.0f} of the machine and {typing:.0f} "
            f"of typing {self.commands} commands; at most {most}"
        )
        if machine + typing > most:
            sys.exit(f"FAILED  {what} takes longer than {most} s")

    def report(self):
        load = os.getloadavg()[0]
        lines = [
            "# The newcomer's stopwatch",
            "",
            "Written by `interop/run.sh newcomer --write FILE`: from the package that was just",
            "installed, by the commands that README, `init` and the book print. The machine's",
            f"time, on {os.cpu_count()} processors at a load of {load:.1f}, and typing at three",
            "characters a second; reading and thinking come on top.",
            "",
            "| until | machine, s | commands | typing, s | together, s | at most, s |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for what, machine, commands, typing, both, most in self.figures:
            lines.append(
                f"| {what} | {machine:.0f} | {commands} | {typing:.0f} | {both:.0f} | {most} |"
            )
        return "\n".join(lines) + "\n"


watch = Stopwatch()


def run(*args, expect=0):
    watch.typed("webtrunk", *args)
    done = subprocess.run([BINARY, *args], cwd=work, capture_output=True, text=True, timeout=60)
    if done.returncode != expect:
        sys.exit(
            f"FAILED  webtrunk {' '.join(args)}: exit code {done.returncode}, not {expect}\n"
            f"{done.stdout}{done.stderr}"
        )
    return done


def start(*args):
    watch.typed("webtrunk", *args)
    child = subprocess.Popen(
        [BINARY, *args],
        cwd=work,
        stdout=subprocess.DEVNULL,
        stderr=open(work / f"{args[0]}.log", "w"),
    )
    children.append(child)
    until(
        lambda: subprocess.run([BINARY, "readyz"], capture_output=True).returncode == 0,
        f"webtrunk {args[0]} is ready",
    )
    return child


def until(test, what, seconds=30):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            sys.exit(f"FAILED  not within {seconds} s: {what}")
        time.sleep(0.1)


def stop(child):
    child.terminate()
    child.wait(20)


def heard(*args):
    """A test call whose sound must come back."""
    told = json.loads(run("call", *args, "--for", "3s", "--min-mos", "3.5", "-o", "json").stdout)
    if told["level_dbfs"] is None or told["level_dbfs"] < -40:
        sys.exit(f"FAILED  nothing was heard: {told}")
    return told


def ok(what):
    print(f"ok      {what}", flush=True)


def mend(name, right, wrong, code):
    """Seeds a mistake, reads the message as a person would, and does what it says."""
    path = work / name
    text = path.read_text()
    assert text.count(right) == 1, (right, text)
    path.write_text(text.replace(right, wrong))
    said = run("check-config", expect=3).stderr
    place = re.search(r"\[(\S+?):(\d+):(\d+)\]", said)
    hint = re.search(r"did you mean [`\"]([^`\"]+)[`\"]", said)
    if code not in said or not place or not place[1].endswith(pathlib.Path(name).name) or not hint:
        sys.exit(f"FAILED  {wrong} in {name} is not told well:\n{said}")
    lines = path.read_text().splitlines()
    line = int(place[2]) - 1
    misspelt = (
        wrong
        if wrong in lines[line]
        else sys.exit(f"FAILED  the message points to {lines[line]!r}, not to {wrong!r}")
    )
    word = re.findall(r"[\w:-]+", misspelt)
    slip = next(w for w in word if w not in right)
    lines[line] = lines[line].replace(
        slip, hint[1] if ":" not in slip else slip.split(":")[0] + ":" + hint[1].split(":")[-1]
    )
    path.write_text("\n".join(lines) + "\n")
    run("check-config")
    if path.read_text().strip() != text.strip():
        sys.exit(f"FAILED  {name} was not mended by the hint {hint[1]!r}")
    ok(f"{wrong!r} in {name} is found and mended from its message alone")


def asterisk():
    etc = work / "etc"
    shutil.copytree(ROOT / "interop" / "asterisk" / "etc", etc)
    own = f"[transport-udp]\ntype = transport\nprotocol = udp\nbind = {HOST}\n\n"
    (etc / "pjsip.conf").write_text(own + (work / "asterisk-pjsip.conf").read_text())
    (etc / "extensions.conf").write_text(
        "[from-webtrunk]\nexten = _+X.,1,Answer()\n same = n,Echo()\n"
    )
    subprocess.run(
        [ROOT / "interop" / "certificates.sh", work],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    script = ROOT / "interop" / "asterisk" / "asterisk.sh"
    children.append(
        subprocess.Popen(
            [script, "start"],
            env={**os.environ, "WEBTRUNK_ASTERISK_ETC": str(etc)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )

    until(lambda: "transport-udp" in cli("pjsip show transports"), "Asterisk is up")
    if "webtrunk" not in cli("pjsip show endpoints"):
        sys.exit(f"FAILED  Asterisk did not take its half:\n{cli('pjsip show endpoints')}")
    return script


def cli(command):
    """What Asterisk's console says to this."""
    script = ROOT / "interop" / "asterisk" / "asterisk.sh"
    return subprocess.run([script, "cli", command], capture_output=True, text=True).stdout


def paste_the_book():
    """The half that the book prints takes the place of the one `init` wrote."""
    page = (ROOT / "src/docs/how-to/pbx.md").read_text()
    half = re.search(r"^```ini pjsip.conf\n(.*?)^```$", page, re.M | re.S)[1]
    script = ROOT / "interop" / "asterisk" / "asterisk.sh"
    root = subprocess.run([script, "root"], capture_output=True, text=True, check=True).stdout
    path = pathlib.Path(root.strip()) / "etc/asterisk/pjsip.conf"
    own = path.read_text().split("[webtrunk]")[0]
    path.write_text(own + half.replace("WEBTRUNK_ADDRESS", HOST.split(":")[0]))
    cli("module reload res_pjsip.so")
    cli("module reload res_pjsip_endpoint_identifier_ip.so")

    def is_taken():
        # What `init` writes has it, and the page's half does not.
        said = cli("pjsip show endpoint webtrunk")
        return re.search(r"rtp_symmetric\s*: (false|no)", said)

    until(is_taken, "Asterisk has taken the book's half")


# What a gateway of FreeSWITCH reads; it ignores any other name.
GATEWAY = {"proxy", "register", "caller-id-in-from", "ping", "from-domain", "realm", "username"}


def freeswitch():
    """FreeSWITCH is not here to read its half: its XML and its patterns are read instead."""
    run("init", "--trunk", "freeswitch", "--host", "10.0.0.30", "--dir", "freeswitch")
    run("check-config", "-c", "freeswitch/webtrunk.toml")
    half = {
        name: ElementTree.parse(work / "freeswitch" / f"freeswitch-{name}.xml").getroot()
        for name in ("gateway", "public", "default", "acl")
    }
    ignored = {p.get("name") for p in half["gateway"].iter("param")} - GATEWAY
    if ignored:
        sys.exit(f"FAILED  FreeSWITCH ignores {ignored} in a gateway")

    def takes(name, number):
        """The applications of the first extension that takes a call of ours to `number`."""
        fields = {"network_addr": HOST.split(":")[0], "destination_number": number}
        for extension in half[name].iter("extension"):
            conditions = extension.findall("condition")
            if all(re.search(c.get("expression"), fields[c.get("field")]) for c in conditions):
                return [action.get("application") for action in conditions[-1]]
        return []

    for name, number, wanted in [
        ("public", "+12065550123", "echo"),
        ("public", "1000", "transfer"),
        ("default", "7+12065550111", "bridge"),
    ]:
        if wanted not in takes(name, number):
            sys.exit(f"FAILED  FreeSWITCH's {name} dialplan does {takes(name, number)} to {number}")
    if half["acl"].find("node").get("cidr") != HOST.split(":")[0] + "/32":
        sys.exit("FAILED  FreeSWITCH's ACL lets another address in")
    ok("FreeSWITCH's half is sound, and takes the calls of a number and of an extension")


def package():
    """The Debian package of the binary under test."""
    script = ROOT / "interop" / "package" / "deb.sh"
    binary = work / "binary"
    subprocess.run(["strip", "--strip-unneeded", "-o", binary, BINARY], check=True)
    lightly = {**os.environ, "KEEP_SYMBOLS": "1", "PACKED_LIGHTLY": "1"}
    subprocess.run([script, binary, work], check=True, stdout=subprocess.DEVNULL, env=lightly)
    return next(work.glob("webtrunk_*.deb"))


def install(deb):
    """Unpacks it as dpkg does; a clean root with all of it is interop/package/check.sh's."""
    global BINARY
    watch.typed("dpkg --install", deb.name)
    subprocess.run(["dpkg-deb", "-x", deb, work / "installed"], check=True)
    BINARY = str(work / "installed" / "usr" / "bin" / "webtrunk")


def call_button():
    """A page of another origin: what the book's page on the call button asks for, and no more."""
    page = (ROOT / "src/docs/how-to/call-button.md").read_text()
    dialplan = re.search(r"^```toml dialplans/click-to-call.toml\n(.*?)^```$", page, re.M | re.S)[1]
    over = 'do    = [{ dial = ["trunk:asterisk"] }]'
    dialplan = re.sub(r"^do .*$", over, dialplan, flags=re.M)
    (work / "dialplans" / "click-to-call.toml").write_text(dialplan)
    path = work / "webtrunk.toml"
    more = 'origins = ["http://localhost:8097"]\npublic_url = "http://localhost:8090"\n'
    path.write_text(path.read_text().replace("[web]\n", f"[web]\n{more}", 1))
    watch.wrote(dialplan + more)
    run("check-config")
    gateway = start("serve")
    token = run("token", "visitor-8c1", "--context", "click-to-call", "--ttl", "10m").stdout
    script = ROOT / "interop" / "newcomer" / "button.mjs"
    done = subprocess.run(["node", script, token], capture_output=True, text=True, timeout=90)
    if done.returncode:
        sys.exit(f"FAILED  the call button was not heard:\n{done.stdout}{done.stderr}")
    stop(gateway)


def mistakes():
    mend("webtrunk.toml", "password =", "pasword =", "config::key")
    mend("dialplans/outbound.toml", 'match = "9196"', 'mach = "9196"', "config::key")
    mend("dialplans/from-trunk.toml", "timeout =", "timout =", "config::key")


def main():
    deb = package()
    watch.restart()
    install(deb)
    demo = start("demo", "--port", "8090")
    heard("9196")
    watch.stands("a heard call", 120)
    heard("+12065550123")
    ok("a number goes out over the demo's trunk and is heard")
    if "talked for" not in run("trace", "--last").stdout:
        sys.exit("FAILED  trace does not say how it was")
    stop(demo)
    watch.aside(freeswitch)
    made = run("init", "--trunk", "asterisk", "--host", HOST, "--port", "8090").stdout
    password = re.search(r"password (\S+)", made)[1]
    run("check-config")
    ok("init writes a configuration that is sound")
    watch.aside(mistakes)
    watch.typed("cat asterisk-pjsip.conf >> /etc/asterisk/pjsip.conf")
    script = asterisk()
    gateway = start("serve")
    if "answered OPTIONS" not in run("trunks", "probe", "asterisk").stdout:
        sys.exit("FAILED  Asterisk does not answer")
    ok("Asterisk took its half and answers")
    told = heard("+12065550123", "--as", "alice", "--password", password)
    if told["verdict"]["code"] is not None:
        sys.exit(f"FAILED  a good call has a fault: {told}")
    ok(
        f"a number is called over Asterisk and heard, "
        f"MOS {told['mos_in_estimated']:.1f} (estimated)"
    )
    watch.stands("a call over an Asterisk trunk", 600)
    watch.aside(paste_the_book)
    heard("+12065550123", "--as", "alice", "--password", password)
    ok("Asterisk takes the half that the book prints, and the number is heard")
    refused = run("call", "+4930123456", "--as", "alice", "--password", password, expect=5).stdout
    if "WT-1104" not in refused or "dialplan test" not in refused:
        sys.exit(f"FAILED  a refused call is not explained: {refused}")
    ok("a number without a route is explained")
    stop(gateway)
    call_button()
    watch.stands("a call by the button of another origin", 900)
    subprocess.run([script, "stop"], check=False)
    for name in ("demo.log", "serve.log"):
        if "ERROR" in (work / name).read_text():
            sys.exit(f"FAILED  an error in {name}:\n{(work / name).read_text()}")
    print(watch.report())
    if sys.argv[1:2] == ["--write"]:
        pathlib.Path(sys.argv[2]).write_text(watch.report())


try:
    main()
finally:
    for child in children:
        child.kill()
    subprocess.run(
        [ROOT / "interop" / "asterisk" / "asterisk.sh", "stop"],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    shutil.rmtree(work, ignore_errors=True)
