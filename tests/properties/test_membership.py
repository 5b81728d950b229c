"""Merging obeys its laws, decoders meet garbage with a refusal, and nothing that a peer says breaks a node."""

from contextlib import suppress
from functools import reduce
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvs.cluster.address import is_address
from kvs.cluster.members import merge, rank
from kvs.cluster.membership_events import Call, Deferred, Failed, Leaving, LoopLag, Remove, Responded, Save, Tick
from kvs.cluster.messages import (
    ROUTES,
    Digest,
    Done,
    Join,
    Leave,
    MemberList,
    MemberState,
    Persisted,
    Ping,
    PingAck,
    PingReq,
    PingReqAck,
    Refused,
    Rumour,
    Status,
    decode,
    encode,
)
from kvs.errors import KvsError
from kvs.limits import MEMBER_LIST_MAX_BYTES, MEMBER_NUMBER_MAX, MEMBERS_MAX, RUMOURS_PER_MESSAGE_MAX
from tests.members import Driven, of

KINDS = (Ping, PingAck, PingReq, PingReqAck, Join, MemberList, Leave, Persisted)

small = st.integers(0, 4)
states_of_one = st.builds(
    MemberState,
    id=st.just("b"),
    address=st.sampled_from(["b:1", "b:2"]),
    last_seen=small,
    joined_timestamp=small,
    status=st.sampled_from(Status),
    incarnation=small,
    instance_id=st.sampled_from(["", "x"]),
)

# --- the laws of merging ---


@given(states_of_one, states_of_one)
def test_merging_is_commutative(a: MemberState, b: MemberState) -> None:
    assert merge(a, b) == merge(b, a)


@given(states_of_one, states_of_one, states_of_one)
def test_merging_is_associative(a: MemberState, b: MemberState, c: MemberState) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(states_of_one, states_of_one)
def test_merging_is_idempotent(a: MemberState, b: MemberState) -> None:
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@given(states_of_one, states_of_one)
def test_merging_never_goes_back(a: MemberState, b: MemberState) -> None:
    merged = merge(a, b)
    assert rank(merged) == max(rank(a), rank(b))
    assert merged.last_seen == max(a.last_seen, b.last_seen)


@given(st.lists(states_of_one, min_size=1, max_size=5))
def test_every_order_of_hearing_ends_alike(states: list[MemberState]) -> None:
    assert len({reduce(merge, order) for order in permutations(states)}) == 1


# --- garbage ---

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.dictionaries(
    st.sampled_from(
        ["sender", "to", "rated", "rumours", "digest", "target", "timeout_ms", "id", "address", "incarnation", "status"]
    ),
    json,
    max_size=6,
)


@pytest.mark.parametrize("kind", KINDS)
@given(raw=st.binary(max_size=200) | st.one_of(json, fields, st.lists(fields, max_size=3)).map(msgspec.json.encode))
@example(raw=b"[" * 100_000)
@example(raw=b'{"sender":' * 50_000)
@example(raw=b'{"id":"\xff"}')
@example(raw=b'{"id":"\\ud800"}')
@example(raw=b'{"incarnation":' + b"9" * 5_000 + b"}")
@settings(max_examples=60, deadline=None)
def test_garbage_is_refused_and_nothing_worse(kind: type[msgspec.Struct], raw: bytes) -> None:
    with suppress(KvsError):
        decode(kind, raw)


@given(st.text(max_size=30) | st.from_regex(r"[0-9a-fx.:\[\]%]{1,20}:[0-9]{1,6}", fullmatch=True))
def test_any_text_is_an_address_or_not(text: str) -> None:
    assert is_address(text) in (True, False)


def longest_state() -> dict[str, Any]:
    return {
        "id": "i" * 255,
        "address": "a" * 253 + ":65535",
        "last_seen": MEMBER_NUMBER_MAX,
        "joined_timestamp": MEMBER_NUMBER_MAX,
        "status": Status.REMOVED,
        "incarnation": MEMBER_NUMBER_MAX,
        "instance_id": "x" * 64,
    }


def test_the_longest_messages_fit_their_limits() -> None:
    state = MemberState(**longest_state())
    digest = Digest(root="f" * 64, count=MEMBER_NUMBER_MAX, gc_floor=MEMBER_NUMBER_MAX)
    rumours = (Rumour(**longest_state(), accuser="i" * 255),) * RUMOURS_PER_MESSAGE_MAX
    ping = Ping(sender=state, to=state.id, rated=state, rumours=rumours, digest=digest)
    members = MemberList((state,) * MEMBERS_MAX)
    assert decode(Ping, encode(ping), ROUTES[Ping].body_max_bytes) == ping
    assert decode(MemberList, encode(members), MEMBER_LIST_MAX_BYTES) == members


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "i" * 256),
        ("id", ""),
        ("id", "a b"),
        ("id", "a\n"),
        ("address", "a" * 260),
        ("address", "ö:1"),
        ("incarnation", -1),
        ("incarnation", MEMBER_NUMBER_MAX + 1),
        ("incarnation", 1.5),
        ("incarnation", True),
        ("last_seen", "1"),
        ("joined_timestamp", None),
        ("status", "zombie"),
        ("instance_id", "x" * 65),
        ("instance_id", "ü"),
    ],
)
def test_a_field_out_of_bounds_is_refused_with_its_name(name: str, value: object) -> None:
    raw = msgspec.json.encode([{**longest_state(), name: value}])
    with pytest.raises(KvsError, match=name):
        decode(MemberList, raw)


