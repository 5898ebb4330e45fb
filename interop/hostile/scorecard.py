"""The figures of a run, and the page they are written to."""

import os
import pathlib
import platform
import re
import subprocess
import time

LINES = {
    1: "Reconnect storm",
    2: "Drain and reload",
    3: "kill -9",
    4: "Redis down, failover",
    5: "Split of a cluster",
    6: "INVITE overload",
    7: "Flood of strangers",
    8: "RTP bleed and injection",
    9: "Identity of ICE and DTLS",
    10: "SRTP junk and replay",
    11: "Credentials",
    12: "Fraud: deny by default",
    13: "Injection",
    14: "Torture",
    15: "Fuzzing",
    16: "WebSocket",
    17: "Slow peers",
    18: "Egress policy",
    19: "Loops and amplification",
    20: "Leaks",
    21: "Media death",
    22: "Time",
    23: "Media under load",
    24: "Isolation of faults",
    25: "Secure defaults, supply chain",
}


class Page:
    """What a page of an earlier run says: when it was made, and the rows of each line."""

    def __init__(self, text=""):
        self.runs, self.rows, line = [], {}, None
        for row in text.splitlines():
            self.runs += [row] if row.startswith("`") else []
            if found := re.match(r"\| L(\d+) ", row):
                line = int(found.group(1))
                self.rows[line] = []
            if line and row.startswith("| ") and "| not run |" not in row:
                self.rows[line].append(row)


class Scorecard:
    def __init__(self, short, seed, path=None, again=()):
        """`again` names the lines that are measured anew for a page that is there."""
        self.short, self.seed, self.rows, self.again = short, seed, [], again
        self.path = path and pathlib.Path(path)
        kept = bool(again and self.path and self.path.exists())
        self.page = Page(self.path.read_text() if kept else "")
        self.began, self.load = time.time(), os.getloadavg()[0]

    def note(self, line, what, value, bar=None, good=None, unit=""):
        """One figure. `bar` is a number it may reach; `good` decides where no number does."""
        if good is None:
            good = value is not None and value <= bar
        if isinstance(value, float):
            value = f"{value:.3g}" if abs(value) < 10 else f"{value:.{int(abs(value) < 100)}f}"
        wanted = bar if isinstance(bar, str) else f"≤ {bar:,}{unit}"
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        self.rows.append((line, what, shown + unit, wanted, bool(good)))
        print(
            f"L{line:<3}{'ok  ' if good else 'FAIL'}  {what}: {shown}{unit} ({wanted})", flush=True
        )

    def failed(self):
        return [row for row in self.rows if not row[4]]

    def table(self):
        """A row a figure, by line; those of the earlier page where nothing was measured anew."""
        table = {line: self.page.rows.get(line, []) for line in LINES}
        for line, name in LINES.items():
            measured = [row for row in self.rows if row[0] == line]
            titles = [f"L{line} {name}"] + [""] * (len(measured) - 1)
            if measured:
                table[line] = [
                    f"| {title} | {what} | {value} | {wanted} | {'ok' if good else '**FAIL**'} |"
                    for title, (_, what, value, wanted, good) in zip(titles, measured, strict=True)
                ]
        return table

    def command(self):
        if self.short:
            return "interop/run.sh hostile --short"
        lines = "".join(f" {line}" for line in self.again)
        return (
            f"interop/run.sh hostile --write interop/SCORECARD.md{lines}"
            if lines
            else ("make hostile")
        )

    def this_run(self):
        cpu = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
        rev = ["git", "log", "-1", "--format=%h of %cs"]
        source = os.environ.get("WEBTRUNK_COMMIT")
        source = source or subprocess.run(rev, capture_output=True, text=True).stdout.strip()
        minutes = (time.time() - self.began) / 60
        machine = cpu.group(1) if cpu else platform.machine()
        return (
            f"`{self.command()}`, {time.strftime('%Y-%m-%d')}, commit {source}, seed {self.seed}, "
            f"{minutes:.0f} minutes; {os.cpu_count()} cores ({machine}), load average "
            f"{self.load:.1f} before it began."
        )

    def write(self):
        """The page: a table of this run, or of an earlier one with this one's lines in it."""
        if not self.path:
            return
        runs = [run for run in self.page.runs if not run.startswith(f"`{self.command()}`")]
        out = ["# Scorecard", "", "<!-- Made by `make hostile`: do not edit. -->", ""]
        for run in [*runs, self.this_run()]:
            out += [run, ""]
        out += [
            "Attackers, trunks, browsers and the gateway share this machine. "
            + ("Lines that a later command names were measured anew by it. " * bool(runs))
            + "Each line is a kind of attack or fault. The bar is what is asked for; a figure "
            "beyond it is a FAIL, and is published as one. "
            + ("The loads of this run are small, and its bars of time are wide. " * self.short)
            + "[README.md](README.md#hostile) says how each is measured.",
            "",
            "| Line | Figure | Measured | Bar | |",
            "| --- | --- | ---: | ---: | --- |",
        ]
        table = self.table()
        for line, name in LINES.items():
            out += table[line] or [f"| L{line} {name} | not run | - | - | - |"]
        rows = [row for of in table.values() for row in of]
        whole = sum(bool(of) and all(row.endswith("| ok |") for row in of) for of in table.values())
        good = sum(row.endswith("| ok |") for row in rows)
        out += ["", f"{good} of {len(rows)} figures hold; {whole} of {len(LINES)} lines are whole."]
        self.path.write_text("\n".join(out) + "\n")
