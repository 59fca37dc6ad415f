"""An outgoing connection: checks the candidates of the other side from one UDP socket."""

from __future__ import annotations

import asyncio
import secrets

from polycast.errors import RemoteProtocolError
from polycast.hub.stats import CipherMeter
from polycast.net.address import plain_host
from polycast.net.udp import Address
from polycast.protocols.pull import PullError
from polycast.protocols.webrtc.media_socket import DatagramSocket
from polycast.protocols.webrtc.offer import Offer
from polycast.protocols.webrtc.peer import Peer, PeerOwner
from polycast.wire.webrtc.description import RemoteDescription
from polycast.wire.webrtc.ice import ControllingAgent, is_usable
from polycast.wire.webrtc.stun import is_stun, parse_message


class ClientPeer(Peer):
    """The side that made the offer. It is the controlling ICE agent; the answer determines the DTLS client."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        offer: Offer,
        answer: RemoteDescription,
        owner: PeerOwner,
    ) -> None:
        """Takes the socket of the offer. Raises PullError if the answer has no candidate to check."""
        if not any(map(is_usable, answer.candidates)):
            raise PullError("the server offers no UDP port for media")
        meter = CipherMeter()  # of its own: its time belongs to no server
        super().__init__(offer.identity, answer.fingerprint, owner, meter, is_dtls_client=answer.setup == "passive")
        self._loop = loop
        self._udp = DatagramSocket(loop, offer.take_socket(), self._on_datagram, self.end_of_read)
        self._ice = ControllingAgent(
            offer.credentials, answer.credentials, answer.candidates, loop.time(), secrets.token_bytes
        )
        self._timer: asyncio.TimerHandle | None = None
        self._run_ice()

    def has_expired(self, now: float) -> bool:
        return self._ice.has_failed or self._ice.has_expired(now)

    def close(self, reason: str) -> None:
        super().close(reason)
        if self._timer is not None:
            self._timer.cancel()
        self._udp.close()

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        now = self._loop.time()
        datagram = data[start:end]
        if is_stun(datagram):
            self._on_check(datagram, address, now)
        elif address == self.address:
            self.receive(datagram, now)

    def _on_check(self, datagram: bytes, address: Address, now: float) -> None:
        try:
            message = parse_message(datagram)
        except RemoteProtocolError:
            return
        self._ice.receive(message, (plain_host(address[0]), int(address[1])), now)
        self._run_ice()

    def _on_timer(self) -> None:
        self._timer = None
        self._ice.handle_timeout(self._loop.time())
        self._run_ice()

    def _run_ice(self) -> None:
        for data, (host, port) in self._ice.data_to_send():
            self._udp.send(data, self._udp.address(host, port))
        selected = self._ice.selected
        if selected is not None and not self.address:
            self.reach(self._udp, self._udp.address(*selected), self._loop.time())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._ice.next_timeout(), self._on_timer)
