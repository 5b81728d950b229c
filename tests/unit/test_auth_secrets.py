"""The signing key: made once, whole, for its owner's eyes only."""

import os
import stat
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from kvs.auth import secrets
from kvs.auth.secrets import SECRET_BYTES, load, load_or_make
from kvs.errors import StartError

NAME = "signing.key"
GOOD = b64encode(bytes(range(SECRET_BYTES))) + b"\n"
_RACERS = 4
_RACE = """
import sys
from pathlib import Path
from kvs.auth.secrets import load_or_make
print("ready", flush=True)
sys.stdin.readline()
print(load_or_make(Path(sys.argv[1])).hex())
"""


def write(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / NAME
    path.write_bytes(content)
    path.chmod(mode)
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    made = load_or_make(tmp_path)
    assert len(made) == SECRET_BYTES
    assert names(tmp_path) == [NAME]
    before = (tmp_path / NAME).read_bytes()
    assert b64decode(before) == made
    assert load_or_make(tmp_path) == load(tmp_path) == made
    assert (tmp_path / NAME).read_bytes() == before


def test_two_nodes_do_not_make_the_same(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    assert load_or_make(folders[0]) != load_or_make(folders[1])


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_may_read_it_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        load_or_make(tmp_path)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_processes_that_start_together_use_one_key(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _RACE, str(tmp_path)]
    racers = [
        subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(_RACERS)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    keys = {racer.communicate(timeout=30)[0] for racer in racers}
    assert keys == {load(tmp_path).hex() + "\n"}
    assert names(tmp_path) == [NAME]


def test_a_key_that_appears_in_the_last_moment_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: str, target: str) -> None:
        write(tmp_path, GOOD)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert load_or_make(tmp_path) == bytes(range(SECRET_BYTES))
    assert names(tmp_path) == [NAME]


def test_a_disk_that_fails_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StartError, match=r"cannot make the signing key .*No space"):
            load_or_make(tmp_path)
    assert names(tmp_path) == []
    assert len(load_or_make(tmp_path)) == SECRET_BYTES


def test_what_a_crash_left_behind_is_no_key(tmp_path: Path) -> None:
    left = tmp_path / f"{NAME}.{os.getpid()}.tmp"
    left.write_bytes(GOOD[:10])
    left.chmod(0o600)
    assert len(load_or_make(tmp_path)) == SECRET_BYTES
    assert names(tmp_path) == [NAME]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
def test_a_key_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    write(tmp_path, GOOD, mode)
    for take in (load, load_or_make):
        with pytest.raises(
            StartError, match=rf"signing\.key may be read by others \(mode 0{mode:o}\); chmod it to 0600"
        ):
            take(tmp_path)
    assert (tmp_path / NAME).read_bytes() == GOOD


def _link(folder: Path) -> None:
    target = folder / "elsewhere"
    target.write_bytes(GOOD)
    target.chmod(0o600)
    (folder / NAME).symlink_to(target)


def _dangling_link(folder: Path) -> None:
    (folder / NAME).symlink_to(folder / "elsewhere")


@pytest.mark.parametrize(
    "put",
    [
        _link,
        _dangling_link,
        lambda folder: (folder / NAME).mkdir(0o700),
        lambda folder: os.mkfifo(folder / NAME, 0o600),
    ],
    ids=["link", "dangling link", "folder", "pipe"],
)
def test_what_is_no_file_is_refused(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path)
    before = sorted(names(tmp_path))
    for take in (load, load_or_make):
        with pytest.raises(StartError, match="the signing key"):
            take(tmp_path)
    assert sorted(names(tmp_path)) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b" " * 44,
        GOOD[:-2],
        GOOD[: len(GOOD) // 2],
        b64encode(b"short"),
        b64encode(bytes(SECRET_BYTES + 1)),
        GOOD + GOOD,
        bytes(range(SECRET_BYTES)),
        b"\xff" * 44,
        GOOD.replace(b"A", b"!"),
        b"A" * 100_000,
    ],
    ids=range(12),
)
def test_a_damaged_key_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, content)
    for take in (load, load_or_make):
        with pytest.raises(StartError, match="is damaged: it holds not 32 bytes in base64") as refusal:
            take(tmp_path)
        shown = content.strip().decode(errors="replace")
        assert not shown or shown not in str(refusal.value)
    assert (tmp_path / NAME).read_bytes() == content


def test_a_key_that_was_written_by_hand_may_lack_its_last_line_end(tmp_path: Path) -> None:
    write(tmp_path, GOOD.strip(), 0o400)
    assert load(tmp_path) == bytes(range(SECRET_BYTES))


def test_asking_for_a_key_does_not_make_one(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot read the signing key .*No such file"):
        load(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot make the signing key"):
        load_or_make(tmp_path / "missing")


def test_a_folder_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(secrets, "_make", refuse)
    with pytest.raises(StartError, match=r"cannot make the signing key .*Permission denied$"):
        load_or_make(tmp_path)
