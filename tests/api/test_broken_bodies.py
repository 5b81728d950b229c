"""Bodies that turn out not to be framed as their headers said, after the request was taken up."""

import json
import socket

import pytest

from tests.api.client import Client

_HEAD = b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


def answer(connection: socket.socket) -> tuple[bytes, dict[str, object]]:
    """The head of the one answer, and its document. The node closes the connection behind it."""
    data = b""
    while received := connection.recv(65_536):
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    return head, json.loads(body)


@pytest.mark.parametrize("rest", [b"zz\r\n", b"3\r\nabcdef\r\n", b"-1\r\n\r\n", b"\r\n\r\n"])
def test_a_broken_chunk_is_answered_at_once(client: Client, key: str, rest: bytes) -> None:
    with socket.create_connection(client.address, timeout=5) as connection:
        # `100 Continue` shows that the handler waits for the body: what follows finds the request under way.
        connection.sendall(_HEAD % key.encode() + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'2\r\n"a\r\n')
        connection.sendall(rest)
        head, document = answer(connection)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close" in head
    assert document["code"] == "malformed_body"
    assert client.send("GET", f"/kv/{key}").status == 404


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"deflate, chunked", b"chunked, chunked"])
def test_no_other_coding_of_the_transfer_is_taken(client: Client, key: str, coding: bytes) -> None:
    with socket.create_connection(client.address, timeout=5) as connection:
        connection.sendall(
            b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: %b\r\n"
            b"Connection: close\r\n\r\n1\r\na\r\n0\r\n\r\n" % (key.encode(), coding)
        )
        head, _ = answer(connection)
    assert head.startswith((b"HTTP/1.1 415 ", b"HTTP/1.1 400 "))
    assert client.send("GET", f"/kv/{key}").status == 404


def test_a_refusal_before_the_body_was_read_announces_the_close(client: Client, key: str) -> None:
    with socket.create_connection(client.address, timeout=5) as connection:
        connection.sendall(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" % key.encode())
        head, document = answer(connection)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close" in head
    assert document["code"] == "too_large"
