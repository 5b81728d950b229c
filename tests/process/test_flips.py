"""A flipped bit is never served: on a stopped node's files one bit is turned, then every key is read.

What may come of it depends on the file. A record in a table is right or refused (503 `corrupt_record`). Over a damaged
MANIFEST or CURRENT, or the end of a table, the node does not start, and says so in one line. Behind a damaged place in
the log LevelDB gives up the rest of a block of 32 KiB: the writes that stood there only are lost, which the node logs
as an error. One damage of the log cannot be told from the end that a power cut leaves, and is passed over in silence: a
length in its last block that points behind the end.

LevelDB rewrites its tables now and then. When it meets a flip there it must stop: a copy would get a checksum of its
own, and a key with a flip would be another key. From then on the node serves what is whole and takes no writes.
"""

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import structlog

from kvs.errors import StoreCorrupt, StoreError, StoreFailed
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, after, data_key
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.state import open_state, read_progress
from tests.process.audit import value_of
from tests.process.daemon import Daemon, NotStarted
from tests.process.flips import KINDS, Flip, Victim, all_flips, looks_like_an_end, make_victim, spread

SEED = int(os.environ.get("TEST_SEED", "1"))
_LOG_HEADER_BYTES = 7
DAMAGED_LOG = "Damaged write-ahead log: entries in it may be lost"


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return make_victim(tmp_path_factory.mktemp("victim"), SEED)


# --- what came of it ---


def _judge(victim: Victim, key: str, found: bytes | None) -> str:
    """`right`, `lost` (nothing or an older value), or `wrong`."""
    values = victim.written[key]
    if found == values[-1]:
        return "right"
    return "lost" if found is None or found in values else "wrong"


def _read_all(victim: Victim, folder: Path) -> tuple[bool, dict[str, str]]:
    """Open and read all, by key and by scan: whether damage of the log was told, and the verdict for every key.

    Raises StoreError when the data cannot be opened.
    """
    with structlog.testing.capture_logs() as entries:
        store = LevelDBStore(folder, sync=True)
    try:
        open_state(store, now_ms=1)
        read_progress(store)
        verdicts = {key: _read(victim, store, key) for key in victim.written}
        verdicts |= dict.fromkeys(_scan(victim, store, verdicts), "wrong")
    finally:
        store.close()
    return any(entry["event"] == DAMAGED_LOG and entry["log_level"] == "error" for entry in entries), verdicts


def _read(victim: Victim, store: LevelDBStore, key: str) -> str:
    entry = data_key(key.encode())
    try:
        raw = store.get(entry)
        return _judge(victim, key, None if raw is None else decode(entry, raw).record.data)
    except StoreCorrupt:
        return "refused"


def _scan(victim: Victim, store: LevelDBStore, verdicts: dict[str, str]) -> list[str]:
    """Keys that a scan tells otherwise than a read of the key does. A scan ends where it would skip something."""
    awaited = sorted(data_key(key.encode()) for key, verdict in verdicts.items() if verdict != "lost")
    other, seen, last = [], set(), b""
    try:
        for entry, raw in store.scan(DATA, after(DATA)):
            key, last = entry[1:].decode(), entry
            seen.add(entry)
            if _judge(victim, key, decode(entry, raw).record.data) != verdicts[key]:
                other.append(key)
        last = after(DATA)
    except StoreCorrupt:
        pass
    return other + [entry[1:].decode() for entry in awaited if entry < last and entry not in seen]


def _outcome(victim: Victim, flip: Flip, copy: Path) -> str:
    """What came of one flip, in a word or two; fails when it is not one of what may come of it."""
    flip.spoil(victim, copy)
    try:
        told, verdicts = _read_all(victim, copy)
    except StoreError:
        return "does not open"
    kinds = set(verdicts.values())
    assert "wrong" not in kinds, (flip, verdicts)
    if "lost" in kinds:
        assert flip.name.endswith(".log"), f"{flip}: records are missing, and nothing tells"
        assert told or looks_like_an_end(victim, flip), f"{flip}: a damaged log, and nothing tells"
        assert not [key for key in victim.settled if verdicts[key] != "right"], f"{flip}: records of a table are lost"
    if "refused" in kinds:
        assert flip.name.endswith(".ldb"), flip
    return " and ".join(sorted(kinds - {"right"})) + (" and told" if told else "") or "harmless"


def _flip_everywhere(victim: Victim, count: int, copy: Path) -> dict[str, Counter[str]]:
    tallies: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    flips = all_flips(victim, count, SEED)
    for flip in flips:
        (kind,) = (kind for kind in KINDS if kind in flip.name)
        tallies[kind][_outcome(victim, flip, copy)] += 1
    print(f"TEST_SEED={SEED} {len(flips)} flips", {kind: dict(tally) for kind, tally in tallies.items()})
    return tallies


