#!/usr/bin/env python3
"""SIPp as the trunks of three nodes, behind a balancer that knows nothing of SIP (`balancer.sh`):
the cases of `interop/run.sh sipp`, while everything a trunk sends within a dialog, and its every
response, goes to a node that has not the call; some of them packet by packet to the next node;
and own ones, of messages that come again by another node, and of a trunk that goes by names.
  interop/cluster/trunk.py [--show] [PART OF A CASE'S NAME]
Run by `interop/run.sh cluster`.
"""

import concurrent.futures
import contextlib
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
for folder in ("interop", "interop/sipp"):
    sys.path.insert(0, str(ROOT / folder))
import run as suite  # noqa: E402
from behind import BALANCER, OWN, SHARED, errors, passed, records, report, serving  # noqa: E402
from cases import CASES, EXECUTE, RSEQ, case  # noqa: E402
from words import *  # noqa: E402

# Cases of the one gateway that are of it alone.
ALONE = {
    "p-asserted-identity-is-ours": "it names the gateway's address",
    "an-offer-that-names-our-own-media-is-488": "likewise",
}


def again(step, back=1):
    """The message so many steps before, once more: the same branch."""
    return step.replace("branch=[branch]", f"branch=[branch-{back}]")


def twice(step):
    return [step, again(step)]


def by_name(node):
    """What is sent from now on goes to this node's own address."""
    values = f'host="{OWN[node]}" port="5060" protocol="udp"'
    return f"<nop><action><setdest {values}/></action></nop>"


