"""What of a group of writes belongs into the audit log, and the rows that make it longer.

Only what clients of this node did, and the node itself: what other nodes wrote is in their logs. The entries are in the
batch of the data, so neither is there without the other.
"""

from collections.abc import Iterable
from hashlib import sha3_512

from kvs.actions import DATA_DELETE, DATA_WRITE
from kvs.cluster.events import Act, Command, Delete, Line, Note, Outcome, Put, Restore, Transact, Written
from kvs.storage.audit import Tip, encode_tip, moment, read_last, read_tip
from kvs.storage.keyspace import AUDIT_TIP, DATA, audit_row
from kvs.storage.store import Reader

_DATA = DATA[0]


class Trail:
    """The end of the log on disk, and which actions it holds."""

    def __init__(self, log: str, actions: Iterable[str], reader: Reader) -> None:
        """`log` is the instance id of the data directory."""
        self.log = log
        self.actions = frozenset(actions)
        self._holds_writes = DATA_WRITE in self.actions
        self._holds_deletes = DATA_DELETE in self.actions
        self.resume(reader)
        self.written: dict[str, int] = {}
        """How many entries of each action this process put on the disk."""

    def resume(self, reader: Reader) -> None:
        """Go on behind what the disk holds: at the start, and after a failed commit.

        The next entry has a number above all that is there, and rests on what the tip says. So if anybody took entries
        from the end, changed the last or put others behind it, what comes next does not fit, and that stays.
        """
        last, said = read_last(reader, self.log), read_tip(reader)
        self.tip = Tip(max(last.number, said.number), said.signature)
        self.torn: tuple[int, int] | None = None if last == said else (last.number, said.number)
        """The last entry and the number in the tip, where they do not fit."""

    def note(self, command: Command, outcome: Outcome, lines: list[Line]) -> None:
        """Add to `lines` what a command comes to that was not refused."""
        kind = type(command)
        if kind is Put and command.entry[0] == _DATA:  # type: ignore[union-attr]
            if self._holds_writes:
                lines.append((b"data_write", command.owner.encode(), command.entry[1:]))  # type: ignore[union-attr]
        elif isinstance(command, Put | Transact | Note):
            lines.extend(_line(act) for act in command.acts if act.action in self.actions)
        elif isinstance(command, Delete | Restore):
            assert isinstance(outcome, Written)
            if self._holds_deletes if outcome.record.deleted else self._holds_writes:
                action = DATA_DELETE if outcome.record.deleted else DATA_WRITE
                lines.append((action.encode(), command.owner.encode(), command.entry[1:]))

    def extend(self, lines: Iterable[Line], now_ms: int, batch: dict[bytes, bytes | None]) -> Tip:
        """Put entries into the batch, bound to the end of the log and to each other, and the new end, which counts once
        the batch is on the disk."""
        number, signature = self.tip
        time = moment(now_ms)
        for action, user, resource in lines:
            number += 1
            # `sign` of kvs.storage.audit, not called: that costs a write 0.2 µs. No key holds a line feed.
            text = b"%d\n%b\n%b\n%b\n%b" % (number, time, action, user, resource)
            signature = sha3_512(signature + text).digest()
            batch[audit_row(number)] = signature + text
        tip = Tip(number, signature)
        batch[AUDIT_TIP] = encode_tip(tip)
        return tip

    def committed(self, lines: Iterable[Line], tip: Tip) -> None:
        """These entries are on the disk, and so is their end."""
        self.tip = tip
        for line in lines:
            action = line[0].decode()
            self.written[action] = self.written.get(action, 0) + 1


def _line(act: Act) -> Line:
    action, user, resource = (field.replace("\n", "?").encode() for field in act)
    return action, user, resource
