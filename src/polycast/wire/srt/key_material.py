"""Key material messages (draft-sharabayko-srt-01 section 3.2.2): the keys of a connection, encrypted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from polycast.errors import RemoteProtocolError

EVEN: Final = 1
ODD: Final = 2
BOTH: Final = 3
KEY_SIZES: Final = (16, 24, 32)
SALT_SIZE: Final = 16
_WRAP_OVERHEAD: Final = 8
"""Bytes by which a wrapped key is longer (RFC 3394)."""

MINIMUM_PASSPHRASE: Final = 10
MAXIMUM_PASSPHRASE: Final = 79
"""Characters of a passphrase; implementations refuse others."""

_HEADER: Final = Struct("!BHBIBBBBHBB")
_VERSION_AND_TYPE: Final = 0x12
"""Version 1, packet type 2: key material."""
_SIGNATURE: Final = 0x2029
TAG_SIZE: Final = 16
"""Bytes that authenticate a payload that was encrypted with AES-GCM."""
_TRANSPORT_STREAM_OVER_SRT: Final = 2


class PayloadMode(IntEnum):
    """How payloads are encrypted with AES; the values are the numbers in messages."""

    CTR = 2
    GCM = 4


_AUTHENTICATION: Final = {PayloadMode.CTR: 0, PayloadMode.GCM: 1}


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The content of a message."""

    flags: int
    """Which keys it has: `EVEN`, `ODD` or `BOTH`."""
    key_size: int
    salt: bytes
    wrapped: bytes
    """The keys, the even one first, wrapped with one that is derived from the passphrase."""
    mode: PayloadMode = PayloadMode.CTR

    def build(self) -> bytes:
        """Return the message."""
        header = _HEADER.pack(
            _VERSION_AND_TYPE,
            _SIGNATURE,
            self.flags,
            0,
            self.mode,
            _AUTHENTICATION[self.mode],
            _TRANSPORT_STREAM_OVER_SRT,
            0,
            0,
            SALT_SIZE // 4,
            self.key_size // 4,
        )
        return header + self.salt + self.wrapped


class UnknownCipherError(RemoteProtocolError):
    """The peer encrypts in a way that does not exist here."""


def parse_key_material(message: bytes) -> KeyMaterial:
    """Return the content of a message.

    Raises RemoteProtocolError; UnknownCipherError if it is neither AES-CTR nor AES-GCM.
    """
    if len(message) < _HEADER.size:
        raise RemoteProtocolError("a key material message is too short")
    kind, signature, flags, _, cipher, authentication, _, _, _, salt_words, key_words = _HEADER.unpack_from(message)
    if kind != _VERSION_AND_TYPE or signature != _SIGNATURE:
        raise RemoteProtocolError("a key material message is invalid")
    mode = next((mode for mode in PayloadMode if (mode, _AUTHENTICATION[mode]) == (cipher, authentication)), None)
    if mode is None:
        raise UnknownCipherError("the cipher is neither AES-CTR nor AES-GCM")
    key_size, salt_size = key_words * 4, salt_words * 4
    if key_size not in KEY_SIZES or salt_size != SALT_SIZE or not 0 < flags & BOTH == flags:
        raise RemoteProtocolError("a key material message has invalid sizes")
    start = _HEADER.size + SALT_SIZE
    count = 2 if flags == BOTH else 1
    wrapped = message[start : start + _WRAP_OVERHEAD + count * key_size]
    if len(wrapped) != _WRAP_OVERHEAD + count * key_size:
        raise RemoteProtocolError("a key material message is truncated")
    return KeyMaterial(flags, key_size, message[_HEADER.size : start], wrapped, mode)
