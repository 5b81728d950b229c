"""Where `kvs audit verify` reads a log: from a node, page by page, or from the data directory of one that is stopped.
And what others know of it."""

import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from kvs.client import Client, NotFoundError
from kvs.cluster.audit_check import Anchor, Finding, Report, Row, Tips, anchor_of
from kvs.cluster.audit_heads import Head, LongHash, Number, decode_head, encode
from kvs.daemon.failure import NOT_FOUND, Failed
from kvs.daemon.session import Way, asking
from kvs.errors import StartError, StoreCorrupt, StoreError
from kvs.storage.audit import NO_TIP, Entry, Tip
from kvs.storage.audit import encode as encode_entry

if TYPE_CHECKING:
    from kvs.config import Config

_PEER_TIMEOUT_S = 5.0
_PEERS_AT_ONCE = 16
_OLDEST_FIRST = {"limit": "1000", "order": "asc"}
_Kind = TypeVar("_Kind")


Ask = Callable[[str], list[Head]]
"""Asks the node at an address which heads it keeps. Raises Failed."""


class Source(NamedTuple):
    """A log to be verified. `keys` are those that may have signed it, None when they are not known. `peers` are where
    others may be asked about it, by their addresses; `damage` says why reading ended early, where it did. `config` is
    that of a node on this host."""

    node_id: str
    log: str
    heads: Sequence[Row]
    entries: Iterator[Row]
    tips: Tips
    keys: frozenset[str] | None
    peers: Sequence[str]
    damage: list[str]
    config: "Config | None"

    @property
    def newest_head(self) -> Head | None:
        return decode_head(self.heads[-1].raw) if self.heads else None

    def with_damage(self, report: Report) -> Report:
        """The report, with what could not be read."""
        more = [Finding("log", 0, 0, f"damaged behind entry {report.last}: {text}") for text in self.damage]
        return report._replace(findings=[*report.findings, *more], found=report.found + len(more))


def of_node(client: Client, config: "Config | None") -> Source:
    """A running node; `config` is its configuration if it is on this host. Raises Failed, ClientError; so do the
    entries."""

    def ask() -> _Heads:
        return _shaped(client.call("GET", "/api/audit/heads?limit=1"), _Heads)

    about = ask()
    # Tip and heads first: what is written meanwhile is behind them.
    heads = [_head_row(each) for each in client.pages("/api/audit/heads", "heads", _OLDEST_FIRST)]
    first, entries = _peeked(map(_entry_row, client.pages("/api/audit", "entries", _OLDEST_FIRST)))
    keys = None if config is None or not (first or heads) else keys_of(config)
    try:
        members = _shaped(client.members(), list[_Member])
    except NotFoundError:
        members = []  # it is alone
    peers = [member.address for member in members if member.id != about.node_id]
    tips = Tips(_tip(about.tip), lambda: _tip(ask().tip))
    return Source(about.node_id, about.log, heads, entries, tips, keys, peers, [], config)


@contextmanager
def of_directory(config: "Config") -> Iterator[Source]:
    """The data directory of a node that does not run. Raises Failed."""
    from kvs.cluster import messages
    from kvs.storage.audit import read_tip
    from kvs.storage.keyspace import AUDIT_ENTRIES, AUDIT_HEADS, after, split_audit, split_audit_head
    from kvs.storage.leveldb import LevelDBStore
    from kvs.storage.state import MEMBERS_ROW, read_identity

    if not (config.data_dir / "CURRENT").exists():
        raise Failed(f"there is no database in {config.data_dir}", NOT_FOUND)
    damage: list[str] = []

    def rows(prefix: bytes, number: Callable[[bytes], int | None]) -> Iterator[Row]:
        try:
            for row, raw in store.scan(prefix, after(prefix)):
                yield Row(number(row), raw)
        except StoreCorrupt as error:
            damage.append(str(error))

    try:
        with redirect_stdout(sys.stderr):  # what it logs about damage is no data
            store = LevelDBStore(config.data_dir, sync=True)
    except StoreError as error:
        raise Failed(str(error)) from None
    if store.damage:
        damage.append(f"entries of the database's own log may be lost: {store.damage}")
    try:
        identity = read_identity(store)
        if identity is None:
            raise Failed(f"no node ever ran on {config.data_dir}", NOT_FOUND)
        raw = store.get(MEMBERS_ROW)
        known = messages.Persisted() if raw is None else messages.decode(messages.Persisted, raw)
        peers = dict.fromkeys((*(member.address for member in known.members), *config.other_seeds))
        tip = read_tip(store)
        heads = list(rows(AUDIT_HEADS, split_audit_head))
        first, entries = _peeked(rows(AUDIT_ENTRIES, split_audit))
        is_clustered = bool(config.clustering_enabled and config.cluster_secret)
        yield Source(
            config.node_id,
            identity.instance_id,
            heads,
            entries,
            Tips(tip, lambda: tip),
            keys_of(config) if first or heads else None,
            list(peers) if is_clustered else [],
            damage,
            config,
        )
    except StoreError as error:
        raise Failed(str(error)) from None
    finally:
        store.close()


