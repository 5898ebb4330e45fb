#!/usr/bin/env python3
"""The scorecard: attacks on a gateway of one's own, and what others notice of them.

    run.py [--short] [--no-tests] [--seed N] [--write FILE] [--logs FOLDER] [LINE ...]

In namespaces that `interop/run.sh hostile` makes. A short run has small loads, and wide bars of
time; it ends with 1 if a figure does not hold. A whole run writes the scorecard; a run of some
lines puts them into the one that is there, and says so.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import faults  # noqa: E402
import field  # noqa: E402
import rig  # noqa: E402
import shown  # noqa: E402
import strangers  # noqa: E402
import websocket  # noqa: E402
from scorecard import LINES, Scorecard  # noqa: E402

# In this order; each part begins with a gateway of its own.
PARTS = [
    [7, 8, 9, 10, 11, 12, 13, 16, 17, 23, 20, 6, 2],
    [1],
    [3],
    [22],
    [24],
    [18, 15, 25],
]
# What a short run leaves to a whole one: too slow, a figure of the machine's, or not there yet.
LONG = [3, 6, 15, 20, 22, 25]


def attacks(run, wanted):
    steps = {name: step for of in (faults, strangers) for name, step in vars(of).items()}
    steps["l16"] = lambda run: websocket.cases(run.card, run.world)
    for part in PARTS:
        chosen = wanted or [line for line in LINES if not (run.short and line in LONG)]
        part = [line for line in part if line in chosen]
        if not part:
            continue
        run.begin(users=run.pick(0, 400))
        run.baseline()
        for line in part:
            try:
                steps[f"l{line}"](run)
            except Exception as e:  # A line that cannot be measured does not hold.
                run.card.note(line, f"measured ({e!r:.200})", "no", "yes", good=False)
            run.card.write()
            if run.gateway is None or run.gateway.process.poll() is not None:
                run.begin(users=run.pick(0, 400))


def keep(logs, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for n, log in enumerate(logs):
        # That of a full disk went with it.
        if log.exists():
            shutil.copy(log, folder / f"{n}.log")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--write", help="the page, written after each line of the scorecard")
    parser.add_argument("--no-tests", action="store_true", help="without the tests of cargo's")
    parser.add_argument("--logs", help="a folder that the gateways' logs are copied to")
    parser.add_argument("lines", nargs="*", type=int)
    args = parser.parse_args()
    card = Scorecard(args.short, args.seed, args.write, args.lines)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        rig.prepare(work)
        world = rig.World()
        run = field.Run(card, world, work, args.seed)
        try:
            attacks(run, args.lines)
        finally:
            run.end()
            world.close()
            if args.logs:
                keep(run.logs, pathlib.Path(args.logs))
    # It has gone with the folder.
    del os.environ["SSL_CERT_FILE"]
    if not args.short and not args.no_tests:
        for line in LINES:
            if not args.lines or line in args.lines:
                shown.run(card, line)
    card.write()
    print(f"\n{len(card.rows)} figures, {len(card.failed())} do not hold")
    sys.exit(1 if args.short and card.failed() else 0)


if __name__ == "__main__":
    main()
