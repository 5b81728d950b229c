"""Who may do what, row by row, as the specification of authentication has it.

The columns are who asks: without a token on a node that is otherwise strict / that lets anybody read / that lets
anybody write; with a token that is worth nothing; with the scope `read` / `write` / `delete` alone; with all three as a
stranger / a member of the key's group / the key's owner; with every scope but `admin:kv`; with every scope. A cell is
the status of the answer, for `_bulk` that of its one item when it was let in.
"""

from typing import NamedTuple

MODES = ("auth on", "anonymous read", "anonymous write", "auth off")
_WITH_TOKEN = ("reader", "writer", "deleter", "other", "member", "owner", "admin", "root")

_OPEN_KEY = """
GET    /kv/_range                              401 200 401  401  200 403 403  200 200 200  200 200
GET    /kv/_list                               401 200 401  401  200 403 403  200 200 200  200 200
GET    /watch                                  401 200 401  401  200 403 403  200 200 200  200 200
POST   /kv/_bulk                     put       401 401 200  401  403 200 403  200 200 200  200 200
POST   /kv/_bulk                     delete    401 401 401  401  403 403 204  204 204 204  204 204
GET    /kv/{key}/metadata                      401 401 401  401  403 403 403  403 403 200  200 200
PUT    /kv/{key}/metadata                      401 401 401  401  403 403 403  403 403 200  200 200
GET    /kv/{key}                               401 200 401  401  200 403 403  200 200 200  200 200
PUT    /kv/{key}                               401 401 200  401  403 200 403  200 200 200  200 200
DELETE /kv/{key}                               401 401 401  401  403 403 204  204 204 204  204 204
POST   /api/data/{key}/history/{n}/restore     401 401 200  401  403 200 403  200 200 200  200 200
GET    /api/data/{key}/history                 401 200 401  401  200 403 403  200 200 200  200 200
GET    /api/data/{key}/history/{n}             401 200 401  401  200 403 403  200 200 200  200 200
"""

_TEAM_KEY = """
GET    /kv/_range                              401 200 401  401  200 403 403  200 200 200  200 200
GET    /kv/_list                               401 200 401  401  200 403 403  200 200 200  200 200
GET    /watch                                  401 200 401  401  200 403 403  200 200 200  200 200
POST   /kv/_bulk                     put       401 401 403  401  403 403 403  403 200 200  403 200
POST   /kv/_bulk                     delete    401 401 401  401  403 403 403  403 204 204  403 204
GET    /kv/{key}/metadata                      401 401 401  401  403 403 403  403 403 200  200 200
PUT    /kv/{key}/metadata                      401 401 401  401  403 403 403  403 403 200  200 200
GET    /kv/{key}                               401 403 401  401  403 403 403  403 200 200  403 200
PUT    /kv/{key}                               401 401 403  401  403 403 403  403 200 200  403 200
DELETE /kv/{key}                               401 401 401  401  403 403 403  403 204 204  403 204
POST   /api/data/{key}/history/{n}/restore     401 401 403  401  403 403 403  403 200 200  403 200
GET    /api/data/{key}/history                 401 403 401  401  403 403 403  403 200 200  403 200
GET    /api/data/{key}/history/{n}             401 403 401  401  403 403 403  403 200 200  403 200
"""

_PLAIN_KEY = """
GET    /kv/_range                              401 200 401  401  200 403 403  200 200 200  200 200
GET    /kv/_list                               401 200 401  401  200 403 403  200 200 200  200 200
GET    /watch                                  401 200 401  401  200 403 403  200 200 200  200 200
POST   /kv/_bulk                     put       401 401 403  401  403 403 403  403 403 200  403 200
POST   /kv/_bulk                     delete    401 401 401  401  403 403 403  403 403 204  403 204
GET    /kv/{key}/metadata                      401 401 401  401  403 403 403  403 403 404  404 404
PUT    /kv/{key}/metadata                      401 401 401  401  403 403 403  403 403 200  200 200
GET    /kv/{key}                               401 200 401  401  200 403 403  200 200 200  200 200
PUT    /kv/{key}                               401 401 403  401  403 403 403  403 403 200  403 200
DELETE /kv/{key}                               401 401 401  401  403 403 403  403 403 204  403 204
POST   /api/data/{key}/history/{n}/restore     401 401 403  401  403 403 403  403 403 200  403 200
GET    /api/data/{key}/history                 401 200 401  401  200 403 403  200 200 200  200 200
GET    /api/data/{key}/history/{n}             401 200 401  401  200 403 403  200 200 200  200 200
"""

