"""What a route needs. Every route says so; there is no default."""

from typing import Literal, NamedTuple

from kvs.auth import scopes


class Access(NamedTuple):
    """A token with one of `scopes`; or none, if the setting `anonymous` allows it. `open`: no questions asked. `peer`:
    the cluster's secret and nothing else. `local`: the operator on the node's own host too, as on account routes.
    `counted`: requests that are let in count for the limit of requests."""

    scopes: frozenset[str] = frozenset()
    anonymous: Literal["", "allow_anonymous_read", "allow_anonymous_write"] = ""
    open: bool = False
    peer: bool = False
    local: bool = False
    counted: bool = True


def token(*needed: str) -> Access:
    """A token with one of the scopes."""
    return Access(frozenset(needed))


OPEN = Access(open=True)
MONITORING = Access(open=True, counted=False)
PEER = Access(peer=True, counted=False)
READ = Access(frozenset((scopes.READ,)), "allow_anonymous_read")
WRITE = Access(frozenset((scopes.WRITE,)), "allow_anonymous_write")
DELETE = token(scopes.DELETE)
BULK = Access(frozenset((scopes.WRITE, scopes.DELETE)), "allow_anonymous_write")
"""Each item is checked for its own scope."""
STATUS = Access(scopes.ADMIN, local=True)
"""Addresses, numbers and clocks of the nodes are for whoever looks after something, not for readers of data."""
AUDIT = Access(frozenset((scopes.AUDIT,)), local=True)
BACKUP = Access(frozenset((scopes.BACKUP,)), local=True)
METADATA_READ = token(scopes.USERS_READ, scopes.READ, scopes.WRITE)
"""Without the first: the owner of the key only."""
METADATA_WRITE = token(scopes.USERS_UPDATE, scopes.WRITE)
"""Without the first: the owner of the key only."""