def test_too_many_are_refused() -> None:
    state = {"id": "b", "address": "b:1"}
    with pytest.raises(KvsError, match="length"):
        decode(MemberList, msgspec.json.encode([state] * (MEMBERS_MAX + 1)))
    ping = {"sender": state, "to": "a", "rumours": [state] * (RUMOURS_PER_MESSAGE_MAX + 1)}
    with pytest.raises(KvsError, match="length"):
        decode(Ping, msgspec.json.encode(ping))
    with pytest.raises(KvsError, match="larger"):
        decode(Ping, b" " * 101, 100)


# --- a node among liars ---

ids = st.sampled_from(["a", "b", "c", "d"])
numbers = st.sampled_from([0, 1, 2, 1_700_000_000_000, 1_700_000_000_001, MEMBER_NUMBER_MAX - 1, MEMBER_NUMBER_MAX])
state_fields: dict[str, Any] = {
    "id": ids,
    "address": st.sampled_from(["a.example:8080", "b.example:8080", "10.0.0.1:1", "127.0.0.1:1", "nonsense"]),
    "last_seen": numbers,
    "joined_timestamp": numbers,
    "status": st.sampled_from(Status),
    "incarnation": numbers,
    "instance_id": st.sampled_from(["", "disk-of-a", "disk-of-b", "x"]),
}
states = st.builds(MemberState, **state_fields)
rumours_of_any = st.lists(st.builds(Rumour, **state_fields, accuser=st.sampled_from(["", "c", "d"])), max_size=4).map(
    tuple
)
pings = st.builds(Ping, sender=states, to=ids, rated=st.none() | states, rumours=rumours_of_any)
lists = st.lists(states, max_size=5).map(lambda told: MemberList(tuple(told)))
requests = st.one_of(
    pings,
    lists,
    st.builds(PingReq, sender=states, target=ids, timeout_ms=st.just(100), rumours=rumours_of_any),
    st.builds(
        Join,
        **{name: state_fields[name] for name in ("id", "address", "joined_timestamp", "incarnation", "instance_id")},
    ),
    st.builds(Leave, id=ids, incarnation=numbers),
)
responses = st.one_of(
    st.builds(PingAck, sender=states, rated=st.none() | states, rumours=rumours_of_any),
    st.builds(PingReqAck, sender=states, reached=st.booleans(), rumours=rumours_of_any),
    lists,
    st.just(Done()),
    st.builds(Refused, code=st.sampled_from(["wrong_node", "node_id_taken", "this_node", "x"])),
)
steps = st.one_of(
    requests,
    responses,
    st.builds(LoopLag, lag_ms=st.integers(0, 30_000)),
    st.builds(Remove, node_id=ids),
    st.tuples(st.just("fail"), st.booleans()),
    st.tuples(st.just("wait"), st.integers(0, 90_000)),
    st.tuples(st.just("jump"), st.integers(-(10**13), 10**13)),
    st.just(Leaving()),
)


class Story:
    """Carries out steps, and checks after each what must always hold."""

    def __init__(self) -> None:
        self.driven = Driven(seeds=["b.example:8080"])
        self.saved = 0
        self.tickets: list[int] = []

    def step(self, step: Any) -> None:
        driven = self.driven
        before = len(driven.effects)
        if isinstance(step, LoopLag | Remove | Leaving):
            driven.handle(step)
        elif isinstance(step, Ping | PingReq | Join | MemberList | Leave):
            sender = getattr(getattr(step, "sender", step), "id", "b")
            outcome, _ = driven.ask(step, sender)
            if isinstance(outcome, Deferred):
                self.tickets.append(outcome.ticket)
        elif isinstance(step, PingAck | PingReqAck | Done | Refused):
            for call_id in list(driven.under_way)[:1]:
                driven.handle(Responded(call_id, step))
        elif step[0] == "fail":
            for call_id in list(driven.under_way)[:1]:
                driven.handle(Failed(call_id, bool(step[1])))
        elif step[0] == "wait":
            driven.later(int(step[1]))
            driven.handle(Tick())
        else:
            driven.now = driven.now._replace(unix_ms=driven.now.unix_ms + int(step[1]))
        self.check(driven.effects[before:])

    def check(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Save):
                assert effect.state.incarnation >= self.saved
                self.saved = effect.state.incarnation
                assert decode(Persisted, encode(effect.state)) == effect.state
            elif isinstance(effect, Call):
                assert is_address(effect.address)
                assert decode(type(effect.message), encode(effect.message)) == effect.message
        assert self.driven.incarnation == self.saved, "told before it was saved"
        told = self.driven.core.members(self.driven.now)
        assert [m.id for m in told].count("a") == 1
        assert len({m.id for m in told}) == len(told) <= MEMBERS_MAX
        wake_ms = self.driven.core.wake_at_ms
        assert wake_ms is None or wake_ms >= 0


@given(st.lists(steps, max_size=40))
@settings(max_examples=150, deadline=None)
def test_nothing_that_is_said_or_happens_breaks_a_node(story: list[Any]) -> None:
    told = Story()
    told.check(told.driven.effects)
    for step in story:
        told.step(step)
    assert len(of(Call, told.driven.effects)) < 2_000
