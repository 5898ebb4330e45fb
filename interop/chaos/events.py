"""What is done to a gateway with calls up. Each event has a gateway of its own.

An event is a function here, run by its name; it adds its row or figure to the report.
"""

import contextlib
import random
import re
import signal
import subprocess
import time

import rig
from beside import beside
from common import clock_of

# What the issue asks of a restart; a short run shares the machine with other work.
BAR, WIDE = 1_000, 3_000


class Run:
    def __init__(self, report, work, args):
        self.report, self.work, self.short, self.calls = report, work, args.short, args.calls
        self.chance = random.Random(args.seed)

    def pick(self, long, short):
        return short if self.short else long

    @contextlib.contextmanager
    def world(self, phones, **more):
        world = rig.World(self.work, phones, **more)
        try:
            yield world
        finally:
            world.close()

    def bar(self):
        return self.pick(BAR, WIDE)


def kill(run):
    """20 times kill -9."""
    phones = run.calls or run.pick(198, 48)
    with run.world(phones, browsers=True) as world:
        for n in range(20):
            world.gateway.restart()
            # Some come before the last one is overcome.
            time.sleep(run.chance.uniform(0.8, 2.2) if n % 4 else run.pick(6, 2.5))
            world.look()
        world.gateway.kill()
        kept = world.gateway.kept()
        world.gateway.start()
        time.sleep(3)
        world.look()
        found = world.end()
        name = f"21 × `kill -9` under {world.calls} calls, started again at once"
        run.report.row(name, found, world.silences, run.bar())
        most = max(kept, default=0)
        run.report.check(
            "Bytes of a call on disk",
            f"{sum(kept) / max(1, len(kept)):,.0f} on average, {most:,} at most (2,048 asked)",
            [most > 2_048 and f"{most} bytes"],
            known=True,
        )
        missing = world.calls - len(kept)
        run.report.check("Calls that are not on disk", f"{missing}", [missing and f"{missing}"])
        run.report.check(
            "Streams after a restart",
            f"the furthest jump of a sequence number is {found['jump']:,} (3,000 is RFC 3550's "
            f"dropout); {found['keys']} keys for {phones} phones; source or SSRC at the trunk "
            f"changed {found['trunk']['breaks']} times",
            [found["jump"] >= 3_000 and "a jump too far", found["keys"] > phones and "new keys"],
        )
        for browser in found["browsers"]:
            run.report.check(
                f"Chromium with {browser['library']}",
                f"{'continues' if browser['alive'] else 'is over'}, worst silence heard "
                f"{browser['worst']:,.0f} ms, transport "
                f"{'the same' if browser['same'] else 'another'}",
                [
                    not browser["alive"] and "the call is over",
                    not browser["same"] and "another transport",
                ],
            )


def upgrade(run):
    """`webtrunk upgrade`, again and again."""
    phones, times = run.calls or run.pick(500, 48), run.pick(5, 3)
    with run.world(phones) as world:
        quiet = []
        for _ in range(2):
            time.sleep(3)
            quiet.append(world.look())
        world.silences.clear()
        bad = []
        for _ in range(times):
            code, said = world.gateway.upgrade()
            bad.append(code and f"exit {code}: {said}")
            time.sleep(3)
            world.look()
        found = world.end()
        name = f"{times} × `webtrunk upgrade` under {world.calls} calls"
        # A frame that was due when it began is heard after it, and is a frame long itself.
        run.report.row(name, found, world.silences, run.pick(140, WIDE))
        floor = [gap for at in quiet for gaps in at.values() for gap in gaps if gap is not None]
        stood = re.findall(
            r"calls go to process \d+ after ([0-9.]+m?s)", world.gateway.log.read_text()
        )
        what = (
            f"longest silence without one, for the same calls: {max(floor):,.0f} ms; "
            f"the earlier process let go after {', '.join(stood)}"
        )
        run.report.check(name, what, bad)


def stop(run, seconds):
    """The process is frozen, as a host that stalls freezes it."""
    # A browser that is not answered for 30 s gives its connection up.
    with run.world(run.pick(48, 20), browsers=seconds < 30) as world:
        time.sleep(1)
        world.gateway.signal(signal.SIGSTOP)
        time.sleep(seconds)
        world.gateway.signal(signal.SIGCONT)
        time.sleep(5)
        world.look()
        # All is well again: what is heard from now on has no silence.
        time.sleep(5)
        after = world.look()
        found = world.end()
        name = f"SIGSTOP for {seconds} s"
        # A browser that was not answered for 15 s is asked to restart ICE, as after a move.
        restarts = world.browsers is not None and seconds > 15
        bar = max(run.bar(), 3_000) if restarts else run.bar()
        run.report.row(name, found, world.silences[:1], seconds * 1_000 + bar)
        worst = max(g or 0 for gaps in after.values() for g in gaps)
        what = f"longest silence in the 5 s afterwards {worst:,.0f} ms"
        run.report.check(name, what, [worst > run.bar() and "it has not recovered"])


