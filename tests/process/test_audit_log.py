"""The audit log of real nodes: whatever somebody does to it on the disk, `kvs audit verify` names it."""

import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kvs.storage.keyspace import AUDIT, AUDIT_ENTRIES, AUDIT_HEADS, AUDIT_TIP, after, audit_row
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.store import Batch
from tests.auditing import entries_in, forged, numbered, rewritten, with_tip
from tests.process.cli import Cli, Result
from tests.process.daemon import Client, Daemon
from tests.process.eventually import eventually
from tests.process.flips import Flip, written_bytes
from tests.process.load import Load, Mix
from tests.process.site import Site
from tests.process.test_cluster_commands import SECRET, all_equal, start

SEED = int(os.environ.get("TEST_SEED", "1"))
WRITES = 20
TORN = "The audit log does not end where its tip says: verify it"
_TIMEOUT_S = 30.0


def write(url: str, count: int = WRITES, first: int = 1) -> None:
    client = Client(url)
    for number in range(first, first + count):
        assert client.put(f"site/{number}", b"1").status in (200, 201)
    client.close()


class Files:
    """The data directory of a node that is stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def rows(self) -> dict[bytes, bytes]:
        store = LevelDBStore(self._folder, sync=False)
        try:
            return dict(store.scan(AUDIT, after(AUDIT)))
        finally:
            store.close()

    def change(self, rows: Batch) -> None:
        store = LevelDBStore(self._folder, sync=False)
        store.commit(rows)
        store.close()

    def cut(self, left: int) -> None:
        """Leave so many entries, and no head."""
        gone = [row for row in self.rows() if row > audit_row(left) and row[:2] in (AUDIT_ENTRIES, AUDIT_HEADS)]
        self.change(dict.fromkeys(gone))

    def replace_entries(self, entries: list[bytes]) -> None:
        gone: dict[bytes, bytes | None] = dict.fromkeys(row for row in self.rows() if row.startswith(AUDIT_ENTRIES))
        self.change({**gone, **numbered(entries)})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A node that has written something and was stopped; its data directory is copied for each test."""
    kvs = Cli(tmp_path_factory.mktemp("stopped"))
    path = kvs.config()
    assert kvs.run("start", path).code == 0
    write(kvs.status(path)["url"])
    assert kvs.run("stop", path).code == 0
    yield kvs
    kvs.kill_all()


@pytest.fixture
def files(stopped: Cli) -> Iterator[Files]:
    """The same data for each test."""
    data, kept = stopped.folder / "data-node1", stopped.folder / "kept"
    shutil.copytree(data, kept)
    yield Files(data)
    shutil.rmtree(data)
    kept.rename(data)


def verify(kvs: Cli, *words: str | Path) -> Result:
    return kvs.run("audit", "verify", *words)


def findings(result: Result) -> list[str]:
    assert result.code == 1, result
    *lines, last = result.out.splitlines()
    assert last.startswith("tampered: ")
    return lines


def test_a_log_that_nobody_touched_is_sound(stopped: Cli, files: Files) -> None:
    result = verify(stopped, "node1.yaml")
    assert (result.code, result.out) == (0, f"sound: {WRITES} entries, 1 head up to entry {WRITES}\n")
    assert "nobody else knows what it was" in result.err
    shown = json.loads(verify(stopped, "node1.yaml", "--json").out)
    assert (shown["sound"], shown["entries"], shown["findings"], shown["known_by"]) == (True, WRITES, [], [])


def test_a_changed_byte(stopped: Cli, files: Files) -> None:
    choice = random.Random(SEED)
    for _ in range(5):
        place = choice.randint(1, WRITES)
        raw = bytearray(files.rows()[audit_row(place)])
        offset = choice.randrange(len(raw))
        raw[offset] ^= 1 << choice.randrange(8)
        before = files.rows()[audit_row(place)]
        files.change({audit_row(place): bytes(raw)})
        named = findings(verify(stopped, "node1.yaml"))
        assert any(line.startswith(f"entry {place}: ") for line in named), (place, offset, named)
        files.change({audit_row(place): before})


