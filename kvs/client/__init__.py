"""The client of KVS: `Client` for ordinary programs, `AsyncClient` for those on asyncio, with one surface.

    with Client("http://127.0.0.1:8080", token=token) as kvs:
        version = kvs.put("sites/berlin/limits", {"max_power_kw": 11})
        kvs.put("sites/berlin/limits", {"max_power_kw": 22}, if_match=version.uuid)
        for value in kvs.range("sites/"):
            print(value.path, value.data)

What goes wrong is a `ClientError`; see `kvs.client.errors`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvs.client.async_client import AsyncClient
    from kvs.client.errors import (
        ApiError,
        BadRequestError,
        ClientError,
        ConflictError,
        ForbiddenError,
        NotFoundError,
        OutcomeUnknownError,
        PreconditionFailedError,
        ProtocolError,
        RateLimitedError,
        ResyncRequiredError,
        TooLargeError,
        UnauthorizedError,
        UnavailableError,
        UnreachableError,
        UnsendableError,
    )
    from kvs.client.model import (
        BulkDelete,
        BulkPut,
        BulkResult,
        Entry,
        Event,
        Group,
        Metadata,
        NewToken,
        Revision,
        Token,
        User,
        Value,
        Version,
        WhoAmI,
    )
    from kvs.client.sync_client import Client

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadRequestError",
    "BulkDelete",
    "BulkPut",
    "BulkResult",
    "Client",
    "ClientError",
    "ConflictError",
    "Entry",
    "Event",
    "ForbiddenError",
    "Group",
    "Metadata",
    "NewToken",
    "NotFoundError",
    "OutcomeUnknownError",
    "PreconditionFailedError",
    "ProtocolError",
    "RateLimitedError",
    "ResyncRequiredError",
    "Revision",
    "Token",
    "TooLargeError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
    "UnsendableError",
    "User",
    "Value",
    "Version",
    "WhoAmI",
]

_LIGHT = ("errors", "model")
"""Modules that load without the HTTP library."""


def __getattr__(name: str) -> Any:
    """Loads what is asked for only then: the HTTP library takes longer than all else of a command line."""
    if name in __all__:
        for module in (*_LIGHT, "async_client", "sync_client"):
            loaded = importlib.import_module(f"kvs.client.{module}")
            if name in vars(loaded):
                return globals().setdefault(name, vars(loaded)[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
