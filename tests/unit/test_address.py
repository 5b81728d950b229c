"""What may be connected to, and what leads back to this host."""

import pytest

from kvs.cluster.address import is_address, is_loopback


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:8080",
        "127.0.0.1:1",
        "node-1.example:65535",
        "node_1:80",
        "localhost:8080",
        "[::1]:8080",
        "[2001:db8::1]:8080",
        "1.node:80",
        "a1:80",
        "0xabc.example:80",
    ],
)
def test_addresses(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10.0.0.1",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:080808",
        "10.0.0.1:-1",
        "10.0.0.1:８０",
        ":8080",
        "http://10.0.0.1:8080",
        "10.0.0.1:8080/path",
        "10.0.0.1:8080?x",
        "user@10.0.0.1:8080",
        "10.0.0.1:80:80",
        "::1:8080",
        "[10.0.0.1]:8080",
        "[node]:8080",
        "[::1%eth0]:8080",
        "[::1]",
        "a b:80",
        "a\n:80",
        "a%0a:80",
        "-a:80",
        "127.1:80",
        "2130706433:80",
        "0x7f000001:80",
        "0x7f.1:80",
        "1.2.3.4.5:80",
        "256.0.0.1:80",
        "0.0.0.0:80",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "255.255.255.255:80",
        "ö.example:80",
        "a" * 254 + ":80",
    ],
)
def test_what_is_no_address(address: str) -> None:
    assert not is_address(address)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_loopback(host: str, *, expected: bool) -> None:
    assert is_loopback(host) == expected
