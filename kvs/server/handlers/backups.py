"""`/api/backup`: making backups, what there is of them, and taking in what one holds.

No path ever comes from a client: backups are made in one folder, and what is to be taken in comes as the body.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from kvs.auth.scopes import ALL
from kvs.cluster.events import Merge, Merged, Outcome
from kvs.cluster.ingest import merge_of
from kvs.errors import BackupFailed, BadMessage, Forbidden
from kvs.limits import (
    BACKUP_MERGE_STEP,
    BACKUP_ROWS_MAX,
    BACKUP_ROWS_MAX_BYTES,
    BACKUP_WAIT_MAX_MS,
    BACKUP_WAIT_MS,
    MOMENT_MAX_MS,
    OFFLOAD_MIN_BYTES,
    TIMESTAMP_MAX,
)
from kvs.server import parse
from kvs.server.backups import Backups
from kvs.server.body import read_body
from kvs.server.handlers.accounts import json_response
from kvs.server.handlers.context import Context
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.storage.backup import decode_rows
from kvs.storage.backup_files import Made, name_of, resource_of
from kvs.storage.codec import is_whole, record_bytes
from kvs.storage.keyspace import SYSTEM, path_of

log = structlog.get_logger()

_STATUS = "/api/backup/status"
_WORDS = {"wins": "taken", "known": "known", "loses": "older", "forgotten": "forgotten"}


class BackupRoutes:
    def __init__(self, context: Context, backups: Backups, next_ms: Callable[[], int | None]) -> None:
        """`next_ms` is when the schedule makes the next one, in Unix ms; None for never."""
        self._context = context
        self._backups = backups
        self._next_ms = next_ms

    async def create(self, call: Call) -> Response:
        query = parse.query(call.request)
        timeout_ms = parse.duration_ms(query, "timeout", default=BACKUP_WAIT_MS, most=BACKUP_WAIT_MAX_MS)
        task = self._backups.begin(call.principal.actor)
        done, _ = await asyncio.wait((task,), timeout=timeout_ms / 1000)
        if not done:
            return json_response(202, {"state": "running"}, location=_STATUS)
        outcome = task.result()
        if isinstance(outcome, BackupFailed):
            raise outcome
        return json_response(201, {"state": "done", **_made(outcome)}, location=_STATUS)

    async def list(self, _: Call) -> Response:
        return json_response(200, {"backups": [one.document() for one in await self._backups.list()]})

    async def status(self, _: Call) -> Response:
        noted, rows, succeeded, failed = self._backups.status
        return json_response(
            200,
            {
                "last_backup_time": noted.time,
                "last_backup_success": noted.success,
                "last_backup_path": noted.path,
                "last_backup_error": noted.error,
                "next_backup_time": self._next_ms(),
                "backups_running": 0 if rows is None else 1,
                "rows_written": rows,
                "succeeded": succeeded,
                "failed": failed,
            },
        )

    async def restore(self, call: Call) -> Response:
        """Merges some rows of a backup, as they stand in it."""
        context = self._context
        context.check_writable()
        query = parse.query(call.request)
        as_of_ms = parse.integer(query, "as_of", default=0, least=0, most=TIMESTAMP_MAX)
        created_at = parse.integer(query, "created_at", default=-1, least=0, most=MOMENT_MAX_MS)
        guard_ms = None if parse.boolean(query, "forgotten") else as_of_ms
        body = await read_body(call, BACKUP_ROWS_MAX_BYTES)
        if len(body) < OFFLOAD_MIN_BYTES:
            commands, refused = _merges(body, guard_ms)
        else:
            commands, refused = await asyncio.to_thread(_merges, body, guard_ms)
        if not call.principal.scopes.issuperset(ALL) and any(c.entry.startswith(SYSTEM) for c in commands):
            # A user, a token or permissions can give whatever there is to have.
            raise Forbidden("accounts, tokens and metadata are taken from who has every scope", code="scope_exceeded")
        counts = Counter(refused=refused)
        for start in range(0, len(commands), BACKUP_MERGE_STEP):
            step = commands[start : start + BACKUP_MERGE_STEP]
            counts.update(map(_word, await self._take(step, call.principal.actor, created_at)))
        return json_response(200, {word: counts[word] for word in (*_WORDS.values(), "refused")})

    async def _take(self, commands: Sequence[Merge], actor: str, created_at: int) -> Sequence[Outcome]:
        """Carry out a step of a merge. `created_at` is when the backup was made, Unix ms, as the client says; -1 if it
        does not."""
        context = self._context
        if context.auditor is None:
            return await context.runner.submit(commands)
        resource = resource_of("" if created_at < 0 else name_of(created_at))
        return await context.auditor.merge(commands, actor, resource)


def _word(outcome: Outcome) -> str:
    return _WORDS[outcome.verdict.kind] if isinstance(outcome, Merged) else "refused"


def _merges(body: bytes, as_of_ms: int | None) -> tuple[list[Merge], int]:
    """The commands for rows of a backup, and how many cannot be taken. Raises BadMessage for what are no such rows."""
    try:
        rows = decode_rows(body)
    except (msgspec.DecodeError, RecursionError):
        raise BadMessage("the body holds no rows of a backup") from None
    if len(rows) > BACKUP_ROWS_MAX:
        raise BadMessage(f"there are more than {BACKUP_ROWS_MAX} rows")
    if not all(is_whole(key, value) for key, value in rows):
        raise BadMessage("a row is damaged")
    commands, refused = [], 0
    for key, value in rows:
        try:
            commands.append(merge_of(key, record_bytes(value), "", as_of_ms=as_of_ms))
        except BadMessage as error:
            refused += 1
            log.warning("A record of a backup cannot be taken", key=path_of(key), error=error.detail)
    return commands, refused


def _made(made: Made) -> Mapping[str, object]:
    return {"name": made.path.name, "size_bytes": made.size_bytes, **made.counts._asdict()}
