"""Writes of single keys that are made once, whatever happens to nodes and connections.

A node that dies may have a write on its disk that it never answered. Repeating it blindly could put an older value over
what others wrote since. So what became of it is looked for, in the history of the key, on a node that answers:

    there is a version with these bytes, from the time of the write     it was made: this is its version
    the write had a condition                                           it is repeated under the same one
    the current version is older than the write, or there is none       it is repeated, if that is still current
    somebody else has written since                                     nobody can know: OutcomeUnknownError

If the condition does not hold any more, that is an answer only where the history shows that the write was not made: at
the node that got it. Another one may not have heard of it yet.

Times are those of the nodes, as their answers tell them, so the clock of this host does not matter. Nodes whose clocks
differ by seconds can make the third row take a version for older than it is.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvs.client.errors import (
    ApiError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    PreconditionFailedError,
    UnauthorizedError,
    UnreachableError,
)
from kvs.client.http import Answer, Doubt, Http
from kvs.client.model import JSON
from kvs.client.wire import JSON_SPACE, WireRange, WireValue, decode

_MARGIN_MS = 2_000
"""Nodes tell their time in whole seconds."""


@dataclass(frozen=True)
class Write:
    """A PUT, or a DELETE if `raw` is None. `target` is `/kv/…`, `history` where the versions of the key are."""

    target: str
    history: str
    raw: bytes | None
    content_type: str = JSON
    if_match: str | None = None
    if_none_match: str | None = None
    patience_s: float = 0.0
    value: bytes | None = None
    """What will be stored, where that is not the whole of `raw`."""

    @property
    def is_conditional(self) -> bool:
        return self.if_match is not None or self.if_none_match is not None

    def is_made_by(self, version: WireValue) -> bool:
        if self.raw is None or version.deleted:
            return self.raw is None and version.deleted
        value = self.raw if self.value is None else self.value
        if self.content_type == JSON:
            value = value.strip(JSON_SPACE)  # histories do not show what is around a document
        return version.value().raw == value and version.content_type == self.content_type


class Made:
    """What came of it. `answer` is the node's; None if the version was found, or if there is nothing left to delete."""

    def __init__(
        self, answer: Answer | None = None, version: WireValue | None = None, *, is_first: bool = False
    ) -> None:
        self.answer = answer
        self.version = version
        self.is_first = is_first


async def make(http: Http, write: Write) -> Made:
    """Raises ApiError, UnreachableError, OutcomeUnknownError."""
    began_s, began_ms = time.monotonic(), time.time_ns() // 1_000_000
    doubts: list[Doubt] = []
    asked = write
    while True:
        try:
            return Made(await _send(http, asked))
        except Doubt as doubt:
            doubts.append(doubt)
        except PreconditionFailedError as refusal:
            if not doubts:
                raise
            found = await _look(http, write, doubts[-1], at=refusal.url)
            since_ms = _since_ms(http, began_ms, doubts)
            mine = _mine(found, write, since_ms)
            if mine is not None:
                return Made(version=mine, is_first=len(found) == 1)
            is_certain = {doubt.url for doubt in doubts} == {refusal.url}
            if asked is write and is_certain and _goes_back_far_enough(found, write, since_ms):
                raise  # and this write is not in it
            raise OutcomeUnknownError("somebody else wrote the key while this write was in doubt") from refusal
        except NotFoundError:
            if write.raw is None and doubts:
                return Made()
            raise
        if time.monotonic() - began_s > http.retry_s:
            raise _unknown(doubts[-1])
        await asyncio.sleep(0)
        found = await _look(http, write, doubts[-1])
        since_ms = _since_ms(http, began_ms, doubts)
        mine = _mine(found, write, since_ms)
        if mine is not None:
            return Made(version=mine, is_first=len(found) == 1)
        if not write.is_conditional:
            asked = _under_condition(write, found, since_ms, doubts[-1])


async def _send(http: Http, write: Write) -> Answer:
    headers = {}
    if write.raw is not None:
        headers["Content-Type"] = write.content_type
    if write.if_match is not None:
        headers["If-Match"] = _tag(write.if_match)
    if write.if_none_match is not None:
        headers["If-None-Match"] = _tag(write.if_none_match)
    method = "DELETE" if write.raw is None else "PUT"
    return await http.request(method, write.target, body=write.raw, headers=headers, patience_s=write.patience_s)


async def _look(http: Http, write: Write, doubt: Doubt, at: str = "") -> list[WireValue]:
    """The versions of the key, newest first. Raises OutcomeUnknownError when they cannot be seen."""
    try:
        answer = await http.request("GET", write.history, repeatable=True, at=at)
        return decode(answer.body, list[WireValue], answer.url)
    except NotFoundError as error:
        if error.code != "history_disabled":
            return []
    except (UnauthorizedError, ForbiddenError, UnreachableError):
        raise _unknown(doubt) from None
    return await _look_at_value(http, write, doubt, at)


async def _look_at_value(http: Http, write: Write, doubt: Doubt, at: str) -> list[WireValue]:
    """The same where nodes keep no history: one version or none. Lists show blobs and documents alike."""
    target = write.target.partition("?")[0].removeprefix("/kv/")
    try:
        query = f"start_key={target}&end_key={target}&limit=1"
        answer = await http.request("GET", f"/kv/_range?{query}", repeatable=True, at=at)
    except (ApiError, UnreachableError):
        raise _unknown(doubt) from None
    return [
        decode(pair.stored_value, WireValue, answer.url) for pair in decode(answer.body, WireRange, answer.url).pairs
    ]


def _mine(found: Sequence[WireValue], write: Write, since_ms: int) -> WireValue | None:
    return next((one for one in found if one.timestamp >= since_ms and write.is_made_by(one)), None)


def _goes_back_far_enough(found: Sequence[WireValue], write: Write, since_ms: int) -> bool:
    """Whether a history would show this write if it had been made: it has what was there before."""
    return not found or found[-1].timestamp < since_ms or any(one.uuid == write.if_match for one in found)


def _under_condition(write: Write, found: Sequence[WireValue], since_ms: int, doubt: Doubt) -> Write:
    """The write, if the key is still as it was found. Raises OutcomeUnknownError."""
    current = found[0] if found else None
    if current is not None and current.timestamp >= since_ms:
        raise _unknown(doubt)
    if current is None or current.deleted:
        return replace(write, if_none_match="*") if write.raw is not None else write
    return replace(write, if_match=current.uuid)


def _since_ms(http: Http, began_ms: int, doubts: Sequence[Doubt]) -> int:
    """When the write began, by the clock of the node that got it; of another one if it never answered."""
    for url in (doubts[-1].url, *http.endpoints.urls):
        offset_ms = http.offset_ms(url)
        if offset_ms is not None:
            return began_ms + offset_ms - _MARGIN_MS
    return began_ms - _MARGIN_MS


def _unknown(doubt: Doubt) -> OutcomeUnknownError:
    error = OutcomeUnknownError(f"{doubt.url} got the write and did not say what came of it: {doubt}")
    error.__cause__ = doubt.__cause__
    return error


def _tag(text: str) -> str:
    """As it stands in a header field: a version's uuid gets its quotes."""
    return text if text == "*" or text.startswith('"') else f'"{text}"'
