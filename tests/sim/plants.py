"""Bugs of the data part, each as a patch: such as others had, or as were made here. test_planted_data.py finds them.

`python -m tests.sim.plants` prints for each how many seeds it takes, and what showed it.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import structlog
from msgspec.structs import replace

from kvs.cluster import exchange, ingest, merging, push, rows, sync, upkeep
from kvs.cluster import node as node_module
from kvs.cluster.bootstrap import Bootstrap, BootstrapEffect
from kvs.cluster.events import Change, Merged, Reply
from kvs.cluster.exchange import RecentAnswer
from kvs.cluster.floor import Floor, Stored
from kvs.cluster.merging import Verdict, judge
from kvs.cluster.merkle import TreeEdit, item_of
from kvs.cluster.node import Node
from kvs.cluster.peer_clocks import PeerClocks
from kvs.cluster.push import Push
from kvs.cluster.replica import Replica
from kvs.cluster.replica_events import Known
from kvs.cluster.rows import Rows
from kvs.cluster.superseded import Superseded
from kvs.cluster.sync import Session
from kvs.storage.batch import Overlay
from kvs.storage.codec import Stored as StoredRecord
from kvs.storage.codec import encode, encode_record
from kvs.storage.current import index_rows
from kvs.storage.keyspace import SYSTEM
from kvs.storage.record import Record
from kvs.storage.state import Progress, encode_progress
from kvs.storage.store import Reader
from kvs.storage.version import Rule, decide
from tests.sim import runs, scenarios, shell
from tests.sim.writer import Writer
from tests.unit import test_discard, test_replica

Patch = pytest.MonkeyPatch
Batch = dict[bytes, bytes | None]
Plant = Callable[[Patch], None]
Look = Callable[[int], Any]


def brief(seed: int) -> None:
    runs.run(seed, brief=True)


def discard_test(_: int) -> None:
    """No run sees it: the moment is too short."""
    test_discard.test_only_versions_from_before_the_moment_leave()


def proof_test(_: int) -> None:
    """No run sees it: before the floor moves on, the other side compares too, and fetches what was kept back."""
    test_replica.test_what_is_left_to_the_push_is_no_proof()


# --- merging ---


def timestamps_only(patch: Patch) -> None:
    """Two versions of one millisecond count as the same."""

    def judged(held: Record | None, incoming: Record) -> Verdict:
        same = held is not None and (held.timestamp, held.counter) == (incoming.timestamp, incoming.counter)
        return Verdict("known") if same else judge(held, incoming)

    patch.setattr(node_module, "judge", judged)


def tie_by_arrival(patch: Patch) -> None:
    """Of two versions of one millisecond the later one to arrive wins."""

    def judged(held: Record | None, incoming: Record) -> Verdict:
        same = held is not None and (held.timestamp, held.counter) == (incoming.timestamp, incoming.counter)
        return Verdict("wins", "content") if same and held != incoming else judge(held, incoming)

    patch.setattr(node_module, "judge", judged)


def origin_order_ignored(patch: Patch) -> None:
    """Whose node joined first does not count."""

    def decided(a: Record, b: Record) -> tuple[Rule, bool]:
        return decide(replace(a, origin_joined=1), replace(b, origin_joined=1))

    patch.setattr(merging, "decide", decided)


def loser_becomes_current(patch: Patch) -> None:
    """A version that lost against one that it did not know is put before it, in place of behind it."""

    def keep(self: Rows, entry: bytes, stored: StoredRecord, loser: Record, view: Reader) -> Batch:
        return {entry: encode(entry, replace(stored, record=loser))}

    patch.setattr(Rows, "keep_loser", keep)


def group_is_blind(patch: Patch) -> None:
    """Writes of one group do not see each other."""
    patch.setattr(Overlay, "get", lambda self, key: self._base.get(key))


def conditions_are_not_checked(patch: Patch) -> None:
    patch.setattr(node_module, "_check", lambda condition, live: None)


# --- the clock ---


def clock_floor_not_stored(patch: Patch) -> None:
    """After a restart versions begin where the wall clock stands."""

    def encoded(progress: Progress) -> bytes:
        return encode_progress(progress._replace(timestamp=0, counter=0))

    patch.setattr(node_module, "encode_progress", encoded)


def clock_ignores_peers(patch: Patch) -> None:
    """What peers write does not move the clock."""
    patch.setattr(Node, "_observe", lambda *_: ())


def clock_follows_the_future(patch: Patch) -> None:
    """A peer's clock that is far ahead takes all others along."""
    observe = Node._observe

    def observed(self: Node, entry: bytes, record: Record, source: str, now_ms: int) -> Any:
        self._clock.last = max(self._clock.last, (record.timestamp, record.counter))
        return observe(self, entry, record, source, now_ms)

    patch.setattr(Node, "_observe", observed)


