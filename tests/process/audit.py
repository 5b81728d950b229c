"""Read everything back from a node and judge it by the ledger."""

import json
import uuid
from base64 import b64decode
from typing import Any
from urllib.parse import urlencode

from tests.process.daemon import Answer, Client
from tests.process.ledger import Ledger

_DATA = b',"data":'


def value_of(answer: Answer) -> bytes | None:
    """The stored bytes as they were sent; None for 404. Fails for anything but 200 and 404."""
    if answer.status == 404:
        return None
    assert answer.status == 200, (answer.status, answer.body[:300])
    if answer.headers["Content-Type"].startswith("application/json"):
        return answer.body[answer.body.index(_DATA) + len(_DATA) : -1]
    return answer.body


def timestamp_of(answer: Answer) -> int:
    return int(answer.headers.get("X-KVS-Timestamp", 0))


def read_range(client: Client, limit: int = 500) -> dict[str, bytes]:
    """All keys with their values through `/kv/_range`. JSON is written again, without blanks."""
    found: dict[str, bytes] = {}
    cursor = ""
    while True:
        query = {"limit": limit, **({"cursor": cursor} if cursor else {})}
        answer = client.request("GET", f"/kv/_range?{urlencode(query)}")
        assert answer.status == 200, (answer.status, answer.body[:300])
        page = answer.json()
        for pair in page["pairs"]:
            assert pair["path"] not in found, "a key comes twice in one range"
            found[pair["path"]] = stored_bytes(pair["stored_value"])
        cursor = page["next_cursor"] or ""
        if not cursor:
            return found


def stored_bytes(stored: dict[str, Any]) -> bytes:
    if stored.get("encoding") == "base64":
        return b64decode(stored["data"])
    return json.dumps(stored["data"], separators=(",", ":")).encode()


def audit(ledger: Ledger, client: Client, *, write: bool = True) -> int:
    """Check every key by GET and by range, and with `write` that a new write gets a version above all; how many keys.

    Nobody may write meanwhile. Fails with all violations, those found while the load ran included.
    """
    ledger.settle()
    found: dict[str, bytes | None] = {}
    for key in list(ledger.writes):
        answer = client.get(key)
        found[key] = value_of(answer)
        ledger.read(key, found[key], timestamp_of(answer))
    ledger.check_batches(found)
    pages = read_range(client)
    for key in pages.keys() | found.keys():
        ledger.read(key, pages.get(key))
    if write:
        value = json.dumps(uuid.uuid4().hex).encode()
        attempt = ledger.send("audit/new", value)
        answer = client.put("audit/new", value)
        assert answer.status in (200, 201), (answer.status, answer.body[:300])
        ledger.acknowledge(attempt, answer.json()["timestamp"])
    assert not ledger.violations, f"{len(ledger.violations)} violations, such as:\n" + "\n".join(ledger.violations[:20])
    return len(found)
