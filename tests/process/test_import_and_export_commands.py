"""`kvs import` and `kvs export`: what goes out comes in, of one moment, and goes on where it was."""

import json
import os
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kvs.client import BulkPut, Client
from kvs.daemon import exporting
from kvs.daemon.commands_export import _into_file, _into_folder
from kvs.daemon.session import Session, Way
from kvs.daemon.trust import Trust
from kvs.limits import JSON_DEPTH_MAX
from tests.api.running import RunningNode
from tests.process.cli import Cli, free_port
from tests.process.site import everyday

BLOB = bytes(range(256))
_numbers = count(1)


@pytest.fixture(scope="module")
def kvs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with everyday(tmp_path_factory.mktemp("moving")) as cli:
        yield cli


@pytest.fixture
def key() -> str:
    return f"test{next(_numbers)}"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(kvs: Cli, *words: str | Path, given: bytes = b"") -> str:
    code, _, errors = kvs.pipe("import", *words, given=given)
    assert code == 0, errors
    return errors


# --- lines ---


def test_lines_go_out_and_come_in_again(kvs: Cli, key: str) -> None:
    items: list[dict[str, Any]] = [
        {"path": f"{key}/a", "data": {"x": [1, None, "\n"]}},
        {"path": f"{key}/b", "data": b64encode(BLOB).decode(), "encoding": "base64", "content_type": "image/png"},
        {"path": f"{key}/c", "data": None, "ttl": "1h"},
    ]
    text = "\n".join(map(json.dumps, items)) + "\n\n"
    assert written(kvs, given=text.encode()) == "written 3, failed 0, expired 0\n"
    assert kvs.pipe("get", f"{key}/b")[1] == BLOB
    exported = kvs.run("export", "out.ndjson", "--prefix", f"{key}/", "--json")
    assert json.loads(exported.out) == {"exported": "out.ndjson", "keys": 3}
    a, b, c = lines_of(kvs.folder / "out.ndjson")
    assert (a["data"], b["data"], c["data"]) == ({"x": [1, None, "\n"]}, items[1]["data"], None)
    assert (b["content_type"], "expires_at" in c, "expires_at" in a) == ("image/png", True, False)
    code, out, errors = kvs.pipe("export", "--prefix", f"{key}/")
    assert (code, out, errors) == (0, (kvs.folder / "out.ndjson").read_bytes(), "3 keys\n")
    kvs.run("rm", "-r", key, "-y")
    written(kvs, "out.ndjson", "--prefix", "copy/")
    again = [json.loads(line) for line in kvs.pipe("export", "--prefix", f"copy/{key}/")[1].splitlines()]
    assert [one["data"] for one in again] == [a["data"], b["data"], c["data"]]
    assert again[0]["uuid"] != a["uuid"]
    assert abs(int(again[2]["expires_at"]) - int(str(c["expires_at"]))) < 60_000
    assert list(kvs.folder.glob("out.ndjson?*")) == []


def test_an_export_is_the_body_of_a_bulk_request(kvs: Cli, key: str) -> None:
    kvs.run("set", key, "1")
    body = kvs.pipe("export", "--prefix", key)[1]
    with Client(json.loads(kvs.run("context", "list", "--json").out)[0]["url"]) as client:
        assert client.call("POST", "/kv/_bulk", json.loads(b"[" + body.strip() + b"]"))["results"][0]["status"] == 200


def test_versions_are_kept_on_request(kvs: Cli, key: str) -> None:
    old = {"op": "put", "path": key, "uuid": "5a0c2241-99a8-4028-899f-c3176cc0f3c1", "timestamp": 1_600_000_000_000}
    line = json.dumps({**old, "data": {"a": 1}}).encode()
    assert written(kvs, "--keep-versions", given=line) == "written 1, failed 0, expired 0, older 0\n"
    assert written(kvs, "--keep-versions", given=line) == "written 0, failed 0, expired 0, older 1\n"
    assert json.loads(kvs.run("export", "--prefix", key).out) == {**old, "data": {"a": 1}}
    kvs.run("set", key, "2")
    written(kvs, "--keep-versions", given=line)
    assert kvs.run("get", key).out == "2", "the newer one stays"
    bare = kvs.pipe("import", "--keep-versions", given=b'{"path": "x", "data": 1}')
    assert bare[0] == 1
    assert "line 1: it does not say which version it is" in bare[2]


