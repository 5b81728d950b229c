"""Signed heads: what the audit log of a node was at a moment, in a form that others can keep.

    run         entries since the head before, up to the end of their hour
    root        the Merkle tree hash of the run (RFC 9162, section 2.1.1, SHA-256) over its entries as they are stored
    chain       the signature of the last entry, which vouches for all before it
    previous    the id of the head before: heads are a chain too, that peers follow link by link
    signature   Ed25519 (RFC 8032), by a key that is derived from the cluster's secret, over `statement`

    statement   := "kvs audit head" LF node_id LF log LF number LF previous LF first LF last LF root LF chain LF
                   oldest LF newest LF written LF key LF
    id          := SHA3-512( statement )

A head without entries (first = last + 1) says again what the one before said, under another key: after the secret was
changed, the newest head is always by the present one.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha3_512
from typing import Annotated, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from kvs.cluster.messages import InstanceId, NodeId
from kvs.errors import BadMessage
from kvs.limits import AUDIT_HEADS_PER_MESSAGE_MAX, AUDIT_KEPT_HEADS_MAX, AUDIT_NUMBER_MAX
from kvs.storage.audit import SIGNATURE_BYTES

Number = Annotated[int, Meta(ge=0, le=AUDIT_NUMBER_MAX)]
Positive = Annotated[int, Meta(ge=1, le=AUDIT_NUMBER_MAX)]
Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
LongHash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{128}\Z")]
Moment = Annotated[str, Meta(pattern=r"\A(?:[0-9T:.Z-]{24})?\Z")]

_Message = TypeVar("_Message")

NO_HEAD = "0" * 2 * SIGNATURE_BYTES
"""Stands for the head before the first one."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of heads and entries begin with 1. `oldest` and `newest` bound the timestamps of the run, empty where one
    of its entries has none that can be read; `written` is when the head was made. Hashes are hexadecimal."""

    node_id: NodeId
    log: InstanceId
    number: Positive
    previous: LongHash
    first: Positive
    last: Number
    root: Hash
    chain: LongHash
    oldest: Moment
    newest: Moment
    written: Moment
    key: Hash
    signature: LongHash = NO_HEAD

    @property
    def statement(self) -> bytes:
        """What is signed."""
        fields = msgspec.structs.astuple(self)[:-1]
        return b"kvs audit head\n%b\n" % "\n".join(map(str, fields)).encode()

    @property
    def id(self) -> str:
        return sha3_512(self.statement).hexdigest()

    @property
    def is_signed(self) -> bool:
        """Whether the signature is that of the key that the head names. Whose key that is, is another question."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            key.verify(bytes.fromhex(self.signature), self.statement)
        except (InvalidSignature, ValueError):
            return False
        return True


Heads = Annotated[tuple[Head, ...], Meta(max_length=AUDIT_HEADS_PER_MESSAGE_MAX)]
KeptHeads = Annotated[tuple[Head, ...], Meta(max_length=AUDIT_KEPT_HEADS_MAX)]


class HeadsOffer(msgspec.Struct, frozen=True):
    """A node's own heads, the newest last, for a peer to keep. `anew`: they do not follow from what the peer keeps, and
    the node knows of it. None at all: the node only asks."""

    heads: Heads = ()
    anew: bool = False


class HeadsAnswer(msgspec.Struct, frozen=True):
    """Whether the newest that was offered is kept now, and all that are kept of the node."""

    taken: bool
    kept: KeptHeads = ()


encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(Head)
_offer = msgspec.json.Decoder(HeadsOffer)
_answer = msgspec.json.Decoder(HeadsAnswer)
_kept = msgspec.json.Decoder(KeptHeads)


def decode_head(raw: bytes) -> Head:
    """Raises BadMessage."""
    return _decoded(_head, raw)


def decode_offer(raw: bytes) -> HeadsOffer:
    """Raises BadMessage."""
    return _decoded(_offer, raw)


def decode_answer(raw: bytes) -> HeadsAnswer:
    """Raises BadMessage."""
    return _decoded(_answer, raw)


def decode_kept(raw: bytes) -> tuple[Head, ...]:
    """Raises BadMessage."""
    return _decoded(_kept, raw)


class HeadKey:
    """Signs heads."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: 32 bytes that only the cluster knows."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw().hex()

    def sign(self, head: Head) -> Head:
        """The head, under this key."""
        named = msgspec.structs.replace(head, key=self.public)
        return msgspec.structs.replace(named, signature=self._key.sign(named.statement).hex())


def follow(tip: Head, heads: Iterable[Head]) -> Head:
    """As far as heads go on from a tip, link by link."""
    for head in heads:
        if head.log == tip.log and head.number == tip.number + 1 and head.previous == tip.id:
            tip = head
    return tip


def are_good(heads: Sequence[Head], node_id: str) -> bool:
    """Whether all of them are of this node, and signed, by whatever key."""
    return all(head.node_id == node_id and head.is_signed for head in heads)


def _decoded(decoder: msgspec.json.Decoder[_Message], raw: bytes) -> _Message:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadMessage(f"the message is not what is expected: {error}") from None
