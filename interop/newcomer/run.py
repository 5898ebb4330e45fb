#!/usr/bin/env python3
"""A newcomer, scripted: an empty folder, the commands of README and nothing else.

The demo is called and heard; a trunk to a real Asterisk is made by `init`, its half pasted into
Asterisk; a number is called over it and heard; then one mistake is seeded into each file and
mended from its message alone.
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


def run(*args, expect=0):
    done = subprocess.run([BINARY, *args], cwd=work, capture_output=True, text=True, timeout=60)
    if done.returncode != expect:
        sys.exit(
            f"FAILED  webtrunk {' '.join(args)}: exit code {done.returncode}, not {expect}\n"
            f"{done.stdout}{done.stderr}"
        )
    return done


def start(*args):
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


def main():
    demo = start("demo", "--port", "8090")
    heard("9196")
    ok("the demo is called and heard")
    heard("+12065550123")
    ok("a number goes out over the demo's trunk and is heard")
    if "talked for" not in run("trace", "--last").stdout:
        sys.exit("FAILED  trace does not say how it was")
    stop(demo)
    freeswitch()
    made = run("init", "--trunk", "asterisk", "--host", HOST, "--port", "8090").stdout
    password = re.search(r"password (\S+)", made)[1]
    run("check-config")
    ok("init writes a configuration that is sound")
    mend("webtrunk.toml", "password =", "pasword =", "config::key")
    mend("dialplans/outbound.toml", 'match = "9196"', 'mach = "9196"', "config::key")
    mend("dialplans/from-trunk.toml", "timeout =", "timout =", "config::key")
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
    paste_the_book()
    heard("+12065550123", "--as", "alice", "--password", password)
    ok("Asterisk takes the half that the book prints, and the number is heard")
    refused = run("call", "+4930123456", "--as", "alice", "--password", password, expect=5).stdout
    if "WT-1104" not in refused or "dialplan test" not in refused:
        sys.exit(f"FAILED  a refused call is not explained: {refused}")
    ok("a number without a route is explained")
    stop(gateway)
    subprocess.run([script, "stop"], check=False)
    for name in ("demo.log", "serve.log"):
        if "ERROR" in (work / name).read_text():
            sys.exit(f"FAILED  an error in {name}:\n{(work / name).read_text()}")


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
