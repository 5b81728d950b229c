"""What this node says: its messages, with the news of the moment on them."""

from kvs.cluster.detector import Detector
from kvs.cluster.gossip import Rumours
from kvs.cluster.messages import (
    Digest,
    MemberList,
    MemberState,
    Ping,
    PingAck,
    PingReq,
    PingReqAck,
    Rumour,
    Status,
)
from kvs.cluster.outbox import Outbox, Purpose
from kvs.cluster.roster import Roster
from kvs.cluster.time_of import Now


class Voice:
    """Builds messages. `digest` is what the pings say of this node's data; other cores set it."""

    def __init__(self, roster: Roster, rumours: Rumours, detector: Detector, out: Outbox) -> None:
        self.digest: Digest | None = None
        self._roster = roster
        self._rumours = rumours
        self._detector = detector
        self._out = out

    def ping(
        self,
        purpose: Purpose,
        node_id: str,
        address: str,
        now: Now,
        *,
        timeout_ms: int | None = None,
        rated: MemberState | None = None,
    ) -> None:
        """Ping whoever should be `node_id` at this address. `rated`: say this of it instead of what is held of it."""
        message = Ping(
            sender=self._roster.myself.state(now),
            to=node_id,
            rated=rated or self._roster.complaint(node_id),
            rumours=self._news(node_id),
            digest=self.digest,
        )
        self._out.call(purpose, address, message, timeout_ms or self._detector.timeout_ms, now)

    def ack(self, asker: MemberState, now: Now) -> PingAck:
        return PingAck(
            sender=self._roster.myself.state(now),
            rated=self._roster.complaint(asker.id, asker),
            rumours=self._rumours.take(asker.id, self._roster.count),
            digest=self.digest,
        )

    def ping_req(self, purpose: Purpose, helper: MemberState, target: str, now: Now) -> None:
        """Ask a helper. It waits a little less for the target than this node for the helper, so that its no arrives."""
        timeout_ms = self._detector.helper_timeout_ms
        message = PingReq(
            sender=self._roster.myself.state(now),
            target=target,
            timeout_ms=max(1, timeout_ms * 4 // 5),
            rumours=self._news(helper.id),
        )
        self._out.call(purpose, helper.address, message, timeout_ms, now)

    def ping_req_ack(self, asker: str, now: Now, *, reached: bool) -> PingReqAck:
        rumours = self._rumours.take(asker, self._roster.count)
        return PingReqAck(sender=self._roster.myself.state(now), reached=reached, rumours=rumours)

    def member_list(self, now: Now) -> MemberList:
        return MemberList(self._roster.all_known(now))

    def _news(self, node_id: str) -> tuple[Rumour, ...]:
        entry = self._roster.table.get(node_id)
        is_heard = entry is not None and entry.is_up and entry.state.status is Status.ALIVE
        return self._rumours.take(node_id, self._roster.count, is_heard=is_heard)
