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


class Scorecard:
    def __init__(self, short, seed, path=None):
        self.short, self.seed, self.rows = short, seed, []
        self.path = path and pathlib.Path(path)
        self.began, self.load = time.time(), os.getloadavg()[0]

    def note(self, line, what, value, bar=None, good=None, unit=""):
        """One figure. `bar` is a number it may reach; `good` decides where no number does."""
        if good is None:
            good = value is not None and value <= bar
        if isinstance(value, float):
            value = f"{value:.3g}" if abs(value) < 10 else f"{value:.0f}"
        wanted = bar if isinstance(bar, str) else f"≤ {bar:,}{unit}"
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        self.rows.append((line, what, shown + unit, wanted, bool(good)))
        print(
            f"L{line:<3}{'ok  ' if good else 'FAIL'}  {what}: {shown}{unit} ({wanted})", flush=True
        )

    def failed(self):
        return [row for row in self.rows if not row[4]]

    def write(self):
        """The page: a table of this run."""
        if not self.path:
            return
        command = "interop/run.sh hostile --short" if self.short else "make hostile"
        cpu = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
        rev = ["git", "log", "-1", "--format=%h of %cs"]
        source = os.environ.get("WEBTRUNK_COMMIT")
        source = source or subprocess.run(rev, capture_output=True, text=True).stdout.strip()
        minutes = (time.time() - self.began) / 60
        machine = cpu.group(1) if cpu else platform.machine()
        out = [
            "# Scorecard",
            "",
            f"<!-- Made by `{command}`: do not edit. -->",
            "",
            f"`{command}`, {time.strftime('%Y-%m-%d')}, commit {source}, seed {self.seed}, "
            f"{minutes:.0f} minutes; {os.cpu_count()} cores ({machine}), load average "
            f"{self.load:.1f} before it began. Attackers, trunks, browsers and the gateway share "
            "this machine.",
            "",
            "Each line is a kind of attack or fault. The bar is what is asked for; a figure beyond "
            "it is a FAIL, and is published as one. "
            + ("The loads of this run are small, and its bars of time are wide. " * self.short)
            + "[README.md](README.md#hostile) says how each "
            "is measured.",
            "",
            "| Line | Figure | Measured | Bar | |",
            "| --- | --- | ---: | ---: | --- |",
        ]
        for line, name in LINES.items():
            rows = [row for row in self.rows if row[0] == line]
            title = f"L{line} {name}"
            if not rows:
                out.append(f"| {title} | not run | - | - | - |")
            for _, what, value, wanted, good in rows:
                out.append(
                    f"| {title} | {what} | {value} | {wanted} | {'ok' if good else '**FAIL**'} |"
                )
                title = ""
        good = sum(row[4] for row in self.rows)
        whole = {row[0] for row in self.rows} - {row[0] for row in self.failed()}
        out += [
            "",
            f"{good} of {len(self.rows)} figures hold; {len(whole)} of {len(LINES)} lines are "
            "whole.",
            "",
        ]
        self.path.write_text("\n".join(out))
