"""The scopes that the contract names, and that nobody gives away what he does not have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.auth.principal import ANONYMOUS, EVERYBODY, Principal
from kvs.auth.scopes import ACCOUNTS, ALL, DATA, KV
from kvs.errors import BadRequest, Forbidden
from kvs.server import access
from kvs.server.handlers.users import check_scopes

NAMED = {
    "read",
    "write",
    "delete",
    *(f"admin:users:{verb}" for verb in ("create", "read", "update", "delete")),
    *(f"admin:groups:{verb}" for verb in ("create", "read", "update", "delete")),
    *(f"admin:tokens:{verb}" for verb in ("create", "read", "revoke")),
    "admin:backup",
    "admin:audit",
    "admin:kv",
}
some_scopes = st.lists(st.sampled_from(ALL), max_size=8)


def holder(*scopes: str) -> Principal:
    return Principal(user="u", scopes=frozenset(scopes))


def test_all_are_there_and_no_others() -> None:
    assert set(ALL) == NAMED
    assert len(ALL) == len(NAMED)
    assert DATA == ("read", "write", "delete")
    assert {scope for scope in NAMED if scope.count(":") == 2} == ACCOUNTS


@pytest.mark.parametrize("scope", ALL)
def test_only_one_bypasses_permissions(scope: str) -> None:
    assert holder(scope).bypasses == (scope == KV)
    assert holder(*(other for other in ALL if other != scope)).bypasses == (scope != KV)


def test_whoever_asks_without_a_token_has_nothing() -> None:
    assert not any((ANONYMOUS.user, ANONYMOUS.groups, ANONYMOUS.scopes, ANONYMOUS.bypasses))
    assert EVERYBODY.scopes == NAMED
    assert EVERYBODY.bypasses


def test_what_the_data_routes_need() -> None:
    for route, scope, anonymous in (
        (access.READ, "read", "allow_anonymous_read"),
        (access.WRITE, "write", "allow_anonymous_write"),
        (access.DELETE, "delete", ""),
        (access.METADATA_READ, "admin:users:read", ""),
        (access.METADATA_WRITE, "admin:users:update", ""),
        (access.BULK, "delete", "allow_anonymous_write"),
    ):
        assert scope in route.scopes
        assert route.anonymous == anonymous
        assert not route.open
    assert [len(route.scopes) for route in (access.READ, access.WRITE, access.DELETE)] == [1, 1, 1]


@given(some_scopes, some_scopes)
def test_scopes_are_given_by_those_who_have_them(wanted: list[str], had: list[str]) -> None:
    """Also admin:kv gives no right to give what it is not."""
    giver = holder(*had)
    if set(wanted) <= set(had):
        given_scopes = check_scopes(wanted, giver)
        assert set(given_scopes) == set(wanted)
        assert list(given_scopes) == sorted(given_scopes, key=ALL.index)
        assert len(given_scopes) == len(set(given_scopes))
    else:
        with pytest.raises(Forbidden) as refusal:
            check_scopes(wanted, giver)
        assert refusal.value.code == "scope_exceeded"


@pytest.mark.parametrize(
    "word", ["", "READ", "read ", "admin", "admin:*", "*", "admin:users", "admin:users:read,write"]
)
def test_words_that_are_no_scopes(word: str) -> None:
    """Whoever asks, and whatever stands beside it."""
    for wanted in ([word], ["read", word]):
        with pytest.raises(BadRequest) as refusal:
            check_scopes(wanted, EVERYBODY)
        assert refusal.value.members == {"field": "scopes"}
