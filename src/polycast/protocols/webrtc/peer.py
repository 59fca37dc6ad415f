"""One WebRTC connection: ICE, DTLS and SRTP, between datagrams of the peer and RTP and RTCP packets."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Protocol

from polycast.errors import RemoteProtocolError
from polycast.hub.stats import CipherMeter
from polycast.net.dtls import DtlsConnection, DtlsError, DtlsIdentity, DtlsState
from polycast.net.udp import Address
from polycast.protocols.webrtc.media_socket import MediaSocket
from polycast.wire.srtp.profiles import EXPORTER_LABEL, profile_by_openssl_name, split_exported
from polycast.wire.srtp.session import SrtpReceiver, SrtpSender
from polycast.wire.webrtc.description import RemoteDescription
from polycast.wire.webrtc.ice import Credentials, LiteAgent
from polycast.wire.webrtc.stun import Message

MAXIMUM_SILENT_DATAGRAMS: Final = 64
"""DTLS datagrams accepted during the handshake; a handshake with retransmissions has a dozen."""

RECONNECT_SECONDS: Final = 10.0
"""Seconds for a peer whose TCP connection was lost to open another one; browsers try for five."""


class PeerState(Enum):
    """State of a connection. It only moves forward."""

    WAITING = auto()
    """For the first connectivity check."""
    HANDSHAKE = auto()
    """DTLS."""
    CONNECTED = auto()
    CLOSED = auto()


class PeerOwner(Protocol):
    """Callbacks of a connection."""

    def on_connected(self, now: float) -> None:
        """Media may flow."""

    def on_rtp(self, packet: bytes, now: float) -> None:
        """An RTP packet was received."""

    def on_rtcp(self, packet: bytes, now: float) -> None:
        """A compound RTCP packet was received."""

    def on_end_of_read(self) -> None:
        """All data of one wake-up of the socket has been delivered."""

    def on_internal_error(self) -> None:
        """Called while an unexpected exception is being handled: a bug, which ends only this connection."""

    def on_peer_closed(self, reason: str) -> None:
        """The connection has ended."""


class _Nobody(PeerOwner):
    """The owner of a connection that has ended."""

    def on_connected(self, now: float) -> None:
        return

    def on_rtp(self, packet: bytes, now: float) -> None:
        return

    def on_rtcp(self, packet: bytes, now: float) -> None:
        return

    def on_end_of_read(self) -> None:
        return

    def on_internal_error(self) -> None:
        return

    def on_peer_closed(self, reason: str) -> None:
        return


_NOBODY: Final = _Nobody()


class Peer:
    """DTLS and SRTP of a connection; subclasses implement ICE."""

    def __init__(
        self,
        identity: DtlsIdentity,
        fingerprint: tuple[str, bytes],
        owner: PeerOwner,
        meter: CipherMeter,
        *,
        is_dtls_client: bool,
    ) -> None:
        self._owner = owner
        self.cipher_meter = meter
        self._dtls = DtlsConnection(identity, fingerprint, is_client=is_dtls_client)
        self._handshake_datagrams = 0
        self.state = PeerState.WAITING
        self.socket: MediaSocket | None = None
        self.address: Address = ()
        """Address of the peer, in the form of the socket."""
        self.sender: SrtpSender | None = None
        """Set while connected."""
        self._receiver: SrtpReceiver | None = None
        self.weight = 1
        """Share of a TCP connection: see `net.budget`."""
        self.bytes_received = 0
        self.bytes_sent = 0

    @property
    def refused(self) -> int:
        """Number of replayed, forged or damaged SRTP packets."""
        return self._receiver.refused if self._receiver is not None else 0

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self.state is PeerState.CLOSED

    # Datagrams

    def receive(self, datagram: bytes, now: float) -> None:
        """Process a packet of the peer that is not STUN (RFC 7983)."""
        if not datagram:
            return
        try:
            if 128 <= datagram[0] <= 191:
                self.receive_media(datagram, now)
            elif 20 <= datagram[0] <= 63:
                self.receive_dtls(datagram, now)
        except Exception:
            self._on_internal_error()

    def receive_dtls(self, datagram: bytes, now: float) -> None:
        """Process a DTLS datagram."""
        if self.state is PeerState.HANDSHAKE:
            self._handshake_datagrams += 1
            if self._handshake_datagrams > MAXIMUM_SILENT_DATAGRAMS:
                self.close("the DTLS handshake does not end")
                return
        self._handshake(lambda: self._dtls.receive(datagram), now)
        if self._dtls.state is DtlsState.CLOSED:
            self.close("closed by the peer")

    def receive_media(self, datagram: bytes, now: float) -> None:
        """Process an SRTP or SRTCP packet, distinguished as in RFC 5761 section 4."""
        receiver = self._receiver
        if receiver is None or len(datagram) < 2:
            return
        self.bytes_received += len(datagram)
        if 192 <= datagram[1] <= 223:
            control = receiver.open_control(datagram)
            if control is not None:
                self._dtls.forget_handshake()  # the peer has the keys, so it never retransmits its last messages
                self._owner.on_rtcp(control, now)
            return
        packet = receiver.open(datagram)
        if packet is not None:
            self._owner.on_rtp(packet, now)

    def end_of_read(self) -> None:
        """Called after all data of one wake-up of the socket."""
        try:
            self._owner.on_end_of_read()
        except Exception:
            self._on_internal_error()

    # Sending

    def send_control(self, packet: bytes) -> None:
        """Send a compound RTCP packet."""
        if self.sender is not None:
            self._send(self.sender.protect_control(packet))

    def send_packet(self, header: bytes, payload: bytes, ssrc: int, index: int) -> None:
        """Send a single RTP packet; `Viewer` sends batches directly."""
        if self.sender is not None:
            self._send(self.sender.protect(header, payload, ssrc, index))

    def _send(self, data: bytes) -> None:
        if self.socket is not None:
            self.bytes_sent += len(data)
            self.socket.send(data, self.address)

    # Life

    def tick(self, now: float) -> None:
        """Called several times a second during the handshake, then about once: timeouts."""
        if self.state is PeerState.CLOSED:
            return
        if self.has_expired(now):
            self.close("the peer no longer answers")
        elif self.state is PeerState.HANDSHAKE and self._dtls.next_timeout() == 0:
            self._handshake(self._dtls.handle_timeout, now)

    def has_expired(self, now: float) -> bool:
        """Return whether the peer is gone, according to ICE."""
        raise NotImplementedError

    def reach(self, socket: MediaSocket, address: Address, now: float) -> None:
        """Use an address that ICE has selected; the first one starts the handshake."""
        self.socket, self.address = socket, address
        if self.state is PeerState.WAITING:
            self.state = PeerState.HANDSHAKE
            self._handshake(self._dtls.start, now)

    def close(self, reason: str) -> None:
        """End the connection, and tell the peer if possible."""
        if self.state is PeerState.CLOSED:
            return
        self.state = PeerState.CLOSED
        self._dtls.close()
        self._flush()
        self.sender = self._receiver = None
        owner, self._owner = self._owner, _NOBODY  # it refers to the peer
        owner.on_peer_closed(reason)

    def _on_internal_error(self) -> None:
        """The exception that is being handled must not disturb other connections on the same socket."""
        self._owner.on_internal_error()
        self.close("internal error")

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
    """The server's side of a connection: the peer sends the connectivity checks."""

    def __init__(
        self,
        identity: DtlsIdentity,
        remote: RemoteDescription,
        credentials: Credentials,
        owner: PeerOwner,
        meter: CipherMeter,
        now: float,
    ) -> None:
        # If the peer offers to be passive, this side starts the handshake (RFC 8842 section 5.2).
        super().__init__(identity, remote.fingerprint, owner, meter, is_dtls_client=remote.setup == "passive")
        self.ice = LiteAgent(credentials, now)
        self._lost_at: float | None = None
        """When the TCP connection was lost; None while there is a connection, or UDP."""
        self._lost_reason = ""

    def receive_check(
        self, message: Message, source: tuple[str, int], address: Address, socket: MediaSocket, now: float
    ) -> bool:
        """Process a STUN message from ``source`` (socket address ``address``); return whether it was a valid check.

        Nothing is ever sent to an address without a valid check, which only the peer can send.
        """
        answer = self.ice.answer(message, source, now)
        if answer is None or self.state is PeerState.CLOSED:
            return False
        socket.send(answer, address)
        if self.ice.selected == source:
            self.reach(socket, address, now)
        return not self.is_closed

    def reach(self, socket: MediaSocket, address: Address, now: float) -> None:
        self._lost_at = None
        super().reach(socket, address, now)

    def lose(self, socket: MediaSocket, reason: str, now: float) -> None:
        """A TCP connection was lost. If it was in use, the peer has some seconds to open another one."""
        if self.socket is socket:
            self.socket = None
            self._lost_at, self._lost_reason = now, reason

    def tick(self, now: float) -> None:
        if self._lost_at is not None and now - self._lost_at >= RECONNECT_SECONDS:
            self.close(self._lost_reason)
        super().tick(now)

    def has_expired(self, now: float) -> bool:
        return self.ice.has_expired(now)


class _Step(Protocol):
    def __call__(self) -> None: ...
