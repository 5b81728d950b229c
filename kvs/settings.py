"""All settings: name, type, default, limits, unit and meaning, in the order of the example configuration.

This table is the only place that knows a setting. Loading, the commented default file and `kvs config show` are made
from it, and a test compares docs/configuration.md with it.
"""

# ruff: noqa: RUF009 - `_setting` returns a dataclass field, as `dataclasses.field` does

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple, TypeVar

from kvs.actions import ACTIONS, DEFAULT_ACTIONS
from kvs.limits import DECOMPRESSED_MAX_BYTES, NODE_ID_MAX_BYTES, REVISIONS_MAX
from kvs.setting_checks import is_host, is_host_port, is_schedule
from kvs.setting_kinds import Duration, FilePath, Flag, Kind, Number, Text, Texts
from kvs.types import Millis

_T = TypeVar("_T")


class Section(NamedTuple):
    """Neighbouring settings, from the first one on."""

    first: str
    title: str


SECTIONS = (
    Section("node_id", "The node and its address"),
    Section("data_dir", "Data"),
    Section("default_ttl", "Values"),
    Section("log_level", "Logs"),
    Section("auth_enabled", "Who may do what"),
    Section("clustering_enabled", "The cluster"),
    Section("rate_limiting_enabled", "Rate limits"),
    Section("tamper_logging_enabled", "Audit log"),
    Section("backup_enabled", "Backups"),
    Section("metrics_enabled", "Metrics"),
    Section("tls_cert_file", "TLS"),
)


class Setting(NamedTuple):
    """What is known of a setting beside its name, Python type and default. `live`: a reload changes it at once."""

    kind: Kind
    doc: str
    unit: str
    secret: bool
    live: bool


def _setting(default: _T, kind: Kind, doc: str, *, unit: str = "", secret: bool = False, live: bool = False) -> _T:
    setting = Setting(kind, doc, unit, secret, live)
    return field(default=default, repr=not secret, metadata={"setting": setting})


def _choice(*words: str) -> Text:
    return Text("one of " + ", ".join(words), "|".join(words))


_FLAG = Flag()
_SECONDS = Number(0.1, 365 * 86_400, whole=False)
_NODE_ID = Text(
    f"""text of at most {NODE_ID_MAX_BYTES} letters, digits, '.', '_', ':' or '-', or "" for the host's name""",
    rf"[A-Za-z0-9._:-]{{1,{NODE_ID_MAX_BYTES}}}",
    optional=True,
)
_HOST = Text("an IP address or a host name, without a port", accepts=is_host)
_ADVERTISED = Text('host:port, or "" for bind_address:port', accepts=is_host_port, optional=True)
_SEEDS = Texts(
    Text("host:port, such as 10.0.0.2:8080", accepts=is_host_port), 'a list of host:port, such as ["10.0.0.2:8080"]'
)
_ACTIONS = Texts(_choice(*ACTIONS), "a list of actions out of " + ", ".join(ACTIONS))
_SCHEDULE = Text('five cron fields in quotes, such as "0 0 * * *"', accepts=is_schedule)
_SECRET = Text("text in quotes, without spaces, of at most 1024 characters", r"\S{1,1024}", optional=True)
_FOLDER = FilePath("the path of a folder")
_FILE = FilePath('the path of a file, or "" for none', optional=True)


