"""The routes of the audit log."""

from collections.abc import Mapping

from kvs.actions import ACTIONS
from kvs.cluster.audit_heads import HeadsAnswer, HeadsOffer
from kvs.limits import KEY_MAX_BYTES, OWNER_MAX_BYTES
from kvs.server import schemas
from kvs.server.openapi.parts import PAGES, PAGING, QUERY, READS, TEXT, Body, Operation, json, query
from kvs.storage.record import JSON

_ORDER = query(
    "order", "desc: the newest first; asc: the oldest.", {"type": "string", "enum": ["desc", "asc"], "default": "desc"}
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/api/audit"): Operation(
        "readAuditLog",
        "Read the audit log",
        {200: json("A page. Only a `next_cursor` of null is the end.", schemas.AuditPage)},
        (
            query("action", "Only entries of this action.", {"type": "string", "enum": list(ACTIONS)}),
            query(
                "user_uuid",
                "Only what this user did; also `local`, `node`, or empty for nobody that is known.",
                {"type": "string", "maxLength": OWNER_MAX_BYTES},
            ),
            query("since", "Only from this time on, inclusive: RFC 3339, or Unix milliseconds.", TEXT),
            query("until", "Only before this time.", TEXT),
            query(
                "resource",
                "Only entries whose resource begins with this text.",
                {"type": "string", "maxLength": KEY_MAX_BYTES},
            ),
            _ORDER,
            *PAGING,
        ),
        problems=(*PAGES, *READS),
    ),
    ("GET", "/api/audit/heads"): Operation(
        "listAuditHeads",
        "Show the signed heads of the audit log",
        {200: json("A page.", schemas.AuditHeadsPage)},
        (_ORDER, *PAGING),
        problems=(*PAGES, *READS),
    ),
    ("GET", "/api/audit/kept"): Operation(
        "listKeptAuditHeads",
        "Show the heads that are kept of other nodes",
        {200: json("All of them, or those of one node.", schemas.AuditHeadsKept)},
        (query("node_id", "Only those of this node.", TEXT),),
        problems=QUERY,
    ),
    ("POST", "/audit/heads"): Operation(
        "keepAuditHeads",
        "Keep the heads of another node's audit log",
        {200: json("What is kept of that node now.", HeadsAnswer)},
        body=Body("Its heads, the newest last; none to ask only.", {JSON: HeadsOffer}),
        problems=("bad_message", "unknown_member", "degraded", "stopping"),
    ),
}
