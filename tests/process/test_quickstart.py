"""What `make run` prints works as printed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.accounts import claims
from tests.process.cli import RUN_TIMEOUT_S, Cli, mode


def quickstart(kvs: Cli, config: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kvs.daemon.quickstart", config],
        cwd=kvs.folder,
        env=kvs.environment({"KVS_PORT": "0"}),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed commands need curl")
def test_the_printed_lines_work_and_a_second_run_finds_the_node(kvs: Cli) -> None:
    first = quickstart(kvs, "run/kvs.yaml")
    assert (first.returncode, first.stderr) == (0, "made run/kvs.yaml with default settings\n")
    put, get = (line.strip() for line in first.stdout.splitlines() if line.startswith("  curl "))
    answers = [
        json.loads(
            subprocess.run(["sh", "-c", line], cwd=kvs.folder, capture_output=True, check=True, timeout=30).stdout
        )
        for line in (put, get)
    ]
    assert mode(kvs.folder / "run" / "authorization") == 0o600
    assert answers[1]["data"] == "world"
    assert answers[1]["uuid"] == answers[0]["uuid"]
    named = dict(line.split(":", 1) for line in first.stdout.splitlines() if line[:1].isalpha() and ":" in line)
    assert (kvs.folder / named["Configuration"].strip()).is_file()
    assert Path(named["Log"].strip()).is_file()

    again = quickstart(kvs, "run/kvs.yaml")
    assert again.returncode == 0
    assert put in again.stdout
    assert kvs.run("stop", "run/kvs.yaml").code == 0


def test_its_token_lives_no_longer_than_any_may(kvs: Cli) -> None:
    path = kvs.folder / "run" / "kvs.yaml"
    path.parent.mkdir()
    path.write_text("clustering_enabled: false\ndata_dir: ./data\ntoken_max_ttl: 1h\n")
    shown = quickstart(kvs, "run/kvs.yaml")
    assert (shown.returncode, shown.stderr) == (0, "")
    told = claims((kvs.folder / "run" / "authorization").read_text().split()[-1])
    assert told["exp"] - told["iat"] == 3600


def test_it_says_in_one_line_what_is_wrong(kvs: Cli) -> None:
    path = kvs.config("kvs.yaml", "prot: 1\n", folder="run")
    refused = quickstart(kvs, "run/kvs.yaml")
    assert refused.returncode == 2
    assert "prot" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert path.is_file()
