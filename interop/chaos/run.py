#!/usr/bin/env python3
"""Events that break other gateways' calls, and what those who talk notice of them.

    run.py [--short [--all]] [--calls N] [--seed N] [--write FILE] [EVENT ...]

In namespaces that `interop/run.sh chaos` makes. Without names, all events run; a short run has
fewer calls, wide bars of time, and the kills alone, or all with --all. It ends with 1 if something
is not as asked that was before; what is still open is published as not as asked, too.
"""

import argparse
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import events  # noqa: E402
from report import Report  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--all", action="store_true", help="all events of a short run")
    parser.add_argument("--calls", type=int, help="of test phones, under the kills")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--write", help="the page, written after each event")
    known = {event.__name__.replace("_", "-"): event for event in events.ALL}
    parser.add_argument("events", nargs="*", metavar="EVENT", help=", ".join(known))
    args = parser.parse_args()
    unknown = [name for name in args.events if name not in known]
    if unknown:
        parser.error(f"no such event: {', '.join(unknown)}; there are {', '.join(known)}")
    named = [known[name] for name in args.events]
    shown = ["interop/run.sh chaos", *["--short"] * args.short, *args.events]
    shown += [f"--calls {args.calls}"] * bool(args.calls)
    report = Report(args.short, " ".join(shown), args.write)
    with tempfile.TemporaryDirectory() as work:
        run = events.Run(report, pathlib.Path(work), args)
        for event in named or (events.SHORT if args.short and not args.all else events.ALL):
            try:
                event(run)
            except Exception as e:  # An event that cannot be measured is not as asked.
                report.check(event.__name__, "could not be measured", [f"{e!r:.2000}"])
            report.write()
    print(f"{len(report.failures)} not as asked, {len(report.open)} of them open before")
    sys.exit(len(report.failures) > len(report.open))


if __name__ == "__main__":
    main()
