"""Everything that goes wrong in a run, drawn from its seed. Counts what it did."""

from collections import Counter
from collections.abc import Callable
from random import Random

from tests.sim.network import Link
from tests.sim.setup import LEAP_MAX_MS, RACE_MAX, RACE_MS
from tests.sim.simcluster import SimCluster
from tests.sim.simnode import SimNode


class Faults:
    """Breaks a cluster, again and again, while it is on."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._chance: Random = cluster.world.chance("faults")
        self._is_on = False
        self.counts: Counter[str] = Counter()

    def go(self) -> None:
        self._is_on = True
        self._plan()

    def rest(self) -> None:
        self._is_on = False

    def _plan(self) -> None:
        pause_ms = round(self._chance.expovariate(1 / self._cluster.setup.fault_pause_ms))
        self._cluster.world.after(pause_ms, self._turn)

    def _turn(self) -> None:
        if not self._is_on:
            return
        if self._chance.random() < 0.3:
            self._cluster.take_image(self._chance.choice(self._cluster.hosts))
        name = self._chance.choice(self._cluster.setup.faults)
        fault: Callable[[], bool] = getattr(self, f"_{name}")
        if fault():
            self._cluster.world.trace("fault", name)
            self.counts[name] += 1
        self._plan()

    def _host(self, *, running: bool = True) -> SimNode | None:
        hosts = [host for host in self._cluster.all_hosts() if (host.process is not None) is running]
        return self._chance.choice(hosts) if hosts else None

    def _later(self, most_ms: int, action: Callable[[], None]) -> None:
        self._cluster.world.after(self._chance.randint(1, most_ms), action)

    # --- processes and disks ---

    def _kill(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.kill(host_too=self._chance.random() < 0.5)
        self._maybe_restart(host)
        return True

    def _power_cut(self) -> bool:
        """Of some hosts at once, most often of all."""
        hosts = [host for host in self._cluster.all_hosts() if self._chance.random() < 0.7]
        for host in hosts:
            host.kill(power=True, host_too=True)
            self._maybe_restart(host)
        return bool(hosts)

    def _stop(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.stop()
        self._later(4_000, lambda: self._restart_one(host))
        return True

    def _maybe_restart(self, host: SimNode) -> None:
        """Most come back soon, and on the way up some fall again."""
        if self._chance.random() < 0.8:
            self._later(self._chance.choice([5, 400, 8_000]), lambda: self._restart_one(host))

    def _restart_one(self, host: SimNode) -> None:
        if host in self._cluster.all_hosts():
            host.start()

    def _restart(self) -> bool:
        host = self._host(running=False)
        if host is None:
            return False
        host.start()
        return True

    def _wipe(self) -> bool:
        host = self._chance.choice(self._cluster.hosts)
        self._cluster.wipe(host)
        self._maybe_restart(host)
        return True

    def _wipe_tree(self) -> bool:
        host = self._chance.choice(self._cluster.hosts)
        host.kill()
        host.disk.wipe_tree()
        self._maybe_restart(host)
        return True

    def _set_back(self) -> bool:
        host = self._chance.choice(self._cluster.hosts)
        if not self._cluster.set_back(host):
            return False
        self._maybe_restart(host)
        return True

    def _restore(self) -> bool:
        """A backup of any host and any time is restored; another one is made first, as often as not."""
        processes = self._cluster.processes()
        if processes and self._chance.random() < 0.6:
            self._cluster.back_up(self._chance.choice(processes))
        if not self._cluster.backups or self._chance.random() < 0.4:
            return False
        host = self._chance.choice(self._cluster.hosts)
        self._cluster.restore(host, self._chance.choice(self._cluster.backups))
        self._maybe_restart(host)
        return True

    def _clone(self) -> bool:
        if self._cluster.clones:
            return False
        twin = self._cluster.clone(self._chance.choice(self._cluster.hosts))
        self._later(8_000, lambda: self._cluster.remove_clone(twin))
        return True

    def _break_disk(self) -> bool:
        host = self._host()
        if host is None or host.process is None:
            return False
        host.process.writer.breaks_until_ms = self._cluster.world.now_ms + self._chance.randint(1, 3_000)
        return True

    def _hold(self) -> bool:
        host = self._host()
        if host is None or host.process is None:
            return False
        host.process.loop.hold(self._chance.choice([50, 800, 6_000]))
        return True

    # --- the network ---

    def _partition(self) -> bool:
        self._cluster.network.groups = {host.name: self._chance.randint(0, 1) for host in self._cluster.all_hosts()}
        return True

    def _isolate(self) -> bool:
        self._cluster.network.groups = {self._chance.choice(self._cluster.hosts).name: 1}
        return True

    def _cut(self) -> bool:
        a, b = self._chance.sample(self._cluster.hosts, 2)
        self._cluster.network.cuts.add((a.name, b.name))
        return True

    def _slow(self) -> bool:
        a, b = self._chance.sample(self._cluster.hosts, 2)
        self._cluster.network.links[(a.name, b.name)] = Link(delay_min_ms=300, delay_max_ms=3_000)
        return True

    def _lossy(self) -> bool:
        a, b = self._chance.sample(self._cluster.hosts, 2)
        self._cluster.network.links[(a.name, b.name)] = Link(0.4, 0.3, 1, 500)
        return True

    def _heal(self) -> bool:
        self._cluster.network.cuts.clear()
        self._cluster.network.groups = {}
        return True

    # --- clocks ---

    def _jump(self) -> bool:
        """Within what counts as right."""
        host = self._chance.choice(self._cluster.hosts)
        skew_ms = self._cluster.setup.skew_ms
        host.clock.jump(self._chance.randint(-skew_ms, skew_ms) - host.clock.offset_ms())
        return True

    def _leap(self) -> bool:
        """Far off, either way."""
        far_ms = self._chance.choice([5_000, 3_600_000, LEAP_MAX_MS])
        host = self._chance.choice(self._cluster.hosts)
        host.clock.jump(self._chance.choice([-far_ms, far_ms]) - host.clock.offset_ms())
        self._later(5_000, lambda: host.clock.mend(0))
        return True

    def _race(self) -> bool:
        clock = self._chance.choice(self._cluster.hosts).clock
        clock.go(self._chance.choice([1.01, 1.2, RACE_MAX]))
        self._later(RACE_MS, lambda: clock.mend(0))
        return True

    def _freeze(self) -> bool:
        clock = self._chance.choice(self._cluster.hosts).clock
        clock.go(self._chance.choice([0.0, 0.5, 0.99]))
        self._later(3_000, lambda: clock.mend(0))
        return True
