"""Whatever is written, and whenever watchers come, break off and resume: what each is told of a key never goes back,
and ends with what a reader sees.

A node decides and commits as the real one does, on a store in memory; the feed and those who catch up are the real
ones. A watcher notes what an SSE client would: the last `id`, and by key the last event. Nobody else remembers anything
for him.
"""

import json
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kvs.auth.permissions import Metadata, permits
from kvs.auth.principal import EVERYBODY, Principal
from kvs.cluster.events import Command, Committed, Delete, Discard, Lapse, Put, Restore, Sweep
from kvs.errors import ResyncRequired
from kvs.limits import EXPIRY_GRACE_MS
from kvs.server.catching_up import CatchingUp, LostPlace
from kvs.server.feed import Feed, Subscription, sight_of
from kvs.storage.compression import RAW
from kvs.storage.keyspace import EXPIRIES, TOMBSTONES
from kvs.storage.record import uuid_text
from kvs.storage.state import read_log_start, read_progress
from tests.nodes import LoneNode

START_MS = 1_700_000_000_000
RETENTION_MS = 1_000
ENTRIES = [b"da", b"da/b", b"da/c", b"db"]
PREFIXES = [b"", b"a", b"a/", b"a/b", b"c"]
READERS = [EVERYBODY, Principal(user="ada"), Principal(user="bob")]
HIDDEN = {b"da/c": Metadata(owner_uuid="ada", permissions=0xF00)}
"""Bob may not read this one, whoever wrote it."""

entries = st.sampled_from(ENTRIES)
steps_ms = st.sampled_from([0, 1, 5, RETENTION_MS + 1, EXPIRY_GRACE_MS])
asked = st.one_of(
    st.tuples(st.just("put"), entries, st.sampled_from([0, 0, 0, 1, 5])),
    st.tuples(st.just("put"), entries, st.just(0)),
    st.tuples(st.just("delete"), entries),
    st.tuples(st.just("restore"), entries),
    st.tuples(st.just("lapse")),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("discard"), entries),
)
groups = st.lists(asked, min_size=1, max_size=5)
watched = st.lists(
    st.tuples(st.sampled_from(PREFIXES), st.sampled_from([EVERYBODY, EVERYBODY, *READERS])), min_size=1, max_size=3
)


class Client:
    """What the other end of a stream knows. `seen` is the last event of each key, by path."""

    def __init__(self, prefix: bytes, reader: Principal) -> None:
        self.prefix = prefix
        self.reader = reader
        self.subscription: Subscription | None = None
        self.way: CatchingUp | None = None
        self.last_id = ""
        self.seen: dict[str, dict[str, Any]] = {}
        self.is_complete = False
        """Whether a snapshot came to its end, so that what is not in `seen` is not there."""

    def hear(self, data: bytes) -> None:
        for block in data.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            self.last_id = fields.get("id", self.last_id)
            event = {**json.loads(fields["data"]), "event": fields["event"]}
            before = self.seen.get(event["path"])
            if before is not None:
                assert before["uuid"] <= event["uuid"], "a key goes back to an older version"  # they are numbered here
            self.seen[event["path"]] = event


