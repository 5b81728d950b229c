"""HTTP to peers. One client session for each purpose, so that what a comparison moves never stands before a ping.

Binary bodies are msgpack, packed by zstd where that is worth it; a zstd frame begins with bytes that no message does.
"""

import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import aiohttp
import structlog
import zstandard

from kvs.errors import BadMessage
from kvs.limits import (
    MEMBERS_MAX,
    PEER_BODY_MAX_BYTES,
    PEER_CONNECT_TIMEOUT_S,
    PEER_PACK_MIN_BYTES,
    PEER_REFUSAL_MAX_BYTES,
)

log = structlog.get_logger()

Purpose = Literal["members", "push", "sync"]

SECRET_HEADER = "X-Cluster-Secret"  # noqa: S105
NODE_HEADER = "X-Node-ID"
MSGPACK = "application/vnd.msgpack"
JSON = "application/json"

_FRAME = b"\x28\xb5\x2f\xfd"
"""How every zstd frame begins (RFC 8878, 3.1.1)."""
_compressor = zstandard.ZstdCompressor(level=1)


class PeerUnreachable(Exception):
    """No answer. `refused`: the host is there, but nothing listens at the port."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class PeerRefused(Exception):
    """An answer that is a refusal, with the code and the detail of its problem document."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class Transport:
    """The client side of a node towards its peers. To be started on the loop that uses it."""

    def __init__(self, node_id: str, secret: str, tls: Callable[[], ssl.SSLContext | None]) -> None:
        """`tls`: what peers are asked with at the moment; None asks them by HTTP."""
        self._headers = {NODE_HEADER: node_id, SECRET_HEADER: secret}
        self._tls = tls
        self._distrusted: dict[str, str] = {}
        """Why TLS failed, by address; what was told is not told again with every ping."""
        self._sessions: dict[Purpose, aiohttp.ClientSession] = {}

    def start(self) -> None:
        purposes: tuple[Purpose, ...] = ("members", "push", "sync")
        for purpose in purposes:
            self._sessions[purpose] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, force_close=False),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )

    async def stop(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def call(
        self,
        purpose: Purpose,
        address: str,
        method: str,
        path: str,
        body: bytes,
        *,
        content_type: str = MSGPACK,
        timeout_s: float,
        answer_max_bytes: int = PEER_BODY_MAX_BYTES,
    ) -> bytes:
        """The body of the answer. Raises PeerUnreachable, PeerRefused."""
        session = self._sessions[purpose]
        if session.closed:  # aiohttp has no kind of error for that; in a stop some work ends behind this
            raise PeerUnreachable("this node is stopping")
        context = self._tls()
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, PEER_CONNECT_TIMEOUT_S))
        try:
            async with session.request(
                method,
                f"http://{address}{path}" if context is None else f"https://{address}{path}",
                data=body,
                headers={"Content-Type": content_type},
                timeout=timeout,
                allow_redirects=False,
                ssl=True if context is None else context,
            ) as response:
                answer = await _read(response, answer_max_bytes if response.status < 300 else PEER_REFUSAL_MAX_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._tell_of_distrust(address, error)
            refused = isinstance(getattr(error, "os_error", None), ConnectionRefusedError)
            raise PeerUnreachable(f"{type(error).__name__}: {error}", refused=refused) from None
        self._distrusted.pop(address, None)
        if response.status >= 300:
            raise _refusal(response.status, answer)
        return answer

    def _tell_of_distrust(self, address: str, error: Exception) -> None:
        """Either side may be the one that does not believe the other."""
        reason = _distrust(error)
        if not reason or self._distrusted.get(address) == reason:
            return
        if len(self._distrusted) >= MEMBERS_MAX:
            self._distrusted.clear()
        self._distrusted[address] = reason
        log.warning("A peer cannot be asked: TLS failed", address=address, reason=reason)


def _distrust(error: BaseException | None) -> str:
    """What TLS has against the other side, or it against this one; empty for all other failures. aiohttp's own errors
    are of the library's kinds without what belongs to them; that is found in what they come from."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and getattr(error, "reason", None):
            why = getattr(error, "verify_message", "")
            return f"{error.reason}: {why}" if why else str(error.reason)
        error = getattr(error, "certificate_error", None) or error.__cause__ or error.__context__
    return ""


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise aiohttp.ClientPayloadError(f"the answer is larger than {max_bytes} bytes")
    return bytes(body)


def _refusal(status: int, body: bytes) -> PeerRefused:
    with suppress(ValueError, AttributeError):
        problem = json.loads(body)
        return PeerRefused(status, str(problem.get("code", ""))[:100], str(problem.get("detail", ""))[:500])
    return PeerRefused(status, "", "")


def pack(body: bytes) -> bytes:
    """A message as it travels."""
    return _compressor.compress(body) if len(body) >= PEER_PACK_MIN_BYTES else body


def unpack(body: bytes) -> bytes:
    """A message as it was packed. Raises BadMessage when it does not unpack, or only into too much."""
    if not body.startswith(_FRAME):
        return body
    try:
        if zstandard.get_frame_parameters(body).content_size > PEER_BODY_MAX_BYTES:
            raise BadMessage("the message unpacks to more than is allowed")
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError:
        raise BadMessage("the message does not unpack") from None
