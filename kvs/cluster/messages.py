"""What nodes tell each other about themselves: every wire message of the membership, as JSON.

    request      call                      answer        what it is for
    Ping         POST /members/ping        PingAck       are you there; news both ways
    PingReq      POST /members/ping_req    PingReqAck    ping that one for me
    Join         POST /members/join        MemberList    here I am, who is there
    MemberList   POST /members/gossip      MemberList    all I know against all you know
    Leave        DELETE /members/leave     Done          I go, or that one is gone

A MemberList is a plain JSON array of members, Done is an empty body. Unknown fields are ignored, so that a newer node
can say more. Whatever is too long, out of range or of another type is refused while decoding; nothing behind it sees an
unbounded text or number. Whether an address is one is for `kvs.cluster.address`.
"""

from enum import StrEnum
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from kvs.errors import BadRequest, TooLarge
from kvs.limits import (
    ADDRESS_MAX_CHARS,
    INSTANCE_ID_MAX_CHARS,
    MEMBER_LIST_MAX_BYTES,
    MEMBER_NUMBER_MAX,
    MEMBERS_MAX,
    NODE_ID_MAX_BYTES,
    PING_MAX_BYTES,
    RUMOURS_PER_MESSAGE_MAX,
)

NodeId = Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9._:-]{{1,{NODE_ID_MAX_BYTES}}}\Z")]
OptionalNodeId = Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9._:-]{{0,{NODE_ID_MAX_BYTES}}}\Z")]
AddressText = Annotated[str, Meta(pattern=rf"\A[!-~]{{1,{ADDRESS_MAX_CHARS}}}\Z")]
InstanceId = Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9._:-]{{0,{INSTANCE_ID_MAX_CHARS}}}\Z")]
Number = Annotated[int, Meta(ge=0, le=MEMBER_NUMBER_MAX)]
WaitMillis = Annotated[int, Meta(ge=1, le=3_600_000)]


class Status(StrEnum):
    """How a member is rated. `removed` is an operator's word and is never listed."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    REMOVED = "removed"


class MemberState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a node. Times are Unix ms, 0 is unknown.

    Only the node itself raises its `incarnation`. `instance_id` tells its data directory from any other, "" is unknown.
    `last_seen` is when it was last heard itself, by anybody; in its own word about itself it is its own clock.
    """

    id: NodeId
    address: AddressText
    last_seen: Number = 0
    joined_timestamp: Number = 0
    status: Status = Status.ALIVE
    incarnation: Number = 0
    instance_id: InstanceId = ""


class Rumour(MemberState, frozen=True, kw_only=True, gc=False):
    """News of a member. `accuser` is who found it silent, "" when nobody did or nobody knows."""

    accuser: OptionalNodeId = ""


class Digest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a node's data come to: the Merkle root in hex, how many items are under it, and, in Unix ms, the tombstone
    floor and up to when this node is proven to be equal to all others; whether it is past filling and rejoining.
    Carried for other cores."""

    root: Annotated[str, Meta(pattern=r"\A[0-9a-f]{1,64}\Z")]
    count: Number
    gc_floor: Number = 0
    proven: Number = 0
    settled: bool = True


Rumours = Annotated[tuple[Rumour, ...], Meta(max_length=RUMOURS_PER_MESSAGE_MAX)]
Members = Annotated[tuple[MemberState, ...], Meta(max_length=MEMBERS_MAX)]


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """`to` is the id it is meant for; whoever else listens at that address refuses. `rated` is what the sender holds of
    the listener where that is not simply that it lives: so a suspected node refutes at once, and needs no luck."""

    sender: MemberState
    to: NodeId
    rated: MemberState | None = None
    rumours: Rumours = ()
    digest: Digest | None = None


class PingAck(msgspec.Struct, frozen=True, kw_only=True):
    """`sender` is who answers; `rated` as in Ping, of whoever pinged."""

    sender: MemberState
    rated: MemberState | None = None
    rumours: Rumours = ()
    digest: Digest | None = None


class PingReq(msgspec.Struct, frozen=True, kw_only=True):
    """Ping `target` at the address that you know of it, and wait `timeout_ms` for its answer."""

    sender: MemberState
    target: NodeId
    timeout_ms: WaitMillis
    rumours: Rumours = ()


class PingReqAck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the target answered. A no is worth something too: it shows that the asker hears and the helper works."""

    sender: MemberState
    reached: bool
    rumours: Rumours = ()


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """A node introduces itself."""

    id: NodeId
    address: AddressText
    joined_timestamp: Number
    incarnation: Number = 0
    instance_id: InstanceId = ""


class MemberList(msgspec.Struct, frozen=True):
    """All that whoever speaks knows, itself included."""

    members: Members


class Leave(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is gone for good reasons and nobody need wait for it. A living node so named refutes it."""

    id: NodeId
    incarnation: Number = 0


class Done(msgspec.Struct, frozen=True):
    """The answer without content."""


class Refused(msgspec.Struct, frozen=True):
    """A peer's problem document in place of an answer: `code` and `detail` of it."""

    code: str
    detail: str = ""


Request = Ping | PingReq | Join | MemberList | Leave
Response = PingAck | PingReqAck | MemberList | Done


class Route(NamedTuple):
    """Where a request goes, what answers it, and the size of either's body."""

    method: str
    path: str
    answer: type[Response]
    body_max_bytes: int


ROUTES: dict[type[Request], Route] = {
    Ping: Route("POST", "/members/ping", PingAck, PING_MAX_BYTES),
    PingReq: Route("POST", "/members/ping_req", PingReqAck, PING_MAX_BYTES),
    Join: Route("POST", "/members/join", MemberList, MEMBER_LIST_MAX_BYTES),
    MemberList: Route("POST", "/members/gossip", MemberList, MEMBER_LIST_MAX_BYTES),
    Leave: Route("DELETE", "/members/leave", Done, PING_MAX_BYTES),
}


class MemberView(msgspec.Struct, frozen=True, gc=False):
    """A member as `GET /members/` shows it."""

    id: str
    address: str
    last_seen: int
    joined_timestamp: int
    status: str


class Persisted(msgspec.Struct, frozen=True, kw_only=True):
    """What a node must know of the membership after a restart. `joined_timestamp` is its own, `members` are all others
    it knows or remembers."""

    incarnation: Number = 0
    joined_timestamp: Number = 0
    members: Members = ()


_Message = TypeVar("_Message", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()
_list_decoder = msgspec.json.Decoder(Members)
_decoders = {kind: msgspec.json.Decoder(kind) for kind in (Ping, PingAck, PingReq, PingReqAck, Join, Leave, Persisted)}


def encode(message: msgspec.Struct) -> bytes:
    """The JSON body of a message; of Done none."""
    if isinstance(message, Done):
        return b""
    return _encoder.encode(message.members if isinstance(message, MemberList) else message)


def decode(kind: type[_Message], raw: bytes, max_bytes: int = MEMBER_LIST_MAX_BYTES) -> _Message:
    """The message in a body. Raises TooLarge, and BadRequest for anything that is not one."""
    if len(raw) > max_bytes:
        raise TooLarge(f"the message is larger than {max_bytes} bytes", limit=max_bytes, actual=len(raw))
    try:
        if kind is MemberList:
            return kind(_list_decoder.decode(raw))
        return kind() if kind is Done else _decoders[kind].decode(raw)  # type: ignore[index, return-value]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the message is not what is expected: {error}", code="invalid_body") from None