class Watched(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.node = LoneNode(tombstone_retention_ms=RETENTION_MS)
        self.now_ms = START_MS
        self.uuids = count(1)
        self.clients: list[Client] = []
        self.begin_feed()

    def begin_feed(self) -> None:
        self.feed: Feed[Subscription] = Feed("this log", read_progress(self.node.store).seq)

    @initialize(
        in_cluster=st.booleans(),
        step=st.sampled_from([1, 1, 2, 500]),
        gathered=st.sampled_from([1, 2, 5, 5_000]),
        gathered_bytes=st.sampled_from([2_000, 5_000, 10_000_000]),
        watched=watched,
    )
    def begin(
        self,
        in_cluster: bool,
        step: int,
        gathered: int,
        gathered_bytes: int,
        watched: Sequence[tuple[bytes, Principal]],
    ) -> None:
        self.node = LoneNode(tombstone_retention_ms=RETENTION_MS, in_cluster=in_cluster)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("kvs.server.catching_up.WATCH_STEP_ROWS", step)
        self.patch.setattr("kvs.server.feed.WATCH_STEP_ROWS", step)
        self.patch.setattr("kvs.server.feed.WATCH_GATHER_MAX_EVENTS", gathered)
        self.patch.setattr("kvs.server.feed.WATCH_GATHER_MAX_BYTES", gathered_bytes)
        self.clients = [Client(prefix, reader) for prefix, reader in watched]

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.when_all_is_quiet_everybody_knows_the_state()
            self.patch.undo()

    # --- what the node does ---

    @rule(group=groups)
    def write(self, group: Sequence[tuple[object, ...]]) -> None:
        planned = self.node.plan(self.now_ms, [self.command(*what) for what in group])
        self.node.store.commit(planned.batch)
        for effect in self.node.node.committed(planned):
            if isinstance(effect, Committed):
                self.publish(effect)

    def publish(self, effect: Committed) -> None:
        lost = self.feed.publish(effect, self.now_ms)
        for client in self.clients:
            if client.subscription in lost:
                self.break_off(client)

    @rule(group=groups)
    def write_and_lose_track(self, group: Sequence[tuple[object, ...]]) -> None:
        """The commit fails, but is on the disk: it is published from there."""
        self.node.fail(self.now_ms, *[self.command(*what) for what in group], landed=True)
        lost = read_log_start(self.node.store) > self.feed.head
        given_up = self.feed.publish_log(self.node.store, read_progress(self.node.store).seq, self.now_ms)
        for client in self.clients:
            if lost or client.subscription in given_up:
                self.break_off(client)

    @rule(group=groups, steps=st.integers(1, 6))
    def write_and_catch_up_before_it_is_published(self, group: Sequence[tuple[object, ...]], steps: int) -> None:
        """A commit is on the disk a little before the node hears of it. Readers see it meanwhile."""
        planned = self.node.plan(self.now_ms, [self.command(*what) for what in group])
        self.node.store.commit(planned.batch)
        for client in self.clients * steps:
            self.connect(client)
            self.step_of(client)
        for effect in self.node.node.committed(planned):
            if isinstance(effect, Committed):
                self.publish(effect)

    @rule(by_ms=steps_ms)
    def time_passes(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule()
    def ends_are_noted(self) -> None:
        self.write([("lapse",)])

    @rule(by_ms=steps_ms)
    def what_is_over_goes(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.write([("sweep",)])

    @rule()
    def restart(self) -> None:
        for client in self.clients:
            self.break_off(client)
        self.node.restart()
        self.begin_feed()

    # --- what watchers do ---

    @rule(data=st.data(), group=groups)
    def something_is_written_while_one_is_on_his_way(
        self, data: st.DataObject, group: Sequence[tuple[object, ...]]
    ) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.connect(client)
        for _ in range(data.draw(st.integers(0, 6))):
            self.step_of(client)
        self.write(group)
        for _ in range(data.draw(st.integers(0, 6))):
            self.step_of(client)
        if data.draw(st.booleans()):
            self.break_off(client)

    @rule(data=st.data(), group=groups, noted=st.booleans())
    def one_is_away_for_long(self, data: st.DataObject, group: Sequence[tuple[object, ...]], noted: bool) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.round()
        self.break_off(client)
        self.write(group)
        self.now_ms += EXPIRY_GRACE_MS + 5
        if noted:
            self.ends_are_noted()
        self.write([("sweep",)])
        self.connect(client)

    @rule(data=st.data())
    def one_connects(self, data: st.DataObject) -> None:
        self.connect(data.draw(st.sampled_from(self.clients)))

    def connect(self, client: Client) -> None:
        """With the last id that came, else with a snapshot, as an SSE client does."""
        if client.subscription is not None:
            return
        subscription = Subscription(client.prefix, sight_of(client.reader))
        try:
            if not client.last_id:
                raise LostPlace
            way = CatchingUp(subscription, self.feed.parse(client.last_id), self.node.store)
        except (LostPlace, ResyncRequired):
            client.seen, client.last_id, client.is_complete = {}, "", False
            way = CatchingUp(subscription, self.feed.head, self.node.store, snapshot=True)
        client.subscription, client.way = subscription, way

    @rule(steps=st.integers(1, 6))
    def all_come_on(self, steps: int) -> None:
        for client in self.clients * steps:
            self.connect(client)
            self.step_of(client)

    def step_of(self, client: Client) -> None:
        way = client.way
        if way is None or client.subscription is None:
            return
        in_snapshot = way.in_snapshot
        try:
            step = way.step(self.node.store, self.feed.head, self.now_ms, self.metadata_of)
        except LostPlace:
            self.break_off(client)
            return
        if step is None:
            client.way = None
            client.is_complete = True
            client.last_id = self.feed.position(way.seq).decode()
            self.feed.join(client.subscription)
            self.what_was_told_is_of_this_moment(client)
            return
        for event in step.events:
            client.hear(event.raw(b"" if in_snapshot else self.feed.position(event.seq)))

    def what_was_told_is_of_this_moment(self, client: Client) -> None:
        """Who has come to the head has what the store holds now, also what the feed has not heard of. (A value that has
        expired may not be noted yet.)"""
        told = {path: event for path, event in client.seen.items() if event["event"] == "put"}
        there = self.state(client)
        lasting = {path: event["uuid"] for path, event in told.items() if path in there or "expires_at" not in event}
        assert lasting == there

    @rule(data=st.data())
    def one_loses_the_connection(self, data: st.DataObject) -> None:
        self.break_off(data.draw(st.sampled_from(self.clients)))

    def break_off(self, client: Client) -> None:
        if client.subscription is not None:
            self.feed.leave(client.subscription)
        client.subscription = client.way = None

    @rule()
    def round(self) -> None:
        by_subscription = {client.subscription: client for client in self.clients}
        for data, subscriptions in self.feed.take(self.metadata_of):
            for subscription in subscriptions:
                by_subscription[subscription].hear(data)

    # --- what must hold ---

    @rule()
    def when_all_is_quiet_everybody_knows_the_state(self) -> None:
        self.write([("lapse",)])
        for client in self.clients * 100:
            self.connect(client)
            self.step_of(client)
        self.round()
        for client in self.clients:
            assert client.way is None
            assert client.is_complete
            told = {path: event["uuid"] for path, event in client.seen.items() if event["event"] == "put"}
            assert told == self.state(client)

    @invariant()
    def nobody_hears_of_what_he_may_not_read(self) -> None:
        for client in self.clients:
            for path in client.seen:
                assert path.encode().startswith(client.prefix)
                assert permits(client.reader, 1, HIDDEN.get(b"d" + path.encode()), "")  # type: ignore[arg-type]

    def state(self, client: Client) -> dict[str, str]:
        found = {}
        for entry in ENTRIES:
            record = self.node.live(entry, self.now_ms)
            readable = permits(client.reader, 1, HIDDEN.get(entry), "")  # type: ignore[arg-type]
            if record is not None and readable and entry[1:].startswith(client.prefix):
                found[entry[1:].decode()] = uuid_text(record.uuid)
        return found

    # --- from words to commands ---

    def metadata_of(self, entry: bytes) -> Metadata | None:
        return HIDDEN.get(entry)

    def command(self, *what: object) -> Command:
        uuid = next(self.uuids).to_bytes(16, "big")
        match what:
            case "put", bytes(entry), int(ttl_ms):
                return Put(entry=entry, uuid=uuid, codec=RAW, payload=b'{"a":\n1}', ttl_ms=ttl_ms)
            case "delete", bytes(entry):
                return Delete(entry=entry, uuid=uuid)
            case "restore", bytes(entry):
                return Restore(entry=entry, uuid=uuid, revision=2)
            case ("lapse",):
                return Lapse(rows=tuple(self.node.rows(EXPIRIES)))
            case ("sweep",):
                return Sweep(rows=(*self.node.rows(EXPIRIES), *self.node.rows(TOMBSTONES)))
            case "discard", bytes(entry):
                return Discard(entries=(entry,), before_ms=self.now_ms + 1)
        raise AssertionError(what)


TestWatched = Watched.TestCase
TestWatched.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_for_long() -> None:
    more = settings(TestWatched.settings, max_examples=3_000, stateful_step_count=60)
    run_state_machine_as_test(Watched, settings=more)
