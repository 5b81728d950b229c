"""Which keys a node uses: its own when it is alone, the cluster's when it is not, and the one before beside it."""

import os
from pathlib import Path
from typing import Any

import pytest

from kvs.auth.accounts import User, create_user
from kvs.auth.principal import EVERYBODY
from kvs.auth.secrets import load
from kvs.auth.tokens import LOCAL_SCHEME, derive_key, issue_local
from kvs.config import Config
from kvs.errors import BadRequest, StartError, Unauthorized
from kvs.server.access import READ, token
from kvs.server.security import Security, build_security, cluster_secrets
from kvs.server.system import change_documents
from kvs.server.token_maker import make_token
from tests.gates import NOW, request
from tests.nodes import LoneNode

OLD, NEW = "the secret in use before", "the secret in use now, and for long"
HOUR_MS = 3_600_000


class Site:
    """What several nodes hold alike: one store stands for the records that they share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lone = LoneNode()
        user = User(uuid="u", nickname_hash="h", created_at=1, updated_at=1)
        self.lone.do(NOW, change_documents(lambda look, _: create_user(look, user)))

    def node(self, name: str, secret: str = "", previous: str = "", **settings: Any) -> Security:
        given = {"auth_enabled": True, "clustering_enabled": bool(secret), **settings}
        config = Config(
            node_id=name,
            data_dir=self._folder / name,
            cluster_secret=secret,
            cluster_secret_previous=previous,
            **given,
        )
        return build_security(config, self.lone.store, lambda: NOW)

    def token(self, node: Security) -> str:
        assert node.token_key is not None
        made = make_token(node.token_key, user="u", scopes=("read",), now_ms=NOW, life_ms=HOUR_MS, created_by="")
        self.lone.do(NOW, made.command)
        return made.token


def admits(node: Security, credential: str) -> bool:
    needed = token("admin:users:read") if credential.startswith(LOCAL_SCHEME) else READ
    try:
        node.gate.admit(request(credential), needed)
    except Unauthorized:
        return False
    return True


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_token_of_one_node_is_good_on_every_node_of_its_cluster(site: Site) -> None:
    a, b, stranger = site.node("a", NEW), site.node("b", NEW), site.node("c", NEW + "!")
    made = f"Bearer {site.token(a)}"
    assert [admits(node, made) for node in (a, b, stranger)] == [True, True, False]


def test_a_node_alone_has_a_key_of_its_own_and_keeps_it(site: Site) -> None:
    a, b = site.node("a"), site.node("b")
    made = f"Bearer {site.token(a)}"
    assert [admits(node, made) for node in (a, b, site.node("a"))] == [True, False, True]


def test_a_secret_without_clustering_is_not_used(site: Site, tmp_path: Path) -> None:
    alone = site.node("a", NEW, clustering_enabled=False)
    assert not admits(site.node("b", NEW), f"Bearer {site.token(alone)}")
    config = Config(data_dir=tmp_path, clustering_enabled=False, cluster_secret=NEW, cluster_secret_previous=OLD)
    assert cluster_secrets(config) == []


def test_while_the_secret_is_changed_tokens_of_both_are_good(site: Site) -> None:
    before, during, after = site.node("a", OLD), site.node("a", NEW, OLD), site.node("a", NEW)
    by_before, by_during = f"Bearer {site.token(before)}", f"Bearer {site.token(during)}"
    assert [admits(node, by_before) for node in (before, during, after)] == [True, True, False]
    assert [admits(node, by_during) for node in (before, during, after)] == [False, True, True]
    # The other way round it is how a node learns the new secret before any node signs with it, or goes back.
    back = site.node("a", OLD, NEW)
    assert admits(back, by_before)
    assert admits(back, by_during)


def test_the_local_credential_is_good_on_its_own_node_only(site: Site, tmp_path: Path) -> None:
    a, b = site.node("a", NEW), site.node("b", NEW)
    credential = f"{LOCAL_SCHEME} {issue_local(derive_key(load(tmp_path / 'a'), 'local'), jti='j', now_ms=NOW)}"
    assert [admits(node, credential) for node in (a, b)] == [True, False]
    by_cluster = f"{LOCAL_SCHEME} {issue_local(derive_key(NEW.encode(), 'local'), jti='j', now_ms=NOW)}"
    assert not admits(a, by_cluster)


def test_cursors_are_read_by_the_nodes_of_one_cluster_only(site: Site) -> None:
    a, b, alone = site.node("a", NEW), site.node("b", NEW), site.node("c")
    cursor = a.cursors.encode(b"secret/key")
    assert b.cursors.decode(cursor) == b"secret/key"
    assert "secret" not in cursor
    with pytest.raises(BadRequest):
        alone.cursors.decode(cursor)


def test_without_authentication_there_are_no_keys(site: Site, tmp_path: Path) -> None:
    node = site.node("a", auth_enabled=False)
    assert node.token_key is None
    assert node.gate.admit(request(), READ) is EVERYBODY
    assert list(tmp_path.iterdir()) == []


def test_the_data_folder_is_made_for_its_owner_alone(site: Site, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        site.node("a")
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a", *(tmp_path / "a").iterdir())}
    assert modes == {"a": 0o700, "signing.key": 0o600}


def test_a_node_does_not_start_on_a_key_that_others_may_read(site: Site, tmp_path: Path) -> None:
    site.node("a", NEW)
    (tmp_path / "a" / "signing.key").chmod(0o644)
    for secret in ("", NEW):
        with pytest.raises(StartError, match="may be read by others"):
            site.node("a", secret)


def test_a_data_folder_that_cannot_be_made(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(StartError, match=r"cannot use the data directory .*/a: it is no folder$"):
        site.node("a")


def test_settings_for_anonymous_clients_reach_the_gate(site: Site) -> None:
    assert site.node("a", allow_anonymous_read=True).gate.admit(request(), READ).user == ""
    with pytest.raises(Unauthorized):
        site.node("a", allow_anonymous_write=True).gate.admit(request(), READ)
