"""Tokens that are forged, bent, too early, too late or meant for somebody else are refused, all in the same way."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from kvs.auth.tokens import (
    ISSUER,
    LOCAL_ISSUER,
    TOKEN_ID_CHARS,
    Claims,
    SigningKey,
    StoredToken,
    decode_token,
    derive_key,
    encode_token,
    issue,
    issue_local,
    token_hash,
    verify,
    verify_local,
)
from kvs.errors import Unauthorized
from kvs.limits import LOCAL_TOKEN_LIFE_MS, TOKEN_CLOCK_SKEW_MS, TOKEN_MAX_BYTES
from kvs.server.token_maker import make_token

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


# --- what is good ---


def test_an_issued_token_says_what_it_was_given() -> None:
    claims = verify(issued(), (KEY,), NOW)
    assert claims == Claims("kvs-server", USER, USER, ["read", "write"], NOW_S, NOW_S + 3600, "j1", KEY.audience)


def test_a_token_made_by_hand_is_good_so_that_the_refusals_below_mean_something() -> None:
    assert verify(sign(HEADER, CLAIMS), (KEY,), NOW).jti == "j"
    assert json.loads(base64.urlsafe_b64decode(issued().split(".")[0] + "==")) == HEADER


# --- J1 to J4: the algorithm and the signature ---


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ..., None, ["HS256"], 0, "", "hs256", "HS256 "])
@pytest.mark.parametrize("signature", ["none", "absent", "right"])
def test_only_one_algorithm_is_known(alg: object, signature: str) -> None:
    token = with_header(alg=alg)
    head = token.rpartition(".")[0]
    assert refused({"none": f"{head}.", "absent": head, "right": token}[signature])


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_the_right_key_with_another_hash_is_wrong(alg: str) -> None:
    assert refused(sign({**HEADER, "alg": alg}, CLAIMS, digest=alg))
    assert refused(sign(HEADER, CLAIMS, digest=alg))
    assert refused(sign({**HEADER, "alg": alg}, CLAIMS, digest="HS256"))
    long = SigningKey(b"k" * 64, KEY.audience)
    assert refused(sign({**HEADER, "alg": alg}, CLAIMS, long.key, alg), long)
    assert not refused(sign(HEADER, CLAIMS, long.key), long)


@pytest.mark.parametrize("alg", ["RS256", "ES256", "PS256", "EdDSA", "HS1"])
def test_algorithms_of_key_pairs_are_not_taken_for_ours(alg: str) -> None:
    assert refused(with_header(alg=alg))


def _flipped(signature: str) -> str:
    raw = bytearray(base64.urlsafe_b64decode(signature + "="))
    raw[0] ^= 1
    return word(bytes(raw))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda signature: signature[:-4],
        lambda signature: signature + "AAAA",
        _flipped,
        lambda _: issued(OTHER).rpartition(".")[2],
        lambda _: with_claims(jti="another").rpartition(".")[2],
        lambda _: word(bytes(32)),
    ],
    ids=["empty", "cut", "longer", "one bit", "other key", "other token", "zeros"],
)
def test_a_spoilt_signature(spoil: Callable[[str], str]) -> None:
    head, _, signature = issued().rpartition(".")
    assert refused(f"{head}.{spoil(signature)}")


def test_a_changed_payload_under_a_good_signature() -> None:
    header, _, signature = issued().split(".")
    raised = word(json.dumps({**CLAIMS, "scopes": ["admin:kv"]}).encode())
    assert refused(f"{header}.{raised}.{signature}")


@pytest.mark.filterwarnings("default")  # of which the library warns, too
def test_a_key_shorter_than_its_hash_signs_nothing() -> None:
    for key in (b"", b" " * 8, b"k" * 31):
        short = SigningKey(key, KEY.audience)
        assert refused(sign(HEADER, CLAIMS, key), short)


# --- J5, J6, J8: what a header may ask for ---


@pytest.mark.parametrize(
    "members",
    [
        {"jwk": {"kty": "oct", "k": word(b"a" * 32)}},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"x5c": ["MIIB"]},
        {"kid": "../../../dev/null"},
        {"kid": "' OR 1=1"},
        {"kid": "\0"},
        {"kid": "k" * 2000},
    ],
    ids=lambda members: next(iter(members)),
)
def test_the_header_does_not_choose_the_key(members: dict[str, object]) -> None:
    """With the attacker's key it is refused; with ours it is taken, since these members change nothing."""
    assert refused(sign({**HEADER, **members}, CLAIMS, b"a" * 32))
    assert not refused(sign({**HEADER, **members}, CLAIMS))


@pytest.mark.parametrize("kid", [["a"], 5, {"a": 1}])
def test_a_kid_that_is_no_text(kid: object) -> None:
    assert refused(with_header(kid=kid))


@pytest.mark.parametrize("members", [{"crit": ["exp2"], "exp2": 1}, {"crit": ["b64"], "b64": False}, {"crit": "exp"}])
def test_extensions_that_must_be_understood_are_not(members: dict[str, object]) -> None:
    assert refused(with_header(**members))


