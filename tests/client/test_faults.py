"""Answers that are lost, nodes that refuse, and several nodes: nothing is written twice, nothing is told wrong."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from kvs.client import (
    ApiError,
    BulkPut,
    Client,
    OutcomeUnknownError,
    PreconditionFailedError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
    UnreachableError,
)
from tests.api.running import RunningNode
from tests.client.conftest import url_of
from tests.client.faults import LOST, PASS, UNANSWERED, Fault, FaultyProxy, answered

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def proxy(node: RunningNode) -> Iterator[FaultyProxy]:
    made = FaultyProxy(node.address)
    yield made
    made.close()


@pytest.fixture
def make_client() -> Iterator[Callable[..., Client]]:
    with ExitStack() as ends:
        yield lambda *urls, **options: ends.enter_context(Client(*urls, **{"retry_s": 5, "timeout_s": 5, **options}))


@pytest.fixture
def faulty(proxy: FaultyProxy, make_client: Callable[..., Client]) -> Client:
    """Behind the proxy."""
    return make_client(proxy.url)


def puts(proxy: FaultyProxy) -> int:
    return sum(request.method in ("PUT", "DELETE", "POST") for request in proxy.seen)


def versions(client: Client, key: str) -> list[object]:
    """What the key ever held, newest first."""
    return [revision.value and revision.value.data for revision in client.history(key)]


# --- reads ---


@pytest.mark.parametrize("fault", [LOST, UNANSWERED, answered(502), answered(504), answered(503, "degraded")])
def test_reads_are_repeated(faulty: Client, client: Client, proxy: FaultyProxy, key: str, fault: Fault) -> None:
    client.put(key, 1)
    proxy.faults.extend([fault, fault])
    assert faulty.get(key).data == 1
    assert len(proxy.seen) == 3


def test_reads_are_repeated_for_a_while_only(proxy: FaultyProxy, make_client: Callable[..., Client], key: str) -> None:
    impatient = make_client(proxy.url, retry_s=0)
    proxy.faults.extend([answered(503, "degraded", Retry_After="1")] * 2)
    with pytest.raises(UnavailableError) as caught:
        impatient.get(key)
    assert (caught.value.code, caught.value.retry_after_s) == ("degraded", 1.0)
    proxy.faults.clear()
    proxy.faults.extend([LOST] * 2)
    with pytest.raises(UnreachableError):
        impatient.get(key)
    assert len(proxy.seen) == 2


@pytest.mark.parametrize("fault", [answered(500, "internal"), answered(503, "corrupt_record"), answered(418)])
def test_what_does_not_get_better_is_not_repeated(faulty: Client, proxy: FaultyProxy, key: str, fault: Fault) -> None:
    proxy.faults.append(fault)
    with pytest.raises(ApiError) as caught:
        faulty.get(key)
    assert (caught.value.status, len(proxy.seen)) == (fault.status, 1)


def test_a_node_that_takes_too_long(
    proxy: FaultyProxy, make_client: Callable[..., Client], client: Client, key: str
) -> None:
    client.put(key, 1)
    hasty = make_client(proxy.url, timeout_s=0.2)
    proxy.faults.append(Fault("hangs"))
    assert hasty.get(key).data == 1


def test_what_answers_may_be_something_else(faulty: Client, proxy: FaultyProxy, key: str) -> None:
    proxy.faults.append(Fault("answer", 200, {"hello": 1}))
    with pytest.raises(ProtocolError):
        faulty.get(key)
    proxy.faults.append(Fault("answer", 200, {"pairs": "none"}))
    with pytest.raises(ProtocolError):
        list(faulty.range(key))


def test_a_node_that_is_not_well_says_so_at_once(
    proxy: FaultyProxy, make_client: Callable[..., Client], url: str
) -> None:
    """It is not waited for until it is well: how it is now is what was asked."""
    alone = make_client(proxy.url, retry_s=60)
    proxy.faults.extend([answered(503, "degraded", Retry_After="60")] * 3)
    started_s = time.monotonic()
    assert [alone.health()["code"], alone.health()["code"], alone.ready()] == ["degraded", "degraded", False]
    assert time.monotonic() - started_s < 30
    assert len(proxy.seen) == 3
    both = make_client(proxy.url, url)
    proxy.faults.append(answered(503, "degraded", Retry_After="60"))
    assert both.ready()


# --- limits ---


def test_who_is_limited_waits_as_long_as_he_is_told(
    proxy: FaultyProxy, make_client: Callable[..., Client], url: str, key: str
) -> None:
    """And does not go to the other node meanwhile."""
    both = make_client(proxy.url, url)
    proxy.faults.append(answered(429, "rate_limited", Retry_After="1"))
    both.put(key, 1)
    assert puts(proxy) == 2
    proxy.faults.append(answered(429, "rate_limited", Retry_After="60"))
    with pytest.raises(RateLimitedError) as caught:
        both.put(key, 2)
    assert caught.value.retry_after_s == 60.0


# --- writes whose answer is lost ---


def test_an_unconditional_write_that_was_made_is_not_made_again(
    faulty: Client, client: Client, proxy: FaultyProxy, key: str
) -> None:
    client.put(key, "before")
    faulty.health()
    proxy.faults.append(UNANSWERED)
    made = faulty.put(key, "mine")
    assert puts(proxy) == 1
    assert versions(client, key) == ["mine", "before"]
    assert client.get(key).uuid == made.uuid


def test_a_write_that_was_not_made_is_made(faulty: Client, client: Client, proxy: FaultyProxy, key: str) -> None:
    faulty.health()
    proxy.faults.append(LOST)
    made = faulty.put(key, "mine")
    assert (client.get(key).uuid, versions(client, key)) == (made.uuid, ["mine"])
    assert proxy.seen[-1].headers["if-none-match"] == "*"


@pytest.mark.parametrize("fault", [LOST, UNANSWERED])
def test_the_first_request_of_all_may_get_lost(
    faulty: Client, client: Client, proxy: FaultyProxy, key: str, fault: Fault
) -> None:
    """No node has told its time yet."""
    proxy.faults.append(fault)
    faulty.put(key, "mine")
    assert versions(client, key) == ["mine"]


@pytest.mark.parametrize("fault", [LOST, UNANSWERED])
@pytest.mark.parametrize("condition", ["if_match", "if_none_match"])
def test_a_conditional_write_is_repeated_under_its_condition(
    faulty: Client, client: Client, proxy: FaultyProxy, key: str, fault: Fault, condition: str
) -> None:
    """Its own first attempt does not make it fail."""
    given = {"if_none_match": "*"} if condition == "if_none_match" else {"if_match": client.put(key, "before").uuid}
    faulty.health()
    proxy.faults.append(fault)
    made = faulty.put(key, "mine", **given)  # type: ignore[arg-type]
    assert client.get(key).uuid == made.uuid
    assert versions(client, key) == (["mine"] if condition == "if_none_match" else ["mine", "before"])


def test_somebody_else_was_quicker(faulty: Client, client: Client, proxy: FaultyProxy, key: str) -> None:
    """The condition does not hold any more, and the write is not in the history: it failed, and that is certain as the
    history goes back far enough."""
    before = client.put(key, "before")
    faulty.health()
    proxy.faults.append(LOST)
    client.put(key, "theirs", if_match=before.uuid)
    with pytest.raises(PreconditionFailedError):
        faulty.put(key, "mine", if_match=before.uuid)
    assert versions(client, key) == ["theirs", "before"]


def test_a_write_that_was_overwritten_meanwhile_does_not_come_back(
    faulty: Client, client: Client, proxy: FaultyProxy, key: str
) -> None:
    faulty.health()
    proxy.faults.append(UNANSWERED._replace(meanwhile=lambda: client.put(key, "theirs")))
    made = faulty.put(key, "mine")
    assert versions(client, key) == ["theirs", "mine"]
    assert client.history(key)[1].uuid == made.uuid


def test_what_nobody_can_know_is_said(faulty: Client, client: Client, proxy: FaultyProxy, key: str) -> None:
    """Somebody else wrote in the same moment, and the history does not tell whether this write was made before that."""
    faulty.health()
    proxy.faults.append(LOST)
    client.put(key, "theirs")
    with pytest.raises(OutcomeUnknownError):
        faulty.put(key, "mine")
    assert versions(client, key) == ["theirs"]


@pytest.mark.parametrize("fault", [LOST, UNANSWERED])
def test_a_delete_whose_answer_is_lost(
    faulty: Client, client: Client, proxy: FaultyProxy, key: str, fault: Fault
) -> None:
    client.put(key, 1)
    faulty.health()
    proxy.faults.append(fault)
    if fault is LOST:
        with pytest.raises(OutcomeUnknownError):  # the value is as young as the attempt to delete it
            faulty.delete(key)
        return
    faulty.delete(key)
    assert versions(client, key) == [None, 1]


def test_a_lost_answer_that_hangs(
    proxy: FaultyProxy, make_client: Callable[..., Client], client: Client, key: str
) -> None:
    hasty = make_client(proxy.url, timeout_s=0.3)
    hasty.health()
    proxy.faults.append(Fault("hangs"))
    hasty.put(key, "mine")
    assert (puts(proxy), versions(client, key)) == (1, ["mine"])


def test_without_a_history_the_value_tells(
    make_node: Callable[..., RunningNode], make_client: Callable[..., Client], key: str
) -> None:
    node = make_node(revision_history_enabled=False)
    proxy = FaultyProxy(node.address)
    faulty, direct = make_client(proxy.url), make_client(url_of(node.address))
    faulty.health()
    for raw in ("a document", b"bytes"):
        proxy.faults.append(UNANSWERED)
        made = faulty.put(key, raw)
        assert direct.get(key).uuid == made.uuid
    assert puts(proxy) == 2
    faulty.close()
    proxy.close()


def test_connections_that_broke_while_idle_make_no_second_write(
    faulty: Client, client: Client, proxy: FaultyProxy, key: str
) -> None:
    """The HTTP library would repeat a PUT by itself when a connection that it kept breaks."""
    for number in range(5):
        faulty.get(key) if number else faulty.put(key, "before")
        proxy.faults.append(UNANSWERED)
        faulty.put(f"{key}/{number}", number)
        assert versions(client, f"{key}/{number}") == [number]
    assert sum(request.method == "PUT" for request in proxy.seen) == 6


# --- other writes ---


def test_what_cannot_be_looked_for_is_not_repeated(
    faulty: Client, client: Client, proxy: FaultyProxy, key: str
) -> None:
    client.put(key, 1)
    client.put(key, 2)
    for ask in (
        lambda: faulty.restore(key, 2),
        lambda: faulty.bulk([BulkPut(f"{key}/bulk", 1)]),
        lambda: faulty.set_metadata(key, permissions=0xFFF),
        lambda: faulty.call("DELETE", f"/kv/{key}/bulk"),
    ):
        proxy.faults.append(UNANSWERED)
        before = puts(proxy)
        with pytest.raises(OutcomeUnknownError):
            ask()
        assert puts(proxy) == before + 1


def test_bulk_is_repeated_if_that_does_no_harm(faulty: Client, proxy: FaultyProxy, key: str) -> None:
    proxy.faults.extend([UNANSWERED, LOST])
    (result,) = faulty.bulk([BulkPut(key, 1)], repeat=True)
    assert (result.status, puts(proxy)) == (200, 3)


# --- several nodes ---


def test_a_node_that_is_not_there_is_passed_over(make_client: Callable[..., Client], url: str, key: str) -> None:
    both = make_client(NOWHERE, url)
    both.put(key, 1)
    assert both.get(key).data == 1


def test_one_attempt_at_each_node_is_made_in_any_case(make_client: Callable[..., Client], url: str, key: str) -> None:
    impatient = make_client(NOWHERE, "http://127.0.0.1:10", url, retry_s=0)
    impatient.put(key, 1)
    with pytest.raises(UnreachableError):
        make_client(NOWHERE, "http://127.0.0.1:10", retry_s=0).put(key, 1)


@pytest.mark.parametrize("code", ["syncing", "clock_skew", "starting", "leaving", "read_only"])
def test_a_node_that_takes_no_writes_is_passed_over(
    proxy: FaultyProxy, make_client: Callable[..., Client], url: str, key: str, code: str
) -> None:
    both = make_client(proxy.url, url)
    proxy.faults.append(answered(403 if code == "read_only" else 503, code, Retry_After="1"))
    both.put(key, 1)
    assert (puts(proxy), both.get(key).data) == (1, 1)


def test_the_client_stays_with_the_node_that_answered(
    proxy: FaultyProxy, make_client: Callable[..., Client], url: str, key: str
) -> None:
    """There is what it has written."""
    both = make_client(proxy.url, url)
    both.put(key, 1)
    proxy.faults.append(LOST)
    for _ in range(10):
        assert both.get(key).data == 1
    assert len(proxy.seen) == 2


def test_a_write_whose_answer_is_lost_is_looked_for_at_the_other_node(
    proxy: FaultyProxy, make_client: Callable[..., Client], client: Client, url: str, key: str
) -> None:
    both = make_client(proxy.url, url)
    both.health()
    proxy.faults.append(UNANSWERED)
    both.put(key, "mine")
    proxy.faults.append(PASS)
    assert versions(client, key) == ["mine"]


def test_a_node_that_lags_behind_does_not_say_that_a_write_failed(
    proxy: FaultyProxy,
    make_client: Callable[..., Client],
    make_node: Callable[..., RunningNode],
    client: Client,
    key: str,
) -> None:
    """The one that got it is gone; the other one has never heard of the version before."""
    other = make_node()
    both = make_client(proxy.url, url_of(other.address))
    before = both.put(key, "before")
    proxy.faults.append(UNANSWERED)
    with pytest.raises(OutcomeUnknownError):
        both.put(key, "mine", if_match=before.uuid)
    assert versions(client, key) == ["mine", "before"]
