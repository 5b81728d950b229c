"""Web pages of other sites neither write to a node that asks for no token, nor read from one by a name of theirs."""

import socket
from pathlib import Path
from typing import Any

import pytest

from kvs.auth.principal import ANONYMOUS, EVERYBODY
from kvs.config import Config
from kvs.errors import Forbidden, Unauthorized
from kvs.server.access import OPEN, READ, WRITE
from kvs.server.authentication import OpenGate, TokenGate
from kvs.server.browsers import Browsers, browsers_of
from tests.gates import KEY, LOCAL, NOW, House, request


def config(**settings: Any) -> Config:
    return Config(data_dir=Path("/nowhere"), **settings)


def refused(browsers: Browsers, method: str = "POST", **headers: str) -> str:
    """The code of the refusal, if there is one."""
    fields = {name.replace("_", "-"): value for name, value in {"Host": "127.0.0.1:8080", **headers}.items()}
    try:
        browsers.check(request(method=method, headers=fields))
    except Forbidden as error:
        return error.code
    return ""


LOOPBACK = browsers_of(config())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.site"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "http://127.0.0.1:8080"},
    ],
)
@pytest.mark.parametrize("browsers", [LOOPBACK, Browsers(None)])
def test_a_page_of_another_site_does_not_write(browsers: Browsers, headers: dict[str, str], method: str) -> None:
    assert refused(browsers, method, **headers) == "foreign_origin"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8080"},
        {"Origin": "http://127.0.0.1:8080", "Sec_Fetch_Site": "same-origin"},
        {"Origin": "https://LOCALHOST", "Host": "localhost"},
        {"Sec_Fetch_Site": "none"},
    ],
)
def test_programs_and_pages_of_its_own_write(headers: dict[str, str]) -> None:
    assert refused(LOOPBACK, **headers) == ""


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_only_reads_is_left_to_the_browser_which_keeps_the_answer_from_the_page(method: str) -> None:
    assert refused(LOOPBACK, method, Origin="http://evil.site", Sec_Fetch_Site="cross-site") == ""


@pytest.mark.parametrize(
    "host", ["evil.site", "evil.site:8080", "localhost.evil.site", "127.0.0.1.evil.site:80", "127.0.0.1x"]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_name_that_was_led_to_the_loopback_address_is_not_answered(host: str, method: str) -> None:
    assert refused(LOOPBACK, method, Host=host, Origin=f"http://{host}") == "foreign_host"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]:8080",
        "[::1]",
        "localhost",
        "LocalHost:8080",
        "kvs.localhost.:80",
        "10.0.0.7:1",
        "node1:8080",
        "nas.local",
        "example.org:80",
        "kvs.test",
        socket.gethostname(),
        f"{socket.gethostname().upper()}:8080",
        "",
    ],
)
def test_addresses_and_names_of_the_host_are_answered(host: str) -> None:
    assert refused(LOOPBACK, "GET", Host=host) == ""


def test_the_name_that_a_node_gives_others_is_answered() -> None:
    named = browsers_of(config(advertise_address="kvs.domain.org:443"))
    assert refused(named, Host="KVS.example.org") == ""
    assert refused(named, Host="other.domain.org") == "foreign_host"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "node.domain.org"])
def test_a_node_on_a_network_is_called_what_its_users_like(address: str) -> None:
    assert refused(browsers_of(config(bind_address=address)), Host="kvs.domain.org") == ""


def test_requests_without_a_token_are_judged_and_those_with_one_are_not() -> None:
    stranger = {"Host": "127.0.0.1:8080", "Origin": "http://evil.site"}
    house = House("allow_anonymous_write")
    house.user()
    token = house.token(scopes=("write",)).token
    house.gate = TokenGate(house.store, [KEY], LOCAL, lambda: NOW, LOOPBACK, anonymous=["allow_anonymous_write"])
    assert house.gate.admit(request(method="PUT", headers={"Host": "localhost"}), WRITE) == ANONYMOUS
    assert house.gate.admit(request(f"Bearer {token}", method="PUT", headers=stranger), WRITE).user == "u"
    with pytest.raises(Forbidden):
        house.gate.admit(request(method="PUT", headers=stranger), WRITE)
    with pytest.raises(Unauthorized):
        house.gate.admit(request(headers={"Host": "evil.site"}), READ)
    with pytest.raises(Forbidden):
        OpenGate(LOOPBACK).admit(request(method="PUT", headers=stranger), WRITE)
    assert OpenGate(LOOPBACK).admit(request(headers={"Host": "evil.site"}), OPEN) is EVERYBODY
