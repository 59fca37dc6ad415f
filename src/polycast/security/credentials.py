"""User and password: their forms in the configuration, how they are compared, and how HTTP and RTSP send them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

HASH_PREFIX: Final = "sha256:"
"""Prefix of a configured user or password that is given as the base64 of its SHA-256."""

ARGON2_PREFIX: Final = "argon2:"
"""Prefix of a configured user or password that is given as an argon2id or argon2i hash."""

MAXIMUM_BASIC: Final = 4 * 1024
"""Characters of Basic credentials: base64 of a user, a colon and a password."""

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


# The encoded form of the reference implementation (https://github.com/P-H-C/phc-winner-argon2), which PyNaCl reads.
_ARGON2: Final = re.compile(
    r"\$argon2(?:id|i)\$v=19\$m=[1-9][0-9]{0,9},t=[1-9][0-9]{0,9},p=[1-9][0-9]{0,7}\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}",
    re.ASCII,
)

# Bytes of the longest hash that PyNaCl reads.
_ARGON2_SIZE: Final = 127


def is_hashed(configured: str) -> bool:
    """Return whether a user or password of the configuration is a ``sha256:`` or ``argon2:`` one."""
    return configured.startswith((HASH_PREFIX, ARGON2_PREFIX))


def is_argon2(configured: str) -> bool:
    """Return whether a user or password of the configuration is an ``argon2:`` one."""
    return configured.startswith(ARGON2_PREFIX)


def is_argon2_text(text: str) -> bool:
    """Return whether a text, without the prefix, has the form of an argon2id or argon2i hash."""
    return len(text) <= _ARGON2_SIZE and _ARGON2.fullmatch(text) is not None


def secret_matches(configured: str, given: str) -> bool:
    """Compare a user or password of the configuration, plain or ``sha256:``, with a given one, in constant time.

    Always false for ``argon2:``, whose verification takes too long for it.
    """
    if is_argon2(configured):
        return False
    data = given.encode("utf-8", "surrogatepass")
    if is_hashed(configured):
        configured = configured.removeprefix(HASH_PREFIX)
        data = base64.b64encode(hashlib.sha256(data).digest())
    return hmac.compare_digest(configured.encode("utf-8", "surrogatepass"), data)


def parse_basic(authorization: str) -> tuple[str, str] | None:
    """Return (user, password) of an Authorization header with the Basic scheme (RFC 7617); None for another scheme.

    The text is UTF-8, or ISO 8859-1 if it is not valid UTF-8: RFC 7617 leaves it open, and clients differ. Raises
    ValueError for what is not a user, a colon and a password, without control characters.
    """
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    if len(token) > MAXIMUM_BASIC:
        raise ValueError("basic credentials are too long")
    try:
        data = base64.b64decode(token.strip(), validate=True)
    except ValueError:
        raise ValueError("basic credentials are not base64") from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    user, colon, password = text.partition(":")
    if not colon or _CONTROLS.search(text):
        raise ValueError("basic credentials are not a user, a colon and a password")
    return user, password
