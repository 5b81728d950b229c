"""A disk that runs full: writes are refused, reads go on, and nothing acknowledged is lost before, meanwhile or after.

The disk is a tmpfs of a few MiB. A ballast file on it takes the place of whatever else fills a disk: it is there from
the start, and removing it is what an operator does. Its size decides which call of LevelDB finds no room first.
"""

import os
from collections.abc import Callable

import pytest

from tests.process.audit import audit
from tests.process.daemon import Daemon, NotStarted
from tests.process.disks import Disk
from tests.process.eventually import eventually
from tests.process.load import Load, Mix

SEED = int(os.environ.get("TEST_SEED", "1"))
MIB = 1024 * 1024
FULL_TIMEOUT_S = 30.0
RESUME_TIMEOUT_S = 20.0
MORE_ACKS = 40
# Random bytes, which no compression makes smaller; so many keys that old versions are no large part of it.
BLOBS = Mix(SEED, keys=200, big_share=1.0, big_bytes=64 * 1024)


def _fill_up(daemon: Daemon, load: Load) -> None:
    """Load until the disk takes no more; then the node says so everywhere, and every acknowledged value is readable."""
    load.run(daemon.url)
    client = daemon.client
    assert eventually(lambda: client.request("GET", "/health").status == 503, FULL_TIMEOUT_S), "it never ran full"
    assert eventually(lambda: any("No space left on device" in line for line in daemon.log), 5), daemon.log
    failed = "The store cannot be reopened yet"
    assert eventually(lambda: failed in daemon.logged("warning"), RESUME_TIMEOUT_S), "it does not try again"
    # By now whatever was acknowledged before the disk was full has been counted.
    acknowledged = load.counts()["acknowledged"]
    assert eventually(lambda: daemon.logged("warning").count(failed) > 1, RESUME_TIMEOUT_S), "it gave up trying"
    load.pause()
    assert load.counts()["acknowledged"] == acknowledged, "acknowledged on a full disk"
    assert load.counts()["unavailable"] > 0
    assert load.counts()["unread"] == 0, "a read was refused"
    assert client.request("GET", "/health").json()["status"] == "degraded"
    ready = client.request("GET", "/ready")
    assert (ready.status, ready.json()["mode"]) == (503, "degraded")
    refused = client.put("a/new/key", b'"small enough, yet refused"')
    assert refused.status == 503
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "degraded"
    assert refused.headers["Retry-After"] == "1"
    assert client.get("a/new/key").status == 404
    keys = audit(load.ledger(), client, write=False)
    print(f"full: {load.counts()}, {keys} keys read while full")


def _go_on(daemon: Daemon, load: Load) -> None:
    """More writes and another look; then again after a restart."""
    load.run(daemon.url)
    wanted = load.counts()["acknowledged"] + MORE_ACKS
    assert eventually(lambda: load.counts()["acknowledged"] >= wanted, RESUME_TIMEOUT_S), "it takes no writes"
    load.pause()
    load.audit(daemon.url)
    daemon.stop()
    daemon.start()
    load.audit(daemon.url)
    assert daemon.client.get("a/new/key").status == 404, "a refused write is there"
    daemon.stop()
    daemon.assert_no_traceback()


# 6 MiB of room: LevelDB's log (up to 16 MiB) cannot grow. 24 MiB: the log fits and a second one is begun, but the table
# that is made of the first does not fit.
@pytest.mark.parametrize(("size", "room", "logs"), [(16 * MIB, 6 * MIB, 1), (48 * MIB, 24 * MIB, 2)])
def test_a_full_disk_loses_nothing_and_the_node_resumes_by_itself(
    size: int,
    room: int,
    logs: int,
    make_disk: Callable[[int], Disk],
    make_daemon: Callable[..., Daemon],
    make_load: Callable[[Mix], Load],
) -> None:
    disk, load = make_disk(size), make_load(BLOBS)
    disk.fill(size - room)
    daemon = make_daemon(data_dir=disk.folder / "data")
    daemon.start()
    _fill_up(daemon, load)
    assert len(list(daemon.data_dir.glob("*.log"))) == logs
    disk.ballast.unlink()
    client = daemon.client
    assert eventually(lambda: client.request("GET", "/ready").status == 200, RESUME_TIMEOUT_S), "it never resumed"
    assert client.request("GET", "/health").json()["status"] == "healthy"
    _go_on(daemon, load)


def test_a_node_killed_on_a_full_disk_comes_back_once_there_is_room(
    make_disk: Callable[[int], Disk], make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load]
) -> None:
    disk, load = make_disk(16 * MIB), make_load(BLOBS)
    disk.fill(10 * MIB)
    daemon = make_daemon(data_dir=disk.folder / "data")
    daemon.start()
    _fill_up(daemon, load)
    daemon.kill()
    # Whatever a start tries on the full disk, it must not harm what is there.
    for _ in range(2):
        with pytest.raises(NotStarted) as refused:
            daemon.start()
        assert "No space left on device" in daemon.errors().splitlines()[-1]
        assert refused.value.code != 0
    disk.ballast.unlink()
    daemon.start()
    load.audit(daemon.url)
    _go_on(daemon, load)
