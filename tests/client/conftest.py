"""Clients of nodes that run in this process."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
from argon2 import PasswordHasher

from kvs.client import AsyncClient, Client
from tests.api.accounts import Place, place
from tests.api.running import RunningNode

_numbers = count(1)


def url_of(address: tuple[str, int]) -> str:
    return f"http://{address[0]}:{address[1]}"


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    with patch("kvs.auth.passwords._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)):
        yield


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    running = RunningNode(tmp_path_factory.mktemp("shared") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def url(node: RunningNode) -> str:
    return url_of(node.address)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, retry_s=5) as made:
        yield made


@pytest.fixture
async def aclient(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url, retry_s=5) as made:
        yield made


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node with authentication on."""
    with place(tmp_path_factory.mktemp("accounts") / "data") as made:
        yield made


@pytest.fixture
def root(at: Place) -> Iterator[Client]:
    """Asks as its root."""
    with Client(url_of(at.node.address), token=at.root.ask.authorization.removeprefix("Bearer ")) as made:
        yield made


@pytest.fixture
def key() -> str:
    """A key that no other test uses, nor any key that begins with it and a slash."""
    return f"test{next(_numbers)}"


@pytest.fixture
def make_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningNode]]:
    """Starts a node for one test (arguments as of `RunningNode`)."""
    with ExitStack() as ends:

        def make(**settings: Any) -> RunningNode:
            running = RunningNode(tmp_path_factory.mktemp("node") / "data", **settings)
            ends.callback(running.stop)
            return running

        yield make
