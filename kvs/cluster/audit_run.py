"""The entries of the audit log that no head covers yet: gathered as they come, and closed by a head when their hour is
over.

Nothing of it is in the way of a write: whoever follows the log reads what is on the disk, and after a restart begins
behind the last head.
"""

from hashlib import sha256

from kvs.cluster.audit_heads import NO_HEAD, Head, HeadKey
from kvs.storage.audit import SIGNATURE_BYTES, genesis, hour_of, moment, timestamp_of


class Frontier:
    """The root of a Merkle tree that grows: the roots of its perfect subtrees, from the greatest on."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def append(self, data: bytes) -> None:
        node = sha256(b"\0" + data).digest()
        size = self.size
        while size & 1:
            node = sha256(b"\1" + self._roots.pop() + node).digest()
            size >>= 1
        self._roots.append(node)
        self.size += 1

    @property
    def root(self) -> bytes:
        if not self._roots:
            return sha256().digest()
        node = self._roots[-1]
        for left in self._roots[-2::-1]:
            node = sha256(b"\1" + left + node).digest()
        return node


class Run:
    """Entries that no head covers yet, taken in order, and the heads that come of them."""

    def __init__(self, key: HeadKey, node_id: str, log: str, newest: Head | None) -> None:
        """`newest` is the last head of the log."""
        self._key = key
        self._node_id = node_id
        self._log = log
        self.newest = newest
        self._begin()
        self._last = 0 if newest is None else newest.last
        self._end = genesis(log) if newest is None else bytes.fromhex(newest.chain)

    def _begin(self) -> None:
        """With no entry."""
        self._frontier = Frontier()
        self._oldest = self._newest = ""
        self._moment = b""
        """When the last entry was written, as it stands in the stored ones; empty where that is not known."""
        self._is_timed = True

    @property
    def position(self) -> int:
        """The last entry that was taken."""
        return self._last

    def take(self, number: int, raw: bytes) -> bool:
        """The next stored entry, which may be damaged: that is for verifying to find. False, and nothing is taken, when
        it belongs into a later hour than those before it: these want their head first. A clock that is set back ends no
        hour."""
        # Those of one commit are of one moment, which is read once.
        if not (self._moment and raw.startswith(self._moment, raw.find(b"\n", SIGNATURE_BYTES))):
            timestamp = timestamp_of(raw)
            if timestamp and self._newest and hour_of(timestamp) > hour_of(self._newest):
                return False
            self._time(timestamp)
        self._end = raw[:SIGNATURE_BYTES]
        self._last = number
        self._frontier.append(raw)
        return True

    def _time(self, timestamp: str) -> None:
        """The next entry was written then; empty where that cannot be read."""
        if not timestamp:
            self._is_timed, self._moment = False, b""
            return
        self._oldest = min(self._oldest or timestamp, timestamp)
        self._newest = max(self._newest, timestamp)
        self._moment = b"\n%b\n" % timestamp.encode()

    def is_due(self, now_ms: int) -> bool:
        """Whether the hour of what was taken is over, or the newest head is not by the key of today."""
        if self.newest is not None and self.newest.key != self._key.public:
            return True
        return self.is_open and hour_of(moment(now_ms).decode()) != hour_of(self._newest)

    @property
    def is_open(self) -> bool:
        """Whether there are entries without a head."""
        return self._frontier.size > 0

    def head(self, now_ms: int) -> Head:
        """The head of what was taken. It counts once it is on the disk: `written`."""
        newest = self.newest
        return self._key.sign(
            Head(
                node_id=self._node_id,
                log=self._log,
                number=1 if newest is None else newest.number + 1,
                previous=NO_HEAD if newest is None else newest.id,
                first=1 if newest is None else newest.last + 1,
                last=self._last,
                root=self._frontier.root.hex(),
                chain=self._end.ljust(SIGNATURE_BYTES, b"\0").hex(),
                oldest=self._oldest if self._is_timed else "",
                newest=self._newest if self._is_timed else "",
                written=moment(now_ms).decode(),
                key=self._key.public,
            )
        )

    def written(self, head: Head) -> None:
        """Begin behind this head."""
        self.newest = head
        self._begin()
