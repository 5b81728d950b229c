"""Whatever is done to one place of an audit log is found, and the place is named."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kvs.cluster.audit_check import Finding, Row, Tips, anchor_of, check
from kvs.cluster.audit_heads import HeadKey
from kvs.storage.audit import Tip, first_rows, read_last
from kvs.storage.keyspace import AUDIT_ENTRIES, AUDIT_HEADS, AUDIT_TIP, audit_row, split_audit
from tests.auditing import (
    HOUR_MS,
    START_MS,
    Rows,
    check_rows,
    entries_in,
    forged,
    heads_in,
    heads_of,
    make_log,
    numbered,
    rewritten,
    store_of,
    with_tip,
    written_on,
)
from tests.nodes import LOG

_STEPS_MS = st.lists(
    st.sampled_from([0, 1, 1000, HOUR_MS // 2, HOUR_MS, 3 * HOUR_MS, -HOUR_MS]), min_size=2, max_size=40
)


@st.composite
def logs(draw: st.DrawFn) -> Rows:
    """A log of some hours, under heads as far as the last hour that is over."""
    now_ms, times = START_MS, []
    for step_ms in draw(_STEPS_MS):
        now_ms += step_ms
        times.append(now_ms)
    signed = draw(st.integers(0, len(times)))
    rows = make_log(times, signed=False)
    return rows | heads_of({row: raw for row, raw in rows.items() if row <= audit_row(signed)})


def with_entries(rows: Rows, entries: Sequence[bytes]) -> Rows:
    """The log with other entries, under the tip and the heads that it has."""
    return numbered(entries) | {row: raw for row, raw in rows.items() if not row.startswith(AUDIT_ENTRIES)}


def names(findings: Sequence[Finding], place: int) -> bool:
    return any(each.of == "entry" and each.first <= place <= each.last for each in findings)


@given(logs())
def test_a_log_is_sound(rows: Rows) -> None:
    report = check_rows(rows)
    assert report.findings == []
    assert (report.entries, report.heads) == (len(entries_in(rows)), len(heads_in(rows)))
    assert report.last == report.entries
    assert check_rows(rows, [anchor_of(head, "n2") for head in heads_in(rows)]).findings == []


@given(logs(), st.data())
def test_a_changed_byte_is_found_and_named(rows: Rows, data: st.DataObject) -> None:
    entries = entries_in(rows)
    place = data.draw(st.integers(1, len(entries)))
    raw = bytearray(entries[place - 1])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    entries[place - 1] = bytes(raw)
    report = check_rows(with_entries(rows, entries))
    assert names(report.findings, place)
    assert all(
        abs(each.first - place) <= 1 for each in report.findings if each.of == "entry" and each.first == each.last
    )


@given(logs(), st.data(), st.booleans())
def test_a_missing_entry_is_found_and_named(rows: Rows, data: st.DataObject, renumber: bool) -> None:
    entries = entries_in(rows)
    place = data.draw(st.integers(1, len(entries) - 1))
    if renumber:
        changed = with_entries(rows, entries[: place - 1] + entries[place:])
    else:
        changed = {row: raw for row, raw in rows.items() if row != audit_row(place)}
    (finding, *more) = check_rows(changed).findings
    assert (finding.first, finding.last, finding.text) == (place, place, "missing")
    assert [each for each in more if "covers" not in each.text] == []


@given(logs(), st.data())
def test_entries_that_changed_places_are_found_and_named(rows: Rows, data: st.DataObject) -> None:
    entries = entries_in(rows)
    one, other = sorted(data.draw(st.sets(st.integers(1, len(entries)), min_size=2, max_size=2)))
    entries[one - 1], entries[other - 1] = entries[other - 1], entries[one - 1]
    findings = check_rows(with_entries(rows, entries)).findings
    assert names(findings, one)
    assert any(f"an entry {other}" in each.text or names([each], other) for each in findings)


@given(logs(), st.data(), st.booleans())
def test_an_entry_that_was_put_in_is_found_and_named(rows: Rows, data: st.DataObject, fits: bool) -> None:
    entries = entries_in(rows)
    place = data.draw(st.integers(1, len(entries) - 1))
    put_in = forged(entries[place - 1], place + 1) if fits else data.draw(st.sampled_from(entries))
    findings = check_rows(with_entries(rows, [*entries[:place], put_in, *entries[place:]])).findings
    assert any(place <= each.first <= place + 2 for each in findings)


@given(logs(), st.data())
def test_an_entry_that_was_put_behind_the_end_is_found_and_named(rows: Rows, data: st.DataObject) -> None:
    entries = entries_in(rows)
    findings = check_rows(with_entries(rows, [*entries, data.draw(st.sampled_from(entries))])).findings
    assert [each.first for each in findings] == [len(entries)]


@given(logs(), st.data())
def test_a_log_that_was_signed_anew_is_found_by_its_heads(rows: Rows, data: st.DataObject) -> None:
    entries, heads = entries_in(rows), heads_in(rows)
    place = data.draw(st.integers(1, len(entries)))
    changed = with_entries(rows, rewritten(entries, place))
    assert names(check_rows(changed).findings, len(entries)), "the tip knows the last one"
    report = check_rows(with_tip(changed))
    covered = next((head for head in heads if head.first <= place <= head.last), None)
    assert report.findings == [] if covered is None else names(report.findings, place)


@given(logs(), st.data())
def test_with_new_heads_too_it_is_found_by_those_that_peers_keep(rows: Rows, data: st.DataObject) -> None:
    entries, heads = entries_in(rows), heads_in(rows)
    if not heads:
        return
    place = data.draw(st.integers(1, heads[-1].last))
    changed = with_tip(numbered(rewritten(entries, place)))
    changed |= heads_of(changed)
    assert check_rows(changed).findings == []
    assert names(check_rows(changed, [anchor_of(heads[-1], "n2")]).findings, heads[-1].last)


@given(logs(), st.data())
def test_an_end_that_was_cut_off_is_found_by_heads(rows: Rows, data: st.DataObject) -> None:
    entries, heads = entries_in(rows), heads_in(rows)
    left = data.draw(st.integers(0, len(entries) - 1))
    own = check_rows(with_tip(with_entries(rows, entries[:left]))).findings
    cut = with_tip(numbered(entries[:left]))
    cut |= {row: raw for row, raw in rows.items() if row.startswith(AUDIT_HEADS) and row[2:10] <= audit_row(left)[2:]}
    assert check_rows(cut).findings == []
    if not heads or heads[-1].last <= left:
        assert own == []
        return
    assert names(own, left + 1)
    findings = check_rows(cut, [anchor_of(heads[-1], "n2")]).findings
    (finding,) = [each for each in findings if each.of == "entry"]
    assert (finding.first, finding.last, finding.text) == (left + 1, heads[-1].last, "cut off: n2 knows them")


@given(logs(), st.data())
def test_an_end_that_was_cut_off_with_its_heads_is_found_by_the_tip(rows: Rows, data: st.DataObject) -> None:
    entries = entries_in(rows)
    left = data.draw(st.integers(0, len(entries) - 1))
    cut = {row: raw for row, raw in with_entries(rows, entries[:left]).items() if not row.startswith(AUDIT_HEADS)}
    (finding,) = check_rows(cut).findings
    assert (finding.first, finding.last, finding.text) == (left + 1, len(entries), "cut off: the log's tip knows them")
    again = check_rows(written_on(cut, [START_MS] * data.draw(st.integers(1, 3)))).findings
    assert [(each.first, each.last, each.text) for each in again] == [(left + 1, len(entries), "missing")]


@given(logs(), st.data())
def test_entries_that_were_put_behind_the_tip_are_found_and_stay_so(rows: Rows, data: st.DataObject) -> None:
    entries = entries_in(rows)
    more = data.draw(st.integers(1, 3))
    for number in range(len(entries) + 1, len(entries) + more + 1):
        entries.append(forged(entries[-1], number))
    changed = with_entries(rows, entries)
    (finding,) = check_rows(changed).findings
    assert (finding.first, finding.last) == (len(entries) - more + 1, len(entries))
    assert names(check_rows(written_on(changed, [START_MS])).findings, len(entries) + 1)


@given(logs(), st.data())
def test_a_last_entry_that_was_exchanged_is_found_and_stays_so(rows: Rows, data: st.DataObject) -> None:
    entries = entries_in(rows)
    entries[-1] = forged(entries[-2], len(entries))
    heads = data.draw(st.booleans())
    changed = {row: raw for row, raw in with_entries(rows, entries).items() if heads or not row.startswith(AUDIT_HEADS)}
    assert names(check_rows(changed).findings, len(entries))
    assert names(check_rows(written_on(changed, [START_MS])).findings, len(entries) + 1)


@given(logs(), st.data(), st.sampled_from(["drop", "flip", "shorten", "lengthen", "older", "first"]))
def test_whatever_is_done_to_the_tip_is_found_and_stays_so(rows: Rows, data: st.DataObject, what: str) -> None:
    entries, raw = entries_in(rows), bytearray(rows[AUDIT_TIP])
    changed = {row: value for row, value in rows.items() if row != AUDIT_TIP}
    if what == "flip":
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif what == "shorten":
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    elif what == "lengthen":
        raw += data.draw(st.binary(min_size=1, max_size=3))
    elif what == "older":
        raw = bytearray(with_tip(numbered(entries[: data.draw(st.integers(1, len(entries) - 1))]))[AUDIT_TIP])
    elif what == "first":
        raw = bytearray(first_rows(LOG)[AUDIT_TIP])
    if what != "drop":
        changed[AUDIT_TIP] = bytes(raw)
    assert check_rows(changed).findings
    again = check_rows(written_on(changed, [START_MS])).findings
    assert any(each.of == "entry" and each.first > len(entries) for each in again)


@given(logs())
def test_a_log_that_is_gone_with_its_tip_is_found_and_stays_so(rows: Rows) -> None:
    (finding,) = check_rows({}).findings
    assert finding.of == "log"
    assert names(check_rows(written_on({}, [START_MS])).findings, 1)


@given(logs(), st.data())
def test_a_log_that_grows_while_it_is_read_is_sound(rows: Rows, data: st.DataObject) -> None:
    entries = [Row(split_audit(row), raw) for row, raw in sorted(rows.items()) if row.startswith(AUDIT_ENTRIES)]
    before, read, behind = sorted(data.draw(st.integers(0, len(entries))) for _ in range(3))

    def tip(last: int) -> Tip:
        return read_last(store_of(numbered([row.raw for row in entries[:last]])), LOG)

    assert check(LOG, entries[:read], (), Tips(tip(before), lambda: tip(behind))).findings == []


@given(logs(), st.data())
def test_whatever_is_done_to_a_head_is_found(rows: Rows, data: st.DataObject) -> None:
    heads = [row for row in sorted(rows) if row.startswith(AUDIT_HEADS)]
    if len(heads) < 2:
        return
    place = data.draw(st.integers(0, len(heads) - 2))
    what = data.draw(st.sampled_from(["drop", "swap", "flip"]))
    changed = dict(rows)
    if what == "drop":
        del changed[heads[place]]
    elif what == "swap":
        changed[heads[place]], changed[heads[place + 1]] = rows[heads[place + 1]], rows[heads[place]]
    else:
        raw = bytearray(rows[heads[place]])
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1
        changed[heads[place]] = bytes(raw)
    findings = check_rows(changed).findings
    assert any(each.of == "head" and each.first <= place + 2 for each in findings) or names(findings, 1)


@given(logs())
def test_a_head_under_another_key_is_found(rows: Rows) -> None:
    foreign = heads_of({row: raw for row, raw in rows.items() if row.startswith(AUDIT_ENTRIES)}, key=HeadKey(b"x" * 32))
    changed = with_tip(numbered(entries_in(rows)) | foreign)
    (finding,) = check_rows(changed).findings
    assert finding.of == "head"
    assert check_rows(changed, keys=[HeadKey(b"x" * 32).public]).findings == []


@given(logs())
def test_the_log_of_another_node_is_found(rows: Rows) -> None:
    other = make_log([START_MS], log="another")
    assert check_rows(other, log="another").findings == []
    assert names(check_rows(other).findings, 1)
    (head, *_) = heads_in(other)
    found = check_rows(rows, [anchor_of(head, "n2")]).findings
    assert [(each.of, "replaced" in each.text) for each in found] == [("log", True)]


def test_every_byte_and_every_cut_of_every_entry() -> None:
    """Exhaustive on a small log, where hypothesis only samples."""
    rows = make_log([START_MS + number * 1000 for number in range(10)], signed=False)
    entries = entries_in(rows)
    choice = Random(1)
    for place, raw in enumerate(entries, 1):
        for offset in range(len(raw)):
            flipped = bytearray(raw)
            flipped[offset] ^= 1 << choice.randrange(8)
            for changed in (bytes(flipped), raw[:offset], raw[:offset] + b"\n" + raw[offset:]):
                log = with_entries(rows, [*entries[: place - 1], changed, *entries[place:]])
                assert names(check_rows(log).findings, place), (place, changed)
