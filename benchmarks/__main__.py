"""`python -m benchmarks`: start everything on 127.0.0.1, measure, print a table, write JSON."""

import sys
from pathlib import Path

import click

from benchmarks import anti_entropy, filling, load, million, report, requests, watching

STARTS = 5
FILLINGS = 3


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=10, show_default=True, help="Rounds of GET and PUT.")
@click.option("--seconds", type=click.IntRange(1, 600), default=2, show_default=True, help="Length of each.")
@click.option("--keys", type=click.IntRange(0, 100_000_000), default=1_000_000, show_default=True, help="0: skip them.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file, too.")
def main(rounds: int, seconds: int, keys: int, json_path: Path | None) -> None:
    """Compare KVS with bare handlers, and see what many keys cost."""
    rows = []
    if load.available():
        rows += requests.measure(rounds, seconds)
        rows += watching.measure(rounds, seconds)
    else:
        report.say(f"GET and PUT are skipped: {load.INSTALL_HINT}")
    if keys:
        rows += million.measure(keys, starts=STARTS)
        rows.append(filling.measure(keys, rounds=FILLINGS))
        rows += anti_entropy.measure(keys)
    click.echo(report.table(rows))
    if json_path is not None:
        report.write_json(json_path, rows, {"rounds": rounds, "seconds": seconds, "keys": keys})
    sys.exit(0 if all(row.reached for row in rows) else 1)


if __name__ == "__main__":
    main()