def stop5(run):
    stop(run, 5)


def stop20(run):
    stop(run, 20)


def stop60(run):
    stop(run, 60)


def clock(run):
    """The wall clock jumps, for the gateway alone."""
    told = run.work / "clock"
    env = clock_of(told)
    jumps = ["+3600", "-3600", "+86400", "@1970-01-02 00:00:00", "+0"]
    with run.world(run.pick(48, 20), env=env) as world:
        for jump in jumps:
            told.write_text(jump)
            time.sleep(2)
            world.gateway.restart()
            time.sleep(4)
            world.look()
        name = f"{len(jumps)} jumps of the clock (an hour, a day, to 1970), `kill -9` after each"
        run.report.row(name, world.end(), world.silences, run.bar())


def mounted(size):
    def prepare(folder):
        (folder / "state").mkdir()
        options = f"size={size}"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(folder / "state")], check=True
        )

    return prepare


def fill(place):
    with contextlib.suppress(OSError), open(place / "filler", "wb", buffering=0) as filler:
        while filler.write(b"x" * 512):
            pass


def full(run):
    """No room for checkpoints, then room again, then kill -9."""
    with run.world(run.pick(48, 20), prepare=mounted("4m")) as world:
        state = world.folder / "state"
        fill(state)
        time.sleep(12)
        world.look()
        warned = [w for w in world.gateway.warnings("WARN") if "WT-5003" in w]
        (state / "filler").unlink()
        # What waits is written when it can be.
        time.sleep(8)
        world.look()
        world.gateway.restart()
        time.sleep(4)
        world.look()
        name = "`state_dir` full for 12 s, room again, `kill -9`"
        run.report.row(name, world.end(), world.silences, run.bar())
        what = f"WT-5003 was logged {len(warned)} times"
        run.report.check(name, what, [len(warned) != 1 and f"one is asked for: {warned}"])


def full_at_the_end(run):
    """Killed while there is no room: what was reserved on disk still counts, or the call ends."""
    with run.world(run.pick(48, 20), prepare=mounted("4m")) as world:
        state = world.folder / "state"
        fill(state)
        time.sleep(15)
        world.look()
        world.gateway.restart()
        time.sleep(5)
        world.look()
        found = world.end()
        name = "`state_dir` full, `kill -9` meanwhile"
        gone = found["calls"] - found["went_on"]
        repeated = found["repeated"] + found["unauthentic"]
        run.report.check(
            name,
            f"{found['went_on']} of {found['calls']} calls continue; {found['lost']} records lost, "
            f"{found['doubled']} doubled; {found['repeated']} of {found['packets']:,} indices "
            f"repeated",
            [repeated and "indices repeated", found["lost"] > gone and "records lost"],
        )


def read_only(run):
    """The disk turns read-only under the gateway, and back."""
    with run.world(run.pick(48, 20), prepare=mounted("16m")) as world:
        state = str(world.folder / "state")
        remount = ["mount", "-o"]
        # A file that is open for writing holds a remount up; a forced one is of the disk's doing.
        done = subprocess.run([*remount, "remount,ro", state], capture_output=True)
        how = "read-only"
        if done.returncode:
            subprocess.run(["mount", "--bind", state, state], check=True)
            subprocess.run([*remount, "remount,ro,bind", state], check=True)
            how = "read-only for who opens it anew"
        time.sleep(10)
        world.look()
        world.gateway.restart()
        # Nothing is sent before what the earlier process had reserved is too old for a third one.
        time.sleep(25)
        silent = world.look()
        time.sleep(3)
        at = world.look()
        found = world.end()
        name = f"`state_dir` {how}, `kill -9`"
        heard = [sum(gap is not None and gap < 1_000 for gap in at[end]) for end in at]
        longest = max(gap or 0 for gap in silent["browser"])
        run.report.check(
            name,
            f"starts; browsers hear nothing for {longest:,.0f} ms; then {min(heard)} of "
            f"{found['calls']} calls continue, {found['repeated']} of {found['packets']:,} indices "
            f"repeated, {found['lost']} records lost",
            [
                min(heard) < found["calls"] and f"{min(heard)} continue",
                found["repeated"] + found["unauthentic"] and "indices repeated",
                found["lost"] and f"{found['lost']} calls without an end or a record",
            ],
        )


