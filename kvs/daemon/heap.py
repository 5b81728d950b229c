"""How the C library holds memory for this process."""

import ctypes

from kvs.limits import HEAP_KEPT_BYTES, HEAP_MAPPED_MIN_BYTES

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""The numbers of mallopt(3)."""


def map_large_blocks() -> bool:
    """Give each large block of memory a mapping of its own, which grows without a copy and goes back to the system when
    it is freed. glibc would stop doing so after the first one, and large blocks would leave holes in its heap that
    nothing else fits in. Returns whether the C library can be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return False
    mapped = mallopt(_M_MMAP_THRESHOLD, HEAP_MAPPED_MIN_BYTES)
    return bool(mallopt(_M_TRIM_THRESHOLD, HEAP_KEPT_BYTES) and mapped)
