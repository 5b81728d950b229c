"""The heads that a node keeps of its peers' audit logs: witnesses, that a peer cannot take back.

    of a peer is kept     it offers                                   then
    nothing               heads                                       the newest is kept
    some                  heads that go on from one, link by link     the newest takes the place of that one
    some                  heads that do not                           nothing; the peer is told what is kept
    some                  the same, `anew`                            the newest is kept too, and the log says so

An older head, or another one of the same number, goes on from none. Which key signed a head that goes on does not
matter, because the link vouches for it: heads from before the secret was changed are passed on too. Whoever holds the
cluster's secret can sign heads, but cannot make a kept one go away, other than by going on from it: the first ones stay
for ever, only the last place changes hands.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kvs.cluster.audit_heads import Head, HeadsAnswer, HeadsOffer, follow
from kvs.limits import AUDIT_KEPT_HEADS_MAX, AUDIT_KEPT_NODES_MAX


class Kept(NamedTuple):
    """What becomes of an offer: the answer, and what is to be kept from now on (None: as before). `forgotten` is a node
    that makes room. `goes_on`: the newest head goes on from a kept one, or is one. `is_new_log`: neither, though there
    are some."""

    answer: HeadsAnswer
    heads: tuple[Head, ...] | None = None
    forgotten: str = ""
    goes_on: bool = False
    is_new_log: bool = False


def consider(held: Mapping[str, tuple[Head, ...]], node_id: str, offer: HeadsOffer, members: Iterable[str]) -> Kept:
    """`held` are all heads that are kept, by node; those of the offer were checked. `members` are the nodes that are
    known."""
    tips = held.get(node_id, ())
    if not offer.heads:
        return Kept(HeadsAnswer(False, tips))
    newest = offer.heads[-1]
    if not tips:
        forgotten = ""
        if len(held) >= AUDIT_KEPT_NODES_MAX:
            known = set(members)
            forgotten = next((other for other in held if other not in known), "")
            if not forgotten:
                return Kept(HeadsAnswer(False))
        return Kept(HeadsAnswer(True, (newest,)), (newest,), forgotten)
    moved = tuple(follow(tip, offer.heads) for tip in tips)
    is_kept = newest in moved
    if not is_kept and offer.anew:
        moved = (*moved[: AUDIT_KEPT_HEADS_MAX - 1], newest)
    answer = HeadsAnswer(is_kept or offer.anew, moved)
    is_new_log = offer.anew and not is_kept
    return Kept(answer, moved if moved != tips else None, goes_on=is_kept, is_new_log=is_new_log)
