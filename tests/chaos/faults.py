"""Carries out what a plan asks for. What breaks something answers with what mends it again, or None if it is not
possible now: the node is down already, or this machine cannot do it."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.chaos.history import History
from tests.chaos.plan import JUMP_MAX_MS, LEAP_MS, Step
from tests.chaos.site import ENDING, Machine, Site
from tests.process.cluster import Node
from tests.process.daemon import NotStarted
from tests.process.flips import Flip
from tests.process.links import Link

Mend = Callable[[], None]
_FLIPS_MAX = 3
_ROOM_MAX_BYTES = 2 * 1024 * 1024
"""What is left free of a full disk, at most."""


class Faults:
    """`counts` are those that took place, by kind."""

    def __init__(self, site: Site, history: History, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._site, self._history = site, history
        self._chance = Random(f"faults {seed}")
        self._clone: Node | None = None

    # --- steps ---

    def begin(self, step: Step) -> Mend | None:
        machine, other = self._site.machines[step.node], self._site.machines[step.other]
        mend = self._on_links(step, machine, other) or self._on_node(step, machine)
        if step.kind == "blackout":
            mend = self._blackout()
        if mend is not None:
            self.counts[step.kind] += 1
        return mend

    def _on_node(self, step: Step, machine: Machine) -> Mend | None:
        if machine.busy:
            return None
        match step.kind:
            case "kill":
                machine.node.kill()
                return self._busy(machine, step, machine.start)
            case "stop":
                machine.node.stop()
                return self._busy(machine, step, machine.start)
            case "power cut":
                machine.cut_power()
                return self._busy(machine, step, machine.start)
            case "lost disk":
                self._lose_disk(machine)
                return self._busy(machine, step, machine.start)
            case "hold":
                machine.node.hold()
                return self._busy(machine, step, machine.node.let_go_on)
            case "failing call":
                machine.shim.arm()
                return self._busy(machine, step, lambda: self._stop_failing(machine))
            case "full disk":
                return self._fill(machine, step)
            case "clock jump":
                machine.shim.set_clock(round((2 * step.amount - 1) * JUMP_MAX_MS))
                return self._busy(machine, step, lambda: machine.shim.set_clock(0))
            case "clock leap":
                machine.shim.set_clock(LEAP_MS if step.amount < 0.5 else -LEAP_MS)
                return self._busy(machine, step, lambda: machine.shim.set_clock(0))
        return None

    def _busy(self, machine: Machine, step: Step, mend: Mend) -> Mend:
        machine.busy = step.kind

        def mended() -> None:
            mend()
            machine.busy = ""

        return mended

    def _stop_failing(self, machine: Machine) -> None:
        machine.shim.disarm()
        struck, fault = machine.shim.struck(), machine.shim.fault
        self.counts["calls that failed"] += len(struck)
        machine.shim.forget_struck()
        if struck and fault is not None and fault.kind in ENDING:
            machine.node.kill()
            machine.start()

    def _fill(self, machine: Machine, step: Step) -> Mend | None:
        disk = machine.disk
        if disk is None:
            return None
        disk.leave(round(step.amount * _ROOM_MAX_BYTES))
        return self._busy(machine, step, lambda: disk.ballast.unlink(missing_ok=True))

    def _blackout(self) -> Mend | None:
        """The power of all nodes goes at once: nobody is left to bring back what one of them loses."""
        machines = [machine for machine in self._site.machines if machine.node.is_up and not machine.busy]
        if not machines:
            return None
        for machine in machines:
            machine.node.kill()
        for machine in machines:
            machine.cut_power()
            machine.busy = "blackout"

        def mend() -> None:
            for machine in machines:
                machine.begin()
            for machine in machines:
                machine.node.wait_until_it_serves()
                machine.busy = ""

        return mend

    # --- the network ---

    def _on_links(self, step: Step, machine: Machine, other: Machine) -> Mend | None:
        names = [machine.name for machine in self._site.machines]
        there = [self._link(machine.name, other.name)]
        match step.kind:
            case "partition":
                some = set(self._chance.sample(names, self._chance.randint(1, len(names) - 1)))
                return _cut(self._between(some, set(names) - some))
            case "isolation":
                return _cut(self._between({machine.name}, set(names) - {machine.name}))
            case "lost requests":
                return _cut(there)
            case "lost answers":
                there[0].cut_answers()
                return there[0].mend
            case "slow link":
                there[0].delay(0.05 + step.amount)
                return there[0].mend
            case "thin link":
                there[0].throttle(2_000 + 50_000 * step.amount)
                return there[0].mend
            case "broken connections":
                self._break_connections()
                return self._break_connections
        return None

    def _link(self, source: str, target: str) -> Link:
        return self._site.cluster.network.link(source, target)

    def _between(self, some: set[str], others: set[str]) -> list[Link]:
        pairs = [(a, b) for a in sorted(some) for b in sorted(others)]
        return [self._link(a, b) for a, b in pairs] + [self._link(b, a) for a, b in pairs]

    def _break_connections(self) -> None:
        for link in self._site.cluster.network.links():
            link.drop()

    # --- openings: all are equal, and nobody writes ---

    def open(self, kind: str, machine: Machine) -> None:
        match kind:
            case "wipe":
                self._lose_disk(machine)
                machine.start()
            case "older image":
                machine.node.stop()
                if machine.image.exists():
                    self._history.lost_its_disk(machine.name)
                    machine.set_back()
                else:
                    machine.take_image()
                    kind = "none"  # it is for a later round
                machine.start()
            case "clone":
                self._begin_clone(machine)
            case "flipped bits":
                self._flip(machine)
        if kind != "none":
            self.counts[kind] += 1

    def _lose_disk(self, machine: Machine) -> None:
        machine.node.kill()
        self._history.lost_its_disk(machine.name)
        machine.wipe()

    def _begin_clone(self, machine: Machine) -> None:
        machine.node.stop()
        machine.busy = "clone"
        machine.is_original = False
        machine.take_image()
        machine.start()
        self._clone = self._site.cluster.add(machine.name)
        self._clone.daemon.configure({"seed_nodes": [each.node.address for each in self._site.machines]})
        machine.image.rename(self._clone.daemon.data_dir)
        self._clone.begin()

    def _flip(self, machine: Machine) -> None:
        """Clients only read there from now on: what it acknowledged might be on this disk only, which is not to be
        trusted any more."""
        machine.node.kill()
        self._history.lost_its_disk(machine.name)
        machine.takes_writes = machine.is_original = False
        for _ in range(self._chance.randint(1, _FLIPS_MAX)):
            _some_bit(machine.data, self._chance).turn(machine.data)
            self.counts["bits"] += 1
        machine.remember_all()
        try:
            machine.start()
        except NotStarted:
            self._replace(machine)

    def _replace(self, machine: Machine) -> None:
        """What an operator does with a disk that turns bits."""
        self._lose_disk(machine)
        machine.start()
        machine.takes_writes = True
        self.counts["disks replaced"] += 1

    def close(self) -> None:
        """The end of what an opening began. Nobody may have ended by itself, but a node with a clone."""
        if self._clone is not None:
            self._site.cluster.forget(self._clone)
            shutil.rmtree(self._clone.daemon.data_dir)  # the next clone gets the same folder
            self._clone = None
        for machine in self._site.machines:
            if not machine.node.daemon.is_running:
                code = machine.node.daemon.wait()
                if machine.busy != "clone":
                    self._history.violations.append(f"{machine.name} ended by itself with {code}")
                machine.node.kill()
                machine.start()
            if not machine.takes_writes:
                self._replace(machine)
            machine.busy = ""


def _cut(links: list[Link]) -> Mend:
    for link in links:
        link.cut()

    def mend() -> None:
        for link in links:
            link.mend()

    return mend


def _some_bit(folder: Path, chance: Random) -> Flip:
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.stat().st_size and file.name != "LOG"]
    file = chance.choice(files)
    return Flip(file.name, chance.randrange(file.stat().st_size), chance.randrange(8))
