"""Who a request comes from, once that has been checked."""

import msgspec

from kvs.auth.scopes import ALL, KV


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`user` is a uuid, empty for the anonymous; `groups` are uuids from the stored user, never from the token.

    `expires_at` is Unix ms, 0 for never; `token_id` is empty without a token. `rests_on` are the entry keys of the
    records whose change may change all this.
    """

    user: str = ""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    expires_at: int = 0
    token_id: str = ""
    rests_on: tuple[bytes, ...] = ()

    @property
    def bypasses(self) -> bool:
        """Whether the permissions of keys do not apply."""
        return KV in self.scopes


ANONYMOUS = Principal()

EVERYBODY = Principal(scopes=frozenset(ALL))
"""Whoever asks a node whose authentication is switched off."""

PEER = Principal()
"""Another node of the cluster: the routes of peers ask no permissions, all others do not know it."""