def test_an_entry_taken_out(stopped: Cli, files: Files) -> None:
    files.change({audit_row(7): None})
    assert findings(verify(stopped, "node1.yaml"))[0] == "entry 7: missing"


def test_an_entry_taken_out_by_somebody_who_closes_the_gap(stopped: Cli, files: Files) -> None:
    entries = entries_in(files.rows())
    files.replace_entries(entries[:6] + entries[7:])
    assert findings(verify(stopped, "node1.yaml"))[0] == "entry 7: missing"


def test_entries_that_changed_places(stopped: Cli, files: Files) -> None:
    rows = files.rows()
    files.change({audit_row(3): rows[audit_row(11)], audit_row(11): rows[audit_row(3)]})
    assert findings(verify(stopped, "node1.yaml")) == [
        "entry 3: in its place stands an entry 11",
        "entry 11: in its place stands an entry 3",
    ]


def test_an_entry_put_in(stopped: Cli, files: Files) -> None:
    entries = entries_in(files.rows())
    files.replace_entries([*entries[:5], forged(entries[4], 6), *entries[5:]])
    assert "entry 7: before it stands an entry 6" in findings(verify(stopped, "node1.yaml"))


def test_an_entry_behind_the_end(stopped: Cli, files: Files) -> None:
    files.change({audit_row(WRITES + 1): entries_in(files.rows())[0]})
    assert findings(verify(stopped, "node1.yaml")) == [f"entry {WRITES}: behind it stands an entry 1"]


def test_the_end_cut_off_is_found_by_the_head(stopped: Cli, files: Files) -> None:
    files.change({audit_row(number): None for number in (18, 19, 20)})
    assert findings(verify(stopped, "node1.yaml")) == [
        "entries 18 to 20: cut off: head 1 covers them",
        "entries 18 to 20: cut off: the log's tip knows them",
    ]


@pytest.mark.parametrize("left", [WRITES - 1, WRITES - 3, 0])
def test_the_end_and_its_head_cut_off_are_found_by_the_tip(stopped: Cli, files: Files, left: int) -> None:
    files.cut(left)
    gone = f"entry {WRITES}" if left == WRITES - 1 else f"entries {left + 1} to {WRITES}"
    assert findings(verify(stopped, "node1.yaml")) == [f"{gone}: cut off: the log's tip knows them"]


def test_a_tip_that_is_gone_or_older(stopped: Cli, files: Files) -> None:
    files.change({AUDIT_TIP: None})
    missing = "log: its tip is missing or was changed: nothing says where it ends"
    assert findings(verify(stopped, "node1.yaml")) == [missing]
    older = with_tip(numbered(entries_in(files.rows())[:15]))
    files.change({AUDIT_TIP: older[AUDIT_TIP]})
    assert findings(verify(stopped, "node1.yaml")) == [f"entries 16 to {WRITES}: behind the log's tip"]
    files.change(dict.fromkeys(files.rows()))
    assert findings(verify(stopped, "node1.yaml")) == [missing]


