"""A node that is filled by its peers, and interrupted."""

from pathlib import Path

from kvs.limits import FETCH_KEYS_MAX
from tests.process.cluster import Cluster, seconds_until

LONG_S = 60.0
_RECORDS = 6 * FETCH_KEYS_MAX


def test_a_filling_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """What is written meanwhile comes too."""
    cluster = Cluster(tmp_path, {"rate_limiting_enabled": False})
    n1 = cluster.add()
    n2 = cluster.add(fetch_delay_ms=500)
    try:
        cluster.start(n1)
        n1.bulk({"op": "put", "path": f"old/{n}", "data": n} for n in range(_RECORDS))
        n2.start()
        seconds_until(lambda: len(n2.contents()) >= 3 * FETCH_KEYS_MAX, LONG_S)
        n2.kill()
        assert n1.put("new", 1).status == 201
        n2.daemon.configure({"fetch_delay_ms": 0})
        n2.start()
        seconds_until(cluster.is_whole, LONG_S)
        assert n2.contents() == n1.contents()
        assert n2.value("new") == 1
        (filled,) = n2.events("This node was filled by its peers")
        assert 1 <= filled["records"] <= _RECORDS - FETCH_KEYS_MAX
        cluster.check_logs()
    finally:
        cluster.close()
