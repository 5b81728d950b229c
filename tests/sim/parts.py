"""What a process of a simulated node is made of, and the way to its peers."""

from collections import Counter
from random import Random

from kvs.cluster.node import Node
from tests.sim.clocks import HostClock
from tests.sim.disk import Disk
from tests.sim.network import Back, Network, Port, Question
from tests.sim.setup import Setup
from tests.sim.world import Action, EventLoop
from tests.sim.writer import Writer


class Parts:
    """Everything that the shell of one process needs."""

    def __init__(
        self,
        *,
        node_id: str,
        setup: Setup,
        loop: EventLoop,
        clock: HostClock,
        disk: Disk,
        node: Node,
        writer: Writer,
        network: Network,
        port: Port,
        counts: Counter[str],
        chance: Random,
        on_loss: Action,
    ) -> None:
        """`on_loss`: to be called when records were set aside."""
        self.node_id = node_id
        self.setup = setup
        self.loop = loop
        self.clock = clock
        self.disk = disk
        self.node = node
        self.writer = writer
        self.network = network
        self.port = port
        self.counts = counts
        self.chance = chance
        self.on_loss = on_loss

    @property
    def clock_drift_max_ms(self) -> int:
        return clock_drift_max_ms(self.setup)

    def ask(self, address: str, kind: type, body: bytes, timeout_ms: int, then: Back) -> None:
        question = Question(self.node_id, self.port.address.partition(":")[0], kind, body)
        self.network.call(self.loop, self.port, address, question, timeout_ms, then)


def clock_drift_max_ms(setup: Setup) -> int:
    """The node's setting: twice what a clock that counts as right may be wrong, as two clocks differ by that, and more
    than a message is under way."""
    return 2 * setup.skew_ms + 500
