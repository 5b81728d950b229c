"""Telling a service manager how the node is: the datagrams of sd_notify(3), which systemd and others understand."""

import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

_VARIABLE = "NOTIFY_SOCKET"


class Notifier:
    """Says nothing when nobody asked for it, and never fails: the node does not depend on who watches it."""

    def __init__(self, address: str) -> None:
        self._address = address

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> "Notifier":
        """From the environment, which is cleared of it: children of the daemon do not speak for it."""
        given = environ.pop(_VARIABLE, "")
        if given.startswith("@"):
            return cls("\0" + given[1:])  # in Linux's abstract namespace
        return cls(given if given.startswith("/") else "")

    def ready(self, url: str) -> None:
        self._send("READY=1", f"STATUS=serves {url}")

    def reloading(self) -> None:
        """`ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=answers what is under way")

    def failed(self, sentence: str) -> None:
        self._send(f"STATUS={sentence}")

    def _send(self, *fields: str) -> None:
        if not self._address:
            return
        lines = (" ".join(field.splitlines()) for field in fields)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(errors="backslashreplace"), self._address)
