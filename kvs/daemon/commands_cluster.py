"""kvs cluster."""

import json
import re
from collections.abc import Mapping
from typing import Any

import click

from kvs.daemon.failure import NOT_FOUND, OK, Failed
from kvs.daemon.session import Session, Way, asking, in_open_session, time_text

_ROOT_CHARS = 16


@click.group()
def cluster() -> None:
    """See how the cluster is, and remove nodes that will not come back."""


@cluster.command("status")
@in_open_session
def cluster_status(session: Session) -> int:
    """Show the members, and how far each is behind, as one node sees them."""
    from kvs.client import NotFoundError

    try:
        view = session.client.cluster_status()
    except NotFoundError:
        raise Failed("this node is alone: its clustering_enabled is false", NOT_FOUND) from None
    if session.as_json:
        click.echo(json.dumps(view))
    else:
        click.echo(_text(view))
    return OK


@cluster.command("remove")
@click.argument("node_id")
@click.option("--local", metavar="CONFIG", required=True, help="Ask the node of CONFIG on this host, as its peer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cluster_remove(node_id: str, local: str, as_json: bool) -> int:
    """Forget a node that is down and will not come back: no deletion waits for it any more."""
    from kvs.daemon.local import local_peer

    way = Way(*local_peer(local))
    with asking(way) as client:
        client.call("DELETE", "/members/leave", {"id": node_id, "remove": True})
        return Session(client, way, as_json=as_json).done({"removed": node_id})


def _text(view: Mapping[str, Any]) -> str:
    from kvs.daemon.table import table

    now_ms = next(member["last_seen"] for member in view["members"] if member["id"] == view["node_id"])
    heads = ("NODE", "ADDRESS", "STATUS", "SEEN", "ROOT", "LAST EQUAL", "WAITING", "CLOCK", "LAST COMPARISON")
    rows = [_cells(member, now_ms, is_this=member["id"] == view["node_id"]) for member in view["members"]]
    mode = view["mode"] if view["phase"] == "settled" else f"{view['mode']} ({view['phase']})"
    about = (
        ("node", view["node_id"]),
        ("mode", mode + (", isolated: no other node is up" if view["isolated"] else "")),
        ("root", f"{view['root'][:_ROOT_CHARS]}…, {view['records']} records"),
        ("proven", _moment(view["proven"])),
        ("gc_floor", _moment(view["gc_floor"])),
        ("clock", _offset(view["clock_offset_ms"])),
        *_scrub(view["scrub"]),
        *((("clone", f"{view['clone']['detail']}, {_ago(view['clone']['at'], now_ms)}"),) if view["clone"] else ()),
    )
    return "\n".join([*(f"{name + ':':10}{value}" for name, value in about), "", table(heads, rows)])


def _scrub(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nothing where nothing was wrong."""
    if not found["drifted"] and not found["corrupt"]:
        return []
    return [
        ("scrub", f"{found['drifted']} fingerprints were wrong and were mended, {found['corrupt']} records corrupt")
    ]


def _cells(member: Mapping[str, Any], now_ms: int, *, is_this: bool) -> tuple[str, ...]:
    if is_this:
        return member["id"], member["address"], member["status"], "this node", "", "", "", "", ""
    equal = member["root_equal"]
    return (
        member["id"],
        member["address"],
        member["status"],
        _ago(member["last_seen"], now_ms),
        "-" if equal is None else "equal" if equal else "differs",
        _ago(member["last_equal"], now_ms),
        str(member["waiting"]),
        _offset(member["clock_offset_ms"]),
        _comparison(member["last_comparison"], now_ms),
    )


def _comparison(last: Mapping[str, Any] | None, now_ms: int) -> str:
    if last is None:
        return "-"
    if last["failure"]:
        return f"{_ago(last['at'], now_ms)}: failed"
    aside = f", set aside {last['set_aside']}" if last["set_aside"] else ""
    rest = ", goes on" if last["behind"] else ""
    return f"{_ago(last['at'], now_ms)}: fetched {last['fetched']}, sent {last['sent']}{aside}{rest}"


def _ago(unix_ms: int | None, now_ms: int) -> str:
    """How long before the node's own time, in its two largest units."""
    from kvs.durations import format_duration
    from kvs.types import Millis

    if not unix_ms:
        return "-"
    seconds = max(0, now_ms - unix_ms) // 1000
    parts = re.findall(r"\d+[a-z]+", format_duration(Millis(seconds * 1000)))
    return f"{''.join(parts[:2]) or '0s'} ago"


def _offset(offset_ms: int | None) -> str:
    """By how much the others' clock is ahead."""
    return "-" if offset_ms is None else f"{offset_ms:+}ms"


def _moment(unix_ms: int) -> str:
    return time_text(unix_ms) if unix_ms > 0 else "-"
