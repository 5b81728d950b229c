"""A cluster whose nodes know each other by certificates that `kvs cert init` made, and who is kept out of it."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import mkdtemp

import pytest

from kvs.tls.files import load_issuer
from kvs.tls.issuing import issue
from tests.certificates import Authority, now_ms
from tests.process.cli import Cli
from tests.process.cluster import SECRET, Cluster, Node, allowed, seconds_until
from tests.process.daemon import Answer, Client
from tests.process.eventually import eventually

PEER = {"X-Cluster-Secret": SECRET, "X-Node-ID": "operator"}
SOON_S = 20.0
ALONE = "No seed answered: this node takes writes alone and goes on trying"


def settings(folder: Path, name: str, authority: Path | None = None) -> dict[str, object]:
    """Those of a node with the certificate of this name."""
    return {
        "tls_cert_file": str(folder / f"{name}.pem"),
        "tls_key_file": str(folder / f"{name}.key"),
        "cluster_tls_enabled": True,
        "cluster_tls_ca_file": str(authority or folder / "ca.pem"),
        "cluster_tls_mutual": True,
    }


def client_context(folder: Path, name: str = "") -> ssl.SSLContext:
    """Of a client that believes the cluster, and shows the certificate of this name, or none."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if name:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kvs = Cli(tmp_path_factory.mktemp("authority"))
    nodes = [f"n{number}=127.0.0.1" for number in (1, 2, 3)]
    made = kvs.run("cert", "init", "certs", *nodes, "--client", "operator")
    assert made.code == 0, made
    return kvs.folder / "certs"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Cluster]:
    """Three nodes that are one cluster."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), tls=client_context(certificates, "operator"))
    for number in (1, 2, 3):
        made.add(f"n{number}", **settings(certificates, f"n{number}"))
    try:
        made.start()
        seconds_until(made.is_whole, SOON_S)
        yield made
        made.check_logs()
    finally:
        made.close()


def asked(node: Node, context: ssl.SSLContext, headers: dict[str, str]) -> Answer | None:
    """What a peer's question is answered; None without a connection."""
    client = Client(node.daemon.url, tls=context)
    try:
        return client.request("GET", "/merkle_tree/root", headers=headers)
    except (OSError, HTTPException):
        return None
    finally:
        client.close()


# --- it works ---


def test_writes_reach_all_nodes(cluster: Cluster) -> None:
    first, *others = cluster.nodes
    assert first.put("a", 1, "?w=3").status == 201
    assert [node.value("a") for node in others] == [1, 1]
    seconds_until(cluster.are_equal, allowed(SOON_S))


def test_a_node_that_was_away_gets_what_it_missed(cluster: Cluster) -> None:
    first, _, third = cluster.nodes
    third.kill()
    for number in range(50):
        assert first.put(f"missed/{number}", number).status == 201
    third.start()
    seconds_until(lambda: third.value("missed/49") == 49, allowed(SOON_S))
    seconds_until(cluster.is_whole, allowed(SOON_S))


def test_commands_work_on_every_node(cluster: Cluster, certificates: Path) -> None:
    del certificates
    for node in cluster.nodes:
        kvs = Cli(node.daemon.folder)
        shown = kvs.run("cluster", "status", "--local", f"{node.name}.yaml")
        assert shown.code == 0, shown
        assert shown.out.count("alive") == 3
        removed = kvs.run("cluster", "remove", "nobody", "--local", f"{node.name}.yaml")
        assert (removed.code, "unknown_member" in removed.err) == (3, True)


def test_the_audit_log_is_verified_with_what_the_other_nodes_know(cluster: Cluster, certificates: Path) -> None:
    node = cluster.nodes[0]
    kvs = Cli(node.daemon.folder)
    for words in (
        (f"{node.name}.yaml",),
        ("--url", node.daemon.url, "--ca-file", certificates / "ca.pem"),
    ):
        verified = kvs.run("audit", "verify", *words, "--json")
        assert (verified.code, verified.err) == (0, ""), verified
        assert len(json.loads(verified.out)["known_by"]) == 2
    strange = kvs.run("audit", "verify", "--url", node.daemon.url)
    assert (strange.code, "certificate" in strange.err) == (6, True), strange


# --- who is kept out ---


