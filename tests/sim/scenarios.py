"""Questions that a run of chaos does not ask, each in a cluster that is made for it. All raise Violation.

steady      while clients write without a pause, what a push could not deliver arrives soon nevertheless
spread      where nodes send on what is new to them, that ends when all have it
filled      a new node takes writes when it has everything, and not before
together    nodes that were never filled, each with the others as seeds, do not wait for each other
leapt       a clock that leaps ahead for a while takes nobody's values away
bereft      nodes that lost their disks, and meet each other first, take nothing from the one that has everything
waited      deletions wait for a member that is cut off, and it loses nothing of what it wrote meanwhile
stranger    what a node deleted before it met anybody stays deleted
kept_back   a value that expired while its node was cut off does not give way to the one before it
returned    who was away for so long that deletions were forgotten brings nothing back
replaced    nor does it where all others were replaced meanwhile, one by one, and never heard of it
parted      nor do the halves of a cluster that were cut off from each other for so long
hasty       nor what was written so shortly before the cut that nobody had proven yet that both have it
doubted     a node that set records aside takes its own lack of them for no deletion
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from kvs.storage.state import FILLED_ROW
from tests.precedence import precedence
from tests.sim.checkers import check_acknowledged, check_rows, differences
from tests.sim.clients import Clients
from tests.sim.history import LOWEST, contents
from tests.sim.network import Link
from tests.sim.setup import LEAP_MAX_MS, Setup, draw
from tests.sim.simcluster import SimCluster
from tests.sim.tuning import tuned
from tests.sim.world import Violation

_LATE_MS = 8_000
"""A write that some node lacks after so long was not pushed, nor was the comparison made that should follow."""
_EQUAL_WITHIN_MS = 90_000
_KEYS = 60
_DAY_MS = 86_400_000
_RETENTION_MS = 2_000
_SHORT_MEMORY = {"REMEMBER_MIN_MS": 1_000, "FLOOR_SAVE_STEP_MS": 100}
"""Limits with which a node that is silent for the retention is forgotten, and the floor moves on, within seconds."""


def _peaceful(seed: int, limits: Mapping[str, int | float]) -> Setup:
    """Three nodes of which nothing is spoilt; the limits are the product's, but for these."""
    setup = draw(seed)
    return setup._replace(
        nodes=3,
        seeds=2,
        traffic=setup.traffic._replace(keys=_KEYS, pause_ms=20, twins=0.0),
        link=Link(delay_max_ms=30),
        limits={**{name: setup.limits[name] for name in ("RETRY_INTERVAL_MS", "REUNION_PAUSE_MS")}, **limits},
        faults=(),
        fsync=True,
        skew_ms=20,
        retention_ms=10 * _DAY_MS,
        member_timeout_ms=5_000,
        fill_age_ms=_DAY_MS,
        push_enabled=True,
        sweep_ms=500,
    )


@contextmanager
def _cluster(seed: int, setup: Setup) -> Iterator[tuple[SimCluster, Clients]]:
    """All hosts but the last are on and hold the same."""
    with tuned(setup.limits):
        cluster = SimCluster(seed, setup)
        for host in cluster.hosts[:-1]:
            host.start()
        _wait_until_equal(cluster)
        yield cluster, Clients(cluster, setup.traffic)


def _wait_until_equal(cluster: SimCluster) -> None:
    if cluster.world.run_until(lambda: not differences(cluster), _EQUAL_WITHIN_MS) is None:
        raise Violation(f"not equal: {differences(cluster)[:3]}")
    for process in cluster.processes():
        check_rows(process)


def steady(seed: int) -> None:
    setup = _peaceful(seed, {"OUTBOX_MAX_RECORDS": 1})
    with _cluster(seed, setup._replace(sync_interval_ms=3_600_000)) as (cluster, clients):
        clients.go()
        acked = cluster.history.acked
        for _ in range(5):
            cluster.world.run(2_000)
            due = {entry: max(map(precedence, records)) for entry, records in acked.items() if records}
            cluster.world.run(_LATE_MS)
            for process in cluster.processes():
                for entry, rank in due.items():
                    if process.disk.witness.high.get(entry, LOWEST) < rank:
                        raise Violation(f"{process.host.name} still lacks {cluster.history.known(entry, rank)}")


