"""Encrypted configuration files: base64 of a 24-byte nonce and a NaCl secretbox (XSalsa20-Poly1305)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from polycast.errors import ConfigurationError

KEY_SIZE: Final = 32  # bytes
NONCE_SIZE: Final = 24  # bytes
TAG_SIZE: Final = 16  # bytes

_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


def secretbox_key(key: str) -> bytes:
    """The key as rtsp-simple-server derives it from text: padded with zero bytes or truncated to 32 bytes."""
    return key.encode("utf-8", "surrogateescape")[:KEY_SIZE].ljust(KEY_SIZE, b"\x00")


def is_encrypted(content: bytes) -> bool:
    """Whether the content of a file may be encrypted: a single base64 string."""
    text = b"".join(content.split())
    return len(text) * 3 // 4 >= NONCE_SIZE + TAG_SIZE and _BASE64.fullmatch(text) is not None


def encrypt(plain: bytes, key: str, nonce: bytes | None = None) -> bytes:
    """Encrypt a configuration file. ``nonce`` (24 bytes) is random unless given, and must never be used twice."""
    from nacl.secret import SecretBox

    return base64.b64encode(bytes(SecretBox(secretbox_key(key)).encrypt(plain, nonce)))


def decrypt(encrypted: bytes, key: str) -> bytes:
    """Decrypt a configuration file; raises ConfigurationError ``decryption error`` for any failure."""
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        box = base64.b64decode(b"".join(encrypted.split()), validate=True)
        if len(box) < NONCE_SIZE + TAG_SIZE:
            raise ConfigurationError("decryption error")
        return bytes(SecretBox(secretbox_key(key)).decrypt(box))
    except (binascii.Error, CryptoError) as error:
        raise ConfigurationError("decryption error") from error
