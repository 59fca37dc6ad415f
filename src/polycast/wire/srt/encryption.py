"""Encryption of payloads (draft-sharabayko-srt-01 section 6): AES in counter mode, keys that change.

This is the only module of the engine that needs the package ``cryptography``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.key_material import BOTH, EVEN, ODD, SALT_SIZE, KeyMaterial

_ROUNDS: Final = 2048
"""Iterations of PBKDF2 (section 6.2.1): about a millisecond."""
_SALT_OF_PASSPHRASE: Final = 8
"""Bytes at the end of the salt with which the key of the keys is derived."""

RandomBytes = Callable[[int], bytes]


def derive_wrapping_key(passphrase: str, salt: bytes, key_size: int) -> bytes:
    """Return the key that encrypts the keys. Takes about a millisecond."""
    return hashlib.pbkdf2_hmac("sha1", passphrase.encode(), salt[-_SALT_OF_PASSPHRASE:], _ROUNDS, key_size)


class PayloadCipher:
    """Encrypts or decrypts payloads with one key; both are the same in counter mode."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        # The nonce: the first 14 bytes of the salt and the packet's number, then a counter of 16 bits (section 6.2.2).
        self._salt = int.from_bytes(salt[:14], "big") << 16
        self._context: CipherContext = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def apply(self, sequence: int, payload: bytes | memoryview) -> bytes:
        """Return the payload of the packet with this 31-bit sequence number."""
        context = self._context
        context.reset_nonce((self._salt ^ sequence << 16).to_bytes(16, "big"))
        return context.update(payload)

    def apply_to(self, sequence: int, places: Sequence[tuple[memoryview, memoryview]]) -> None:
        """Take the payloads of consecutive packets, and write the result of each to its place."""
        salt, reset_nonce, update_into = self._salt, self._context.reset_nonce, self._context.update_into
        for payload, place in places:
            reset_nonce((salt ^ sequence << 16).to_bytes(16, "big"))
            update_into(payload, place)
            sequence += 1


class SessionKeys:
    """The keys of one direction of a connection."""

    def __init__(self, passphrase: str, material: KeyMaterial) -> None:
        """Take the keys of a message. Raises RemoteProtocolError for a wrong passphrase. Takes about a millisecond."""
        self._passphrase = passphrase
        self._salt = material.salt
        self._key_size = material.key_size
        self._wrapping_key = derive_wrapping_key(passphrase, material.salt, material.key_size)
        self._keys: dict[int, bytes] = {}
        self._ciphers: dict[int, PayloadCipher] = {}
        self.current = EVEN
        """The key with which packets are encrypted."""
        self.message = b""
        """The last message, which its receiver repeats as the answer."""
        self._take(material, self._wrapping_key)
        self.current = EVEN if EVEN in self._ciphers else ODD

    @classmethod
    def generate(cls, passphrase: str, key_size: int, random_bytes: RandomBytes) -> SessionKeys:
        """Return new random keys. Takes about two milliseconds."""
        salt = random_bytes(SALT_SIZE)
        wrapping_key = derive_wrapping_key(passphrase, salt, key_size)
        wrapped = aes_key_wrap(wrapping_key, random_bytes(key_size))
        return cls(passphrase, KeyMaterial(EVEN, key_size, salt, wrapped))

    def copy(self) -> SessionKeys:
        """Return the same keys for the other direction."""
        other = copy.copy(self)
        other._keys = dict(self._keys)
        other._ciphers = dict(self._ciphers)
        return other

    @property
    def key_size(self) -> int:
        """Bytes."""
        return self._key_size

    def has_salt_of(self, material: KeyMaterial) -> bool:
        """Whether `update` will take no time, since the key of the keys stays."""
        return material.salt == self._salt and material.key_size == self._key_size

    def cipher(self, which: int) -> PayloadCipher | None:
        """Return the cipher of a key, `EVEN` or `ODD`; None if it is not known."""
        return self._ciphers.get(which)

    def update(self, material: KeyMaterial) -> None:
        """Take changed keys of the peer. Raises RemoteProtocolError if they are encrypted in another way."""
        wrapping_key = self._wrapping_key
        if not self.has_salt_of(material):
            wrapping_key = derive_wrapping_key(self._passphrase, material.salt, material.key_size)
        self._take(material, wrapping_key)

    def announce(self, random_bytes: RandomBytes) -> bytes:
        """Return a message with a new key beside the current one."""
        other = BOTH - self.current
        self._keys[other] = random_bytes(self._key_size)
        self._ciphers[other] = PayloadCipher(self._keys[other], self._salt)
        wrapped = aes_key_wrap(self._wrapping_key, self._keys[EVEN] + self._keys[ODD])
        self.message = KeyMaterial(BOTH, self._key_size, self._salt, wrapped).build()
        return self.message

    def switch(self) -> None:
        """Encrypt with the other key from now on."""
        self.current = BOTH - self.current

    def _take(self, material: KeyMaterial, wrapping_key: bytes) -> None:
        try:
            keys = aes_key_unwrap(wrapping_key, material.wrapped)
        except (InvalidUnwrap, ValueError):
            raise RemoteProtocolError("wrong passphrase") from None
        if not self.has_salt_of(material):
            self._ciphers.clear()
        self._salt, self._key_size, self._wrapping_key = material.salt, material.key_size, wrapping_key
        for which in (EVEN, ODD):
            if material.flags & which:
                key, keys = keys[: material.key_size], keys[material.key_size :]
                if self._keys.get(which) != key or which not in self._ciphers:
                    self._keys[which] = key
                    self._ciphers[which] = PayloadCipher(key, material.salt)
        self.message = material.build()
