"""What has been written, in numbers. Each group has its own until it is on the disk; then it is added to the node's."""

from kvs.storage.record import Record


class Tally:
    """`records` are current records, tombstones and KVS's own documents included; `tombstones` those that are one. In
    the tally of a group both say how many more there are.

    The others only rise: new versions made here for clients, taken from peers, conflicts by who won them, and versions
    discarded in conflicts by whether the history of this node keeps them.
    """

    __slots__ = (
        "client_writes",
        "discarded_kept",
        "discarded_lost",
        "held_won",
        "incoming_won",
        "peer_writes",
        "records",
        "tombstones",
    )

    def __init__(self, records: int = 0, tombstones: int = 0) -> None:
        self.records = records
        self.tombstones = tombstones
        self.client_writes = self.peer_writes = 0
        self.held_won = self.incoming_won = 0
        self.discarded_kept = self.discarded_lost = 0

    def written(self, record: Record, *, is_new: bool) -> None:
        """A record became the current one; `is_new`: where none was. One that was replaced is taken off by whoever
        knows it."""
        self.client_writes += 1
        self.records += is_new
        self.tombstones += record.deleted

    def removed(self, record: Record) -> None:
        """It leaves the disk."""
        self.records -= 1
        self.tombstones -= record.deleted

    def came_from_peer(self) -> None:
        """The last version, counted as one for a client, was a peer's."""
        self.client_writes -= 1
        self.peer_writes += 1

    def conflict(self, *, incoming_won: bool, kept: bool) -> None:
        """Two versions did not know of each other; `kept`: the one that lost goes into the history."""
        if incoming_won:
            self.incoming_won += 1
        else:
            self.held_won += 1
        if kept:
            self.discarded_kept += 1
        else:
            self.discarded_lost += 1

    def copy(self) -> "Tally":
        made = Tally()
        made.add(self)
        return made

    def add(self, other: "Tally") -> None:
        self.records += other.records
        self.tombstones += other.tombstones
        self.client_writes += other.client_writes
        self.peer_writes += other.peer_writes
        self.held_won += other.held_won
        self.incoming_won += other.incoming_won
        self.discarded_kept += other.discarded_kept
        self.discarded_lost += other.discarded_lost