def test_what_is_wrong_is_told_and_the_rest_is_written(kvs: Cli, key: str) -> None:
    lines = [
        b'{"path": "%b/a", "data": 1}' % key.encode(),
        b"{",
        b'{"path": "%b/b"}' % key.encode(),
        b'{"path": "/", "data": 1}',
        b'{"path": "%b/c", "data": "!", "encoding": "base64"}' % key.encode(),
        b'{"path": "%b/d", "data": 1, "expires_at": 1}' % key.encode(),
        b'{"path": "%b/a", "op": "delete"}' % key.encode(),
        b'{"path": "%b/e", "data": 2}' % key.encode(),
        b'{"path": "%b/f", "op": "grow", "data": 2}' % key.encode(),
    ]
    code, out, errors = kvs.pipe("import", "--json", given=b"\n".join(lines))
    assert (code, json.loads(out)) == (1, {"written": 3, "failed": 5, "expired": 1})
    assert [line.split(":")[1].strip() for line in errors.splitlines()] == [
        *("line 2", "line 3", "line 5", "line 9"),
        "line 4",
    ]
    assert kvs.run("ls", "-R", key).out == f"{key}/e\n"


def test_what_is_as_deep_as_may_be_goes_out_and_comes_in_again(kvs: Cli, key: str) -> None:
    deep = b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX
    assert kvs.pipe("set", key, given=deep)[0] == 0
    assert kvs.pipe("get", key)[1] == deep
    assert deep in kvs.pipe("history", key, "--json")[1]
    line = kvs.pipe("export", "--prefix", key)[1]
    assert deep in line
    assert written(kvs, given=line) == "written 1, failed 0, expired 0\n"
    deeper = b"[" * 600 + deep + b"]" * 600
    code, _, errors = kvs.pipe("import", given=line + line.replace(deep, deeper))
    assert (code, errors.splitlines()[-1]) == (1, "written 1, failed 1, expired 0")
    assert "line 2: " in errors
    assert "Traceback" not in errors


def test_large_values_travel_alone(kvs: Cli, key: str) -> None:
    (kvs.folder / key).mkdir()
    for name in ("a", "b", "c"):
        (kvs.folder / key / name).write_bytes(name.encode() * (3_000_000 if name == "b" else 10))
    (kvs.folder / key / "d").write_bytes(b"\0" * 17_000_000)
    code, _, errors = kvs.pipe("import", key, "--prefix", f"{key}/")
    assert code == 1
    assert "kvs: d: " in errors
    assert "written 3, failed 1, expired 0\n" in errors
    assert kvs.pipe("get", f"{key}/b")[1] == b"b" * 3_000_000


def test_what_is_no_regular_file_is_written_into_as_it_is(kvs: Cli, key: str) -> None:
    kvs.run("set", f"{key}/a", "1")
    pipe, link, plain = (kvs.folder / f"{key}.{name}" for name in ("pipe", "link", "plain"))
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        exported = kvs.run("export", pipe, "--prefix", f"{key}/")
        assert reader.stdout is not None
        assert json.loads(reader.stdout.read())["path"] == f"{key}/a"
    assert (exported.code, exported.err) == (0, "1 keys\n")
    assert pipe.is_fifo()
    plain.write_text("old")
    link.symlink_to(plain.name)
    assert kvs.run("export", link, "--prefix", f"{key}/").code == 0
    assert link.is_symlink()
    assert [one["path"] for one in lines_of(plain)] == [f"{key}/a"]
    refused = kvs.run("import", plain, "--state", pipe)
    assert (refused.code, refused.err) == (1, f"kvs: {pipe} is no regular file\n")
    nowhere = kvs.run("export", "nowhere/a.ndjson")
    assert (nowhere.code, nowhere.err) == (1, "kvs: nowhere/a.ndjson: No such file or directory\n")


# --- folders ---


