"""A process whose wall clock is moved while it runs: versions never go back, and its other clocks stay right."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from tests.process.audit import timestamp_of
from tests.process.daemon import Daemon
from tests.process.eventually import eventually
from tests.process.shim import Shim

HOUR_MS = 3_600_000
SOON_S = 10.0


@contextmanager
def ends_heard(daemon: Daemon) -> Iterator[list[str]]:
    """The keys of which a watcher is told that they expired, as they come."""
    address = urlsplit(daemon.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.request("GET", "/watch")
    response, heard = connection.getresponse(), list[str]()

    def listen() -> None:
        is_end = False
        while line := response.readline():
            name, _, value = line.decode().strip().partition(": ")
            if name == "event":
                is_end = value == "expire"
            elif name == "data" and is_end:
                heard.append(json.loads(value)["path"])

    listener = Thread(target=listen, daemon=True)
    listener.start()
    yield heard
    daemon.stop()  # which ends the stream
    listener.join(SOON_S)
    connection.close()


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


def test_background_work_goes_on_wherever_the_clock_is_set(
    shim: Path, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    """A device without a clock of its own begins in 1970. Years that a clock jumps over take no time, and an hour that
    it is set back is not waited for."""
    daemon = make_daemon(settings={"backup_schedule": "0 0 1 1 *"})
    clock = Shim(shim, tmp_path / "shim", daemon.data_dir).with_clock()
    daemon.environment = clock.environment | {"TZ": "UTC"}
    clock.set_clock(-time.time_ns() // 1_000_000 + 5_000)
    daemon.start()
    client = daemon.client

    def succeeded() -> int:
        found = client.request("GET", "/api/backup/status").json()["succeeded"]
        assert isinstance(found, int)
        return found

    def is_told_of(key: str) -> bool:
        assert client.request("PUT", f"/kv/{key}?ttl=1s", b"1").status == 201
        return eventually(lambda: key in heard, SOON_S)

    with ends_heard(daemon) as heard:
        assert is_told_of("in/1970")
        assert succeeded() == 0
        clock.set_clock(0)
        assert is_told_of("today")
        assert eventually(succeeded, 2 * SOON_S), "many were due meanwhile: one is made"
        assert succeeded() == 1
        clock.set_clock(-HOUR_MS)
        assert is_told_of("an/hour/ago")
    daemon.assert_no_traceback()