# --- J9 to J11: time ---


@pytest.mark.parametrize("exp", [..., None, "9999999999", NOW_S + 3600.5, float("nan"), 1e400, True, -1, 0, [], {}])
def test_an_end_that_is_none(exp: object) -> None:
    assert refused(with_claims(exp=exp))


def test_the_end_is_exact() -> None:
    token, end_ms = issued(life_ms=5500), NOW + 5000
    assert not refused(token, now_ms=end_ms - 1)
    assert refused(token, now_ms=end_ms)
    assert refused(token, now_ms=end_ms + 1)
    assert not refused(with_claims(exp=2**63))


def test_no_token_of_no_life() -> None:
    assert refused(issued(life_ms=0))
    assert refused(issued(life_ms=-HOUR_MS))


@pytest.mark.parametrize("iat", [..., None, "1700000000", NOW_S + 0.5, "now", float("nan"), False])
def test_a_beginning_that_is_none(iat: object) -> None:
    assert refused(with_claims(iat=iat))


def test_a_clock_may_be_a_little_ahead_of_ours() -> None:
    skew_s = TOKEN_CLOCK_SKEW_MS // 1000
    assert not refused(with_claims(iat=NOW_S + skew_s))
    assert refused(with_claims(iat=NOW_S + skew_s + 1))
    assert refused(issued(), now_ms=NOW - 600_000)


@pytest.mark.parametrize("nbf", [None, "0", 1.5, True, NOW_S + 1])
def test_not_before(nbf: object) -> None:
    assert refused(with_claims(nbf=nbf))
    assert not refused(with_claims(nbf=NOW_S))


# --- J12 to J14: who, for whom, from whom ---


@pytest.mark.parametrize(
    "aud", [..., None, "", OTHER.audience, "kvs", KEY.audience + "x", KEY.audience.upper(), [KEY.audience], {}]
)
def test_another_audience(aud: object) -> None:
    assert refused(with_claims(aud=aud))


@pytest.mark.parametrize(
    "iss", [..., None, "", "kvs", "kvs-serve", "kvs-server2", "KVS-SERVER", " kvs-server", [ISSUER], LOCAL_ISSUER]
)
def test_another_issuer(iss: object) -> None:
    assert refused(with_claims(iss=iss))


@pytest.mark.parametrize("sub", [..., None, "", 5, [USER], USER.upper(), USER + "\n", "admin"])
def test_a_subject_that_is_not_the_user(sub: object) -> None:
    assert refused(with_claims(sub=sub))
    assert refused(with_claims(user_uuid=sub))


def test_nobody_is_not_a_user() -> None:
    assert refused(with_claims(sub="", user_uuid=""))


@pytest.mark.parametrize(
    "changed",
    [{"scopes": ...}, {"scopes": "read"}, {"scopes": [1]}, {"scopes": None}, {"jti": ...}, {"jti": 5}, {"jti": None}],
)
def test_every_claim_is_there_and_of_its_kind(changed: dict[str, object]) -> None:
    assert refused(with_claims(**changed))


# --- J15: tokens for one thing are nothing for another ---


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


# --- J18: while a secret is changed ---


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


# --- J19: things that are no tokens ---


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "." * 1000,
        "a.b.c",
        "\0",
        "null",
        issued() + "\n",
        issued() + ".",
        issued() + "." + issued(),
    ],
    ids=range(11),
)
def test_what_is_no_token(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("part", ["", "!!!!", "e30", "W10", "\u00e4", "bnVsbA", "e30=e30", "//79"])
def test_a_part_that_is_not_what_it_should_be(at: int, part: str) -> None:
    parts = issued().split(".")
    parts[at] = part
    assert refused(".".join(parts))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe{",
        b"[" * 2500,
        b'{"a":' * 400,
        json.dumps(CLAIMS).encode() + b"}",
    ],
    ids=range(8),
)
def test_signed_rubbish(payload: bytes) -> None:
    assert refused(sign(HEADER, payload))
    assert refused(sign(payload, CLAIMS))


def test_of_a_claim_that_stands_twice_all_checks_see_the_same_one() -> None:
    def doubled(first: str, last: str) -> bytes:
        rest = json.dumps({name: value for name, value in CLAIMS.items() if name not in ("sub", "user_uuid")})[1:]
        return f'{{"sub": "{first}", "user_uuid": "{first}", "sub": "{last}", "user_uuid": "{last}", {rest}'.encode()

    assert verify(sign(HEADER, doubled("root", USER)), (KEY,), NOW).user_uuid == USER
    assert refused(sign(HEADER, doubled(USER, "")))


def test_a_token_is_not_longer_than_it_may_be() -> None:
    short = len(with_claims(pad=""))
    fitting = with_claims(pad="x" * ((TOKEN_MAX_BYTES - short) * 3 // 4))
    assert TOKEN_MAX_BYTES - 4 <= len(fitting) <= TOKEN_MAX_BYTES
    assert not refused(fitting)
    assert refused(with_claims(pad="x" * (TOKEN_MAX_BYTES - short)))
    assert refused("a" * 1_000_000)


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
