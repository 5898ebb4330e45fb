"""Lines of the scorecard about what strangers and single users do to others."""

import json
import re
import subprocess
import time

import rig
from rig import CALLER, CROWD, GATEWAY, STRANGERS, WORLD, result


def heard(run, line, attack, found, wanted):
    """Figures of browsers' calls under an attack."""
    step = found["steps"][-1]
    answered = sum(s["answered"] for s in found["steps"])
    calls = sum(s["calls"] for s in found["steps"])
    run.card.note(line, f"{attack}: browsers' calls not answered, of {calls}", calls - answered, 0)
    loss = 100.0 * step["loss"]
    run.card.note(line, f"{attack}: their packets lost", loss, wanted * run.pick(1, 10), unit=" %")


def flood(run, over, count, *more):
    to = ["--sip", f"{GATEWAY}:{rig.SIP}", "--over", over, "--from", STRANGERS, "--count", count]
    return run.attack("flood", *run.web(), *to, "--seed", run.seed, *more)


def left_after(run, seconds):
    """Calls and transactions that still are; what waits for a peer's answer may for 64 T1."""
    end = time.monotonic() + seconds
    while True:
        metrics = run.gateway.metrics()
        left = metrics["webtrunk_active_calls"] + metrics["webtrunk_sip_transactions"]
        if not left or time.monotonic() > end:
            return int(left)
        time.sleep(1)


def l7(run):
    for over, whole, short in (
        ("udp", 1_000_000, 100_000),
        ("tcp", 200_000, 20_000),
        ("wss", 200_000, 10_000),
    ):
        count = run.pick(whole, short)
        seconds = run.pick(20, 7)
        found = run.under(seconds, lambda over=over, count=count: flood(run, over, count))
        [sent] = found["attackers"]
        name = f"{sent['sent']:,} requests over {over} in {sent['seconds']:.0f} s"
        run.fair(7, name, found)
        run.card.note(7, f"{name}: lines logged", len(found["lines"]), 100)
        if over == "udp":
            run.card.note(7, f"{name}: bytes of answers", sent["answer_bytes"], sent["sent_bytes"])
            worst = sent["worst"]
            what = "over UDP: the longest answer, in lengths of its request"
            # Nothing that was answered at all would be no measurement.
            run.card.note(19, what, worst, "0 to 1", 0 < worst <= 1)
    run.card.note(7, "calls and transactions left 40 s later", left_after(run, 40), 0)


def forge(run, kind, ports, pps, seconds, *more):
    to = [
        "--kind",
        kind,
        "--gateway",
        GATEWAY,
        "--ports",
        ports,
        "--pps",
        pps,
        "--seconds",
        seconds,
    ]
    return run.attack("forge", *to, "--seed", run.seed, *more)


TRUNK_PORTS = f"{rig.PORTS[0]}-{rig.PORTS[0] + 199}"


def l8(run):
    seconds = run.pick(20, 6)
    phones = run.phones(10, seconds)
    # From a stranger's address, and from the trunk's own at another port.
    spray = [
        lambda source=source: forge(run, "rtp", TRUNK_PORTS, 10_000, seconds, "--from", source)
        for source in (STRANGERS, CALLER)
    ]
    found = run.under(seconds, *spray)
    stranger, beside = found["attackers"]
    note = run.card.note
    name = "20,000 packets/s of RTP at trunk calls"
    note(8, f"{name}: packets to a stranger", stranger["answers"], 0)
    note(8, f"{name}: packets to the trunk's address at another port", beside["answers"], 0)
    note(8, f"{name}: packets of others' heard in 20 calls", found["strange"], 0)
    run.fair(8, name, found)
    heard(run, 8, name, result(phones), 0.5)


def l9(run):
    seconds = run.pick(25, 6)
    hello = [
        lambda: forge(run, "hello", f"{rig.BROWSERS}", 2_500, seconds, "--from", STRANGERS),
        lambda: forge(run, "hello", TRUNK_PORTS, 2_500, seconds, "--from", STRANGERS),
        lambda: forge(run, "stun", f"{rig.BROWSERS}", 5_000, seconds, "--from", STRANGERS),
        lambda: forge(run, "hello", f"{rig.BROWSERS}", 500, seconds, "--like", WORLD),
        lambda: forge(run, "hello", f"{rig.BROWSERS}", 500, seconds, "--like", WORLD, "--beside"),
    ]
    phones = run.phones(run.pick(100, 10), 2)
    found = run.under(seconds + 2, *hello)
    name = "hellos and checks of strangers, and with a browser's address"
    answers = sum(a.get("answers", 0) for a in found["attackers"])
    run.card.note(9, f"{name}: answers", answers, 0)
    heard(run, 9, name, result(phones), 0.5)
    run.fair(9, name, found)


def l10(run):
    calls, seconds = run.pick(20, 5), run.pick(20, 6)
    name = "20,000 packets/s as browsers in calls: half junk, half replays"
    quiet = run.gateway.cpu()
    result(run.phones(calls, seconds))
    quiet = run.gateway.cpu() - quiet
    cpu = run.gateway.cpu()
    phones = run.phones(calls, seconds)
    time.sleep(1)
    attackers = [
        forge(run, kind, f"{rig.BROWSERS}", 10_000, seconds - 2, "--like", WORLD)
        for kind in ("junk", "replay")
    ]
    sent = [result(a) for a in attackers]
    heard(run, 10, name, result(phones), 0.5)
    cost = 1e6 * max(0.0, run.gateway.cpu() - cpu - quiet) / sum(s["sent"] for s in sent)
    run.card.note(10, f"{name}: CPU a packet", cost, run.pick(15, 150), unit=" µs")


