"""Runs rounds of a plan on real daemons and judges what came of each."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from http.client import HTTPException
from itertools import count
from pathlib import Path

from tests.chaos.clients import Clients
from tests.chaos.faults import Faults
from tests.chaos.history import History
from tests.chaos.plan import Round, Setup, Step
from tests.chaos.site import Machine, Site, holds
from tests.chaos.tokens import Administrator, Tokens
from tests.process.cluster import allowed
from tests.process.eventually import eventually

_EQUAL_WITHIN_S = 120.0
"""After all faults: nodes that gave each other up try again once a minute, and then compare."""
_EQUAL_WITHIN_MAX_S = 300.0
"""However busy the machine is."""
_IDLE_S = 6.0


@dataclass
class Report:
    """What a campaign came to."""

    rounds: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    """Writes by outcome."""
    reads: int = 0
    others: dict[str, int] = field(default_factory=dict)
    """Requests that neither wrote nor showed anything, by why, and writes of values with an end."""
    audited: int = 0
    """Audit logs that were verified."""
    tokens: dict[str, int] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    equal_after_max_s: float = 0.0
    violations: list[str] = field(default_factory=list)
    not_possible: str = ""


class Campaign:
    """`tell` gets a line for every round."""

    def __init__(self, folder: Path, setup: Setup, seed: int, library: Path, tell: Callable[[str], None]) -> None:
        self.report = Report()
        self._tell = tell
        self._history = History()
        self._site = Site(folder, setup, library, seed)
        self._faults = Faults(self._site, self._history, seed)
        self._seed = seed
        self._asks_for_tokens = bool(setup.settings.get("auth_enabled"))
        self._clients: Clients | None = None
        self._tokens: Tokens | None = None
        self._order = count()

    def run(self, rounds: Iterator[Round], enough: Callable[[], bool]) -> Report:
        """Until `enough`, or until the nodes do not become equal, after which nothing more can be judged."""
        began_s = time.monotonic()
        self.report.not_possible = self._site.without_disk
        try:
            self._site.start()
            self._settle(0)
            self._let_in()
            while not enough() and not self.report.violations:
                self._run(next(rounds))
            if not self.report.violations:
                self._stay_idle()
                self._look_at_audit_logs(self._site.machines)
        except Exception as error:
            self.report.violations.append(f"round {self.report.rounds}: {type(error).__name__}: {error}")
            raise
        finally:
            self._pause()
            self._site.close()
            self._sum_up(time.monotonic() - began_s)
        return self.report

    def _let_in(self) -> None:
        targets = [machine.target() for machine in self._site.machines]
        token = ""
        if self._asks_for_tokens:
            administrator = Administrator(self._site.machines[0].node)
            token = administrator.token
            self._tokens = Tokens(self._seed, targets, self._history, administrator)
        self._clients = Clients(self._seed, targets, self._history, token)
        self._settle(0)

    def _actors(self) -> list[Clients | Tokens]:
        return [each for each in (self._clients, self._tokens) if each is not None]

    def _pause(self) -> None:
        for each in self._actors():
            each.pause()

    def _run(self, this: Round) -> None:
        self.report.rounds = this.number
        before = self._faults.counts.copy()
        victim = self._site.machines[this.victim]
        if this.opening != "none":
            self._look_at_audit_logs([victim])
        self._faults.open(this.opening, victim)
        for each in self._actors():
            each.run()
        self._play(this)
        self._pause()
        self._faults.close()
        equal_s = self._settle(this.number)
        done = ", ".join(f"{kind} {n}" for kind, n in sorted((self._faults.counts - before).items())) or "no fault"
        self._tell(f"round {this.number:3}  {this.lasts_s:4.1f} s  equal after {equal_s:5.1f} s  {done}")

    def _play(self, this: Round) -> None:
        """Break and mend at the times of the plan; in the end mend what is left. The plan's clock stands still while
        something is carried out, so the order is the same on a slow machine."""
        waiting = threading.Event()
        todo: list[tuple[float, int, Callable[[], None]]] = []

        def later(at_s: float, act: Callable[[], None]) -> None:
            heappush(todo, (min(at_s, this.lasts_s), next(self._order), act))

        def begin(step: Step) -> None:
            mend = self._faults.begin(step)
            if mend is not None:
                later(step.at_s + step.lasts_s, mend)

        for step in this.steps:
            later(step.at_s, partial(begin, step))
        now_s = 0.0
        while todo:
            at_s, _, act = heappop(todo)
            waiting.wait(at_s - now_s)
            now_s = at_s
            act()
        waiting.wait(this.lasts_s - now_s)
        self._site.cluster.heal()

    def _settle(self, number: int) -> float:
        """Wait until all are equal and judge what they hold; how long it took."""
        began_s = time.monotonic()
        timeout_s = min(allowed(_EQUAL_WITHIN_S), _EQUAL_WITHIN_MAX_S)
        whole = eventually(lambda: holds(self._site.is_whole), timeout_s)
        if not whole:
            self.report.violations.append(f"round {number}: not equal again: {self._differences()}")
            return 0.0
        equal_s = time.monotonic() - began_s
        self.report.equal_after_max_s = max(self.report.equal_after_max_s, equal_s)
        names = [machine.name for machine in self._site.machines]
        self._history.settle(self._site.held(self._history.keys()), names)
        if self._tokens is not None:
            self._tokens.check([machine.node for machine in self._site.machines])
        found = [*self._history.violations, *self._site.complaints()]
        self.report.violations += [f"round {number}: {violation}" for violation in found]
        self._history.violations.clear()
        return equal_s

    def _differences(self) -> str:
        told = []
        for machine in self._site.machines:
            with suppress(OSError, HTTPException):
                told.append(f"{machine.name}: {machine.node.mode()}, {machine.node.root()}, {machine.node.members()}")
        return "; ".join(told)

    def _stay_idle(self) -> None:
        """Who is equal and is written nothing moves nothing."""
        moved = self._site.moved()
        if eventually(lambda: self._site.moved() != moved, _IDLE_S):
            self.report.violations.append("records are moved though all are equal and nobody writes")

    def _look_at_audit_logs(self, machines: Iterable[Machine]) -> None:
        """Those of which a whole life is known."""
        for machine in machines:
            if machine.is_original:
                self.report.audited += 1
                wrong = machine.audit()
                self.report.violations += [f"the audit log of {wrong}"] if wrong else []

    def _sum_up(self, seconds: float) -> None:
        report = self.report
        report.seconds = seconds
        report.outcomes = self._history.counts()
        report.reads = self._history.reads
        if self._clients is not None:
            report.others = dict(self._clients.counts)
        report.faults = self._faults.counts
        if self._tokens is not None:
            report.tokens = {"made": self._tokens.made, "revoked": self._tokens.revoked}
