"""Loading: every problem at once with its line, precedence, what this version refuses, secrets."""

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kvs.config import Config, load
from kvs.config_text import default_text, effective_text
from kvs.errors import ConfigError

ALONE = "auth_enabled: false\nclustering_enabled: false\n"
CANARY = "canary-7f3a9b-secret"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.yaml"


def loaded(file: Path, text: str, **environ: str) -> Config:
    file.write_text(ALONE + text)
    file.chmod(0o600)
    return load(file, environ)


def problems(file: Path, text: str | bytes, **environ: str) -> list[str]:
    """The lines of the error, each without the file's path."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(file, environ)
    return [line.removeprefix(str(file)) for line in caught.value.lines()]


def only_problem(file: Path, text: str, **environ: str) -> str:
    """The one problem of a file whose first two lines are right."""
    found = problems(file, ALONE + text, **environ)
    assert len(found) == 1, found
    return found[0]


# --- what is loaded --------------------------------------------------------------------------------------------------


def test_the_default_file_loads(file: Path) -> None:
    file.write_text(default_text())
    config = load(file, {})
    assert config.path == file
    assert config.warnings == ()
    assert (config.port, config.write_durability, config.default_ttl) == (8080, "fsync", 0)


def test_paths_are_relative_to_the_file(file: Path) -> None:
    config = loaded(file, "data_dir: here/data\nbackup_path: /srv/backups\n")
    assert config.data_dir == file.parent / "here/data"
    assert config.backup_path == Path("/srv/backups")


def test_a_relative_path_of_the_file_makes_absolute_paths(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(file, "")
    monkeypatch.chdir(file.parent)
    config = load(Path("node.yaml"), {})
    assert (config.path, config.data_dir) == (file, file.parent / "data")


def test_home_in_paths(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert loaded(file, "data_dir: ~/data\n").data_dir == Path("/home/someone/data")


def test_durations_are_milliseconds(file: Path) -> None:
    config = loaded(file, 'default_ttl: 1h30m\ntombstone_retention: "10d"\n')
    assert (config.default_ttl, config.tombstone_retention) == (5_400_000, 864_000_000)
    assert loaded(file, "default_ttl: 0\n").default_ttl == 0


def test_seconds_may_have_fractions(file: Path) -> None:
    assert loaded(file, "suspicion_timeout: 0.5\n").suspicion_timeout == 0.5


def test_lists(file: Path) -> None:
    assert loaded(file, 'seed_nodes: ["10.0.0.2:8080", "[::1]:9"]\n').seed_nodes == ("10.0.0.2:8080", "[::1]:9")


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "127.0.0.1:9000"), ("::1", "[::1]:9000")])
def test_the_advertised_address_follows_the_bound_one(file: Path, host: str, expected: str) -> None:
    assert loaded(file, f'bind_address: "{host}"\nport: 9000\n').advertise_address == expected


def test_node_id_is_the_hosts_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "edge-7")
    assert loaded(file, "").node_id == "edge-7"
    monkeypatch.setattr("socket.gethostname", lambda: "edge seven")
    assert "the host's name 'edge seven' cannot be used" in only_problem(file, "")


def test_an_utf8_byte_order_mark_is_taken(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + ALONE.encode())
    assert load(file, {}).port == 8080


# --- environment -----------------------------------------------------------------------------------------------------


def test_environment_over_file_over_default(file: Path) -> None:
    config = loaded(file, "port: 1111\nread_only: true\n", KVS_PORT="2222", KVS_SEED_NODES="a:1, b:2", KVS_NODE_ID="7")
    assert (config.port, config.read_only, config.max_revisions) == (2222, True, 3)
    assert (config.seed_nodes, config.node_id) == (("a:1", "b:2"), "7")
    origins = {name: config.origins[name] for name in ("port", "read_only", "max_revisions")}
    assert origins == {"port": "environment", "read_only": "file", "max_revisions": "default"}


def test_environment_lists_in_yaml_form(file: Path) -> None:
    assert loaded(file, "", KVS_SEED_NODES='["a:1"]').seed_nodes == ("a:1",)
    assert loaded(file, "", KVS_SEED_NODES="").seed_nodes == ()


def test_a_bad_environment_value_is_named(file: Path) -> None:
    expected = ": environment variable KVS_PORT: expected a whole number from 0 to 65535, not 'tcp://10.0.0.1:8080'"
    assert only_problem(file, "port: 80\n", KVS_PORT="tcp://10.0.0.1:8080") == expected
    assert only_problem(file, "", KVS_PORT="").endswith("not nothing")
    assert "environment variable KVS_READ_ONLY: expected true or false" in only_problem(file, "", KVS_READ_ONLY="{[")


def test_every_bad_item_of_a_list_is_named(file: Path) -> None:
    where = ": environment variable KVS_SEED_NODES: item"
    assert problems(file, ALONE, KVS_SEED_NODES="a, b:1,,b:1") == [
        f"{where} 1: expected host:port, such as 10.0.0.2:8080, not 'a'",
        f"{where} 3: expected host:port, such as 10.0.0.2:8080, not ''",
        f"{where} 4: expected another one than item 2, not 'b:1'",
    ]


def test_unknown_environment_variables_are_warnings(file: Path) -> None:
    config = loaded(file, "", KVS_PROT="1", KVS_HOME="/x", KVS_URL="x", KVS_TOKEN="x", KVS_INTERNAL_X="x", HOME="/")
    assert config.warnings == ("environment variable KVS_PROT is unknown; did you mean KVS_PORT?",)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_every_problem_is_reported_with_its_line(file: Path) -> None:
    text = "auth_enabled: false\nprot: 1\nport: high\n\nclustering_enabled: false\nread_only: 1\nport: 80\n"
    assert problems(file, text) == [
        ":2: prot is not a setting; did you mean port?",
        ":3: port: expected a whole number from 0 to 65535, not 'high'",
        ":6: read_only: expected true or false, not 1",
        ":7: port is given twice, first in line 3",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port: true", "expected a whole number from 0 to 65535, not true"),
        ("port: 65536", "expected a whole number from 0 to 65535, not 65536"),
        ("port: -1", "not -1"),
        ("port: 80.0", "not 80.0"),
        ("port:", "not nothing"),
        ("port: [80]", "not a list"),
        ("port: {a: 1}", "not a mapping"),
        ("port: 2024-01-01", "not this"),
        ("port: " + "9" * 5000, "cannot be understood"),
        ("port: " + "9" * 100, "not this number"),
        ("port: !!python/object:os.system 1", "cannot be understood"),
        ("gossip_interval_min: .nan", "expected a number from 0.1"),
        ("gossip_interval_min: .inf", "expected a number from 0.1"),
        ("node_id: 7", "not 7; put it in quotes"),
        ('node_id: "a b"', "not 'a b'"),
        ('node_id: "a\\nb"', "not 'a\\nb'"),
        ("node_id: " + "n" * 256, "at most 255"),
        ("bind_address: 127.0.0.1:80", "an IP address or a host name, without a port"),
        ('bind_address: ""', "an IP address or a host name"),
        ("default_ttl: 60", "a duration from 0 to 36500d"),
        ("default_ttl: -1s", "cannot be negative"),
        ("tombstone_retention: 0", "a duration from 1s"),
        ("write_durability: none", "expected one of fsync, os, not 'none'"),
        ("log_level: off", "expected one of debug, info, warning, error, not false"),
        ("log_level: INFO", "expected one of debug, info, warning, error, not 'INFO'"),
        ("seed_nodes: 10.0.0.1:80", "a list of host:port"),
        ("seed_nodes: [10.0.0.1]", "seed_nodes: item 1: expected host:port, such as 10.0.0.2:8080, not '10.0.0.1'"),
        ('seed_nodes: ["a:1", 7]', "seed_nodes: item 2: expected host:port, such as 10.0.0.2:8080, not 7"),
        ("seed_nodes: [[]]", "seed_nodes: item 1: expected host:port, such as 10.0.0.2:8080, not a list"),
        ('seed_nodes: ["a:1", "b:1", "a:1"]', "seed_nodes: item 3: expected another one than item 1, not 'a:1'"),
        ('seed_nodes: ["http://a:1"]', "not 'http://a:1'"),
        ("tamper_log_actions: [data_write, nope]", "tamper_log_actions: item 2: expected one of "),
        ("tamper_log_actions: [data_write, nope]", ", not 'nope'"),
        ("backup_schedule: daily", "five cron fields"),
        ('backup_schedule: "61 0 * * *"', "five cron fields"),
        ('data_dir: ""', "the path of a folder"),
        ('data_dir: "a\\0b"', "the path of a folder"),
        ("gossip_interval_min: 200", "gossip_interval_min (200) must not be above gossip_interval_max (120)"),
        ("gossip_interval_max: 20", "gossip_interval_min (60) must not be above gossip_interval_max (20)"),
        ("probe_timeout_ms: 2000", "must not be above probe_interval_ms"),
        ("? [a]\n: 1", "must be a plain word"),
        ("max-json-size: 1", "did you mean max_json_size?"),
        ("Port: 1", "did you mean port?"),
        ("zzz: 1", "zzz is not a setting"),
        ('"a\\eb": 1', "is not a setting"),
        ("<<: {port: 1}", "<< is not a setting"),
        ("seed_nodes: &a [*a]", "cannot be understood"),
    ],
)
def test_refused_values(file: Path, line: str, message: str) -> None:
    problem = only_problem(file, line + "\n")
    assert problem.startswith(":3: ")
    assert message in problem
    assert problem.isprintable()
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"- a\n", ":1: expected lines of the form name: value"),
        (b"just words\n", ":1: expected lines of the form name: value"),
        (b"a: b: c\n", ":1: is not valid YAML: mapping values are not allowed here"),
        (b"a: 1\n\tb: 2\n", ":2: is not valid YAML: found character '\\t' that cannot start any token"),
        (b"a: 1\n---\nb: 1\n", ":2: is not valid YAML: but found another document"),
        (b"a: *nowhere\n", ":1: is not valid YAML: found undefined alias …"),
        (b"a: 1\nb: \xff\n", ":2: is not UTF-8 text; save it as UTF-8"),
        ("port: 1\n".encode("utf-16"), ":1: is not UTF-8 text; save it as UTF-8"),
        (b"a: 1\nb: \x07\n", ":2: is not valid YAML: it holds a control character"),
        (b"a: " + b"[" * 20_000, ": not a configuration: nested too deeply"),
        (b"#" * (1024 * 1024 + 1), ": cannot be read: larger than 1048576 bytes"),
    ],
)
def test_files_that_are_no_configuration(file: Path, text: bytes, problem: str) -> None:
    assert problems(file, text) == [problem]


_NAMES = st.sampled_from(["port", "data_dir", "seed_nodes", "node_id", "default_ttl", "backup_schedule", "prot"])
_SNIPPETS = st.sampled_from(
    [": ", "\n", "[", "]", "{", "}", "&a ", "*a", "!!int ", "- ", '"', "'", "? ", "|", "<<", "~", "1"]
)


@given(parts=st.lists(st.one_of(_NAMES, _SNIPPETS, st.text(max_size=5)), max_size=20), raw=st.binary(max_size=20))
@example(parts=["port: !!timestamp 2024-13-45"], raw=b"")
@example(parts=["port: !!float x"], raw=b"")
@example(parts=["? {a: 1}\n: 2"], raw=b"")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_loaded_or_refused_in_lines(file: Path, parts: list[str], raw: bytes) -> None:
    file.write_bytes(ALONE.encode() + "".join(parts).encode() + raw)
    file.chmod(0o600)
    try:
        load(file, {})
    except ConfigError as error:
        for line in error.lines():
            assert line.isprintable()
            assert len(line) < 1000


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    for path, reason in [
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "it is not a file"),
        (fifo, "it is not a file"),
        (Path("a\0b.yaml"), "embedded null byte"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            load(path, {})


# --- the cluster -----------------------------------------------------------------------------------------------------

SEEDS = 'seed_nodes: ["10.0.0.2:8080"]\n'
ENOUGH = "sixteen-bytes-is"


def test_a_node_is_its_own_cluster_until_it_has_seeds(file: Path) -> None:
    file.write_text("port: 1\n")
    assert load(file, {}).clustering_enabled
    assert load(file, {}).cluster_secret == ""


def test_seeds_need_a_secret_that_is_long_enough(file: Path) -> None:
    for text in (SEEDS, SEEDS + 'cluster_secret: "fifteen-bytes-i"\n'):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match="a cluster with seed_nodes needs one of at least 16 bytes"):
            load(file, {})
    assert load(file, {"KVS_CLUSTER_SECRET": ENOUGH}).seed_nodes == ("10.0.0.2:8080",)
    assert load(file, {"KVS_CLUSTERING_ENABLED": "false"}).cluster_secret == "fifteen-bytes-i"


def test_the_former_secret_opens_the_same_doors_and_is_as_long(file: Path) -> None:
    file.write_text(f'{SEEDS}cluster_secret: {ENOUGH}\ncluster_secret_previous: "fifteen-bytes-i"\n')
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=r"node.yaml:3: cluster_secret_previous: .* at least 16 bytes"):
        load(file, {})
    assert load(file, {"KVS_CLUSTER_SECRET_PREVIOUS": ENOUGH}).cluster_secret_previous == ENOUGH
    assert load(file, {"KVS_CLUSTER_SECRET_PREVIOUS": ""}).cluster_secret_previous == ""
    assert load(file, {"KVS_CLUSTERING_ENABLED": "false"}).cluster_secret_previous == "fifteen-bytes-i"


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_who_listens_everywhere_says_where_peers_reach_it(file: Path, everywhere: str) -> None:
    file.write_text(f'{SEEDS}cluster_secret: {ENOUGH}\nbind_address: "{everywhere}"\n')
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="advertise_address: peers need one"):
        load(file, {})
    assert load(file, {"KVS_ADVERTISE_ADDRESS": "a.example:1"}).advertise_address == "a.example:1"


# --- TLS --------------------------------------------------------------------------------------------------------------

PAIR = "tls_cert_file: a.pem\ntls_key_file: a.key\n"
PEERS = "cluster_tls_enabled: true\ncluster_tls_ca_file: ca.pem\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tls_cert_file: a.pem", ":3: tls_cert_file needs tls_key_file beside it"),
        ("tls_key_file: a.key", ":3: tls_key_file needs tls_cert_file beside it"),
        ("cluster_tls_key_file: a.key", ": tls_key_file needs tls_cert_file beside it"),
        (PEERS, ":3: cluster_tls_enabled needs tls_cert_file and tls_key_file"),
        (f"{PAIR}cluster_tls_enabled: true", ":5: cluster_tls_enabled needs cluster_tls_ca_file to know the peers by"),
        (
            f"{PAIR}cluster_tls_enabled: true\ncluster_tls_skip_verify: true\ncluster_tls_mutual: true",
            ":5: cluster_tls_enabled needs cluster_tls_ca_file to know the peers by",
        ),
        (f"{PAIR}cluster_tls_mutual: true", ":5: cluster_tls_mutual needs cluster_tls_enabled"),
        (
            f"{PAIR}cluster_tls_key_file: b.key",
            ":5: cluster_tls_key_file is an older name of tls_key_file, which names another file",
        ),
    ],
)
def test_tls_by_halves_is_refused(file: Path, text: str, problem: str) -> None:
    assert only_problem(file, text).endswith(problem)


def test_a_cluster_behind_https_speaks_it_too(file: Path) -> None:
    file.write_text(f"{SEEDS}cluster_secret: {ENOUGH}\n{PAIR}")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=r":3: tls_cert_file: .* set cluster_tls_enabled on every node"):
        load(file, {})
    assert load(file, {"KVS_CLUSTERING_ENABLED": "false"}).certificate_file == file.parent / "a.pem"
    file.write_text(f"{SEEDS}cluster_secret: {ENOUGH}\n{PAIR}{PEERS}")
    assert load(file, {}).cluster_tls_enabled


@pytest.mark.parametrize("older", ["", "cluster_"])
def test_both_names_of_the_certificate_are_known(file: Path, older: str) -> None:
    config = loaded(file, PAIR.replace("tls_", f"{older}tls_"))
    assert (config.certificate_file, config.key_file) == (file.parent / "a.pem", file.parent / "a.key")
    assert loaded(file, PAIR + PAIR.replace("tls_", "cluster_tls_")).certificate_file == file.parent / "a.pem"
    assert loaded(file, "").certificate_file is None


def test_who_does_not_verify_is_warned(file: Path) -> None:
    config = loaded(file, f"{PAIR}cluster_tls_enabled: true\ncluster_tls_skip_verify: true\n")
    assert ["cluster_tls_skip_verify: peers are not verified" in warning for warning in config.warnings] == [True]


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_secrets_are_never_shown(file: Path) -> None:
    config = loaded(file, f"cluster_secret: {CANARY}\n", KVS_CLUSTER_SECRET_PREVIOUS=CANARY)
    assert config.cluster_secret == config.cluster_secret_previous == CANARY
    for shown in (repr(config), str(config), f"{config}", effective_text(config), str(config.masked())):
        assert CANARY not in shown
    assert 'cluster_secret: "********"' in effective_text(config)


@pytest.mark.parametrize(
    "text",
    [
        f'cluster_secret: "{CANARY} with a space"\n',
        f"cluster_secret: [{CANARY}]\n",
        f"cluster_secret: *{CANARY}\n",
        f"cluster_secret: !{CANARY} x\n",
        f"cluster_secret: '{CANARY}\n",
        f"cluster_secret: {CANARY}: x\n",
        f"cluster_secret: &{CANARY}\n - x\n",
        f"cluster_secrets: {CANARY}\n",
    ],
)
def test_secrets_are_not_in_messages(file: Path, text: str) -> None:
    assert CANARY not in "\n".join(problems(file, ALONE + text))


def test_a_secret_in_a_file_that_others_may_read_is_refused(file: Path) -> None:
    file.write_text(ALONE + f"cluster_secret: {CANARY}\n")
    for mode in (0o644, 0o640, 0o602):
        file.chmod(mode)
        with pytest.raises(ConfigError, match=rf"node.yaml:3: cluster_secret: .*mode {mode:04o}.*chmod it to 0600"):
            load(file, {})
    file.chmod(0o600)
    load(file, {})


def test_a_readable_file_without_a_secret_is_fine(file: Path) -> None:
    file.write_text(ALONE + 'cluster_secret: ""\n')
    file.chmod(0o644)
    assert load(file, {"KVS_CLUSTER_SECRET": CANARY}).cluster_secret == CANARY


def test_the_configuration_cannot_be_changed(file: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded(file, "").port = 1  # type: ignore[misc]
