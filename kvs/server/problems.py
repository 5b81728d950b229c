"""Errors as responses: problem documents (RFC 9457). The only place that turns an error into HTTP."""

from http import HTTPStatus

import orjson

from kvs.errors import KvsError
from kvs.server.response import Response

PROBLEM_JSON = "application/problem+json"


def problem(error: KvsError, request_id: str) -> Response:
    """The response for an error. Its `detail` and members go to the client as they are."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
    body = orjson.dumps({**describe(error), "request_id": request_id})
    response = Response(error.status, body, PROBLEM_JSON, fields.encode())
    response.request_id = request_id
    return response


def describe(error: KvsError) -> dict[str, object]:
    """The members of the problem document that do not depend on the request."""
    return {
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.members,
    }