def wrong_clock_sweeps(patch: Patch) -> None:
    """Nobody minds that this node's clock is not like the others'."""
    patch.setattr(PeerClocks, "is_right", lambda *_: True)


# --- the disk ---


def answered_before_commit(patch: Patch) -> None:
    """Clients and peers hear of a write while it is on its way to the disk."""
    begin = Writer._begin

    def begun(self: Writer) -> None:
        was = self._under_way
        begin(self)
        if self._under_way is not None and self._under_way is not was:
            for effect in self._under_way[0].effects:
                if isinstance(effect, Reply):
                    then, self._thens[effect.ticket] = self._thens[effect.ticket], lambda _: None
                    then(effect.outcomes)

    patch.setattr(Writer, "_begin", begun)


def tree_outlives_a_failed_commit(patch: Patch) -> None:
    """After a commit that failed memory goes on with what it held before."""
    resume = Node.resume
    patch.setattr(Node, "resume", lambda self, progress, tree=None: resume(self, progress, self.tree))


# --- the tree and comparisons ---


def tombstones_not_in_the_tree(patch: Patch) -> None:
    add = Rows.add

    def added(self: Rows, batch: Batch, entry: bytes, record: Record, view: Reader, *place: Any, **more: Any) -> None:
        add(self, batch, entry, record, view, *place, **more)
        if record.deleted and self.edit is not None:
            after = Overlay(view)
            after.write(batch)
            batch.update(self.edit.remove(after, entry))

    patch.setattr(Rows, "add", added)


def system_records_not_in_the_tree(patch: Patch) -> None:
    put = TreeEdit.put

    def edited(self: TreeEdit, batch: Batch, view: Reader, entry: bytes, item: bytes, *, is_new: bool = False) -> None:
        if not entry.startswith(SYSTEM):
            put(self, batch, view, entry, item, is_new=is_new)

    patch.setattr(TreeEdit, "put", edited)


def sums_count_twice(patch: Patch) -> None:
    """The item of an older version stays in the sums."""
    put = TreeEdit.put

    def edited(self: TreeEdit, batch: Batch, view: Reader, entry: bytes, item: bytes, *, is_new: bool = False) -> None:
        put(self, batch, view, entry, item, is_new=True)

    patch.setattr(TreeEdit, "put", edited)


def value_not_in_the_item(patch: Patch) -> None:
    """The hash of a record is that of its key."""
    patch.setattr(rows, "item_of", lambda entry, record, _: item_of(entry, record, b"\0" * 32))


def edge_is_lost(patch: Patch) -> None:
    """What lies behind the last key of the peer is not compared."""
    compare = Session._compare_parts

    def compared(self: Session, edges: list[bytes], marks: Sequence[bytes], here: sync.Here) -> None:
        compare(self, edges[:-1], marks[:-1], here)

    patch.setattr(Session, "_compare_parts", compared)


def absence_deletes(patch: Patch) -> None:
    """What an empty peer does not have is taken for deleted."""
    compare = Session._compare_items

    def compared(self: Session, span: exchange.Span, theirs: dict[bytes, bytes], here: sync.Here) -> None:
        compare(self, span, theirs, here)
        if not theirs:
            self.forgotten_ms = here.limits.now_ms

    patch.setattr(Session, "_compare_items", compared)


# --- tombstones and times to live ---


def tombstones_go_by_age(patch: Patch) -> None:
    """They leave after the retention, whoever lacks them."""
    patch.setattr(Node, "tombstone_limit", lambda self, now_ms: max(0, now_ms - self._settings.tombstone_retention_ms))


def floor_of_one_peer(patch: Patch) -> None:
    """That one peer is equal is enough."""
    raise_ = Floor.raise_

    def raised(self: Floor, now_ms: int) -> bool:
        self.floor_ms = max([self.floor_ms, *self._equal.values()])
        return raise_(self, now_ms)

    patch.setattr(Floor, "raise_", raised)


