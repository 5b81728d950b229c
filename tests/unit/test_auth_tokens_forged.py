"""Tokens that were forged, bent or are none are refused, all in the same way."""

import base64
import json
from collections.abc import Callable

import pytest

from kvs.auth.tokens import SigningKey, verify
from kvs.limits import TOKEN_MAX_BYTES
from tests.jwts import CLAIMS, HEADER, KEY, NOW, OTHER, USER, issued, refused, sign, with_claims, with_header, word

# --- the algorithm and the signature ---


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


# --- what a header may ask for ---


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


# --- things that are no tokens ---


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
