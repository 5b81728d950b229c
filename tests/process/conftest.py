"""Nodes, loads and spoilt disks, all gone at the end of the test."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.cli import Cli
from tests.process.daemon import Daemon
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
