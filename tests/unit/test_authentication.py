"""Who is let in: known tokens of living users, as they are now, and nobody else."""

from collections.abc import Iterator
from unittest.mock import Mock

import msgspec
import pytest
from aiohttp import web
from multidict import CIMultiDict

from kvs.auth.principal import ANONYMOUS, EVERYBODY, Principal
from kvs.auth.scopes import ALL
from kvs.auth.tokens import LOCAL_SCHEME, SigningKey, derive_key, issue, issue_local, token_hash, verify
from kvs.errors import Forbidden, Unauthorized, Unavailable
from kvs.limits import LOCAL_TOKEN_LIFE_MS, TOKEN_MAX_BYTES
from kvs.server import access, authentication
from kvs.server.access import OPEN, READ, WRITE, Access
from kvs.server.authentication import OpenGate, TokenGate
from kvs.server.browsers import Browsers
from kvs.server.system import change_documents
from kvs.server.token_maker import store_token
from tests.gates import BEFORE, GROUPS, HOUR_MS, KEY, LOCAL, NOW, STRANGE, House, request


@pytest.fixture(params=["one", "many"])
def house(request: pytest.FixtureRequest) -> House:
    """Asked on one connection, which remembers who came last, or on one for each request."""
    made = House()
    made.connection = Mock() if request.param == "one" else None
    made.user(groups=GROUPS)
    return made


# --- who it is ---


def test_a_token_says_who_and_the_stored_user_in_which_groups(house: House) -> None:
    made = house.token(scopes=("read", "delete"))
    assert house.bearer(made.token) == Principal(
        user="u",
        groups=frozenset(GROUPS),
        scopes=frozenset(("read", "delete")),
        expires_at=made.stored.expires_at,
        token_id=made.stored.token_id,
        rests_on=(
            b"stoken/" + token_hash(made.token).encode(),
            *(b"suser/u", b"sdeleted/u"),
            *(b"sgroup/g1", b"sdeleted/g1"),
            *(b"sgroup/g2", b"sdeleted/g2"),
        ),
    )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_has_no_case(house: House, scheme: str) -> None:
    assert house.ask(f"{scheme} {house.token().token}").user == "u"


@pytest.mark.parametrize(
    "form",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "{}",
        "Bearer  {}",
        " Bearer {}",
        "Bearer\t{}",
        "Bearer: {}",
        "Bearer {} ",
        "Bearer {} {}",
        "Bearer {}, Bearer {}",
        "Bearer Bearer {}",
        'Bearer "{}"',
        "Bearer\u00a0{}",
        "Bearer {}\u00e4",
        "Bearer \u00e4",
        "Basic {}",
        "Token {}",
        "Bearers {}",
        f"{LOCAL_SCHEME} {{}}",
    ],
)
def test_other_forms_are_refused_also_when_the_token_is_remembered(house: House, form: str) -> None:
    token = house.token().token
    house.bearer(token)
    assert house.refuses(form.format(token, token))


def test_bytes_that_are_no_text_are_refused(house: House) -> None:
    """The parser hands them on as lone surrogates."""
    asked = Mock(spec=web.BaseRequest, headers=CIMultiDict({"Authorization": "Bearer \udce4"}))
    with pytest.raises(Unauthorized):
        house.gate.admit(asked, READ)


def test_two_fields_are_refused_even_with_one_and_the_same_good_token(house: House) -> None:
    good = f"Bearer {house.token().token}"
    assert house.refuses(good, good)
    assert house.refuses(good, "")
    assert house.refuses("Bearer x", good)


def test_a_connection_belongs_to_nobody() -> None:
    house = House()
    house.connection = Mock()
    house.user("u")
    house.user("v")
    mine, other = house.token("u").token, house.token("v").token
    for token, user in ((mine, "u"), (other, "v"), (other, "v"), (mine, "u")):
        assert house.bearer(token).user == user
        for refused in ((), ("Bearer x",), (f"Bearer {mine}x",), (f"Bearer {mine}", f"Bearer {other}")):
            assert house.refuses(*refused)
            assert house.connection.credential == f"Bearer {token}", "what is refused is not remembered"
    house.do(change_documents(lambda *_: {"user/u": None}))
    assert house.refuses(f"Bearer {mine}")
    assert house.bearer(other).user == "v"


