"""kvs audit."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kvs.daemon.failure import FAILED, NOT_FOUND, OK, Failed
from kvs.daemon.session import Session, in_open_session, in_remote_session

if TYPE_CHECKING:
    from kvs.cluster.audit_check import Report, Row
    from kvs.daemon.audit_sources import Ask, Source

_PAGE_MAX = 1000
_COUNTED = 10_000


@click.group()
def audit() -> None:
    """Read the audit log of a node, and find out whether anybody changed it."""


@audit.command("show")
@click.option("-n", "--lines", metavar="N", default=100, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--action", help="Only entries of this action.")
@click.option("--user", metavar="UUID", help='Only what this user did; also "local", "node" or "".')
@click.option("--since", metavar="TIME", help="Only from this time on (RFC 3339).")
@click.option("--until", metavar="TIME", help="Only before this time.")
@click.option("--resource", metavar="PREFIX", help="Only what begins with this text.")
@in_open_session
def audit_show(
    session: Session,
    lines: int,
    action: str | None,
    user: str | None,
    since: str | None,
    until: str | None,
    resource: str | None,
) -> int:
    """Show the last entries, the newest at the end."""
    given = {"action": action, "user_uuid": user, "since": since, "until": until, "resource": resource}
    query = {name: value for name, value in given.items() if value is not None}
    found = session.client.pages("/api/audit", "entries", {"limit": str(min(lines, _PAGE_MAX)), **query})
    entries = list(islice(found, lines))[::-1]
    return session.print_rows(entries, ("NUMBER", "TIME", "ACTION", "USER", "RESOURCE"), _cells)


def _cells(entry: Mapping[str, Any]) -> Sequence[str]:
    if "damaged" in entry:
        return str(entry["number"]), "-", "damaged", "-", "-"
    return str(entry["number"]), entry["timestamp"], entry["action"], entry["user_uuid"] or "-", entry["resource"]


@audit.command("verify")
@click.argument("config", required=False)
@click.option(
    "--head",
    "head_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare with what FILE knows of the log, if it is there, and keep in it what was found sound.",
)
@click.option("--lost", metavar="LOG", multiple=True, help="A former log of this node that is known to be lost.")
@in_remote_session
def audit_verify(session: Session, config: str | None, head_file: Path | None, lost: tuple[str, ...]) -> int:
    """Find every entry that was changed, taken out, put in, moved or cut off; code 1 if there is any.

    With CONFIG it is the log of that node on this host, running or not; else that of the node at the URL. The other
    nodes of the cluster are asked what they know of the log.
    """
    from kvs.daemon import audit_sources
    from kvs.daemon.local import local_credential, local_node
    from kvs.daemon.session import Way, asking, authorization_field

    options = _Options(head_file, lost, as_json=session.as_json)
    if config is None:
        source = audit_sources.of_node(session.client, None)
        return _verify(source, audit_sources.ask_with(session.way, source.node_id), options)
    loaded, is_running = local_node(config)
    ask = audit_sources.ask_as_peer(loaded)
    if is_running:
        url, authorization, trust = local_credential(config, may_be_open=True)
        with asking(Way(url, authorization_field(authorization), trust)) as client:
            return _verify(audit_sources.of_node(client, loaded), ask, options)
    with audit_sources.of_directory(loaded) as source:
        return _verify(source, ask, options)


class _Options(NamedTuple):
    head_file: Path | None
    lost: tuple[str, ...]
    as_json: bool


def _verify(source: "Source", ask: "Ask", options: _Options) -> int:
    from kvs.cluster.audit_check import check
    from kvs.daemon import audit_file, audit_sources

    if source.log in options.lost:
        raise click.UsageError(f"{source.log} is the log that is there; --lost is for former ones")
    kept = [] if options.head_file is None else audit_file.read(options.head_file)
    anchors, asked, failures = audit_sources.ask_all(source.peers, ask)
    anchors = [anchor for anchor in [*kept, *anchors] if anchor.log not in options.lost]
    report = source.with_damage(check(source.log, _shown(source), source.heads, source.tips, anchors, source.keys))
    known_by = [*(anchor.source for anchor in kept), *asked]
    for failure in failures:
        click.echo(f"kvs: {failure}", err=True)
    is_empty = not (report.entries or report.heads or report.found)
    if is_empty and source.config is not None and not source.config.tamper_logging_enabled:
        raise Failed(f"the node of {source.config.path} keeps no audit log: {_OFF}", NOT_FOUND)
    if options.as_json:
        click.echo(json.dumps(_document(source, report, known_by)))
    else:
        click.echo("\n".join(_lines(report)))
        compared = f"what it was is known by {', '.join(known_by)}" if known_by else _ALONE
        click.echo(compared, err=True)
    if report.found:
        return FAILED
    if options.head_file is not None:
        audit_file.write(options.head_file, source.node_id, source.log, report, source.newest_head)
    return OK


_OFF = "tamper_logging_enabled is false, and there are no entries"
_ALONE = "nobody else knows what it was: that it was made anew, or cut, together with its tip would not be found"


def _shown(source: "Source") -> "Iterable[Row]":
    """The entries, with a count of them on a terminal."""
    return counted(source.entries, "entries") if sys.stderr.isatty() else source.entries


def _lines(report: "Report") -> list[str]:
    more = report.found - len(report.findings)
    entries = f"{report.entries:,} {'entry' if report.entries == 1 else 'entries'}"
    heads = f"{report.heads:,} {'head' if report.heads == 1 else 'heads'}"
    signed = f"{heads} up to entry {report.signed:,}" if report.heads else "no head yet"
    return [
        *map(str, report.findings),
        *([f"and {more:,} more"] if more else []),
        f"{'tampered' if report.found else 'sound'}: {entries}, {signed}",
    ]


def _document(source: "Source", report: "Report", known_by: Sequence[str]) -> dict[str, Any]:
    return {
        "sound": not report.found,
        "node_id": source.node_id,
        "log": source.log,
        "entries": report.entries,
        "heads": report.heads,
        "signed": report.signed,
        "last": report.last,
        "chain": report.chain,
        "known_by": known_by,
        "found": report.found,
        "findings": [finding._asdict() for finding in report.findings],
    }


def counted(rows: "Iterable[Row]", what: str) -> "Iterator[Row]":
    """The rows, and on standard error how many there were."""
    number = 0
    for number, row in enumerate(rows, 1):
        if number % _COUNTED == 0:
            click.echo(f"\r{number:,} {what}", nl=False, err=True)
        yield row
    click.echo(f"\r{' ' * len(f'{number:,} {what}')}\r", nl=False, err=True)
