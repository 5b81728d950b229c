"""JSON Web Tokens made by hand, good ones and such as nobody may accept."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from kvs.auth.tokens import ISSUER, SigningKey, derive_key, issue, verify
from kvs.errors import Unauthorized

NOW = 1_700_000_000_000
NOW_S = NOW // 1000
HOUR_MS = 3_600_000
SECRET = bytes(range(32))
KEY = derive_key(SECRET, "tokens")
OTHER = derive_key(bytes(32), "tokens")
PURPOSES: tuple[Any, ...] = ("tokens", "local", "cursors")
USER = "8f14e45f-ceea-4e7a-9c1b-0e3f5a1b2c3d"
HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS: Mapping[str, Any] = {
    "iss": ISSUER,
    "sub": USER,
    "user_uuid": USER,
    "scopes": ["read"],
    "iat": NOW_S,
    "exp": NOW_S + 3600,
    "jti": "j",
    "aud": KEY.audience,
}
_DIGESTS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def word(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def sign(header: object, payload: object, key: bytes = KEY.key, digest: str = "HS256") -> str:
    """A JWT made by hand; bytes are taken as they are, anything else as JSON."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(map(word, parts))
    return f"{signed}.{word(hmac.digest(key, signed.encode(), _DIGESTS[digest]))}"


def with_claims(**changed: object) -> str:
    """A token with our own signature and these claims; an ellipsis takes one away."""
    return sign(HEADER, {name: value for name, value in {**CLAIMS, **changed}.items() if value is not ...})


def with_header(**changed: object) -> str:
    return sign({name: value for name, value in {**HEADER, **changed}.items() if value is not ...}, CLAIMS)


def refused(token: str, *keys: SigningKey, now_ms: int = NOW) -> bool:
    """Whether it is, by KEY unless others are named. There is one refusal, which says nothing of the reason."""
    try:
        verify(token, keys or (KEY,), now_ms)
    except Unauthorized:
        return True
    return False


def issued(key: SigningKey = KEY, *, life_ms: int = HOUR_MS) -> str:
    return issue(key, user=USER, scopes=("read", "write"), jti="j1", now_ms=NOW, life_ms=life_ms)
