"""Breaks a cluster of real daemons for a while: `make chaos MINUTES=30 SEED=1`, or `python -m tests.chaos --help`.

The exit code is 1 if a promise was broken. The folder with the logs and data of the nodes is then kept.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from tests.chaos.campaign import Campaign
from tests.chaos.plan import rounds, setup
from tests.chaos.report import Run, row, table, write
from tests.process.shim import NoCompiler, build

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="kvs-chaos-"))
    try:
        library = build(folder)
    except NoCompiler as reason:
        print(reason, file=sys.stderr)
        return 1
    plan = setup(options.seed, options.nodes)
    print(f"seed {options.seed}, {options.nodes} nodes, {plan.settings}", flush=True)
    until_s = time.monotonic() + 60 * options.minutes
    campaign = Campaign(folder, plan, options.seed, library, lambda line: print(line, flush=True))
    report = campaign.report
    try:
        campaign.run(islice(rounds(options.seed, plan), options.first - 1, None), lambda: time.monotonic() >= until_s)
    finally:
        run = Run(_command(options), _commit())
        print("\n".join(table([row(run, report)])))
        print(", ".join(f"{what} {number:,}" for what, number in sorted(report.others.items())))
        if report.not_possible:
            print(f"No full disk: {report.not_possible}")
        print("\n".join(report.violations))
    if options.docs is not None and not report.violations:
        write(options.docs, run, report)
    if report.violations:
        print(f"Logs and data are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break a cluster of real daemons.")
    parser.add_argument("--minutes", type=float, default=5, help="for how long (5)")
    parser.add_argument("--seed", type=int, default=1, help="what the faults and the settings are drawn from (1)")
    parser.add_argument("--nodes", type=int, default=4, help="how many (4)")
    parser.add_argument("--first", type=int, default=1, help="the first round of the plan (1)")
    parser.add_argument("--docs", type=Path, help="a document whose table of campaigns gets this one")
    return parser


def _command(options: argparse.Namespace) -> str:
    words = ["make chaos", f"MINUTES={options.minutes:g}", f"SEED={options.seed}"]
    words += [f"NODES={options.nodes}"] if options.nodes != _parser().get_default("nodes") else []
    return " ".join(words)


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