def test_a_folder_goes_out_and_comes_in_again(kvs: Cli, key: str) -> None:
    values = {"a": b"1", "a/b": BLOB, "a/b/c": b' {"x":1}\n', "é x": b"", "photo.jpg": BLOB}
    for name, value in values.items():
        assert kvs.pipe("set", f"{key}/{name}", given=value)[0] == 0
    exported = kvs.run("export", "out/", "--prefix", f"{key}/")
    assert (exported.code, exported.err) == (0, "5 keys\n")
    root = kvs.folder / "out" / key
    assert (root / "a" / exporting.VALUE_FILE).read_bytes() == b"1"
    assert (root / "a" / "b" / exporting.VALUE_FILE).read_bytes() == BLOB
    assert (root / "a" / "b" / "c").read_bytes() == b' {"x":1}\n'
    assert written(kvs, "out", "--prefix", "copy/") == "written 5, failed 0, expired 0\n"
    for name, value in values.items():
        assert kvs.pipe("get", f"copy/{key}/{name}")[1] == value
    assert json.loads(kvs.run("get", f"copy/{key}/photo.jpg", "--json").out)["content_type"] == "image/jpeg"
    full = kvs.run("export", "out")
    assert (full.code, full.err) == (1, "kvs: out is not empty\n")


def test_links_are_not_followed(kvs: Cli, key: str) -> None:
    folder = kvs.folder / key
    folder.mkdir()
    (folder / "secret").symlink_to("/etc/hostname")
    (folder / "plain").write_text("1")
    code, _, errors = kvs.pipe("import", key, "--prefix", f"{key}/")
    assert code == 1
    assert errors == "kvs: secret: it is no regular file\nwritten 1, failed 1, expired 0\n"


# --- tables ---


def test_a_table_comes_in(kvs: Cli, key: str) -> None:
    (kvs.folder / "t.csv").write_text('\ufeffname,id,note\nRome,1,"a, b"\nParis,2,"two\nlines"\nbroken\n')
    code, _, errors = kvs.pipe("import", "t.csv", "--key", "id", "--prefix", f"{key}/")
    assert (code, errors) == (1, "kvs: line 5: it has 1 columns, not 3\nwritten 2, failed 1, expired 0\n")
    assert json.loads(kvs.run("get", f"{key}/2").out) == {"name": "Paris", "note": "two\nlines"}
    (kvs.folder / "t.tsv").write_text("key\tvalue\na\t[1]\nb\thello\n")
    written(kvs, "t.tsv", "--prefix", f"{key}/")
    assert kvs.run("get", f"{key}/a").out == "[1]"
    assert json.loads(kvs.run("get", f"{key}/b", "--json").out)["content_type"].startswith("text/plain")
    assert kvs.run("import", "t.tsv", "--key", "no").code == 1
    assert kvs.run("import", "nowhere").err == "kvs: nowhere: No such file or directory\n"


# --- going on ---


def test_an_import_goes_on_where_it_was(kvs: Cli, key: str) -> None:
    source, state = kvs.folder / f"{key}.ndjson", kvs.folder / f"{key}.state"
    source.write_text("".join(json.dumps({"path": f"{key}/{n:04}", "data": n}) + "\n" for n in range(2_500)))
    state.write_text(json.dumps({"source": str(source), "done": 2_000}))
    assert written(kvs, source, "--state", state) == "written 500, failed 0, expired 0\n"
    assert not state.exists()
    assert kvs.run("ls", "-R", key).out.splitlines()[0] == f"{key}/2000"
    state.write_text(json.dumps({"source": "another", "done": 1}))
    refused = kvs.run("import", source, "--state", state)
    assert (refused.code, refused.err) == (1, f"kvs: {state} is of an import of another\n")


def test_an_import_waits_for_a_node_that_is_restarted(tmp_path: Path) -> None:
    kvs = Cli(tmp_path)
    config = kvs.config("moved.yaml", port=free_port())
    url = kvs.run("start", config).out.split()[-1]
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "kvs", "import", "--url", url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=kvs.environment({}),
        ) as importing:
            assert importing.stdin is not None
            assert importing.stderr is not None
            half = [b'{"path":"k/%04d","data":%d}\n' % (n, n) for n in range(2_000)]
            importing.stdin.write(b"".join(half[:1_500]))
            importing.stdin.flush()
            assert kvs.run("restart", config).code == 0
            importing.stdin.write(b"".join(half[1_500:]))
            importing.stdin.close()
            assert importing.stderr.read() == b"written 2,000, failed 0, expired 0\n"
        assert importing.returncode == 0
    finally:
        kvs.kill_all()


