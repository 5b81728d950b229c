"""What docs/performance.md says is what docs/performance.json holds, and a run's figures are read right."""

import json
from pathlib import Path

import pytest

from benchmarks import load, publish, report
from benchmarks.cluster import lag_p99_ms
from benchmarks.load import Requests
from benchmarks.peers import process
from benchmarks.peers.process import Missing
from benchmarks.spread import Spread


def test_the_page_shows_the_run_that_is_kept() -> None:
    page, readme, found = publish.PAGE.read_text(), publish.README.read_text(), json.loads(publish.RUN.read_text())
    assert publish.filled_in(page, report.markdown(found)) == page
    assert publish.filled_in(readme, report.summary(found)) == readme


def test_every_picture_of_the_page_is_there_in_both_kinds() -> None:
    for name in ("throughput", "latency", "sync", "growth"):
        assert f"(plots/{name}.svg)" in publish.PAGE.read_text()
        assert (publish.DOCS / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (publish.DOCS / "plots" / f"{name}.svg").read_bytes()


def test_a_page_without_its_place_for_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        publish.filled_in("# Performance\n", "")


def test_the_readme_shows_the_machine_and_what_counts_most() -> None:
    known = report.Row("PUT with fsync, against one batch", "2/s", "4/s", Spread.of([0.5]), aim=0.6, at_least=True)
    other = report.Row("other", "1", "", Spread.of([1.0]), aim=None, at_least=True)
    shown = report.summary(json.loads(json.dumps(run([known, other]))))
    assert "2 rounds of 2 s, 10,000 keys" in shown
    assert shown.splitlines()[-1] == "| PUT with fsync, against one batch | 2/s | 4/s | 0.5 (0.5 to 0.5) |"


def run(rows: list[report.Row]) -> dict[str, object]:
    findings = report.Findings(rows, peers={"etcd": "not compared: etcd is not installed"})
    return report.document(findings, {"rounds": 2, "seconds": 2, "mixed_seconds": 0, "keys": 10_000})


def test_the_tables_say_what_was_reached_and_who_is_missing() -> None:
    good = report.Row("good", "2/s", "1/s", Spread.of([1.5, 2, 3]), aim=2.0, at_least=True)
    bad = report.Row("bad", "2 ms", "1 ms", Spread.of([2.0]), aim=1.0, at_least=False, notes="why")
    told = report.Row("told", "1", "", Spread.of([1.0]), aim=None, at_least=True)
    shown = report.markdown(json.loads(json.dumps(run([good, bad, told]))))
    assert "| good | 2/s | 1/s | 2 (1.5 to 3) | at least 2 | yes |  |" in shown
    assert "| bad | 2 ms | 1 ms | 2 (2 to 2) | at most 1 | no | why |" in shown
    assert "| told | 1 |  | 1 (1 to 1) |  |  |  |" in shown
    assert "| etcd | not compared: etcd is not installed |" in shown
    assert "2 rounds of 2 s, 10,000 keys" in shown


@pytest.mark.parametrize(("load_average", "is_busy"), [(1.0, False), (12.0, False), (12.1, True)])
def test_a_run_on_a_busy_machine_says_so(load_average: float, is_busy: bool) -> None:
    found = json.loads(json.dumps(run([])))
    found["machine"] |= {"load_average": load_average, "cores": 4}
    assert ("kept the machine busy" in report.markdown(found)) is is_busy


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (Requests("POST", "/v3/kv/range", b'{"key":"a"}'), r'"POST", "/v3/kv/range", "{\"key\":\"a\"}"'),
        (Requests("PUT", "/kv/", b"1", count=7, first=20), '"/kv/" .. (i + 20)'),
        (Requests("PUT", "/put", bodies=[b"a", b"b"]), "/bodies"),
    ],
    ids=["the same", "keys in turn", "bodies in turn"],
)
def test_the_script_for_wrk_holds_what_is_asked(requests: Requests, expected: str, tmp_path: Path) -> None:
    script = requests.script(tmp_path)
    assert expected in script
    assert not any(word in script for word in ("METHOD", "PATH", "BODY", "COUNT", "FIRST", "FILE"))
    assert not requests.bodies or (tmp_path / "bodies").read_bytes() == b"a\nb"


def test_the_lag_is_the_bucket_of_the_99th_percentile() -> None:
    before = {0.001: 100.0, 0.01: 100.0, 0.1: 100.0, float("inf"): 100.0}
    after = {0.001: 150.0, 0.01: 199.0, 0.1: 200.0, float("inf"): 200.0}
    assert lag_p99_ms(before, after) == 10.0
    assert lag_p99_ms({}, {0.001: 0.0, 0.01: 1.0, float("inf"): 1.0}) == 10.0


def test_a_program_that_is_not_there_is_told_with_its_hint() -> None:
    with pytest.raises(Missing, match="no-such-database is not installed: apt install it"):
        process.program("no-such-database", "apt install it")


def test_a_program_that_ends_is_told_with_its_words(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo cannot start; exit 3"]
    with (
        pytest.raises(Missing, match="sh ended with 3: cannot start"),
        process.running(command, tmp_path, lambda: False),
    ):
        pass


def test_what_runs_is_ended(tmp_path: Path) -> None:
    with process.running(["sleep", "1000"], tmp_path, lambda: True) as pid:
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_an_outcome_is_read_out_of_what_wrk_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrk = tmp_path / "wrk"
    wrk.write_text("#!/bin/sh\necho '  50%  500.00us'; echo '  99%    2.50ms'; echo 'Requests/sec:  12345.67'\n")
    wrk.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert load.run_wrk("http://127.0.0.1:1", {}, 1, load.GETS, tmp_path) == load.Outcome(12345.67, 0.5, 2.5)
    wrk.write_text("#!/bin/sh\necho '  Non-2xx or 3xx responses: 1'\n")
    with pytest.raises(RuntimeError, match="met errors"):
        load.run_wrk("http://127.0.0.1:1", {}, 1, load.GETS, tmp_path)
