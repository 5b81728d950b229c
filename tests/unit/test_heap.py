"""Large blocks of memory go back to the system when they are freed."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is told to glibc")

HOLES = """
import psutil
from kvs.daemon.heap import map_large_blocks

assert map_large_blocks() is True
own = psutil.Process()
before = own.memory_info().rss
for _ in range(3):
    # Blocks of many sizes, of which every second one stays for a while.
    blocks = [bytes([1]) * (size * 1024 * 1024) for size in range(2, 12)]
    small = [bytes([1]) * 100_000 for _ in range(10)]
    del blocks[::2]
    later = [bytes([1]) * ((size * 1024 + 700) * 1024) for size in range(2, 12)]
    del blocks, later
print(own.memory_info().rss - before)
"""


def test_what_large_blocks_took_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 8 * 1024 * 1024