def test_the_secret_and_a_certificate_are_needed(cluster: Cluster, certificates: Path, tmp_path: Path) -> None:
    node = cluster.nodes[0]
    operator, nobody = client_context(certificates, "operator"), client_context(certificates)
    stranger = client_context(certificates)
    stranger.load_cert_chain(*Authority(tmp_path).issue("n1"))
    good = asked(node, operator, PEER)
    assert good is not None
    assert good.status == 200
    for context, headers in (
        (operator, {**PEER, "X-Cluster-Secret": "another secret of another cluster"}),
        (operator, {"X-Node-ID": "n2"}),
        (nobody, PEER),
    ):
        refused = asked(node, context, headers)
        assert refused is not None
        assert (refused.status, refused.json()["code"]) == (401, "unauthorized")
    assert asked(node, stranger, PEER) is None
    assert node.logged("A peer was refused: no certificate", SOON_S)
    assert node.logged("A peer was refused: wrong or missing secret", SOON_S)
    assert node.logged("TLS handshakes failed", SOON_S)


@contextmanager
def intruder(cluster: Cluster, context: ssl.SSLContext, changed: Mapping[str, object]) -> Iterator[Node]:
    """A node that tries to join, with these settings, and is gone at the end. `context` is for asking it."""
    data_dir = Path(mkdtemp(dir=cluster.nodes[0].daemon.folder))
    node = cluster.add("nx", bootstrap_patience=1, data_dir=str(data_dir), **changed)
    node.daemon.tls = context
    try:
        node.start()
        yield node
    finally:
        cluster.forget(node)


def stays_out(cluster: Cluster, intruder: Node) -> None:
    """It gives up, serves alone and knows nobody, and nobody knows it."""
    assert intruder.logged(ALONE, allowed(SOON_S))
    seconds_until(lambda: intruder.mode() == "normal", allowed(SOON_S))
    assert intruder.members() == {"nx": "alive"}
    assert intruder.put("from/outside", 1).status == 201
    first, *others = [node for node in cluster.up if node is not intruder]
    assert first.put("from/inside", 1, "?w=3").status in (200, 201)
    assert intruder.value("from/inside") is None
    for node in (first, *others):
        assert node.members() == {"n1": "alive", "n2": "alive", "n3": "alive"}
        assert node.value("from/outside") is None


def test_nodes_of_another_authority_stay_out(cluster: Cluster, tmp_path: Path) -> None:
    """Those that verify, and those that pass over that they cannot verify anybody."""
    other = Authority(tmp_path)
    other.issue("nx")
    verifies = settings(tmp_path, "nx")
    passes_over = {**verifies, "cluster_tls_mutual": False, "cluster_tls_skip_verify": True}
    for changed, reason in ((verifies, "CERTIFICATE_VERIFY_FAILED"), (passes_over, "UNKNOWN_CA")):
        with intruder(cluster, other.client(), changed) as node:
            stays_out(cluster, node)
            told = node.events("A peer cannot be asked: TLS failed")
            assert told
            assert all(reason in line["reason"] for line in told)
            assert len(told) <= len(cluster.nodes), "each reason is told once for each peer"
    assert cluster.nodes[0].logged("TLS handshakes failed", SOON_S)


def test_a_node_with_another_secret_stays_out(cluster: Cluster, certificates: Path) -> None:
    changed = {**settings(certificates, "n1"), "cluster_secret": "the-secret-of-another-cluster"}
    with intruder(cluster, client_context(certificates), changed) as node:
        stays_out(cluster, node)
        assert node.events("A seed refuses this node")


def test_a_node_that_speaks_http_stays_out(cluster: Cluster, certificates: Path) -> None:
    with intruder(cluster, client_context(certificates), {}) as node:
        stays_out(cluster, node)


def test_a_certificate_for_another_address_is_not_believed(cluster: Cluster, certificates: Path) -> None:
    """Though it comes from the same authority: a node elsewhere cannot take the place of one here."""
    issuer = load_issuer(certificates / "ca.pem", certificates / "ca.key", now_ms())
    issued = issue(issuer, "elsewhere", ["10.0.0.9"], now_ms(), 1, is_node=True)
    for name, text in (("elsewhere.pem", issued.certificate), ("elsewhere.key", issued.key)):
        (certificates / name).touch(mode=0o600)
        (certificates / name).write_bytes(text)
    context = client_context(certificates, "operator")
    context.check_hostname = False
    with intruder(cluster, context, settings(certificates, "elsewhere")) as node:
        assert node.logged("The certificate is not made for the address at which peers reach this node", SOON_S)
        assert eventually(lambda: is_not_believed(cluster, node), allowed(SOON_S))


def is_not_believed(cluster: Cluster, intruder: Node) -> bool:
    """Whether one of the others has said that it does not ask it, and why."""
    told = [line for node in cluster.up for line in node.events("A peer cannot be asked: TLS failed")]
    return any(line["address"] == intruder.address and "mismatch" in line["reason"] for line in told)
