"""The caller's side of the handshake (draft-sharabayko-srt-01 section 4.3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.conclusion import PeerConclusion, Terms, agree, build_request, read_response
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.handshake import (
    DATAGRAM_MODE,
    INDUCTION_VERSION,
    KEY_FIELD_UNIT,
    MAGIC,
    VERSION,
    ExtensionType,
    Handshake,
    HandshakeType,
    parse_handshake,
)
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.packet import HEADER, SEQUENCE_MASK, ControlType, build_control
from polycast.wire.srt.receiver import WINDOW
from polycast.wire.srt.rejection import FIRST_REJECTION, RejectedError, Rejection, refusal

REPEAT_SECONDS: Final = 0.25
"""Seconds after which an unanswered handshake is sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerOptions(Terms):
    """What a caller wants."""

    stream_id: str = ""
    flow_window: int = WINDOW


class _Phase(Enum):
    INDUCTION = auto()
    CONCLUSION = auto()
    DONE = auto()


class Caller:
    """Connects: feed it with datagrams and the time until it returns a connection or raises an error."""

    def __init__(
        self,
        options: CallerOptions,
        own_id: int,
        initial_sequence: int,
        now: float,
        keys: ConnectionKeys | None = None,
        key_message: bytes = b"",
        key_size: int = 0,
    ) -> None:
        """``key_message`` and ``key_size`` (bytes) describe ``keys`` to the peer; without them nothing is encrypted."""
        self._options = options
        self._own_id = own_id
        self._initial_sequence = initial_sequence & SEQUENCE_MASK
        self._started_at = now
        self._keys = keys
        self._key_message = key_message
        self._key_size = key_size
        self._phase = _Phase.INDUCTION
        self._cookie = 0
        self._next_try = now

    def next_timeout(self) -> float:
        """Return when `data_to_send` has something; infinity for never."""
        return math.inf if self._phase is _Phase.DONE else self._next_try

    def data_to_send(self, now: float) -> bytes | None:
        """Return the handshake if it is time to send it."""
        if now < self.next_timeout():
            return None
        self._next_try = now + REPEAT_SECONDS
        handshake = self._induction() if self._phase is _Phase.INDUCTION else self._conclusion()
        timestamp = int((now - self._started_at) * 1e6)
        return build_control(ControlType.HANDSHAKE, 0, timestamp, 0, handshake.build())

    def receive_data(self, packet: bytes, now: float) -> Connection | None:
        """Process a datagram of the listener. Return the connection once there is one.

        Raises RejectedError if the listener refuses, or answers in a way that is not supported.
        """
        try:
            handshake = parse_handshake(packet)
        except RemoteProtocolError:
            return None
        first, _, timestamp, destination = HEADER.unpack_from(packet)
        if first != 0x80000000 or destination != self._own_id:
            return None
        if handshake.kind >= FIRST_REJECTION:
            raise refusal(handshake.kind - FIRST_REJECTION)
        if self._phase is _Phase.INDUCTION and handshake.kind == HandshakeType.INDUCTION:
            self._on_induction(handshake, now)
        elif self._phase is _Phase.CONCLUSION and handshake.kind == HandshakeType.CONCLUSION:
            return self._on_conclusion(handshake, timestamp, now)
        return None

    def _induction(self) -> Handshake:
        return Handshake(
            version=INDUCTION_VERSION,
            extension_field=DATAGRAM_MODE,
            initial_sequence=self._initial_sequence,
            flow_window=self._options.flow_window,
            kind=HandshakeType.INDUCTION,
            socket_id=self._own_id,
        )

    def _conclusion(self) -> Handshake:
        flags, extensions = build_request(self._options, self._options.stream_id, self._key_message)
        return Handshake(
            encryption=self._key_size // KEY_FIELD_UNIT,
            extension_field=flags,
            initial_sequence=self._initial_sequence,
            flow_window=self._options.flow_window,
            kind=HandshakeType.CONCLUSION,
            socket_id=self._own_id,
            cookie=self._cookie,
            extensions=tuple(extensions),
        )

    def _on_induction(self, handshake: Handshake, now: float) -> None:
        if handshake.version < VERSION or handshake.extension_field != MAGIC:
            raise RejectedError(Rejection.VERSION, "the server does not speak SRT 1.3 or later")
        self._cookie = handshake.cookie
        self._phase = _Phase.CONCLUSION
        self._next_try = now

    def _on_conclusion(self, handshake: Handshake, timestamp: int, now: float) -> Connection:
        content = handshake.extension(ExtensionType.CAPABILITIES_RESPONSE)
        if handshake.version != VERSION or content is None:
            raise RejectedError(Rejection.ROGUE, "the server's handshake has no capabilities")
        capabilities = read_response(handshake, content, self._keys, self._key_message)
        self._phase = _Phase.DONE
        peer = PeerConclusion(handshake=handshake, capabilities=capabilities, arrival=now, timestamp=timestamp)
        parameters = agree(
            self._options,
            peer,
            own_id=self._own_id,
            started_at=self._started_at,
            send_sequence=self._initial_sequence,
            keys=self._keys,
        )
        return Connection(parameters, now)
