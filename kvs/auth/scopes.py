"""What a token may be used for."""

READ = "read"
WRITE = "write"
DELETE = "delete"
USERS_CREATE = "admin:users:create"
USERS_READ = "admin:users:read"
USERS_UPDATE = "admin:users:update"
USERS_DELETE = "admin:users:delete"
GROUPS_CREATE = "admin:groups:create"
GROUPS_READ = "admin:groups:read"
GROUPS_UPDATE = "admin:groups:update"
GROUPS_DELETE = "admin:groups:delete"
TOKENS_CREATE = "admin:tokens:create"
TOKENS_READ = "admin:tokens:read"
TOKENS_REVOKE = "admin:tokens:revoke"
BACKUP = "admin:backup"
AUDIT = "admin:audit"
KV = "admin:kv"
"""Bypasses the permissions of keys."""

ALL = (
    READ,
    WRITE,
    DELETE,
    USERS_CREATE,
    USERS_READ,
    USERS_UPDATE,
    USERS_DELETE,
    GROUPS_CREATE,
    GROUPS_READ,
    GROUPS_UPDATE,
    GROUPS_DELETE,
    TOKENS_CREATE,
    TOKENS_READ,
    TOKENS_REVOKE,
    BACKUP,
    AUDIT,
    KV,
)
"""Every scope, in the order in which they are shown."""

DATA = (READ, WRITE, DELETE)
"""What a user's login gives unless the account says otherwise."""

ADMIN = frozenset(scope for scope in ALL if scope.startswith("admin:"))
"""Those of administrators, whatever they look after."""

ACCOUNTS = frozenset(scope for scope in ALL if scope.startswith(("admin:users:", "admin:groups:", "admin:tokens:")))
"""Those of the account routes."""
