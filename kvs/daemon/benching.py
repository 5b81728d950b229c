"""Loads of `kvs bench`: requests of one client program, many at once, and how long each took."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log2
from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kvs.client import AsyncClient

READ, WRITE = "read", "write"
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_BAR_CHARS = 40
_FILL = 500
_TELL_EVERY_S = 0.2


class Load(NamedTuple):
    """`read_percent` of the requests are reads. `size_bytes` is that of a value."""

    seconds: float
    connections: int
    keys: int
    size_bytes: int
    read_percent: int
    prefix: str

    def key(self, number: int) -> str:
        return f"{self.prefix}{number:06}"

    def value(self) -> bytes:
        """A JSON document, of about that size."""
        return b'{"value":"%b"}' % (b"x" * max(0, self.size_bytes - len('{"value":""}')))


@dataclass
class Outcome:
    """Seconds of each answered request by its kind, and the codes of refusals."""

    seconds: float = 0.0
    took: dict[str, list[float]] = field(default_factory=lambda: {READ: [], WRITE: []})
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        return sum(map(len, self.took.values()))


async def run(client: "AsyncClient", load: Load, chance: Random, tell: Callable[[int], None]) -> Outcome:
    """Write all keys, then put the load on. `tell` hears how many requests are answered. Raises ClientError for what
    no further request could change."""
    from kvs.client import BulkPut

    value = load.value()
    for start in range(0, load.keys, _FILL):
        numbers = range(start, min(start + _FILL, load.keys))
        results = await client.bulk([BulkPut(load.key(n), value, "application/json") for n in numbers], repeat=True)
        if not results[0].is_ok:
            await client.put(load.key(start), value, content_type="application/json")  # raises why
    outcome = Outcome()
    started_s = time.perf_counter()
    ends_s = started_s + load.seconds
    told = asyncio.create_task(_tell(outcome, tell))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(load.connections):
                group.create_task(_ask(client, load, chance, outcome, ends_s))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        told.cancel()
    outcome.seconds = time.perf_counter() - started_s
    return outcome


async def clean(client: "AsyncClient", load: Load) -> None:
    """Delete the keys of the load."""
    from kvs.client import BulkDelete

    for start in range(0, load.keys, _FILL):
        await client.bulk([BulkDelete(load.key(n)) for n in range(start, min(start + _FILL, load.keys))], repeat=True)


async def _ask(client: "AsyncClient", load: Load, chance: Random, outcome: Outcome, ends_s: float) -> None:
    """One request after the other."""
    from kvs.client import ApiError, RateLimitedError, UnavailableError

    value = load.value()
    while (began_s := time.perf_counter()) < ends_s:
        key = load.key(chance.randrange(load.keys))
        kind = READ if chance.randrange(100) < load.read_percent else WRITE
        try:
            if kind == READ:
                await client.get(key)
            else:
                await client.put(key, value, content_type="application/json")
        except RateLimitedError:
            raise
        except ApiError as error:
            outcome.refused[error.code or str(error.status)] += 1
            if not isinstance(error, UnavailableError):
                raise
        else:
            outcome.took[kind].append(time.perf_counter() - began_s)


async def _tell(outcome: Outcome, tell: Callable[[int], None]) -> None:
    while True:
        await asyncio.sleep(_TELL_EVERY_S)
        tell(outcome.answered)


# --- what comes of it ---


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent are not above (nearest rank)."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def figures(took_s: Sequence[float], seconds: float) -> dict[str, float]:
    """Of one kind of requests; latencies in milliseconds."""
    ordered = sorted(took_s)
    shown: dict[str, float] = {"requests": len(ordered), "per_second": round(len(ordered) / seconds, 1)}
    if ordered:
        shown["mean_ms"] = round(sum(ordered) / len(ordered) * 1000, 3)
        shown |= {f"p{percent:g}_ms": round(percentile(ordered, percent) * 1000, 3) for percent in PERCENTILES}
        shown["max_ms"] = round(ordered[-1] * 1000, 3)
    return shown


def histogram(took_s: Sequence[float]) -> list[tuple[float, int]]:
    """(Upper bound in ms, requests up to it and above the one before); bounds double."""
    counts = Counter(floor(log2(max(one * 1000, 2**-10))) + 1 for one in took_s)
    if not counts:
        return []
    return [(2.0**power, counts[power]) for power in range(min(counts), max(counts) + 1)]


def bars(buckets: Sequence[tuple[float, int]]) -> Iterator[str]:
    most = max((count for _, count in buckets), default=0)
    for bound, count in buckets:
        bar = "█" * ceil(count / most * _BAR_CHARS)
        yield f"{f'< {bound:g} ms':>12}  {count:>8,}  {bar}".rstrip()
