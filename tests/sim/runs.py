"""One run: faults and clients, then peace, then everything that was promised is checked.

start     all hosts come up within a moment
chaos     clients and faults; what must always hold is checked at every commit, answer and now and then
calm      where tombstones are collected: everything is mended, all become equal, tombstones leave; chaos again
heal      faults end, clients rest; all live nodes must become equal within SETTLE_MS
expiry    what lives for seconds dies; all must be equal again
collect   where tombstones are collected: they leave, and what they deleted stays away
idle      nobody sends anybody a record
"""

from collections import Counter
from typing import NamedTuple

from tests.sim.checkers import (
    check_acknowledged,
    check_merge_laws,
    check_rows,
    check_rows_somewhere,
    differences,
)
from tests.sim.clients import Clients
from tests.sim.faults import Faults
from tests.sim.history import contents
from tests.sim.setup import Setup, draw, draw_brief
from tests.sim.simcluster import SimCluster
from tests.sim.tuning import tuned
from tests.sim.world import Violation

SETTLE_MS = 90_000
"""Within this all must be equal after the last fault."""
IDLE_ROUNDS = 5


class Result(NamedTuple):
    """What a run came to. `settled_ms` is how long it took to become equal, `virtual_ms` how long all of it."""

    seed: int
    fingerprint: str
    settled_ms: int
    virtual_ms: int
    faults: Counter[str]
    lives: int
    """Processes that were started."""
    acknowledged: int
    excused: int
    reads: int
    messages: int
    moved: int


class Failure(AssertionError):
    """A run that broke a promise, and how to see it again."""

    def __init__(self, seed: int, cause: BaseException, *, brief: bool) -> None:
        options = " --brief" if brief else ""
        super().__init__(
            f"seed {seed}: {type(cause).__name__}: {cause}\n"
            f"again: .venv/bin/python -m tests.sim --first {seed} --seeds 1{options}   (TEST_TRACE=1 shows every event)"
        )


def run(seed: int, *, brief: bool = False, setup: Setup | None = None) -> Result:
    """`setup` instead of what is drawn. Raises Failure."""
    setup = setup or (draw_brief(seed) if brief else draw(seed))
    with tuned(setup.limits):
        run_ = _Run(seed, setup)
        try:
            return run_.all()
        except Exception as cause:
            raise Failure(seed, cause, brief=brief) from cause


class _Run:
    def __init__(self, seed: int, setup: Setup) -> None:
        self._seed = seed
        self._setup = setup
        self._cluster = SimCluster(seed, setup)
        self._world = self._cluster.world
        self._clients = Clients(self._cluster, setup.traffic)
        self._faults = Faults(self._cluster)
        self._chance = self._world.chance("run")

    def all(self) -> Result:
        for host in self._cluster.hosts:
            self._world.after(self._chance.randint(0, 500), host.start)
        self._clients.go()
        is_collecting = self._setup.collects
        if is_collecting:
            self._chaos(self._setup.chaos_ms // 2)
            self._calm()
            self._chaos(self._setup.chaos_ms // 2)
        else:
            self._chaos(self._setup.chaos_ms)
        self._clients.rest()
        settled_ms = self._settle()
        self._let_expire()
        if is_collecting:
            self._collect()
        self._idle()
        self._check()
        return self._result(settled_ms)

    def _chaos(self, for_ms: int) -> None:
        self._faults.go()
        until_ms = self._world.now_ms + for_ms
        while self._world.now_ms < until_ms:
            self._world.run(500)
            check_rows_somewhere(self._cluster, self._chance)
        self._faults.rest()

    def _calm(self) -> None:
        self._clients.rest()
        self._settle()
        self._world.run(self._setup.retention_ms)
        self._cluster.images.clear()
        self._clients.go()

    def _settle(self) -> int:
        self._cluster.mend()
        return self._wait_until_equal("after the faults")

    def _wait_until_equal(self, when: str) -> int:
        took_ms = self._world.run_until(lambda: not differences(self._cluster), SETTLE_MS)
        if took_ms is None:
            raise Violation(f"not equal {when}: {differences(self._cluster)[:3]}")
        return took_ms

    def _let_expire(self) -> None:
        """Until nobody has anything that will leave of itself within the run."""
        self._world.run_until(lambda: self._last_expiry_ms() == 0, SETTLE_MS)
        self._world.run(2 * self._setup.sweep_ms + self._setup.disk.write_max_ms)
        self._wait_until_equal("after the expiry")

    def _last_expiry_ms(self) -> int:
        """Of records that live for seconds."""
        soon_ms = self._cluster.hosts[0].clock.wall_ms() + SETTLE_MS
        return max(
            (
                record.expires_at
                for process in self._cluster.processes()
                for record in contents(process.disk.store).values()
                if record.expires_at < soon_ms
            ),
            default=0,
        )

    def _idle(self) -> None:
        """Rounds of comparisons with nothing to do."""
        self._world.run(2_000)
        before = dict(self._cluster.counts)
        self._world.run(IDLE_ROUNDS * self._setup.sync_interval_ms)
        if dict(self._cluster.counts) != before:
            raise Violation(f"records were sent while nothing happened: {before}, then {dict(self._cluster.counts)}")
        self._wait_until_equal("after nothing happened")

    def _check(self) -> None:
        for process in self._cluster.processes():
            check_rows(process)
        check_acknowledged(self._cluster)
        check_merge_laws(self._cluster, self._chance)

    def _collect(self) -> None:
        """All tombstones leave."""
        if self._world.run_until(lambda: not self._tombstones(), SETTLE_MS) is None:
            raise Violation(f"{self._tombstones()} tombstones stay for ever")
        self._wait_until_equal("after the tombstones left")

    def _tombstones(self) -> int:
        """How many there are that were not stamped by a clock far ahead."""
        soon_ms = self._cluster.hosts[0].clock.wall_ms() + SETTLE_MS
        return sum(
            record.deleted and record.timestamp < soon_ms
            for process in self._cluster.processes()
            for record in contents(process.disk.store).values()
        )

    def _result(self, settled_ms: int) -> Result:
        cluster = self._cluster
        return Result(
            seed=self._seed,
            fingerprint=self._world.fingerprint(),
            settled_ms=settled_ms,
            virtual_ms=self._world.now_ms,
            faults=self._faults.counts + cluster.network.faults,
            lives=cluster.lives,
            acknowledged=cluster.history.acked_count,
            excused=cluster.history.excused,
            reads=cluster.history.read_count,
            messages=cluster.network.messages,
            moved=cluster.counts["moved"],
        )
