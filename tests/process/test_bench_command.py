"""`kvs bench` against a real daemon."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.cli import RUN_TIMEOUT_S, Cli
from tests.process.eventually import eventually
from tests.process.site import Site, everyday


@pytest.fixture(scope="module")
def kvs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with everyday(tmp_path_factory.mktemp("measuring"), "rate_limiting_enabled: false\n") as cli:
        yield cli


def test_a_mixed_load_is_measured_and_leaves_nothing(kvs: Cli) -> None:
    done = kvs.run("bench", "--seconds", "1", "--keys", "600", "--connections", "4", "--json")
    assert done.code == 0, done
    shown = json.loads(done.out)
    assert (shown["read_percent"], shown["keys"], shown["refused"]) == (80, 600, {})
    for kind in ("read", "write"):
        of_kind = shown[kind]
        assert 0 < of_kind["p50_ms"] <= of_kind["p90_ms"] <= of_kind["p99_ms"] <= of_kind["p99.9_ms"]
        assert of_kind["p99.9_ms"] <= of_kind["max_ms"]
        assert sum(bucket["requests"] for bucket in of_kind["histogram"]) == of_kind["requests"]
    assert shown["read"]["requests"] > shown["write"]["requests"]
    assert kvs.run("ls").out == ""


@pytest.mark.parametrize("load", ["read", "write"])
def test_one_kind_of_requests_is_shown_with_a_histogram(kvs: Cli, load: str) -> None:
    done = kvs.run("bench", "--seconds", "0.5", "--load", load, "--keys", "3", "--prefix", f"{load}/", "--keep")
    assert done.code == 0, done
    assert f"\n{load}: " in done.out
    assert "█" in done.out
    assert ("write" if load == "read" else "read") not in done.out
    assert len(kvs.run("ls", "-R", load).out.splitlines()) == 3


def test_a_load_that_cannot_be(kvs: Cli) -> None:
    assert kvs.run("bench", "--url", "http://127.0.0.1:1").code == 6
    assert kvs.run("bench", "--load", "read", "--read-percent", "3").code == 2
    assert kvs.run("bench", "--prefix", "/").code == 1


def test_a_limit_of_requests_ends_it(tmp_path: Path) -> None:
    kvs = Cli(tmp_path)
    site = Site(kvs, "auth_enabled: false\nrate_limit_requests: 50\n")
    site.start()
    try:
        limited = kvs.run("bench", "--seconds", "30", "--url", site.url)
        assert limited.code == 7
        assert limited.err.startswith("kvs: ")
    finally:
        kvs.kill_all()


def test_who_is_asked_to_end_leaves_nothing(kvs: Cli) -> None:
    with kvs.popen("bench", "--seconds", "600", "--keys", "10", "--prefix", "ended/") as benching:
        assert eventually(lambda: kvs.run("ls", "ended/").code == 0, RUN_TIMEOUT_S)
        benching.terminate()
        assert benching.wait(RUN_TIMEOUT_S) == 130
    assert kvs.run("ls", "ended/").code == 3
