"""How a command ends: the exit codes, and the one line that explains a failure."""

import os
from pathlib import Path

from kvs.client import errors

OK = 0
FAILED = 1
USAGE = 2
"""Wrong usage, and a configuration that cannot be used."""
NOT_FOUND = 3
REFUSED = 4
"""The node does not let this credential do it."""
CONDITION = 5
"""A precondition failed, or a name is taken."""
UNREACHABLE = 6
LIMITED = 7
"""Too many requests."""
INTERRUPTED = 130


_CODES = (
    (errors.UnauthorizedError, REFUSED),
    (errors.ForbiddenError, REFUSED),
    (errors.NotFoundError, NOT_FOUND),
    (errors.ConflictError, CONDITION),
    (errors.PreconditionFailedError, CONDITION),
    (errors.RateLimitedError, LIMITED),
    (errors.UnreachableError, UNREACHABLE),
    (errors.UnsendableError, USAGE),
)


class Failed(Exception):
    """A command cannot do what it was asked for. The message is one line for the operator."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def failed(error: errors.ClientError) -> Failed:
    """What a command makes of a failure of the client."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
    return Failed(str(error), code)


def reason(error: OSError) -> str:
    """What the system refused, in one line: of which file, where it is known, and why."""
    why = error.strerror or str(error)
    if isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)}: {why}"
    return "the current folder is gone" if _is_folder_gone(error) else why


def _is_folder_gone(error: OSError) -> bool:
    """Where the name of a file cannot be completed; such an error names none."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return isinstance(error, FileNotFoundError)
    return False
