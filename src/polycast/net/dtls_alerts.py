"""The end of a DTLS 1.2 connection whose handshake is over: close_notify in both directions (RFC 6347, RFC 5288).

WebRTC uses DTLS for the keys of SRTP only. Only one alert follows the handshake, and OpenSSL would keep 70 kB for it;
this module needs one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

RECORD_HEADER: Final = struct.Struct("!BHHHIH")
"""Content type, version, epoch, sequence number (16 and 32 bits), length (RFC 6347 section 4.3.1)."""
MAXIMUM_RECORDS: Final = 8
"""Records of one datagram that are read: a peer that closes the connection sends one or two."""

_ALERT: Final = 21
_VERSION: Final = 0xFEFD
_EPOCH: Final = 1
"""Epoch of the first keys; there are no others, since WebRTC forbids renegotiation (RFC 8827 section 6.5)."""
_SEQUENCE: Final = 1 << 16
"""Sequence number of the alert that is sent: above those of the handshake, however often it was repeated."""
_WARNING, _FATAL = 1, 2
_CLOSE_NOTIFY: Final = bytes((_WARNING, 0))
_ADDITIONAL: Final = struct.Struct("!HHIBHH")
"""The additional data of a record: epoch, sequence number, content type, version, length (RFC 5246 section
6.2.3.3)."""
_KEY_SIZE: Final = 16
_SALT_SIZE: Final = 4
_NONCE_SIZE: Final = 8
"""Bytes of the explicit part of a nonce, in front of the encrypted record (RFC 5288 section 3)."""


class Secrets(NamedTuple):
    """The secrets from which all keys of a connection are derived."""

    master: bytes
    client_random: bytes
    server_random: bytes


class DtlsAlerts:
    """Recognises and makes alerts of a connection that uses AES-128-GCM with SHA-256."""

    __slots__ = ("_keys", "_salts")

    def __init__(self, of: Secrets, *, is_client: bool) -> None:
        size = 2 * (_KEY_SIZE + _SALT_SIZE)
        block = _pseudorandom(of.master, b"key expansion" + of.server_random + of.client_random, size)
        client, server = block[:_KEY_SIZE], block[_KEY_SIZE : 2 * _KEY_SIZE]
        salts = block[2 * _KEY_SIZE :]
        client_salt, server_salt = salts[:_SALT_SIZE], salts[_SALT_SIZE:]
        # The keys of this side first.
        self._keys = (client, server) if is_client else (server, client)
        self._salts = (client_salt, server_salt) if is_client else (server_salt, client_salt)

    def ends(self, datagram: bytes) -> bool:
        """Return whether a datagram has an authentic alert that ends the connection: close_notify, or a fatal one."""
        return any(record == _CLOSE_NOTIFY or record[:1] == bytes((_FATAL,)) for record in self._alerts(datagram))

    def close_notify(self) -> bytes:
        """Return the record that ends the connection. Call it only once: its sequence number is always the same."""
        nonce = secrets.token_bytes(_NONCE_SIZE)
        additional = _ADDITIONAL.pack(_EPOCH, 0, _SEQUENCE, _ALERT, _VERSION, len(_CLOSE_NOTIFY))
        sealed = nonce + AESGCM(self._keys[0]).encrypt(self._salts[0] + nonce, _CLOSE_NOTIFY, additional)
        return RECORD_HEADER.pack(_ALERT, _VERSION, _EPOCH, 0, _SEQUENCE, len(sealed)) + sealed

    def _alerts(self, datagram: bytes) -> Iterator[bytes]:
        position = 0
        for _ in range(MAXIMUM_RECORDS):
            if position + RECORD_HEADER.size > len(datagram):
                return
            kind, version, epoch, high, low, size = RECORD_HEADER.unpack_from(datagram, position)
            position += RECORD_HEADER.size
            sealed = datagram[position : position + size]
            position += size
            if kind != _ALERT or epoch != _EPOCH or len(sealed) != size:
                continue
            nonce, sealed = sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:]
            length = len(sealed) - _KEY_SIZE  # the tag is as long as the key
            if length < 0:
                continue
            additional = _ADDITIONAL.pack(epoch, high, low, kind, version, length)
            try:
                yield AESGCM(self._keys[1]).decrypt(self._salts[1] + nonce, sealed, additional)
            except InvalidTag:
                continue


def _pseudorandom(secret: bytes, seed: bytes, size: int) -> bytes:
    """P_SHA256 of RFC 5246 section 5."""
    result, chain = b"", seed
    while len(result) < size:
        chain = hmac.digest(secret, chain, hashlib.sha256)
        result += hmac.digest(secret, chain + seed, hashlib.sha256)
    return result[:size]
