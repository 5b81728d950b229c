"""This node's part in the cluster: two cores, each in a shell of its own, and what the rest of the node asks them.

    membership   who lives            kvs/server/cluster_members.py
    replica      who holds what       kvs/server/cluster_records.py

Members tell records who is up, and what was heard of their data; nothing goes the other way but the digest. Neither
core ever waits; what waits are the tasks of the shells.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom

import structlog

from kvs.cluster import membership_events, messages
from kvs.cluster.events import Committed, Scrub
from kvs.cluster.membership_events import Sender
from kvs.cluster.messages import MemberView
from kvs.cluster.node import Node
from kvs.cluster.runner import Runner
from kvs.cluster.scrubbing import Scrubber
from kvs.cluster.sync_totals import SyncTotals
from kvs.cluster.time_of import Now
from kvs.cluster.transport import JSON, Transport
from kvs.config import Config
from kvs.errors import Conflict, NotFound, Unavailable
from kvs.limits import LEAVE_TIMEOUT_S
from kvs.server.cluster_members import MembersShell
from kvs.server.cluster_records import RecordsShell
from kvs.server.cluster_tasks import Tasks
from kvs.server.cluster_view import ClusterView, View
from kvs.server.meters import Meters
from kvs.storage.backup import Standing
from kvs.storage.record import Record
from kvs.storage.state import Identity
from kvs.storage.store import Store

log = structlog.get_logger()


class Cluster:
    """Everything runs on one event loop."""

    def __init__(
        self,
        config: Config,
        store: Store,
        node: Node,
        runner: Runner,
        now_ms: Callable[[], int],
        tls: Callable[[], ssl.SSLContext | None],
        meters: Meters | None = None,
    ) -> None:
        """`tls`: what peers are asked with at the moment; None asks them by HTTP."""
        self._config = config
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._transport = Transport(config.node_id, config.cluster_secret, tls)
        self._tasks = Tasks()
        self._is_stopping = False
        self._is_fetching_again = False
        self._writable: tuple[float, int, int] | None = None
        """When writes were let in last, and what that was judged by."""
        self._runner = runner
        self.scrubber = Scrubber()
        """How far the Merkle tree was compared with the records."""
        chance = SystemRandom()
        self._records = RecordsShell(
            config, store, node, runner, self._transport, self._tasks, chance, self._now, meters
        )
        self._members = MembersShell(
            config, store, runner, self._transport, self._tasks, self._records, chance, self._now
        )

    async def start(self, identity: Identity, address: str) -> None:
        """`address` is where peers reach this node. Raises StartError when another living node has its id."""
        self._transport.start()
        await self._members.start(identity, address)
        await self._members.introduce()

    @property
    def refused(self) -> asyncio.Future[str]:
        """Done when this node must stop, with the reason: another living node has its id."""
        return self._members.refused

    async def stop(self) -> None:
        """Take leave of the others, then end everything that is under way."""
        self._members.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._members.tell(membership_events.Leaving())
                await self._tasks.wait_for("members")
        self._is_stopping = True
        self._records.end()
        await self._tasks.end()
        await self._transport.stop()

    # --- members ---

    def members(self) -> list[MemberView]:
        return self._members.membership.members(self._now()) if self._members.is_started else []

    @property
    def member_count(self) -> int:
        """Members that are not down, this node included."""
        return len(self._records.addresses) + 1

    @property
    def known_count(self) -> int:
        """Nodes that were not removed, this one included: those that left may be back in a moment, as at a restart."""
        return len(self.known()) + 1

    def addresses(self) -> list[str]:
        """Where this node and the members that are up are reached, this node first. Raises Unavailable."""
        others = self._records.addresses
        return [self._members.membership.me(self._now()).address, *(others[node_id] for node_id in sorted(others))]

    def up(self) -> list[str]:
        """The other members that are up, by id."""
        return list(self._records.addresses)

    def known(self) -> list[str]:
        """All other nodes that were not removed, those that are down among them."""
        return [member.id for member in self._members.membership.remembered()] if self._members.is_started else []

    async def ask(self, peer: str, path: str, body: bytes, timeout_s: float) -> bytes:
        """The answer of a member that is up to a POST in JSON. Raises PeerUnreachable, PeerRefused."""
        address = self._records.addresses.get(peer, "")
        return await self._transport.call("sync", address, "POST", path, body, content_type=JSON, timeout_s=timeout_s)

    async def answer(self, request: messages.Request, sender: Sender) -> messages.Response:
        """What a peer is answered. Raises the KvsError that refuses it."""
        return await self._members.answer(request, sender)

    async def remove(self, node_id: str) -> None:
        """An operator says that this node will not come back: nothing waits for it any more. Raises NotFound, and
        Conflict when it is up."""
        membership = self._members.membership
        if node_id == self._config.node_id:
            raise Conflict("this is the node that was asked", code="this_node")
        if node_id in self._records.addresses:
            raise Conflict(f"{node_id} is up; stop it before it is removed", code="member_is_up")
        if node_id not in {member.id for member in membership.remembered()}:
            raise NotFound(f"no member has the id {node_id}", code="unknown_member")
        await self._members.tell(membership_events.Remove(node_id))

    # --- records ---

    @property
    def is_syncing(self) -> bool:
        """Whether this node is being filled or rejoins after a long absence, and takes no writes until that is over."""
        return self._records.replica.mode != "settled"

    @property
    def is_filling(self) -> bool:
        """Whether this node is being filled, and does not have all that its peers have."""
        return self._records.replica.mode == "filling"

    @property
    def has_source(self) -> bool:
        """Whether anybody who was filled has answered this node, since it is to be filled itself."""
        return self._records.replica.has_source

    @property
    def is_clock_right(self) -> bool:
        """Whether this node's clock is near those of its peers, as far as they were heard."""
        return self._members.clocks.is_right(self._now())

    @property
    def is_unproven(self) -> bool:
        """Whether this node was restored from a backup and has not heard yet what was revoked since."""
        return self._records.replica.is_unproven

    def standing(self) -> Standing:
        """What a backup that begins now says of this node beside others."""
        floor = self._records.floor
        return Standing(floor.floor_ms, floor.as_of_ms(self._now_ms()), floor.had_peers)

    def check_shareable(self) -> None:
        """Raises Unavailable while this node may hold records that were deleted elsewhere."""
        if not self._records.replica.may_share:
            raise Unavailable("this node rejoins after a long absence", code="syncing")

    def check_conduct(self, sender: Sender) -> None:
        """Raises Forbidden for one that sent too much that cannot be."""
        self._records.conduct.check(sender.node_id, sender.host, self._now().mono_ms)

    def blame(self, sender: Sender, count: int, reason: str) -> None:
        """It sent so much, in one message, that cannot be."""
        self._records.refuse(sender.node_id, count, reason)
        if self._records.conduct.strike(sender.node_id, sender.host, self._now().mono_ms):
            log.warning("A peer keeps sending what cannot be: it is cut off", peer=sender.node_id, client=sender.host)

    def check_writable(self) -> None:
        """Raises Unavailable when a write of a client would be stamped by a clock that is wrong, or come too early."""
        # Many writes come within one millisecond, in which uvloop's time stands still.
        state = self._loop.time(), self._members.clocks.heard_count, self._records.handled_count
        if state == self._writable:
            return
        if self.is_syncing:
            raise Unavailable("this node still gets from its peers what it lacks", code="syncing")
        if not self.is_clock_right:
            raise Unavailable("this node's clock differs too much from its peers'", code="clock_skew")
        self._writable = state

    def committed(self, effect: Committed) -> None:
        """The writer's: these records are on the disk."""
        if not self._is_stopping:
            self._records.committed(effect.changes)

    async def wait_for(self, entry: bytes, record: Record, nodes: int, timeout_s: float) -> int:
        """Wait until so many nodes, this one included, have this record on their disks; how many have it."""
        return await self._records.wait_for(entry, record, nodes, timeout_s)

    @property
    def sync_totals(self) -> SyncTotals:
        """What comparisons did since the start."""
        return self._records.replica.totals

    @property
    def push_dropped(self) -> int:
        """Records that left the outboxes of peers without an acknowledgement."""
        return self._records.push.dropped

    def fetch_again(self, entry: bytes) -> None:
        """The record under this entry key is corrupt: without its item in the tree it is missed by the next comparison,
        and brought by a peer. One at a time; the others wait for the next reader, or the scrubber."""
        if not self._is_fetching_again and not self._is_stopping:
            self._is_fetching_again = True
            self._tasks.spawn(self._forget_item(entry), "scrub")

    async def _forget_item(self, entry: bytes) -> None:
        try:
            await self._runner.submit([Scrub(start=entry)])
        except Unavailable as error:
            log.debug("A corrupt record is not fetched again yet", error=error.detail)
        finally:
            self._is_fetching_again = False

    # --- both ---

    def view(self, mode: str) -> ClusterView:
        """The cluster as this node sees it; `mode` is the node's. Raises Unavailable."""
        records, members = self._records, self._members
        look = View(members.membership, records.replica, records.push, records.floor, records.conduct)
        return look.of(
            mode=mode,
            root=records.here().tree.root,
            clocks=members.clocks,
            has_seeds=bool(self._config.other_seeds),
            scrub=self.scrubber.view,
            clone=members.clone,
            now=self._now(),
        )

    def _now(self) -> Now:
        return Now(round(self._loop.time() * 1000), self._now_ms())
