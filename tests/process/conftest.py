"""Nodes, loads and spoilt disks, all gone at the end of the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.cli import Cli
from tests.process.daemon import Daemon
from tests.process.disks import Disk, NoMount, mount
from tests.process.load import Load, Mix
from tests.process.shim import NoCompiler, build


@pytest.fixture
def kvs(tmp_path: Path) -> Iterator[Cli]:
    cli = Cli(tmp_path)
    yield cli
    cli.kill_all()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons (arguments as of `Daemon`); none outlives the test."""
    daemons: list[Daemon] = []

    def make(folder: Path = tmp_path / "node", **options: object) -> Daemon:
        daemons.append(Daemon(folder, **options))  # type: ignore[arg-type]
        return daemons[-1]

    yield make
    for daemon in daemons:
        daemon.kill()


@pytest.fixture
def make_load() -> Iterator[Callable[[Mix], Load]]:
    """Starts second processes; none outlives the test."""
    loads: list[Load] = []

    def make(mix: Mix) -> Load:
        loads.append(Load(mix))
        return loads[-1]

    yield make
    for load in loads:
        load.close()


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """Mounts a disk of so many bytes. Name it before `make_daemon`, so that it is unmounted after the nodes' end."""
    folder = tmp_path / "disk"
    mounted: list[Disk] = []

    def make(size: int) -> Disk:
        folder.mkdir()
        try:
            mounted.append(mount(folder, size))
        except NoMount as reason:
            pytest.skip(f"{reason}, so these promises are NOT checked here")
        return mounted[0]

    yield make
    for disk in mounted:
        disk.unmount()


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled `faults.c`."""
    try:
        return build(tmp_path_factory.mktemp("shim"))
    except NoCompiler as reason:
        pytest.skip(f"{reason}, so these promises are NOT checked here")
