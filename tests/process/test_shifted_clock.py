"""A process whose wall clock is moved while it runs: versions never go back, and its other clocks stay right."""

from collections.abc import Callable
from pathlib import Path

from tests.process.audit import timestamp_of
from tests.process.daemon import Daemon
from tests.process.eventually import eventually
from tests.process.shim import Shim

HOUR_MS = 3_600_000


def test_versions_rise_over_jumps_of_the_clock_and_restarts(
    shim: Path, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon()
    clock = Shim(shim, tmp_path / "shim", daemon.data_dir).with_clock()
    daemon.environment = clock.environment
    daemon.start()
    client, last = daemon.client, 0
    for ahead_ms in (0, HOUR_MS, 0, -HOUR_MS, 1_500, -1):
        clock.set_clock(ahead_ms)
        if ahead_ms == -HOUR_MS:
            daemon.kill()
            daemon.start()
            client = daemon.client
        made = client.put("k", b"1").json()["timestamp"]
        assert last <= made
        assert ahead_ms < HOUR_MS or made >= last + HOUR_MS, "the clock was not moved"
        assert timestamp_of(client.get("k")) == made
        last = made
    assert client.request("GET", "/health").json()["uptime_seconds"] < HOUR_MS / 1000
    daemon.stop()
    daemon.assert_no_traceback()


def test_a_value_ends_by_the_clock_of_the_node(shim: Path, tmp_path: Path, make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    clock = Shim(shim, tmp_path / "shim", daemon.data_dir).with_clock()
    daemon.environment = clock.environment
    daemon.start()
    assert daemon.client.request("PUT", "/kv/k?ttl=30m", b"1").status == 201
    clock.set_clock(HOUR_MS)
    assert eventually(lambda: daemon.client.get("k").status == 404, 5)
    daemon.stop()