_NODE = """
GET    /health                                 200 200 200  200  200 200 200  200 200 200  200 200
GET    /ready                                  200 200 200  200  200 200 200  200 200 200  200 200
POST   /api/backup                             401 401 401  401  403 403 403  403 403 403  201 201
GET    /api/backup                             401 401 401  401  403 403 403  403 403 403  200 200
GET    /api/backup/status                      401 401 401  401  403 403 403  403 403 403  200 200
POST   /api/backup/restore                     401 401 401  401  403 403 403  403 403 403  400 400
GET    /metrics                                200 200 200  200  200 200 200  200 200 200  200 200
GET    /openapi.json                           200 200 200  200  200 200 200  200 200 200  200 200
"""
"""The last one goes as far as its body, which holds no rows here."""

_AUDIT = """
GET    /api/audit                              401 401 401  401  403 403 403  403 403 403  200 200
GET    /api/audit/heads                        401 401 401  401  403 403 403  403 403 403  200 200
GET    /api/audit/kept                         401 401 401  401  403 403 403  403 403 403  200 200
"""

_ACCOUNTS = """
POST   {root}/users                            401 401 401  401  403 403 403  403 403 403  201 201
GET    {root}/users                            401 401 401  401  403 403 403  403 403 403  200 200
GET    {root}/users/{uuid}                     401 401 401  401  403 403 403  403 403 403  200 200
PUT    {root}/users/{uuid}                     401 401 401  401  403 403 403  403 403 403  200 200
DELETE {root}/users/{uuid}                     401 401 401  401  403 403 403  403 403 403  204 204
POST   {root}/groups                           401 401 401  401  403 403 403  403 403 403  201 201
GET    {root}/groups                           401 401 401  401  403 403 403  403 403 403  200 200
GET    {root}/groups/{uuid}                    401 401 401  401  403 403 403  403 403 403  200 200
PUT    {root}/groups/{uuid}                    401 401 401  401  403 403 403  403 403 403  200 200
DELETE {root}/groups/{uuid}                    401 401 401  401  403 403 403  403 403 403  204 204
POST   {root}/tokens                           401 401 401  401  403 403 403  403 403 403  201 201
GET    {root}/tokens                           401 401 401  401  403 403 403  403 403 403  200 200
DELETE {root}/tokens/{token_id}                401 401 401  401  403 403 403  403 403 403  204 204
"""

_LOGIN = """
POST   /api/login                              400 400 400  400  400 400 400  400 400 400  400 400
"""
"""Open, and so as far as its body, which is empty here."""


class Row(NamedTuple):
    """`kind` says what stands under the key, or that it is a route without one; `op` is that of a `_bulk` item."""

    kind: str
    method: str
    template: str
    op: str
    cells: tuple[int, ...]

    @property
    def name(self) -> str:
        return " ".join(word for word in (self.kind, self.method, self.template, self.op) if word)

    def expected(self, mode: str, who: str) -> int:
        if mode == "auth off":
            return 404 if self.kind == "accounts" else self.cells[-1]
        if who == "none":
            return self.cells[MODES.index(mode)]
        return self.cells[4 + _WITH_TOKEN.index(who)] if who in _WITH_TOKEN else self.cells[3]


def _rows(kind: str, text: str) -> list[Row]:
    rows = []
    for line in text.strip().splitlines():
        method, template, *rest = line.split()
        op = rest.pop(0) if not rest[0].isdigit() else ""
        rows.append(Row(kind, method, template, op, tuple(map(int, rest))))
    return rows


ROWS = [
    *_rows("open key", _OPEN_KEY),
    *_rows("team key", _TEAM_KEY),
    *_rows("plain key", _PLAIN_KEY),
    *_rows("node", _NODE),
    *_rows("audit", _AUDIT),
    *(row for root in ("/api", "/auth") for row in _rows("accounts", _ACCOUNTS.replace("{root}", root))),
    *_rows("accounts", _LOGIN),
]
KEY_KINDS = {"open key": 0xFFF, "team key": 0xFF0, "plain key": None}
"""To the permissions that are set, together with the group; None where no metadata are set."""