@dataclass(frozen=True)
class Settings:
    """The effective value of every setting. Durations are milliseconds, paths are absolute once loaded."""

    node_id: str = _setting("", _NODE_ID, "The node's name, in logs and for its peers. Empty: the host's name.")
    bind_address: str = _setting("127.0.0.1", _HOST, "The address to listen on; 0.0.0.0 is every IPv4 address.")
    port: int = _setting(8080, Number(0, 65_535), "The TCP port to listen on; 0 takes any free one.")

    data_dir: Path = _setting(Path("./data"), _FOLDER, "The folder of the database. Only one node may use it.")
    write_durability: str = _setting(
        "fsync",
        _choice("fsync", "os"),
        "When a write is acknowledged. fsync: once it is on the disk and survives a power cut. os: once the operating "
        "system has it, which is faster and survives a crash of the node, but not of the host.",
    )
    read_only: bool = _setting(False, _FLAG, "Refuse every write of clients (403).")
    tombstone_retention: Millis = _setting(
        Millis(864_000_000),
        Duration("1s", "3650d"),
        "How long a deletion is remembered. Longer than the longest time a node may be away.",
    )

    default_ttl: Millis = _setting(
        Millis(0), Duration("0", "36500d"), "The life of a value that is written without a ttl of its own. 0: for ever."
    )
    max_json_size: int = _setting(
        1_048_576, Number(1, DECOMPRESSED_MAX_BYTES), "The largest JSON value; a larger one gets 413.", unit="bytes"
    )
    max_blob_size: int = _setting(
        16_777_216, Number(1, DECOMPRESSED_MAX_BYTES), "The largest value of another type.", unit="bytes"
    )
    compression_enabled: bool = _setting(
        True, _FLAG, "Compress values with zstd where that makes them smaller. Either way old values stay readable."
    )
    compression_level: int = _setting(3, Number(1, 19), "The zstd level: 1 is fastest, 19 smallest.")
    revision_history_enabled: bool = _setting(True, _FLAG, "Keep the values that were overwritten or deleted.")
    max_revisions: int = _setting(3, Number(1, REVISIONS_MAX), "Versions kept of a key, the current one counted.")

    log_level: str = _setting(
        "info", _choice("debug", "info", "warning", "error"), "The least important lines that are logged.", live=True
    )
    log_format: str = _setting(
        "auto",
        _choice("auto", "json", "console"),
        "json: one object a line. console: for people. auto: console on a terminal, json elsewhere.",
    )

    auth_enabled: bool = _setting(True, _FLAG, "Ask every client for a token.")
    allow_anonymous_read: bool = _setting(False, _FLAG, "Let clients without a token read.")
    allow_anonymous_write: bool = _setting(False, _FLAG, "Let clients without a token write.")
    token_max_ttl: Millis = _setting(
        Millis(2_592_000_000), Duration("1s", "3650d"), "The longest life a token may be given."
    )

    clustering_enabled: bool = _setting(True, _FLAG, "Find other nodes and replicate with them.")
    seed_nodes: tuple[str, ...] = _setting((), _SEEDS, "Nodes to ask for the members of the cluster, as host:port.")
    cluster_secret: str = _setting(
        "",
        _SECRET,
        "What the nodes of a cluster know each other by. A file that holds one must be readable by its owner only.",
        secret=True,
    )
    cluster_secret_previous: str = _setting(
        "", _SECRET, "The former secret, accepted while the new one is brought to every node.", secret=True
    )
    advertise_address: str = _setting("", _ADVERTISED, "Where peers reach this node. Empty: bind_address:port.")
    max_clock_drift: Millis = _setting(
        Millis(60_000),
        Duration("1ms", "1d"),
        "How far this node's clock may be from its peers' before it refuses writes of clients.",
    )
    gossip_interval_min: float = _setting(
        60, _SECONDS, "The shortest pause between two exchanges of the member list.", unit="seconds"
    )
    gossip_interval_max: float = _setting(
        120, _SECONDS, "The longest such pause; each is drawn at random.", unit="seconds"
    )
    probe_interval_ms: int = _setting(
        1000, Number(10, 3_600_000), "How often one peer is asked whether it lives.", unit="ms"
    )
    probe_timeout_ms: int = _setting(500, Number(1, 3_600_000), "How long to wait for its answer.", unit="ms")
    suspicion_timeout: float = _setting(
        10, _SECONDS, "How long a silent peer may defend itself before it counts as dead.", unit="seconds"
    )
    member_timeout: float = _setting(600, _SECONDS, "How long a dead member stays in the list.", unit="seconds")
    sync_interval: float = _setting(300, _SECONDS, "The pause between two comparisons with a peer.", unit="seconds")
    catchup_interval: float = _setting(
        120, _SECONDS, "The same while this node knows that it is behind.", unit="seconds"
    )
    push_enabled: bool = _setting(True, _FLAG, "Send users' writes to the peers at once. KVS's own records always are.")
    push_fanout: int = _setting(
        0, Number(0, 1000), "Peers that a node sends a write to in a cluster of more than 10, at least 2; 0 is 3."
    )
    bootstrap_max_age_hours: int = _setting(
        720, Number(1, 876_000), "How far back a new node copies before it takes writes.", unit="hours"
    )
    bootstrap_patience: float = _setting(
        30, _SECONDS, "How long a new node waits for a seed before it starts alone.", unit="seconds"
    )
    throttle_delay_ms: int = _setting(
        100, Number(0, 60_000), "The pause between two steps of a repair, to spare the peers; 0: none.", unit="ms"
    )
    fetch_delay_ms: int = _setting(
        50, Number(0, 60_000), "The pause between two fetches of a new node, to spare the peers; 0: none.", unit="ms"
    )

    rate_limiting_enabled: bool = _setting(True, _FLAG, "Limit the requests of each user or address.", live=True)
    rate_limit_requests: int = _setting(60_000, Number(1, 1_000_000_000), "Requests allowed in one window.", live=True)
    rate_limit_window: Millis = _setting(Millis(60_000), Duration("1s", "1d"), "The length of the window.", live=True)

    tamper_logging_enabled: bool = _setting(True, _FLAG, "Keep an audit log in which later changes are found.")
    tamper_log_actions: tuple[str, ...] = _setting(
        DEFAULT_ACTIONS,
        _ACTIONS,
        "What it holds, out of data_write, data_delete, metadata_update, user_create, user_update, user_delete, "
        "group_create, group_update, group_delete, token_create, token_revoke, auth_failure, permission_denied, "
        "backup, restore, config_change.",
    )

    backup_enabled: bool = _setting(True, _FLAG, "Make backups by the schedule.")
    backup_schedule: str = _setting(
        "0 0 * * *", _SCHEDULE, "When, as five cron fields (minute, hour, day, month, weekday), by the host's clock."
    )
    backup_path: Path = _setting(Path("./backups"), _FOLDER, "The folder of the backups.")
    backup_retention: int = _setting(
        7, Number(1, 36_500), "How long a backup is kept; the last good one always is.", unit="days"
    )

    metrics_enabled: bool = _setting(True, _FLAG, "Serve /metrics for Prometheus.")

    tls_cert_file: Path | None = _setting(
        None, _FILE, "The certificate to serve HTTPS with, in PEM, with its chain behind it. Empty: HTTP."
    )
    tls_key_file: Path | None = _setting(
        None, _FILE, "Its private key, in PEM, without a passphrase, readable by its owner only."
    )
    cluster_tls_enabled: bool = _setting(
        False, _FLAG, "Speak HTTPS with the peers, and verify them. The same on every node."
    )
    cluster_tls_cert_file: Path | None = _setting(None, _FILE, "An older name of tls_cert_file.")
    cluster_tls_key_file: Path | None = _setting(None, _FILE, "An older name of tls_key_file.")
    cluster_tls_ca_file: Path | None = _setting(
        None, _FILE, "The authority that the peers' certificates come from, in PEM; several may stand in it."
    )
    cluster_tls_mutual: bool = _setting(
        False, _FLAG, "Ask whoever calls as a peer for a certificate of that authority too."
    )
    cluster_tls_skip_verify: bool = _setting(False, _FLAG, "Do not verify the peers. For tests.")


SETTINGS: dict[str, Setting] = {each.name: each.metadata["setting"] for each in fields(Settings)}
DEFAULTS: dict[str, object] = {each.name: each.default for each in fields(Settings)}
