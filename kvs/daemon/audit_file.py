"""The file of `kvs audit verify --head`: the end of a log when it was last found sound, to be kept elsewhere."""

import os
from pathlib import Path

import msgspec

from kvs.cluster.audit_check import Anchor, Report
from kvs.cluster.audit_heads import Head, LongHash, Number
from kvs.daemon.failure import Failed

_MAX_BYTES = 64 * 1024


class _File(msgspec.Struct, kw_only=True):
    """`last` and `chain` are the last entry and its signature; `head` is the newest signed head, null for none."""

    node_id: str
    log: str
    last: Number
    chain: LongHash
    head: Head | None


def read(path: Path) -> list[Anchor]:
    """What the file knows of the log; nothing if there is none yet. Raises Failed."""
    try:
        with path.open("rb") as file:
            known = msgspec.json.decode(file.read(_MAX_BYTES), type=_File)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None
    except msgspec.DecodeError:
        raise Failed(f"{path} is no file of `kvs audit verify --head`") from None
    number = 0 if known.head is None else known.head.number
    return [Anchor(str(path), known.log, number, known.last, known.chain)]


def write(path: Path, node_id: str, log: str, report: Report, head: Head | None) -> None:
    """Whole or not at all. Raises Failed."""
    document = _File(node_id=node_id, log=log, last=report.last, chain=report.chain, head=head)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with fresh.open("xb") as file:
            file.write(msgspec.json.encode(document) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise Failed(f"cannot write {path}: {error.strerror}") from None
