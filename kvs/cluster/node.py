"""What a node decides, without doing any of it.

    group = node.plan_group(submissions, reader, now_ms)   decide winners, build one batch
    store.commit(group.batch)                              the caller's part
    effects = node.committed(group)                        what follows, now that it is on the disk

Writes of clients and records of peers go the same way; they differ in who stamps the version.

Nothing here waits, reads a clock or touches a disk: the time and the reader are arguments, the results are values. If
the commit fails, the group is thrown away and `resume` takes up what the disk really holds. Versions and sequence
numbers that were given out in vain are simply skipped.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kvs.cluster.attempt import Failed, attempt
from kvs.cluster.clock import Clock
from kvs.cluster.conflicts import lose, resolved
from kvs.cluster.events import (
    UNCONDITIONAL,
    Change,
    Changed,
    Command,
    Committed,
    Condition,
    Delete,
    Discard,
    Effect,
    Group,
    Lapse,
    Line,
    Merge,
    Merged,
    Note,
    Plan,
    Put,
    Remember,
    Remembered,
    Reply,
    Report,
    Restore,
    Scrub,
    Scrubbed,
    Submission,
    Sweep,
    Transact,
    Transacted,
    Trim,
    Written,
)
from kvs.cluster.merging import UNOPPOSED, Verdict, is_end_of, judge
from kvs.cluster.merkle import Tree
from kvs.cluster.rows import Rows
from kvs.cluster.scrubbing import scrub
from kvs.cluster.superseded import Superseded
from kvs.cluster.tally import Tally
from kvs.cluster.trail import Trail
from kvs.cluster.upkeep import discard, entomb, lapse, sweep, trim
from kvs.errors import CorruptRecord, KvsError, NotFound, StoreCorrupt, let_go
from kvs.storage.batch import Overlay
from kvs.storage.current import NOTHING, Current, history, metadata_document, read_current
from kvs.storage.keyspace import SYSTEM, path_of
from kvs.storage.record import Record, derived_uuid, uuid_text
from kvs.storage.retention import expiry_limit, may_go, must_stay_as_tombstone, tombstone_limit
from kvs.storage.state import PROGRESS_ROW, Progress, encode_progress
from kvs.storage.store import Reader

_SYSTEM = SYSTEM[0]
_FORGOTTEN = Merged(Verdict("forgotten"))
_TAKEN = Merged(UNOPPOSED)


class NodeSettings(NamedTuple):
    """`versions_max` counts the current record; 1 keeps no history."""

    node_id: str
    joined_timestamp: int
    versions_max: int
    tombstone_retention_ms: int
    clock_drift_max_ms: int


class Node:
    """The state that decides: the clock, the sequence, the Merkle tree (in a cluster) and the end of the audit log. All
    else is read through the reader that is handed in."""

    def __init__(
        self,
        settings: NodeSettings,
        progress: Progress,
        tree: Tree | None = None,
        trail: Trail | None = None,
        *,
        has_metadata: bool = True,
        check_document: Callable[[bytes, bytes | None], None] = lambda name, document: None,
    ) -> None:
        """`check_document` raises BadMessage for one of KVS's own records (its name, and its document or None for a
        tombstone) that is not to be taken from another node."""
        self._settings = settings
        self._check_document = check_document
        self._clock = Clock(progress.timestamp, progress.counter, settings.clock_drift_max_ms)
        self._rows = Rows(progress.seq, tree, settings.versions_max, has_metadata=has_metadata)
        self.tally = Tally(progress.records, progress.tombstones)
        """What is on the disk."""
        self.trail = trail
        """The audit log; None where none is kept."""
        self.floor_ms: int | None = None
        """Up to here (Unix ms) all nodes are proven to be in sync; None for a lone node, which is its own proof."""
        self.apart: Mapping[str, int] = {}
        """Peers that do not know of all that was deleted and forgotten here: they were equal to this node up to then
        (Unix ms), and not since."""
        self.superseded = Superseded()

    def resume(self, progress: Progress, tree: Tree | None = None) -> None:
        """Go on above what the disk holds after a failed commit, and above what was given out before."""
        self._clock.last = max(self._clock.last, (progress.timestamp, progress.counter))
        self._rows.seq = max(self._rows.seq, progress.seq)
        self._rows.tree = tree
        self.tally.records, self.tally.tombstones = progress.records, progress.tombstones

    @property
    def tree(self) -> Tree | None:
        """The Merkle tree of what is on the disk; None outside a cluster."""
        return self._rows.tree

    @property
    def has_metadata(self) -> bool:
        """Whether any key may have metadata. While none has, nobody needs to look for them: that costs each read and
        each write of a user 3 %."""
        return self._rows.has_metadata

    def now_ms(self, wall_ms: int) -> int:
        """The time by the hybrid clock: not before any version that was made or seen here."""
        return max(wall_ms, self._clock.last[0])

    def plan_group(self, submissions: Sequence[Submission], reader: Reader, now_ms: int) -> Group:
        """Plan the submissions in order; each sees what those before it will have written. A command that meets a row
        that cannot be read, or a bug, fails alone."""
        try:
            return self._plan_all(submissions, reader, now_ms, self.plan)
        except Exception:  # what the command had done until then is in the group: once more, ready to take it back
            return self._plan_all(submissions, reader, now_ms, self._attempt)

    def _plan_all(
        self, submissions: Sequence[Submission], reader: Reader, now_ms: int, plan_one: Callable[..., Plan]
    ) -> Group:
        view = Overlay(reader)
        self._rows.begin()
        effects: list[Effect] = []
        done = Committed([], [])
        lines: list[Line] = []
        for submission in submissions:
            reply = Reply(submission.ticket, [])
            for command in submission.commands:
                try:
                    plan = plan_one(command, view, now_ms)
                except KvsError as error:
                    let_go(error)  # it leads to this frame, which leads to the error and to all of the group
                    reply.outcomes.append(error)
                except Failed as failed:
                    reply.outcomes.append(failed.outcome)
                    effects.append(failed.report)
                else:
                    view.write(plan.batch)
                    reply.outcomes.append(plan.outcome)
                    effects.extend(plan.reports)
                    done.changes.extend(plan.changes)
                    done.ended.extend(plan.ended)
                    if self.trail is not None:
                        self.trail.note(command, plan.outcome, lines)
            effects.append(reply)
        changed = tuple([entry for entry in view.batch if entry[0] == _SYSTEM])
        if changed:
            effects.insert(0, Changed(changed))
        edit = self._rows.edit
        if edit is not None:
            view.write(edit.rows())
        if edit is not None or done.changes or done.ended:
            effects.append(done)
        tip = self.trail.extend(lines, now_ms, view.batch) if self.trail is not None and lines else None
        if view.batch:
            view.batch[PROGRESS_ROW] = encode_progress(self._progress())
        return Group(view.batch, effects, edit, self._rows.tally, lines, tip)

    def _progress(self) -> Progress:
        """How far the node will have come. No mistake in counting may keep a write out, so no number is below 0."""
        records = self.tally.records + self._rows.tally.records
        tombstones = self.tally.tombstones + self._rows.tally.tombstones
        return Progress(*self._clock.last, self._rows.seq, max(0, records), max(0, tombstones))

    def committed(self, group: Group) -> list[Effect]:
        """What follows from a group that is on the disk."""
        if self.tree is not None and group.edit is not None:
            self.tree.apply(group.edit)
        self.tally.add(group.tally)
        if self.trail is not None and group.tip is not None:
            self.trail.committed(group.lines, group.tip)
        return group.effects

    def _attempt(self, command: Command, view: Reader, now_ms: int) -> Plan:
        return attempt(self._rows, lambda: self.plan(command, view, now_ms))

    def plan(self, command: Command, view: Reader, now_ms: int) -> Plan:
        """Decide one command. Raises KvsError when it is refused; then nothing was done. With any other exception it
        may be half done."""
        match command:
            case Put():
                return self._put(command, view, now_ms)
            case Merge():
                return self._merge(command, view, now_ms)
            case Delete():
                return self._delete(command, view, now_ms)
            case Restore():
                return self._restore(command, view, now_ms)
            case Trim():
                return trim(self._rows, command, view)
            case Lapse():
                return lapse(self._rows, command, view, now_ms)
            case Transact():
                return self._transact(command, view, now_ms)
            case Sweep():
                return sweep(self._rows, self.superseded, command, view, now_ms, self.tombstone_limit(now_ms))
            case Discard():
                return discard(self._rows, command, view)
            case Scrub(start=start):
                return self._scrub(start, view)
            case Remember(rows=rows):
                return Plan(dict(rows), Remembered())
            case Note():
                return Plan({}, Remembered())

    # --- writes ---

    def _put(self, command: Put, view: Reader, now_ms: int) -> Plan:
        current = read_current(view, command.entry)
        live = current.live(now_ms)
        self._authorise(command, current, live, view, now_ms)
        _check(command.condition, live)
        timestamp, counter = self._clock.tick(now_ms, current.version)
        record = Record(
            uuid=command.uuid,
            timestamp=timestamp,
            counter=counter,
            origin=self._settings.node_id,
            origin_joined=self._settings.joined_timestamp,
            base=current.version,
            owner=_owner(command, live),
            expires_at=now_ms + command.ttl_ms if command.ttl_ms else 0,
            content_type=command.content_type,
            codec=command.codec,
            payload=command.payload,
        )
        return self._replace(command.entry, current, record, view, created=live is None, digest=command.digest)

    def _delete(self, command: Delete, view: Reader, now_ms: int) -> Plan:
        current = read_current(view, command.entry)
        live = current.live(now_ms)
        self._authorise(command, current, live, view, now_ms)
        if live is None and not current.is_corrupt:
            raise NotFound("there is no value under this key")
        _check(command.condition, live)
        timestamp, counter = self._clock.tick(now_ms, current.version)
        record = Record(
            uuid=command.uuid,
            timestamp=timestamp,
            counter=counter,
            origin=self._settings.node_id,
            origin_joined=self._settings.joined_timestamp,
            base=current.version,
            owner=_owner(command, live),
            deleted=True,
        )
        return self._replace(command.entry, current, record, view, created=False)

    def _restore(self, command: Restore, view: Reader, now_ms: int) -> Plan:
        current = read_current(view, command.entry)
        live = current.live(now_ms)
        self._authorise(command, current, live, view, now_ms)
        kept = history(view, command.entry, now_ms, self._rows.versions_max(command.entry))
        old = next((record for number, record in kept if number == command.revision), None)
        if old is None or not _is_readable(command, old, view, now_ms):
            raise NotFound("this revision is not kept")
        if old.deleted and command.delete_guard is not None:
            command.delete_guard(live, metadata_document(view, command.entry, now_ms))
        _check(command.condition, live)
        timestamp, counter = self._clock.tick(now_ms, current.version)
        record = msgspec.structs.replace(
            old,
            uuid=command.uuid,
            timestamp=timestamp,
            counter=counter,
            origin=self._settings.node_id,
            origin_joined=self._settings.joined_timestamp,
            base=current.version,
            owner=_owner(command, live),
        )
        return self._replace(command.entry, current, record, view, created=live is None)

    def _transact(self, command: Transact, view: Reader, now_ms: int) -> Plan:
        reports: list[Report] = []

        def look(entry: bytes) -> Record | None:
            current = read_current(view, entry)
            live = current.live(now_ms)
            try:
                if current.is_corrupt:
                    raise StoreCorrupt("fails its checksum")
                if live is not None:
                    command.check(entry, live.data)
            except StoreCorrupt as error:
                what = f"{entry[1:].decode(errors='replace')}: {error}"
                reports.append(Report("Corrupt record found", {"error": what}))
                raise StoreCorrupt(what) from None
            return live

        values = command.decide(look, now_ms)
        made: list[tuple[bytes, Current, Record, bool]] = []
        for entry, value in values.items():
            current = read_current(view, entry)
            live = current.live(now_ms)
            if value is None and live is None and not current.is_corrupt:
                continue
            timestamp, counter = self._clock.tick(now_ms, current.version)
            record = Record(
                uuid=derived_uuid(command.uuid, entry),
                timestamp=timestamp,
                counter=counter,
                origin=self._settings.node_id,
                origin_joined=self._settings.joined_timestamp,
                base=current.version,
                deleted=value is None,
                payload=value or b"",
            )
            made.append((entry, current, record, live is None))
        # Nothing is refused from here on.
        written = Overlay(view)
        changes: list[Change] = []
        for entry, current, record, created in made:
            replaced = self._replace(entry, current, record, written, created=created)
            written.write(replaced.batch)
            changes.extend(replaced.changes)
            reports += replaced.reports
        return Plan(written.batch, Transacted(values), tuple(reports), tuple(changes))

    def _authorise(
        self, command: Put | Delete | Restore, current: Current, live: Record | None, view: Reader, now_ms: int
    ) -> None:
        """Before anything else is decided: who may not write learns nothing else."""
        if command.guard is None:
            return
        if current.is_corrupt:
            raise CorruptRecord("the stored record fails its checksum: whose it is cannot be known")
        command.guard(live, metadata_document(view, command.entry, now_ms) if self.has_metadata else None)

    def _merge(self, command: Merge, view: Reader, now_ms: int) -> Plan:
        entry, incoming, digest, source = command.entry, command.record, command.digest, command.source
        if entry.startswith(SYSTEM):
            self._check_document(entry[1:], None if incoming.deleted else incoming.data)
        current = read_current(view, entry)
        held = None if current.stored is None else current.stored.record
        if current is NOTHING and command.as_of_ms is not None:
            forgotten_ms = self.tombstone_limit(now_ms)
            is_old = command.as_of_ms < forgotten_ms and incoming.timestamp < forgotten_ms
            if is_old or self.superseded.covers(view, entry, incoming):
                return Plan({}, _FORGOTTEN)
        reports = self._observe(entry, incoming, source, now_ms)
        if current is NOTHING:
            if (incoming.deleted or incoming.expires_at) and self._is_over(incoming, now_ms):
                return Plan({}, _TAKEN, reports)
            if not incoming.deleted and (
                self._was_here(incoming, source) or self.superseded.covers(view, entry, incoming)
            ):
                return self._delete_again(command, current, view, now_ms)
            batch: dict[bytes, bytes | None] = {}
            self._rows.add(batch, entry, incoming, view, digest=digest, raw=command.raw)
            self._rows.tally.came_from_peer()
            return Plan(batch, _TAKEN, reports, (Change(entry, incoming, self._rows.seq, source),))
        verdict = judge(held, incoming)
        if current.stored is not None and held is not None:
            if verdict.kind != "wins":
                lost = lose(self._rows, command, current.stored, verdict, view)
                return Plan(lost.batch, lost.outcome, lost.reports + reports)
            if is_end_of(incoming, held):
                over = entomb(self._rows, entry, current.stored, view)
                return Plan(over.batch, Merged(verdict), reports, ended=over.ended)
            if self._comes_late(incoming, now_ms):
                return self._delete_again(command, current, view, now_ms)
            if verdict.conflict:
                kept = self._rows.versions_max(entry) > 1
                reports += (resolved(self._rows, command, held, verdict, kept=kept),)
        plan = self._replace(entry, current, incoming, view, created=held is None, digest=digest, raw=command.raw)
        self._rows.tally.came_from_peer()
        changes = (Change(entry, incoming, self._rows.seq, source),)
        return Plan(plan.batch, Merged(verdict), plan.reports + reports, changes)

    def _was_here(self, record: Record, source: str) -> bool:
        """Whether this node held the record that a peer brings: both did when they were equal, unless the peer got it
        later from its writer, with which this node was not."""
        return record.timestamp < min(self.apart.get(source, 0), self.apart.get(record.origin, record.timestamp + 1))

    def _comes_late(self, tombstone: Record, now_ms: int) -> bool:
        """Whether a tombstone that others may forget at once deletes a value that all nodes have."""
        return tombstone.deleted and tombstone.timestamp < self.tombstone_limit(now_ms)

    def _delete_again(self, command: Merge, current: Current, view: Reader, now_ms: int) -> Plan:
        """The record that a peer brings was deleted, and not all nodes know of that: this node held it once and has
        forgotten that it was deleted, or the peer's own tombstone is older than those that may be forgotten. The new
        one is as old as may be, so that it takes no place of a version that somebody writes now; and not so old that
        any node might forget it before all have it, or that it loses against what it deletes."""
        entry, old = command.entry, command.record
        timestamp = max(now_ms - self._settings.clock_drift_max_ms, old.timestamp + 1)
        record = Record(
            uuid=derived_uuid(old.uuid, b"%d %b %b" % (timestamp, self._settings.node_id.encode(), entry)),
            timestamp=timestamp,
            counter=0,
            origin=self._settings.node_id,
            origin_joined=self._settings.joined_timestamp,
            base=(old.timestamp, old.counter),
            owner=old.owner,
            deleted=True,
        )
        plan = self._replace(entry, current, record, view, created=False)
        fields = {"key": path_of(entry), "version": f"{old.timestamp}.{old.counter}", "peer": command.source}
        report = Report("What was deleted long ago is deleted again", fields)
        return Plan(plan.batch, _TAKEN, (*plan.reports, report), plan.changes)

    def _is_over(self, record: Record, now_ms: int) -> bool:
        """Whether a record that is not here would leave the disk at once: it has no place in the tree either."""
        return may_go(
            record, expiry_limit_ms=expiry_limit(now_ms), tombstone_limit_ms=self.tombstone_limit(now_ms)
        ) and not must_stay_as_tombstone(record)

    def _observe(self, entry: bytes, record: Record, source: str, now_ms: int) -> tuple[Report, ...]:
        """Keep the clock above what peers write; not above a clock that is far ahead, or one wrong clock moves all."""
        if record.timestamp <= now_ms + self._settings.clock_drift_max_ms:
            self._clock.last = max(self._clock.last, (record.timestamp, record.counter))
            return ()
        ahead_ms = record.timestamp - now_ms
        return (
            Report(
                "Record from the future",
                {"key": path_of(entry), "origin": record.origin, "ahead_ms": ahead_ms, "peer": source},
            ),
        )

    def _replace(
        self,
        entry: bytes,
        current: Current,
        record: Record,
        view: Reader,
        *,
        created: bool,
        digest: bytes = b"",
        raw: bytes = b"",
    ) -> Plan:
        batch = self._rows.replace(entry, current, record, view, digest=digest, raw=raw)
        if current.stored is not None:
            self.superseded.note(batch, entry, current.stored.record)
        reports = (Report("Corrupt record replaced", {"entry": entry}),) if current.is_corrupt else ()
        return Plan(batch, Written(record, created), reports, (Change(entry, record, self._rows.seq),))

    # --- background work ---

    def _scrub(self, start: bytes, view: Reader) -> Plan:
        if self._rows.edit is None:
            return Plan({}, Scrubbed(b"", 0, 0, 0))
        return Plan(*scrub(self._rows.edit, view, start))

    def tombstone_limit(self, now_ms: int) -> int:
        """Tombstones with a timestamp below this (Unix ms) are not needed any more."""
        floor_ms = now_ms if self.floor_ms is None else self.floor_ms
        return tombstone_limit(now_ms, self._settings.tombstone_retention_ms, floor_ms)


def _is_readable(command: Restore, revision: Record, view: Reader, now_ms: int) -> bool:
    return command.readable is None or command.readable(revision, metadata_document(view, command.entry, now_ms))


def _owner(command: Put | Delete | Restore, live: Record | None) -> str:
    """Writing over a value does not take it away from its owner."""
    return command.owner if live is None else live.owner


def _check(condition: Condition, live: Record | None) -> None:
    """Raises PreconditionFailed. `live` is what a reader sees now."""
    if condition is not UNCONDITIONAL:
        condition.check(None if live is None else uuid_text(live.uuid))
