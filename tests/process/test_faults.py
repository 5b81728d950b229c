"""A failed disk call never loses an acknowledged write, whichever call it is and however it fails."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.daemon import Client, Daemon
from tests.process.eventually import eventually
from tests.process.load import Load, Mix
from tests.process.shim import Fault, Shim

SEED = int(os.environ.get("TEST_SEED", "1"))
RESUME_TIMEOUT_S = 20.0
NOTICE_TIMEOUT_S = 5.0
LOADED_ACKS = 150

# Every kind of call by which LevelDB changes its folder.
KINDS = ("enospc", "eio", "torn", "short")
PLACES = (
    ("write", ".log"),
    ("sync", ".log"),
    ("open", ".log"),
    ("pwrite", ".log"),
    ("write", ".ldb"),
    ("sync", ".ldb"),
    ("open", ".ldb"),
    ("write", "MANIFEST"),
    ("sync", "MANIFEST"),
    ("unlink", ""),
)
# What happens when a database is opened only: a new MANIFEST is made, CURRENT replaced. At run time that is the
# reopening after another fault.
OPENING_PLACES = (
    ("open", "MANIFEST"),
    ("write", ".dbtmp"),
    ("sync", ".dbtmp"),
    ("rename", "CURRENT"),
)
SYNCS_BETWEEN_REOPENINGS = 20
QUICK = (
    Fault("write", ".log", "enospc", 40),
    Fault("write", ".log", "torn", 41),
    Fault("sync", ".log", "eio", 42),
    Fault("write", "", "enospc", 43, lasting=True),
    Fault("write", ".log", "half", 44),
)
# Large values fill LevelDB's memtable (16 MiB) in about a second, so that logs rotate and tables are written.
SMALL = Mix(SEED, keys=20)
LARGE = Mix(SEED, keys=20, big_share=0.5, big_bytes=512 * 1024)
QUICK_LARGE = (
    Fault("open", ".log", "enospc"),
    Fault("write", ".ldb", "eio"),
    Fault("sync", "MANIFEST", "eio"),
)


def _endure(daemon: Daemon, load: Load, shim: Shim, patience_s: float) -> str:
    """Load, let the fault strike, look, restart without it, look again. How the node took it, or `not reached`."""
    fault = shim.fault
    assert fault is not None
    daemon.start(shim.environment)
    load.run(daemon.url)
    assert eventually(lambda: load.counts()["acknowledged"] > LOADED_ACKS, 20)
    shim.arm()
    if not eventually(shim.struck, patience_s):
        load.pause()
        daemon.kill()
        return "not reached"
    outcome = _while_it_lasts(daemon, load, shim) if fault.kind not in ("exit", "half") else "ended"
    load.pause()
    if outcome == "ended":
        daemon.wait()
    else:
        load.audit(daemon.url)
        daemon.kill()
    daemon.start()
    load.audit(daemon.url)
    daemon.stop()
    daemon.assert_no_traceback()
    return outcome


def _while_it_lasts(daemon: Daemon, load: Load, shim: Shim) -> str:
    """The node must go on reading, acknowledge nothing that it cannot keep, and take writes again by itself."""
    assert shim.fault is not None
    client = Client(daemon.url)
    outcome = "went on"
    if shim.fault.lasting:
        assert eventually(lambda: client.request("GET", "/health").status == 503, 10), "not degraded"
        health = client.request("GET", "/health").json()
        assert health["status"] == "degraded", health
        assert eventually(lambda: len(shim.struck()) > 2, 10), "it does not try again"
        # By now whatever was acknowledged before the fault has been counted.
        acknowledged, tries = load.counts()["acknowledged"], len(shim.struck())
        assert eventually(lambda: len(shim.struck()) > tries, 10), "it gave up trying"
        assert load.counts()["acknowledged"] == acknowledged, "acknowledged while no write reached the disk"
        assert client.request("GET", "/ready").status == 503
    shim.disarm()
    # The fault has struck already; on a busy machine it takes a moment until a client hears of it.
    if eventually(lambda: load.counts()["unavailable"], NOTICE_TIMEOUT_S):
        outcome = "degraded and resumed"
    assert eventually(lambda: client.request("GET", "/ready").status == 200, RESUME_TIMEOUT_S), "it never resumed"
    resumed = load.counts()
    assert eventually(lambda: load.counts()["acknowledged"] > resumed["acknowledged"] + 20, RESUME_TIMEOUT_S)
    # While a reopening fails there is nothing to read from.
    assert shim.fault.reopen or load.counts()["unread"] == 0, "a read was refused"
    client.close()
    return outcome


@pytest.mark.parametrize("fault", QUICK, ids=str)
def test_a_fault_under_load(
    fault: Fault, shim: Path, make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load], tmp_path: Path
) -> None:
    daemon = make_daemon()
    outcome = _endure(daemon, make_load(SMALL), Shim(shim, tmp_path / "shim", daemon.data_dir, fault), 10)
    assert outcome == ("ended" if fault.kind == "half" else "degraded and resumed")


@pytest.mark.parametrize("fault", QUICK_LARGE, ids=str)
def test_a_fault_while_tables_are_written(
    fault: Fault, shim: Path, make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load], tmp_path: Path
) -> None:
    daemon = make_daemon()
    outcome = _endure(daemon, make_load(LARGE), Shim(shim, tmp_path / "shim", daemon.data_dir, fault), 20)
    assert outcome == "degraded and resumed"


@pytest.mark.parametrize("kind", ["enospc", "eio"])
def test_a_log_that_cannot_be_laid_out_in_advance_is_written_all_the_same(
    kind: str, shim: Path, make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load], tmp_path: Path
) -> None:
    daemon, fault = make_daemon(), Fault("pwrite", ".log", kind)
    outcome = _endure(daemon, make_load(LARGE), Shim(shim, tmp_path / "shim", daemon.data_dir, fault), 20)
    assert outcome == "went on"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", [*PLACES, *OPENING_PLACES], ids="-".join)
def test_every_early_call_of_a_kind_fails_in_every_way(
    place: tuple[str, str],
    shim: Path,
    make_daemon: Callable[..., Daemon],
    make_load: Callable[[Mix], Load],
    tmp_path: Path,
) -> None:
    outcomes: Counter[str] = Counter()
    kinds = (*KINDS, "exit", "half") if place[0] == "write" else ("enospc", "eio", "exit")
    for kind in kinds:
        for at in (1, 2, 3, 5, 8):
            fault = Fault(*place, kind, at, reopen=SYNCS_BETWEEN_REOPENINGS if place in OPENING_PLACES else 0)
            folder = tmp_path / str(fault)
            is_seldom = place in PLACES and (place[1] != ".log" or place[0] in ("open", "pwrite"))
            daemon, load = make_daemon(folder), make_load(LARGE if is_seldom else SMALL)
            outcome = _endure(daemon, load, Shim(shim, folder / "shim", daemon.data_dir, fault), 8)
            load.close()
            outcomes[f"{kind}: {outcome}"] += 1
            if outcome == "not reached":
                break
    print(f"{place}: {dict(outcomes)}")
    assert any(not name.endswith("not reached") for name in outcomes), "no fault of this kind was ever reached"
