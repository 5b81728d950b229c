"""What the membership is told (events), what it wants done (effects), and what it is made of (settings).

The order of effects is the order in which they are carried out, and what a later turn wants comes after all that an
earlier one wanted: nothing overtakes a `Save` that is not on the disk yet, neither a call nor an answer. For a node
that forgot an incarnation that others know would be outranked by its own past (hashicorp/memberlist issue 311).
"""

from typing import Any, Literal, NamedTuple

from kvs.cluster.messages import Digest, MemberState, Persisted, Refused, Request, Response
from kvs.errors import KvsError

# --- settings ---


class MembershipSettings(NamedTuple):
    """The node's settings, in ms. `retention_ms` is `tombstone_retention`."""

    probe_interval_ms: int = 1_000
    probe_timeout_ms: int = 500
    suspicion_timeout_ms: int = 10_000
    gossip_interval_min_ms: int = 60_000
    gossip_interval_max_ms: int = 120_000
    member_timeout_ms: int = 600_000
    retention_ms: int = 864_000_000
    seeds: tuple[str, ...] = ()


class Identity(NamedTuple):
    """Who this node is. `address` is where peers reach it, `joined_timestamp` is Unix ms."""

    node_id: str
    address: str
    instance_id: str
    joined_timestamp: int


class Sender(NamedTuple):
    """Who a request comes from: the id in its head, and the IP address of its connection."""

    node_id: str
    host: str


# --- events ---


class Tick(NamedTuple):
    """The time `wake_at_ms` has come."""


class Responded(NamedTuple):
    """A call was answered."""

    call_id: int
    message: Response | Refused


class Failed(NamedTuple):
    """A call was not answered in time or not at all. `refused`: the host is there, but nothing listens at the port."""

    call_id: int
    refused: bool


class LoopLag(NamedTuple):
    """The event loop was held for this long, until now."""

    lag_ms: int


class Leaving(NamedTuple):
    """This node stops for good reasons."""


class Remove(NamedTuple):
    """An operator says that this node will not come back."""

    node_id: str


Event = Tick | Responded | Failed | LoopLag | Leaving | Remove

# --- effects ---


class Save(NamedTuple):
    """Put this on the disk before anything behind it in the list is done, and before the answer that came with it."""

    state: Persisted


class Call(NamedTuple):
    """Send a request. Exactly one `Responded` or `Failed` with this id must follow."""

    call_id: int
    address: str
    message: Request
    timeout_ms: int


class Deferred(NamedTuple):
    """In place of an answer: it follows as `Answer` with this ticket, unless this node leaves before."""

    ticket: int


class Answer(NamedTuple):
    """Answer the request that was given this ticket. A KvsError is a refusal."""

    ticket: int
    outcome: Response | KvsError


class MemberUp(NamedTuple):
    """This member lives and can be talked to at its address. Said again when the address changes."""

    member: MemberState


class MemberDown(NamedTuple):
    """This member is dead or has left; it is still listed."""

    member: MemberState


class MemberGone(NamedTuple):
    """This member is no longer listed, or is another instance from now on: then `MemberUp` follows."""

    node_id: str


class Joined(NamedTuple):
    """For the first time since the start a peer was heard."""


class Introduced(NamedTuple):
    """Those that were asked at the start have answered or will not. Until then nobody knows whether this node has its
    id alone."""


class Heard(NamedTuple):
    """What a peer says of itself: its wall clock (Unix ms) and its digest, if it gave one."""

    node_id: str
    unix_ms: int
    digest: Digest | None


class CloneFound(NamedTuple):
    """Another living node has this node's id: an operator must stop one of them. `is_refused`: this one, as its peers
    know the other, or the other was there first."""

    detail: str
    is_refused: bool


class Report(NamedTuple):
    """A line for the log."""

    event: str
    fields: dict[str, Any]
    level: Literal["info", "warning"] = "info"


Effect = Save | Call | Answer | MemberUp | MemberDown | MemberGone | Joined | Introduced | Heard | CloneFound | Report
