"""The WebRTC connections of the server: found by the username fragment of the checks that their peers send."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.protocols.webrtc.peer import LitePeer
from polycast.wire.webrtc.ice import local_ufrag
from polycast.wire.webrtc.stun import Message, parse_message


class Peers:
    """The connections by their local username fragment."""

    def __init__(self) -> None:
        self._by_ufrag: dict[str, LitePeer] = {}

    def add(self, peer: LitePeer) -> None:
        """Add a connection."""
        self._by_ufrag[peer.ice.credentials.ufrag] = peer

    def rename(self, peer: LitePeer, old_ufrag: str) -> None:
        """Set the new username fragment of a connection after an ICE restart."""
        self._by_ufrag.pop(old_ufrag, None)
        self._by_ufrag[peer.ice.credentials.ufrag] = peer

    def remove(self, peer: LitePeer) -> None:
        """Remove a connection."""
        self._by_ufrag.pop(peer.ice.credentials.ufrag, None)

    def find(self, check: bytes) -> tuple[LitePeer, Message] | None:
        """Parse a STUN message and return the connection that it names; None if there is none, or it is invalid.

        Whether it is signed with the connection's password is not checked here.
        """
        try:
            message = parse_message(check)
        except RemoteProtocolError:
            return None
        peer = self._by_ufrag.get(local_ufrag(message))
        return (peer, message) if peer is not None else None
