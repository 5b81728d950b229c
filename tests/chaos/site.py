"""The machines that a campaign breaks: a real daemon each, with a proxy, a disk that remembers what was synced, a clock
that can be moved, and calls that can be made to fail."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from random import Random

from tests.chaos.clients import Target
from tests.chaos.history import Held
from tests.chaos.plan import Setup
from tests.process.audit import stored_bytes
from tests.process.cluster import Cluster, Node
from tests.process.disks import Disk, NoMount, mount
from tests.process.powercut import Disk as Remembered
from tests.process.powercut import Way, begin_journal, write_folder
from tests.process.shim import Fault, Shim
from tests.scrape import Scrape

_DISK_BYTES = 256 * 1024 * 1024
_JOURNAL_MAX_BYTES = 64 * 1024 * 1024
"""A longer one is begun anew at the next start, as if all had been synced."""
_FAULTS = {
    "write": ("enospc", "eio", "torn", "short", "exit", "half"),
    "sync": ("enospc", "eio", "exit"),
    "rename": ("eio", "exit"),
    "open": ("enospc", "eio", "exit"),
    "pwrite": ("enospc", "eio", "exit"),
}
ENDING = ("exit", "half")
"""Kinds that end the process."""


class Machine:
    """One node and what it stands on. `busy` names what is wrong with it now; such a machine is left alone."""

    def __init__(self, node: Node, folder: Path, library: Path, chance: Random, disk: Disk | None) -> None:
        self.node = node
        self.disk = disk
        self.busy = ""
        self.takes_writes = True
        self.is_original = True
        """Whether its disk is the one of the start, and nobody else has a copy."""
        self.image: Path = folder / "image"
        """A copy of its data of an earlier time, if there is one."""
        self._folder, self._library, self._chance = folder, library, chance
        self.shim = self._new_shim()

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def data(self) -> Path:
        return self.node.daemon.data_dir

    def target(self) -> Target:
        return Target(self.name, lambda: self.node.daemon.url if self.node.is_up else "", lambda: self.takes_writes)

    def begin(self) -> None:
        """Each life has another call that will fail, if it is asked to."""
        self.shim = self._new_shim()
        if self.shim.journal.exists() and self.shim.journal.stat().st_size > _JOURNAL_MAX_BYTES:
            self.remember_all()
        self.node.daemon.environment = self.shim.environment
        self.node.begin()

    def start(self) -> None:
        self.begin()
        self.node.wait_until_it_serves()

    def _new_shim(self) -> Shim:
        # Most calls are writes and syncs of the log; tables are made seldom, at an opening above all.
        call = self._chance.choice([*_FAULTS, "write", "write", "sync", "sync"])
        names = self._chance.choice(["", "", ".log", ".log", ".ldb", "MANIFEST"])
        kind = self._chance.choice(_FAULTS[call])
        fault = Fault(call, names, kind, self._chance.choice([1, 2, 5]), lasting=self._chance.random() < 0.3)
        return Shim(self._library, self._folder / "shim", self.data, fault).with_journal().with_clock()

    def audit(self) -> str:
        """What is wrong with its audit log, by its own words and by what the others know of it."""
        verified = self.node.daemon.command("audit", "verify")
        return "" if verified.returncode == 0 else f"{self.name}: {verified.stdout}{verified.stderr}"

    # --- its disk ---

    def cut_power(self) -> None:
        """The process is gone, and so is what was not synced; how much of it, and in which way, is chance."""
        if self.node.is_up:
            self.node.kill()
        disk = Remembered.now(self.shim.journal, self.data)
        files = disk.cut(self._chance.choice(list(Way)), self._chance)
        write_folder(self.data, files)
        begin_journal(self.shim.journal, self.data, files)

    def remember_all(self) -> None:
        """What is on the disk now counts as synced: it was put there while the node was down."""
        # LevelDB's own diary is written past the journal.
        files = {file.name: file.read_bytes() for file in self.data.iterdir() if not file.name.startswith("LOG")}
        begin_journal(self.shim.journal, self.data, files)

    def wipe(self) -> None:
        self.is_original = False
        self.node.wipe()
        self.shim.journal.unlink(missing_ok=True)

    def take_image(self) -> None:
        shutil.rmtree(self.image, ignore_errors=True)
        shutil.copytree(self.data, self.image)

    def set_back(self) -> None:
        self.is_original = False
        shutil.rmtree(self.data)
        shutil.copytree(self.image, self.data)
        self.remember_all()


class Site:
    """All machines, and what holds for all of them."""

    def __init__(self, folder: Path, setup: Setup, library: Path, seed: int) -> None:
        self.cluster = Cluster(folder, setup.settings)
        self.machines: list[Machine] = []
        self.without_disk = ""
        """Why no machine has a disk that can be filled."""
        self._disk: Disk | None = None
        for number in range(1, setup.nodes + 1):
            own = folder / f"machine{number}"
            own.mkdir(parents=True)
            disk = self._mounted(own / "disk") if number == setup.nodes else None
            node = self.cluster.add(data_dir=str(disk.folder / "data")) if disk else self.cluster.add()
            self.machines.append(Machine(node, own, library, Random(f"machine {seed}/{number}"), disk))
        addresses = [machine.node.address for machine in self.machines]
        for machine in self.machines:
            machine.node.daemon.configure({"seed_nodes": addresses})

    def _mounted(self, folder: Path) -> Disk | None:
        folder.mkdir()
        try:
            self._disk = mount(folder, _DISK_BYTES)
        except NoMount as reason:
            self.without_disk = str(reason)
        return self._disk

    def start(self) -> None:
        for machine in self.machines:
            machine.begin()
        for machine in self.machines:
            machine.node.wait_until_it_serves()

    def is_whole(self) -> bool:
        return len(self.cluster.up) == len(self.machines) and self.cluster.is_whole()

    def held(self, keys: list[str]) -> Mapping[str, Held | None]:
        """What all nodes hold of these keys, deletions too. To be asked when they are equal."""
        client = self.machines[0].node.client
        shown = self.machines[0].node.contents()
        found: dict[str, Held | None] = {
            key: Held(value["timestamp"], value["uuid"], stored_bytes(value)) for key, value in shown.items()
        }
        for key in keys:
            if key not in found:
                newest = client.request("GET", f"/api/data/{key}/history/1")
                found[key] = None
                if newest.status == 200:
                    gone = newest.json()
                    assert gone["deleted"], gone
                    found[key] = Held(gone["timestamp"], gone["uuid"], None)
        return {key: found[key] for key in keys}

    def moved(self) -> float:
        """How many records comparisons have moved, in sum."""
        steps = ("fetch", "send")
        pages = [Scrape(machine.node.client.request("GET", "/metrics").body.decode()) for machine in self.machines]
        return sum(page.value("kvs_sync_keys_total", step=step) for page in pages for step in steps)

    def complaints(self) -> list[str]:
        """Tracebacks in the logs since the last time."""
        found = []
        for node in self.cluster.nodes:
            lines = list(node.daemon.log)
            del node.daemon.log[: len(lines)]
            text = "\n".join(lines) + node.daemon.errors()
            if "Traceback" in text:
                found.append(f"{node.name} logged a traceback: {text[text.index('Traceback') :][:2000]}")
        return found

    def close(self) -> None:
        self.cluster.close()
        if self._disk is not None:
            self._disk.unmount()


def holds(condition: Callable[[], bool]) -> bool:
    """False also while a node cannot be asked."""
    with suppress(OSError, HTTPException, KeyError):
        return condition()
    return False
