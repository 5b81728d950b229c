"""Fixtures with throw-away nodes of KVS, there wherever KVS is installed.

    def test_it(kvs_node):
        kvs_node.client().put("a", 1)

    def test_them(kvs_cluster):
        kvs = kvs_cluster.client()
        kvs_cluster.nodes[0].kill()

`make_kvs_node` and `make_kvs_cluster` start more of them, with settings of their own. See `kvs.client.testing`, whose
classes do for fixtures of wider scope, too.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # every run of pytest loads this file
    from kvs.client.testing import Cluster, Node


@pytest.fixture
def make_kvs_node() -> Iterator[Callable[..., "Node"]]:
    """Starts a node with the given settings; it ends with the test."""
    from kvs.client.testing import Node

    with ExitStack() as ends:

        def make(**settings: Any) -> Node:
            return ends.enter_context(Node(**settings))

        yield make


@pytest.fixture
def make_kvs_cluster() -> Iterator[Callable[..., "Cluster"]]:
    """Starts a cluster of `size` nodes, three if not said, with the given settings; it ends with the test."""
    from kvs.client.testing import Cluster

    with ExitStack() as ends:

        def make(size: int = 3, **settings: Any) -> Cluster:
            return ends.enter_context(Cluster(size, **settings))

        yield make


@pytest.fixture
def kvs_node(make_kvs_node: Callable[..., "Node"]) -> "Node":
    """A node that holds nothing."""
    return make_kvs_node()


@pytest.fixture
def kvs_cluster(make_kvs_cluster: Callable[..., "Cluster"]) -> "Cluster":
    """Three nodes that hold nothing and keep the same."""
    return make_kvs_cluster()
