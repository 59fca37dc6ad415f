"""An offer to a WHIP or WHEP server, and its answer."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.net.dtls import DtlsIdentity
from polycast.net.interfaces import interface_addresses
from polycast.net.listen import open_udp_socket
from polycast.protocols.pull import PullError
from polycast.protocols.webrtc.signalling_client import SignallingClient
from polycast.wire.srtp.profiles import PROFILES
from polycast.wire.webrtc.candidates import REFLEXIVE, Candidate, host_priority, reflexive_priority
from polycast.wire.webrtc.description import RemoteDescription, parse_description
from polycast.wire.webrtc.ice import make_credentials
from polycast.wire.webrtc.local_description import LocalDescription, LocalMedia
from polycast.wire.webrtc.stun import SocketAddress

_REFLEXIVE_FOUNDATION: Final = "2"

BUFFER_SIZE: Final = 4 * 1024 * 1024
"""Bytes of the socket's buffers."""


class Offer:
    """The offer of one connection, with its own certificate, ICE credentials and UDP socket."""

    def __init__(self, medias: Sequence[LocalMedia], cname: str = "") -> None:
        """Raises OSError if no socket can be opened."""
        self._socket: socket.socket | None = open_udp_socket("", 0, BUFFER_SIZE, BUFFER_SIZE)
        self.identity = DtlsIdentity(":".join(profile.openssl_name for profile in PROFILES))
        self.credentials = make_credentials(secrets.token_bytes)
        self._medias = medias
        self.reflexive: Sequence[SocketAddress] = ()
        """The public addresses of the socket, as far as they are known."""
        self._cname = cname

    async def send(self, client: SignallingClient) -> RemoteDescription:
        """Send the offer and return the answer. Raises PullError."""
        description = LocalDescription(
            session_id=secrets.randbits(62),
            credentials=self.credentials,
            fingerprint=self.identity.fingerprint,
            setup="actpass",
            medias=self._medias,
            candidates=self._candidates(),
            is_ice_lite=False,
            cname=self._cname,
        )
        body = await client.offer(description.serialize())
        try:
            return parse_description(body)
        except RemoteProtocolError as error:
            raise PullError(f"invalid answer: {error}") from error

    @property
    def bound(self) -> socket.socket:
        """The UDP socket, which stays that of the offer."""
        if self._socket is None:
            raise ValueError("the socket is taken already")
        return self._socket

    def take_socket(self) -> socket.socket:
        """Return the socket, which belongs to the caller from now on."""
        taken, self._socket = self._socket, None
        if taken is None:
            raise ValueError("the socket is taken already")
        return taken

    def close(self) -> None:
        """Close the socket if nobody has taken it."""
        if self._socket is not None:
            self._socket.close()

    def _candidates(self) -> list[Candidate]:
        """Return the candidates of this machine. Some servers need one, though it is this side that sends the
        checks."""
        port = int(self._socket.getsockname()[1]) if self._socket is not None else 0
        return [
            *(
                Candidate(address, port, priority=host_priority(order))
                for order, address in enumerate(interface_addresses())
            ),
            *(
                Candidate(
                    address,
                    mapped,
                    type=REFLEXIVE,
                    priority=reflexive_priority(order),
                    foundation=_REFLEXIVE_FOUNDATION,
                    hides_base=True,
                )
                for order, (address, mapped) in enumerate(self.reflexive)
            ),
        ]
