"""kvs bench."""

from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import FAILED, LIMITED, OK, Failed, failed
from kvs.daemon.progress import progress
from kvs.daemon.session import Session, Way, in_remote_session
from kvs.daemon.showing import print_json

if TYPE_CHECKING:
    from kvs.client import AsyncClient
    from kvs.daemon.benching import Load, Outcome

_READ_PERCENT = {"read": 100, "write": 0, "mixed": 80}


@click.command("bench")
@click.option(
    "--load", type=click.Choice(list(_READ_PERCENT)), default="mixed", show_default=True, help="What is asked."
)
@click.option("--read-percent", metavar="N", type=click.IntRange(0, 100), help="Of a mixed load: how much is reads.")
@click.option("--seconds", metavar="N", type=click.FloatRange(0.1), default=10, show_default=True, help="How long.")
@click.option(
    "--connections",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Requests that are under way at any time.",
)
@click.option(
    "--keys", metavar="N", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="How many keys."
)
@click.option(
    "--size", metavar="BYTES", type=click.IntRange(12), default=100, show_default=True, help="The size of a value."
)
@click.option(
    "--prefix",
    default="bench/",
    show_default=True,
    shell_complete=complete_key,
    help="Where a folder for the keys is made, which is removed at the end.",
)
@click.option("--keep", is_flag=True, help="Leave the keys there.")
@in_remote_session
def bench_command(
    session: Session,
    load: str,
    read_percent: int | None,
    seconds: float,
    connections: int,
    keys: int,
    size: int,
    prefix: str,
    keep: bool,
) -> int:
    """Put a load on a node and show how many requests it answers, and how long they take.

    This program's own work is in the figures, and the way to the node.
    """
    import asyncio

    import uvloop

    from kvs.client import ClientError, RateLimitedError
    from kvs.daemon.benching import Load

    if read_percent is not None and load != "mixed":
        raise click.UsageError("--read-percent is for a mixed load")
    share = _READ_PERCENT[load] if read_percent is None else read_percent
    wanted = Load(seconds, connections, keys, size, share, f"{prefix}{uuid4().hex[:8]}/")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(_measure(session.way, wanted, keep=keep))
    except asyncio.CancelledError:
        raise click.Abort from None
    except RateLimitedError as error:
        raise Failed(f"{error}; measure a node with a higher rate_limit_requests", LIMITED) from None
    except ClientError as error:
        raise failed(error) from None
    if session.as_json:
        print_json(_document(wanted, outcome))
    else:
        _show(wanted, outcome)
    return FAILED if outcome.refused or not outcome.answered else OK


async def _measure(way: Way, load: "Load", *, keep: bool) -> "Outcome":
    import asyncio
    import signal

    from kvs.daemon import benching

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C does
    chance = Random(SystemRandom().random())  # noqa: S311 - which keys are asked for is no secret
    async with _client(way) as client:
        try:
            with progress("Measuring", None, unit="requests") as show:
                return await benching.run(client, load, chance, show)
        finally:
            if not keep:
                await benching.clean(client, load)


def _client(way: Way) -> "AsyncClient":
    from kvs.client import AsyncClient

    context = way.trust.context() if "https:" in way.url else None
    urls = [url.strip() for url in way.url.split(",")]
    return AsyncClient(*urls, headers=way.headers, retry_s=0, ssl_context=context)


def _document(load: "Load", outcome: "Outcome") -> dict[str, Any]:
    from kvs.daemon.benching import figures, histogram

    kinds = {
        kind: {
            **figures(took, outcome.seconds),
            "histogram": [{"below_ms": bound, "requests": count} for bound, count in histogram(took)],
        }
        for kind, took in outcome.took.items()
        if took
    }
    return {
        "seconds": round(outcome.seconds, 3),
        "connections": load.connections,
        "keys": load.keys,
        "size_bytes": load.size_bytes,
        "read_percent": load.read_percent,
        "per_second": round(outcome.answered / outcome.seconds, 1),
        "refused": dict(outcome.refused),
        **kinds,
    }


def _show(load: "Load", outcome: "Outcome") -> None:
    from kvs.daemon.benching import bars, figures, histogram

    click.echo(
        f"{outcome.answered:,} requests in {outcome.seconds:.1f} s, {outcome.answered / outcome.seconds:,.0f}/s, "
        f"{load.connections} at a time"
    )
    for code, count in outcome.refused.items():
        click.echo(f"refused: {count:,} {code}")
    for kind, took in outcome.took.items():
        if not took:
            continue
        shown = figures(took, outcome.seconds)
        words = ", ".join(
            f"{name.removesuffix('_ms')} {value:g}" for name, value in shown.items() if name[-3:] == "_ms"
        )
        click.echo(f"\n{kind}: {shown['per_second']:,.0f}/s; ms: {words}")
        for line in bars(histogram(took)):
            click.echo(line)
