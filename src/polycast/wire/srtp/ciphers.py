"""The ciphers of SRTP: AES-GCM (RFC 7714) and AES counter mode with HMAC-SHA1 (RFC 3711 section 4).

Both derive their nonce from one number, the *position* of a packet: its SSRC and its index, combined by `position_of`.
The position is the same for all receivers of a packet, so it is computed once; only the salt differs.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from polycast.wire.srtp.profiles import Profile, SessionKeys

_HMAC_BLOCK_SIZE: Final = 64
"""Bytes of a block of SHA-1 (RFC 2104)."""

Sealing = tuple[int, bytes, bytes, memoryview]
"""A packet to encrypt: (position, header, payload, destination of the encrypted payload and the tag)."""


def position_of(ssrc: int, index: int) -> int:
    """Return the position of a packet. ``index`` is the 48-bit packet index of SRTP or the 31-bit one of SRTCP."""
    return ssrc << 48 ^ index


class AuthenticationError(Exception):
    """The tag of a packet is wrong: it was modified, or encrypted with another key."""


class PacketCipher(Protocol):
    """Encrypts and decrypts packets with the keys of one direction and one protocol."""

    def seal_all(self, sealings: Iterable[Sealing]) -> None:
        """Encrypt RTP packets into their destinations."""

    def seal(self, position: int, header: bytes, payload: bytes) -> bytes:
        """Return the encrypted payload of an RTP packet, with its tag."""

    def open(self, position: int, header: bytes, sealed: bytes) -> bytes:
        """Return the payload of an RTP packet. Raises AuthenticationError."""

    def seal_control(self, position: int, header: bytes, trailer: bytes, body: bytes) -> bytes:
        """Return an SRTCP packet: everything from ``header`` to its end, including ``trailer`` and tag."""

    def open_control(self, position: int, packet: bytes) -> bytes:
        """Return the RTCP packet in an SRTCP packet. Raises AuthenticationError."""

    def control_trailer(self, packet: bytes) -> bytes:
        """Return the four bytes with the E flag and the index of an SRTCP packet; fewer if it is truncated."""


class GcmCipher:
    """AES-GCM with a tag of 16 bytes (RFC 7714)."""

    def __init__(self, keys: SessionKeys) -> None:
        self._gcm = AESGCM(keys.key)
        self._salt = int.from_bytes(keys.salt, "big")

    def seal_all(self, sealings: Iterable[Sealing]) -> None:
        encrypt_into = self._gcm.encrypt_into
        salt = self._salt
        for position, header, payload, place in sealings:
            encrypt_into((salt ^ position).to_bytes(12, "big"), payload, header, place)

    def seal(self, position: int, header: bytes, payload: bytes) -> bytes:
        return self._gcm.encrypt((self._salt ^ position).to_bytes(12, "big"), payload, header)

    def open(self, position: int, header: bytes, sealed: bytes) -> bytes:
        try:
            return self._gcm.decrypt((self._salt ^ position).to_bytes(12, "big"), sealed, header)
        except InvalidTag:
            raise AuthenticationError from None

    def seal_control(self, position: int, header: bytes, trailer: bytes, body: bytes) -> bytes:
        return header + self.seal(position, header + trailer, body) + trailer

    def open_control(self, position: int, packet: bytes) -> bytes:
        header = packet[:8]
        return header + self.open(position, header + packet[-4:], packet[8:-4])

    def control_trailer(self, packet: bytes) -> bytes:
        return packet[-4:]


class CounterModeCipher:
    """AES in counter mode, authenticated by the first 10 bytes of HMAC-SHA1 (RFC 3711 sections 4.1.1 and 4.2.1)."""

    def __init__(self, keys: SessionKeys, tag_size: int) -> None:
        self._salt = int.from_bytes(keys.salt, "big")
        self._tag_size = tag_size
        self._encryptor = Cipher(algorithms.AES(keys.key), modes.CTR(bytes(16))).encryptor()
        # HMAC with two hash states that are copied for each packet: half the time of a new HMAC object (RFC 2104).
        key = keys.authentication.ljust(_HMAC_BLOCK_SIZE, b"\0")
        self._inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha1(bytes(byte ^ 0x5C for byte in key))

    def seal_all(self, sealings: Iterable[Sealing]) -> None:
        for position, header, payload, place in sealings:
            place[:] = self.seal(position, header, payload)

    def seal(self, position: int, header: bytes, payload: bytes) -> bytes:
        encrypted = self._apply(position, payload)
        return encrypted + self._tag(header, encrypted, _roll_over_counter(position))

    def open(self, position: int, header: bytes, sealed: bytes) -> bytes:
        encrypted, tag = sealed[: -self._tag_size], sealed[-self._tag_size :]
        if not hmac.compare_digest(self._tag(header, encrypted, _roll_over_counter(position)), tag):
            raise AuthenticationError
        return self._apply(position, encrypted)

    def seal_control(self, position: int, header: bytes, trailer: bytes, body: bytes) -> bytes:
        encrypted = self._apply(position, body)
        return header + encrypted + trailer + self._tag(header, encrypted, trailer)

    def open_control(self, position: int, packet: bytes) -> bytes:
        end = len(packet) - self._tag_size
        header, encrypted, trailer = packet[:8], packet[8 : end - 4], packet[end - 4 : end]
        if not hmac.compare_digest(self._tag(header, encrypted, trailer), packet[end:]):
            raise AuthenticationError
        # Without the E flag, the packet is authenticated but not encrypted (RFC 3711 section 3.4).
        return header + (self._apply(position, encrypted) if trailer[0] & 0x80 else encrypted)

    def control_trailer(self, packet: bytes) -> bytes:
        end = len(packet) - self._tag_size
        return packet[max(0, end - 4) : max(0, end)]

    def _apply(self, position: int, data: bytes) -> bytes:
        encryptor = self._encryptor
        encryptor.reset_nonce(((self._salt ^ position) << 16).to_bytes(16, "big"))
        return encryptor.update(data)

    def _tag(self, header: bytes, encrypted: bytes, rest: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(header)
        inner.update(encrypted)
        inner.update(rest)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[: self._tag_size]


def make_cipher(profile: Profile, keys: SessionKeys) -> PacketCipher:
    """Return the cipher of a profile."""
    return GcmCipher(keys) if profile.is_aead else CounterModeCipher(keys, profile.tag_size)


def _roll_over_counter(position: int) -> bytes:
    """The upper 32 bits of the packet index, which HMAC covers after the packet (RFC 3711 section 4.2)."""
    return (position >> 16 & 0xFFFFFFFF).to_bytes(4, "big")
