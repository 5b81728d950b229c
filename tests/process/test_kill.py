"""What was acknowledged survives the death of the process (kill -9) and its end (SIGTERM), at any moment."""

import os
import random
import signal
import threading
from collections.abc import Callable

import pytest

from tests.process.daemon import Daemon
from tests.process.eventually import eventually
from tests.process.load import Load, Mix

SEED = int(os.environ.get("TEST_SEED", "1"))


def _run_until_acknowledged(load: Load, daemon: Daemon, writes: int) -> None:
    wanted = load.counts()["acknowledged"] + writes
    load.run(daemon.url)
    assert eventually(lambda: load.counts()["acknowledged"] >= wanted, 20)


def _kill_again_and_again(daemon: Daemon, load: Load, kills: int, longest_s: float) -> None:
    """After each kill: start, check everything ever acknowledged, go on with the same data."""
    moments = random.Random(SEED)
    print(f"TEST_SEED={SEED}")
    for number in range(kills):
        daemon.start()
        _run_until_acknowledged(load, daemon, writes=1)
        killer = threading.Timer(moments.uniform(0, longest_s), os.kill, (daemon.pid, signal.SIGKILL))
        killer.start()
        killer.join()
        daemon.kill()
        load.pause()
        daemon.start()
        keys = load.audit(daemon.url)
        daemon.stop() if number % 2 else daemon.kill()
        print(f"kill {number + 1}: {load.counts()}, {keys} keys checked")
    assert load.ledger().counts()["unknown"] > 0, "no kill ever hit a write under way"
    daemon.assert_no_traceback()


def test_five_kills_lose_nothing(make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load]) -> None:
    _kill_again_and_again(make_daemon(), make_load(Mix(SEED)), kills=5, longest_s=0.5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_kills_lose_nothing(make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load]) -> None:
    # Large values, so that logs rotate and tables are merged while the kills come.
    mix = Mix(SEED, keys=60, big_share=0.3, big_bytes=128 * 1024)
    _kill_again_and_again(make_daemon(), make_load(mix), kills=100, longest_s=2.0)


def test_sigterm_under_load_ends_well_and_loses_nothing(
    make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load]
) -> None:
    daemon, load = make_daemon(), make_load(Mix(SEED))
    for _ in range(2):
        daemon.start()
        _run_until_acknowledged(load, daemon, writes=100)
        daemon.stop()
        load.pause()
        daemon.start()
        load.audit(daemon.url)
        daemon.stop()
    daemon.assert_no_traceback()
