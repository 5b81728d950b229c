"""What an opening has found stays, as everybody who reads it may rely on it: also behind a power cut right after it."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kvs.storage.leveldb import LevelDBStore
from tests.process.powercut import Disk, Way, begin_journal, write_folder
from tests.process.shim import Shim

SEED = 1
_WRITE = """
import os, sys
from pathlib import Path
from kvs.storage.leveldb import LevelDBStore
store = LevelDBStore(Path(sys.argv[1]), sync=True)
"""
# A write whose fsync failed, or whose process was killed in it: nobody was told of it, but it is in the log.
_FIRST = f"{_WRITE}store.commit({{b'a': b'1'}}); store._db.put(b'b', b'1'); os._exit(0)"
_SECOND = f"{_WRITE}assert store.get(b'b') == b'1'; store.commit({{b'c': b'1'}}); os._exit(0)"


@pytest.mark.parametrize("way", list(Way))
def test_what_was_found_and_built_upon_does_not_vanish(shim: Path, tmp_path: Path, way: Way) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    recorded = Shim(shim, tmp_path / "shim", data).with_journal()
    begin_journal(recorded.journal, data, {})
    for script in (_FIRST, _SECOND):
        subprocess.run(
            [sys.executable, "-c", script, str(data)], check=True, env={**os.environ, **recorded.environment}
        )
    disk, random = Disk.now(recorded.journal, data), Random(SEED)
    for number in range(20):
        left = tmp_path / f"left{number}"
        write_folder(left, disk.cut(way, random))
        store = LevelDBStore(left, sync=True)
        assert [store.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"1", b"1"]
        store.close()
