"""What the audit log can hold, in the words of `tamper_log_actions`."""

DATA_WRITE = "data_write"
DATA_DELETE = "data_delete"
USER_CREATE = "user_create"
USER_UPDATE = "user_update"
USER_DELETE = "user_delete"
GROUP_CREATE = "group_create"
GROUP_UPDATE = "group_update"
GROUP_DELETE = "group_delete"
TOKEN_CREATE = "token_create"  # noqa: S105
TOKEN_REVOKE = "token_revoke"  # noqa: S105
AUTH_FAILURE = "auth_failure"
PERMISSION_DENIED = "permission_denied"
METADATA_UPDATE = "metadata_update"
BACKUP = "backup"
RESTORE = "restore"
CONFIG_CHANGE = "config_change"

ACTIONS = (
    DATA_WRITE,
    DATA_DELETE,
    USER_CREATE,
    USER_UPDATE,
    USER_DELETE,
    GROUP_CREATE,
    GROUP_UPDATE,
    GROUP_DELETE,
    TOKEN_CREATE,
    TOKEN_REVOKE,
    AUTH_FAILURE,
    PERMISSION_DENIED,
    METADATA_UPDATE,
    BACKUP,
    RESTORE,
    CONFIG_CHANGE,
)
"""All of them, in the order in which they are shown."""

DEFAULT_ACTIONS = (DATA_WRITE, USER_CREATE, AUTH_FAILURE)
