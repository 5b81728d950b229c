"""Starting, showing and stopping real daemons."""

import json
import os
import urllib.request
from pathlib import Path

from kvs import __version__
from tests.process.cli import ALONE, Cli, mode, next_event


def health(url: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{url}/health", timeout=10) as response:
        answer = json.load(response)
    assert isinstance(answer, dict)
    return answer


def test_a_daemons_life(kvs: Cli) -> None:
    config = kvs.config()
    started = kvs.run("start", "node1")
    assert (started.code, started.err) == (0, "")
    row = kvs.status("node1")
    assert started.out == f"node1: started (pid {row['pid']}) at {row['url']}\n"
    assert health(row["url"])["node_id"] == row["node_id"]
    assert (row["state"], row["mode"], row["version"]) == ("RUNNING", "normal", __version__)
    assert (row["name"], row["config"], row["log"]) == ("node1", str(config), str(kvs.log_file()))
    assert row["url"] == f"http://{row['address']}"
    assert row["uptime_seconds"] >= 0
    assert os.getsid(row["pid"]) == row["pid"]

    shown = kvs.run("status", "node1")
    assert shown.code == 0
    assert [word in shown.out for word in ("RUNNING", row["url"], str(row["pid"]), "normal")] == [True] * 4

    stopped = kvs.run("stop", "node1")
    assert (stopped.code, stopped.out, stopped.err) == (0, f"node1: stopped (pid {row['pid']})\n", "")
    assert not kvs.pid_file().exists()
    assert not Path(f"/proc/{row['pid']}").exists() or "Z" in Path(f"/proc/{row['pid']}/stat").read_text()
    gone = kvs.run("status", "node1")
    assert gone.code == 3
    assert "STOPPED" in gone.out
    assert [json.loads(line)["event"] for line in kvs.log_file().read_text().splitlines()] == [
        "Started",
        "Stopping",
        "Stopped",
    ]


def test_files_and_folders_are_the_users_own(kvs: Cli) -> None:
    kvs.config()
    assert kvs.run("start", "node1").code == 0
    paths = {path: mode(path) for path in [kvs.home, *kvs.home.rglob("*")]}
    assert len(paths) == 5
    assert {path: bits for path, bits in paths.items() if bits != (0o700 if path.is_dir() else 0o600)} == {}
    data = kvs.folder / "data-node1"
    assert [path for path in [data, *data.rglob("*")] if mode(path) & 0o077] == []


def test_the_daemon_does_not_hold_its_starter(kvs: Cli) -> None:
    """Output that is captured through pipes ends when `kvs start` ends; nor is the folder it was started in held."""
    kvs.config()
    assert kvs.run("start", "node1").code == 0
    pid = kvs.status("node1")["pid"]
    standard = [Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3)]
    assert standard == [Path("/dev/null"), kvs.log_file(), kvs.log_file()]
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_starting_twice(kvs: Cli) -> None:
    kvs.config()
    assert kvs.run("start", "node1").code == 0
    row = kvs.status("node1")
    again = kvs.run("start", "node1")
    assert (again.code, again.out) == (1, "")
    assert again.err == f"node1: already running (pid {row['pid']}, {row['url']})\n"
    foreground = kvs.run("node1.yaml")
    assert foreground.code == 1
    assert foreground.err == f"kvs: already running (pid {row['pid']}, {row['url']})\n"
    assert kvs.status("node1")["pid"] == row["pid"]


def test_starting_twice_at_once(kvs: Cli) -> None:
    kvs.config()
    both = [kvs.popen("start", "node1") for _ in range(2)]
    texts = [process.communicate(timeout=60) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert sum("already running" in err for _, err in texts) == 1, texts
    assert kvs.status("node1")["state"] == "RUNNING"


def test_a_foreground_run_is_an_instance_too(kvs: Cli) -> None:
    kvs.config()
    with kvs.popen("node1.yaml") as process:
        started = next_event(process, "Started")
        row = kvs.status("node1")
        assert (row["state"], row["pid"], row["url"]) == ("RUNNING", process.pid, started["url"])
        assert kvs.run("stop", "node1").code == 0
        assert process.wait(30) == 0


def test_stopping_what_does_not_run(kvs: Cli) -> None:
    kvs.config()
    stopped = kvs.run("stop", "node1")
    assert (stopped.code, stopped.out, stopped.err) == (1, "", "node1: not running\n")


def test_several_at_once(kvs: Cli) -> None:
    for name in ("a", "b"):
        kvs.config(f"{name}.yaml")
    started = kvs.run("start", "a", "missing", "b.yaml")
    assert started.code == 1
    assert [line.split(" ")[:2] for line in started.out.splitlines()] == [["a:", "started"], ["b.yaml:", "started"]]
    assert started.err.startswith("missing: no such file")
    assert [(row["name"], row["state"]) for row in kvs.status()] == [("a", "RUNNING"), ("b", "RUNNING")]
    shown = kvs.run("status")
    assert shown.code == 0
    assert len(shown.out.splitlines()) == 3
    stopped = kvs.run("stop", "a", "b")
    assert (stopped.code, len(stopped.out.splitlines())) == (0, 2)
    nothing = kvs.run("status")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no node is known" in nothing.err


def test_restart(kvs: Cli) -> None:
    kvs.config()
    first = kvs.run("restart", "node1")
    assert first.code == 0
    pid = kvs.status("node1")["pid"]
    second = kvs.run("restart", "node1")
    assert second.code == 0
    assert f"stopped (pid {pid})" in second.err
    assert kvs.status("node1")["pid"] != pid


def test_restart_with_a_bad_configuration_leaves_the_node_alone(kvs: Cli) -> None:
    path = kvs.config()
    assert kvs.run("start", "node1").code == 0
    pid = kvs.status("node1")["pid"]
    path.write_text(ALONE + "prot: 1\n")
    failed = kvs.run("restart", "node1")
    assert failed.code == 2
    assert failed.err == f"node1: {path}:3: prot is not a setting; did you mean port?\n"
    assert kvs.status("node1")["pid"] == pid


def test_an_instance_is_found_by_name_from_anywhere(kvs: Cli, tmp_path: Path) -> None:
    kvs.config()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert kvs.run("start", "node1").code == 0
    assert kvs.run("status", "node1", cwd=elsewhere).code == 0
    assert kvs.run("logs", "node1", cwd=elsewhere).code == 0
    assert kvs.run("stop", "node1", cwd=elsewhere).code == 0


def test_two_configurations_of_one_name(kvs: Cli) -> None:
    first, second = kvs.config(folder="one"), kvs.config(folder="two")
    assert kvs.run("start", first).code == 0
    pid = kvs.status(first)["pid"]
    for command in ("start", "stop", "restart", "status"):
        refused = kvs.run(command, second)
        assert refused.code == 1, command
        assert f"{first} is running under the same name (pid {pid}); rename it or {second}" in refused.err
    absent = second.with_name("elsewhere") / second.name
    assert f"there is no {absent}, and {first} is running under the same name" in kvs.run("stop", absent).err
    refused = kvs.run(second)
    assert refused.code == 1
    assert f"{first} is running under the same name" in refused.err
    assert kvs.status(first)["pid"] == pid


def test_a_link_to_the_folder_is_the_same_configuration(kvs: Cli) -> None:
    path = kvs.config(folder="one")
    (kvs.folder / "link").symlink_to(path.parent)
    assert kvs.run("start", path).code == 0
    assert "already running" in kvs.run("start", "link/node1").err
