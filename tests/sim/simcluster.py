"""A whole cluster in one process: its hosts, their network, and what its clients know."""

from collections import Counter
from io import BytesIO

from kvs.cluster.membership_events import MembershipSettings
from kvs.server.restoring import fill
from kvs.storage.state import read_progress
from tests.backups import backup_of, header
from tests.sim.disk import Disk
from tests.sim.hearsay import Hearsay
from tests.sim.history import History
from tests.sim.network import Network
from tests.sim.parts import clock_drift_max_ms
from tests.sim.setup import LEAP_MAX_MS, RACE_MAX_MS, Setup
from tests.sim.simnode import Process, SimNode
from tests.sim.world import World


class SimCluster:
    """Made anew for every run."""

    def __init__(self, seed: int, setup: Setup) -> None:
        self.world = World(seed)
        self.setup = setup
        hearsay = Hearsay() if setup.collects else None
        self.network = Network(self.world, setup.link, hearsay)
        early_ms = 2 * setup.skew_ms
        early_ms += LEAP_MAX_MS * ("leap" in setup.faults) + RACE_MAX_MS * ("race" in setup.faults)
        self.history = History(
            self.world,
            early_ms,
            ahead_max_ms=clock_drift_max_ms(setup),
            may_set_aside=setup.collects or "leap" in setup.faults,
            retention_ms=setup.retention_ms,
            hearsay=hearsay,
        )
        self.counts: Counter[str] = Counter()
        """`moved` records by comparisons, `pushed` records by pushes."""
        self.lives = 0
        """How many processes were started."""
        self.clones: list[SimNode] = []
        self.images: dict[str, Disk] = {}
        self.backups: list[bytes] = []
        self.hosts = [SimNode(self, number) for number in range(setup.nodes)]
        self._numbers = setup.nodes

    def membership_settings(self, own_address: str) -> MembershipSettings:
        setup = self.setup
        seeds = (host.port.address for host in self.hosts[: setup.seeds])
        return MembershipSettings(
            probe_interval_ms=setup.probe_interval_ms,
            probe_timeout_ms=setup.probe_interval_ms // 2,
            suspicion_timeout_ms=setup.suspicion_ms,
            gossip_interval_min_ms=setup.gossip_ms,
            gossip_interval_max_ms=2 * setup.gossip_ms,
            member_timeout_ms=setup.member_timeout_ms,
            retention_ms=setup.retention_ms,
            seeds=tuple(seed for seed in seeds if seed != own_address),
        )

    def all_hosts(self) -> list[SimNode]:
        return [*self.hosts, *self.clones]

    def processes(self) -> list[Process]:
        return [host.process for host in self.all_hosts() if host.process is not None]

    # --- disks ---

    def lost(self, is_loss: bool) -> None:
        """What only a lost disk held is not promised any more."""
        if is_loss:
            self.history.excuse(host.disk.witness for host in self.all_hosts())

    def wipe(self, host: SimNode) -> None:
        host.kill()
        host.disk = host.new_disk()
        self.images.pop(host.name, None)
        self.lost(True)

    def take_image(self, host: SimNode) -> None:
        self.images[host.name] = host.disk.copy()

    def set_back(self, host: SimNode) -> bool:
        """An older image of the disk takes its place."""
        image = self.images.get(host.name)
        if image is None:
            return False
        host.kill()
        host.disk = image.copy()
        self.lost(True)
        return True

    def back_up(self, process: Process) -> None:
        floor, now_ms = process.shell.floor, process.clock.wall_ms()
        about = header(
            created_at=now_ms,
            progress=read_progress(process.disk.store)[:3],
            had_peers=floor.had_peers,
            floor=floor.floor_ms,
            as_of=floor.as_of_ms(now_ms),
        )
        self.backups.append(backup_of(process.disk.store, about))

    def restore(self, host: SimNode, backup: bytes) -> None:
        """On an empty disk, whichever host the backup is of."""
        host.kill()
        host.disk = host.new_disk()
        fill(host.disk.store, BytesIO(backup), host.clock.wall_ms(), clock_drift_max_ms(self.setup))
        host.disk.settle()
        host.disk.witness.reset(host.disk.store)
        self.images.pop(host.name, None)
        self.lost(True)

    def clone(self, host: SimNode) -> SimNode:
        """The same node a second time, at another address."""
        twin = SimNode(self, self._numbers, host.node_id, host.disk.copy())
        self._numbers += 1
        self.clones.append(twin)
        twin.start()
        return twin

    def remove_clone(self, twin: SimNode) -> None:
        if twin in self.clones:
            twin.kill(host_too=True)
            self.network.remove(twin.port)
            self.clones.remove(twin)
            self.lost(True)

    # --- the end of all faults ---

    def mend(self) -> None:
        """The network is whole, clocks are right but for the skew, disks work, and every host runs. What clients asked
        of one that stood still is done now, and not while nothing is to happen."""
        self.network.heal()
        for twin in list(self.clones):
            self.remove_clone(twin)
        for host in self.hosts:
            host.clock.mend(host.chance.randint(-self.setup.skew_ms, self.setup.skew_ms))
            if host.process is not None and host.process.is_leaving:
                host.kill()
            if host.process is not None:
                host.process.writer.breaks_until_ms = 0
                host.process.loop.go_on()
            host.start()
