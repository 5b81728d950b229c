"""The shell around `Replica`: carries out what it wants and tells it what came of it.

PeerCall     a request to a peer, on connections for pushes or for comparisons
Submit       the writer
SetAside     the quarantine file, then the writer
SaveFloor, Filled    the writer
Reached      whoever waits for copies of a write
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from kvs.cluster import exchange, quarantine, replica_events
from kvs.cluster.bootstrap import Bootstrap, BootstrapSettings, Filled, decode_part
from kvs.cluster.chance import Chance
from kvs.cluster.comparisons import Pace
from kvs.cluster.conduct import Conduct
from kvs.cluster.copies import Reached
from kvs.cluster.events import Change, Discard, Remember, Report
from kvs.cluster.exchange import (
    DiffAnswer,
    DiffRequest,
    FetchAnswer,
    FetchRequest,
    RangeAnswer,
    RangeRequest,
    RecentAnswer,
    RecentRequest,
    ReplicateAnswer,
    ReplicateRequest,
)
from kvs.cluster.floor import Floor
from kvs.cluster.floor import decode as decode_floor
from kvs.cluster.floor import encode as encode_floor
from kvs.cluster.ingest import Limits
from kvs.cluster.messages import Digest, MemberState
from kvs.cluster.node import Node
from kvs.cluster.push import Push
from kvs.cluster.replica import Replica
from kvs.cluster.runner import Runner
from kvs.cluster.sync import Answer, Here, Request
from kvs.cluster.time_of import Now
from kvs.cluster.transport import MSGPACK, PeerRefused, PeerUnreachable, Transport, pack, unpack
from kvs.config import Config
from kvs.errors import BadMessage, StoreError, Unavailable
from kvs.limits import RECOVERY_RETRY_MAX_MS, SWEEP_MAX_KEYS
from kvs.server.cluster_tasks import Tasks, Timer
from kvs.server.meters import Meters
from kvs.storage.record import Record
from kvs.storage.state import FILLED_ROW, FILLING_ROW, FLOOR_ROW, QUARANTINE_FILE, read_identity
from kvs.storage.store import Store

log = structlog.get_logger()

_ROUTES: dict[type[Request | RecentRequest], tuple[str, type[Answer | RecentAnswer], str]] = {
    RecentRequest: ("/members/pairs_by_time", RecentAnswer, "fill"),
    DiffRequest: ("/merkle_tree/diff", DiffAnswer, "compare"),
    FetchRequest: ("/kv_range", FetchAnswer, "fetch"),
    RangeRequest: ("/kv_range", RangeAnswer, "fetch"),
    ReplicateRequest: ("/replicate", ReplicateAnswer, "send"),
}
"""Request to path, answer, and what its bytes count as when it is no push."""


class RecordsShell:
    """Who holds what. `replica`, `push`, `floor` and `conduct` are to be looked at only."""

    def __init__(
        self,
        config: Config,
        store: Store,
        node: Node,
        runner: Runner,
        transport: Transport,
        tasks: Tasks,
        chance: Chance,
        now: Callable[[], Now],
        meters: Meters | None = None,
    ) -> None:
        identity = read_identity(store)
        assert identity is not None
        self._meters = meters
        self._config = config
        self._store = store
        self._node = node
        self._runner = runner
        self._transport = transport
        self._tasks = tasks
        self._now = now
        self._timer = Timer(self.tick)
        self._reached: dict[int, asyncio.Future[None]] = {}
        self._tickets = 0
        self.addresses: dict[str, str] = {}
        """Of the members that are up, by id."""
        self.handled_count = 0
        """How many events `replica` was told, which changes by nothing else."""
        self.conduct = Conduct()
        has_seeds = bool(config.other_seeds)
        self.push = Push(config.node_id, config.push_fanout, chance)
        self.floor = Floor(
            decode_floor(store.get(FLOOR_ROW)),
            config.max_clock_drift,
            retention_ms=config.tombstone_retention,
            has_seeds=has_seeds,
            born_ms=identity.joined_timestamp,
        )
        needs_filling = has_seeds and store.get(FILLED_ROW) is None
        self.replica = Replica(
            Pace(round(config.sync_interval * 1000), round(config.catchup_interval * 1000), config.throttle_delay_ms),
            self.push,
            Bootstrap(
                _bootstrap_settings(config),
                now().mono_ms,
                needed=needs_filling,
                part=decode_part(store.get(FILLING_ROW)),
            ),
            self.floor,
            chance,
            now(),
            push_enabled=config.push_enabled,
            patience_ms=round(config.bootstrap_patience * 1000),
        )

    # --- what the rest of the node asks ---

    def here(self) -> Here:
        """This node's records as they are now."""
        assert self._node.tree is not None
        now_ms = self._now().unix_ms
        return Here(self._node.tree, self._store, Limits(now_ms, self._node.tombstone_limit(now_ms)))

    def digest(self) -> Digest:
        """What pings say of them."""
        root = self.here().tree.root
        return Digest(
            root=root.fingerprint.hex(),
            count=root.size,
            gc_floor=self.floor.floor_ms,
            proven=self.floor.announced_ms,
            settled=self.replica.mode == "settled",
        )

    async def wait_for(self, entry: bytes, record: Record, nodes: int, timeout_s: float) -> int:
        """Wait until so many nodes, this one included, have this record on their disks; how many have it."""
        self._tickets += 1
        ticket = self._tickets
        loop = asyncio.get_running_loop()
        reached = self._reached[ticket] = loop.create_future()
        self.handle(replica_events.Awaited(ticket, entry, record, nodes - 1))
        # Without `asyncio.timeout`, which needs a task: see kvs.server.eager.
        timer = loop.call_later(timeout_s, self._reach, ticket)
        try:
            await reached
        finally:
            timer.cancel()
            del self._reached[ticket]
            held = self.push.forget(ticket) + 1
        return held

    # --- what it is told ---

    def up(self, peer: str, address: str, instance: str = "") -> None:
        """A member lives, and is reached there. Its instance id, if that is known."""
        self.addresses[peer] = address
        self.handle(replica_events.PeerUp(peer, instance))
        self._tell_floor()

    def lost(self, peer: str) -> None:
        """A member is down, if it was up."""
        if self.addresses.pop(peer, None) is not None:
            self.handle(replica_events.PeerDown(peer))
            self._tell_floor()

    def know(self, members: Sequence[MemberState]) -> None:
        """These are all other nodes that were not removed."""
        instances = {member.id: member.instance_id for member in members if member.instance_id}
        self.handle(replica_events.Known([member.id for member in members], instances))
        self._tell_floor()

    def heard(self, peer: str, digest: Digest) -> None:
        self.handle(replica_events.DigestSeen(peer, digest.root, digest.proven, digest.gc_floor, digest.settled))

    def refuse(self, peer: str, count: int, reason: str) -> None:
        """So much that this peer has or sends cannot be taken."""
        self.conduct.refuse(peer, count)
        log.warning("A peer has what cannot be taken", peer=peer, refused=count, reason=reason)

    def committed(self, changes: Sequence[Change]) -> None:
        """These records are on the disk."""
        if self.addresses:  # else nobody is there to be told
            self.handle(replica_events.Written(changes))

    def tick(self) -> None:
        self.handle(replica_events.Tick())

    def end(self) -> None:
        """Nothing is begun from here on."""
        self._timer.end()

    def handle(self, event: replica_events.Event) -> None:
        self.handled_count += 1
        for effect in self.replica.handle(event, self.here(), self._now()):
            match effect:
                case replica_events.PeerCall():
                    self._tasks.spawn(self._call(effect), "push" if effect.push else "sync")
                case replica_events.Submit():
                    self._tasks.spawn(self._submit(effect), "sync")
                case replica_events.Refused(peer, count, reason):
                    self.refuse(peer, count, reason)
                case replica_events.SetAside():
                    self._tasks.spawn(self._set_aside(effect), "sync")
                case replica_events.SaveFloor():
                    self._tasks.spawn(self._save_floor(), "sync")
                case Filled():
                    self._tasks.spawn(self._note_filled(effect), "sync")
                case Reached(ticket):
                    self._reach(ticket)
                case Report(name, fields, level):
                    (log.warning if level == "warning" else log.info)(name, **fields)
        if not isinstance(event, replica_events.Written):  # a write moves no plan, and there are many of them
            self._timer.set(self.replica.wake_at_ms)

    def _reach(self, ticket: int) -> None:
        reached = self._reached.get(ticket)
        if reached is not None and not reached.done():
            reached.set_result(None)

    # --- carrying out ---

    async def _call(self, call: replica_events.PeerCall) -> None:
        path, kind, step = _ROUTES[type(call.request)]
        event: replica_events.Event
        if call.delay_ms:
            await asyncio.sleep(call.delay_ms / 1000)
        address = self.addresses.get(call.peer)
        if address is None:
            self.handle(replica_events.Failed(call.call, "the peer is not up any more"))
            return
        sent = pack(exchange.encode(call.request))
        try:
            body = await self._transport.call(
                "push" if call.push else "sync",
                address,
                "POST",
                path,
                sent,
                content_type=MSGPACK,
                timeout_s=call.timeout_s,
            )
            if self._meters is not None and not call.push:
                self._meters.sync_bytes[step] += len(sent) + len(body)
            event = replica_events.Answered(call.call, exchange.decode(unpack(body), kind))
        except (PeerRefused, PeerUnreachable, BadMessage) as failure:
            event = replica_events.Failed(call.call, str(failure))
        self.handle(event)

    async def _submit(self, submit: replica_events.Submit) -> None:
        try:
            outcomes = await self._runner.submit(submit.commands) if submit.commands else []
        except Unavailable as error:
            self.handle(replica_events.Failed(submit.ticket, error.detail))
        else:
            self.handle(replica_events.Submitted(submit.ticket, outcomes))

    async def _save_floor(self) -> None:
        stored = self.floor.stored()
        try:
            await self._runner.submit([Remember(rows={FLOOR_ROW: encode_floor(stored)})])
        except Unavailable:
            return  # the next tick asks for it again
        self.floor.saved(stored, self._now().unix_ms)
        self._tell_floor()

    def _tell_floor(self) -> None:
        self._node.floor_ms = self.floor.collected_below_ms
        self._node.apart = self.floor.apart(self._now().unix_ms)
        self._node.superseded.absences = self.floor.absences()

    async def _note_filled(self, filled: Filled) -> None:
        try:
            await self._runner.submit([Remember(rows={FILLED_ROW: b"", FILLING_ROW: None})])
        except Unavailable:
            await asyncio.sleep(RECOVERY_RETRY_MAX_MS / 1000)
            self._tasks.spawn(self._note_filled(filled), "sync")
            return
        match filled.why:
            case "copied":
                log.info("This node was filled by its peers", records=filled.records)
            case "together":
                log.info("No peer was filled before: this node takes writes, and compares itself with its peers")
            case "unfilled":
                log.warning("No peer could fill this node: it takes writes, and compares itself with them later")
            case "alone":
                log.warning("No seed answered: this node takes writes alone and goes on trying")

    async def _set_aside(self, aside: replica_events.SetAside) -> None:
        """Into a file that an operator can look at, then out of the store, some at a time. If the disk does not take
        it, the next comparison finds them again."""
        path = self._config.data_dir / QUARANTINE_FILE
        count = len(aside.entries)
        try:
            await asyncio.to_thread(quarantine.append, path, self._store, aside.entries, self._now().unix_ms)
            self._tell_floor()
            await self._runner.submit([Remember(rows={FLOOR_ROW: encode_floor(self.floor.stored())})])
            for at in range(0, count, SWEEP_MAX_KEYS):
                entries = tuple(aside.entries[at : at + SWEEP_MAX_KEYS])
                await self._runner.submit([Discard(entries=entries, before_ms=aside.before_ms)])
        except (OSError, StoreError, Unavailable) as error:
            reason = error.detail if isinstance(error, Unavailable) else str(error)
            log.warning("Records could not be set aside yet", records=count, file=str(path), reason=reason)
            self.handle(replica_events.Failed(aside.ticket, reason))
            return
        log.warning("Records that may have been deleted elsewhere were set aside", records=count, file=str(path))
        self.handle(replica_events.Submitted(aside.ticket, []))


def _bootstrap_settings(config: Config) -> BootstrapSettings:
    return BootstrapSettings(
        config.bootstrap_max_age_hours * 3_600_000, round(config.bootstrap_patience * 1000), config.fetch_delay_ms
    )
