"""Asks a node as its peers do: with the cluster's secret, in JSON or in the daemons' binary form."""

import json
from collections.abc import Iterable, Mapping
from itertools import count, pairwise
from typing import Any, NamedTuple, TypeVar

import msgspec

from kvs.cluster import exchange
from kvs.cluster.transport import MSGPACK, pack, unpack
from tests.api.client import Client, Reply

SECRET = "What-0nly-the-nodes-of-this-cluster-know"
CLUSTER: Mapping[str, Any] = {"clustering_enabled": True, "cluster_secret": SECRET}
"""Settings of a node that takes part in a cluster."""

_NO_HEADERS: Mapping[str, str] = {}
_Message = TypeVar("_Message", bound=msgspec.Struct)
_uuids = count(1)


class Peer(Client):
    """A client that shows the cluster's secret and a node's id with each request."""

    def __init__(self, address: tuple[str, int], secret: str = SECRET, node_id: str = "peer1") -> None:
        super().__init__(address)
        self.credentials = {"X-Cluster-Secret": secret, "X-Node-ID": node_id}

    def send(
        self,
        method: str,
        target: str | bytes,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> Reply:
        return super().send(method, target, body, {**self.credentials, **headers})

    def ask(self, target: str, document: object = None, method: str = "POST") -> Any:
        """The answer to a JSON document; it must be a good one."""
        reply = self.send(method, target, None if document is None else json.dumps(document).encode())
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "application/json"
        return reply.json

    def refused(self, target: str, document: object) -> Reply:
        """The refusal of a JSON document; it must be the asker's fault."""
        reply = self.send("POST", target, json.dumps(document).encode())
        assert 400 <= reply.status < 500, reply
        return reply

    def ask_binary(self, target: str, message: msgspec.Struct, kind: type[_Message]) -> _Message:
        """The answer to a binary message; it must be a good one."""
        reply = self.post_binary(target, pack(exchange.encode(message)))
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == MSGPACK
        return exchange.decode(unpack(reply.body), kind)

    def post_binary(self, target: str, body: bytes) -> Reply:
        return self.send("POST", target, body, {"Content-Type": MSGPACK})


class Call(NamedTuple):
    """A call that succeeds at a node with the id `node1`, from one that calls itself `peer1`."""

    status: int
    document: object = None

    @property
    def body(self) -> bytes | None:
        return None if self.document is None else json.dumps(self.document).encode()


PEER1 = {"id": "peer1", "address": "127.0.0.1:9", "joined_timestamp": 1, "incarnation": 1}

PEER_CALLS = {
    ("POST", "/members/join"): Call(200, PEER1),
    ("POST", "/members/gossip"): Call(200, []),
    ("POST", "/members/ping"): Call(200, {"sender": PEER1, "to": "node1"}),
    ("POST", "/members/ping_req"): Call(200, {"sender": PEER1, "target": "node1", "timeout_ms": 100}),
    ("DELETE", "/members/leave"): Call(204, {"id": "peer1"}),
    ("POST", "/members/pairs_by_time"): Call(200, {}),
    ("GET", "/merkle_tree/root"): Call(200),
    ("GET", "/sync/merkle/root"): Call(200),
    ("POST", "/merkle_tree/diff"): Call(200, {"ranges": []}),
    ("POST", "/kv_range"): Call(200, {}),
    ("POST", "/replicate"): Call(200, {"records": []}),
    ("POST", "/audit/heads"): Call(200, {}),
}
"""(Method, path) of every route that asks for the cluster's secret."""

WITH_BODY = sorted(route for route, call in PEER_CALLS.items() if call.document is not None)
BINARY = ("/members/pairs_by_time", "/merkle_tree/diff", "/kv_range", "/replicate")
"""The routes that take the binary form too."""


def sent(path: str, timestamp: int, data: object = 1, **fields: object) -> dict[str, object]:
    """A record as `POST /replicate` takes it, of a node nobody has heard of."""
    uuid = f"00000000-0000-4000-8000-{next(_uuids):012x}"
    given: dict[str, object] = {"path": path, "uuid": uuid, "timestamp": timestamp, "origin": "far"}
    return {**given, "data": data, **fields}


def check_tiles(parent: Mapping[str, str], children: list[dict[str, str]]) -> None:
    """Children cover their parent without a gap and without an overlap, in order."""
    assert children[0]["start_key"] == parent["start_key"]
    assert children[-1]["end_key"] == parent["end_key"]
    for before, behind in pairwise(children):
        assert before["end_key"] == behind["start_key"]
        assert before["start_key"].encode() < before["end_key"].encode()


def walk(peer: Peer) -> tuple[list[str], int]:
    """All keys of a node, found as a tool with nothing of its own finds them by the plain form, and how many
    questions that took."""
    root = peer.ask("/merkle_tree/root", method="GET")["root"]
    found: list[str] = []
    waiting, questions = [root], 0
    while waiting:
        node = waiting.pop(0)
        questions += 1
        answer = peer.ask("/merkle_tree/diff", {"parent_node": node, "local_hash": ""})
        assert set(answer) in ({"children"}, {"keys"}), answer
        if "keys" in answer:
            found += [each["path"] for each in answer["keys"]]
        else:
            check_tiles(node, answer["children"])
            waiting += answer["children"]
    return found, questions


def fill(peer: Peer, *keys: str) -> None:
    """Write 1 under each key."""
    lines = [b'{"op":"put","path":"%b","data":1}' % key.encode() for key in keys]
    reply = peer.post("/kv/_bulk", b"\n".join(lines))
    assert all(result["status"] < 300 for result in reply.json["results"]), reply


def root_hash(peer: Peer) -> str:
    """What the node's records come to."""
    return str(peer.ask("/merkle_tree/root", method="GET")["root"]["hash"])