def torn(run):
    """What was kept is cut short, overwritten or another's: the start, and new calls, go well."""
    bad, tries = [], 0
    for what in ("cut in half", "half overwritten", "noise", "empty", "another program's"):
        with run.world(6) as world:
            world.gateway.kill()
            hurt(world.folder / "state", what, run.chance)
            world.gateway.start()
            tries += 1
            try:
                world.gateway.wait(10)
            except RuntimeError as e:
                bad.append(f"{what}: {e}")
                continue
            time.sleep(2)
            found = world.end()
            if found["repeated"] + found["unauthentic"]:
                bad.append(f"{what}: {found['repeated']} indices repeated")
            if world.gateway.warnings():
                bad.append(f"{what}: {world.gateway.warnings()[0][:300]}")
            world.phones.close()
            world.phones = rig.Told(rig.TELEPHONES)
            talking = world.phones.ask("call", 3)
            if talking["talking"] < 3:
                bad.append(f"{what}: new calls: {talking['states']}")
                print(world.gateway.shown(), flush=True)
    run.report.check(
        "Checkpoints torn, truncated or foreign",
        f"{tries} ways: each starts, says so without an error, and serves new calls",
        bad,
    )


def hurt(state, what, chance):
    for path in state.glob("checkpoints.db*"):
        data = path.read_bytes()
        noise = chance.randbytes(len(data))
        half = len(data) // 2
        changed = {
            "cut in half": data[:half],
            "half overwritten": data[:half] + noise[half:],
            "noise": noise,
            "empty": b"",
            "another program's": b"%PDF-1.4 of somebody else's\n" * 40,
        }
        path.write_bytes(changed[what])


def drops(run):
    """A WebSocket is reset at each second of a session of 90 s, one call a second."""
    count, seconds = run.pick((100, 100), (20, 95))
    with run.world(count) as world:
        began = time.time()
        for n in range(count):
            due = began + (n + 1) * seconds / count
            time.sleep(max(0, due - time.time()))
            world.phones.ask("drop", n, 2_000)
        # Every session is refreshed once more.
        time.sleep(50)
        world.look()
        found = world.end()
        name = f"{count} WebSockets reset, one at each second of a session of 90 s, back after 2 s"
        run.report.row(name, found, world.silences, 500)
        what = f"requests within the calls: {found['asked']}"
        run.report.check(name, what, [not found["least"] and "a session was not refreshed"])


def haste(run):
    """One browser sends 15,000 authentic packets a second; what the others of its worker hear."""
    seconds = run.pick(20, 5)
    with run.world(run.pick(40, 20)) as world:
        time.sleep(seconds)
        calm, cpu = world.look(but=0), world.gateway.cpu()
        world.phones.ask("hasten", 0, 300, seconds)
        time.sleep(seconds)
        held, cpu = world.look(but=0), world.gateway.cpu() - cpu
        world.silences.clear()
        world.look()
        worst = [max(gap for gaps in at.values() for gap in gaps) for at in (calm, held)]
        found = world.end()
        bad = [found["went_on"] < found["calls"] and f"{found['went_on']} calls continue"]
        more = worst[1] - worst[0]
        bad.append(more > run.pick(60, WIDE) and f"{more:.0f} ms more")
        run.report.check(
            "15,000 authentic packets a second of one browser",
            f"the others' longest silence {worst[1]:,.0f} ms, {worst[0]:,.0f} without them; "
            f"{100 * cpu / seconds:.0f} % of a core for all; "
            f"{found['went_on']} of {found['calls']} calls continue",
            bad,
        )


def cost(run):
    """CPU of a second of a call, with checkpoints and without."""
    phones, seconds = run.pick(60, 30), run.pick(20, 5)
    used = {True: [], False: []}
    for kept in (True, False) * 2:
        state = 'state_dir = "state"' if kept else 'state_dir = "/proc/self/none"'
        with run.world(phones, state=state) as world:
            before = world.gateway.cpu()
            time.sleep(seconds)
            used[kept].append(1e3 * (world.gateway.cpu() - before) / phones / seconds)
    mean = {kept: sum(of) / len(of) for kept, of in used.items()}
    more = 100 * (mean[True] / mean[False] - 1)
    apart = 100 * max(abs(of[0] - of[1]) / min(of) for of in used.values())
    shown = " and ".join(f"{ms:.3f}" for ms in used[True])
    without = " and ".join(f"{ms:.3f}" for ms in used[False])
    run.report.check(
        "CPU of checkpoints",
        f"{shown} ms a call-second with `state_dir`, {without} without, {phones} calls held for "
        f"{seconds} s in turn: {more:+.1f} % (1 % asked; two runs alike differ by {apart:.1f} %)",
        [more > 1 + apart and f"{more:.1f} % more"],
    )


# In this order. What moves addresses, reloads tabs or replaces the binary adds its functions here.
ALL = [
    kill, upgrade, stop5, stop20, stop60, clock, full, full_at_the_end, read_only, torn, drops,
    haste, cost, beside,
]  # fmt: skip
SHORT = [kill]
