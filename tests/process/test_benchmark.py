"""The benchmark runs from end to end, and leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.process.cli import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(shutil.which("wrk") is None, reason="it needs wrk"),
]


def test_a_short_run(tmp_path: Path) -> None:
    target, temporary = tmp_path / "run.json", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--seconds", "1", "--mixed-seconds", "2"]
    done = subprocess.run(
        [*command, "--keys", "10000", "--nodes", "3", "--json", str(target)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(target.read_text())
    assert set(found["series"]) == {"throughput", "sync", "growth"}
    names = {"bare", "open", "member", "KVS", "etcd", "pouchdb-server", "redis", "nats", "moat-kv"}
    assert set(found["peers"]) == names
    measured = {point["server"] for point in found["series"]["throughput"]}
    missing = {name for name, told in found["peers"].items() if told.startswith("not compared: ")}
    assert measured == names - missing
    assert {"bare", "open", "member", "KVS"} <= measured
    whats = [row["what"] for row in found["results"]]
    assert len(whats) == len(set(whats))
    lost = [row for row in found["results"] if "acknowledged writes that are missing" in row["what"]]
    assert [row["figure"]["median"] for row in lost] == [0]
    assert all(row["what"] in done.stdout for row in found["results"])
    assert list(temporary.iterdir()) == []
    # Of others that end meanwhile there is none.
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert [words for words in commands if str(temporary) in " ".join(words)] == []
