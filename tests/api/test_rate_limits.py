"""So many requests in a window for each user, and for each address where nobody knows who asks."""

from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest

from tests.api.accounts import Place
from tests.api.client import Client, Reply
from tests.api.peers import Peer

LIMIT = 20
WINDOW_S = 60


class Seconds:
    """The clock that requests are counted by; it stands still."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def seconds() -> Iterator[Seconds]:
    clock = Seconds()
    with patch("kvs.server.middleware.monotonic", clock):
        yield clock


@pytest.fixture
def at(seconds: Seconds, make_place: Callable[..., Place]) -> Place:
    return make_place(rate_limit_requests=LIMIT, allow_anonymous_read=True)


def statuses(client: Client, count: int, target: str = "/kv/absent") -> list[int]:
    return [client.get(target).status for _ in range(count)]


def check_limited(reply: Reply) -> int:
    """Returns after how many seconds to come back."""
    assert (reply.status, reply.code) == (429, "rate_limited")
    told = {name: value for name, value in reply.headers.items() if name.startswith("x-rate-limit-")}
    assert told == {
        "x-rate-limit-limit": str(LIMIT),
        "x-rate-limit-remaining": "0",
        "x-rate-limit-window": str(WINDOW_S),
    }
    return int(reply.headers["retry-after"])


def test_a_user_may_ask_so_often(at: Place, seconds: Seconds) -> None:
    person, other = at.user(), at.user()
    assert statuses(person.ask, LIMIT) == [404] * LIMIT
    assert check_limited(person.ask.get("/kv/absent")) == WINDOW_S
    check_limited(at.again(person).ask.put("/kv/x", b"1"))
    second_token = at.caller(at.token(person.uuid))
    check_limited(second_token.get("/kv/absent"))
    assert other.ask.get("/kv/absent").status == 404
    assert at.caller().get("/kv/absent").status == 404
    seconds.now_s += WINDOW_S
    assert person.ask.get("/kv/absent").status == 404


def test_the_window_slides(at: Place, seconds: Seconds) -> None:
    person = at.user()
    statuses(person.ask, 1)
    seconds.now_s += WINDOW_S - 1
    assert statuses(person.ask, LIMIT + 1) == [404] * (LIMIT - 1) + [429, 429]
    seconds.now_s += 1
    assert statuses(person.ask, 2) == [404, 429]
    seconds.now_s += WINDOW_S - 1
    assert statuses(person.ask, LIMIT) == [404] * (LIMIT - 1) + [429]


def test_what_was_refused_does_not_count(at: Place, seconds: Seconds) -> None:
    person = at.user()
    statuses(person.ask, 10 * LIMIT)
    seconds.now_s += WINDOW_S
    assert person.ask.get("/kv/absent").status == 404


def test_the_anonymous_count_by_address(at: Place) -> None:
    person = at.user()
    assert statuses(at.caller(), LIMIT) == [404] * LIMIT
    check_limited(at.caller().get("/kv/absent"))
    for name in ("X_Forwarded_For", "X_Real_IP", "Forwarded", "X_Client_IP", "X_Node_ID"):
        check_limited(at.caller().get("/kv/absent", **{name: "192.0.2.1"}))
    assert person.ask.get("/kv/absent").status == 404


@pytest.mark.parametrize("token", ["worthless", "", "x" * 5_000, "eyJhbGciOiJub25lIn0.e30."])
def test_bad_tokens_count_by_address(at: Place, token: str) -> None:
    bad = at.caller(token)
    assert statuses(bad, LIMIT) == [401] * LIMIT
    check_limited(bad.get("/kv/absent"))
    check_limited(at.caller().get("/kv/absent"))
    assert at.root.ask.get("/kv/absent").status == 404


def test_who_lacks_a_scope_counts_as_himself(at: Place) -> None:
    reader = at.user("read")
    assert [reader.ask.put("/kv/x", b"1").status for _ in range(LIMIT)] == [403] * LIMIT
    check_limited(reader.ask.get("/kv/absent"))
    assert at.caller().get("/kv/absent").status == 404


@pytest.mark.parametrize(("method", "target", "status"), [("GET", "/none", 404), ("PATCH", "/kv/a", 405)])
def test_what_no_route_takes_counts_by_address(at: Place, method: str, target: str, status: int) -> None:
    assert [at.root.ask.send(method, target).status for _ in range(LIMIT)] == [status] * LIMIT
    check_limited(at.root.ask.send(method, target))
    check_limited(at.caller().get("/kv/absent"))
    assert at.root.ask.get("/kv/absent").status == 404


def test_logins_count_too(at: Place) -> None:
    client = at.caller()
    assert [client.call("POST", "/api/login", {}).status for _ in range(LIMIT)] == [400] * LIMIT
    check_limited(client.call("POST", "/api/login", {}))


def test_a_bulk_request_is_one(at: Place) -> None:
    body = b'{"op":"delete","path":"absent"}\n' * (2 * LIMIT)
    assert [at.root.ask.post("/kv/_bulk", body).status for _ in range(2)] == [200, 200]


def test_monitoring_is_never_refused(at: Place) -> None:
    client = at.caller()
    statuses(client, LIMIT)
    for target in ("/health", "/ready"):
        assert statuses(client, 2 * LIMIT, target) == [200] * (2 * LIMIT)
    assert check_limited(client.get("/kv/absent"))


def test_a_body_that_is_not_read_ends_the_connection(at: Place) -> None:
    statuses(at.root.ask, LIMIT)
    reply = at.root.ask.put("/kv/x", iter([b"1" * 100_000] * 3))
    check_limited(reply)
    assert reply.is_last


def test_no_limit_when_it_is_switched_off(seconds: Seconds, make_place: Callable[..., Place]) -> None:
    free = make_place(rate_limit_requests=1, rate_limiting_enabled=False)
    assert statuses(free.root.ask, 3) == [404] * 3


def test_without_authentication_all_count_by_address(seconds: Seconds, make_client: Callable[..., Client]) -> None:
    client = make_client(rate_limit_requests=LIMIT)
    assert statuses(client, LIMIT) == [404] * LIMIT
    for token in ("", "one", "other"):
        check_limited(client.get("/kv/absent", Authorization=f"Bearer {token}"))


# --- the cluster's own routes ---


def test_peers_are_never_refused(seconds: Seconds, make_peer: Callable[..., Peer]) -> None:
    peer = make_peer(rate_limit_requests=LIMIT)
    assert [peer.get("/merkle_tree/root").status for _ in range(2 * LIMIT)] == [200] * (2 * LIMIT)
    stranger = Client(peer.address)
    assert statuses(stranger, 2 * LIMIT, "/members/") == [200] * (2 * LIMIT)
    assert statuses(stranger, LIMIT, "/merkle_tree/root") == [401] * LIMIT
    check_limited(stranger.get("/merkle_tree/root"))
    assert peer.get("/merkle_tree/root").status == 200
    assert stranger.get("/members/").status == 200
    stranger.close()
