"""Tokens: signed (JWT, RFC 7519, HS256) and, beside that, known.

A token is good when its signature and claims are, and a live record stands under its hash. Only the second makes
revocation possible; only the first makes a stolen database useless for making tokens. What RFC 8725 asks for: one
algorithm, a key as long as its hash, issuer and audience checked, nothing of the header believed.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kvs.auth.accounts import Moment
from kvs.errors import Unauthorized
from kvs.limits import LOCAL_TOKEN_LIFE_MS, TOKEN_CLOCK_SKEW_MS, TOKEN_MAX_BYTES

ISSUER = "kvs-server"
LOCAL_ISSUER = "kvs-local"
LOCAL_SCHEME = "KVS-Local"
"""In the `Authorization` field, in the place of `Bearer`."""
_ALGORITHM = "HS256"
_KEY_BYTES = 32


class SigningKey(NamedTuple):
    """A key for one purpose, and the audience of what it signs: the cluster, without giving away its secret."""

    key: bytes
    audience: str


class Claims(msgspec.Struct, frozen=True):
    """What a token says. Times are Unix seconds."""

    iss: Literal["kvs-server", "kvs-local"]
    sub: str
    user_uuid: str
    scopes: list[str]
    iat: int
    exp: int
    jti: str
    aud: str
    nbf: int = 0


class StoredToken(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token, under its hash. Times are Unix ms. `token_id` begins the hash and names the token in
    the API; `revoked_at` stays until the token would have ended, so that no old copy of the record brings it back."""

    token_id: str
    user_uuid: str
    scopes: tuple[str, ...]
    created_at: Moment
    expires_at: Moment
    created_by: str = ""
    revoked_at: Moment | None = None


TOKENS = "token/"
TOKEN_ID_CHARS = 32

decode_token = msgspec.json.Decoder(StoredToken).decode
encode_token = msgspec.json.Encoder().encode


def derive_key(secret: bytes, purpose: Literal["tokens", "local", "cursors", "audit"]) -> SigningKey:
    """The key for `purpose` (HKDF, RFC 5869); one secret gives the same key on every node."""
    key = _derive(secret, f"kvs {purpose} key")
    audience = base64.urlsafe_b64encode(_derive(secret, "kvs audience")[:12]).decode()
    return SigningKey(key, f"kvs:{audience}")


def issue(key: SigningKey, *, user: str, scopes: Sequence[str], jti: str, now_ms: int, life_ms: int) -> str:
    """A signed token that ends `life_ms` from now, rounded down to seconds."""
    claims = {
        "iss": ISSUER,
        "sub": user,
        "user_uuid": user,
        "scopes": list(scopes),
        "iat": now_ms // 1000,
        "exp": (now_ms + life_ms) // 1000,
        "jti": jti,
        "aud": key.audience,
    }
    return jwt.encode(claims, key.key, _ALGORITHM)


def issue_local(key: SigningKey, *, jti: str, now_ms: int) -> str:
    """A short-lived token for whoever can read the data directory's key. It is not stored anywhere."""
    claims = {
        "iss": LOCAL_ISSUER,
        "sub": "local",
        "user_uuid": "",
        "scopes": [],
        "iat": now_ms // 1000,
        "exp": (now_ms + LOCAL_TOKEN_LIFE_MS) // 1000,
        "jti": jti,
        "aud": key.audience,
    }
    return jwt.encode(claims, key.key, _ALGORITHM)


def verify(token: str, keys: Sequence[SigningKey], now_ms: int) -> Claims:
    """The claims of a token that one of `keys` signed and that is valid now. Raises Unauthorized."""
    claims = _verify(token, keys, now_ms, ISSUER)
    if not claims.sub or claims.sub != claims.user_uuid:
        raise Unauthorized
    return claims


def verify_local(token: str, key: SigningKey, now_ms: int) -> Claims:
    """As `verify`, for `issue_local`. Raises Unauthorized."""
    claims = _verify(token, (key,), now_ms, LOCAL_ISSUER)
    if (claims.exp - claims.iat) * 1000 > LOCAL_TOKEN_LIFE_MS:
        raise Unauthorized
    return claims


def token_hash(token: str) -> str:
    """Under which a token is stored and remembered: SHA3-512 in hex."""
    return hashlib.sha3_512(token.encode()).hexdigest()


def _verify(token: str, keys: Sequence[SigningKey], now_ms: int, issuer: str) -> Claims:
    if len(token) > TOKEN_MAX_BYTES:
        raise Unauthorized
    for key in keys:
        try:
            payload = jwt.decode(
                token,
                key.key,
                algorithms=[_ALGORITHM],
                audience=key.audience,
                issuer=issuer,
                options={
                    "require": ["iss", "sub", "user_uuid", "scopes", "iat", "exp", "jti", "aud"],
                    "strict_aud": True,
                    "enforce_minimum_key_length": True,
                    # Below, against the time that is given.
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            claims = msgspec.convert(payload, Claims)
        except Exception:  # noqa: S112 - whatever a hostile token makes the parser raise, it is refused
            continue
        latest_ms = now_ms + TOKEN_CLOCK_SKEW_MS
        if now_ms < claims.exp * 1000 and claims.iat * 1000 <= latest_ms and claims.nbf * 1000 <= now_ms:
            return claims
    raise Unauthorized


def _derive(secret: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=purpose.encode()).derive(secret)
