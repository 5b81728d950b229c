"""Plans of conflicts: two versions of a key whose writers did not know of each other. Which one wins `merging.judge`
says; here is what is told and counted of it, and what becomes of the one that a peer brings and that loses. Pure, as
`Node` is."""

from kvs.cluster.events import Merge, Merged, Plan, Report
from kvs.cluster.merging import Verdict
from kvs.cluster.rows import Rows
from kvs.storage.codec import Stored
from kvs.storage.keyspace import path_of
from kvs.storage.record import Record, uuid_text
from kvs.storage.store import Reader


def resolved(rows: Rows, command: Merge, held: Record, verdict: Verdict, *, kept: bool) -> Report:
    """Count a conflict; the line in the log. The key is shown; values never are. `kept`: the history takes the version
    that lost."""
    rows.tally.conflict(incoming_won=verdict.kind == "wins", kept=kept)
    fields: dict[str, object] = {
        "key": path_of(command.entry),
        "rule": verdict.rule,
        "winner": "incoming" if verdict.kind == "wins" else "held",
        "peer": command.source,
    }
    for name, record in (("held", held), ("incoming", command.record)):
        fields[name] = f"{record.timestamp}.{record.counter} {uuid_text(record.uuid)} of {record.origin}"
    return Report("Conflict resolved", fields)


def lose(rows: Rows, command: Merge, stored: Stored, verdict: Verdict, view: Reader) -> Plan:
    """A peer brings what is held, or what lost against it. A version may come more than once, also from several peers:
    one that the history has is no conflict any more."""
    if not verdict.conflict:
        return Plan({}, Merged(verdict))
    batch = rows.keep_loser(command.entry, stored, command.record, view)
    if batch is None:
        return Plan({}, Merged(verdict._replace(conflict=False)))
    return Plan(batch, Merged(verdict), (resolved(rows, command, stored.record, verdict, kept=bool(batch)),))