def test_a_token_anywhere_else_is_none(house: House) -> None:
    token = house.token().token
    places: list[tuple[str, dict[str, str]]] = [
        (f"/kv/a?access_token={token}&token={token}", {}),
        ("/kv/a", {"Cookie": f"token={token}; Authorization=Bearer {token}"}),
        ("/kv/a", {"X-Authorization": f"Bearer {token}", "Proxy-Authorization": f"Bearer {token}"}),
    ]
    for target, headers in places:
        with pytest.raises(Unauthorized):
            house.ask(target=target, headers=headers)


def test_a_token_that_is_too_long_is_not_even_hashed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def count(token: str) -> str:
        hashed.append(token)
        return token_hash(token)

    monkeypatch.setattr(authentication, "token_hash", count)
    assert house.refuses("Bearer " + "a" * (TOKEN_MAX_BYTES + 1))
    assert house.refuses("Bearer " + "a" * 8000)
    assert hashed == []
    assert house.refuses("Bearer " + "a" * TOKEN_MAX_BYTES)
    assert len(hashed) == 1


# --- signed and known: both ---


def test_a_good_signature_alone_is_not_enough(house: House) -> None:
    token = issue(KEY, user="u", scopes=ALL, jti="j", now_ms=NOW, life_ms=HOUR_MS)
    assert verify(token, (KEY,), NOW).user_uuid == "u"
    assert house.refuses(f"Bearer {token}")


def test_a_stored_record_alone_is_not_enough(house: House) -> None:
    """Whoever can write into the database, but has not the key, makes no tokens."""
    assert house.refuses(f"Bearer {house.token(key=STRANGE).token}")
    rubbish = house.token().stored
    house.do(store_token(token_hash("rubbish"), rubbish, NOW))
    assert house.refuses("Bearer rubbish")


def test_an_unknown_token_is_refused_before_anything_of_it_is_parsed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(authentication, "verify", parse)
    assert house.refuses("Bearer a.b.c")


def test_a_record_of_another_user_does_not_fit(house: House) -> None:
    house.user("v")
    made = house.token("u")
    house.do(store_token(token_hash(made.token), msgspec.structs.replace(made.stored, user_uuid="v"), NOW))
    assert house.refuses(f"Bearer {made.token}")


def test_scopes_are_those_that_were_signed(house: House) -> None:
    made = house.token(scopes=("read",))
    house.do(store_token(token_hash(made.token), msgspec.structs.replace(made.stored, scopes=ALL), NOW))
    assert house.bearer(made.token).scopes == {"read"}


def test_a_token_of_nobody_is_refused(house: House) -> None:
    assert house.refuses(f"Bearer {house.token('never made').token}")


def test_a_token_signed_before_the_secret_was_changed_is_good(house: House) -> None:
    assert house.bearer(house.token(key=BEFORE).token).user == "u"


def _respelt(token: str) -> Iterator[str]:
    """Other texts that decode to the very same token, or nearly."""
    head, _, signature = token.rpartition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    yield from (f"{head}.{signature[:-1]}{alphabet[last ^ spare]}" for spare in (1, 2, 3))
    yield token + "="
    yield token + "=="


def test_another_spelling_of_a_token_is_another_token(house: House) -> None:
    made = house.token()
    spellings = list(_respelt(made.token))
    assert len({made.token, *spellings}) == 1 + len(spellings)
    assert any(_verifies(spelling) for spelling in spellings)
    for remembered in (False, True):
        assert all(house.refuses(f"Bearer {spelling}") for spelling in spellings), remembered
        house.bearer(made.token)
    house.revoke(made)
    assert all(house.refuses(f"Bearer {spelling}") for spelling in (made.token, *spellings))


def _verifies(token: str) -> bool:
    try:
        verify(token, (KEY,), NOW)
    except Unauthorized:
        return False
    return True


# --- what a route needs ---


@pytest.mark.parametrize("remembered", [False, True])
def test_a_missing_scope_is_forbidden_and_a_bad_token_is_not_told_so(house: House, remembered: bool) -> None:
    token = house.token(scopes=("read", "admin:audit")).token
    if remembered:
        house.bearer(token)
    for needed in (WRITE, access.DELETE, access.token("admin:kv")):
        with pytest.raises(Forbidden):
            house.bearer(token, needed)
        assert house.refuses("Bearer x", needed=needed)
    assert house.bearer(token, access.token("admin:audit", "admin:backup")).user == "u"