def floor_without_the_dead(patch: Patch) -> None:
    """Only members that are up count."""

    def tell(self: shell.Shell) -> None:
        self._replicate(Known(sorted(self.addresses)))
        self._tell_floor()

    patch.setattr(shell.Shell, "_tell_known", tell)


def floor_not_stored(patch: Patch) -> None:
    patch.setattr(shell, "decode_floor", lambda _: Stored())


def withheld_counts_as_sent(patch: Patch) -> None:
    """A comparison proves that the two are equal, though it kept something back."""
    patch.setattr(Session, "withheld_ms", property(lambda _: None, lambda *_: None), raising=False)


def expired_are_not_sent(patch: Patch) -> None:
    """A comparison counts as proof though it left out values that are over, which hold off older ones."""
    sendable = ingest._sendable

    def sent(reader: Reader, entry: bytes, limits: ingest.Limits) -> tuple[Record, bytes] | None:
        found = sendable(reader, entry, limits)
        return None if found is not None and found[0].expires_at and not found[0].is_live(limits.now_ms) else found

    patch.setattr(ingest, "_sendable", sent)


def seeds_are_not_awaited(patch: Patch) -> None:
    """A node that has met nobody yet sweeps its tombstones by its own clock."""
    patch.setattr(Floor, "collected_below_ms", property(lambda self: self._saved.floor if self.is_shared else None))


def returned_ones_push(patch: Patch) -> None:
    """Who was away for too long is as good as anybody."""
    patch.setattr(Floor, "is_outdated", lambda *_: False)


def returned_ones_share(patch: Patch) -> None:
    """Who was away for too long gives away what it has before it has compared itself."""
    patch.setattr(Replica, "may_share", property(lambda _: True))


def halves_forget_each_other(patch: Patch) -> None:
    """What a node has deleted and forgotten, it takes back from one that it had lost sight of."""
    patch.setattr(Floor, "apart", lambda *_: {})


def absences_leave_no_notes(patch: Patch) -> None:
    """The last proof counts for all that two nodes ever held together, though it is older than that."""
    patch.setattr(Superseded, "note", lambda *_: None)


def set_aside_counts_as_deleted(patch: Patch) -> None:
    """A node that set records aside still takes what it lacks for deleted."""
    patch.setattr(Floor, "doubt", lambda _: None)


def any_floor_makes_outdated(patch: Patch) -> None:
    """Two nodes that lost their disks and met each other make all others set their records aside."""
    outdated = Floor.is_outdated

    def judged(self: Floor, floor_ms: int, now_ms: int) -> bool:
        self._retention_ms = 0
        return outdated(self, floor_ms, now_ms)

    patch.setattr(Floor, "is_outdated", judged)


def set_aside_whatever_came_since(patch: Patch) -> None:
    """A record leaves the disk though a newer version has come since it was put into the file."""
    discard = upkeep.discard
    patch.setattr(
        node_module, "discard", lambda at, command, view: discard(at, replace(command, before_ms=1 << 62), view)
    )


def expired_values_vanish(patch: Patch) -> None:
    """No tombstone takes the place of a value that is over."""
    for module in (node_module, rows):
        patch.setattr(module, "must_stay_as_tombstone", lambda _: False)


def time_to_live_is_lost(patch: Patch) -> None:
    """It does not travel with the record."""
    for module in (push, sync):
        patch.setattr(module, "encode_record", lambda record: encode_record(replace(record, expires_at=0)))


def sweep_believes_its_rows(patch: Patch) -> None:
    """An old index row counts, though the key was written again."""
    patch.setattr(upkeep, "may_go", lambda *_, **__: True)

    class Anything(list[bytes]):
        def __contains__(self, _: object) -> bool:
            return True

    patch.setattr(upkeep, "index_rows", lambda entry, record: Anything(index_rows(entry, record)))


# --- pushing and filling ---


def drop_is_not_remembered(patch: Patch) -> None:
    """What a push could not deliver is forgotten."""

    def behind_nobody(effects: Iterable[push.PushEffect]) -> list[push.PushEffect]:
        return [effect for effect in effects if not isinstance(effect, push.Behind)]

    for name in ("committed", "failed"):
        do = getattr(Push, name)
        patch.setattr(Push, name, lambda self, what, do=do: behind_nobody(do(self, what)))


