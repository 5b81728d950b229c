"""Whatever is asked of a node, at whatever time, and whatever its disk does: it holds what a plain model holds.

After each step every row of the store is compared: values, histories, indexes, the change log.
"""

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kvs.cluster.events import (
    ANY,
    Command,
    Condition,
    Delete,
    Lapse,
    Look,
    Outcome,
    Put,
    Restore,
    Sweep,
    Swept,
    Transact,
    Transacted,
    Trim,
    Written,
)
from kvs.errors import NotFound, PreconditionFailed
from kvs.limits import EXPIRY_GRACE_MS, EXPIRY_STEP_MS
from kvs.storage.compression import RAW
from kvs.storage.keyspace import CHANGES, DATA, EXPIRIES, SYSTEM, TOMBSTONES, change_row, expiry_row, tombstone_row
from kvs.storage.record import Record, uuid_text
from kvs.storage.state import read_log_start, read_progress
from tests.model import Answer, Model, Version
from tests.nodes import LoneNode

RETENTION_MS = 1_000
START_MS = 1_700_000_000_000
ENTRIES = [b"da", b"da/b"]
SYSTEM_ENTRY = b"sa"

entries = st.sampled_from(ENTRIES)
steps_ms = st.sampled_from(
    [0, 1, 9, 10, 11, RETENTION_MS, RETENTION_MS + 1, EXPIRY_STEP_MS, EXPIRY_GRACE_MS - 1, EXPIRY_GRACE_MS, 10**9]
)
ttls_ms = st.sampled_from([0, 0, 1, 10, EXPIRY_STEP_MS, EXPIRY_GRACE_MS])
tags = st.sampled_from(["any", "current", "other", "none of all"])
conditions = st.tuples(st.none() | tags, st.none() | tags)
"""What If-Match and If-None-Match name; mostly nothing."""
asked = st.one_of(
    st.tuples(st.just("put"), entries, ttls_ms, st.just((None, None)) | conditions),
    st.tuples(st.just("put"), entries, ttls_ms, st.just((None, None))),
    st.tuples(st.just("delete"), entries, st.just((None, None)) | conditions),
    st.tuples(st.just("restore"), entries, st.integers(1, 5), st.just((None, None)) | conditions),
    st.tuples(st.just("update")),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("lapse")),
    st.tuples(st.just("trim"), entries),
)
groups = st.lists(asked, min_size=1, max_size=4)


def seen(record: Record) -> Version:
    """A record as the model has it."""
    return Version(record.uuid, (record.timestamp, record.counter), record.data, record.expires_at, record.deleted)


def answer(outcome: Outcome) -> Answer:
    match outcome:
        case Written(record, created):
            return ("written", seen(record), created)
        case Swept(number):
            return ("swept", number)
        case Transacted(values):
            return ("transacted", dict(values))
        case NotFound():
            return ("not found",)
        case PreconditionFailed():
            return ("failed",)
    raise AssertionError(outcome)


