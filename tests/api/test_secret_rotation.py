"""Tokens while the secret that signs them is changed: on the nodes of a cluster, and on one that stands alone."""

from pathlib import Path

from tests.api.accounts import Place, claims, place

FIRST, SECOND, THIRD = (f"{word}-secret-of-a-cluster-0123456789" for word in ("first", "second", "third"))


def good(at: Place, *tokens: str) -> list[bool]:
    """Whether each token is good for reading."""
    statuses = [at.caller(token).get("/kv/absent").status for token in tokens]
    assert set(statuses) <= {404, 401}
    return [status == 404 for status in statuses]


def test_tokens_outlive_a_change_of_the_secret_by_one_step(tmp_path: Path) -> None:
    with place(tmp_path / "data", clustering_enabled=True, cluster_secret=FIRST) as at:
        old = at.root.ask.authorization.removeprefix("Bearer ")
        at.restart(cluster_secret=SECOND, cluster_secret_previous=FIRST)
        assert good(at, old) == [True]
        new = at.token(at.root.uuid, ["read", "admin:tokens:revoke"])
        revoked = at.root.ask.call("POST", "/api/tokens", {"user_uuid": at.root.uuid, "scopes": ["read"]}).json
        assert at.caller(new).delete(f"/api/tokens/{revoked['token_id']}").status == 204
        assert good(at, old, new, revoked["token"]) == [True, True, False]

        at.restart(cluster_secret=FIRST, cluster_secret_previous=SECOND)
        assert good(at, old, new, revoked["token"]) == [True, True, False]
        at.restart(cluster_secret=SECOND, cluster_secret_previous="")
        assert good(at, old, new) == [False, True]
        at.restart(cluster_secret=THIRD, cluster_secret_previous=SECOND)
        assert good(at, old, new) == [False, True]
        at.restart(cluster_secret=THIRD, cluster_secret_previous="")
        assert good(at, old, new) == [False, False]
        at.restart(cluster_secret=FIRST)
        assert good(at, old, new, revoked["token"]) == [True, False, False]


def test_a_token_names_its_cluster_without_the_secret(tmp_path: Path) -> None:
    audiences = {}
    for number, secret in enumerate((FIRST, FIRST, SECOND)):
        with place(tmp_path / str(number), clustering_enabled=True, cluster_secret=secret) as at:
            audiences[number] = claims(at.token(at.root.uuid))["aud"]
            assert secret not in audiences[number]
    assert audiences[0] == audiences[1] != audiences[2]


def test_a_node_takes_only_tokens_that_it_has_stored(tmp_path: Path) -> None:
    """Also not one that another node with the same secret made, until its record arrives."""
    settings = {"clustering_enabled": True, "cluster_secret": FIRST}
    with place(tmp_path / "one", **settings) as one, place(tmp_path / "two", **settings) as two:
        token = one.root.ask.authorization.removeprefix("Bearer ")
        assert good(one, token) == [True]
        assert good(two, token) == [False]


def test_a_node_alone_does_not_depend_on_the_clusters_secret(tmp_path: Path) -> None:
    with place(tmp_path / "data", cluster_secret=FIRST) as at:
        token = at.token(at.root.uuid)
        at.restart(cluster_secret=SECOND)
        assert good(at, token) == [True]


def test_without_its_key_a_node_alone_takes_no_token_from_before(tmp_path: Path) -> None:
    with place(tmp_path / "data") as at:
        token = at.token(at.root.uuid)
        cursor = at.root.ask.get("/api/tokens?limit=1").json["next_cursor"]
        assert at.root.ask.get(f"/api/tokens?cursor={cursor}").status == 200
        (at.folder / "signing.key").unlink()
        at.restart()
        assert good(at, token, at.root.ask.authorization.removeprefix("Bearer ")) == [False, False]
        assert at.root.ask.get("/api/users").status == 401
