"""How large clusters fare: simulated, in virtual time, with the product's own decisions and settings."""

from collections.abc import Callable, Sequence

from benchmarks.report import Row, say
from benchmarks.spread import Spread
from tests.sim import growth
from tests.sim.membership import Link, SimNode, World

COPIES_AIM = 3.0
FALSE_DEATHS_AIM = 0.0
_SEEDS = 3
_START_MS = 500
_LOSS = 0.05
_IDLE_MS = 60_000
_LOSSY_MS = 600_000
_WITHIN_MS = 300_000


def measure(sizes: tuple[int, ...]) -> list[Row]:
    """Members and writes in clusters of these sizes. A round is the time from one ping of a node to its next."""
    rows = []
    for nodes in sizes:
        say(f"simulating {nodes:,} nodes")
        rows += _members(nodes) + _writes(nodes)
    return rows


def _members(nodes: int) -> list[Row]:
    messages, joins, deaths = zip(*(_newcomer(nodes, seed) for seed in range(_SEEDS)), strict=True)
    quiet = World(_SEEDS, nodes, link=Link(loss=_LOSS))
    quiet.start_all()
    quiet.run(_LOSSY_MS)
    minutes = _LOSSY_MS // 60_000
    return [
        _row(f"{nodes:,} simulated nodes, {_LOSS:.0%} loss: rounds until all know who joined", joins),
        _row(f"{nodes:,} simulated nodes, {_LOSS:.0%} loss: rounds until all know who died", deaths),
        _row(f"{nodes:,} simulated nodes, {_LOSS:.0%} loss: messages of an idle node in a second", messages),
        _row(
            f"{nodes:,} simulated nodes, {_LOSS:.0%} loss: wrongly taken for dead in {minutes} minutes",
            [float(len(quiet.false_deaths()))],
            aim=FALSE_DEATHS_AIM,
        ),
    ]


def _newcomer(nodes: int, seed: int) -> tuple[float, float, float]:
    """Messages of an idle node in a second; then one more node starts, and dies: the rounds until all others know."""
    world = World(seed, nodes + 1, link=Link(loss=_LOSS))
    *first, newcomer = world.nodes
    for node in first:
        world.after(world.chance.randint(0, _START_MS), node.start_once)
    world.run(_START_MS)
    _until(world, world.is_converged)
    before = world.messages
    world.run(_IDLE_MS)
    messages = (world.messages - before) / nodes / (_IDLE_MS / 1000)
    newcomer.start()
    join_ms = _until(world, lambda: _listed(world, first, newcomer) == {"alive"})
    newcomer.crash(host_too=True)
    death_ms = _until(world, lambda: _listed(world, first, newcomer) <= {"dead", None})
    round_ms = world.settings.probe_interval_ms
    return messages, join_ms / round_ms, death_ms / round_ms


def _until(world: World, condition: Callable[[], bool]) -> int:
    """Virtual ms until it holds."""
    took_ms = world.run_until(condition, _WITHIN_MS)
    if took_ms is None:
        raise RuntimeError(f"{len(world.nodes)} simulated nodes do not agree on their list")
    return took_ms


def _listed(world: World, nodes: Sequence[SimNode], other: SimNode) -> set[str | None]:
    """As what these nodes list another one; None for not at all."""
    return {world.view(node).get(other.id) for node in nodes}


def _writes(nodes: int) -> list[Row]:
    found = growth.measure(nodes)
    what = f"{nodes:,} simulated nodes: "
    return [
        _row(f"{what}hops of a write to the last node that pushes reach", [float(found.hops)]),
        _row(f"{what}copies of a write that a node is sent", [found.copies], aim=COPIES_AIM),
    ]


def _row(what: str, figures: Sequence[float], aim: float | None = None) -> Row:
    spread = Spread.of(figures)
    return Row(what, kvs=f"{spread.median:.3g}", other="", figure=spread, aim=aim, at_least=False)
