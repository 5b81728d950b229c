"""`kvs watch` and `kvs edit` against a real daemon."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.process.cli import Cli, free_port
from tests.process.site import everyday

_numbers = count(1)


@pytest.fixture(scope="module")
def kvs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with everyday(tmp_path_factory.mktemp("watching")) as cli:
        yield cli


@pytest.fixture
def key() -> str:
    return f"test{next(_numbers)}"


@contextmanager
def watching_with(kvs: Cli, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`kvs watch words…`, which does not outlive the block."""
    with kvs.popen("watch", *words) as process:
        yield process
        process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


# --- watch ---


def test_changes_are_told_as_they_happen(kvs: Cli, key: str) -> None:
    kvs.run("set", f"{key}/old", "1")
    with watching_with(kvs, f"{key}/", "--since", "snapshot", "--json") as watching:
        assert json.loads(line(watching))["data"] == 1
        done = json.loads(line(watching))
        assert (done["event"], done["position"].isdigit()) == ("uptodate", True)
        made = json.loads(kvs.run("set", f"{key}/new", '{"a":\n"b"}', "--json").out)
        kvs.run("rm", f"{key}/old")
        put, gone = json.loads(line(watching)), json.loads(line(watching))
        assert (put["event"], put["path"], put["uuid"], put["data"]) == ("put", f"{key}/new", made["uuid"], {"a": "b"})
        assert (gone["event"], gone["path"]) == ("delete", f"{key}/old")
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 130
    since = kvs.run("watch", f"{key}/", "--since", put["position"], "--count", "1")
    assert since.out == f"delete {key}/old\n"


def test_a_watch_goes_on_through_a_restart(kvs: Cli, key: str) -> None:
    config = kvs.config(f"{key}.yaml", port=free_port())
    url = kvs.run("start", config).out.split()[-1]
    with watching_with(kvs, "--since", "snapshot", "--url", url) as watching:
        assert line(watching) == "uptodate\n"
        assert kvs.run("restart", config).code == 0
        kvs.run("set", key, "1", "--url", url)
        assert line(watching) == f"put {key} 1\n"


def test_a_node_that_was_never_there_is_not_waited_for(kvs: Cli) -> None:
    nowhere = kvs.run("watch", "--url", "http://127.0.0.1:1")
    assert (nowhere.code, nowhere.out) == (6, "")
    assert nowhere.err.startswith("kvs: no node answers at http://127.0.0.1:1: ")
    assert nowhere.err.count("\n") == 1


def test_a_node_that_goes_and_comes_is_told(kvs: Cli, key: str) -> None:
    config = kvs.config(f"{key}.yaml", port=free_port())
    url = kvs.run("start", config).out.split()[-1]
    with watching_with(kvs, "--since", "snapshot", "--url", url) as watching:
        assert line(watching) == "uptodate\n"
        assert kvs.run("stop", config).code == 0
        assert watching.stderr is not None
        gone = watching.stderr.readline()
        assert gone.startswith(f"kvs: no node answers at {url}: ")
        assert gone.endswith("; waiting for it\n")
        assert kvs.run("start", config).code == 0
        assert watching.stderr.readline() == "kvs: it is there again\n"


def test_what_is_no_position_is_told(kvs: Cli) -> None:
    refused = kvs.run("watch", "--since", "yesterday")
    assert refused.code == 1
    assert "400" in refused.err


def test_who_takes_no_more_ends_it(kvs: Cli, key: str) -> None:
    kvs.run("set", key, "1")
    with watching_with(kvs, key, "--since", "snapshot") as watching:
        line(watching)
        assert watching.stdout is not None
        watching.stdout.close()
        kvs.run("set", key, "2")  # its first line or the one of this is too much
        kvs.run("set", key, "3")
        assert watching.wait() == 1
        assert watching.stderr is not None
        assert watching.stderr.read() == ""


# --- edit ---


def editor(kvs: Cli, script: str) -> dict[str, str]:
    """An environment with an editor that runs this shell script on the file `$1`."""
    path = kvs.folder / f"editor{next(_numbers)}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return {"EDITOR": str(path), "TMPDIR": str(kvs.folder)}


def kept(message: str) -> Path:
    found = re.search(r"what you wrote is in (\S+)\n", message)
    assert found is not None, message
    return Path(found[1])


def test_a_value_is_edited(kvs: Cli, key: str) -> None:
    kvs.run("set", key, '{"a": 1}')
    changed = kvs.run("edit", key, environ=editor(kvs, "sed -i s/1/2/ $1"))
    assert (changed.code, changed.out, changed.err) == (0, "", f"replaced {key}\n")
    assert kvs.run("get", key).out == '{"a": 2}'
    same = kvs.run("edit", key, environ=editor(kvs, "true"))
    assert (same.code, same.err) == (0, f"{key} is as it was\n")
    assert not list(kvs.folder.glob("kvs-*"))


def test_a_new_value_is_written_in_an_editor(kvs: Cli, key: str) -> None:
    made = kvs.run("edit", key, "--json", environ=editor(kvs, "echo talking; echo hello > $1"))
    assert json.loads(made.out)["created"] is True
    assert made.err == "talking\n"
    assert kvs.run("get", key).out == "hello\n"


def test_an_edited_value_ends_when_it_would_have(kvs: Cli, key: str) -> None:
    kvs.run("set", key, "1", "--ttl", "1h")
    kvs.run("set", f"{key}/ever", "1", "--ttl", "0")
    ends = json.loads(kvs.run("get", key, "--json").out)["expires_at"]
    for name in (key, f"{key}/ever"):
        assert kvs.run("edit", name, environ=editor(kvs, "echo 2 > $1")).code == 0
    edited = json.loads(kvs.run("get", key, "--json").out)
    assert edited["data"] == 2
    assert abs(edited["expires_at"] - ends) < 5_000
    assert "expires_at" not in json.loads(kvs.run("get", f"{key}/ever", "--json").out)


def test_an_editor_that_does_not_run_leaves_no_file(kvs: Cli, key: str) -> None:
    failed = kvs.run("edit", key, environ={"EDITOR": "/nowhere/editor", "TMPDIR": str(kvs.folder)})
    assert (failed.code, failed.err) == (1, "kvs: cannot run the editor '/nowhere/editor': No such file or directory\n")
    assert not list(kvs.folder.glob("kvs-*"))


def test_what_cannot_be_stored_is_kept(kvs: Cli, key: str) -> None:
    kvs.run("set", key, "1")
    broken = kvs.run("edit", key, environ=editor(kvs, "echo { > $1"))
    assert broken.code == 1
    assert kept(broken.err).read_text() == "{\n"
    environ = editor(kvs, 'echo 3 > $1; "$KVS" -m kvs set "$KEY" 2')
    raced = kvs.run("edit", key, environ={**environ, "KVS": sys.executable, "KEY": key})
    assert raced.code == 5
    assert kept(raced.err).read_text() == "3\n"
    assert kvs.run("get", key).out == "2"
    failed = kvs.run("edit", key, environ=editor(kvs, "exit 7"))
    assert failed.code == 1
    assert "ended with 7" in failed.err
