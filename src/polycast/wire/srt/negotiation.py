"""Checks what both sides of a handshake have to agree on (draft-sharabayko-srt-01 section 3.2.1)."""

from __future__ import annotations

from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.handshake import (
    AUTHENTICATED_VERSION,
    LIVE_CAPABILITIES,
    MINIMUM_SRT_VERSION,
    VERSION,
    Capabilities,
    Capability,
    ExtensionFlag,
    ExtensionType,
    Handshake,
    parse_capabilities,
    parse_text,
)
from polycast.wire.srt.key_material import KeyMaterial, PayloadMode, UnknownCipherError, parse_key_material
from polycast.wire.srt.rejection import RejectedError, Rejection

_MAXIMUM_WINDOW: Final = 25_600
"""Packets in flight to a peer, at most, whatever its flow window."""
_LIVE: Final = b"live"
_KNOWN_FLAGS: Final = ExtensionFlag.CAPABILITIES | ExtensionFlag.KEY_MATERIAL | ExtensionFlag.CONFIGURATION
_ENCRYPTION_FIELDS: Final = (0, 2, 3, 4)


def check(handshake: Handshake) -> None:
    """Raise RejectedError if a conclusion requests something that is not supported."""
    if handshake.version != VERSION:
        raise RejectedError(Rejection.VERSION, f"handshakes of version {handshake.version} are not supported")
    flags = handshake.extension_field
    if not flags & ExtensionFlag.CAPABILITIES or flags & ~int(_KNOWN_FLAGS):
        raise RejectedError(Rejection.ROGUE, "the extension field of the handshake is invalid")
    if handshake.encryption not in _ENCRYPTION_FIELDS:
        raise RejectedError(Rejection.ROGUE, "the encryption field of the handshake is invalid")
    if not handshake.socket_id:
        raise RejectedError(Rejection.ROGUE, "the socket id of the handshake is invalid")
    congestion = handshake.extension(ExtensionType.CONGESTION)
    if congestion is not None and parse_text(congestion) != _LIVE:
        raise RejectedError(Rejection.CONGESTION, "only live congestion control is supported")
    if handshake.extension(ExtensionType.FILTER) is not None:
        raise RejectedError(Rejection.FILTER, "packet filters are not supported")
    if handshake.extension(ExtensionType.GROUP) is not None:
        raise RejectedError(Rejection.GROUP, "groups of connections are not supported")


def capabilities_of(handshake: Handshake) -> Capabilities:
    """Return the capabilities of a peer that asks for a connection. Raises RejectedError."""
    content = handshake.extension(ExtensionType.CAPABILITIES_REQUEST)
    if content is None:
        raise RejectedError(Rejection.ROGUE, "the handshake has no capabilities")
    capabilities = parse_capabilities(content)
    if capabilities.version < MINIMUM_SRT_VERSION:
        raise RejectedError(Rejection.VERSION, "SRT before 1.3 is not supported")
    if capabilities.flags & Capability.STREAM:
        raise RejectedError(Rejection.MESSAGE_API, "file transmission is not supported")
    if LIVE_CAPABILITIES & ~capabilities.flags:
        raise RejectedError(Rejection.ROGUE, "the peer lacks a capability of live transmission")
    return capabilities


def stream_id_of(handshake: Handshake) -> str:
    """Return the stream id, empty if there is none. Raises RejectedError."""
    content = handshake.extension(ExtensionType.STREAM_ID)
    try:
        return parse_text(content).decode() if content is not None else ""
    except (UnicodeDecodeError, RemoteProtocolError):
        raise RejectedError(Rejection.BAD_REQUEST, "the stream id is invalid") from None


def key_material_of(handshake: Handshake, capabilities: Capabilities) -> KeyMaterial | None:
    """Return the keys that the peer sends; None if it does not encrypt. Raises RejectedError."""
    content = handshake.extension(ExtensionType.KEY_REQUEST)
    if content is None:
        return None
    try:
        material = parse_key_material(content)
    except UnknownCipherError as error:
        raise RejectedError(Rejection.CRYPTO, str(error)) from None
    except RemoteProtocolError as error:
        raise RejectedError(Rejection.ROGUE, str(error)) from None
    check_mode(material.mode, capabilities)
    return material


def check_mode(mode: PayloadMode, capabilities: Capabilities) -> None:
    """Raise RejectedError if the peer's version of a mode is not compatible."""
    if mode is PayloadMode.GCM and capabilities.version < AUTHENTICATED_VERSION:
        raise RejectedError(Rejection.CRYPTO, "AES-GCM of versions before 1.5.4 repeats nonces, and is not supported")


def window_of(handshake: Handshake) -> int:
    """Return how many packets may be in flight to a peer."""
    return max(2, min(handshake.flow_window, _MAXIMUM_WINDOW))
