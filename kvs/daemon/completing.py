"""Completion of keys while a command is typed: the node is asked, and given little time."""

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

_TIMEOUT_S = 1.0
_SHOWN_MAX = 200


def complete_key(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For arguments that are keys, or prefixes of keys: one level of the hierarchy below what is typed. Nothing when
    the node does not answer at once: who types must not wait, nor read of errors."""
    try:
        return _found(ctx.params, incomplete)
    except Exception:
        return []


def _found(params: dict[str, Any], incomplete: str) -> list[CompletionItem]:
    from itertools import islice

    from kvs.daemon.session import asking, way_of

    ca_file: Path | None = params.get("ca_file")
    way = way_of(params.get("url"), params.get("token") or "", ca_file, params.get("context"))
    with asking(way, timeout_s=_TIMEOUT_S, retry_s=0) as client:
        query = {"prefix": incomplete, "limit": str(_SHOWN_MAX)}
        entries = islice(client.pages("/kv/_list", "entries", query), _SHOWN_MAX)
        return [CompletionItem(entry["path"]) for entry in entries]
