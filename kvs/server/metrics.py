"""What a node measures, gathered from the parts that count it, as families for Prometheus.

Gathering takes the numbers as they stand, on the event loop, in less than a millisecond: nothing is counted by looking
at records. What `GET /api/cluster/status` shows too comes from there. docs/monitoring.md describes each family.
"""

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kvs import __version__
from kvs.cluster.node import Node
from kvs.cluster.sync_totals import SyncTotals
from kvs.errors import Unavailable
from kvs.meter import Histogram
from kvs.server.cluster import Cluster
from kvs.server.exposition import Family, HistogramSample, Sample
from kvs.server.handlers.context import MODES, Context
from kvs.server.meters import Meters
from kvs.server.watch import Watching

_STATUSES = ("alive", "suspect", "dead", "left", "remembered")


def families(context: Context, node: Node, meters: Meters) -> list[Family]:
    """All but those of the disk. On the event loop."""
    found = [
        *_requests(meters),
        *_watching(context.watching),
        *_node(context, node),
        *_writes(context, node, meters),
        *_work(node, meters),
    ]
    if context.cluster is not None:
        found += [*_replication(context.cluster, node, meters), *_membership(context.cluster, context.mode)]
    return found


def disk_families(data_dir: Path) -> list[Family]:
    """What the files of the database take, and what is left for them. Looks at each file: to be done in a thread."""
    used = free = None
    try:
        used = sum(_size_bytes(entry) for entry in os.scandir(data_dir))
        free = shutil.disk_usage(data_dir).free
    except OSError:
        pass  # what cannot be measured has no value
    return [
        _gauge("kvs_disk_bytes", "Bytes of the files in data_dir.", used),
        _gauge("kvs_disk_free_bytes", "Bytes that are free for more of them.", free),
    ]


