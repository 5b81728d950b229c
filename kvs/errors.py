"""Every error that KVS raises on purpose, sorted by whose fault it is.

`status` is the HTTP status and `code` the stable machine-readable word of the problem document; only
`kvs.server.problems` turns them into a response. `detail` is one sentence for a person and is shown to clients: it
never holds a path of the host, a secret or a traceback.

Anything else that is raised is a bug in KVS.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class KvsError(Exception):
    """Base of the errors that a client may be shown."""

    status = 500
    code = "internal"

    def __init__(self, detail: str, *, code: str | None = None, **members: object) -> None:
        """`members` become further members of the problem document (for example `field`)."""
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code
        self.members = members
        self.headers: dict[str, str] = {}
        self.actor = ""
        """Whom it refused, where only whoever raises it knows: for the audit log, never shown to clients."""


def let_go(error: BaseException | None) -> None:
    """Take the tracebacks off an error that was dealt with, and off those that it came of. Through them it holds the
    frames that it passed; where one of these holds the error, all they hold, such as the body of a request, would stay
    until the collector of cycles comes."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


# --- the caller's fault ---


class BadRequest(KvsError):
    status = 400
    code = "bad_request"


class BadMessage(BadRequest):
    """What a peer sent is none of the messages of the cluster."""

    code = "bad_message"


class Unauthorized(KvsError):
    """No token, or one that is not good: nobody is told why."""

    status = 401
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("a valid token is needed")
        self.headers["WWW-Authenticate"] = "Bearer"


class Forbidden(KvsError):
    """The token is good but may not do this: a scope or a permission is missing."""

    status = 403
    code = "forbidden"

    def __init__(self, detail: str = "this is not permitted", *, code: str | None = None, user: str = "") -> None:
        """`user` is whose token it was, where the route is refused; it is not shown."""
        super().__init__(detail, code=code)
        self.user = user


class ReadOnly(KvsError):
    status = 403
    code = "read_only"


class NotFound(KvsError):
    status = 404
    code = "not_found"


class MethodNotAllowed(KvsError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, detail: str, allowed: Sequence[str]) -> None:
        super().__init__(detail)
        self.headers["Allow"] = ", ".join(allowed)


class RequestTimeout(KvsError):
    status = 408
    code = "request_timeout"


class Conflict(KvsError):
    """It contradicts what is there, such as a name that is taken. `code` says what."""

    status = 409

    def __init__(self, detail: str, *, code: str) -> None:
        super().__init__(detail, code=code)


class ResyncRequired(KvsError):
    """What a watcher missed cannot be told any more: he must begin with a snapshot."""

    status = 410
    code = "resync_required"


class PreconditionFailed(KvsError):
    status = 412
    code = "precondition_failed"


class TooLarge(KvsError):
    status = 413
    code = "too_large"


class UnsupportedMedia(KvsError):
    status = 415
    code = "unsupported_media"


class TooManyRequests(KvsError):
    """More than `limit` requests in `window_s` seconds; none of them remain. `counted_by` is what they were counted by:
    `user`, `address`, or `login` for attempts to log in."""

    status = 429
    code = "rate_limited"

    def __init__(self, detail: str, *, counted_by: str, limit: int, window_s: int, retry_after_s: int) -> None:
        super().__init__(detail)
        self.counted_by = counted_by
        self.headers["Retry-After"] = str(retry_after_s)
        self.headers["X-Rate-Limit-Limit"] = str(limit)
        self.headers["X-Rate-Limit-Remaining"] = "0"
        self.headers["X-Rate-Limit-Window"] = str(window_s)


# --- the node's state now: nothing is wrong with the request ---


class Unavailable(KvsError):
    """The request may be repeated after `retry_after_s` seconds. A write may nevertheless have reached the disk. `code`
    says what the node lacks."""

    status = 503

    def __init__(self, detail: str, *, code: str, retry_after_s: int = 1) -> None:
        super().__init__(detail, code=code)
        self.headers["Retry-After"] = str(retry_after_s)


class CorruptRecord(KvsError):
    """A stored record fails its checksum: it is reported, never served."""

    status = 503
    code = "corrupt_record"


class BackupFailed(Unavailable):
    """A backup could not be made, and those that were there stay; or their folder cannot be read."""

    code = "backup_failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="backup_failed", retry_after_s=60)


# --- the disk ---


class StoreError(Exception):
    """The store cannot do what was asked. The message is for the operator's log, not for clients."""


class StoreFailed(StoreError):
    """A write failed; whether it reached the disk is unknown. Nothing may be written until `reopen` succeeded."""


class StoreClosed(StoreError):
    """The store is closed or being reopened; a read may be tried again."""


class StoreCorrupt(StoreError):
    """Stored bytes contradict their checksum or their format."""


class BackupDamaged(StoreError):
    """A file is no whole backup. Nothing of it may be used."""


class RestoreRefused(Exception):
    """A backup cannot be restored into this folder; the message is one line for the operator."""


# --- at start only ---


class StartError(Exception):
    """The node cannot start; the message is one line for the operator."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration. `line` counts from 1; None when it does not come from a file's line."""

    message: str
    line: int | None = None


class ConfigError(Exception):
    """A configuration cannot be used. Holds every problem found, not only the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line a problem: `node.yaml:3: unknown setting …`."""
        return [
            f"{self.source}:{p.line}: {p.message}" if p.line else f"{self.source}: {p.message}" for p in self.problems
        ]
