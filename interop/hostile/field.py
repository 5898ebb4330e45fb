"""A gateway, the world around it, and what one notices of the other: what each line is made of."""

import collections
import json
import re
import time

import rig
from rig import CALLER, FAR, GATEWAY, HOMES, result

# The rule: whatever one source does, others wait at most this much longer (99th percentile, ms).
ADDED = 20


class Run:
    def __init__(self, card, world, work, seed):
        self.card, self.world, self.work, self.seed = card, world, work, seed
        self.short = card.short
        self.gateway = self.far = self.calm = None
        # A short run is part of other work on the machine: it looks for service that stops, and a
        # whole one for service that is slower.
        self.slack = 50 if card.short else 1
        self.logs = []

    def pick(self, whole, short):
        return short if self.short else whole

    def begin(self, **how):
        self.end()
        self.gateway = rig.Gateway(how.pop("place", self.work), **how)
        self.logs.append(self.gateway.log)
        self.answer()

    def end(self):
        if self.far:
            self.hang_up()
        if self.gateway:
            self.gateway.close()
        self.gateway = None

    def hang_up(self):
        """Ends the far end, and says what it heard."""
        far, self.far = self.far, None
        out, _ = far.communicate(input="", timeout=10)
        return json.loads(out)

    def answer(self):
        at, gateway = f"{FAR}:5060", f"{GATEWAY}:{rig.SIP}"
        self.far = self.world.attack("far", "--at", at, "--gateway", gateway, nice=-15)

    def attack(self, kind, *args):
        return self.world.attack(kind, *args)

    def web(self):
        return ["--web", f"{GATEWAY}:{rig.WEB}"]

    def calls(self, seconds, *args, at=CALLER, nice=-15):
        to = ["--at", f"{at}:5060", "--gateway", f"{GATEWAY}:{rig.SIP}", "--seconds", seconds]
        return self.world.attack("calls", *to, *args, nice=nice)

    def victim(self, seconds, *args):
        to = ["--at", f"{CALLER}:5060", "--gateway", f"{GATEWAY}:{rig.SIP}", "--seconds", seconds]
        steady = ["--steady", 20, "--rate", 5, "--hold", 2, "--homes", HOMES]
        seed = ["--seed", self.seed]
        return self.world.attack("victim", *self.web(), *to, *steady, *seed, *args, nice=-15)

    def phones(self, calls, seconds):
        """Browsers' calls, by the gateway's own test phone."""
        url = f"wss://hostile.test:{rig.WEB}/sip"
        command = [rig.BINARY, "bench", "--against", url, "alice", "alice-secret", "7000"]
        load = ["--calls", calls, "--rate", 20, "--for", f"{seconds}s", "--codec", "pcmu"]
        return self.world.start(*command, *load, "-o", "json", nice=-15)

    def baseline(self):
        """The victim without an attack."""
        self.calm = result(self.victim(self.pick(10, 4)))

    def under(self, seconds, *attacks):
        """Starts a victim, then attacks; the figures of victim, attackers and gateway."""
        gateway = self.gateway
        began, lines, cpu = time.time(), len(gateway.lines()), gateway.cpu()
        rss = gateway.rss()
        victim = self.victim(seconds)
        time.sleep(1)
        attackers = [attack() for attack in attacks]
        found = result(victim)
        found["attackers"] = [result(attacker) for attacker in attackers]
        found["cpu"] = gateway.cpu() - cpu
        found["rss"], found["peak"] = rss, gateway.peak(began)
        # The line of a call that somebody makes is no attacker's.
        new = gateway.lines()[lines:]
        found["lines"] = [line for line in new if '"message":"call ' not in line]
        found["seconds"] = time.time() - began
        return found

    def fair(self, line, attack, found):
        """The rule of fairness, as figures of a line."""
        note, calm = self.card.note, self.calm
        refused = found["login"]["failed"] + found["proved"]["failed"]
        refused += sum(found["refused"].values()) + found["unanswered"] + found["cut"]
        asked = found["login"]["n"] + found["proved"]["n"] + found["offered"]
        why = found["login"]["why"] or found["proved"]["why"] or found["refused"] or ""
        what = f"{attack}: others' logins and calls refused, of {asked + refused}"
        note(line, what + (f" ({why})" if refused else ""), refused, 0)
        for key, name in (("login", "login"), ("setup", "set-up of a call"), ("delay", "media")):
            quiet, now = calm[key]["p99"] or 0.0, found[key]["p99"]
            added = None if now is None else max(0.0, now - quiet)
            bar = ADDED * self.slack
            note(
                line,
                f"{attack}: added to {name}, p99 (alone: {quiet:.0f} ms)",
                added,
                bar,
                unit=" ms",
            )
        note(line, f"{attack}: packets lost", 100 * found["loss"], 0.1 * self.slack, unit=" %")
        note(
            line,
            f"{attack}: memory at most",
            (found["peak"] - found["rss"]) // 1024,
            32,
            unit=" MiB more",
        )
        note(line, f"{attack}: lines logged of a class in 10 s", most_lines(found["lines"]), 2)


def most_lines(lines):
    """The most lines of one class within 10 s."""
    classes = collections.defaultdict(list)
    for line in lines:
        entry = json.loads(line)
        name = entry.get("code") or re.sub(r"[\d.:\[\]]+", "#", entry["message"])
        at = entry["timestamp"][:19]
        classes[name].append(time.mktime(time.strptime(at, "%Y-%m-%dT%H:%M:%S")))
    worst = 0
    for times in classes.values():
        for n, first in enumerate(times):
            worst = max(worst, sum(first <= t < first + 10 for t in times[n:]))
    return worst


def wait_for(what, seconds):
    end = time.time() + seconds
    while time.time() < end:
        if found := what():
            return found
        time.sleep(0.1)
    return None
