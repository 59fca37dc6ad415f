"""One WebRTC connection: ICE, DTLS and SRTP between datagrams of its peer and packets of RTP and RTCP."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Protocol

from polycast.errors import RemoteProtocolError
from polycast.net.dtls import DtlsConnection, DtlsError, DtlsIdentity, DtlsState
from polycast.net.udp import Address
from polycast.wire.webrtc.description import RemoteDescription
from polycast.wire.webrtc.ice import Credentials, LiteAgent
from polycast.wire.webrtc.srtp import SrtpReceiver, SrtpSender
from polycast.wire.webrtc.srtp_profiles import EXPORTER_LABEL, profile_by_openssl_name, split_exported
from polycast.wire.webrtc.stun import Message

MAXIMUM_SILENT_DATAGRAMS: Final = 64
"""DTLS datagrams that are taken before the handshake is over; a handshake with retransmissions has a dozen."""


class PeerState(Enum):
    """Life of a connection. It only ever goes forward."""

    WAITING = auto()
    """For the first connectivity check."""
    HANDSHAKE = auto()
    """DTLS."""
    CONNECTED = auto()
    CLOSED = auto()


class PeerOwner(Protocol):
    """What a connection tells."""

    def on_connected(self, now: float) -> None:
        """Media may flow."""

    def on_rtp(self, packet: bytes, now: float) -> None:
        """An RTP packet was received."""

    def on_rtcp(self, packet: bytes, now: float) -> None:
        """A compound RTCP packet was received."""

    def on_end_of_read(self) -> None:
        """What one wake-up of the socket brought has been handed over."""

    def on_peer_closed(self, reason: str) -> None:
        """The connection has ended."""


class MediaSocket(Protocol):
    """The UDP port, or the TCP connection, over which the peer is reached."""

    def send(self, data: bytes, address: Address) -> None: ...
    def send_segments(self, data: bytes | memoryview, segment_size: int, address: Address) -> None: ...


class Peer:
    """DTLS and SRTP of a connection; how the peer is reached is the business of subclasses."""

    def __init__(
        self, identity: DtlsIdentity, fingerprint: tuple[str, bytes], owner: PeerOwner, *, is_dtls_client: bool
    ) -> None:
        self._owner = owner
        self._dtls = DtlsConnection(identity, fingerprint, is_client=is_dtls_client)
        self._handshake_datagrams = 0
        self.state = PeerState.WAITING
        self.socket: MediaSocket | None = None
        self.address: Address = ()
        """Where the peer is, in the form of the socket."""
        self.sender: SrtpSender | None = None
        """There while connected."""
        self._receiver: SrtpReceiver | None = None
        self.bytes_received = 0
        self.bytes_sent = 0

    @property
    def refused(self) -> int:
        """SRTP packets that were replayed, forged or damaged."""
        return self._receiver.refused if self._receiver is not None else 0

    # Datagrams

    def receive_dtls(self, datagram: bytes, now: float) -> None:
        """Take a DTLS datagram."""
        if self.state is PeerState.HANDSHAKE:
            self._handshake_datagrams += 1
            if self._handshake_datagrams > MAXIMUM_SILENT_DATAGRAMS:
                self.close("the DTLS handshake does not end")
                return
        self._handshake(lambda: self._dtls.receive(datagram), now)
        if self._dtls.state is DtlsState.CLOSED:
            self.close("closed by the peer")

    def receive_media(self, datagram: bytes, now: float) -> None:
        """Take an SRTP or SRTCP packet (RFC 5761 section 4 tells which it is)."""
        receiver = self._receiver
        if receiver is None or len(datagram) < 2:
            return
        self.bytes_received += len(datagram)
        if 192 <= datagram[1] <= 223:
            control = receiver.open_control(datagram)
            if control is not None:
                self._owner.on_rtcp(control, now)
            return
        packet = receiver.open(datagram)
        if packet is not None:
            self._owner.on_rtp(packet, now)

    def end_of_read(self) -> None:
        """Say that what one wake-up of the socket brought has been received."""
        self._owner.on_end_of_read()

    # Sending

    def send_control(self, packet: bytes) -> None:
        """Send a compound RTCP packet."""
        if self.sender is not None:
            self._send(self.sender.protect_control(packet))

    def send_packet(self, header: bytes, payload: bytes, ssrc: int, index: int) -> None:
        """Send a single RTP packet; batches go their own way (`Viewer`)."""
        if self.sender is not None:
            self._send(self.sender.protect(header, payload, ssrc, index))

    def _send(self, data: bytes) -> None:
        if self.socket is not None:
            self.bytes_sent += len(data)
            self.socket.send(data, self.address)

    # Life

    def tick(self, now: float) -> None:
        """Called several times a second during the handshake, then about once: time-outs."""
        if self.state is PeerState.CLOSED:
            return
        if self.has_expired(now):
            self.close("the peer does not answer any more")
        elif self.state is PeerState.HANDSHAKE and self._dtls.next_timeout() == 0:
            self._handshake(self._dtls.handle_timeout, now)

    def has_expired(self, now: float) -> bool:
        """Return whether the peer is gone, by ICE."""
        raise NotImplementedError

    def reach(self, socket: MediaSocket, address: Address, now: float) -> None:
        """Use an address that ICE has found; the first one begins the handshake."""
        self.socket, self.address = socket, address
        if self.state is PeerState.WAITING:
            self.state = PeerState.HANDSHAKE
            self._handshake(self._dtls.start, now)

    def close(self, reason: str) -> None:
        """End the connection, and tell the peer where it can be told."""
        if self.state is PeerState.CLOSED:
            return
        self.state = PeerState.CLOSED
        self._dtls.close()
        self._flush()
        self.sender = self._receiver = None
        self._owner.on_peer_closed(reason)

    def _handshake(self, step: _Step, now: float) -> None:
        try:
            step()
        except DtlsError as error:
            self._flush()
            self.close(str(error))
            return
        self._flush()
        if self.state is PeerState.HANDSHAKE and self._dtls.state is DtlsState.ESTABLISHED:
            try:
                self._use_keys()
            except RemoteProtocolError as error:
                self.close(str(error))
                return
            self.state = PeerState.CONNECTED
            self._owner.on_connected(now)

    def _use_keys(self) -> None:
        keys = self._dtls.srtp_keys()
        profile = profile_by_openssl_name(keys.profile)
        client, server = split_exported(profile, self._dtls.export(EXPORTER_LABEL, profile.exported_size))
        ours, theirs = (client, server) if keys.is_client else (server, client)
        self.sender = SrtpSender(profile, ours)
        self._receiver = SrtpReceiver(profile, theirs)

    def _flush(self) -> None:
        for datagram in self._dtls.data_to_send():
            self._send(datagram)


class LitePeer(Peer):
    """The server's side of a connection: its peer looks for a way to it."""

    def __init__(
        self, identity: DtlsIdentity, remote: RemoteDescription, credentials: Credentials, owner: PeerOwner, now: float
    ) -> None:
        # Who offers to be passive leaves the first step to us (RFC 8842 section 5.2).
        super().__init__(identity, remote.fingerprint, owner, is_dtls_client=remote.setup == "passive")
        self.ice = LiteAgent(credentials, now)

    def receive_check(
        self, message: Message, source: tuple[str, int], address: Address, socket: MediaSocket, now: float
    ) -> bool:
        """Take a STUN message from ``source``, which is ``address`` to the socket; return whether it was a valid check.

        Nothing is ever sent to an address from which no check has come that only our peer can make.
        """
        answer = self.ice.answer(message, source, now)
        if answer is None or self.state is PeerState.CLOSED:
            return False
        socket.send(answer, address)
        if self.ice.selected == source:
            self.reach(socket, address, now)
        return self.ice.selected == source

    def has_expired(self, now: float) -> bool:
        return self.ice.has_expired(now)


class _Step(Protocol):
    def __call__(self) -> None: ...
