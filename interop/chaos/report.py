"""What a run found, and the page it is written to."""

import os
import pathlib
import time

import rig


def spread(values):
    """Median, 99th percentile and maximum, as one cell; a silence without end is one of all."""
    values = sorted(v for v in values if v is not None)
    if not values:
        return "-"
    at = [values[min(len(values) * p // 100, len(values) - 1)] for p in (50, 99, 100)]
    return " / ".join(f"{v:,.0f}" for v in at)


def p99(values):
    values = sorted(v for v in values if v is not None)
    return values[min(len(values) * 99 // 100, len(values) - 1)] if values else None


class Report:
    def __init__(self, short, command, path=None):
        self.short, self.command, self.path = short, command, path and pathlib.Path(path)
        self.rows, self.notes, self.failures, self.open = [], [], [], []
        self.began, self.load = time.time(), os.getloadavg()[0]

    def row(self, event, found, silences, most=None, wanted=None):
        """An event's row: `most` is the bar of p99 in ms, `wanted` the calls that must continue."""
        browser = [gap for at in silences for gap in at["browser"]]
        trunk = [gap for at in silences for gap in at["trunk"]]
        told = found["trunk"]
        wanted = found["calls"] if wanted is None else wanted
        bad = [
            found["went_on"] < wanted and f"{found['went_on']} calls continue",
            told["told"] + told["strange"] > 0 and f"the trunk gets {told['what']}",
            found["lost"] > 0 and f"{found['lost']} records lost",
            found["doubled"] > 0 and f"{found['doubled']} records doubled",
            found["repeated"] > 0 and f"{found['repeated']} indices repeated",
            found["unauthentic"] > 0 and f"{found['unauthentic']} packets not authentic",
            told["breaks"] > 0 and f"the trunk's streams break {told['breaks']} times",
            bool(found["blamed"])
            and f"{len(found['blamed'])} records blame somebody: "
            + "; ".join(sorted(v["sentence"] for v in found["blamed"])),
            bool(found["errors"]) and f"errors are logged: {found['errors'][0][:300]}",
        ]
        for name, gaps in (("browser", browser), ("trunk", trunk)):
            worst = p99(gaps)
            if most and (worst is None or worst > most):
                bad.append(f"p99 of silence at the {name} {worst} ms")
        bad = [b for b in bad if b]
        self.rows.append(
            f"| {event} | {found['went_on']} of {found['calls']} | {spread(browser)} | "
            f"{spread(trunk)} | {told['told'] + told['strange']} | "
            f"{found['lost']} / {found['doubled']} | {found['repeated']} of {found['packets']:,} | "
            f"{'**FAIL**' if bad else 'ok'} |"
        )
        self.tell(event, bad)
        print(f"      {self.rows[-1]}", flush=True)

    def beside(self, event, began, hears, silences):
        """What another does, which has no bar: calls that were up, and that hear at the end."""
        browser = [gap for at in silences for gap in at["browser"]]
        trunk = [gap for at in silences for gap in at["trunk"]]
        (talked, calls), on = began, min(hears.values())
        self.rows.append(
            f"| {event} | {on} of {talked} | {spread(browser)} | {spread(trunk)} "
            "| - | - | - | peer |"
        )
        self.notes.append(
            f"- {event}: {talked} of {calls} calls talked before; afterwards {hears['browser']} "
            f"browsers and {hears['trunk']} ends at the trunk heard the other"
        )
        print(f"ok    {event}: measured\n      {self.rows[-1]}\n      {self.notes[-1]}", flush=True)

    def check(self, event, what, bad=(), known=False):
        """A figure that is no row of the table. One that is known not to hold fails no run."""
        bad = [b for b in bad if b]
        self.open += bad * known
        self.notes.append(f"- {event}: {what}{' **FAIL**' if bad else ''}")
        self.tell(event, bad)
        print(f"      {what}", flush=True)

    def tell(self, event, bad):
        for b in bad:
            self.failures.append(f"{event}: {b}")
        print(f"{'FAIL' if bad else 'ok  '}  {event}: {'; '.join(bad) or 'as asked'}", flush=True)

    def write(self):
        if not self.path:
            return
        commit, profile = rig.build()
        minutes = (time.time() - self.began) / 60
        out = [
            "# What calls outlive",
            "",
            f"<!-- Made by `{self.command}`: do not edit. -->",
            "",
            f"`{self.command}`, {time.strftime('%Y-%m-%d')}, commit {commit} ({profile}), "
            f"{minutes:.0f} minutes; {rig.machine()}, load average {self.load:.1f} before it "
            "began. Telephones, browsers, trunk and gateway share this machine.",
            "",
            "A silence is the longest time without the far end's tone between two looks, one for "
            "each call, end and event; p50 / p99 / maximum. Messages at the trunk are those of a "
            "call before somebody hangs up. Indices are those of SRTP and SRTCP "
            "that came to the test phones, opened by another implementation. "
            "[README.md](../README.md#chaos) says how each is measured.",
            "",
            "| Event | Calls that continue | Silence at the browser, ms | at the trunk, ms "
            "| Messages at the trunk | Records lost / doubled | Indices repeated | |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
            *self.rows,
            "",
            *self.notes,
            "",
        ]
        if self.failures:
            out += ["Not as asked:", "", *(f"- {f}" for f in self.failures), ""]
        self.path.write_text("\n".join(out))
