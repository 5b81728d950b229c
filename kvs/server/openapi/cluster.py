"""The routes of the cluster: its status for operators, and what nodes ask each other."""

from collections.abc import Mapping

from kvs.cluster import messages
from kvs.cluster.transport import MSGPACK
from kvs.server import peer_json, schemas
from kvs.server.cluster_view import ClusterView
from kvs.server.openapi.parts import BINARY, READS, Answer, Body, Operation, json
from kvs.storage.record import JSON

_MEMBERS = list[messages.MemberState]
_MESSAGE = ("invalid_body", "wrong_sender", "invalid_address", "starting", "leaving")
_RECORDS = ("bad_message", "cut_off", "syncing", *READS)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/api/cluster/status"): Operation(
        "readClusterStatus",
        "Show the cluster as this node sees it",
        {200: json("The cluster.", ClusterView)},
        problems=("starting",),
    ),
    ("GET", "/auth/cluster-bootstrap"): Operation(
        "readClusterSecret",
        "Show what a new node needs",
        {200: json("Settings of a new node.", schemas.ClusterSecret)},
        problems=("not_found", "starting"),
    ),
    ("GET", "/members/"): Operation(
        "listMembers", "List the members", {200: json("All of them.", list[messages.MemberView])}
    ),
    ("POST", "/members/join"): Operation(
        "joinMembers",
        "Introduce a node",
        {200: json("All that are known.", _MEMBERS)},
        body=Body("The node.", {JSON: messages.Join}),
        problems=(*_MESSAGE, "this_node", "node_id_taken", "clone_stops", "member_limit"),
    ),
    ("DELETE", "/members/leave"): Operation(
        "leaveMembers",
        "Say that a node is gone, or remove it",
        {204: Answer("It is known.")},
        body=Body("The node.", {JSON: schemas.MemberLeaves}),
        problems=("invalid_body", "starting", "unknown_member", "this_node", "member_is_up"),
    ),
    ("POST", "/members/gossip"): Operation(
        "exchangeMembers",
        "Exchange the member list",
        {200: json("What this node knows.", _MEMBERS)},
        body=Body("What the other one knows.", {JSON: _MEMBERS}),
        problems=(*_MESSAGE, "this_node", "node_id_taken", "clone_stops"),
    ),
    ("POST", "/members/ping"): Operation(
        "ping",
        "Ask whether a node lives",
        {200: json("It does.", messages.PingAck)},
        body=Body("The ping.", {JSON: messages.Ping}),
        problems=(*_MESSAGE, "wrong_node", "this_node", "node_id_taken", "clone_stops", "member_limit"),
    ),
    ("POST", "/members/ping_req"): Operation(
        "pingForAnother",
        "Ask a node to ping another one",
        {200: json("Whether that one answered.", messages.PingReqAck)},
        body=Body("The wish.", {JSON: messages.PingReq}),
        problems=(*_MESSAGE, "this_node", "node_id_taken", "clone_stops", "unknown_member", "member_limit", "stalled"),
    ),
    ("POST", "/members/pairs_by_time"): Operation(
        "listNewest",
        "List the newest values",
        {
            200: Answer("Their versions, newest first.", {JSON: list[schemas.RecordVersion], MSGPACK: BINARY}),
            204: Answer("There is none."),
        },
        body=Body("A span of time.", {JSON: peer_json.TimesAsked, MSGPACK: BINARY}),
        problems=_RECORDS,
    ),
    ("GET", "/merkle_tree/root"): Operation(
        "readRoot", "Show the fingerprint of all records", {200: json("The root.", schemas.Root)}
    ),
    ("POST", "/merkle_tree/diff"): Operation(
        "findDifferences",
        "Find where ranges differ",
        {200: Answer("Where.", {JSON: schemas.DiffShown, MSGPACK: BINARY})},
        body=Body("A range and its fingerprint, or many.", {JSON: peer_json.DiffBody, MSGPACK: BINARY}),
        problems=_RECORDS,
    ),
    ("POST", "/kv_range"): Operation(
        "readRecords",
        "Read the values of a range",
        {200: Answer("The values.", {JSON: schemas.RangeShown, MSGPACK: BINARY})},
        body=Body("The range.", {JSON: peer_json.RangeAsked, MSGPACK: BINARY}),
        problems=_RECORDS,
    ),
    ("POST", "/replicate"): Operation(
        "takeRecords",
        "Take records of another node",
        {200: Answer("What became of each.", {JSON: schemas.ReplicateOutcomes, MSGPACK: BINARY})},
        body=Body("The records.", {JSON: peer_json.SentRecords, MSGPACK: BINARY}),
        problems=("bad_message", "cut_off", "degraded", "stopping"),
    ),
}
