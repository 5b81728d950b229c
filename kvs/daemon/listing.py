"""What is below a word on the command line, which names a key, a level of the hierarchy, or both."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvs.client import Client, Entry


def below(word: str) -> str:
    """The prefix of the keys below: `app` means `app/`, and never `apple`."""
    return word if not word or word.endswith("/") else f"{word}/"


def at(client: "Client", key: str) -> Iterator["Entry"]:
    """The key itself, if there is a value under it."""
    if key and not key.endswith("/"):
        for entry in client.list(key):
            if entry.path == key:
                yield entry
            return


def at_and_below(client: "Client", word: str) -> Iterator["Entry"]:
    """The key itself and all keys below it, in order."""
    yield from at(client, word)
    yield from client.walk(below(word))
