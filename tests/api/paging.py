"""Filling a node with keys, and reading them back page by page."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from tests.api.client import Client

PAGES_MAX = 2_000


def fill(client: Client, paths: Iterable[str]) -> None:
    """Write a value under each path: the path itself."""
    items = [json.dumps({"op": "put", "path": path, "data": path}) for path in paths]
    for begin in range(0, len(items), 10_000):
        reply = client.post("/kv/_bulk", "\n".join(items[begin : begin + 10_000]).encode())
        assert {result["status"] for result in reply.json["results"]} <= {200, 201}


def remove(client: Client, paths: Iterable[str]) -> None:
    items = [json.dumps({"op": "delete", "path": path}) for path in paths]
    reply = client.post("/kv/_bulk", "\n".join(items).encode())
    assert {result["status"] for result in reply.json["results"]} <= {204}


def page(client: Client, route: str, **parameters: object) -> Any:
    """One page of `_range` or `_list`, as a document."""
    reply = client.get(f"/kv/{route}?{urlencode(parameters)}")
    assert reply.status == 200, reply
    return reply.json


def pages(client: Client, route: str, **parameters: object) -> list[list[dict[str, Any]]]:
    """What each page holds, up to the last one."""
    name = {"_range": "pairs", "_list": "entries"}[route]
    found: list[list[dict[str, Any]]] = []
    for _ in range(PAGES_MAX):
        document = page(client, route, **parameters)
        assert set(document) == {name, "next_cursor"}
        found.append(document[name])
        if document["next_cursor"] is None:
            return found
        parameters["cursor"] = document["next_cursor"]
    raise AssertionError(f"the pages of {route} do not end")


def paths(client: Client, route: str, **parameters: object) -> list[str]:
    """The paths on all pages, in order."""
    return [entry["path"] for found in pages(client, route, **parameters) for entry in found]