def spread(seed: int) -> None:
    with _cluster(seed, _peaceful(seed, {"PUSH_TO_ALL_MAX": 1})) as (cluster, clients):
        cluster.hosts[-1].start()
        _wait_until_equal(cluster)
        clients.put(cluster.processes()[0], clients.keys[0])
        cluster.world.run(1_000)
        _wait_until_equal(cluster)
        pushed = cluster.counts["pushed"]
        cluster.world.run(500)
        if cluster.counts["pushed"] != pushed:
            raise Violation(f"{cluster.counts['pushed'] - pushed} records were pushed to nodes that have them")


def filled(seed: int) -> None:
    with _cluster(seed, _peaceful(seed, {"FETCH_KEYS_MAX": 7})) as (cluster, clients):
        for entry in clients.keys:
            clients.put(cluster.processes()[0], entry)
        cluster.world.run(1_000)
        _wait_until_equal(cluster)
        newcomer = cluster.hosts[-1]
        newcomer.start()
        process = newcomer.process
        assert process is not None
        cluster.world.run_until(lambda: process.shell.replica.mode == "settled", _EQUAL_WITHIN_MS, step_ms=1)
        missing = set(clients.keys) - contents(newcomer.disk.store).keys()
        if missing:
            raise Violation(f"a node takes writes that lacks {len(missing)} of {len(clients.keys)} keys")


