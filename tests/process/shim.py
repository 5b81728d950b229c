"""The test's side of `faults.c`: the environment that asks for a fault, and the files that switch and report it."""

import shutil
import subprocess
from pathlib import Path
from struct import Struct
from typing import NamedTuple

_CLOCK = Struct("=q")


class NoCompiler(Exception):
    """Without one no disk can be made to fail."""


def build(folder: Path) -> Path:
    """The compiled `faults.c`. Raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("no C compiler (cc, gcc): disk faults cannot be injected")
    library = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result"]
    subprocess.run([*command, "-o", str(library), str(source), "-ldl", "-pthread"], check=True)
    return library


class Fault(NamedTuple):
    """`call` number `at` on files named like `names` fails with `kind`; see faults.c. Lasting: so do all after it.

    `reopen`: every so many syncs of the log fail besides, so that calls are reached which are made at an opening only.
    """

    call: str
    names: str
    kind: str
    at: int = 1
    lasting: bool = False
    reopen: int = 0

    def __str__(self) -> str:
        return f"{self.call}-{self.names or 'any'}-{self.kind}-{self.at}{'-lasting' if self.lasting else ''}"


class Shim:
    """One process's faults. Nothing fails, and no call is counted, until `arm`; nothing fails after `disarm`."""

    def __init__(self, library: Path, folder: Path, data_dir: Path, fault: Fault | None = None) -> None:
        """`folder` is a place for the switches, outside of the data."""
        folder.mkdir(exist_ok=True)
        self.fault = fault
        self.journal = folder / "journal"
        self._clock = folder / "clock"
        self._gate = folder / "gate"
        self._report = folder / "report"
        self.environment = {"LD_PRELOAD": str(library), "KVS_FAULT_DIR": str(data_dir.resolve())}
        if fault is not None:
            self.environment |= {
                "KVS_FAULT_CALL": fault.call,
                "KVS_FAULT_SUFFIX": fault.names,
                "KVS_FAULT_KIND": fault.kind,
                "KVS_FAULT_AT": str(fault.at),
                "KVS_FAULT_LASTING": "1" if fault.lasting else "0",
                "KVS_FAULT_REOPEN": str(fault.reopen),
                "KVS_FAULT_GATE": str(self._gate),
                "KVS_FAULT_REPORT": str(self._report),
            }

    def with_journal(self) -> "Shim":
        """Also write down every change of the data, see powercut.py."""
        self.environment["KVS_JOURNAL"] = str(self.journal)
        return self

    def with_clock(self) -> "Shim":
        """Also show the process a wall clock that `set_clock` moves."""
        if not self._clock.exists():
            self._clock.write_bytes(_CLOCK.pack(0))
        self.environment["KVS_CLOCK"] = str(self._clock)
        return self

    def set_clock(self, ahead_ms: int) -> None:
        """Written in place, because the process has the file mapped."""
        with self._clock.open("r+b") as file:
            file.write(_CLOCK.pack(ahead_ms))

    def arm(self) -> None:
        self._gate.touch()

    def disarm(self) -> None:
        self._gate.unlink(missing_ok=True)

    def struck(self) -> list[str]:
        """A line "number call path" for each call that was made to fail (or, with `at` 0, that would have counted)."""
        return self._report.read_text().splitlines() if self._report.exists() else []

    def forget_struck(self) -> None:
        self._report.unlink(missing_ok=True)
