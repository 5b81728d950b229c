"""The routes of the node itself."""

from collections.abc import Mapping

from kvs.server import schemas
from kvs.server.exposition import CONTENT_TYPE
from kvs.server.openapi.parts import TEXT, Answer, Operation, json
from kvs.storage.record import JSON

_LATER = {"Retry-After": TEXT}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/health"): Operation(
        "readHealth",
        "Show how the node is",
        {
            200: json("It serves.", schemas.Health),
            503: json("It takes no writes, because its disk failed.", schemas.Health, _LATER),
        },
    ),
    ("GET", "/ready"): Operation(
        "readReadiness",
        "Show whether the node takes writes",
        {
            200: json("It does.", schemas.Ready),
            503: json("It does not.", schemas.Ready, _LATER),
        },
    ),
    ("GET", "/metrics"): Operation(
        "readMetrics", "Numbers for Prometheus", {200: Answer("Text.", {CONTENT_TYPE: TEXT})}
    ),
    ("GET", "/openapi.json"): Operation(
        "readDescription", "This document", {200: Answer("OpenAPI 3.1.", {JSON: {"type": "object"}})}
    ),
}