def together(seed: int) -> None:
    """What all, some or none of them held alone before, all hold soon."""
    setup = _peaceful(seed, {})._replace(nodes=2 + seed % 2, fill_patience_ms=30_000)
    with tuned(setup.limits):
        cluster = SimCluster(seed, setup)
        clients = Clients(cluster, setup.traffic)
        cluster.network.groups = {host.name: number for number, host in enumerate(cluster.hosts)}
        for host in cluster.hosts:
            host.start()
        cluster.world.run(setup.fill_patience_ms + 1_000)
        for process in cluster.processes()[: seed // 2 % (setup.nodes + 1)]:
            for entry in clients.keys:
                clients.put(process, entry)
        cluster.world.run(1_000)
        for host in cluster.hosts:
            host.kill()
            host.disk.store.commit({FILLED_ROW: None})
        cluster.network.heal()
        for host in cluster.hosts:
            host.start()
        there = cluster.processes()
        if cluster.world.run_until(lambda: all(one.shell.replica.mode == "settled" for one in there), 2_000) is None:
            raise Violation("nodes that start together wait for each other")
        if cluster.world.run_until(lambda: not differences(cluster), 5_000) is None:
            raise Violation(f"not equal: {differences(cluster)[:3]}")
        check_acknowledged(cluster)


def leapt(seed: int) -> None:
    """Values with a time to live that were written over others: their tombstones would reach all nodes."""
    with _cluster(seed, _peaceful(seed, {})) as (cluster, clients):
        cluster.hosts[-1].start()
        _wait_until_equal(cluster)
        for ttl_ms in (0, _DAY_MS):
            for entry in clients.keys:
                clients.put(cluster.processes()[0], entry, ttl_ms=ttl_ms)
            cluster.world.run(1_000)
        _wait_until_equal(cluster)
        clock = cluster.hosts[-1].clock
        clock.jump(LEAP_MAX_MS)
        cluster.world.run(6_000)
        clock.mend(0)
        _wait_until_equal(cluster)
        _check_nothing_gone(cluster, clients.keys, "to a clock that was ahead")


def waited(seed: int) -> None:
    """The member stays in the list, so that it does not count as away, whatever the retention is."""
    setup = _peaceful(seed, _SHORT_MEMORY)._replace(retention_ms=_RETENTION_MS, member_timeout_ms=_DAY_MS)
    with _cluster(seed, setup) as (cluster, clients):
        cut_off = cluster.hosts[-1]
        _share_all_keys(cluster, clients)
        cluster.history.may_set_aside = False
        cluster.network.groups = {cut_off.name: 1}
        gone, written = clients.keys[: _KEYS // 2], clients.keys[_KEYS // 2 :]
        cluster.world.run(3_000)
        there, alone = cluster.processes()[0], cut_off.process
        assert alone is not None
        for entry in gone:
            clients.delete(there, entry)
        for entry in written:
            clients.put(alone, entry)
        cluster.world.run(20 * _RETENTION_MS)
        cluster.network.heal()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_gone(cluster, gone)
        check_acknowledged(cluster)


def bereft(seed: int) -> None:
    with _cluster(seed, _peaceful(seed, _SHORT_MEMORY)) as (cluster, clients):
        _share_all_keys(cluster, clients)
        *bereft, keeper = cluster.hosts
        keeper.kill()
        for host in bereft:
            cluster.wipe(host)
            host.start()
        _wait_until_equal(cluster)
        cluster.world.run(10_000)
        keeper.start()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        check_acknowledged(cluster)


def stranger(seed: int) -> None:
    """The others hold older versions of the same keys."""
    setup = _peaceful(seed, _SHORT_MEMORY)._replace(retention_ms=_RETENTION_MS, fill_patience_ms=1_000)
    with _cluster(seed, setup) as (cluster, clients):
        for entry in clients.keys:
            clients.put(cluster.processes()[0], entry)
        newcomer = cluster.hosts[-1]
        cluster.network.groups = {newcomer.name: 1}
        newcomer.start()
        process = newcomer.process
        assert process is not None
        cluster.world.run(3_000)
        for write in (clients.put, clients.delete):
            for entry in clients.keys:
                write(process, entry)
            cluster.world.run(1_000)
        cluster.world.run(5 * _RETENTION_MS)
        cluster.network.heal()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_gone(cluster, clients.keys)


def kept_back(seed: int) -> None:
    """Its node compares itself with the others between the expiry and the grace."""
    impatient = {"COMPARE_TIMEOUT_S": 0.5, "DIFF_TIMEOUT_S": 0.5, "PUSH_TIMEOUT_S": 0.5}
    limits = {**_SHORT_MEMORY, **impatient, "EXPIRY_GRACE_MS": 4_000, "EXPIRY_STEP_MS": 100}
    setup = _peaceful(seed, limits)._replace(retention_ms=_RETENTION_MS, sync_interval_ms=1_000)
    with _cluster(seed, setup) as (cluster, clients):
        _share_all_keys(cluster, clients)
        cut_off = cluster.hosts[-1]
        cluster.network.groups = {cut_off.name: 1}
        assert cut_off.process is not None
        for entry in clients.keys:
            clients.put(cut_off.process, entry, ttl_ms=500)
        cluster.world.run(1_000)
        cluster.network.heal()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_gone(cluster, clients.keys)


def returned(seed: int) -> None:
    with _one_away(seed) as (cluster, clients):
        cluster.hosts[-1].start()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_gone(cluster, clients.keys)


def replaced(seed: int) -> None:
    with _one_away(seed) as (cluster, clients):
        *others, late = cluster.hosts
        for host in others:
            cluster.wipe(host)
            host.start()
            _wait_until_equal(cluster)
            cluster.world.run(10_000)
        late.start()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_gone(cluster, clients.keys)


@contextmanager
def _one_away(seed: int) -> Iterator[tuple[SimCluster, Clients]]:
    """The last host is off and has a value for each key; all were deleted meanwhile, and that was forgotten."""
    with _cluster(seed, _peaceful(seed, _SHORT_MEMORY)._replace(retention_ms=_RETENTION_MS)) as (cluster, clients):
        _share_all_keys(cluster, clients)
        cluster.hosts[-1].kill()
        for entry in clients.keys:
            clients.delete(cluster.processes()[0], entry)
        there = cluster.processes()
        if cluster.world.run_until(lambda: not any(contents(one.disk.store) for one in there), 120_000) is None:
            raise Violation("the tombstones stay, though who lacks them was silent for the retention")
        yield cluster, clients


def parted(seed: int) -> None:
    """Each half deletes some keys, forgets that, and writes others; nothing of all that may be undone."""
    setup = _peaceful(seed, _SHORT_MEMORY)._replace(nodes=3 + seed % 2, retention_ms=_RETENTION_MS)
    with _cluster(seed, setup) as (cluster, clients):
        _share_all_keys(cluster, clients)
        cluster.history.may_set_aside = True
        hosts = cluster.hosts
        cluster.network.groups = {host.name: 1 for host in hosts[len(hosts) // 2 :]}
        cluster.world.run(3_000)
        third = _KEYS // 3
        parts = [clients.keys[:third], clients.keys[third : 2 * third], clients.keys[2 * third :]]
        for host, part in ((hosts[0], parts[0]), (hosts[-1], parts[1])):
            assert host.process is not None
            for entry in part:
                clients.delete(host.process, entry)
        cluster.world.run(1_000)
        gone = parts[0] + parts[1]
        if cluster.world.run_until(lambda: not _tombstones(cluster), 120_000) is None:
            raise Violation("the tombstones stay, though who lacks them was silent for the retention")
        cluster.network.heal()
        cluster.world.run(3_000)
        for entry in parts[2]:
            clients.put(cluster.processes()[0], entry)
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_gone(cluster, gone)
        check_acknowledged(cluster)


def hasty(seed: int) -> None:
    """One half deletes some of that at once, writes over others before it deletes them, and has deleted some before the
    cut, of which the other half did not hear. One of its nodes starts again meanwhile."""
    setup = _peaceful(seed, _SHORT_MEMORY)._replace(nodes=3 + seed % 2, retention_ms=_RETENTION_MS)
    with _cluster(seed, setup) as (cluster, clients):
        _share_all_keys(cluster, clients)
        cluster.history.may_set_aside = True
        hosts = cluster.hosts
        there, alone = cluster.processes()[0], hosts[-1].process
        assert alone is not None
        fourth = _KEYS // 4
        gone, changed, deleted, kept = (clients.keys[at : at + fourth] for at in range(0, _KEYS, fourth))
        for entry in gone + changed + deleted:
            clients.put(there, entry)
        cluster.world.run(300)
        cluster.network.groups = {host.name: 1 for host in hosts[len(hosts) // 2 :]}
        for entry in deleted:
            clients.delete(there, entry)
        cluster.world.run(200 if seed % 3 else 10_000)
        hosts[0].kill()
        hosts[0].start()
        cluster.world.run(3_000)
        there = cluster.processes()[0]
        for entry in changed:
            clients.put(there, entry)
        for entry in kept:
            clients.put(alone, entry)
        cluster.world.run(1_000)
        for entry in gone + changed:
            clients.delete(there, entry)
        cluster.world.run(1_000)
        if cluster.world.run_until(lambda: not _tombstones(cluster), 120_000) is None:
            raise Violation("the tombstones stay, though who lacks them was silent for the retention")
        cluster.network.heal()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_gone(cluster, gone + changed + deleted)
        _check_nothing_gone(cluster, clients.keys[-fourth:], "that the other half wrote")
        check_acknowledged(cluster)


def doubted(seed: int) -> None:
    """Values that one half wrote alone, before one of its nodes went off and came back to the other half. The retention
    is longer than the parts take to become equal when they meet."""
    retention_ms = 10 * _RETENTION_MS
    setup = _peaceful(seed, _SHORT_MEMORY)._replace(nodes=4, retention_ms=retention_ms)
    with _cluster(seed, setup) as (cluster, clients):
        cluster.hosts[-1].start()
        _wait_until_equal(cluster)
        cluster.world.run(5_000)
        cluster.history.may_set_aside = True
        alone, changing = cluster.hosts[:2]
        cluster.network.groups = {alone.name: 1}
        cluster.world.run(3_000)
        for entry in clients.keys:
            clients.put(cluster.processes()[1], entry)
        cluster.world.run(10_000)
        changing.kill()
        cluster.world.run(4 * retention_ms)
        cluster.network.groups = {alone.name: 1, changing.name: 1}
        changing.start()
        cluster.world.run(10_000)
        if contents(changing.disk.store):
            raise Violation("what only this node had, and may have been deleted, was not set aside")
        cluster.network.heal()
        cluster.world.run(10_000)
        _wait_until_equal(cluster)
        _check_nothing_gone(cluster, clients.keys, "that nobody deleted")


def _check_nothing_gone(cluster: SimCluster, entries: Sequence[bytes], why: str) -> None:
    for process in cluster.processes():
        gone = [entry for entry in entries if not process.read(entry)[1]]
        if gone:
            raise Violation(f"{process.host.name} lost {len(gone)} values {why}")


def _tombstones(cluster: SimCluster) -> int:
    return sum(record.deleted for one in cluster.processes() for record in contents(one.disk.store).values())


def _share_all_keys(cluster: SimCluster, clients: Clients) -> None:
    """All hosts are on, hold a value for each key, and have proven to each other that they are equal."""
    cluster.hosts[-1].start()
    _wait_until_equal(cluster)
    for entry in clients.keys:
        clients.put(cluster.processes()[0], entry)
    cluster.world.run(1_000)
    _wait_until_equal(cluster)
    cluster.world.run(5_000)


def _check_gone(cluster: SimCluster, entries: Sequence[bytes]) -> None:
    for process in cluster.processes():
        back = [entry for entry in entries if process.read(entry)[1]]
        if back:
            raise Violation(f"{len(back)} deleted keys are back at {process.host.name}")


ALL = (
    steady,
    spread,
    filled,
    together,
    leapt,
    bereft,
    waited,
    stranger,
    kept_back,
    returned,
    replaced,
    parted,
    hasty,
    doubted,
)