# What comes again by another node is what came, and is neither done twice nor refused.
case(
    "again-a-bye",
    [invite(), *answered(), *twice(inside("BYE", 2, retrans=None)), response(200), pause(500)],
    [*takes_call(), *takes_bye()],
    calls=4,
)
case(
    "again-a-bye-of-the-callee",
    [invite(), *answered(), request("BYE"), ok()],
    [
        *takes_call(),
        pause(200),
        *twice(callee_inside("BYE", 2, retrans=None)),
        response(200),
        pause(500),
    ],
    calls=4,
)
case(
    "again-a-reinvite",
    [
        invite(),
        *answered(),
        *twice(inside("INVITE", 2, body=sdp(2, "a=sendonly\n"), retrans=None)),
        response(100, optional=True),
        response(200, ("body", "a=recvonly")),
        ack(2),
        pause(500),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
    calls=4,
)
case(
    "again-an-update",
    [
        invite(),
        *answered(),
        *twice(inside("UPDATE", 2, body=sdp(2, "a=sendonly\n"), retrans=None)),
        response(200, ("body", "a=recvonly"), rrs=False),
        pause(500),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
    calls=4,
)
case(
    "again-a-prack",
    [
        invite("Require: 100rel"),
        response(100),
        response(180, RSEQ),
        *twice(inside("PRACK", 2, "RAck: [$rseq] 1 INVITE", retrans=None)),
        response(200, ("CSeq", "PRACK"), rrs=False),
        response(200, ("CSeq", "INVITE")),
        ack(),
        *hang_up(3),
    ],
    [ringing(), reply(180), pause(600), answer(), request("ACK"), *takes_bye()],
    calls=4,
)
DIGIT = {"body": "Signal=5\nDuration=100\n", "kind": "application/dtmf-relay"}
case(
    "again-a-digit-by-info-is-one",
    [
        invite(),
        *answered(),
        *twice(inside("INFO", 2, **DIGIT, retrans=None)),
        response(200, rrs=False),
        pause(500),
        *hang_up(3),
    ],
    [*takes_call(), request("INFO", ("body", "Signal=5")), ok(), *takes_bye()],
    trunk='dtmf = "info"',
    calls=4,
)
case(
    "again-a-refer-is-one-transfer",
    [
        invite(),
        *answered(),
        *twice(inside("REFER", 2, "Refer-To: <sip:echo@x>", retrans=None)),
        response(202, rrs=False),
        response(202, optional=True, rrs=False),
        request("NOTIFY", ("body", "SIP/2.0 100")),
        ok(),
        response(202, optional=True, rrs=False),
        request("NOTIFY", ("body", "SIP/2.0 200"), ("Subscription-State", "terminated")),
        ok(),
        pause(300),
        inside("BYE", 3),
        response(200, rrs=False),
    ],
    [*takes_call(), pause(900), callee_inside("BYE", 2), response(200)],
    from_trunk=EXECUTE,
    calls=4,
)
case(
    "again-a-cancel",
    [
        invite(),
        response(100),
        response(180),
        cancel(),
        cancel(),
        response(200, rrs=False),
        response(487),
        ack_refusal(),
        pause(500),
    ],
    [ringing(*KEEP), reply(180), request("CANCEL"), ok(), reply_to_invite(487), request("ACK")],
    calls=4,
)
case(
    "again-the-ack-of-a-refusal",
    [
        invite(),
        *answered(),
        inside("INVITE", 2, body="this is no sdp\n"),
        response(100, optional=True),
        response(488, rrs=False),
        send("ACK [next_url] SIP/2.0", caller_head("ACK", 2, via="[last_Via:]")),
        # Without its ACK the refusal would come again, which is counted.
        pause(1500),
        *hang_up(3),
    ],
    [*takes_call(), *takes_bye()],
    calls=4,
)
# The 100 may have been lost, or come too late.
case(
    "again-an-invite-is-one-call",
    [
        invite(retrans=None),
        pause(200),
        again(invite(retrans=None), 2),
        pause(200),
        again(invite(retrans=None), 4),
        *answered(),
        pause(500),
        *hang_up(2),
    ],
    [ringing(), reply(180), pause(700), answer(), request("ACK"), *takes_bye()],
    calls=4,
)
case(
    "again-an-invite-that-is-refused",
    [
        invite(retrans=None),
        pause(200),
        again(invite(retrans=None), 2),
        response(100, optional=True),
        response(180, optional=True),
        response(486, rrs=False),
        ack_refusal(),
        # Without its ACK the refusal would come again.
        pause(1500),
    ],
    [ringing(), reply(180), pause(600), reply(486), request("ACK")],
    calls=4,
)
# How often each call's side gets what, and refusals that nobody may get.
ONCE = {
    "again-the-ack-of-a-refusal": ("caller", "SIP/2.0 488"),
    "again-a-digit-by-info-is-one": ("callee", "INFO "),
    "again-an-invite-is-one-call": ("callee", "INVITE "),
    "again-an-invite-that-is-refused": ("callee", "INVITE "),
}
REFUSED = r"received \[\d+\] bytes :\s+SIP/2.0 (?:481|491|5\d\d)"
AGAIN = [name for name in CASES if name.startswith("again-")]

# A trunk that asks DNS for each request, and is told another node each time.
case(
    "by-name-each-request-to-another-node",
    [
        invite(),
        *answered(),
        by_name("b"),
        inside("INVITE", 2, body=sdp(2)),
        response(100, optional=True),
        response(200),
        by_name("c"),
        ack(2),
        inside("UPDATE", 3),
        response(200, rrs=False),
        by_name("b"),
        *hang_up(4),
    ],
    record=(200, "caller"),
)
case(
    "by-name-a-cancel-and-the-ack-of-its-487",
    [
        invite(),
        response(100),
        response(180),
        by_name("b"),
        cancel(),
        response(200, rrs=False),
        response(487),
        by_name("c"),
        ack_refusal(),
    ],
    [ringing(*KEEP), reply(180), request("CANCEL"), ok(), reply_to_invite(487), request("ACK")],
    record=(487, "caller"),
)
case(
    "by-name-a-response-to-another-node",
    [invite(), *answered(), request("BYE"), by_name("c"), ok(), pause(1000)],
    [*takes_call(), pause(200), callee_inside("BYE", 2), response(200)],
    record=(200, "callee"),
)
NAMED = [name for name in CASES if name.startswith("by-name-")]


# What comes by another node may be overtaken by what does not: the 200 of a CANCEL by the 487, the
# 202 of a REFER by a NOTIFY, an ACK by a 200 that is repeated. What is not awaited yet comes again.
AS_IT_COMES = ["-default_behaviors", "all,-abortunexp"]
OVERTAKEN = ("again-", "by-name-", "cancel", "transfer", "twice", "late-answer", "prack")
# Nobody tells a callee that its caller was transferred: it talks for as long as that may take.
TRANSFERRED = pause(4000)
for found in CASES.values():
    if any(word in found["name"] for word in OVERTAKEN):
        for args in ("args", "callee_args"):
            found[args] = [*found[args], *AS_IT_COMES]
    if any("REFER " in step for step in found["caller"]) and found["callee"]:
        long = (pause(700), pause(900))
        found["callee"] = [TRANSFERRED if step in long else step for step in found["callee"]]
    # The 200 of a PRACK comes by another way than that of its INVITE: where a case tells one from
    # the other, the branch does.
    sent = [step for step in found["caller"] if "\nPRACK [next_url]" in step]
    awaited = [step for step in found["caller"] if 'regexp="PRACK"' in step]
    if awaited and len(sent) == len(awaited):
        found["caller"] = [
            step.replace("<send", '<send start_txn="prack"', step in sent)
            if step not in awaited
            else step.replace('"200"', '"200" response_txn="prack"', 1)
            for step in found["caller"]
        ]
    # Whatever else overtakes an ACK, a request does not that goes by the answer in it.
    steps = []
    for step in found["caller"]:
        answers = steps and "\nACK [next_url]" in steps[-1] and "m=audio" in steps[-1]
        steps += [pause(400), step] if answers and "<send" in step else [step]
    found["caller"] = steps


def plan(wanted):
    """(mode of the balancer, the cases that run in it, with the numbers of their addresses)."""
    of_one = [
        name
        for name, case in CASES.items()
        if name not in ALONE and case["to"] != "register"
        if not (case["slow"] or case["tcp_only"] or name in NAMED)
    ]
    n, found = 0, {}
    for mode, names in {
        "wrong": [*of_one, *NAMED],
        "next a b c": [*suite.EVERYWHERE, *AGAIN],
    }.items():
        found[mode] = []
        for name in names:
            if wanted in name:
                n += 1
                found[mode].append((CASES[name], "udp", n))
    return found, n


def address(side, n, transport="udp"):
    return f"10.48.{side}.{n}", 5060


def addresses(named):
    """Where SIPps are: those that go by names are beside the balancer."""
    return lambda side, n, _="udp": address(3 if side == 1 and n in named else side, n)


def reasons(folder, name):
    """What ended a case's SIPps, from their own words."""
    text = "".join(file.read_text(errors="replace") for file in folder.glob(f"{name}-*.err"))
    return "; ".join(re.findall(r"Aborting call on [^\r]*?: (while [^\r\n]*)", text)[:2])


def run_all(work, found, place, named, show):
    """Runs everything; returns the names of what failed."""
    failed = []
    for mode, runs in found.items():
        subprocess.run([BALANCER, *mode.split()], check=True)
        direct = f"{OWN['a']}:5060"
        folder = work / mode.split()[0]
        folder.mkdir()
        (folder / "tone.ul").symlink_to(work / "tone.ul")
        with concurrent.futures.ThreadPoolExecutor(max_workers=10) as pool:
            tasks = [
                pool.submit(suite.run, folder, *r, place, direct if r[2] in named else SHARED)
                for r in runs
            ]
            for task in tasks:
                name, codes, _ = task.result()
                if any(codes):
                    failed.append(f"{name} ({mode})")
                    failed[-1] += f": SIPp ended with {codes}; {reasons(folder, name)}"
                    if show:
                        print(suite.explain(folder, name))
    return failed


def surplus(work, mode, tried):
    """What came that should not have, in a case of messages that come again."""
    if tried["name"] not in AGAIN:
        return
    side, what = ONCE.get(tried["name"], ("caller", None))
    file = work / mode.split()[0] / f"{tried['name']}-udp-{{}}.msg"
    for one in ("caller", "callee"):
        text = pathlib.Path(str(file).format(one)).read_text(errors="replace")
        yield from (found for found in re.findall(REFUSED, text))
        came = len(re.findall(rf"received \[\d+\] bytes :\s+{what}", text))
        if what and one == side and came != tried["calls"]:
            yield f"{what} came {came} times"


def judge(work, found):
    """What the records of all nodes say."""
    found_records = [record for _, record in records(work)]
    failed = []
    for mode, runs in found.items():
        for tried, transport, n in runs:
            failed += [f"{tried['name']} ({mode}): {why}" for why in surplus(work, mode, tried)]
            if tried["record"] and tried["calls"] == 1:
                by_record = dict(tried, seen=None, heard=None)
                why = suite.judge(work, by_record, transport, n, found_records)
                if why:
                    failed.append(f"{tried['name']} ({mode}): {why}")
    return failed


def main():
    show = "--show" in sys.argv
    wanted = next((a for a in sys.argv[1:] if not a.startswith("--")), "")
    found, count = plan(wanted)
    if not count:
        return 0
    runs = [one for some in found.values() for one in some]
    named = {n for tried, _, n in runs if tried["name"] in NAMED}
    place = addresses(named)
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tone = ["synth", "2", "sine", "440", "gain", "-6"]
        kind = ["-r", "8000", "-c", "1", "-e", "mu-law", "-b", "8"]
        subprocess.run(["sox", "-n", *kind, str(work / "tone.ul"), *tone], check=True)
        serving(stack, work, *suite.trunks_and_routes(runs, place))
        failed = run_all(work, found, place, named, show)
        counts = passed()
        failed += judge(work, found)
        failed += errors(work)
    # A CANCEL without a tag is asked of two nodes, and two are told of an INVITE.
    if not 0 < counts["tls"] <= 2 * counts["udp"]:
        failed.append(f"of {counts['udp']} requests, {counts['tls']} were passed between nodes")
    return report(failed, f"{count} SIPp cases", counts)


if __name__ == "__main__":
    sys.exit(main())
