"""One node that all tests share, each under keys of its own, and nodes for those that need one to themselves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from argon2 import PasswordHasher

from tests.api.accounts import Place, place
from tests.api.client import Client
from tests.api.peers import CLUSTER, Peer
from tests.api.running import Clock, RunningNode
from tests.api.tls_site import Site

_numbers = count(1)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    running = RunningNode(tmp_path_factory.mktemp("shared") / "data")
    yield running
    running.stop()


@pytest.fixture
def client(node: RunningNode) -> Iterator[Client]:
    """A client of the shared node."""
    connected = Client(node.address)
    yield connected
    connected.close()


@pytest.fixture
def key() -> str:
    """A key that no other test uses, nor any key that begins with it and a slash."""
    return f"test{next(_numbers)}"


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """Those that these tests set take little time and memory."""
    with patch("kvs.auth.passwords._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)):
        yield


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node with authentication on, for all tests of one file."""
    with place(tmp_path_factory.mktemp("accounts") / "data") as made:
        yield made


@pytest.fixture
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Place]]:
    """Starts nodes with authentication on, for one test (`settings` as of `place`)."""
    with ExitStack() as ends:
        yield lambda **settings: ends.enter_context(place(tmp_path_factory.mktemp("place") / "data", **settings))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Client]]:
    """Starts a node (arguments as of `RunningNode`) and connects to it; both end with the test."""
    with ExitStack() as ends:

        def make(**settings: object) -> Client:
            running = RunningNode(tmp_path_factory.mktemp("node") / "data", **settings)  # type: ignore[arg-type]
            ends.callback(running.stop)
            connected = Client(running.address)
            ends.callback(connected.close)
            return connected

        yield make


@pytest.fixture
def make_peer(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Callable[..., Peer]]:
    """Starts a node of a cluster (arguments as of `RunningNode`), whose clock stands still, and makes a peer of it;
    both end with the test."""
    with ExitStack() as ends:

        def make(**settings: Any) -> Peer:
            running = RunningNode(tmp_path_factory.mktemp("node") / "data", clock=clock, **{**CLUSTER, **settings})
            ends.callback(running.stop)
            peer = Peer(running.address)
            ends.callback(peer.close)
            return peer

        yield make


@pytest.fixture(scope="session")
def shared_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A peer of a node that all tests share."""
    running = RunningNode(tmp_path_factory.mktemp("shared") / "data", **CLUSTER)
    made = Peer(running.address)
    yield made
    made.close()
    running.stop()


@pytest.fixture
def peer(make_peer: Callable[..., Peer]) -> Peer:
    """A peer of a node that holds nothing."""
    return make_peer()


@pytest.fixture
def connect() -> Iterator[Callable[[Client], Client]]:
    """Opens further connections to a client's node; they end with the test."""
    with ExitStack() as ends:

        def another(client: Client) -> Client:
            connected = Client(client.address)
            ends.callback(connected.close)
            return connected

        yield another


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A node with certificates; the test starts it."""
    made = Site(tmp_path)
    yield made
    made.stop()
