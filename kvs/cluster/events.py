"""What the core is asked (commands), what it answers (outcomes), and what is to be done after a commit (effects)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from kvs.cluster.merging import Verdict
from kvs.cluster.merkle import TreeEdit
from kvs.cluster.tally import Tally
from kvs.errors import KvsError, PreconditionFailed
from kvs.storage.audit import Tip
from kvs.storage.record import JSON, Record

ANY = frozenset(("*",))


class Condition(NamedTuple):
    """Preconditions of a write, decided against the current record in the same turn that plans the write.

    Entity tags are uuids in their usual form; `ANY` stands for whatever there is; None asks nothing.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def check(self, tag: str | None) -> None:
        """Raises PreconditionFailed. `tag` is that of what a reader sees now, None when there is nothing."""
        match, none_match = self
        if match is not None and (tag is None or (match != ANY and tag not in match)):
            raise PreconditionFailed("the current version is not the one that If-Match names")
        if none_match is not None and tag is not None and (none_match == ANY or tag in none_match):
            raise PreconditionFailed("there is a value that If-None-Match rules out")


UNCONDITIONAL = Condition()


Guard = Callable[[Record | None, bytes | None], None]
"""Whether the writer may: asked within the plan with the live record of the key and its metadata document, so that the
answer holds for the very record that is replaced. Raises the KvsError that refuses. None lets everybody."""


class Act(NamedTuple):
    """Something for the audit log: `action` is one of `kvs.actions.ACTIONS`, `user` a uuid or a word of
    `kvs.auth.principal`, `resource` what it was done to. None of them holds a control character."""

    action: str
    user: str
    resource: str


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Store a value. `uuid` is the new version's; `ttl_ms` 0 is for ever; `digest` is the `value_digest` of the value,
    empty when the plan shall make it. `owner` is whoever writes. What a write of a user's key is in the audit log needs
    no saying; `acts` are what one of KVS's own is."""

    entry: bytes
    uuid: bytes
    codec: int
    payload: bytes
    digest: bytes = b""
    content_type: str = JSON
    owner: str = ""
    ttl_ms: int = 0
    condition: Condition = UNCONDITIONAL
    guard: Guard | None = None
    acts: tuple[Act, ...] = ()


