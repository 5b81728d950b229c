"""What can go wrong between a program and a node.

ClientError
  UnreachableError      no node answered; nothing was written
  OutcomeUnknownError   a write was sent and not answered: it may be there or not
  ProtocolError         what answers is no node of KVS
  UnsendableError       what was given fits into no request; no node was asked
  ApiError              a node refused; with its problem document
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of all that this package raises on purpose."""


class UnreachableError(ClientError):
    """No node answered in time. Whatever was asked has not happened."""


class OutcomeUnknownError(ClientError):
    """A write reached a node, which did not say what came of it, and what is there now does not tell either."""


class ProtocolError(ClientError):
    """What answers is no node of KVS."""


class UnsendableError(ClientError, ValueError):
    """What was given fits into no request: a text that is not UTF-8, a header field with a line end. No node was
    asked."""


class ApiError(ClientError):
    """A node's refusal. `problem` is its problem document (RFC 9457), `retry_after_s` what it asks to wait."""

    def __init__(self, status: int, problem: Mapping[str, Any], url: str, retry_after_s: float | None = None) -> None:
        self.status = status
        self.problem = problem
        self.url = url
        self.retry_after_s = retry_after_s
        super().__init__(f"{self.detail} ({status} {self.code})" if self.code else self.detail)

    @property
    def code(self) -> str:
        """The stable word for programs."""
        return str(self.problem.get("code", ""))

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        return str(self.problem.get("detail") or f"the node answered {self.status}")

    @property
    def request_id(self) -> str:
        """By which the node's log names the request."""
        return str(self.problem.get("request_id", ""))


class BadRequestError(ApiError):
    """400: the request cannot be understood."""


class UnauthorizedError(ApiError):
    """401: no token, or one that is not good."""


class ForbiddenError(ApiError):
    """403: the token lacks a scope, or the permissions of the key do not allow it."""


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: a name is taken, or something else stands against it."""


class ResyncRequiredError(ApiError):
    """410: what happened since this position is not kept."""


class PreconditionFailedError(ApiError):
    """412: the current version is another one."""


class TooLargeError(ApiError):
    """413."""


class RateLimitedError(ApiError):
    """429."""


class UnavailableError(ApiError):
    """503: the node cannot do it now."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ResyncRequiredError,
    412: PreconditionFailedError,
    413: TooLargeError,
    429: RateLimitedError,
    503: UnavailableError,
}


def api_error(status: int, problem: Mapping[str, Any], url: str, retry_after_s: float | None = None) -> ApiError:
    """The error of the class that fits."""
    return _BY_STATUS.get(status, ApiError)(status, problem, url, retry_after_s)
