"""Who a request comes from, once that has been checked."""

import msgspec

from kvs.auth.scopes import ALL, KV


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`user` is a uuid, empty for the anonymous; `groups` are uuids from what is stored, never from the token.

    `expires_at` is Unix ms, 0 for never; `token_id` is empty without a token. `rests_on` are the entry keys of the
    records whose change may change all this. `local`: the operator on the node's host.
    """

    user: str = ""
    local: bool = False
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    expires_at: int = 0
    token_id: str = ""
    rests_on: tuple[bytes, ...] = ()

    @property
    def actor(self) -> str:
        """Who it is, for the audit log."""
        return LOCAL_ACTOR if self.local else self.user

    @property
    def bypasses(self) -> bool:
        """Whether the permissions of keys do not apply."""
        return KV in self.scopes


LOCAL_ACTOR = "local"
"""In the audit log, in the place of a uuid: whoever can read the node's files."""

NODE_ACTOR = "node"
"""The same: the node itself."""

ANONYMOUS = Principal()

EVERYBODY = Principal(scopes=frozenset(ALL))
"""Whoever asks a node whose authentication is switched off."""

PEER = Principal()
"""Another node of the cluster: the routes of peers ask no permissions, all others do not know it."""
