"""Files are for their owner only, and nobody can lead a node or a command to another file."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kvs.daemon.files import create_own
from tests.certificates import Authority
from tests.process.cli import Cli, mode, next_event
from tests.process.daemon import Daemon
from tests.process.test_quickstart import quickstart
from tests.process.test_refusals import refused

WITHOUT_UMASK = ("sh", "-c", 'umask 0; exec "$@"', "sh")


def modes(folder: Path) -> dict[str, str]:
    """What is not 0600 or 0700, by its path."""
    return {
        path.relative_to(folder).as_posix(): f"{mode(path):04o}"
        for path in folder.rglob("*")
        if not path.is_symlink() and mode(path) != (0o700 if path.is_dir() else 0o600)
    }


def test_whatever_the_umask_a_node_makes_files_for_its_owner(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """With everything that a node writes: database, keys, log, PID file, over a restart and a failed write."""
    authority = Authority(tmp_path / "certs")
    files = authority.issue("node")
    folder = tmp_path / "node"
    settings = {
        "auth_enabled": True,
        "clustering_enabled": True,
        "cluster_secret": "a-secret-of-one-node",
        "tls_cert_file": str(files.certificate),
        "tls_key_file": str(files.key),
    }
    daemon = make_daemon(folder, settings=settings, prefix=WITHOUT_UMASK, tls=authority.client())
    for _ in range(2):
        daemon.start()
        assert daemon.client.request("GET", "/health").status == 200
        daemon.stop()
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {"data/signing.key", "data/CURRENT", "home/pids", "home/logs"} <= made
    by_test = {"node.yaml", "errors.log", "output.log"}
    assert {name: bits for name, bits in modes(folder).items() if name not in by_test} == {}


def test_whatever_the_umask_commands_make_files_for_their_user(kvs: Cli) -> None:
    before = os.umask(0)
    try:
        assert kvs.run("config", "init", "a.yaml").code == 0
        assert kvs.run("cert", "init", "certs", "n1=127.0.0.1").code == 0
        assert kvs.run("debug", "make-conflict", "d1", "d2").code == 0
        started = quickstart(kvs, "run/kvs.yaml")
        assert started.returncode == 0, started
        assert kvs.run("stop", "run/kvs.yaml").code == 0
    finally:
        os.umask(before)
    assert modes(kvs.folder) == {}
    assert len(list(kvs.folder.rglob("*"))) > 20


def test_a_log_that_somebody_else_made_anew_is_for_its_owner_again(kvs: Cli) -> None:
    kvs.config()
    assert kvs.run("start", "node1").code == 0
    pid = kvs.status("node1")["pid"]
    with kvs.popen("logs", "-f", "node1") as follower:
        next_event(follower, "Started")
        kvs.log_file().rename(kvs.log_file().with_suffix(".1"))
        kvs.log_file().touch(mode=0o644)
        os.kill(pid, signal.SIGHUP)
        next_event(follower, "Log reopened")
        assert mode(kvs.log_file()) == 0o600
        follower.terminate()
        follower.communicate()


# --- others plant something ---


@pytest.mark.parametrize("bits", [0o777, 0o770, 0o1777, 0o722])
def test_a_data_folder_that_others_may_write_in(kvs: Cli, bits: int) -> None:
    path = kvs.config()
    folder = kvs.folder / "data-node1"
    folder.mkdir()
    folder.chmod(bits)
    line = f"cannot use the data directory {folder}: others may write in it; chmod it to 0700"
    assert refused(kvs, path) == (1, line)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_data_folder_of_another_user(kvs: Cli) -> None:
    path = kvs.config()
    folder = kvs.folder / "data-node1"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    assert refused(kvs, path) == (1, f"cannot use the data directory {folder}: it belongs to user 12345, not to 0")


def test_a_data_folder_may_be_a_link_and_readable(kvs: Cli) -> None:
    """As an operator makes it by hand, on another disk."""
    kvs.config()
    disk = kvs.folder / "disk"
    disk.mkdir(mode=0o755)
    disk.chmod(0o755)
    (kvs.folder / "data-node1").symlink_to(disk)
    assert kvs.run("start", "node1").code == 0
    assert (disk / "CURRENT").is_file()
    assert {mode(path) for path in disk.iterdir()} == {0o600}


VICTIM = "the text of a victim"


@pytest.mark.parametrize("kind", ["a file", "nothing", "itself"])
def test_a_new_file_is_not_made_through_a_link(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    link = tmp_path / "link"
    if kind == "a file":
        victim.write_text(VICTIM)
    link.symlink_to(link if kind == "itself" else victim)
    with pytest.raises(FileExistsError):
        create_own(link, b"secret")
    assert victim.read_text() == VICTIM if kind == "a file" else not victim.exists()


def test_make_run_writes_its_token_through_no_link(kvs: Cli) -> None:
    assert quickstart(kvs, "run/kvs.yaml").returncode == 0
    victim = kvs.folder / "victim"
    victim.write_text(VICTIM)
    header = kvs.folder / "run" / "authorization"
    header.unlink()
    header.symlink_to(victim)
    assert quickstart(kvs, "run/kvs.yaml").returncode == 0
    assert victim.read_text() == VICTIM
    assert not header.is_symlink()
    assert mode(header) == 0o600
    assert kvs.run("stop", "run/kvs.yaml").code == 0


def test_a_signing_key_that_is_a_link_is_refused(kvs: Cli) -> None:
    path = kvs.config()
    path.write_text(path.read_text().replace("auth_enabled: false\n", ""))
    assert kvs.run("start", "node1").code == 0
    assert kvs.run("stop", "node1").code == 0
    key = kvs.folder / "data-node1" / "signing.key"
    elsewhere = kvs.folder / "elsewhere"
    key.rename(elsewhere)
    key.symlink_to(elsewhere)
    code, line = refused(kvs, path)
    assert (code, line.startswith(f"cannot read the signing key {key}: ")) == (1, True)


def test_a_configuration_with_a_secret_that_others_may_read_is_refused(kvs: Cli) -> None:
    path = kvs.config(text="cluster_secret: a-secret-that-others-see\n")
    path.chmod(0o640)
    code, line = refused(kvs, path)
    assert code == 2
    assert "others may read it (mode 0640)" in line
    assert "a-secret-that-others-see" not in line
