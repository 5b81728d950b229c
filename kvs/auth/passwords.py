"""Passwords: argon2id (RFC 9106) at the parameters that its second recommendation names."""

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error
from argon2.profiles import RFC_9106_LOW_MEMORY

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)

_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$EoDyjEtiVyk3Hxuf+wteSA$FoNr1d5txsTKkbQBj/UVsY1KE5JL8E6hogQnYc5ce0A"
"""Made with the same parameters of a password that nobody uses; checked when there is no account or it has no password,
so that the answer takes as long."""


def hash_password(password: str) -> str:
    """The text to keep: parameters, salt and hash. Takes tens of milliseconds and 64 MiB."""
    return _hasher.hash(password)


def check_password(stored: str | None, password: str) -> bool:
    """Whether it is the password that `stored` was made from; never for None, after the same time."""
    try:
        return _hasher.verify(stored or _NOBODY, password) and stored is not None
    except (Argon2Error, ValueError):  # the latter: text that is not one of our hashes, or has no UTF-8
        return False
