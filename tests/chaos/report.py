"""The table of campaigns in the documentation, which only the command writes."""

from pathlib import Path
from typing import NamedTuple

from tests.chaos.campaign import Report

BEGIN, END = "<!-- written by make chaos -->", "<!-- end -->"
_HEADINGS = ("command", "commit", "time", "rounds", "operations", "faults", "all equal after", "violations")


class Run(NamedTuple):
    """What was run. `command` repeats it."""

    command: str
    commit: str


def row(run: Run, report: Report) -> str:
    """Of the table."""
    written = ", ".join(f"{number:,} writes {outcome}" for outcome, number in report.outcomes.items())
    tokens = "".join(f", {number:,} tokens {outcome}" for outcome, number in report.tokens.items())
    cells = (
        f"`{run.command}`",
        run.commit,
        f"{report.seconds / 60:.1f} min",
        f"{report.rounds}",
        f"{written}, {report.reads:,} reads{tokens}, {report.audited} audit logs",
        ", ".join(f"{kind} {number:,}" for kind, number in sorted(report.faults.items())),
        f"{report.equal_after_max_s:.1f} s at most",
        f"{len(report.violations)}",
    )
    return f"| {' | '.join(cells)} |"


def table(rows: list[str]) -> list[str]:
    return [f"| {' | '.join(_HEADINGS)} |", f"|{'---|' * len(_HEADINGS)}", *rows]


def rewrite(text: str, run: Run, report: Report) -> str:
    """The document with this run in its table, in the place of an earlier one of the same command."""
    before, rest = text.split(BEGIN)
    inside, after = rest.split(END)
    rows = [line for line in inside.splitlines() if line.startswith("| `") and f"| `{run.command}` |" not in line]
    lines = table([*rows, row(run, report)])
    return before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after


def write(path: Path, run: Run, report: Report) -> None:
    path.write_text(rewrite(path.read_text(), run, report))