def _peeked(rows: Iterator[Row]) -> tuple[Row | None, Iterator[Row]]:
    """The first of the rows, and all of them. Where nothing was ever written there may be no key either."""
    first = next(rows, None)
    return first, rows if first is None else chain((first,), rows)


def keys_of(config: "Config") -> frozenset[str]:
    """The public keys that the node of a configuration signs with. Raises Failed."""
    from kvs.auth import secrets
    from kvs.server.security import audit_keys

    try:
        return audit_keys(config, secrets.load(config.data_dir)).trusted
    except StartError as error:
        raise Failed(str(error)) from None


def ask_as_peer(config: "Config") -> Ask:
    """How to ask a node which heads it keeps of the node of a configuration: as that node."""
    from kvs.daemon.local import peer_access

    scheme, headers, trust = peer_access(config)

    def ask(address: str) -> list[Head]:
        with asking(Way(f"{scheme}://{address}", headers, trust), timeout_s=_PEER_TIMEOUT_S, retry_s=0) as client:
            return _shaped(client.call("POST", "/audit/heads", {}), _Answer).kept

    return ask


def ask_with(way: Way, node_id: str) -> Ask:
    """The same with a token, which is good at every node of a cluster."""

    def ask(address: str) -> list[Head]:
        with asking(way.at(address), timeout_s=_PEER_TIMEOUT_S, retry_s=0) as client:
            kept = _shaped(client.call("GET", f"/api/audit/kept?node_id={node_id}"), _Kept)
        return kept.nodes.get(node_id, [])

    return ask


def ask_all(addresses: Sequence[str], ask: Ask) -> tuple[list[Anchor], list[str], list[str]]:
    """What the others know, who was asked, and, in words, who could not be."""

    def one(address: str) -> tuple[list[Anchor], str]:
        try:
            return [anchor_of(head, address) for head in ask(address)], ""
        except Failed as error:
            return [], str(error)

    with ThreadPoolExecutor(_PEERS_AT_ONCE) as pool:
        answers = list(pool.map(one, addresses))
    anchors = [anchor for found, _ in answers for anchor in found]
    asked = [address for address, (_, failure) in zip(addresses, answers, strict=True) if not failure]
    return anchors, asked, [failure for _, failure in answers if failure]


# --- what nodes answer ---


class _Member(msgspec.Struct):
    id: str
    address: str


class _Tip(msgspec.Struct):
    number: Number
    signature: LongHash


class _Heads(msgspec.Struct):
    node_id: str
    log: str
    tip: _Tip | None


class _Answer(msgspec.Struct):
    kept: list[Head]


class _Kept(msgspec.Struct):
    nodes: dict[str, list[Head]]


class _Damaged(msgspec.Struct):
    number: int | None
    damaged: str


class _Entry(msgspec.Struct):
    number: int
    timestamp: str
    action: str
    user_uuid: str
    resource: str
    signature: str


def _tip(shown: _Tip | None) -> Tip:
    return NO_TIP if shown is None else Tip(shown.number, bytes.fromhex(shown.signature))


def _entry_row(shown: Mapping[str, Any]) -> Row:
    """The row that a node shows, as it stands in its store."""
    if "damaged" in shown:
        return _damaged_row(shown)
    entry = _shaped(shown, _Entry)
    fields = (entry.number, entry.timestamp, entry.action, entry.user_uuid, entry.resource)
    try:
        return Row(entry.number, encode_entry(Entry(*fields, bytes.fromhex(entry.signature))))
    except ValueError:
        raise _strange() from None


def _head_row(shown: Mapping[str, Any]) -> Row:
    if "damaged" in shown:
        return _damaged_row(shown)
    head = _shaped(shown, Head)
    return Row(head.number, encode(head))


def _damaged_row(shown: Mapping[str, Any]) -> Row:
    row = _shaped(shown, _Damaged)
    try:
        return Row(row.number, b64decode(row.damaged))
    except ValueError:
        raise _strange() from None


def _shaped(document: Any, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError:
        raise _strange() from None


def _strange() -> Failed:
    return Failed("what the node answers is none of an audit log")
