"""Any keys, any question: `_range` and `_list` answer as a few lines of plain Python do."""

from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.client import Client
from tests.api.paging import fill, pages, remove

_numbers = count(1)

pieces = st.sampled_from(["a", "b", "ab", "-", "0", "é", "😀", "_", "%", "A"])
names = st.lists(pieces, min_size=1, max_size=3).map("".join)
keys = st.lists(names, min_size=1, max_size=4).map("/".join)
key_sets = st.sets(keys, max_size=25)
limits = st.integers(1, 8)
any_bound = st.one_of(st.just(""), keys, names.map(lambda name: f"{name}/"))


def expected_range(present: set[str], prefix: str, start: str | None, end: str | None) -> list[str]:
    wanted = [
        key
        for key in present
        if key.startswith(prefix)
        and (start is None or key.encode() >= start.encode())
        and (end is None or key.encode() <= end.encode())
    ]
    return sorted(wanted, key=str.encode)


def expected_list(present: set[str], prefix: str, delimiter: str, depth: int) -> list[tuple[str, str]]:
    entries = set()
    for key in present:
        if key.startswith(prefix):
            parts = key[len(prefix) :].split(delimiter)
            if len(parts) > depth:
                entries.add(("prefix", prefix + "".join(part + delimiter for part in parts[:depth])))
            else:
                entries.add(("key", key))
    return sorted(entries, key=lambda entry: (entry[1].encode(), entry[0]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    present=key_sets,
    gone=key_sets,
    prefix=any_bound,
    bounds=st.tuples(st.none() | any_bound, st.none() | any_bound),
    delimiter=st.sampled_from(["/", "-", "a", "b/"]),
    depth=st.integers(1, 3),
    limit=limits,
)
def test_listings_agree_with_the_model(
    client: Client,
    present: set[str],
    gone: set[str],
    prefix: str,
    bounds: tuple[str | None, str | None],
    delimiter: str,
    depth: int,
    limit: int,
) -> None:
    base = f"oracle{next(_numbers)}."
    fill(client, (base + key for key in present | gone))
    remove(client, (base + key for key in gone - present))
    start, end = (None if bound is None else base + bound for bound in bounds)
    named = {"start_key": start, "end_key": end}
    given_bounds = {name: bound for name, bound in named.items() if bound is not None}
    whole = {base + key for key in present}

    ranged = pages(client, "_range", prefix=base + prefix, limit=limit, **given_bounds)
    assert all(len(one) <= limit for one in ranged)
    found = [pair["path"] for one in ranged for pair in one]
    assert found == expected_range(whole, base + prefix, start, end)

    listed = pages(client, "_list", prefix=base + prefix, delimiter=delimiter, depth=depth, limit=limit)
    assert all(len(one) <= limit for one in listed)
    entries = [(entry["type"], entry["path"]) for one in listed for entry in one]
    assert entries == expected_list(whole, base + prefix, delimiter, depth)
