"""From the `Authorization` field of a request to who it comes from.

    Bearer <token> ─ remembered? ─ stored under its SHA3-512? ─ signature, claims ─ the user lives ─ Principal
    KVS-Local <token> ─ signature, claims ─ Principal that may manage accounts

An unknown token is refused before anything of it is parsed. What was verified is remembered until it expires or until
a record that it rests on changes: `forget` is told of those before anybody hears that the change was made.

The second form comes from the command line on the node's own host: it proves that its user can read the data
directory, who could therefore do anything to the node.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Protocol

import structlog
from aiohttp import hdrs, web

from kvs.auth.accounts import DELETED, GROUPS, USERS, find_user, groups_of, rests_on
from kvs.auth.peers import is_peer
from kvs.auth.principal import ANONYMOUS, EVERYBODY, PEER, Principal
from kvs.auth.scopes import ACCOUNTS, ALL
from kvs.auth.tokens import LOCAL_SCHEME, TOKENS, SigningKey, decode_token, token_hash, verify, verify_local
from kvs.cluster.transport import SECRET_HEADER
from kvs.errors import Forbidden, Unauthorized, Unavailable
from kvs.limits import TOKEN_CACHE_MAX_ENTRIES, TOKEN_MAX_BYTES
from kvs.server.access import Access
from kvs.server.browsers import Browsers
from kvs.server.connection import Connection
from kvs.server.system import live_document
from kvs.storage.keyspace import system_key
from kvs.storage.store import Store

log = structlog.get_logger()

_TOKEN_ENTRIES = system_key(TOKENS.encode())
_ACCOUNT_ENTRIES = tuple(system_key(kind.encode()) for kind in (USERS, GROUPS, DELETED))


class Gate(Protocol):
    """Decides who may pass."""

    asks: bool
    """Whether it matters who comes."""

    def admit(self, request: web.BaseRequest, access: Access) -> Principal:
        """Who asks. Raises Unauthorized, Forbidden."""

    def forget(self, entries: Sequence[bytes]) -> None:
        """These system records have changed."""


class OpenGate:
    """Authentication is switched off."""

    asks = False

    def __init__(self, browsers: Browsers) -> None:
        self._browsers = browsers

    def admit(self, request: web.BaseRequest, access: Access) -> Principal:
        if not access.open:
            self._browsers.check(request)
        return EVERYBODY

    def forget(self, entries: Sequence[bytes]) -> None:
        """Nothing is remembered."""


class PeerGate:
    """Stands before another gate: routes of peers ask for the cluster's secret, all others for what that one asks."""

    def __init__(self, gate: Gate, secrets: Sequence[bytes], *, wants_certificate: bool) -> None:
        """`wants_certificate`: the secret is good only on a connection with a certificate that was verified."""
        self._gate = gate
        self.asks = gate.asks
        self._secrets = secrets
        self._wants_certificate = wants_certificate

    def admit(self, request: web.BaseRequest, access: Access) -> Principal:
        if not access.peer:
            return self._gate.admit(request, access)
        if not is_peer(request.headers.getall(SECRET_HEADER, ()), self._secrets):
            log.warning("A peer was refused: wrong or missing secret", client=request.remote, path=request.path)
            raise Unauthorized
        if self._wants_certificate and not _has_certificate(request):
            log.warning("A peer was refused: no certificate", client=request.remote, path=request.path)
            raise Unauthorized
        return PEER

    def forget(self, entries: Sequence[bytes]) -> None:
        self._gate.forget(entries)


def _has_certificate(request: web.BaseRequest) -> bool:
    """Whether the client showed one; the handshake has verified it, or there would be no request."""
    return request.transport is not None and bool(request.transport.get_extra_info("peercert"))


