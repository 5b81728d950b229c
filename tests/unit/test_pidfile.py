"""PID files: who may claim one, what is stale, and which files are refused."""

import fcntl
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvs.daemon.failure import Failed
from kvs.daemon.home import Home
from kvs.daemon.instances import State, clean_stale, inspect
from kvs.daemon.pidfile import PidFile, read_pid_file, remove_stale
from kvs.daemon.process import Handle, started_s

CONFIG = Path("/srv/site/node1.yaml")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def path(home: Home) -> Path:
    return home.pid_file("node1")


@pytest.fixture
def other_process() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def written(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({"pid": 1, "config": str(CONFIG), "started": 0.0, "url": "", **values}) + "\n")


def test_a_claimed_file(home: Home, path: Path) -> None:
    pid_file = PidFile.claim(path, CONFIG)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    instance = inspect(home, CONFIG)
    assert instance.state is State.RUNNING
    assert instance.running is not None
    assert (instance.running.pid, instance.running.config, instance.running.url) == (os.getpid(), CONFIG, "")
    pid_file.set_url("http://127.0.0.1:1", "")
    running = inspect(home, CONFIG).running
    assert running is not None
    assert running.url == "http://127.0.0.1:1"
    pid_file.remove()
    assert not path.exists()
    assert inspect(home, CONFIG).state is State.STOPPED


def test_a_second_claim_names_the_holder(path: Path) -> None:
    pid_file = PidFile.claim(path, CONFIG)
    with pytest.raises(Failed, match=rf"already running \(pid {os.getpid()}\)"):
        PidFile.claim(path, CONFIG)
    with pytest.raises(Failed, match=r"/srv/site/node1.yaml is running under the same name .* or /other/node1.yaml"):
        PidFile.claim(path, Path("/other/node1.yaml"))
    pid_file.remove()


def test_a_lock_of_something_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvs.daemon.pidfile._CLAIM_PAUSE_S", 0)
    written(path, pid=2**22 + 1)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Failed, match="another process holds its lock"):
            PidFile.claim(path, CONFIG)
        assert not remove_stale(path)
    assert remove_stale(path)


def test_an_end_does_not_remove_a_successors_file(path: Path) -> None:
    pid_file = PidFile.claim(path, CONFIG)
    path.unlink()
    successor = PidFile.claim(path, CONFIG)
    pid_file.remove()
    assert path.exists()
    successor.remove()


def test_a_stale_file_is_taken_over(home: Home, path: Path) -> None:
    written(path, pid=2**22 + 1)
    assert inspect(home, CONFIG).state is State.STALE
    PidFile.claim(path, CONFIG).remove()


def test_a_used_again_pid_is_stale_and_never_signalled(
    home: Home, path: Path, other_process: "subprocess.Popen[bytes]"
) -> None:
    written(path, pid=other_process.pid, started=1.0)
    assert inspect(home, CONFIG).state is State.STALE
    with pytest.raises(Failed, match="is not the daemon any more"):
        Handle(other_process.pid, 1.0)
    assert other_process.poll() is None


def test_a_living_process_without_the_lock_is_stale(
    home: Home, path: Path, other_process: "subprocess.Popen[bytes]"
) -> None:
    written(path, pid=other_process.pid, started=started_s(other_process.pid))
    assert inspect(home, CONFIG).state is State.STALE
    assert "removed a stale PID file" in clean_stale(home, inspect(home, CONFIG))
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"pid": "x"}', "[" * 5000, "\xff\n", '{"pid": 1}\n', "7"])
def test_a_file_without_sense_is_stale(home: Home, path: Path, text: str) -> None:
    path.write_bytes(text.encode("latin-1"))
    instance = inspect(home, CONFIG)
    assert (instance.state, instance.info) == (State.STALE, None)


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**30])
def test_impossible_pids_are_stale(home: Home, path: Path, pid: int) -> None:
    written(path, pid=pid)
    assert inspect(home, CONFIG).state is State.STALE


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken its status
        assert started_s(process.pid) is None


def test_waiting_for_a_process(other_process: "subprocess.Popen[bytes]") -> None:
    started = started_s(other_process.pid)
    assert started is not None
    with Handle(other_process.pid, started) as handle:
        assert not handle.ended_within(0.01)
        handle.signal(signal.SIGTERM)
        assert handle.ended_within(10)  # as a zombie: its parent, this test, has not waited for it
        handle.signal(signal.SIGTERM)
    assert other_process.wait() == -signal.SIGTERM


def hostile_files(victim: Path, path: Path) -> Iterator[tuple[str, str]]:
    path.symlink_to(victim)
    yield "a symbolic link", "it is a symbolic link"
    path.symlink_to(path.with_name("nowhere"))
    yield "a dangling link", "it is a symbolic link"
    path.hardlink_to(victim)
    yield "a hard link", "it has a second name"
    path.mkdir()
    yield "a folder", "it is not a regular file|Is a directory"
    os.mkfifo(path)
    yield "a FIFO", "it is not a regular file"


def test_hostile_files_are_refused_and_their_targets_untouched(home: Home, path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("precious")
    before = victim.stat()
    for what, reason in hostile_files(victim, path):
        for act in (lambda: PidFile.claim(path, CONFIG), lambda: read_pid_file(path), lambda: remove_stale(path)):
            with pytest.raises(Failed, match=reason):
                act()
            assert os.path.lexists(path), what
        path.rmdir() if path.is_dir() else path.unlink()
        after = victim.stat()
        assert (victim.read_text(), after.st_mode, after.st_size) == ("precious", before.st_mode, before.st_size)
    assert not path.with_name("nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_file_is_refused(path: Path) -> None:
    written(path)
    os.chown(path, 12345, -1)
    with pytest.raises(Failed, match="it belongs to user 12345"):
        read_pid_file(path)


def test_folders_that_others_can_write_in_are_refused(home: Home) -> None:
    home.pids.chmod(0o777)
    with pytest.raises(Failed, match="others may write in it"):
        home.make()
    home.pids.rmdir()
    home.pids.symlink_to(home.logs)
    with pytest.raises(Failed, match="it is not a folder"):
        home.make()


def test_folders_are_the_users_own(home: Home) -> None:
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (home.pids, home.logs)] == [0o700, 0o700]


def test_names(home: Home) -> None:
    assert home.pid_file("node1") == home.root / "pids/node1.pid"
    assert home.log_file(CONFIG) == home.root / "logs/site_node1.yaml.log"