def test_no_flipped_bit_is_served(victim: Victim, tmp_path: Path) -> None:
    tallies = _flip_everywhere(victim, 25, tmp_path / "copy")
    assert tallies[".ldb"]["refused"] > 5
    assert tallies[".log"]["lost and told"] > 5
    assert tallies[".log"]["lost"] >= 1
    assert set(tallies["MANIFEST"]) == set(tallies["CURRENT"]) == {"does not open"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_flipped_bit_is_served_wherever_it_is(victim: Victim, tmp_path: Path) -> None:
    _flip_everywhere(victim, 600, tmp_path / "copy")


def _compact(victim: Victim, folder: Path) -> tuple[dict[str, str], dict[str, str], bool]:
    """The verdicts before and after LevelDB rewrote all tables, and whether it gave up."""
    store = LevelDBStore(folder, sync=False)
    try:
        before = {key: _read(victim, store, key) for key in victim.written}
        store._db.compact_range()  # only sooner what happens by itself
        after_it = {key: _read(victim, store, key) for key in victim.written}
        with suppress(StoreFailed):
            store.commit({b"z": b""})
            return before, after_it, False
        return before, after_it, True
    finally:
        store.close()


@pytest.mark.parametrize("beside", ["a whole log", "a damaged log"])
def test_a_flip_is_not_copied_into_new_tables(beside: str, victim: Victim, tmp_path: Path) -> None:
    copy, gave_up = tmp_path / "copy", 0
    log = Flip(victim.file(".log").name, _LOG_HEADER_BYTES + 1, 0)
    for flip in spread(victim.file(".ldb"), 12, Random(SEED)):
        flip.spoil(victim, copy)
        if beside == "a damaged log":
            log.turn(copy)
        before, after_it, stopped = _compact(victim, copy)
        assert before == after_it, flip
        gave_up += stopped
    assert gave_up > 8


def test_a_served_flip_would_be_noticed(victim: Victim) -> None:
    key, values = next((key, values) for key, values in victim.written.items() if len(values) > 1)
    turned = bytes((values[-1][0] ^ 1,)) + values[-1][1:]
    assert [_judge(victim, key, found) for found in (values[-1], values[0], None, turned, values[-1][:-1])] == [
        "right",
        "lost",
        "lost",
        "wrong",
        "wrong",
    ]


# --- the same by a real node ---


@pytest.mark.parametrize("kind", ["MANIFEST", "CURRENT", ".ldb"])
def test_a_node_does_not_start_over_a_flip_in(
    kind: str, victim: Victim, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Of a table it is the end, without which nothing can be found in it, not even who the node is."""
    daemon, file = make_daemon(), victim.file(kind)
    first = file.stat().st_size - 8 if kind == ".ldb" else 0
    next(spread(file, 1, Random(SEED), first)).spoil(victim, daemon.data_dir)
    with pytest.raises(NotStarted) as refused:
        daemon.start()
    assert refused.value.code == 1
    (line,) = refused.value.errors.splitlines()
    assert f"the database in {daemon.data_dir} is damaged" in line
    assert "b'" not in line
    daemon.assert_no_traceback()


@pytest.mark.parametrize(("kind", "allowed"), [(".ldb", "refused"), (".log", "lost")])
def test_a_node_serves_what_is_whole_beside_a_flip_in(
    kind: str, allowed: str, victim: Victim, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon, flips = make_daemon(), spread(victim.file(kind), 20, Random(SEED))
    flip = next(flip for flip in flips if _outcome(victim, flip, tmp_path / "copy").startswith(allowed))
    flip.spoil(victim, daemon.data_dir)
    daemon.start()
    assert (DAMAGED_LOG in daemon.logged("error")) == (kind == ".log")
    verdicts = {}
    for key in victim.written:
        answer = daemon.client.get(key)
        refused = answer.status == 503 and answer.json()["code"] == "corrupt_record"
        verdicts[key] = "refused" if refused else _judge(victim, key, value_of(answer))
    assert set(verdicts.values()) == {"right", allowed}
    spoilt = next(key for key, verdict in verdicts.items() if verdict == allowed)
    put = daemon.client.put(spoilt, b'"anew"')
    if kind == ".ldb" and put.status == 503:
        # LevelDB has met the flip while it rewrote tables. That takes the writes away, not the reads.
        assert put.json()["code"] == "degraded"
        assert daemon.client.get(spoilt).json()["code"] == "corrupt_record"
        assert "A write failed: the node takes no writes until the store is verified" in daemon.logged("error")
    else:
        assert put.status in (200, 201)
        assert value_of(daemon.client.get(spoilt)) == b'"anew"'
    for key in (key for key, verdict in verdicts.items() if verdict == "right"):
        assert value_of(daemon.client.get(key)) == victim.written[key][-1]
    daemon.stop()
    daemon.assert_no_traceback()