class Delete(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Replace the value by a tombstone. NotFound when there is none."""

    entry: bytes
    uuid: bytes
    owner: str = ""
    condition: Condition = UNCONDITIONAL
    guard: Guard | None = None


class Restore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Write revision number `revision` (1 is the current record) as a new version. A revision for which `readable`
    is false (given its record and the metadata document) counts as not kept. `delete_guard` is asked too if it is a
    tombstone."""

    entry: bytes
    uuid: bytes
    revision: int
    owner: str = ""
    condition: Condition = UNCONDITIONAL
    guard: Guard | None = None
    delete_guard: Guard | None = None
    readable: Callable[[Record, bytes | None], bool] | None = None


Look = Callable[[bytes], Record | None]
"""The live record under an entry key. Raises StoreCorrupt, which may be caught: it is reported all the same."""


class Transact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Change several of KVS's own records in one step, by what is there.

    `decide` gets a way to look at records and the time in Unix ms; it returns the new JSON values by entry key, None to
    delete, or raises the KvsError that refuses. It must be pure: a plan may be thrown away. `check` raises StoreCorrupt
    for a document (its entry key, its bytes) that is not what its name says: it counts as corrupt. `acts` are what it
    is in the audit log.
    """

    uuid: bytes
    decide: Callable[[Look, int], Mapping[bytes, bytes | None]]
    check: Callable[[bytes, bytes], None] = lambda entry, document: None
    acts: tuple[Act, ...] = ()


class Sweep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Follow these rows of the expiry or tombstone index: remove records that may go, and rows that lead nowhere. Of
    rows of superseded versions, remove those that are not needed any more."""

    rows: tuple[bytes, ...]


class Lapse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Give the ends of the expired records that these rows of the expiry index lead to a number in the change log."""

    rows: tuple[bytes, ...]


class Trim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Drop the revisions of an entry that are more than the settings keep."""

    entry: bytes


class Merge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Take in a record that the peer `source` sent, as far as it wins. `raw` is its `encode_record`, `digest` the
    `value_digest` of its value.

    A record from a backup has an empty `source`, and with `as_of_ms` (Unix ms) comes the moment up to which the backup
    knows of every deletion. If nothing is held under its key, and both moments are so long ago that tombstones from
    since then may have been forgotten, it may be a key that was deleted: the verdict is then `forgotten`. So it is with
    one that is known to have been replaced and deleted.
    """

    entry: bytes
    record: Record
    raw: bytes
    digest: bytes
    source: str
    as_of_ms: int | None = None


class Discard(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Take records off the disk and leave no tombstone: they are not to be known here, nor to be deleted elsewhere.
    Those that are from `before_ms` (Unix ms) or later stay: they came since this was decided."""

    entries: tuple[bytes, ...]
    before_ms: int


class Scrub(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Compare the Merkle tree with the records from the entry key `start` on, as many as one step takes, and mend it.
    Only in a cluster."""

    start: bytes


class Remember(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Write rows of the node's own state; None removes one."""

    rows: Mapping[bytes, bytes | None]


class Note(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Write down in the audit log what changes no record."""

    acts: tuple[Act, ...]


Command = Put | Delete | Restore | Transact | Sweep | Lapse | Trim | Merge | Discard | Scrub | Remember | Note


class Written(msgspec.Struct, frozen=True, gc=False):
    """A new version is the current record. `created`: a reader saw nothing there before."""

    record: Record
    created: bool


class Transacted(NamedTuple):
    """What a Transact wrote."""

    values: Mapping[bytes, bytes | None]


class Merged(NamedTuple):
    """Whether a record from a peer is the current one now, or was before."""

    verdict: Verdict


class Remembered(NamedTuple):
    """The state, or the note, is on the disk."""


class Swept(NamedTuple):
    """How many entries were removed, revisions dropped, or ends noted."""

    entries: int


class Scrubbed(NamedTuple):
    """Where the next step goes on (empty: that was the end), how many records were looked at, how many items and runs
    of the tree were wrong, how many records are corrupt."""

    end: bytes
    records: int
    drifted: int
    corrupt: int


Outcome = Written | Transacted | Merged | Remembered | Swept | Scrubbed | KvsError


class Change(msgspec.Struct, frozen=True, gc=False):
    """A new current record. `seq` is its number in the change log; `source` is the id that whoever brought it gave
    itself, empty for a write of this node's clients."""

    entry: bytes
    record: Record
    seq: int
    source: str = ""


class Ended(NamedTuple):
    """A user's key reads as absent without a new record: the old one expired, or was taken off the disk."""

    entry: bytes
    record: Record
    seq: int
    expired: bool


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What a command does: entries to write, the answer, events worth a line in the log, new current records, and
    those that ended."""

    batch: dict[bytes, bytes | None]
    outcome: Outcome
    reports: tuple["Report", ...] = ()
    changes: tuple[Change, ...] = ()
    ended: tuple[Ended, ...] = ()


class Report(NamedTuple):
    """Effect: something the operator should read."""

    event: str
    fields: dict[str, Any]
    level: Literal["info", "warning", "error"] = "warning"


class Changed(NamedTuple):
    """Effect: these of KVS's own records are not what they were. Comes before the replies: who was told that a token
    is revoked can rely on it."""

    entries: tuple[bytes, ...]


class Committed(NamedTuple):
    """Effect: these records are on the disk, and these ends noted, each in the order of the change log."""

    changes: list[Change]
    ended: list[Ended]


class Reply(msgspec.Struct, frozen=True):
    """Effect: answer the submission with this ticket. Only after the commit: nobody hears of a write that is not on
    the disk, nor of a refusal that rests on one."""

    ticket: int
    outcomes: list[Outcome]


Effect = Changed | Committed | Reply | Report


class Submission(msgspec.Struct, frozen=True, gc=False):
    """Commands that belong into one batch, in this order."""

    ticket: int
    commands: tuple[Command, ...]
    size_bytes: int


Line = tuple[bytes, bytes, bytes]
"""Action, user and resource of an entry of the audit log to be."""


class Group(NamedTuple):
    """Planned submissions that are committed together. `edit` is what they do to the Merkle tree, `tally` what they
    write, in numbers, `lines` what they add to the audit log, `tip` the end of the log behind them (None: it does not
    grow)."""

    batch: dict[bytes, bytes | None]
    effects: list[Effect]
    edit: TreeEdit | None
    tally: Tally
    lines: Sequence[Line] = ()
    tip: Tip | None = None