def filling_ends_early(patch: Patch) -> None:
    """The first answer is taken for all there is."""
    answered = Bootstrap.answered

    def once(self: Bootstrap, answer: RecentAnswer) -> list[BootstrapEffect]:
        return answered(self, replace(answer, before=b""))

    patch.setattr(Bootstrap, "answered", once)


def forwarded_for_ever(patch: Patch) -> None:
    """Every node passes a record on, also one that it knew."""
    merge = Node._merge

    def merged(self: Node, command: Any, view: Reader, now_ms: int) -> Any:
        plan = merge(self, command, view, now_ms)
        if isinstance(plan.outcome, Merged) and plan.outcome.verdict.kind == "known":
            return replace(plan, changes=(Change(command.entry, command.record, command.source),))
        return plan

    patch.setattr(Node, "_merge", merged)


class Planted(NamedTuple):
    """`seed` is the first one that finds it, as far as that is known."""

    plant: Plant
    look: Look
    seed: int = 0


PLANTED = [
    Planted(timestamps_only, brief, 9),
    Planted(tie_by_arrival, brief, 5),
    Planted(origin_order_ignored, brief, 13),
    Planted(loser_becomes_current, brief, 1),
    Planted(group_is_blind, brief),
    Planted(conditions_are_not_checked, brief, 1),
    Planted(clock_floor_not_stored, brief, 38),
    Planted(clock_ignores_peers, brief, 76),
    Planted(clock_follows_the_future, brief, 23),
    Planted(wrong_clock_sweeps, scenarios.leapt),
    Planted(answered_before_commit, brief, 3),
    Planted(tree_outlives_a_failed_commit, brief, 8),
    Planted(tombstones_not_in_the_tree, brief),
    Planted(system_records_not_in_the_tree, brief),
    Planted(sums_count_twice, brief),
    Planted(value_not_in_the_item, brief),
    Planted(edge_is_lost, brief, 4),
    Planted(absence_deletes, brief, 10),
    Planted(tombstones_go_by_age, brief, 130),
    Planted(floor_of_one_peer, scenarios.waited),
    Planted(floor_without_the_dead, scenarios.waited, 1),
    Planted(floor_not_stored, scenarios.replaced),
    Planted(withheld_counts_as_sent, proof_test),
    Planted(expired_are_not_sent, scenarios.kept_back),
    Planted(seeds_are_not_awaited, scenarios.stranger),
    Planted(returned_ones_push, scenarios.replaced),
    Planted(returned_ones_share, scenarios.replaced),
    Planted(halves_forget_each_other, scenarios.parted, 2),
    Planted(absences_leave_no_notes, scenarios.hasty),
    Planted(set_aside_counts_as_deleted, scenarios.doubted),
    Planted(any_floor_makes_outdated, scenarios.bereft),
    Planted(set_aside_whatever_came_since, discard_test),
    Planted(expired_values_vanish, brief, 1),
    Planted(time_to_live_is_lost, brief),
    Planted(sweep_believes_its_rows, brief, 74),
    Planted(drop_is_not_remembered, scenarios.steady),
    Planted(filling_ends_early, scenarios.filled),
    Planted(forwarded_for_ever, scenarios.spread),
]


def found_by(planted: Planted, seeds: Iterable[int]) -> tuple[int, str] | None:
    """The first of the seeds that finds it, and what it says; None if none does."""
    with pytest.MonkeyPatch.context() as patch:
        planted.plant(patch)
        for seed in seeds:
            try:
                planted.look(seed)
            except AssertionError as failure:
                return seed, str(failure)
    return None


def main(arguments: Sequence[str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    seeds_max = int(arguments[0]) if arguments else 1_000
    wanted: Mapping[str, Planted] = {planted.plant.__name__: planted for planted in PLANTED}
    for name in arguments[1:] or wanted:
        found = found_by(wanted[name], range(seeds_max))
        seeds, said = (
            (f"{found[0] + 1}", (found[1].splitlines() or ["a test fails"])[0])
            if found
            else (f"none of {seeds_max}", "")
        )
        print(f"{name:34} {wanted[name].look.__name__:9} {seeds:>14}  {said[:160]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
