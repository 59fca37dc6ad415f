"""The handshake of two sides that call each other (draft-sharabayko-srt-01 section 4.3.2).

Both wave until a packet of the other side arrives. The side with the larger cookie is the initiator, which sends the
request; the other one, the responder, answers it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.caller import REPEAT_SECONDS, CallerOptions
from polycast.wire.srt.conclusion import (
    Extensions,
    PeerConclusion,
    agree,
    build_request,
    build_response,
    read_response,
)
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.handshake import (
    KEY_FIELD_UNIT,
    VERSION,
    Capabilities,
    ExtensionFlag,
    ExtensionType,
    Handshake,
    HandshakeType,
    parse_handshake,
)
from polycast.wire.srt.key_material import KeyMaterial
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.negotiation import capabilities_of, check, key_material_of
from polycast.wire.srt.packet import HEADER, HEADER_SIZE, SEQUENCE_MASK, ControlType, build_control
from polycast.wire.srt.rejection import FIRST_REJECTION, RejectedError, Rejection, refusal

_SIGN: Final = 0x80000000


class _State(Enum):
    """The names are the draft's."""

    WAVING = auto()
    ATTENTION = auto()
    """The peer has waved."""
    FINE = auto()
    """The first packet of the peer was a conclusion: it had received this side's before it sent its own."""
    INITIATED = auto()
    """The responder has answered."""
    CONNECTED = auto()


class _Role(Enum):
    INITIATOR = auto()
    RESPONDER = auto()


class _Input(Enum):
    WAVE = auto()
    EMPTY = auto()
    """A conclusion without extensions."""
    REQUEST = auto()
    """A conclusion with the request."""
    RESPONSE = auto()
    """A conclusion with the response."""
    AGREEMENT = auto()
    """Or any other packet of a connection."""


_INITIATOR, _RESPONDER = _Role.INITIATOR, _Role.RESPONDER
_TRANSITIONS: Final = {
    (_State.WAVING, _INITIATOR, _Input.WAVE): _State.ATTENTION,
    (_State.WAVING, _INITIATOR, _Input.EMPTY): _State.FINE,
    (_State.ATTENTION, _INITIATOR, _Input.RESPONSE): _State.CONNECTED,
    (_State.FINE, _INITIATOR, _Input.RESPONSE): _State.CONNECTED,
    (_State.WAVING, _RESPONDER, _Input.WAVE): _State.ATTENTION,
    (_State.WAVING, _RESPONDER, _Input.REQUEST): _State.FINE,
    (_State.ATTENTION, _RESPONDER, _Input.REQUEST): _State.INITIATED,
    (_State.FINE, _RESPONDER, _Input.AGREEMENT): _State.CONNECTED,
    (_State.INITIATED, _RESPONDER, _Input.AGREEMENT): _State.CONNECTED,
}
"""Other inputs change nothing: the last packet is repeated."""


@dataclass(frozen=True, slots=True)
class RendezvousRequest:
    """The initiator's request. The answer is `Rendezvous.accept` or `Rendezvous.reject`."""

    key_material: KeyMaterial | None
    """None if it does not encrypt."""


class _Secrets(NamedTuple):
    """The keys of the initiator."""

    keys: ConnectionKeys | None
    message: bytes
    size: int
    """In bytes."""


@dataclass(slots=True)
class _Peer:
    """The known properties of the other side."""

    role: _Role | None = None
    """This side's own role."""
    handshake: Handshake | None = None
    """Its last one."""
    conclusion: PeerConclusion | None = None
    """Its request or response."""
    key_material: KeyMaterial | None = None


