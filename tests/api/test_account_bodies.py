"""Bodies of the account routes that would make a careless reader fail."""

from collections.abc import Callable
from itertools import count

import pytest

from kvs.limits import JSON_DEPTH_MAX
from tests.api.accounts import Place

_numbers = count(1)

FORMS: dict[str, Callable[[Place], tuple[str, str, bytes, int]]] = {
    "new user": lambda at: ("POST", "/api/users", b'"nickname":"deep %d"' % next(_numbers), 201),
    "user": lambda at: ("PUT", f"/api/users/{at.user().uuid}", b'"scopes":[]', 200),
    "new group": lambda at: ("POST", "/api/groups", b'"groupname":"deep %d"' % next(_numbers), 201),
    "group": lambda at: ("PUT", f"/api/groups/{at.group()}", b'"members":[]', 200),
    "new token": lambda at: ("POST", "/api/tokens", b'"user_uuid":"%b","scopes":[]' % at.root.uuid.encode(), 201),
    "login": lambda at: ("POST", "/api/login", b'"nickname":"nobody","password":"none"', 401),
}


@pytest.mark.parametrize("levels", [JSON_DEPTH_MAX - 1, 900, 1020, 100_000])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_levels_in_a_member_that_nobody_asked_for(
    at: Place, form: Callable[[Place], tuple[str, str, bytes, int]], levels: int
) -> None:
    method, target, members, status = form(at)
    at.clock.now_ms += 120_000  # so that logins are not too many
    reply = at.root.ask.send(method, target, b'{%b,"other":%b}' % (members, b"[" * levels + b"]" * levels))
    if levels < JSON_DEPTH_MAX:
        assert reply.status == status
    else:
        assert (reply.status, reply.code) == (400, "invalid_json")
