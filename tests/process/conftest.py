"""Nodes, loads and spoilt disks, all gone at the end of the test."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.cli import Cli
from tests.process.daemon import Daemon
from tests.process.disks import Disk
from tests.process.load import Load, Mix


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
    mounted = False

    def make(size: int) -> Disk:
        nonlocal mounted
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "kvs-full-disk", str(folder)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except FileNotFoundError:
            pytest.skip("no mount command: a full disk cannot be made, so these promises are NOT checked here")
        if result.returncode != 0:
            assert os.geteuid() != 0 or "permission denied" in result.stderr, result.stderr
            pytest.skip(f"mounting is not permitted, so these promises are NOT checked here: {result.stderr.strip()}")
        mounted = True
        return Disk(folder)

    yield make
    if mounted:
        result = subprocess.run(["umount", str(folder)], capture_output=True, text=True, timeout=10)
        if result.returncode != 0:  # out of sight, and gone with the last process that still uses it
            subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)
            raise AssertionError(result.stderr)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled `faults.c`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc): disk faults cannot be injected, so these promises are NOT checked here")
    library = tmp_path_factory.mktemp("shim") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result"]
    subprocess.run([*command, "-o", str(library), str(source), "-ldl", "-pthread"], check=True)
    return library