class TokenGate:
    """Authentication is on."""

    asks = True

    def __init__(
        self,
        store: Store,
        keys: Sequence[SigningKey],
        local_key: SigningKey,
        now_ms: Callable[[], int],
        browsers: Browsers,
        *,
        anonymous: Iterable[str],
        is_unproven: Callable[[], bool] = lambda: False,
    ) -> None:
        """`anonymous`: the settings of `Access.anonymous` that are on. `is_unproven`: whether tokens and users are
        those of a backup, and what was revoked since is not known here yet; so long no token is judged."""
        self._store = store
        self._keys = keys
        self._local_key = local_key
        self._now_ms = now_ms
        self._browsers = browsers
        self._anonymous = frozenset(anonymous)
        self._is_unproven = is_unproven
        self._known: dict[bytes, Principal] = {}
        """By SHA-256 of the whole field, so that no token stays in memory longer than the connection that shows it; the
        hash they are stored under takes a tenth of a GET, this one a twentieth of those that show another field than
        the request before."""
        self._marks: dict[str, set[bytes]] = {}
        """Where in `_known` a token is, by the hash that it is stored under."""

    def admit(self, request: web.BaseRequest, access: Access) -> Principal:
        if access.open:
            return ANONYMOUS
        given = request.headers.getall(hdrs.AUTHORIZATION, ())
        if not given:
            if access.anonymous not in self._anonymous:
                raise Unauthorized
            self._browsers.check(request)
            return ANONYMOUS
        field = given[0]
        connection: Connection = request.protocol  # type: ignore[assignment]  # all are of this class
        is_shown_again = field == connection.credential
        mark = connection.credential_mark if is_shown_again else _mark_of(field)
        principal = self._known.get(mark)
        if principal is None or len(given) > 1 or principal.expires_at <= self._now_ms():
            principal = self._authenticate(given, mark, access)
        if not is_shown_again:
            connection.credential, connection.credential_mark = field, mark
        if not principal.scopes & access.scopes:
            raise _lacking(principal)
        return principal

    def forget(self, entries: Sequence[bytes]) -> None:
        for entry in entries:
            for mark in self._marks.pop(entry.removeprefix(_TOKEN_ENTRIES).decode(), ()):
                self._known.pop(mark, None)
        accounts = {entry for entry in entries if entry.startswith(_ACCOUNT_ENTRIES)}
        if accounts:
            self._known = {mark: known for mark, known in self._known.items() if accounts.isdisjoint(known.rests_on)}
            self._marks = {digest: marks for digest, marks in self._marks.items() if marks & self._known.keys()}

    def _authenticate(self, given: Sequence[str], mark: bytes, access: Access) -> Principal:
        """Who shows a field that is not known, or not any more. `mark` is its SHA-256."""
        now_ms = self._now_ms()
        self._known.pop(mark, None)
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or not token.isascii() or len(token) > TOKEN_MAX_BYTES:
            raise Unauthorized
        if scheme.lower() == LOCAL_SCHEME.lower():
            return self._verify_local(token, access, now_ms)
        if scheme.lower() != "bearer":
            raise Unauthorized
        if self._is_unproven():
            raise Unavailable("this node was restored and asks its peers what was revoked since", code="syncing")
        digest = token_hash(token)
        principal = self._verify(token, digest, now_ms)
        if len(self._known) >= TOKEN_CACHE_MAX_ENTRIES:
            self._known.clear()
            self._marks.clear()
        self._known[mark] = principal
        self._marks.setdefault(digest, set()).add(mark)
        return principal

    def _verify(self, token: str, digest: str, now_ms: int) -> Principal:
        raw = live_document(self._store, TOKENS + digest, now_ms)
        if raw is None:
            raise Unauthorized
        stored = decode_token(raw)
        claims = verify(token, self._keys, now_ms)
        if stored.revoked_at is not None or stored.user_uuid != claims.user_uuid:
            raise Unauthorized

        def look(name: str) -> bytes | None:
            return live_document(self._store, name, now_ms)

        user = find_user(look, claims.user_uuid)
        if user is None:
            raise Unauthorized
        return Principal(
            user=user.uuid,
            groups=frozenset(groups_of(look, user)),
            scopes=frozenset(claims.scopes),
            expires_at=claims.exp * 1000,
            token_id=stored.token_id,
            rests_on=(_TOKEN_ENTRIES + digest.encode(), *(system_key(name.encode()) for name in rests_on(user))),
        )

    def _verify_local(self, token: str, access: Access, now_ms: int) -> Principal:
        claims = verify_local(token, self._local_key, now_ms)
        principal = Principal(local=True, scopes=frozenset(ALL), expires_at=claims.exp * 1000)
        if not (access.local or access.scopes <= ACCOUNTS):
            raise _lacking(principal)
        return principal


def _mark_of(field: str) -> bytes:
    """What a field is known by."""
    return sha256(field.encode(errors="surrogateescape")).digest()


def _lacking(principal: Principal) -> Forbidden:
    refusal = Forbidden(user=principal.user)
    refusal.actor = principal.actor
    return refusal