def test_an_end_that_was_cut_off_stays_found_when_the_node_has_written_more(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon, kvs = make_daemon(), Cli(tmp_path)
    daemon.start()
    write(daemon.url, 6)
    daemon.kill()
    config = daemon.folder / "node.yaml"
    files = Files(daemon.folder / "data")
    files.change({audit_row(number): None for number in (4, 5, 6)})
    assert findings(verify(kvs, config)) == ["entries 4 to 6: cut off: the log's tip knows them"]
    daemon.start()
    assert TORN in daemon.logged("error")
    through_the_node = verify(kvs, "--url", daemon.url)
    assert findings(through_the_node) == ["entries 4 to 6: cut off: the log's tip knows them"]
    write(daemon.url, 2)
    assert findings(verify(kvs, "--url", daemon.url)) == ["entries 4 to 6: missing"]
    daemon.stop()
    assert findings(verify(kvs, config)) == ["entries 4 to 6: missing"]
    assert max(row for row in files.rows() if row.startswith(AUDIT_ENTRIES)) == audit_row(8)


def test_all_signed_anew_is_found_by_the_head(stopped: Cli, files: Files) -> None:
    log = log_of(stopped)
    files.replace_entries(rewritten(entries_in(files.rows()), 4, log=log))
    by_the_head = f"entries 1 to {WRITES}: not what head 1 was signed for"
    by_the_tip = f"entry {WRITES}: it, or one before it, is not the one that the log's tip knows"
    assert findings(verify(stopped, "node1.yaml")) == [by_the_head, by_the_tip]
    files.change(with_tip(files.rows(), log))
    assert findings(verify(stopped, "node1.yaml")) == [by_the_head]


def log_of(kvs: Cli) -> str:
    return str(json.loads(verify(kvs, "node1.yaml", "--json").out)["log"])


def test_the_end_its_head_and_its_tip_cut_off_are_found_by_a_file_that_was_kept(
    stopped: Cli, files: Files, tmp_path: Path
) -> None:
    kept = tmp_path / "node1.head"
    assert verify(stopped, "node1.yaml", "--head", kept).code == 0
    saved = kept.read_text()
    assert (json.loads(saved)["last"], kept.stat().st_mode & 0o777) == (WRITES, 0o600)
    files.cut(WRITES - 1)
    files.change(with_tip(files.rows(), log_of(stopped)))
    assert verify(stopped, "node1.yaml").code == 0
    named = findings(verify(stopped, "node1.yaml", "--head", kept))
    assert f"entry {WRITES}: cut off: {kept} knows them" in named
    assert kept.read_text() == saved, "what was found sound stays known"


def test_a_file_that_is_none_is_refused(stopped: Cli, files: Files, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    strange.write_text("{}")
    result = verify(stopped, "node1.yaml", "--head", strange)
    assert (result.code, result.out) == (1, "")
    assert strange.read_text() == "{}"


def test_a_damaged_database_says_so_and_keeps_the_output_for_data(stopped: Cli, files: Files) -> None:
    (journal,) = (stopped.folder / "data-node1").glob("*.log")
    written = written_bytes(journal)
    assert written
    Flip(journal.name, len(written) // 2, 0).turn(journal.parent)
    result = verify(stopped, "node1.yaml", "--json")
    assert (result.code, json.loads(result.out)["sound"]) == (1, False)
    assert "may be lost" in json.loads(result.out)["findings"][-1]["text"]
    assert "Damaged write-ahead log" in result.err


def test_what_cannot_be_verified_says_so(kvs: Cli) -> None:
    path = kvs.config("fresh.yaml")
    assert verify(kvs, path).code == 3
    assert verify(kvs, "absent.yaml").code == 2
    assert verify(kvs, "--url", "http://127.0.0.1:1").code == 6


NO_LOG = "keeps no audit log: tamper_logging_enabled is false, and there are no entries"


@pytest.mark.parametrize("auth", ["true", "false"])
def test_a_node_that_keeps_no_log_says_so(kvs: Cli, auth: str) -> None:
    path = kvs.config(text="tamper_logging_enabled: false\n")
    path.write_text(path.read_text().replace("auth_enabled: false", f"auth_enabled: {auth}"))
    assert kvs.run("start", path).code == 0
    assert (kvs.folder / "data-node1" / "signing.key").exists() == (auth == "true")
    running = verify(kvs, "node1", "--head", "node1.head")
    assert kvs.run("stop", path).code == 0
    stopped = verify(kvs, "node1")
    for result in (running, stopped):
        assert (result.code, result.out) == (3, "")
        assert f"kvs: the node of {path} {NO_LOG}" in result.err
    assert not (kvs.folder / "node1.head").exists()


def test_a_log_without_the_key_is_not_taken_for_none(stopped: Cli, files: Files) -> None:
    off = {"KVS_TAMPER_LOGGING_ENABLED": "false"}
    assert stopped.run("audit", "verify", "node1.yaml", environ=off).code == 0
    (stopped.folder / "data-node1" / "signing.key").unlink()
    files.change(dict.fromkeys(row for row in files.rows() if row.startswith(AUDIT_HEADS)))
    for environ in ({}, off):
        result = stopped.run("audit", "verify", "node1.yaml", environ=environ)
        assert (result.code, result.out) == (1, "")
        assert "cannot read the signing key" in result.err


def test_a_log_that_was_taken_away_as_a_whole_is_not_taken_for_none(stopped: Cli, files: Files, tmp_path: Path) -> None:
    head = tmp_path / "head"
    assert verify(stopped, "node1.yaml", "--head", head).code == 0
    files.change(dict.fromkeys(files.rows()))
    (stopped.folder / "data-node1" / "signing.key").unlink()
    words = ("audit", "verify", "node1.yaml", "--head", head)
    result = stopped.run(*words, environ={"KVS_TAMPER_LOGGING_ENABLED": "false"})
    assert findings(result)[-1] == f"entries 1 to {WRITES}: cut off: {head} knows them"


def test_a_running_node_is_verified_through_it(kvs: Cli) -> None:
    site = Site(kvs)
    site.start()
    token = site.local_json("token", "create", "--scopes", "all")["token"]
    reader = site.local_json("token", "create", "--scopes", "read")["token"]
    for number in range(30):
        site.ask("PUT", f"/kv/site/{number}", token, b'"a secret value"')
    assert site.ask("GET", "/kv/site/1").status == 401
    assert verify(kvs, "site.yaml").code == 0
    assert site.remote(token, "audit", "verify").code == 0
    assert site.remote(reader, "audit", "verify").code == 4
    shown = site.local("audit", "show", "-n", "2", "--action", "data_write")
    lines = [line.split() for line in shown.out.splitlines()]
    assert [(line[2], line[4]) for line in lines[1:]] == [("data_write", "site/28"), ("data_write", "site/29")]
    assert site.remote(reader, "audit", "show").code == 4
    (refused,) = site.local_json("audit", "show", "--action", "auth_failure")
    assert refused["resource"] == "127.0.0.1 GET /kv/site/1"
    everything = site.local("audit", "show", "-n", "1000", "--json").out
    assert not any(secret in everything for secret in ("a secret value", token, reader))
    site.stop()
    data = Files(kvs.folder / "data")
    data.change({audit_row(9): data.rows()[audit_row(9)] + b"x"})
    site.start()
    for result in (verify(kvs, "site.yaml"), site.remote(token, "audit", "verify")):
        assert findings(result)[0].startswith("entry 9: ")
    site.stop()


# --- in a cluster ---


@pytest.fixture
def pair(kvs: Cli) -> tuple[Cli, str, str]:
    """Two nodes that know each other, and their URLs."""
    first = start(kvs, "node1")
    second = start(kvs, "node2", seed=first)
    assert eventually(lambda: all_equal(kvs, first) and all_equal(kvs, second), _TIMEOUT_S)
    write(first)
    return kvs, first, second


def kept_by(url: str, node_id: str) -> list[dict[str, Any]]:
    client = Client(url)
    heads = client.request("GET", f"/api/audit/kept?node_id={node_id}").json()["nodes"][node_id]
    client.close()
    return list(heads)


def test_a_node_that_stops_leaves_its_head_with_its_peers(pair: tuple[Cli, str, str]) -> None:
    kvs, first, second = pair
    from_afar = verify(kvs, "--url", first, "--json")
    assert (from_afar.code, json.loads(from_afar.out)["known_by"]) == (0, [second.removeprefix("http://")])
    assert kvs.run("stop", "node1").code == 0
    (head,) = kept_by(second, "node1")
    assert (head["last"], head["first"]) == (WRITES, 1)
    result = verify(kvs, "node1.yaml")
    assert result.code == 0, result
    assert second.removeprefix("http://") in result.err
    files = Files(kvs.folder / "data-node1")
    own = [row for row in files.rows() if row.startswith(AUDIT_HEADS)]
    files.change({**dict.fromkeys(own), audit_row(WRITES): None, audit_row(WRITES - 1): None})
    named = findings(verify(kvs, "node1.yaml"))
    address = second.removeprefix("http://")
    assert f"entries {WRITES - 1} to {WRITES}: cut off: {address} knows them" in named
    assert f"head 1: missing: {address} knows it" in named


def test_a_log_that_was_replaced_as_a_whole_is_found_by_the_peers(pair: tuple[Cli, str, str]) -> None:
    kvs, _, second = pair
    log = str(json.loads(verify(kvs, "node1.yaml", "--json").out)["log"])
    assert kvs.run("stop", "node1").code == 0
    shutil.rmtree(kvs.folder / "data-node1")
    start(kvs, "node1", seed=second)
    address = second.removeprefix("http://")
    assert eventually(lambda: kvs.status("node1.yaml")["mode"] == "normal", _TIMEOUT_S)
    (line,) = findings(verify(kvs, "node1.yaml"))
    assert line.startswith(f"log: it was replaced, or its beginning lost: {address} knows another one, of {log}")
    known = verify(kvs, "node1.yaml", "--lost", log)
    assert (known.code, known.out.split()[0]) == (0, "sound:")


def test_a_log_that_was_made_anew_is_found_by_the_peers_and_by_the_node(pair: tuple[Cli, str, str]) -> None:
    kvs, _, second = pair
    log = str(json.loads(verify(kvs, "node1.yaml", "--json").out)["log"])
    assert kvs.run("stop", "node1").code == 0
    files = Files(kvs.folder / "data-node1")
    files.change(dict.fromkeys(row for row in files.rows() if row.startswith(AUDIT_HEADS)))
    files.replace_entries(rewritten(entries_in(files.rows()), 1, log=log))
    files.change(with_tip(files.rows(), log))
    start(kvs, "node1", seed=second)
    alarm = "A peer keeps a head of this node's audit log that is not in it: verify the log"
    write(str(kvs.status("node1.yaml")["url"]), 1)
    assert kvs.run("stop", "node1").code == 0  # which signs all there is
    assert alarm in kvs.log_file("node1").read_text()
    assert "does not continue what it was" in kvs.log_file("node2").read_text()
    address = second.removeprefix("http://")
    assert f"entry {WRITES}: it, or one before it, is not the one that {address} knows" in findings(
        verify(kvs, "node1.yaml")
    )
    assert SECRET not in kvs.log_file("node1").read_text()


# --- crashes ---


def _has_acknowledged(load: Load, wanted: int) -> bool:
    return load.counts()["acknowledged"] >= wanted


def test_kills_under_load_leave_a_chain_without_a_gap_and_an_entry_for_each_write(
    make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load], tmp_path: Path
) -> None:
    daemon, load = make_daemon(settings={"tamper_log_actions": ["data_write", "data_delete"]}), make_load(Mix(SEED))
    moments = random.Random(SEED)
    kvs = Cli(tmp_path)
    for _ in range(4):
        daemon.start()
        wanted = load.counts()["acknowledged"] + 20
        load.run(daemon.url)
        assert eventually(partial(_has_acknowledged, load, wanted), _TIMEOUT_S)
        killer = threading.Timer(moments.uniform(0, 0.3), os.kill, (daemon.pid, signal.SIGKILL))
        killer.start()
        killer.join()
        daemon.kill()
        load.pause()
        result = verify(kvs, daemon.folder / "node.yaml", "--json")
        assert result.code == 0, result
        # A bulk request is one acknowledgement and several entries.
        assert json.loads(result.out)["entries"] >= load.counts()["acknowledged"]
    daemon.start()
    load.audit(daemon.url)
    daemon.stop()
    report = json.loads(verify(kvs, daemon.folder / "node.yaml", "--json").out)
    assert report["sound"]
    assert report["signed"] == report["last"] == report["entries"]
