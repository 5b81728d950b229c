"""How comparisons ended, and what they did in sum: for the status and the metrics."""

from typing import NamedTuple

from kvs.cluster.sync import Session


class Compared(NamedTuple):
    """How a comparison ended. `at_ms` is when it began, in Unix ms; `refused` counts records of the peer that cannot be
    taken; `behind`: there was more to move; `failure` is why it was given up, empty if it was not."""

    at_ms: int
    fetched: int
    sent: int
    set_aside: int
    refused: int
    questions: int
    behind: bool = False
    failure: str = ""


class SyncTotals:
    """All comparisons that this node began since its start, by how they ended, and what they did."""

    def __init__(self) -> None:
        self.done = self.behind = self.failed = 0
        self.rounds = self.compared = self.fetched = self.sent = self.set_aside = self.refused = 0

    def ended(self, session: Session) -> None:
        self.rounds += session.rounds
        self.compared += session.compared
        self.fetched += session.fetched
        self.sent += session.sent
        self.set_aside += len(session.set_aside)
        self.refused += session.refused
