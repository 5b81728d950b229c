"""docs/client.md names everything that the Python client offers."""

import inspect
import re
from pathlib import Path

import pytest

import kvs.client
from kvs.client import AsyncClient, Client
from kvs.client.testing import Cluster, Node
from tests.markdown import section, spans

PAGE = (Path(__file__).parents[1] / "docs" / "client.md").read_text()
WORDS = {word for span in spans(PAGE) for word in re.findall(r"\w+", span)}


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


@pytest.mark.parametrize("of", [Client, AsyncClient, Node, Cluster])
def test_every_method_is_named(of: type) -> None:
    assert public(of) - WORDS == set()


def test_both_clients_have_the_same_methods() -> None:
    assert public(Client) == public(AsyncClient)


@pytest.mark.parametrize(
    "method", [Client.put, Client.range, Client.list, Client.bulk, Client.watch, Client.set_metadata]
)
def test_every_parameter_of_what_is_asked_most_is_named(method: object) -> None:
    assert callable(method)
    assert set(inspect.signature(method).parameters) - {"self", "items", "path", "prefix"} - WORDS == set()


def test_every_parameter_of_a_client_is_named() -> None:
    assert set(inspect.signature(Client).parameters) - WORDS == set()


def test_every_class_is_named() -> None:
    assert set(kvs.client.__all__) - WORDS - RESULTS == set()


RESULTS = {"User", "Group", "Token", "NewToken", "Metadata", "WhoAmI"}
"""What methods of these names give; their fields are those of the API."""


def test_the_errors_of_the_table_are_there() -> None:
    shown = {name for name in spans(section(PAGE, "## Errors")) if name.endswith("Error")}
    assert {name for name in kvs.client.__all__ if name.endswith("Error")} - shown - {"ClientError"} == set()
    assert all(hasattr(kvs.client, name) for name in shown - {"TypeError", "ValueError"})


def test_these_checks_can_fail() -> None:
    assert "put" in WORDS
    assert "putt" not in WORDS
    assert {"start", "kill", "client"} <= public(Node)
