"""What a token says, whom it is for, with which key, and what is kept of it."""

import base64
import hmac
import json

import msgspec
import pytest

from kvs.auth.tokens import (
    LOCAL_ISSUER,
    TOKEN_ID_CHARS,
    Claims,
    StoredToken,
    decode_token,
    derive_key,
    encode_token,
    issue_local,
    token_hash,
    verify,
    verify_local,
)
from kvs.errors import Unauthorized
from kvs.limits import LOCAL_TOKEN_LIFE_MS
from kvs.server.token_maker import make_token
from tests.jwts import (
    CLAIMS,
    HEADER,
    HOUR_MS,
    KEY,
    NOW,
    NOW_S,
    OTHER,
    PURPOSES,
    SECRET,
    USER,
    issued,
    refused,
    sign,
    word,
)


def test_an_issued_token_says_what_it_was_given() -> None:
    claims = verify(issued(), (KEY,), NOW)
    assert claims == Claims("kvs-server", USER, USER, ["read", "write"], NOW_S, NOW_S + 3600, "j1", KEY.audience)


def test_a_token_made_by_hand_is_good_so_that_the_refusals_below_mean_something() -> None:
    assert verify(sign(HEADER, CLAIMS), (KEY,), NOW).jti == "j"
    assert json.loads(base64.urlsafe_b64decode(issued().split(".")[0] + "==")) == HEADER


# --- tokens for one thing are nothing for another ---


def test_local_tokens_and_user_tokens_do_not_stand_for_each_other() -> None:
    local_key = derive_key(SECRET, "local")
    local = issue_local(local_key, jti="j", now_ms=NOW)
    assert verify_local(local, local_key, NOW).iss == LOCAL_ISSUER
    assert refused(local, local_key)
    assert refused(local)
    for key in (KEY, local_key):
        with pytest.raises(Unauthorized):
            verify_local(issued(key), key, NOW)


def test_a_local_token_is_short() -> None:
    key = derive_key(SECRET, "local")
    token = issue_local(key, jti="j", now_ms=NOW)
    assert verify_local(token, key, NOW + LOCAL_TOKEN_LIFE_MS - 1).sub == "local"
    with pytest.raises(Unauthorized):
        verify_local(token, key, NOW + LOCAL_TOKEN_LIFE_MS)
    longer = {**CLAIMS, "iss": LOCAL_ISSUER, "exp": NOW_S + LOCAL_TOKEN_LIFE_MS // 1000 + 1, "aud": key.audience}
    with pytest.raises(Unauthorized):
        verify_local(sign(HEADER, longer, key.key), key, NOW)


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = {derive_key(secret, purpose).key for secret in (SECRET, bytes(32)) for purpose in PURPOSES}
    assert len(keys) == 6
    assert all(len(key) == 32 and key not in (SECRET, bytes(32)) for key in keys)


def test_the_key_is_the_same_on_every_node_and_in_every_version() -> None:
    """HKDF (RFC 5869) by hand: a change here would make the tokens of a running cluster worthless."""

    def derived(info: bytes) -> bytes:
        extracted = hmac.digest(bytes(32), SECRET, "sha256")
        return hmac.digest(extracted, info + b"\1", "sha256")

    for purpose in PURPOSES:
        assert derive_key(SECRET, purpose).key == derived(f"kvs {purpose} key".encode())
    assert KEY.audience == "kvs:" + word(derived(b"kvs audience")[:12])
    assert KEY.audience != OTHER.audience


# --- while a secret is changed ---


def test_the_key_before_is_good_as_long_as_it_is_known() -> None:
    old, new = issued(OTHER), issued(KEY)
    assert not refused(old, KEY, OTHER)
    assert not refused(new, KEY, OTHER)
    assert refused(old, KEY)
    assert refused(new, OTHER)
    with pytest.raises(Unauthorized):
        verify(new, (), NOW)


def test_keys_of_one_cluster_do_not_share_an_audience() -> None:
    """Signed with the new key, for the audience of the old one."""
    assert refused(sign(HEADER, {**CLAIMS, "aud": OTHER.audience}), KEY, OTHER)


# --- what is kept ---


def test_the_hash_is_sha3_512() -> None:
    assert token_hash("").startswith("a69f73cca23a9ac5c8b567dc185a756e97c982164fe25859e0d1dcc1475c80a6")
    assert len(token_hash("x")) == 128
    assert token_hash(issued()) != token_hash(issued() + "=")


STORED = StoredToken(token_id="a" * 32, user_uuid=USER, scopes=("read",), created_at=1, expires_at=2, created_by=USER)


@pytest.mark.parametrize("stored", [STORED, msgspec.structs.replace(STORED, created_by="", revoked_at=0)])
def test_a_stored_token_reads_back_as_it_was_written(stored: StoredToken) -> None:
    assert decode_token(encode_token(stored)) == stored


def test_a_record_of_a_token_from_an_older_node_is_still_read() -> None:
    raw = b'{"token_id":"a","user_uuid":"u","scopes":[],"created_at":1,"expires_at":2,"later":{"x":1}}'
    assert decode_token(raw) == StoredToken(token_id="a", user_uuid="u", scopes=(), created_at=1, expires_at=2)
    for spoilt in (b"{}", b"[]", raw.replace(b"1,", b'"1",', 1)):
        with pytest.raises(msgspec.ValidationError):
            decode_token(spoilt)


def test_what_is_kept_of_a_made_token_does_not_give_it_away() -> None:
    made = make_token(KEY, user=USER, scopes=("read",), now_ms=NOW, life_ms=1999, created_by="c")
    assert made.stored == StoredToken(
        token_id=token_hash(made.token)[:TOKEN_ID_CHARS],
        user_uuid=USER,
        scopes=("read",),
        created_at=NOW,
        expires_at=NOW + 1000,
        created_by="c",
    )
    assert verify(made.token, (KEY,), NOW).exp * 1000 == made.stored.expires_at
    assert made.command.entry == b"stoken/" + token_hash(made.token).encode()
    assert (decode_token(made.command.payload), made.command.ttl_ms) == (made.stored, 1000)
    assert all(part.encode() not in made.command.payload + made.command.entry for part in made.token.split("."))


def test_two_tokens_of_one_moment_differ() -> None:
    first, second = (
        make_token(KEY, user=USER, scopes=(), now_ms=NOW, life_ms=HOUR_MS, created_by="") for _ in range(2)
    )
    assert first.token != second.token
    assert first.stored.token_id != second.stored.token_id
