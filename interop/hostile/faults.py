"""Lines of the scorecard about load and faults: storms, kills, clocks, descriptors, disks."""

import contextlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import time

import rig
from common import clock_of
from field import wait_for
from rig import CROWD, GATEWAY, SECOND, result
from strangers import seats


def l1(run):
    count = run.pick(10_000, 400)
    if not run.short:
        run.begin(users=count)
    victim = run.calls(run.pick(60, 14), "--steady", 50)
    stay = run.pick(60, 2)
    storm = run.attack(
        "storm", *run.web(), "--from", CROWD, "--count", count, "--seed", run.seed, "--stay", stay
    )
    found = result(storm)
    calls = result(victim)
    note, samples = run.card.note, run.gateway.samples
    before = next((rss for at, rss in samples if at >= found["at"]), 0)
    after = samples[-1][1]
    note(1, f"phones that do not come back, of {count}", count - found["back"], 0)
    note(1, "time until all are registered again", found["seconds"], 20, unit=" s")
    note(1, "tries a phone", found["tries"] / max(1, found["back"]), 1.5)
    note(1, "calls in progress that end, of 50", calls["cut"], 0)
    note(1, "longest gap in their media", calls["gap"], run.pick(200, 3_000), unit=" ms")
    note(
        1,
        f"memory {stay} s later",
        100 * (after / max(1, before) - 1),
        run.pick(10, 50),
        unit=" % more",
    )


def l2(run):
    gateway = run.gateway
    steady = run.calls(run.pick(30, 10), "--steady", 100)
    time.sleep(2)
    reloads = run.pick(100, 10)
    for _ in range(reloads):
        gateway.command("reload")
    gateway.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    late = result(run.calls(2, "--rate", 10, "--silent", at=SECOND))
    calls = result(steady)
    ended = time.time()
    code = gateway.process.wait(timeout=60)
    note = run.card.note
    note(
        2,
        f"calls in progress that end early, of 100, with {reloads} reloads and SIGTERM",
        calls["cut"],
        0,
    )
    note(2, "longest gap in their media", calls["gap"], run.pick(200, 3_000), unit=" ms")
    note(2, f"new calls that are let in, of {late['offered']}", late["answered"], 0)
    note(2, "new calls that do not get 503", late["offered"] - late["refused"].get("503", 0), 0)
    note(2, "time until they get it, p99", late["refusal"]["p99"], 100 * run.slack, unit=" ms")
    note(2, "time from the last call's end to the process's", time.time() - ended, 2.0, unit=" s")
    note(2, "exit status", code, 0)


def l3(run):
    # The records of the calls before are there by then.
    time.sleep(2)
    count, before = run.pick(500, 50), len(run.gateway.records())
    calls = run.calls(20, "--steady", count)
    time.sleep(8)
    run.gateway.process.kill()
    run.gateway.process.wait()
    began = time.time()
    run.gateway.start()
    back = time.time() - began
    found = result(calls)
    note = run.card.note
    note(3, "time until it serves again", back, 2.0 * run.slack, unit=" s")
    note(3, f"calls that do not continue, of {count}", count - found["byes"], 0)
    lost = count - found["byes"] - found["cut"]
    note(3, f"calls that nobody ends by BYE, of {count}", lost, 0)
    note(3, "longest gap in their media, started again at once", found["gap"], 3_000, unit=" ms")
    wait_for(lambda: len(run.gateway.records()) >= before + count, 15)
    note(3, "records lost", count + before - len(run.gateway.records()), 0)