def l11(run):
    count = run.pick(10_000, 500)
    guess = ["--from", STRANGERS, "--seed", run.seed]
    found = run.under(
        run.pick(20, 6),
        lambda: run.attack("guess", *run.web(), *guess, "--count", count, "--sources", 5),
    )
    [statuses] = [a["statuses"] for a in found["attackers"]]
    name = f"{count:,} guesses of 5 addresses at a user's password"
    run.fair(11, name, found)
    compared = sum(statuses.get(status, 0) for status in ("401", "403"))
    run.card.note(11, f"{name}: guesses that were compared", compared, 5 * 25)
    run.card.note(11, f"{name}: guesses that were let in", statuses.get("200", 0), 0)
    count = run.pick(500, 100)
    compare = ["--count", count, "--compare", "--from", "10.66.100.1", "--seed", run.seed]
    found = result(run.attack("guess", *run.web(), *compare))
    run.card.note(11, "refusals that did not come", found["failed"], count // 50)
    known, unknown = found["known"]["p50"], found["unknown"]["p50"]
    apart = 100 * abs(known - unknown) / max(known, unknown)
    run.card.note(
        11,
        f"refusal of a known and an unknown name, medians of {count // 2} apart",
        apart,
        run.pick(10, 50),
        unit=" %",
    )
    run.card.note(
        11,
        "their answers",
        "alike" if found["same_answers"] else "differ",
        "alike",
        found["same_answers"],
    )
    for method in ("REGISTER", "INVITE"):
        war = run.world.start(
            "timeout",
            "30",
            "svwar",
            "-m",
            method,
            "-e",
            run.pick("7000-7200", "7000-7020"),
            GATEWAY,
        )
        out = "".join(war.communicate())
        names = re.findall(r"^\| *(\d+) *\|", out, re.M)
        run.card.note(11, f"names that svwar finds by {method}", len(names), 0)


def l12(run):
    run.hang_up()
    run.answer()
    sent = 0
    for over, whole, short in (("udp", 50_000, 5_000), ("wss", 50_000, 2_000)):
        sent += result(flood(run, over, run.pick(whole, short), "--only", "INVITE"))["sent"]
    run.card.note(
        12, f"calls at the trunk, of {sent:,} INVITEs without a login", run.hang_up()["invites"], 0
    )
    run.answer()


def l13(run):
    series = len(run.gateway.metrics())
    lines = len(run.gateway.lines())
    sent = 0
    for hostile in (
        'User-Agent: "><script>alert({n})</script>',
        "User-Agent: \x1b[31m{n}\x1b]0;owned\x07",
        "P-Asserted-Identity: <sip:{n}@evil.test>\r\n X: injected",
        'Subject: ";DROP TABLE calls;--{n}\\',
    ):
        for over in ("udp", "wss"):
            sent += result(flood(run, over, run.pick(12_500, 500), "--extra", hostile))["sent"]
    added = len(run.gateway.metrics()) - series
    bad = 0
    for line in run.gateway.lines()[lines:]:
        try:
            json.loads(line)
            bad += any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
        except ValueError:
            bad += 1
    run.card.note(13, f"metric series more after {sent:,} hostile headers", added, run.pick(20, 20))
    run.card.note(13, "lines of the log that are no JSON, or move a terminal", bad, 0)


def seats(run, kind, sources, count, seconds):
    args = [
        "--kind",
        kind,
        "--from",
        CROWD,
        "--sources",
        sources,
        "--count",
        count,
        "--seconds",
        seconds,
    ]
    return run.attack("seats", *run.web(), *args)


# Kind, connections (whole, short), the deadline at which each has to be closed, s.
SEATS = [
    ("idle", (5_000, 300), 5, "that say nothing"),
    ("hello", (2_000, 200), 5, "that begin a TLS handshake"),
    ("head", (1_000, 60), 10, "that drip a request's head"),
    ("body", (500, 60), 10, "that drip a request's body"),
    ("unread", (100, 30), 30, "that read no answer"),
    ("fragments", (500, 60), 10, "that drip fragments"),
    ("upgraded", (1_000, 60), 30, "that open a WebSocket and say nothing"),
]


def l17(run):
    for kind, counts, deadline, words in SEATS:
        if run.short and kind in ("unread", "upgraded", "body"):
            continue
        count, keep = run.pick(*counts), deadline + run.pick(20, 5)
        seconds = run.pick(deadline + 8, min(deadline + 3, 12))
        found = run.under(
            seconds, lambda kind=kind, count=count, keep=keep: seats(run, kind, 100, count, keep)
        )
        [sat] = found["attackers"]
        name = f"{count:,} connections {words}"
        run.fair(17, name, found)
        run.card.note(17, f"{name}: kept beyond their time", sat["kept"], 0)
        late = (sat["closed"]["max"] or 0) / 1e3
        spare = 1 if not run.short else 5
        run.card.note(17, f"{name}: the last is closed after", late, deadline + spare, unit=" s")
    if run.short:
        return
    for flag in ("-H", "-B", "-X"):
        tool = ["slowhttptest", flag, "-c", "500", "-i", "5", "-r", "200", "-l", "20"]
        url = f"https://{GATEWAY}:{rig.WEB}/"

        def attack(tool=tool, url=url):
            return run.world.start(
                *tool, "-u", url, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

        slow = attack()
        found = run.under(20)
        slow.wait(timeout=60)
        run.fair(17, f"slowhttptest {flag}, 500 connections", found)


def l18(run):
    run.card.note(
        18, "packets to a host that 10.99.0.1 stands for, in the whole run", run.world.internal(), 0
    )
