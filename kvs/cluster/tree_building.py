"""Makes the Merkle tree of a node that was alone until now, and drops that of one that is alone from now on.

While clustering is off no write keeps the tree up. The row TREE_ROW says whether it covers everything: it is written
last when a tree was made, and removed first when one is given up.
"""

from itertools import islice

import structlog

from kvs.cluster.merkle import Tree, item_of, read_tree
from kvs.errors import StoreCorrupt
from kvs.limits import TREE_BUILD_BATCH
from kvs.storage.batch import Overlay
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, ITEMS, RUNS, SYSTEM, after
from kvs.storage.record import value_digest
from kvs.storage.state import TREE_ROW
from kvs.storage.store import Store

log = structlog.get_logger()


def open_tree(store: Store) -> Tree:
    """The tree of the store, made first if need be, also when it cannot be read: some seconds for a million records.
    Raises StoreError."""
    if store.get(TREE_ROW) is not None:
        try:
            return read_tree(store)
        except StoreCorrupt as error:
            log.error("The Merkle tree cannot be read and is made anew", error=str(error))
            store.commit({TREE_ROW: None})
    _clear(store)
    _build(store)
    store.commit({TREE_ROW: b""})
    return read_tree(store)


def give_up_tree(store: Store) -> None:
    """Nobody keeps the tree up from here on. Its rows stay until it is made anew."""
    if store.get(TREE_ROW) is not None:
        store.commit({TREE_ROW: None})


def _clear(store: Store) -> None:
    for prefix in (ITEMS, RUNS):
        while rows := [row for row, _ in islice(store.scan(prefix, after(prefix)), TREE_BUILD_BATCH)]:
            store.commit(dict.fromkeys(rows))


def _build(store: Store) -> None:
    tree, count = Tree({}), 0
    for prefix in (DATA, SYSTEM):
        entries = store.scan(prefix, after(prefix))
        while batch := list(islice(entries, TREE_BUILD_BATCH)):
            view, edit = Overlay(store), tree.edit()
            for entry, raw in batch:
                try:
                    record = decode(entry, raw).record
                    item = item_of(entry, record, value_digest(record.data))
                except StoreCorrupt:
                    continue  # it is no item until it is replaced, so that peers send theirs
                edit.put(view.batch, view, entry, item)
            view.write(edit.rows())
            store.commit(view.batch)
            tree.apply(edit)
            count += len(batch)
    if count:
        log.info("The Merkle tree was made", records=count, runs=sum(1 for _ in store.scan(RUNS, after(RUNS))))
