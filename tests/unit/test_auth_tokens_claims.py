"""Signed tokens that come too early, too late, from somebody else or for somebody else are refused."""

import pytest

from kvs.auth.tokens import ISSUER, LOCAL_ISSUER
from kvs.limits import TOKEN_CLOCK_SKEW_MS
from tests.jwts import HOUR_MS, KEY, NOW, NOW_S, OTHER, USER, issued, refused, with_claims

# --- time ---


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


# --- who, for whom, from whom ---


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