class Rendezvous:
    """Pass it the peer's datagrams and the time, until it returns a connection or raises an error."""

    def __init__(
        self,
        options: CallerOptions,
        own_id: int,
        initial_sequence: int,
        cookie: int,
        now: float,
        keys: ConnectionKeys | None = None,
        key_message: bytes = b"",
        key_size: int = 0,
    ) -> None:
        """``cookie``: 32 random bits. ``keys``, and the key material, are used if this side is the initiator."""
        self._options = options
        self._own_id = own_id
        self._initial_sequence = initial_sequence & SEQUENCE_MASK
        self._cookie = cookie
        self._started_at = now
        self._secrets = _Secrets(keys, key_message, key_size)
        self._state = _State.WAVING
        self._peer = _Peer()
        self._accepted: Connection | None = None
        """The responder's, from its answer on."""
        self._next_try = now

    def next_timeout(self) -> float:
        """Return when `data_to_send` has something; infinity for never."""
        return math.inf if self._state is _State.CONNECTED or self._is_asked else self._next_try

    @property
    def _is_asked(self) -> bool:
        """Whether the request waits for a decision."""
        return self._state in (_State.FINE, _State.INITIATED) and self._is_responder and self._accepted is None

    @property
    def _is_responder(self) -> bool:
        return self._peer.role is _RESPONDER

    def data_to_send(self, now: float) -> bytes | None:
        """Return the handshake if it is time to send it."""
        if now < self.next_timeout():
            return None
        self._next_try = now + REPEAT_SECONDS
        if self._state is _State.WAVING:
            return self._packet(HandshakeType.WAVE_A_HAND, now)
        if not self._is_responder:
            request = build_request(self._options, self._options.stream_id, self._secrets.message)
            return self._packet(HandshakeType.CONCLUSION, now, *request)
        if self._accepted is not None:
            return self._packet(HandshakeType.CONCLUSION, now, *self._response(self._accepted))
        return self._packet(HandshakeType.CONCLUSION, now)

    def receive_data(self, packet: bytes, now: float) -> Connection | RendezvousRequest | bytes | None:
        """Process a datagram of the peer: return the connection once there is one, or what it asks for, or an answer.

        Raises RejectedError if the peer refuses, or wants something that is not supported.
        """
        if len(packet) < HEADER_SIZE:
            return None
        first, _, timestamp, destination = HEADER.unpack_from(packet)
        if destination not in (0, self._own_id):
            return None
        if first != _SIGN:  # not a handshake: the peer is connected, and its agreement was lost
            return self._on_input(_Input.AGREEMENT, now) if destination else None
        try:
            handshake = parse_handshake(packet)
        except RemoteProtocolError:
            return None
        if self._state is _State.CONNECTED:  # the agreement was lost
            again = not self._is_responder and _input_of(handshake) is _Input.RESPONSE
            return self._packet(HandshakeType.AGREEMENT, now) if again else None
        if handshake.kind >= FIRST_REJECTION:
            raise refusal(handshake.kind - FIRST_REJECTION)
        found = _input_of(handshake)
        if found is None:
            return None
        if found is not _Input.AGREEMENT:  # which tells nothing else
            self._meet(handshake)
        asks = _Input.REQUEST if self._is_responder else _Input.RESPONSE
        if found is asks and self._peer.conclusion is None:
            capabilities = self._examine(handshake, found)
            self._peer.conclusion = PeerConclusion(
                handshake=handshake, capabilities=capabilities, arrival=now, timestamp=timestamp
            )
        return self._on_input(found, now)

    def _meet(self, handshake: Handshake) -> None:
        """Note who the peer is, and which role this side has."""
        if handshake.version != VERSION:
            raise RejectedError(Rejection.VERSION, "the peer does not speak SRT 1.3 or later")
        difference = (self._cookie - handshake.cookie) & 0xFFFFFFFF
        if not difference:
            raise RejectedError(Rejection.COOKIE, "both sides have the same cookie")
        known = self._peer.handshake
        if known is not None and (known.cookie, known.socket_id) != (handshake.cookie, handshake.socket_id):
            # The peer has started again. What the former one has said does not count for this one.
            self._state, self._peer, self._accepted = _State.WAVING, _Peer(), None
        self._peer.role = _RESPONDER if difference & _SIGN else _INITIATOR
        self._peer.handshake = handshake

    def _examine(self, handshake: Handshake, found: _Input) -> Capabilities:
        """Read the extensions of a conclusion; return the peer's capabilities."""
        if found is _Input.REQUEST:
            check(handshake)
            capabilities = capabilities_of(handshake)
            self._peer.key_material = key_material_of(handshake, capabilities)
            return capabilities
        content = handshake.extension(ExtensionType.CAPABILITIES_RESPONSE)
        assert content is not None
        return read_response(handshake, content, self._secrets.keys, self._secrets.message)

    def _on_input(self, found: _Input, now: float) -> Connection | RendezvousRequest | bytes | None:
        role = self._peer.role
        state = _TRANSITIONS.get((self._state, role, found)) if role is not None else None
        if state is None:
            self._next_try = now  # the peer has not received the last packet
            return None
        if state is _State.CONNECTED and self._is_responder and self._accepted is None:
            return None  # not decided yet
        self._state = state
        self._next_try = now
        if state is _State.CONNECTED:
            return self._accepted or self._connection(self._secrets.keys, now)
        return RendezvousRequest(self._peer.key_material) if self._is_asked else None

    # The responder's decision

    def accept(self, keys: ConnectionKeys | None, now: float) -> None:
        """Answer the request. The connection follows with the peer's agreement."""
        if self._is_asked:  # the peer has not started again
            self._accepted = self._connection(keys, now)
            self._next_try = now

    def reject(self, reason: Rejection, now: float) -> bytes:
        """Return the packet that refuses the request."""
        return self._packet(FIRST_REJECTION + reason, now)

    def agreement(self, now: float) -> bytes | None:
        """Return the agreement that the initiator sends once connected; None for the responder."""
        return None if self._is_responder else self._packet(HandshakeType.AGREEMENT, now)

    def _connection(self, keys: ConnectionKeys | None, now: float) -> Connection:
        peer = self._peer.conclusion
        assert peer is not None
        parameters = agree(
            self._options,
            peer,
            own_id=self._own_id,
            started_at=self._started_at,
            send_sequence=self._initial_sequence,
            keys=keys,
        )
        return Connection(parameters, now)

    # Packets

    def _response(self, connection: Connection) -> tuple[ExtensionFlag, Extensions]:
        peer = self._peer
        assert peer.conclusion is not None
        return build_response(connection.parameters, peer.conclusion.capabilities, peer.key_material)

    def _packet(
        self,
        kind: int,
        now: float,
        flags: int = 0,
        extensions: Extensions | None = None,
    ) -> bytes:
        handshake = self._peer.handshake
        body = Handshake(
            encryption=self._secrets.size // KEY_FIELD_UNIT,
            extension_field=flags,
            initial_sequence=self._initial_sequence,
            flow_window=self._options.flow_window,
            kind=kind,
            socket_id=self._own_id,
            cookie=self._cookie,
            extensions=tuple(extensions or ()),
        )
        destination = handshake.socket_id if handshake is not None else 0
        timestamp = int((now - self._started_at) * 1e6)
        return build_control(ControlType.HANDSHAKE, 0, timestamp, destination, body.build())


def _input_of(handshake: Handshake) -> _Input | None:
    if handshake.kind == HandshakeType.WAVE_A_HAND:
        return _Input.WAVE
    if handshake.kind == HandshakeType.AGREEMENT:
        return _Input.AGREEMENT
    if handshake.kind != HandshakeType.CONCLUSION:
        return None
    if handshake.extension(ExtensionType.CAPABILITIES_REQUEST) is not None:
        return _Input.REQUEST
    return _Input.RESPONSE if handshake.extension(ExtensionType.CAPABILITIES_RESPONSE) is not None else _Input.EMPTY
