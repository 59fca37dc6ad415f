"""What both sides tell each other in the conclusion of the handshake, and what follows from it (draft-sharabayko-srt-01
section 4.3): the initiator, a caller for example, sends a request, and the responder a response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from polycast.wire.srt.connection import DEFAULT_IDLE_SECONDS, Parameters
from polycast.wire.srt.handshake import (
    OWN_CAPABILITIES,
    Capabilities,
    Capability,
    ExtensionFlag,
    ExtensionType,
    Handshake,
    build_text,
    parse_capabilities,
)
from polycast.wire.srt.key_material import KeyMaterial
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.negotiation import check_mode, window_of
from polycast.wire.srt.pacing import UNLIMITED
from polycast.wire.srt.rejection import Rejection, refusal

DEFAULT_DELAY: Final = 0.12
"""Seconds."""

Extensions = list[tuple[int, bytes]]
"""Types and contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one side wants."""

    receive_delay: float = DEFAULT_DELAY
    send_delay: float = DEFAULT_DELAY
    """Seconds from the arrival of a packet to its delivery, here and at the peer; the larger wish counts."""
    bandwidth: float = UNLIMITED
    """Bytes per second that are sent at most; see `Pace`."""
    idle_seconds: float = DEFAULT_IDLE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConclusion:
    """What the peer's request or response has told."""

    handshake: Handshake
    capabilities: Capabilities
    arrival: float
    timestamp: int
    """When its packet arrived, and the timestamp in it: the base of the delivery."""


def build_request(terms: Terms, stream_id: str, key_message: bytes) -> tuple[ExtensionFlag, Extensions]:
    """Return the extensions with which the initiator requests a connection, and the flags that announce them."""
    capabilities = Capabilities(OWN_CAPABILITIES, round(terms.receive_delay * 1000), round(terms.send_delay * 1000))
    extensions: Extensions = [(ExtensionType.CAPABILITIES_REQUEST.value, capabilities.build())]
    flags = ExtensionFlag.CAPABILITIES
    if key_message:
        extensions.append((ExtensionType.KEY_REQUEST.value, key_message))
        flags |= ExtensionFlag.KEY_MATERIAL
    if stream_id:
        extensions.append((ExtensionType.STREAM_ID.value, build_text(stream_id.encode())))
        flags |= ExtensionFlag.CONFIGURATION
    return flags, extensions


def build_response(
    parameters: Parameters, requested: Capabilities, key_material: KeyMaterial | None
) -> tuple[ExtensionFlag, Extensions]:
    """Return the extensions with which the responder accepts a request, and the flags that announce them."""
    capabilities = Capabilities(
        OWN_CAPABILITIES & requested.flags | Capability.TIMED_SENDER | Capability.TIMED_RECEIVER,
        round(parameters.receive_delay * 1000),
        round(parameters.send_delay * 1000),
    )
    extensions: Extensions = [(ExtensionType.CAPABILITIES_RESPONSE.value, capabilities.build())]
    flags = ExtensionFlag.CAPABILITIES
    if key_material is not None:
        extensions.append((ExtensionType.KEY_RESPONSE.value, key_material.build()))
        flags |= ExtensionFlag.KEY_MATERIAL
    return flags, extensions


def read_response(
    handshake: Handshake, content: bytes, keys: ConnectionKeys | None, key_message: bytes
) -> Capabilities:
    """Return the capabilities in ``content``, the extension of a handshake that answers the initiator's request.

    Raises RejectedError if the peer has not confirmed the keys, or cannot decrypt in their mode.
    """
    capabilities = parse_capabilities(content)
    if keys is not None:
        check_mode(keys.mode, capabilities)
        if handshake.extension(ExtensionType.KEY_RESPONSE) != key_message:
            raise refusal(Rejection.BAD_SECRET)
    return capabilities


def agree(
    terms: Terms,
    peer: PeerConclusion,
    *,
    own_id: int,
    started_at: float,
    send_sequence: int,
    keys: ConnectionKeys | None,
) -> Parameters:
    """Return the parameters of the connection: see `Parameters` for the arguments."""
    return Parameters(
        own_id=own_id,
        peer_id=peer.handshake.socket_id,
        started_at=started_at,
        send_sequence=send_sequence,
        receive_sequence=peer.handshake.initial_sequence,
        window=window_of(peer.handshake),
        receive_delay=max(terms.receive_delay, peer.capabilities.sender_delay / 1000),
        send_delay=max(terms.send_delay, peer.capabilities.receiver_delay / 1000),
        peer_arrival=peer.arrival,
        peer_timestamp=peer.timestamp,
        keys=keys,
        bandwidth=terms.bandwidth,
        idle_seconds=terms.idle_seconds,
    )
