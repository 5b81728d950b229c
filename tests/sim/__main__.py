"""Runs the simulator over many seeds and says what it did: `make sim SEEDS=2000`, or `python -m tests.sim --help`.

The exit code is 1 if a promise was broken.
"""

import argparse
import logging
import subprocess
import sys
import time
from pathlib import Path

import structlog

from tests.sim.campaign import Totals, outcomes

ROOT = Path(__file__).parents[2]
_PROGRESS_SEEDS = 200


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    totals = Totals()
    began_s = time.monotonic()
    for outcome in outcomes(
        range(options.first, options.first + options.seeds), brief=options.brief, jobs=options.jobs
    ):
        totals.add(outcome)
        if outcome.failure:
            print(outcome.failure, flush=True)
        if totals.seeds % _PROGRESS_SEEDS == 0:
            print(f"… {totals.seeds:,} seeds, {len(totals.failures)} violations", file=sys.stderr, flush=True)
        if options.fingerprints and outcome.result is not None:
            print(outcome.seed, outcome.result.fingerprint)
    if not options.fingerprints:
        brief = " --brief" if options.brief else ""
        print(f"command          python -m tests.sim --first {options.first} --seeds {options.seeds}{brief}")
        print(f"commit           {_commit()}")
        print(f"time             {time.monotonic() - began_s:,.0f} s")
        print(*totals.lines(), sep="\n")
    return 1 if totals.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulate whole clusters.")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seeds", type=int, default=100, help="how many (100)")
    parser.add_argument("--brief", action="store_true", help="the shorter runs of the quick tests")
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0: one for each core (0)")
    parser.add_argument("--fingerprints", action="store_true", help="print what each run came to, and no report")
    return parser


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