def _size_bytes(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # LevelDB removes files at any time
        return 0


def _requests(meters: Meters) -> list[Family]:
    counts, seconds = [], []
    for route, by_status in meters.requests.items():
        names = ("other", "none") if route is None else (route.method, route.template)
        for status, histogram in by_status.items():
            labels = (*names, str(status))
            counts.append(Sample(labels, sum(histogram.counts)))
            seconds.append(Sample(labels, HistogramSample.of(histogram)))
    by_route = ("method", "route", "status")
    took = "From the header of a request until its answer was ready."
    return [
        Family("kvs_http_requests_total", "counter", "Requests answered.", by_route, counts),
        Family("kvs_http_request_duration_seconds", "histogram", took, by_route, seconds),
        _counters("kvs_http_problems_total", "Answers that are problem documents.", "code", meters.problems),
        _gauge("kvs_http_connections", "Open connections of clients and peers.", meters.connections),
        _counters("kvs_auth_failures_total", "Credentials that were refused.", "credential", meters.auth_failures),
        _counters("kvs_rate_limited_total", "Requests refused as too many.", "counted_by", meters.rate_limited),
    ]


def _watching(watching: Watching) -> list[Family]:
    return [
        _gauge("kvs_watchers", "Open streams of changes.", watching.watchers),
        _counters("kvs_watch_dropped_total", "Streams that the node ended.", "reason", watching.dropped),
    ]


def _node(context: Context, node: Node) -> list[Family]:
    modes = {mode: int(mode == context.mode) for mode in MODES}
    version = [Sample((__version__,), 1)]
    # In a cluster the tree counts what the status shows; the two differ by records that were corrupt when it was made.
    records = node.tally.records if node.tree is None else node.tree.root.size
    return [
        Family("kvs_build_info", "gauge", "The version, as a label.", ("version",), version),
        _gauges("kvs_mode", "1 for the mode that the node is in.", "mode", modes),
        _gauge("kvs_records", "Current records, tombstones and KVS's own documents included.", records),
        _gauge("kvs_tombstones", "Those of them that are tombstones.", node.tally.tombstones),
    ]


def _writes(context: Context, node: Node, meters: Meters) -> list[Family]:
    tally, runner = node.tally, context.runner
    sources = {"client": tally.client_writes, "peer": tally.peer_writes}
    forced = "Writing a group's batch and forcing it to the disk."
    return [
        _counters("kvs_writes_total", "New versions on the disk.", "source", sources),
        _histogram("kvs_commit_writes", "Writes in one group.", meters.commits.writes),
        _histogram("kvs_commit_duration_seconds", forced, meters.commits.seconds),
        _gauge("kvs_commit_waiting_bytes", "Values that wait for their commit.", runner.waiting_bytes),
        _counter("kvs_commit_failures_total", "Times that the disk failed and writing stopped.", runner.failures),
        _counter("kvs_clock_drift_refused_total", "Writes refused because of this node's clock.", meters.drift_refused),
    ]


def _work(node: Node, meters: Meters) -> list[Family]:
    entries = {} if node.trail is None else node.trail.written
    last = None if meters.last_backup_ms is None else meters.last_backup_ms / 1000
    return [
        _histogram("kvs_event_loop_lag_seconds", "How late a timer of the event loop was.", meters.loop_lag),
        _counters("kvs_audit_entries_total", "Entries written to the audit log.", "action", entries),
        _counters("kvs_backups_total", "Backups that ended.", "result", meters.backups),
        _gauge("kvs_backup_last_success_timestamp_seconds", "When the last good backup ended.", last),
    ]


def _replication(cluster: Cluster, node: Node, meters: Meters) -> list[Family]:
    tally, totals = node.tally, cluster.sync_totals
    winners = {"held": tally.held_won, "incoming": tally.incoming_won}
    discarded = {"yes": tally.discarded_kept, "no": tally.discarded_lost}
    lag = "From a write on another node until it was on this one's disk."
    return [
        _histogram("kvs_replication_lag_seconds", lag, meters.replication_lag),
        _counter("kvs_push_dropped_records_total", "Records that left the push queues unsent.", cluster.push_dropped),
        *_comparisons(totals, meters),
        _counters("kvs_conflicts_resolved_total", "Conflicts, by the version that won.", "winner", winners),
        _counters(
            "kvs_discarded_versions_total", "Versions that lost one, by whether they are kept.", "kept", discarded
        ),
    ]


def _comparisons(totals: SyncTotals, meters: Meters) -> list[Family]:
    results = {"done": totals.done, "behind": totals.behind, "failed": totals.failed}
    keys = {
        "compare": totals.compared,
        "fetch": totals.fetched,
        "send": totals.sent,
        "set_aside": totals.set_aside,
        "refuse": totals.refused,
    }
    return [
        _counters("kvs_sync_comparisons_total", "Comparisons that this node began, ended.", "result", results),
        _counter("kvs_sync_rounds_total", "Rounds of questions about ranges in them.", totals.rounds),
        _counters("kvs_sync_keys_total", "Records in them.", "step", keys),
        _counters("kvs_sync_bytes_total", "Bytes of calls to peers, both ways.", "step", meters.sync_bytes),
    ]


def _membership(cluster: Cluster, mode: str) -> list[Family]:
    try:
        view = cluster.view(mode)
    except Unavailable:  # the node listens, and has not begun yet to look for others
        return []
    members = Counter(member.status for member in view.members)
    waiting = sum(member.waiting for member in view.members)
    offset_s = None if view.clock_offset_ms is None else view.clock_offset_ms / 1000
    return [
        _gauges("kvs_members", "Nodes by status.", "status", {status: members[status] for status in _STATUSES}),
        _gauge("kvs_isolated", "1 while no other node is up, though there are others.", int(view.isolated)),
        _gauge("kvs_push_waiting_records", "Records that peers have not acknowledged yet.", waiting),
        _gauge("kvs_clock_offset_seconds", "By how much the peers' clocks are ahead, the median.", offset_s),
        _gauge("kvs_deletion_floor_timestamp_seconds", "All nodes are in sync up to here.", view.gc_floor / 1000),
    ]


def _counter(name: str, about: str, value: int) -> Family:
    return Family(name, "counter", about, (), [Sample((), value)])


def _counters(name: str, about: str, label: str, values: Mapping[str, int]) -> Family:
    return Family(name, "counter", about, (label,), [Sample((each,), value) for each, value in values.items()])


def _gauge(name: str, about: str, value: float | None) -> Family:
    """Without a sample while the value is not known."""
    return Family(name, "gauge", about, (), [] if value is None else [Sample((), value)])


def _gauges(name: str, about: str, label: str, values: Mapping[str, int]) -> Family:
    return Family(name, "gauge", about, (label,), [Sample((each,), value) for each, value in values.items()])


def _histogram(name: str, about: str, histogram: Histogram) -> Family:
    return Family(name, "histogram", about, (), [Sample((), HistogramSample.of(histogram))])
