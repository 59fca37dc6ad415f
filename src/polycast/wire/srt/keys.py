"""The keys of a connection while it lasts: how packets are encrypted, and how keys change.

draft-sharabayko-srt-01 section 6.1.6. The two directions have the same key at first, and change theirs on their own.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.datagrams import Encryption
from polycast.wire.srt.key_material import PayloadMode, parse_key_material

if TYPE_CHECKING:
    from polycast.wire.srt.encryption import RandomBytes, SessionKeys

REFRESH_PACKETS: Final = 1 << 24
"""Packets that are encrypted with one key (section 6.1.6)."""
ANNOUNCEMENT_PACKETS: Final = 4096
"""How many packets earlier the next key is announced."""

_REPEAT_SECONDS: Final = 0.15
"""Seconds after which an announcement that was not answered is repeated."""
_NEW_SALT_SECONDS: Final = 10.0
"""Seconds between two messages of a peer with another salt: each costs a millisecond."""


class _State(Enum):
    STEADY = auto()
    ANNOUNCED = auto()
    CONFIRMED = auto()


class ConnectionKeys:
    """The keys of both directions."""

    def __init__(self, keys: SessionKeys, random_bytes: RandomBytes, refresh_packets: int = REFRESH_PACKETS) -> None:
        self._own = keys
        self._peer = keys.copy()
        self._random_bytes = random_bytes
        self._refresh_packets = refresh_packets
        self._announcement_packets = min(ANNOUNCEMENT_PACKETS, refresh_packets // 2)
        self._state = _State.STEADY
        self._sent = 0
        """Packets that were encrypted with the current key."""
        self._next_repeat = math.inf
        self._salt_allowed_at = -math.inf
        self._encryption = self._make_encryption()

    @property
    def mode(self) -> PayloadMode:
        """How both directions are encrypted."""
        return self._own.mode

    @property
    def encryption(self) -> Encryption:
        """How packets are encrypted now."""
        return self._encryption

    def decrypt(self, which: int, packet: bytes) -> bytes | None:
        """Return the payload of a received packet; None if its key is not known, or if it is not authentic."""
        cipher = self._peer.cipher(which)
        return cipher.decrypt(packet) if cipher is not None else None

    def on_request(self, message: bytes, now: float) -> bytes | None:
        """The peer announces a key. Return the answer, None for a message that is ignored."""
        try:
            material = parse_key_material(message)
            if not self._peer.has_salt_of(material):
                if now < self._salt_allowed_at:
                    return None
                self._salt_allowed_at = now + _NEW_SALT_SECONDS
            self._peer.update(material)
        except RemoteProtocolError:
            return None
        return message

    def on_response(self, message: bytes) -> None:
        """The peer has taken a key."""
        if self._state is _State.ANNOUNCED and message == self._own.message:
            self._state = _State.CONFIRMED
            self._next_repeat = math.inf

    def count_sent(self, packets: int) -> None:
        """Packets were encrypted; the key changes if it is time for that and the peer knows the next one."""
        self._sent += packets
        if self._state is _State.CONFIRMED and self._sent >= self._refresh_packets:
            self._own.switch()
            self._encryption = self._make_encryption()
            self._sent = 0
            self._state = _State.STEADY

    def announcement(self, now: float) -> bytes | None:
        """Return a message to send now: the next key, which the peer is to know before it is used."""
        if self._state is _State.STEADY and self._sent >= self._refresh_packets - self._announcement_packets:
            self._state = _State.ANNOUNCED
            self._own.announce(self._random_bytes)
        elif self._state is not _State.ANNOUNCED or now < self._next_repeat:
            return None
        self._next_repeat = now + _REPEAT_SECONDS
        return self._own.message

    def next_timeout(self) -> float:
        """Return when `announcement` has to be called; infinity for never."""
        return self._next_repeat if self._state is _State.ANNOUNCED else math.inf

    def _make_encryption(self) -> Encryption:
        cipher = self._own.cipher(self._own.current)
        assert cipher is not None
        return Encryption(self._own.current, cipher.tag_size, cipher.encrypt, cipher.encrypt_to)
