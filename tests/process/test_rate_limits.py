"""The limit of requests as an operator meets it: a real daemon, SIGHUP, and the commands."""

import os
import signal
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from kvs.daemon.failure import LIMITED
from tests.process.cli import Cli, next_event
from tests.process.daemon import Client
from tests.process.site import Site

LIMIT = 1_000


@pytest.fixture
def site(kvs: Cli) -> Site:
    made = Site(kvs, f"rate_limit_requests: {LIMIT}\n")
    made.start()
    return made


def statuses(url: str, target: str, count: int, token: str = "") -> list[int]:
    client = Client(url)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return [client.request("GET", target, headers=headers).status for _ in range(count)]
    finally:
        client.close()


def test_more_requests_than_allowed_within_a_minute(site: Site) -> None:
    token = site.local("token", "create", "--scopes", "all").out.strip()
    assert statuses(site.url, "/kv/absent", LIMIT + 1, token) == [404] * LIMIT + [429]
    answer = site.ask("GET", "/kv/absent", token)
    assert (answer.status, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    told = {name: value for name, value in answer.headers.items() if name.startswith("X-Rate-Limit-")}
    assert told == {"X-Rate-Limit-Limit": "1000", "X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Window": "60"}
    assert statuses(site.url, "/health", 10) == [200] * 10

    listed = site.remote(token, "token", "list")
    assert listed.code == LIMITED == 7
    assert (listed.out, listed.err.count("\n")) == ("", 1)
    assert listed.err.endswith("(429 rate_limited)\n")
    assert site.local("token", "list").code == 0


def test_hangup_changes_the_limit(kvs: Cli) -> None:
    path = kvs.config(text="rate_limit_requests: 5\n")
    assert kvs.run("start", "node1").code == 0
    status = kvs.status("node1")
    with kvs.popen("logs", "-f", "node1") as follower:
        next_event(follower, "Started")

        def change(old: str, new: str) -> list[str]:
            path.write_text(path.read_text().replace(old, new))
            os.kill(status["pid"], signal.SIGHUP)
            reloaded = next_event(follower, "Configuration reloaded")
            assert reloaded["needs_restart"] == []
            return list(reloaded["changed"])

        assert statuses(status["url"], "/kv/absent", 6) == [404] * 5 + [429]
        assert change("requests: 5", "requests: 8") == ["rate_limit_requests"]
        assert statuses(status["url"], "/kv/absent", 4) == [404] * 3 + [429]
        assert change("rate_limit", "rate_limiting_enabled: false\nrate_limit") == ["rate_limiting_enabled"]
        assert statuses(status["url"], "/kv/absent", 10) == [404] * 10
        assert change("rate_limiting_enabled: false\n", "rate_limit_window: 1d\n") == [
            "rate_limiting_enabled",
            "rate_limit_window",
        ]
        assert statuses(status["url"], "/kv/absent", 9) == [404] * 8 + [429]
        follower.terminate()
        follower.communicate()


def test_addresses_do_not_count_for_each_other(kvs: Cli) -> None:
    kvs.config(text="rate_limit_requests: 5\n")
    assert kvs.run("start", "node1").code == 0
    parts = urlsplit(kvs.status("node1")["url"])
    assert statuses(parts.geturl(), "/kv/absent", 6) == [404] * 5 + [429]
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=20, source_address=("127.0.0.2", 0))
    connection.request("GET", "/kv/absent")
    assert connection.getresponse().status == 404
    connection.close()


def test_a_reload_that_is_refused_changes_nothing(kvs: Cli) -> None:
    path = kvs.config(text="rate_limit_requests: 5\n")
    assert kvs.run("start", "node1").code == 0
    status = kvs.status("node1")
    with kvs.popen("logs", "-f", "node1") as follower:
        next_event(follower, "Started")
        path.write_text(path.read_text().replace("requests: 5", "requests: none"))
        os.kill(status["pid"], signal.SIGHUP)
        next_event(follower, "Configuration not reloaded, the old one stays in effect")
        assert statuses(status["url"], "/kv/absent", 6) == [404] * 5 + [429]
        follower.terminate()
        follower.communicate()
