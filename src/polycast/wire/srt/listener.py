"""The listener's side of the handshake (draft-sharabayko-srt-01 section 4.3.1).

It keeps nothing of a caller before that has proved, with the cookie, that it receives what is sent to its address.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.conclusion import PeerConclusion, Terms, agree, build_response
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.handshake import (
    MAGIC,
    Handshake,
    HandshakeType,
    build_address,
    parse_handshake,
)
from polycast.wire.srt.key_material import KeyMaterial
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.negotiation import capabilities_of, check, key_material_of, stream_id_of
from polycast.wire.srt.packet import HEADER, ControlType, build_control
from polycast.wire.srt.receiver import WINDOW
from polycast.wire.srt.rejection import FIRST_REJECTION, RejectedError, Rejection

_COOKIE_SECONDS: Final = 60
"""Seconds that a cookie is valid, or twice as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRequest(PeerConclusion):
    """What a caller with a valid cookie asks for."""

    host: str
    stream_id: str
    key_material: KeyMaterial | None
    """None if it does not encrypt."""

    @property
    def socket_id(self) -> int:
        """The caller's."""
        return self.handshake.socket_id

    def reject(self, reason: Rejection) -> bytes:
        """Return the packet that refuses."""
        return _rejection(self.handshake, reason)

    def accept(self, own_id: int, terms: Terms, keys: ConnectionKeys | None, now: float) -> Connection:
        """Return the connection. The caller has to be told: see `answer`."""
        parameters = agree(
            terms, self, own_id=own_id, started_at=now, send_sequence=self.handshake.initial_sequence, keys=keys
        )
        return Connection(parameters, now)

    def answer(self, connection: Connection, now: float) -> bytes:
        """Return the packet that accepts. To be sent again if the caller repeats its request."""
        flags, extensions = build_response(connection.parameters, self.capabilities, self.key_material)
        handshake = Handshake(
            encryption=self.handshake.encryption,
            extension_field=flags,
            initial_sequence=self.handshake.initial_sequence,
            flow_window=WINDOW,
            kind=HandshakeType.CONCLUSION,
            socket_id=connection.parameters.own_id,
            address=build_address(self.host),
            extensions=tuple(extensions),
        )
        return build_control(ControlType.HANDSHAKE, 0, connection.timestamp(now), self.socket_id, handshake.build())


class Listener:
    """Answers the handshakes of callers."""

    def __init__(self, secret: bytes) -> None:
        """``secret``: 16 random bytes or more, for the cookies."""
        self._secret = secret

    def receive_data(self, packet: bytes, host: str, port: int, now: float) -> bytes | ConnectionRequest | None:
        """Process a datagram without a destination. Return an answer, a request to decide on, or None."""
        try:
            return self._receive(packet, host, port, now)
        except RejectedError as error:
            return _rejection(parse_handshake(packet), error.reason)
        except RemoteProtocolError:
            return None

    def _receive(self, packet: bytes, host: str, port: int, now: float) -> bytes | ConnectionRequest | None:
        handshake = parse_handshake(packet)
        if HEADER.unpack_from(packet)[0] != 0x80000000:
            return None
        if handshake.kind == HandshakeType.INDUCTION:
            return self._answer_induction(handshake, host, port, now)
        cookies = (self._cookie(host, port, now), self._cookie(host, port, now - _COOKIE_SECONDS))
        if handshake.kind != HandshakeType.CONCLUSION or handshake.cookie not in cookies:
            return None  # nobody who could be told
        check(handshake)
        capabilities = capabilities_of(handshake)
        material = key_material_of(handshake, capabilities)
        return ConnectionRequest(
            host=host,
            stream_id=stream_id_of(handshake),
            key_material=material,
            handshake=handshake,
            capabilities=capabilities,
            arrival=now,
            timestamp=HEADER.unpack_from(packet)[2],
        )

    def _answer_induction(self, handshake: Handshake, host: str, port: int, now: float) -> bytes:
        answer = Handshake(
            extension_field=MAGIC,
            initial_sequence=handshake.initial_sequence,
            flow_window=handshake.flow_window,
            kind=HandshakeType.INDUCTION,
            socket_id=handshake.socket_id,
            cookie=self._cookie(host, port, now),
            address=build_address(host),
        )
        return build_control(ControlType.HANDSHAKE, 0, 0, handshake.socket_id, answer.build())

    def _cookie(self, host: str, port: int, now: float) -> int:
        text = f"{host} {port} {int(now) // _COOKIE_SECONDS}".encode()
        return int.from_bytes(hashlib.blake2s(text, key=self._secret, digest_size=4).digest(), "big")


def _rejection(handshake: Handshake, reason: Rejection) -> bytes:
    answer = Handshake(
        initial_sequence=handshake.initial_sequence,
        flow_window=handshake.flow_window,
        kind=FIRST_REJECTION + reason,
        socket_id=handshake.socket_id,
        cookie=handshake.cookie,
    )
    return build_control(ControlType.HANDSHAKE, 0, 0, handshake.socket_id, answer.build())