class Interrupted(Exception):
    pass


@contextmanager
def many_keys(tmp_path: Path, number: int) -> Iterator[Session]:
    """A node with so many keys, and what a command has that asks it."""
    node = RunningNode(tmp_path / "data")
    url = f"http://{node.address[0]}:{node.address[1]}"
    with Client(url) as client:
        client.bulk([BulkPut(f"k/{n:05}", n) for n in range(number)])
        yield Session(client, Way(url, {}, Trust()), as_json=False)
    node.stop()


def interrupted_after(most: int) -> Callable[[int], None]:
    def heard(number: int) -> None:
        if number == most:
            raise Interrupted

    return heard


def change(client: Client) -> None:
    """What happens while nobody exports."""
    client.put("k/00010", "changed before")
    client.put("k/03999", "changed behind")
    client.delete("k/00011")
    client.delete("k/03998")
    client.put("a", "not of the prefix")
    client.put("k/00010/new", "new")
    client.put("k/99999", "last")


def expected(client: Client) -> dict[str, object]:
    return {value.path: value.data for value in client.range("k/", page=1000)}


def test_lines_of_an_export_go_on_where_they_were(tmp_path: Path) -> None:
    with many_keys(tmp_path, 4_000) as session:
        client, target = session.client, tmp_path / "out"
        state = exporting.begin(client, "k/")
        Path(f"{target}.state").write_text(json.dumps({"url": state.url, "prefix": "k/", "position": state.position}))
        with Path(f"{target}.partial").open("a+b") as file, pytest.raises(Interrupted):
            exporting.walk_lines(file, exporting.Walk(client, state, False, interrupted_after(1_500)))
        with Path(f"{target}.partial").open("ab") as file:
            file.write(b'{"op":"put","path":"k/0')
        change(client)
        assert _into_file(session, target, "k/") == 4_000
        lines = lines_of(target)
        assert {str(line["path"]): line["data"] for line in lines} == expected(client)
        paths = [str(line["path"]) for line in lines]
        assert paths == sorted(paths, key=str.encode)


def test_folders_of_an_export_go_on_where_they_were(tmp_path: Path) -> None:
    with many_keys(tmp_path, 4_000) as session:
        client, target = session.client, tmp_path / "out"
        folder = exporting.Folder(target)
        state = exporting.begin(client, "k/")
        folder.save(state)
        with pytest.raises(Interrupted):
            folder.walk(exporting.Walk(client, state, False, interrupted_after(1_500)))
        assert state.after == "k/00999"
        change(client)
        assert _into_folder(session, target, "k/") == 4_000
        found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
        found["k/00010"] = found.pop(f"k/00010/{exporting.VALUE_FILE}")
        assert {key: json.loads(raw) for key, raw in found.items()} == expected(client)


def test_an_export_is_of_one_moment(tmp_path: Path) -> None:
    """Two keys, the first and the last, are written in turn while it walks: they never differ by more than one."""
    with many_keys(tmp_path, 8_000) as session, Client(session.way.url) as writer:
        ended = threading.Event()

        def write() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                writer.put("k/0", number)
                writer.put("k/z", number)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(5):
                _into_file(session, tmp_path / "out", "k/")
                values = {line["path"]: line["data"] for line in lines_of(tmp_path / "out")}
                first, last = int(str(values.get("k/0", 0))), int(str(values.get("k/z", 0)))
                assert first - last in (0, 1)
                assert first > 0
        finally:
            ended.set()
            thread.join()


def test_a_node_cannot_lead_an_export_out_of_its_folder(tmp_path: Path) -> None:
    folder = exporting.Folder(tmp_path / "out")
    for key in ("../out.txt", "a/../../b", "/etc/x", "a//b", "", "a\0"):
        with pytest.raises(Exception, match="no key"):
            folder.put(key, b"")
    assert list(tmp_path.iterdir()) == []
