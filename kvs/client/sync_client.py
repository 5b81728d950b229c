"""`Client`: `AsyncClient` for programs without an event loop. Each method is that of `AsyncClient`, run on a thread of
the client's own; there is no second implementation."""

import functools
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from kvs.client.async_client import AsyncClient
from kvs.client.portal import Portal

P = ParamSpec("P")
T = TypeVar("T")


def _waits(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    @functools.wraps(method)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._portal.run(method(self._client, *args, **kwargs))

    return call


def _iterates(
    method: Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate["Client", P], Iterator[T]]:
    @functools.wraps(method)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._portal.iterate(method(self._client, *args, **kwargs))

    return call


class Client:
    """One program's way to a node, or to several nodes of one cluster; see `AsyncClient`. Threads may share one."""

    def __init__(
        self,
        *urls: str,
        token: str = "",
        ca_file: str | Path | None = None,
        timeout_s: float = 10.0,
        retry_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._portal = Portal()
        self._client = AsyncClient(
            *urls,
            token=token,
            ca_file=ca_file,
            timeout_s=timeout_s,
            retry_s=retry_s,
            headers=headers,
            ssl_context=ssl_context,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread. May be called twice."""
        self._portal.run(self._client.close())
        self._portal.close()

    get = _waits(AsyncClient.get)
    find = _waits(AsyncClient.find)
    put = _waits(AsyncClient.put)
    delete = _waits(AsyncClient.delete)
    range = _iterates(AsyncClient.range)
    list = _iterates(AsyncClient.list)
    walk = _iterates(AsyncClient.walk)
    bulk = _waits(AsyncClient.bulk)
    history = _waits(AsyncClient.history)
    revision = _waits(AsyncClient.revision)
    restore = _waits(AsyncClient.restore)
    undo = _waits(AsyncClient.undo)
    watch = _iterates(AsyncClient.watch)
    position = _waits(AsyncClient.position)
    changes = _iterates(AsyncClient.changes)
    metadata = _waits(AsyncClient.metadata)
    set_metadata = _waits(AsyncClient.set_metadata)
    create_user = _waits(AsyncClient.create_user)
    users = _iterates(AsyncClient.users)
    user = _waits(AsyncClient.user)
    find_user = _waits(AsyncClient.find_user)
    update_user = _waits(AsyncClient.update_user)
    delete_user = _waits(AsyncClient.delete_user)
    create_group = _waits(AsyncClient.create_group)
    groups = _iterates(AsyncClient.groups)
    group = _waits(AsyncClient.group)
    find_group = _waits(AsyncClient.find_group)
    update_group = _waits(AsyncClient.update_group)
    delete_group = _waits(AsyncClient.delete_group)
    create_token = _waits(AsyncClient.create_token)
    tokens = _iterates(AsyncClient.tokens)
    revoke_token = _waits(AsyncClient.revoke_token)
    login = _waits(AsyncClient.login)
    whoami = _waits(AsyncClient.whoami)
    health = _waits(AsyncClient.health)
    ready = _waits(AsyncClient.ready)
    cluster_status = _waits(AsyncClient.cluster_status)
    members = _waits(AsyncClient.members)
    call = _waits(AsyncClient.call)
    send = _waits(AsyncClient.send)
    pages = _iterates(AsyncClient.pages)
