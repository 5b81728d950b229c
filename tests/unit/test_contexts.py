"""Which node a command asks, and with which token: a token goes to the nodes of its context and to nobody else."""

from pathlib import Path

import pytest

from kvs.daemon.contexts import Context, Contexts, chosen, client_file, save

NODES = ("http://10.0.0.2:8080", "http://10.0.0.3:8080", "http://10.0.0.4:8080")
TRIO = Context(",".join(NODES), "its-token", "/its/ca.pem")


@pytest.fixture(autouse=True)
def _contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVS_HOME", str(tmp_path / "home"))
    save(client_file(), Contexts("trio", {"trio": TRIO, "other": Context("http://10.0.0.9:8080", "another")}))


@pytest.mark.parametrize("url", [NODES[2], NODES[1] + "/", f"{NODES[2]}, {NODES[0]}", ",".join(NODES)])
def test_nodes_of_the_context_are_asked_as_it_says(url: str) -> None:
    assert chosen(url, "", None, None) == Context(url, "its-token", "/its/ca.pem")


@pytest.mark.parametrize(
    "url", ["http://10.0.0.9:8080", f"{NODES[0]},http://10.0.0.9:8080", "https://10.0.0.2:8080", "http://10.0.0.2:80"]
)
def test_no_other_node_gets_its_token(url: str) -> None:
    assert chosen(url, "", None, None) == Context(url)
    assert chosen(url, "mine", None, None) == Context(url, "mine")


def test_what_is_given_goes_before_the_context() -> None:
    assert chosen(None, "", None, None) == TRIO
    assert chosen(NODES[0], "mine", Path("/my/ca.pem"), None) == Context(NODES[0], "mine", "/my/ca.pem")
    assert chosen(None, "", None, "other") == Context("http://10.0.0.9:8080", "another")
