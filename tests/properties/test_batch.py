"""A batch laid over a store reads as the store will once it is written."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from kvs.storage.batch import Overlay
from kvs.storage.memory import MemoryStore

keys = st.binary(max_size=2)
contents = st.dictionaries(keys, st.binary(max_size=2), max_size=20)
batches = st.dictionaries(keys, st.none() | st.binary(max_size=2), max_size=20)


@given(contents, batches, keys, keys, st.booleans())
def test_it_is_what_the_store_will_be(
    stored: dict[bytes, bytes], batch: dict[bytes, bytes | None], start: bytes, stop: bytes, backwards: bool
) -> None:
    store = MemoryStore()
    store.commit(dict(stored))
    view = Overlay(store)
    view.write(batch)
    found = list(view.scan(start, stop, backwards=backwards))
    first = list(islice(view.scan(start, stop, backwards=backwards), 3))
    values = {key: view.get(key) for key in stored.keys() | batch.keys()}
    store.commit(batch)
    assert found == list(store.scan(start, stop, backwards=backwards))
    assert first == found[:3]
    assert values == {key: store.get(key) for key in values}
