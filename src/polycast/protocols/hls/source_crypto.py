"""Decryption of segments with METHOD=AES-128 (RFC 8216 section 5.2)."""

from __future__ import annotations

from typing import Final

from polycast.errors import missing_packages
from polycast.protocols.pull import PullError
from polycast.wire.hls.parsed import Key

KEY_SIZE: Final = 16
"""Bytes of a key, of an initialization vector, and of a block."""


def check_key(key: Key) -> str:
    """Return the address of a key. Raises PullError if the encryption is not supported."""
    if key.method != "AES-128":
        raise PullError(f"segments are encrypted with {key.method}, which is not supported")
    if key.key_format != "identity":
        raise PullError(f"segments are protected by {key.key_format[:100]!r}, which is not supported")
    if key.uri is None:
        raise PullError("an encryption key has no address")
    return key.uri


class Decryptor:
    """Decrypts one file, piece by piece. Raises PullError if the key is invalid."""

    def __init__(self, secret: bytes, key: Key, sequence: int) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        except ImportError:
            raise PullError(missing_packages("a stream with encrypted segments", "cryptography")) from None
        if len(secret) != KEY_SIZE:
            raise PullError(f"an encryption key has {len(secret)} bytes instead of {KEY_SIZE}")
        self._cipher = Cipher(algorithms.AES(secret), modes.CBC(_initialization_vector(key, sequence))).decryptor()
        self._size = 0
        self._last = b""
        """The data decrypted last, which may be padding."""

    def update(self, data: bytes) -> bytes:
        """Process the next bytes; return decrypted ones."""
        self._size += len(data)
        plain = self._last + self._cipher.update(data)
        self._last = plain[-KEY_SIZE:]
        return plain[:-KEY_SIZE]

    def finish(self) -> bytes:
        """Return the last decrypted bytes. Raises PullError if the file is incomplete or the key is wrong."""
        if not self._size or self._size % KEY_SIZE:
            raise PullError("an encrypted segment does not consist of whole blocks")
        plain = self._last + self._cipher.finalize()
        padding = plain[-1]  # RFC 5652 section 6.3
        if not 1 <= padding <= KEY_SIZE or plain[-padding:] != bytes((padding,)) * padding:
            raise PullError("a segment cannot be decrypted: wrong key")
        return plain[:-padding]


def decrypt(data: bytes, secret: bytes, key: Key, sequence: int) -> bytes:
    """Return the decrypted bytes of a whole file. Raises PullError."""
    decryptor = Decryptor(secret, key, sequence)
    return decryptor.update(data) + decryptor.finish()


def _initialization_vector(key: Key, sequence: int) -> bytes:
    text = key.initialization_vector
    if text is None:
        return sequence.to_bytes(KEY_SIZE, "big")
    try:
        if text[:2].lower() != "0x":
            raise ValueError
        return int(text, 16).to_bytes(KEY_SIZE, "big")
    except (ValueError, OverflowError):
        raise PullError(f"an initialization vector is not valid: {text[:100]!r}") from None
