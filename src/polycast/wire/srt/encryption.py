"""Encryption of payloads (draft-sharabayko-srt-01 section 6): AES in counter mode or GCM, and the change of keys.

This is the only module of the engine that needs the package ``cryptography``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.datagrams import Place
from polycast.wire.srt.key_material import BOTH, EVEN, ODD, SALT_SIZE, TAG_SIZE, KeyMaterial, PayloadMode
from polycast.wire.srt.packet import HEADER_SIZE, RETRANSMITTED

_ROUNDS: Final = 2048
"""Iterations of PBKDF2 (section 6.2.1): about a millisecond."""
_SALT_OF_PASSPHRASE: Final = 8
"""Bytes at the end of the salt with which the key of the keys is derived."""

_NONCE_SIZE: Final = 12
_RETRANSMITTED_IN_HEADER: Final = RETRANSMITTED << 64

RandomBytes = Callable[[int], bytes]


def derive_wrapping_key(passphrase: str, salt: bytes, key_size: int) -> bytes:
    """Return the key that encrypts the keys. Takes about a millisecond."""
    return hashlib.pbkdf2_hmac("sha1", passphrase.encode(), salt[-_SALT_OF_PASSPHRASE:], _ROUNDS, key_size)


class PayloadCipher(Protocol):
    """Encrypts and decrypts payloads with one key; `Encryption` explains the first two methods."""

    tag_size: int

    def __init__(self, key: bytes, salt: bytes) -> None: ...

    def encrypt(self, header: bytes, payload: memoryview) -> bytes: ...

    def encrypt_to(self, sequence: int, places: Sequence[Place]) -> None: ...

    def decrypt(self, packet: bytes) -> bytes | None:
        """Return the payload of a packet; None if it is not authentic."""


class CounterCipher:
    """AES in counter mode, without authentication."""

    tag_size = 0

    def __init__(self, key: bytes, salt: bytes) -> None:
        # The nonce: the first 14 bytes of the salt and the packet's number, then a counter of 16 bits (section 6.2.2).
        self._salt = int.from_bytes(salt[:14], "big") << 16
        self._context: CipherContext = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def encrypt(self, header: bytes, payload: bytes | memoryview) -> bytes:
        context = self._context
        context.reset_nonce((self._salt ^ int.from_bytes(header[:4], "big") << 16).to_bytes(16, "big"))
        return context.update(payload)

    def encrypt_to(self, sequence: int, places: Sequence[Place]) -> None:
        salt, reset_nonce, update_into = self._salt, self._context.reset_nonce, self._context.update_into
        for _, payload, output in places:
            reset_nonce((salt ^ sequence << 16).to_bytes(16, "big"))
            update_into(payload, output)
            sequence += 1

    def decrypt(self, packet: bytes) -> bytes | None:
        return self.encrypt(packet, memoryview(packet)[HEADER_SIZE:])


class AuthenticatedCipher:
    """AES-GCM as in libsrt from 1.5.4 on: the header is authenticated, too.

    The nonce: the first 12 bytes of the salt, the last 4 combined with the number of the packet (libsrt,
    ``haicrypt/hcrypt.h``); the draft does not have this mode yet.
    """

    tag_size = TAG_SIZE

    def __init__(self, key: bytes, salt: bytes) -> None:
        self._salt = int.from_bytes(salt[:_NONCE_SIZE], "big")
        self._cipher = AESGCM(key)

    def encrypt(self, header: bytes, payload: memoryview) -> bytes:
        return self._cipher.encrypt(self._nonce(header), payload, _authenticated(header))

    def encrypt_to(self, sequence: int, places: Sequence[Place]) -> None:
        salt, encrypt_into = self._salt, self._cipher.encrypt_into
        for header, payload, output in places:
            encrypt_into((salt ^ sequence).to_bytes(_NONCE_SIZE, "big"), payload, header, output)
            sequence += 1

    def decrypt(self, packet: bytes) -> bytes | None:
        try:
            return self._cipher.decrypt(
                self._nonce(packet), memoryview(packet)[HEADER_SIZE:], _authenticated(packet[:HEADER_SIZE])
            )
        except InvalidTag:
            return None

    def _nonce(self, packet: bytes) -> bytes:
        return (self._salt ^ int.from_bytes(packet[:4], "big")).to_bytes(_NONCE_SIZE, "big")


def _authenticated(header: bytes) -> bytes:
    """Return the additional authenticated data: the header without the retransmission flag."""
    return (int.from_bytes(header, "big") & ~_RETRANSMITTED_IN_HEADER).to_bytes(HEADER_SIZE, "big")


_CIPHERS: Final[dict[PayloadMode, type[PayloadCipher]]] = {
    PayloadMode.CTR: CounterCipher,
    PayloadMode.GCM: AuthenticatedCipher,
}


class SessionKeys:
    """The keys of one direction of a connection."""

    def __init__(self, passphrase: str, material: KeyMaterial) -> None:
        """Take the keys of a message. Raises RemoteProtocolError for a wrong passphrase. Takes about a millisecond."""
        self._passphrase = passphrase
        self._salt = material.salt
        self._key_size = material.key_size
        self._mode = material.mode
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
    def generate(
        cls, passphrase: str, key_size: int, random_bytes: RandomBytes, mode: PayloadMode = PayloadMode.CTR
    ) -> SessionKeys:
        """Return new random keys. Takes about two milliseconds."""
        salt = random_bytes(SALT_SIZE)
        wrapping_key = derive_wrapping_key(passphrase, salt, key_size)
        wrapped = aes_key_wrap(wrapping_key, random_bytes(key_size))
        return cls(passphrase, KeyMaterial(EVEN, key_size, salt, wrapped, mode))

    def copy(self) -> SessionKeys:
        """Return the same keys for the other direction."""
        other = copy.copy(self)
        other._keys = dict(self._keys)
        other._ciphers = dict(self._ciphers)
        return other

    @property
    def mode(self) -> PayloadMode:
        """How payloads are encrypted."""
        return self._mode

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
        if material.mode is not self._mode:
            raise RemoteProtocolError("the cipher has changed")
        wrapping_key = self._wrapping_key
        if not self.has_salt_of(material):
            wrapping_key = derive_wrapping_key(self._passphrase, material.salt, material.key_size)
        self._take(material, wrapping_key)

    def announce(self, random_bytes: RandomBytes) -> bytes:
        """Return a message with a new key beside the current one."""
        other = BOTH - self.current
        self._keys[other] = random_bytes(self._key_size)
        self._ciphers[other] = _CIPHERS[self._mode](self._keys[other], self._salt)
        wrapped = aes_key_wrap(self._wrapping_key, self._keys[EVEN] + self._keys[ODD])
        self.message = KeyMaterial(BOTH, self._key_size, self._salt, wrapped, self._mode).build()
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
                    self._ciphers[which] = _CIPHERS[self._mode](key, material.salt)
        self.message = material.build()
