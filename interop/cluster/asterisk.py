#!/usr/bin/env python3
"""Asterisk as the trunk of three nodes, behind a balancer that knows nothing of SIP (`balancer.sh`)
and hands each of its packets to the next node: it calls through them and is called by them,
cancels, is refused, refers a call elsewhere, and has reliable responses and session timers where it
insists.
  interop/cluster/asterisk.py [--show]
Run by `interop/run.sh cluster`.
"""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "interop"))
from behind import BALANCER, OWN, SHARED, errors, passed, records, report, serving  # noqa: E402
from common import running, until  # noqa: E402

SCRIPT = ROOT / "interop/asterisk/asterisk.sh"
OWN_FILES = ("modules.conf", "logger.conf", "rtp.conf")
# The address of the namespace of the trunks; SIPps are at others.
AT = "10.48.0.2"
SECONDS = 3

PJSIP = f"""[global]
type = global
endpoint_identifier_order = ip
[udp]
type = transport
protocol = udp
bind = {AT}:5060
[webtrunk]
type = endpoint
transport = udp
context = from-webtrunk
disallow = all
allow = ulaw
aors = webtrunk
direct_media = no
[webtrunk]
type = aor
contact = sip:{SHARED}
qualify_frequency = 5
[webtrunk]
type = identify
endpoint = webtrunk
match = {SHARED}
[strict]
type = endpoint
transport = udp
context = from-webtrunk
disallow = all
allow = ulaw
aors = strict
direct_media = no
timers = always
timers_sess_expires = 90
timers_min_se = 90
100rel = required
[strict]
type = aor
contact = sip:{SHARED}
"""

# What Asterisk does with calls of the nodes, and with its end of those it makes.
EXTENSIONS = f"""[general]
static = yes
[from-webtrunk]
exten => 600,1,Answer()
 same => n,Echo()
exten => 602,1,Busy(5)
exten => 606,1,Ringing()
 same => n,Wait(60)
exten => 607,1,Ringing()
 same => n,Wait(1)
 same => n,Answer()
 same => n,Echo()
exten => 609,1,Answer()
 same => n,Wait(1)
 same => n,Transfer(PJSIP/sip:echo@{SHARED})
 same => n,Verbose(0,WT-TRANSFER=${{TRANSFERSTATUS}})
[own]
exten => talk,1,PlayTones(440)
 same => n,Wait({SECONDS})
 same => n,Hangup()
exten => gives-up,1,Dial(PJSIP/606@webtrunk,2)
"""

TRUNK = f"""[trunk.asterisk]
uri = "sip:{AT}"
allow = ["{AT}"]
context = "in"
refer = "execute"
"""
ROUTES = (
    '[[route]]\nname = "echo"\nmatch = "echo"\ndo = [{ echo = true }]',
    '[[route]]\nname = "back"\nmatch = "6XX"\ndo = [{ dial = ["trunk:asterisk"] }]',
)

TALK = "extension talk@own"
# What is made, how often; and what each record says: the number, the status, who ended it.
CALLS = (
    (f"PJSIP/600@webtrunk {TALK}", 12, ("600", 200, "caller")),
    (f"PJSIP/607@strict {TALK}", 6, ("607", 200, "caller")),
    (f"PJSIP/602@webtrunk {TALK}", 3, ("602", 486, "callee")),
    ("Local/gives-up@own application Wait 4", 6, ("606", 487, "caller")),
    (f"PJSIP/609@webtrunk {TALK}", 3, ("609", 200, "caller")),
)


def cli(command):
    """What Asterisk's console says to this."""
    return subprocess.run([SCRIPT, "cli", command], capture_output=True, text=True).stdout


def log():
    root = subprocess.run([SCRIPT, "root"], capture_output=True, text=True, check=True).stdout
    folder = pathlib.Path(root.strip()) / "var/log/asterisk"
    files = (folder / name for name in ("messages.log", "messages"))
    return "\n".join(file.read_text(errors="replace") for file in files if file.exists())


@contextlib.contextmanager
def asterisk(work):
    """Asterisk with these files, until the end."""
    etc, keys = work / "etc", work / "keys"
    etc.mkdir()
    keys.mkdir()
    for name in OWN_FILES:
        shutil.copy(ROOT / "interop/asterisk/etc" / name, etc)
    (etc / "pjsip.conf").write_text(PJSIP)
    (etc / "extensions.conf").write_text(EXTENSIONS)
    subprocess.run([ROOT / "interop/certificates.sh", keys], check=True, capture_output=True)
    own = {"WEBTRUNK_ASTERISK_ETC": str(etc), "WEBTRUNK_CERTS": str(keys)}
    try:
        with running([SCRIPT, "start"], work / "asterisk", env={**os.environ, **own}):
            until("Asterisk is up", lambda: f"{AT}:5060" in cli("pjsip show transports"), 40)
            until("the nodes answer it", lambda: "Avail" in cli("pjsip show contacts"), 20)
            yield
    finally:
        subprocess.run([SCRIPT, "stop"], capture_output=True)


def said(record):
    return (record["to"]["dialled"], record["sip_code"], record["hangup_by"])


def judge(found, text):
    """What is wrong with the records, and with what Asterisk says."""
    wanted = collections.Counter({what: times for _, times, what in CALLS})
    came = collections.Counter(said(record) for _, record in found)
    if came != wanted:
        yield f"the records say {dict(came - wanted)} instead of {dict(wanted - came)}"
    # 50 packets a second each way; a call that is transferred is heard by the echo from then on.
    least = SECONDS * 50 // 2
    for node, record in found:
        if record["sip_code"] != 200 or record["to"]["dialled"] == "609":
            continue
        heard = [leg["packets_in"] for leg in record["legs"]]
        if min(heard) < least:
            yield f"node {node}, {record['to']['dialled']}: {heard} packets were heard"
    begun = collections.Counter(node for node, _ in found)
    if set(begun) != set(OWN):
        yield f"calls began at {dict(begun)} only"
    transferred = text.count("WT-TRANSFER=SUCCESS")
    if transferred != 3:
        yield f"{transferred} of 3 transfers were made, as Asterisk has it"


def main():
    count = sum(times for _, times, _ in CALLS)
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subprocess.run([BALANCER, "next", *OWN], check=True)
        serving(stack, work, [TRUNK], ROUTES)
        stack.enter_context(asterisk(work))
        made = [what for what, times, _ in CALLS for _ in range(times)]
        with concurrent.futures.ThreadPoolExecutor(max_workers=6) as pool:
            list(pool.map(lambda what: cli(f"channel originate {what}"), made))
        failed = []
        try:
            until("every call is over", lambda: len(list(records(work))) >= count, 60)
            until("Asterisk too has none", lambda: "0 active channels" in cli("core show channels"))
        except AssertionError as why:
            failed.append(str(why))
        failed += judge(records(work), log())
        counts = passed()
        failed += errors(work)
        if "--show" in sys.argv and failed:
            print(log()[-6000:])
            print(*(f"{node} {said(record)} {record}" for node, record in records(work)), sep="\n")
    # At the next node is the owner of a third of them.
    if not counts["tls"]:
        failed.append("nothing was passed between nodes")
    return report(failed, f"{count} calls of Asterisk", counts)


if __name__ == "__main__":
    sys.exit(main())
