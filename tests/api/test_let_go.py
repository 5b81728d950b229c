"""What a request took is free when it is answered or its connection lost: it does not wait for the collector of cycles,
which a node lets come late. A body that an error held in a cycle was megabytes for each refused request."""

import gc
from collections.abc import Callable, Iterator

import pytest
from aiohttp.streams import StreamReader
from aiohttp.web import BaseRequest

from kvs.cluster.exchange import ReplicateRequest, encode
from kvs.errors import KvsError
from kvs.server.connection import Connection
from kvs.server.router import Call
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import data_key
from tests.api.accounts import NOBODY, Place
from tests.api.client import Client, request
from tests.api.peers import PEER1, Peer
from tests.api.wire import Wire
from tests.process.eventually import eventually
from tests.records import record

_BIG = b'"%b"' % bytes(100_000).replace(b"\x00", b"x")
_TEXT = {"Content-Type": "text/plain"}
_ANSWERED = {
    "written": (request("PUT", "/kv/{key}", _BIG), 201),
    "read": (request("GET", "/kv/{key}/there"), 200),
    "not there": (request("GET", "/kv/{key}/none"), 404),
    "no route": (request("GET", "/none"), 404),
    "wrong method": (request("PUT", "/health", _BIG), 405),
    "bad key": (request("PUT", "/kv//{key}", _BIG), 400),
    "not JSON": (request("PUT", "/kv/{key}", b'"%b"' % (b"\xff" * 100_000)), 400),
    "too deep": (request("PUT", "/kv/{key}", b"[" * 100_000), 400),
    "bad time to live": (request("PUT", "/kv/{key}?ttl=never", _BIG), 400),
    "too large": (request("PUT", "/kv/{key}", b"1" * (1024 * 1024 + 1)), 413),
    "compressed": (request("PUT", "/kv/{key}", _BIG, {"Content-Encoding": "gzip"}), 415),
    "condition does not hold": (request("PUT", "/kv/{key}/there", _BIG, {"If-None-Match": "*"}), 412),
    "deleted what was not there": (request("DELETE", "/kv/{key}/none"), 404),
    "restored what was not there": (
        request("POST", "/api/data/{key}/none/history/1/restore"),
        404,
    ),
    "bulk of bad items": (request("POST", "/kv/_bulk", b"[%b1]" % (b"1, " * 9_000)), 200),
    "bulk with a bad item": (
        request("POST", "/kv/_bulk", b'[{"op": "put", "path": "a//b", "data": %b}]' % _BIG),
        200,
    ),
    "listed": (request("GET", "/kv/_range?prefix={key}/"), 200),
    "bad cursor": (request("GET", "/kv/_range?cursor=none"), 400),
    "watched from nowhere": (request("GET", "/watch?since=none"), 400),
    "an upgrade that is none": (
        request("GET", "/kv/{key}/there", None, {"Connection": "Upgrade", "Upgrade": "websocket"}) + _BIG,
        200,
    ),
    "not HTTP": (b"\x00garbage\r\n\r\n" + _BIG, 400),
    "chunks that are none": (
        b"PUT /kv/{key} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186a2\r\n%b\r\nzzz\r\n" % _BIG,
        400,
    ),
    "chunks that are too many": (
        b"PUT /kv/{key} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + b"1" * 0x200000,
        413,
    ),
}
_UNANSWERED = {
    "half a body": b"PUT /kv/{key} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + _BIG,
    "half a blob": b"PUT /kv/{key} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 8000000\r\n\r\n"
    + bytes(1_000_000),
    "many writes": request("PUT", "/kv/{key}", _BIG) * 20,
    "half a request behind a write": request("PUT", "/kv/{key}", _BIG) + b"GET /kv/",
    "a stream behind a write": request("PUT", "/kv/{key}", _BIG) + request("GET", "/watch?prefix={key}/"),
    "a stream": request("GET", "/watch?prefix={key}/&snapshot=true"),
}


@pytest.fixture
def without_collector() -> Iterator[Callable[[], bool]]:
    """Says whether all objects of requests and connections since are gone."""
    gc.collect()
    before = _held()
    gc.disable()
    yield lambda: not _held() - before
    gc.enable()


def _held() -> set[int]:
    kinds = (BaseRequest, Call, Connection, KvsError, StreamReader)
    return {id(found) for found in gc.get_objects() if issubclass(type(found), kinds)}


def _ask(wire: Wire, sent: bytes, key: str) -> int:
    wire.write(sent.replace(b"{key}", key.encode()))
    reply = wire.reply()
    return 0 if reply is None else reply.status


@pytest.mark.parametrize("kind", _ANSWERED)
def test_an_answer_lets_go_of_its_request(
    client: Client, key: str, without_collector: Callable[[], bool], kind: str
) -> None:
    sent, status = _ANSWERED[kind]
    with Wire(client.address) as wire:
        assert _ask(wire, request("PUT", "/kv/{key}/there", b"1"), key) == 201
        assert _ask(wire, sent, key) == status
    assert eventually(without_collector, 10)


@pytest.mark.parametrize("kind", _UNANSWERED)
def test_a_lost_connection_lets_go_of_what_it_brought(
    client: Client, key: str, without_collector: Callable[[], bool], kind: str
) -> None:
    with Wire(client.address) as wire:
        assert _ask(wire, request("PUT", "/kv/{key}/there", b"1"), key) == 201
        wire.write(_UNANSWERED[kind].replace(b"{key}", key.encode()))
    assert eventually(without_collector, 10)


def test_a_request_that_is_not_let_in_is_let_go_of(at: Place, key: str, without_collector: Callable[[], bool]) -> None:
    reader = at.user("read").ask.authorization
    with Wire(at.node.address) as wire:
        for authorization, status in (("", 401), ("Bearer forged", 401), (reader, 403)):
            assert _ask(wire, request("PUT", "/kv/{key}", _BIG, {"Authorization": authorization}), key) == status
    at.root.ask.close()
    assert eventually(without_collector, 10)


def test_a_refused_account_is_let_go_of(at: Place, without_collector: Callable[[], bool]) -> None:
    root, nobody = at.caller(at.root.ask.authorization.removeprefix("Bearer ")), at.caller()
    assert root.call("POST", "/api/users", {"nickname": "root"}).status == 409
    assert root.call("DELETE", f"/api/users/{NOBODY}").status == 404
    assert nobody.call("POST", "/api/login", {"nickname": "root", "password": "wrong"}).status == 401
    for caller in (root, nobody, at.root.ask):
        caller.close()
    assert eventually(without_collector, 10)


def test_a_refused_message_of_a_peer_is_let_go_of(peer: Peer, without_collector: Callable[[], bool]) -> None:
    good = encode_record(record(payload=_BIG))
    bad = encode(ReplicateRequest([(data_key(b"good"), good), (data_key(b"/bad"), good)]))
    assert peer.post_binary("/replicate", bad).status == 200
    peer.refused("/members/ping", {"sender": PEER1, "to": "another"})
    peer.refused("/members/join", {**PEER1, "id": "another"})
    peer.close()
    assert eventually(without_collector, 10)