def test_a_token_without_scopes_opens_nothing(house: House) -> None:
    token = house.token(scopes=()).token
    for needed in (READ, WRITE, access.DELETE, access.BULK, *(access.token(scope) for scope in ALL)):
        with pytest.raises(Forbidden):
            house.bearer(token, needed)


def test_an_open_route_asks_nothing(house: House) -> None:
    for given in ((), ("Bearer x",), (f"Bearer {house.token().token}",), ("", "")):
        assert house.ask(*given, needed=OPEN) is ANONYMOUS


@pytest.mark.parametrize(
    ("anonymous", "welcome"),
    [
        ((), ()),
        (("allow_anonymous_read",), (READ,)),
        (("allow_anonymous_write",), (WRITE, access.BULK)),
        (("allow_anonymous_read", "allow_anonymous_write"), (READ, WRITE, access.BULK)),
    ],
)
def test_who_comes_without_a_token(anonymous: tuple[str, ...], welcome: tuple[Access, ...]) -> None:
    house = House(*anonymous)
    admin = access.token("admin:users:read")
    for needed in (READ, WRITE, access.BULK, access.DELETE, access.METADATA_READ, access.METADATA_WRITE, admin):
        if needed in welcome:
            assert house.ask(needed=needed) is ANONYMOUS
        else:
            assert house.refuses(needed=needed)
        assert house.refuses("", needed=needed)
        assert house.refuses("Bearer x", needed=needed)


def test_where_anonymous_readers_are_welcome_a_token_still_needs_its_scope() -> None:
    house = House("allow_anonymous_read", "allow_anonymous_write")
    house.user()
    with pytest.raises(Forbidden):
        house.bearer(house.token(scopes=("write",)).token)


# --- the operator on the node's own host ---


def local(key: SigningKey = LOCAL, now_ms: int = NOW) -> str:
    return issue_local(key, jti="j", now_ms=now_ms)


def test_the_local_credential_manages_accounts_and_nothing_else(house: House) -> None:
    for scope in ALL:
        needed = access.token(scope)
        if scope.count(":") == 2:
            assert house.ask(f"kvs-LOCAL {local()}", needed=needed).scopes == set(ALL)
        else:
            with pytest.raises(Forbidden):
                house.ask(f"{LOCAL_SCHEME} {local()}", needed=needed)
    for needed in (READ, WRITE, access.DELETE, access.BULK, access.METADATA_READ, access.METADATA_WRITE):
        with pytest.raises(Forbidden):
            house.ask(f"{LOCAL_SCHEME} {local()}", needed=needed)


def test_the_local_credential_is_checked_each_time(house: House) -> None:
    needed = access.token("admin:users:read")
    good = f"{LOCAL_SCHEME} {local()}"
    for bad in (local(derive_key(b"of its own" * 4, "tokens")), local(STRANGE), local(KEY), local()[:-2], "", "x"):
        assert house.refuses(f"{LOCAL_SCHEME} {bad}", needed=needed)
    assert house.refuses(f"Bearer {local()}", needed=needed)
    assert house.ask(good, needed=needed).user == ""
    house.now_ms += LOCAL_TOKEN_LIFE_MS
    assert house.refuses(good, needed=needed)


# --- authentication switched off ---


@pytest.mark.parametrize("given", [[], ["Bearer x"], ["", ""]])
def test_without_authentication_everybody_may_do_everything(given: list[str]) -> None:
    gate = OpenGate(Browsers(None))
    for needed in (OPEN, READ, WRITE, access.DELETE, access.token("admin:kv")):
        assert gate.admit(request(*given), needed) is EVERYBODY
    gate.forget([b"suser/u"])


# --- a node that was restored ---


def test_no_token_is_judged_before_it_is_known_what_was_revoked_since_the_backup() -> None:
    unproven = True
    house = House("allow_anonymous_read")
    house.gate = TokenGate(
        house.store,
        [KEY],
        LOCAL,
        lambda: NOW,
        Browsers(None),
        anonymous=["allow_anonymous_read"],
        is_unproven=lambda: unproven,
    )
    house.user()
    token = house.token().token
    for _ in range(2):
        with pytest.raises(Unavailable) as told:
            house.bearer(token)
        assert told.value.code == "syncing"
    with pytest.raises(Unavailable):
        house.bearer("x.y.z")
    assert house.ask() == ANONYMOUS
    assert house.ask(f"{LOCAL_SCHEME} {local()}", needed=access.token("admin:users:read")).scopes == frozenset(ALL)
    unproven = False
    assert house.bearer(token).user == "u"