def l6(run):
    peak, setup = 0, None
    for rate in run.pick([100, 200, 400, 800, 1_600], [50, 100]):
        found = result(run.calls(4, "--rate", rate, "--silent", "--hold", 0.2))
        good = found["answered"] / max(1, found["offered"])
        if good < 0.99 or found["setup"]["p99"] > 250 * run.slack:
            break
        peak, setup = rate, found["setup"]["p99"]
    seconds = run.pick(30, 5)
    steady = run.calls(seconds + 5, "--steady", 20, at=SECOND)
    time.sleep(1)
    load = result(run.calls(seconds, "--rate", 10 * peak, "--silent", "--hold", 0.2, nice=0))
    others = result(steady)
    note = run.card.note
    goodput = 100 * load["answered"] / (seconds * max(1, peak))
    offered = load["offered"] / seconds
    what = (
        f"goodput at {offered:.0f} calls/s offered, of the most it set up before ({peak} calls/s)"
    )
    note(6, what, f"{goodput:.0f}", "≥ 95 %", goodput >= 95, unit=" %")
    # Twice what it was; a millisecond doubled is less than a turn of the scheduler, so the rule's
    # 20 ms are what may be added at least.
    bar = max(2 * (setup or 0), (setup or 0) + 20)
    note(6, "admitted: set-up p99", load["setup"]["p99"], bar, unit=" ms")
    told = sum(load["refused"].values())
    note(6, "offered calls that get no answer", load["unanswered"], 0)
    refused = f"refused with 503 ({told}): time p99"
    note(6, refused, load["refusal"]["p99"] or 0.0, 50 * run.slack, unit=" ms")
    ended = load["byes"] + load["lost_byes"]
    note(6, f"BYEs without answer, of {ended}", load["lost_byes"], ended // 1_000)
    note(6, "calls in progress that end, of 20", others["cut"], 0)
    note(6, "their packets lost", 100 * others["loss"], 0.1 * run.slack, unit=" %")
    quiet = wait_for(lambda: result(run.calls(1, "--rate", 10, "--silent"))["answered"] >= 9, 15)
    note(6, "new calls are answered again", "yes" if quiet else "no", "within 15 s", bool(quiet))


def l15(run):
    manifest = (rig.ROOT / "tests/fuzz/Cargo.toml").read_text()
    targets = manifest.count("[[bin]]")
    run.card.note(15, "fuzz targets (`make fuzz`)", targets, "≥ 16", targets >= 16)


def l20(run):
    rate, seconds = run.pick(100, 50), run.pick(60, 4)
    load = ["--rate", rate, "--silent", "--hold", 0.2]
    gateway = run.gateway
    # The first round warms up: sockets and buffers are kept for the next calls.
    rounds = []
    for _ in range(3):
        done = result(run.calls(seconds, *load))["answered"]
        rounds.append((done, gateway.descriptors(), gateway.rss()))
    idle = wait_for(lambda: gateway.metrics().get("webtrunk_active_calls", 0) == 0, 40)
    (_, first, _), (_, _, before), (last, descriptors, after) = rounds
    run.card.note(20, f"calls left after {sum(r[0] for r in rounds):,}", 0 if idle else 1, 0)
    run.card.note(20, "descriptors more, third round to first", descriptors - first, 64)
    if not run.short:
        a_call = 1024 * (after - before) / max(1, last)
        run.card.note(20, "memory a call, third round", a_call, 64.0, unit=" bytes")


def l22(run):
    clock = run.work / "clock"
    env = clock_of(clock)
    run.begin(env=env)
    jumps = run.pick(
        ["+3600", "-3600", "+86400", "-86400", "@1970-01-02 00:00:00", "+0"], ["+3600", "-86400"]
    )
    victim = run.victim(3 * len(jumps) + 3)
    for jump in jumps:
        time.sleep(3)
        clock.write_text(jump)
    found = result(victim)
    name = f"{len(jumps)} jumps of the clock, a day and more"
    refused = found["login"]["failed"] + found["proved"]["failed"] + found["unanswered"]
    note = run.card.note
    note(22, f"{name}: calls that end", found["cut"], 0)
    note(22, f"{name}: logins and calls refused", refused + sum(found["refused"].values()), 0)
    note(22, f"{name}: longest gap in media", found["gap"], run.pick(200, 3_000), unit=" ms")
    records = [json.loads(line) for line in run.gateway.records()]
    lengths = [r["talked_ms"] for r in records if r.get("talked_ms")]
    if lengths:
        off = max(min(abs(t - 2_000), abs(t - 1e3 * (3 * len(jumps) + 3))) for t in lengths)
        note(22, "length of a call in its record, off by", off, 500 * run.slack, unit=" ms")


def l23(run):
    few = result(run.calls(run.pick(10, 4), "--steady", 10))
    cpu, seconds = run.gateway.cpu(), run.pick(15, 5)
    count = run.pick(200, 50)
    many = result(run.calls(seconds, "--steady", count))
    used = 100 * (run.gateway.cpu() - cpu) / (seconds + 1)
    name = f"{count} relayed calls ({used:.0f} % of a core)"
    note = run.card.note
    note(
        23,
        f"{name}: there and back, added p99 (10 calls: {few['delay']['p99']:.1f} ms)",
        max(0.0, many["delay"]["p99"] - few["delay"]["p99"]),
        10 * run.slack,
        unit=" ms",
    )
    note(23, f"{name}: packets lost", 100 * many["loss"], 0.01 * run.slack, unit=" %")
    note(23, f"{name}: longest gap", many["gap"], run.pick(60, 3_000), unit=" ms")


def l24(run):
    run.begin(files=400)
    run.baseline()
    found = run.under(run.pick(20, 8), lambda: seats(run, "idle", 100, 1_000, run.pick(15, 5)))
    note = run.card.note
    name = "400 descriptors and 1,000 connections"
    note(24, f"{name}: calls in progress that end", found["cut"], 0)
    note(24, f"{name}: packets lost", 100 * found["loss"], 0.1 * run.slack, unit=" %")
    well = wait_for(lambda: result(run.victim(1))["login"]["failed"] == 0, 15)
    note(24, f"{name}: logins afterwards", "yes" if well else "no", "within 5 s", bool(well))
    full_disk(run)


def full_disk(run):
    place = run.work / "full"
    place.mkdir()
    rig.run("mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place))
    for name in ("cert.pem", "key.pem"):
        shutil.copy(run.work / name, place / name)
    run.begin(place=place)
    with contextlib.suppress(OSError), open(place / "filler", "wb") as filler:
        while filler.write(b"x" * 4_096):
            filler.flush()
    found = result(run.victim(run.pick(15, 5)))
    refused = found["login"]["failed"] + found["unanswered"] + sum(found["refused"].values())
    run.card.note(24, "full disk: logins and calls refused", refused, 0)
    run.card.note(24, "full disk: calls in progress that end", found["cut"], 0)
    (place / "filler").unlink()
    done = found["byes"]
    kept = wait_for(lambda: len(run.gateway.records()) >= done, 90)
    what = f"full disk: records of {done} calls there within 90 s of room"
    run.card.note(24, what, len(run.gateway.records()), f"≥ {done}", bool(kept))
    run.end()
    rig.run("umount", "--lazy", str(place))


def l25(run):
    out = run.world.start("sslscan", "--no-colour", f"{GATEWAY}:{rig.WEB}").communicate()[0]
    old = re.findall(r"(SSLv2|SSLv3|TLSv1\.0|TLSv1\.1)\s+enabled", out)
    weak = [c for c in re.findall(r"Accepted\s+\S+\s+(\d+) bits", out) if int(c) < 128]
    seen = "TLSv1.3" in out
    run.card.note(
        25,
        "old versions of TLS, and ciphers below 128 bits (sslscan)",
        len(old) + len(weak) if seen else None,
        0,
        good=seen and not old and not weak,
    )
    unsafe = subprocess.run(
        ["grep", "-rnE", r"\bunsafe\s*(\{|fn|impl)", "src", "--include=*.rs"],
        cwd=rig.ROOT,
        capture_output=True,
        text=True,
    )
    run.card.note(25, "`unsafe` in `src`", len(unsafe.stdout.splitlines()), 0)
    found = 0
    for log in filter(pathlib.Path.exists, run.logs):
        text = log.read_text(errors="replace")
        found += sum(text.count(word) for word in (*rig.SECRETS, "ice-pwd", "a=crypto"))
    run.card.note(25, "passwords and keys in the logs of this run", found, 0)
