"""What keeps a node from starting: one line and an exit code, both ways it is started."""

import signal
import socket
from pathlib import Path

import pytest

from tests.process.cli import Cli, Environ, mode, next_event


def refused(kvs: Cli, path: Path, environ: Environ | None = None) -> tuple[int, str]:
    """The exit code and the one line that both ways to start a configuration give."""
    daemon, foreground = kvs.run("start", path, environ=environ), kvs.run(path, environ=environ)
    assert daemon.code == foreground.code
    assert (daemon.out, foreground.out) == ("", "")
    line = daemon.err.removeprefix(f"{path}: ")
    assert foreground.err == f"kvs: {line}"
    assert line.count("\n") == 1
    assert not kvs.pid_file(path.stem).exists()
    return daemon.code, line.removesuffix("\n")


def test_a_taken_port(kvs: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        path = kvs.config(port=port)
        assert refused(kvs, path) == (1, f"cannot listen on 127.0.0.1:{port}: the port is taken")
    assert "the port is taken" in kvs.log_file().read_text()


def test_an_address_that_is_not_of_this_host(kvs: Cli) -> None:
    code, line = refused(kvs, kvs.config(text="bind_address: 192.0.2.1\n"))
    assert (code, line.split(":")[0]) == (1, "cannot listen on 192.0.2.1")


def test_a_wrong_key(kvs: Cli) -> None:
    path = kvs.config(text="prot: 1\n")
    assert refused(kvs, path) == (2, f"{path}:5: prot is not a setting; did you mean port?")


def test_every_problem_of_a_file_is_shown(kvs: Cli) -> None:
    path = kvs.config(text="prot: 1\nread_only: 1\n")
    started = kvs.run("start", "node1")
    assert started.code == 2
    assert [line.split(": ")[1] for line in started.err.splitlines()] == [f"{path}:5", f"{path}:6"]


def test_seeds_without_a_secret_are_refused(kvs: Cli) -> None:
    path = kvs.folder / "node1.yaml"
    path.write_text('seed_nodes: ["127.0.0.1:9"]\n')
    code, line = refused(kvs, path)
    assert code == 2
    assert "cluster_secret: a cluster with seed_nodes needs one of at least 16 bytes" in line


def test_an_unwritable_data_folder(kvs: Cli) -> None:
    (kvs.folder / "file").write_text("")
    path = kvs.config(text="data_dir: ./file/data\n")
    code, line = refused(kvs, path)
    assert code == 1
    assert str(kvs.folder / "file/data") in line


def test_a_data_folder_of_another_node(kvs: Cli) -> None:
    kvs.config("a.yaml", "data_dir: ./shared\n")
    assert kvs.run("start", "a").code == 0
    code, line = refused(kvs, kvs.config("b.yaml", "data_dir: ./shared\n"))
    assert code == 1
    assert str(kvs.folder / "shared") in line
    assert kvs.status("a")["state"] == "RUNNING"


def test_an_unusable_home(kvs: Cli) -> None:
    (kvs.folder / "file").write_text("")
    path = kvs.config()
    code, line = refused(kvs, path, environ={"KVS_HOME": str(kvs.folder / "file/home")})
    assert (code, line) == (1, f"cannot make the folder {kvs.folder}/file/home/pids: Not a directory")


@pytest.mark.parametrize("kind", ["pids", "logs"])
def test_a_home_that_others_may_write_in(kvs: Cli, kind: str) -> None:
    path = kvs.config()
    folder = kvs.home / kind
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert refused(kvs, path) == (1, f"cannot use {folder}: others may write in it; chmod it to 0700")


def test_a_missing_file_is_made_only_for_a_foreground_run(kvs: Cli) -> None:
    started = kvs.run("start", "new")
    assert started.code == 2
    assert "no such file" in started.err
    assert "kvs config init" in started.err
    assert not (kvs.folder / "new.yaml").exists()
    with kvs.popen("new.yaml", environ={"KVS_PORT": "0"}) as process:
        next_event(process, "Started")
        assert mode(kvs.folder / "new.yaml") == 0o600
        assert (kvs.folder / "data").is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "made new.yaml with default settings\n"


def test_a_file_that_cannot_be_made(kvs: Cli) -> None:
    result = kvs.run("nowhere/new.yaml")
    assert (result.code, result.err) == (1, "kvs: cannot make nowhere/new.yaml: No such file or directory\n")
