"""Planning a command that may fail halfway: it meets a row that cannot be read, or a bug. Pure, as `Node` is."""

from collections.abc import Callable
from traceback import format_exception

from kvs.cluster.events import Plan, Report
from kvs.cluster.rows import Rows
from kvs.errors import CorruptRecord, KvsError, StoreCorrupt, StoreError


class Failed(Exception):
    """Nothing is left of a command that failed: what it is answered, and a line for the log."""

    def __init__(self, outcome: KvsError, report: Report) -> None:
        super().__init__(outcome, report)
        self.outcome = outcome
        self.report = report


def attempt(rows: Rows, plan: Callable[[], Plan]) -> Plan:
    """The plan. Raises Failed, the KvsError that refuses it, and what a store raises of which nothing can be read."""
    before = rows.mark()
    try:
        return plan()
    except StoreCorrupt as error:
        outcome: KvsError = CorruptRecord("a stored record fails its checksum")
        report = Report("Corrupt record found", {"error": str(error)})
    except (KvsError, StoreError):
        raise
    except Exception as error:
        outcome = KvsError("the node failed to carry out this write; its log says more")
        report = Report("A write could not be planned", {"exception": "".join(format_exception(error))}, "error")
    rows.undo(before)
    raise Failed(outcome, report)
