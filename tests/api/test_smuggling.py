"""Requests whose end two readers could see in different places, written byte for byte.

What stands behind the doubtful end is itself a request that would write a key. It must never be carried out, and a
doubtful request gets one answer at most, which is a refusal that ends the connection.
"""

from collections.abc import Iterator

import pytest

from tests.api.client import Client
from tests.api.wire import Wire

NUL = b"\x00"
DOUBTFUL_LENGTHS = {
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "length zero and chunks": b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 0\r\n",
    "two lengths in one": b"Content-Length: 5, 0\r\n",
    "same length in one": b"Content-Length: 5,5\r\n",
    "plus": b"Content-Length: +5\r\n",
    "minus": b"Content-Length: -1\r\n",
    "minus zero": b"Content-Length: -0\r\n",
    "hexadecimal": b"Content-Length: 0x5\r\n",
    "underscore": b"Content-Length: 5_0\r\n",
    "words": b"Content-Length: 5 0\r\n",
    "empty": b"Content-Length: \r\n",
    "letters": b"Content-Length: five\r\n",
    "other digits": b"Content-Length: \xd9\xa5\r\n",
    "fraction": b"Content-Length: 5.0\r\n",
    "beyond 64 bits": b"Content-Length: 18446744073709551616\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n",
    "chunks not last": b"Transfer-Encoding: chunked, identity\r\n",
    "vertical tab": b"Transfer-Encoding: chunked\x0b\r\n",
    "folded coding": b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n",
    "kelvin sign": b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n",
    "space before colon": b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
    "space before colon of length": b"Content-Length : 5\r\n",
    "bare line feed": b"Content-Length: 5\nTransfer-Encoding: chunked\r\n",
    "bare carriage return": b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "NUL in a name": b"Content-Length" + NUL + b": 5\r\n",
    "NUL in a value": b"X: a" + NUL + b"b\r\n",
    "empty name": b": 5\r\n",
    "no colon": b"Content-Length 5\r\n",
    "bad name": b"Content(Length): 5\r\n",
    "non-ASCII name": b"\xc3\xa9: 5\r\n",
    "begins with a space": b" Content-Length: 5\r\n",
}
BAD_CHUNKS = {
    "hexadecimal prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"5_0\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "17 digits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "no digits": b"\r\nhello\r\n0\r\n\r\n",
    "letters": b"hello\r\n0\r\n\r\n",
    "space in front": b" 5\r\nhello\r\n0\r\n\r\n",
    "size too small": b"3\r\nhello\r\n0\r\n\r\n",
    "nothing behind the data": b"5\r\nhello0\r\n\r\n",
    "bare line feed": b"5\nhello\n0\n\n",
    "carriage return in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
}


@pytest.fixture
def smuggled(client: Client, key: str) -> Iterator[bytes]:
    """A request that writes a key; afterwards the key must not be there, and the node must be well."""
    yield b"PUT /kv/%b/smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1" % key.encode()
    assert client.get("/health").status == 200
    assert client.get(f"/kv/{key}/smuggled").status == 404


@pytest.mark.parametrize("fields", DOUBTFUL_LENGTHS.values(), ids=DOUBTFUL_LENGTHS)
def test_doubtful_lengths(client: Client, key: str, smuggled: bytes, fields: bytes) -> None:
    for body in (b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"):
        with Wire(client.address) as wire:
            wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (key.encode(), fields) + body + smuggled)
            (reply,) = wire.replies()
            assert (reply.status, reply.code) == (400, "malformed_request")
            assert reply.is_last
    assert client.get(f"/kv/{key}").status == 404


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_bad_chunks(client: Client, key: str, smuggled: bytes, chunks: bytes) -> None:
    head = b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Wire(client.address) as wire:
        wire.write(head % key.encode() + chunks + smuggled)
        (reply,) = wire.replies()
        assert reply.status == 400
    assert client.get(f"/kv/{key}").status == 404


def test_chunks_cannot_come_by_http_1_0(client: Client, key: str, smuggled: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(b"PUT /kv/%b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" % key.encode())
        wire.write(b"1\r\n1\r\n0\r\n\r\n" + smuggled)
        assert len(wire.replies()) <= 1


def test_a_folded_field_is_no_field_of_its_own(client: Client, key: str, smuggled: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 999\r\n" % key.encode())
        wire.write(b"Content-Length: 1\r\nConnection: close\r\n\r\n1" + smuggled)
        assert len(wire.replies()) == 1


def test_trailers_change_nothing(client: Client, key: str) -> None:
    with Wire(client.address) as wire:
        wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % key.encode())
        wire.write(b"1\r\n1\r\n0\r\nContent-Length: 99\r\nIf-Match: *\r\nX-Request-ID: trailer\r\n\r\n")
        wire.write(b"GET /kv/%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % key.encode())
        replies = wire.replies()
    assert [reply.status for reply in replies] in ([201, 200], [400])
    assert all(reply.headers["x-request-id"] != "trailer" for reply in replies)


def test_a_body_that_turns_out_wrong_is_refused_at_once_wherever_it_is_cut(client: Client, key: str) -> None:
    """Also when the end of a chunk wakes its reader together with the error, and when the reader has not begun."""
    head = b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % key.encode()
    sent = head + b"1\r\n1\r\n0\r\nContent-Length: 99\r\n\r\n"
    for cut in [*range(len(head), len(sent)), *[len(head)] * 50]:
        with Wire(client.address) as wire:
            wire.write(sent[:cut])
            if cut > len(head):
                client.get("/health")
            wire.write(sent[cut:])
            assert [reply.status for reply in wire.replies()] == [400], cut


def test_what_follows_a_close_is_not_answered(client: Client, key: str, smuggled: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(b"GET /kv/%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % key.encode() + smuggled)
        (reply,) = wire.replies()
        # Refused as a whole where it arrives in one piece.
        assert (reply.status, reply.is_last) in ((400, True), (404, True))


def test_what_follows_a_refused_body_is_not_read_as_a_request(client: Client, key: str, smuggled: bytes) -> None:
    """The refused body holds a request."""
    body = smuggled * 20_000
    assert len(body) > 1024 * 1024
    for framing in (b"Content-Length: %d\r\n\r\n" % len(body), b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body)):
        with Wire(client.address) as wire:
            wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\n%b" % (key.encode(), framing))
            wire.write(body)
            if b"chunked" in framing:
                wire.write(b"\r\n0\r\n\r\n")
            wire.write(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            statuses = [reply.status for reply in wire.replies()]
            assert statuses in ([413], [413, 200])


@pytest.mark.parametrize(
    "fields",
    [b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"],
    ids=["websocket", "h2c"],
)
def test_no_other_protocol_is_spoken(client: Client, key: str, smuggled: bytes, fields: bytes) -> None:
    """The request is answered as if it had not asked; what comes behind may be the other protocol already."""
    with Wire(client.address) as wire:
        wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\n%bContent-Length: 1\r\n\r\n1" % (key.encode(), fields))
        wire.write(smuggled)
        (reply,) = wire.replies()
        assert (reply.status, reply.is_last) == (201, True)
