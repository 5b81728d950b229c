"""`python -m benchmarks`: start everything on 127.0.0.1, measure, print a table, write JSON."""

import sys
from pathlib import Path

import click

from benchmarks import anti_entropy, cluster, filling, load, million, moving, report, requests, simulated, watching

STARTS = 3
FILLINGS = MOVES = 2
PROBES = 300


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=15, show_default=True, help="Rounds of GET and PUT.")
@click.option("--seconds", type=click.IntRange(1, 600), default=1, show_default=True, help="Length of each.")
@click.option(
    "--mixed-seconds", type=click.IntRange(0, 3600), default=60, show_default=True, help="0: skip the cluster."
)
@click.option("--keys", type=click.IntRange(0, 100_000_000), default=1_000_000, show_default=True, help="0: skip them.")
@click.option(
    "--nodes",
    type=click.IntRange(2, 1_000),
    multiple=True,
    default=(10, 100),
    show_default=True,
    help="Sizes of simulated clusters; 1,000 take hours.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file, too.")
def main(
    rounds: int, seconds: int, mixed_seconds: int, keys: int, nodes: tuple[int, ...], json_path: Path | None
) -> None:
    """Compare KVS with bare handlers and other databases, and see what a cluster and many keys cost.

    Other databases are compared with where they are installed: `make peers` says how.
    """
    if 0 < keys < 10_000:
        raise click.BadParameter("at least 10,000, or 0", param_hint="--keys")
    findings = report.Findings()
    if load.available():
        requests.measure(rounds, seconds, findings)
        findings.rows += watching.measure(rounds, seconds)
    else:
        report.say(f"GET and PUT are skipped: {load.INSTALL_HINT}")
        findings.peers["wrk"] = f"GET and PUT were skipped: {load.INSTALL_HINT}"
    if mixed_seconds:
        cluster.measure(PROBES, mixed_seconds, findings)
    if keys:
        million.measure(keys, STARTS, findings)
        findings.rows += filling.measure(keys, FILLINGS)
        findings.rows += moving.measure(keys, MOVES)
        anti_entropy.measure(keys, findings)
    findings.rows += simulated.measure(nodes)
    settings = {"rounds": rounds, "seconds": seconds, "mixed_seconds": mixed_seconds, "keys": keys}
    found = report.document(findings, settings)
    if json_path is not None:
        report.write_json(json_path, found)
    click.echo(report.markdown(found))
    sys.exit(0 if all(row.reached for row in findings.rows) else 1)


if __name__ == "__main__":
    main()