def append_time(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
    """Write one of KVS's own records by what it was, and delete it now and then."""
    live = look(SYSTEM_ENTRY)
    old = b"" if live is None else live.data
    return {SYSTEM_ENTRY: None if len(old) > 40 else old + b"%d;" % now_ms}


class NodeBesideModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.node = LoneNode(tombstone_retention_ms=RETENTION_MS)
        self.model = Model(3, RETENTION_MS)
        self.now_ms = START_MS
        self.acknowledged = (0, 0)
        self.numbers = count(1)

    @initialize(versions_max=st.integers(1, 4))
    def begin(self, versions_max: int) -> None:
        self.restart(versions_max)

    # --- what happens ---

    @rule(group=groups)
    def write(self, group: Sequence[tuple[object, ...]]) -> None:
        commands = [self.command(*what) for what in group]
        expected = [self.model.do(command, self.now_ms) for command in commands]
        assert [answer(outcome) for outcome in self.node.do(self.now_ms, *commands)] == expected
        stamps = [version.stamp for _, *rest in expected for version in rest if isinstance(version, Version)]
        if any(isinstance(command, Transact) for command in commands):
            stamps += [version.stamp for version in self.model.lines.get(SYSTEM_ENTRY, [])]
        self.acknowledged = max([self.acknowledged, *stamps])

    @rule(group=groups, landed=st.booleans())
    def write_in_vain(self, group: Sequence[tuple[object, ...]], landed: bool) -> None:
        """Nobody hears of it. What was given out for it is not given out again."""
        commands = [self.command(*what) for what in group]
        after = self.model.copy()
        for command in commands:
            after.do(command, self.now_ms)
        self.node.fail(self.now_ms, *commands, landed=landed)
        self.model.stamp, self.model.number = after.stamp, after.number
        if landed:
            self.model = after

    @rule(by_ms=steps_ms, back=st.booleans())
    def step(self, by_ms: int, back: bool) -> None:
        self.now_ms += -by_ms if back else by_ms

    @rule(early_ms=st.integers(0, 1), group=groups)
    def come_to_an_expiry(self, early_ms: int, group: Sequence[tuple[object, ...]]) -> None:
        ends_ms = [line[0].expires_at for line in self.model.lines.values() if line[0].expires_at]
        if ends_ms:
            self.now_ms = ends_ms[0] - early_ms
            self.write([("lapse",), *group])

    @rule(group=groups, late_ms=st.integers(-1, 1))
    def sweep_when_it_is_due(self, group: Sequence[tuple[object, ...]], late_ms: int) -> None:
        """At the moment when a record may go; others come in the same group."""
        due_ms = [due_ms for entry in self.model.lines if (due_ms := self.model.over_at(entry)) is not None]
        if due_ms:
            self.now_ms = due_ms[0] + late_ms
            self.write([("sweep",), *group])

    @rule(entry=entries, late_ms=st.integers(-1, 0))
    def delete_and_sweep_when_it_is_due(self, entry: bytes, late_ms: int) -> None:
        self.write([("put", entry, 0, (None, None)), ("delete", entry, (None, None))])
        self.now_ms = self.model.stamp[0] + RETENTION_MS + 1 + late_ms
        self.write([("sweep",)])

    @rule(entry=entries, versions_max=st.integers(1, 3), group=groups)
    def trim_after_a_restart_with_fewer(
        self, entry: bytes, versions_max: int, group: Sequence[tuple[object, ...]]
    ) -> None:
        self.restart(versions_max)
        self.write([("trim", entry), *group, ("trim", entry)])

    @rule(entry=entries)
    def sweep_rows_that_lead_nowhere(self, entry: bytes) -> None:
        """Such as stay behind a corrupt record. They go, and nothing else."""
        self.node.store.commit(dict.fromkeys((expiry_row(1, entry), tombstone_row(1, entry)), b""))
        self.write([("sweep",)])

    @rule(versions_max=st.none() | st.integers(1, 4))
    def restart(self, versions_max: int | None) -> None:
        self.node.restart(versions_max=versions_max)
        self.model.versions_max = versions_max or self.model.versions_max
        progress = read_progress(self.node.store)
        # What was never acknowledged may be given out again after a restart, and only that.
        assert self.acknowledged <= (progress.timestamp, progress.counter) <= self.model.stamp
        self.model.stamp, self.model.number = (progress.timestamp, progress.counter), progress.seq

    # --- what must hold ---

    @invariant()
    def values_and_histories_are_the_model_s(self) -> None:
        for entry in (*ENTRIES, SYSTEM_ENTRY):
            live = self.node.live(entry, self.now_ms)
            assert (None if live is None else seen(live)) == self.model.live(entry, self.now_ms)
            found = [(number, seen(record)) for number, record in self.node.history(entry, self.now_ms)]
            assert found == self.model.history(entry, self.now_ms)

    @invariant()
    def rows_are_the_model_s(self) -> None:
        self.node.check_rows()
        assert set(self.node.rows(DATA)) | set(self.node.rows(SYSTEM)) == set(self.model.lines)
        assert self.node.rows(CHANGES) == {change_row(seq): entry for entry, seq in self.model.numbers.items()}
        assert read_log_start(self.node.store) == self.model.log_start

    # --- from words to commands ---

    def command(self, *what: object) -> Command:
        uuid = next(self.numbers).to_bytes(16, "big")
        match what:
            case "put", bytes(entry), int(ttl_ms), tuple(named):
                return Put(
                    entry=entry,
                    uuid=uuid,
                    codec=RAW,
                    payload=b"%d" % uuid[-1],
                    ttl_ms=ttl_ms,
                    condition=self.condition(entry, named),
                )
            case "delete", bytes(entry), tuple(named):
                return Delete(entry=entry, uuid=uuid, condition=self.condition(entry, named))
            case "restore", bytes(entry), int(number), tuple(named):
                return Restore(entry=entry, uuid=uuid, revision=number, condition=self.condition(entry, named))
            case ("update",):
                return Transact(uuid=uuid, decide=append_time)
            case ("sweep",):
                return Sweep(rows=(*self.node.rows(EXPIRIES), *self.node.rows(TOMBSTONES)))
            case ("lapse",):
                return Lapse(rows=tuple(self.node.rows(EXPIRIES)))
            case "trim", bytes(entry):
                return Trim(entry=entry)
        raise AssertionError(what)

    def condition(self, entry: bytes, named: tuple[object, ...]) -> Condition:
        return Condition(*(None if tag is None else self.tags(entry, str(tag)) for tag in named))

    def tags(self, entry: bytes, named: str) -> frozenset[str]:
        kept = [uuid_text(version.uuid) for version in self.model.lines.get(entry, [])]
        return {
            "any": ANY,
            "current": frozenset(kept[:1]),
            "other": frozenset([*kept[1:], "x"]),
            "none of all": frozenset(),
        }[named]


TestNodeBesideModel = NodeBesideModel.TestCase
TestNodeBesideModel.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_for_long() -> None:
    more = settings(TestNodeBesideModel.settings, max_examples=2_000, stateful_step_count=50)
    run_state_machine_as_test(NodeBesideModel, settings=more)
