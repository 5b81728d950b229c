"""What becomes of a record that comes from another node.

    held here            incoming                      verdict
    nothing              any                           wins
    a record             the same version              known
    a record             greater by the order          wins
    a record             smaller by the order          loses

The order is that of kvs/storage/version.py, so that every node reaches the same answer. A verdict is a conflict when
neither writer knew of the other's version: the winner was written upon an older version than the loser. Such a loser
is worth a line in the log and a place in the history; one that was simply replaced is not, nor one that has come to its
end at one node and not yet at the other.
"""

from typing import Literal, NamedTuple

from kvs.storage.record import Record
from kvs.storage.version import Rule, decide


class Verdict(NamedTuple):
    """`rule` names what decided; `conflict` says that two writers did not know of each other. Records of old backups
    can be `forgotten`, see `Merge`."""

    kind: Literal["wins", "known", "loses", "forgotten"]
    rule: Rule = ""
    conflict: bool = False


UNOPPOSED = Verdict("wins")


def judge(held: Record | None, incoming: Record) -> Verdict:
    """Pure, and the same on every node."""
    if held is None:
        return UNOPPOSED
    rule, wins = decide(incoming, held)
    if not rule:
        return Verdict("known")
    winner, loser = (incoming, held) if wins else (held, incoming)
    return Verdict(
        kind="wins" if wins else "loses",
        rule=rule,
        conflict=winner.base < (loser.timestamp, loser.counter) and not is_end_of(winner, loser),
    )


def entombed(record: Record) -> Record:
    """The tombstone that an expired record turns into: the same version, no value.

    It stays where a plain removal would let an older version, which another node may still hold, come back.
    """
    return Record(
        uuid=record.uuid,
        timestamp=record.timestamp,
        counter=record.counter,
        origin=record.origin,
        origin_joined=record.origin_joined,
        base=record.base,
        owner=record.owner,
        deleted=True,
    )


def is_end_of(tombstone: Record, record: Record) -> bool:
    """Whether that is what the record turns into when its time is over."""
    return tombstone.deleted and record.expires_at != 0 and tombstone == entombed(record)


def are_one(a: Record, b: Record) -> bool:
    """Whether two records are one version, of which one may have come to its end."""
    return not decide(a, b)[0] or is_end_of(a, b) or is_end_of(b, a)
