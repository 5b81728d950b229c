"""What clients send begins no header field of an answer and no line of the log."""

import json
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.process.daemon import Daemon
from tests.process.eventually import eventually

MARK = "forged"
LINE = '{"timestamp": "2000-01-01T00:00:00.000Z", "level": "error", "event": "forged"}'
ENDS = ["\r\n", "\n", "\r", "\x00", "\u2028", "\u0085", "\x1b[2J", "\x0b"]


def raw(daemon: Daemon, sent: bytes) -> bytes:
    """Everything that comes back until the node closes."""
    parts = urlsplit(daemon.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(sent)
        got = b""
        while chunk := connection.recv(65536):
            got += chunk
        return got


def quoted(text: str) -> bytes:
    return "".join(f"%{byte:02x}" for byte in text.encode()).encode()


def requests(end: str) -> list[bytes]:
    """Everywhere that a client's text could come back, or into the log."""
    forged = f"a{end}X-Forged: {MARK}{end}{end}{LINE}"
    field, word = forged.encode(), quoted(forged)
    close = b"Host: a\r\nConnection: close\r\n"
    put = b"Content-Length: 1\r\n\r\n1"
    return [
        b"GET /kv/%b HTTP/1.1\r\n%b\r\n" % (word, close),
        b"PUT /kv/%b HTTP/1.1\r\n%b%b" % (word, close, put),
        b"GET /%b HTTP/1.1\r\n%b\r\n" % (word, close),
        b"GET /kv/_range?cursor=%b HTTP/1.1\r\n%b\r\n" % (word, close),
        b"GET /kv/_range?%b=1 HTTP/1.1\r\n%b\r\n" % (word, close),
        b"GET /kv/a HTTP/1.1\r\n%bX-Request-ID: %b\r\n\r\n" % (close, field),
        b"GET /kv/a HTTP/1.1\r\n%bUser-Agent: %b\r\n\r\n" % (close, field),
        b"GET /kv/a HTTP/1.1\r\n%bIf-None-Match: %b\r\n\r\n" % (close, field),
        b"GET /kv/a HTTP/1.1\r\n%bAuthorization: Bearer %b\r\n\r\n" % (close, field),
        b"PUT /kv/a HTTP/1.1\r\n%bContent-Type: text/plain; x=%b\r\n%b" % (close, field, put),
        b"PUT /kv/a?ttl=%b HTTP/1.1\r\n%b%b" % (word, close, put),
        b"%b /kv/a HTTP/1.1\r\n%b\r\n" % (field, close),
        b"GET /merkle_tree/root HTTP/1.1\r\n%bX-Node-ID: %b\r\n\r\n" % (close, field),
    ]


def node(make_daemon: Callable[..., Daemon], log_format: str) -> Daemon:
    settings = {"log_level": "debug", "log_format": log_format, "clustering_enabled": True, "cluster_secret": "x" * 32}
    return make_daemon(settings=settings)


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_no_header_field_is_begun(make_daemon: Callable[..., Daemon], end: str) -> None:
    daemon = node(make_daemon, "json")
    daemon.start()
    for sent in requests(end):
        answer = raw(daemon, sent)
        head, _, _ = answer.partition(b"\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1, (sent, answer)
        assert b"x-forged" not in head.lower(), (sent, answer)
        assert not set(head.replace(b"\r\n", b"")) & set(b"\r\n\0\x0b\x1b"), (sent, answer)
    daemon.stop()
    lines = [json.loads(line) for line in daemon.log]
    assert {"Request"} <= {line["event"] for line in lines}
    assert not [line for line in lines if line["event"] == MARK or line["timestamp"].startswith("2000")]
    daemon.assert_no_traceback()


def test_no_line_is_begun_in_the_format_for_people(make_daemon: Callable[..., Daemon]) -> None:
    daemon = node(make_daemon, "json")
    daemon.start()
    url = daemon.url
    daemon.stop()
    daemon.configure({"log_format": "console", "port": urlsplit(url).port})
    daemon.begin()
    daemon.url = url
    assert eventually(lambda: any("Started" in line for line in daemon.log if not line.startswith("{")), 20)
    for end in ENDS:
        for sent in requests(end):
            raw(daemon, sent)
    daemon.stop()
    text = [line for line in daemon.log if not line.startswith("{")]
    assert any("Request" in line for line in text)
    for line in text:
        assert line[:2] == "20", line
        assert not line.startswith("2000")
        assert line.isprintable(), line
