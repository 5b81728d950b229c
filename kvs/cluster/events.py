"""What the core is asked (commands), what it answers (outcomes), and what is to be done after a commit (effects)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from kvs.errors import KvsError
from kvs.storage.record import JSON, Record

ANY = frozenset(("*",))


class Condition(NamedTuple):
    """Preconditions of a write, decided against the current record in the same turn that plans the write.

    Entity tags are uuids in their usual form; `ANY` stands for whatever there is; None asks nothing.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None


UNCONDITIONAL = Condition()


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Store a value. `uuid` is the new version's; `ttl_ms` 0 is for ever."""

    entry: bytes
    uuid: bytes
    codec: int
    payload: bytes
    content_type: str = JSON
    owner: str = ""
    ttl_ms: int = 0
    condition: Condition = UNCONDITIONAL


class Delete(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Replace the value by a tombstone. NotFound when there is none."""

    entry: bytes
    uuid: bytes
    owner: str = ""
    condition: Condition = UNCONDITIONAL


class Restore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Write revision number `revision` (1 is the current record) as a new version."""

    entry: bytes
    uuid: bytes
    revision: int
    owner: str = ""
    condition: Condition = UNCONDITIONAL


class Update(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Derive a system record from what is there: `change` takes the current value (JSON bytes or None) and the time in
    Unix ms, and returns the new one. It must be pure: a plan may be thrown away."""

    entry: bytes
    uuid: bytes
    change: Callable[[bytes | None, int], bytes]


class Sweep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Follow these rows of the expiry or tombstone index: remove records that may go, and rows that lead nowhere."""

    rows: tuple[bytes, ...]


class Trim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Drop the revisions of an entry that are more than the settings keep."""

    entry: bytes


Command = Put | Delete | Restore | Update | Sweep | Trim


class Written(NamedTuple):
    """A new version is the current record. `created`: a reader saw nothing there before."""

    record: Record
    created: bool


class Swept(NamedTuple):
    """How many entries were removed, or revisions dropped."""

    entries: int


Outcome = Written | Swept | KvsError


class Plan(NamedTuple):
    """What a command does: entries to write, the answer, and events worth a line in the log."""

    batch: dict[bytes, bytes | None]
    outcome: Outcome
    reports: tuple["Report", ...] = ()


class Report(NamedTuple):
    """Effect: something the operator should read."""

    event: str
    fields: dict[str, Any]


class Reply(NamedTuple):
    """Effect: answer the submission with this ticket. Only after the commit: nobody hears of a write that is not on
    the disk, nor of a refusal that rests on one."""

    ticket: int
    outcomes: list[Outcome]


Effect = Reply | Report


class Submission(NamedTuple):
    """Commands that belong into one batch, in this order."""

    ticket: int
    commands: tuple[Command, ...]
    size_bytes: int


class Group(NamedTuple):
    """Planned submissions that are committed together."""

    batch: dict[bytes, bytes | None]
    effects: list[Effect]
