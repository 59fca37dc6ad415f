"""The transports of a source's tracks: what SETUP offers, what the answer means, and the sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from polycast.errors import RemoteProtocolError
from polycast.protocols.pull import PullContext
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.protocols.rtsp.source_connection import ClientConnection
from polycast.protocols.rtsp.source_description import SourceTrack
from polycast.protocols.rtsp.source_ports import TrackPorts, open_group_pair, open_pair, open_pair_at
from polycast.rtp.rtcp import ReceiverReport, serialize_compound
from polycast.wire.rtsp.headers.key_mgmt import KEY_MANAGEMENT_ERROR
from polycast.wire.rtsp.headers.transport import Pair, Transport
from polycast.wire.rtsp.transport_answer import free_channels
from polycast.wire.rtsp.transport_choice import Protocol

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureStream

# Ports below are those of system services: no server sends media there.
FIRST_UNPRIVILEGED_PORT: Final = 1024


class SourceTransports:
    """The transports of all tracks of one session; they use the same protocol."""

    def __init__(
        self,
        context: PullContext,
        connection: ClientConnection,
        tracks: Sequence[SourceTrack],
        protocol: Protocol,
        make_ports: Callable[[int, tuple[object, object]], TrackPorts],
        *,
        is_encrypted: bool,
    ) -> None:
        """``make_ports`` returns what receives the datagrams of a track, by its index and two sockets.

        ``is_encrypted``: with RTSPS, datagrams are SRTP.
        """
        self._profile = "SAVP" if is_encrypted else "AVP"
        self.protocol = protocol
        self._context = context
        self._connection = connection
        self._tracks = tracks
        self._make_ports = make_ports
        self._ports: dict[int, TrackPorts] = {}
        self._announced_ports: dict[int, TrackPorts] = {}
        """Additional sockets, for a server that sends to other ports than requested."""
        self.channels: dict[int, Pair] = {}
        """The interleaved channels of RTP and RTCP, by track index."""

    @property
    def _buffer_size(self) -> int:
        """Bytes of a UDP socket's buffer in the system."""
        own = self._context.path_configuration.rtsp_udp_read_buffer_size
        return int(own or self._context.configuration[RtspConfiguration].udp_read_buffer_size)

    def offer(self, index: int) -> Transport:
        """Return the transport for SETUP of a track. Raises OSError if there are no free ports."""
        if self.protocol is Protocol.TCP:
            return Transport("TCP", delivery="unicast", interleaved=(2 * index, 2 * index + 1))
        if self.protocol is Protocol.MULTICAST:
            return Transport(profile=self._profile, delivery="multicast")
        sockets = open_pair(*self._context.path_configuration.rtsp_udp_source_port_range, self._buffer_size)
        self._ports[index] = self._make_ports(index, sockets)
        return Transport(profile=self._profile, delivery="unicast", client_port=self._ports[index].numbers)

    def secure(self, index: int, keys: SecureStream, server_key: str | None) -> None:
        """The track's packets are SRTP, after `agree`.

        ``keys``: ours, of one track. ``server_key``: the MIKEY message in base64 of the answer. Raises
        RemoteProtocolError (466) if the server has given no key that can be used.
        """
        message = server_key or self._tracks[index].key
        if message is None:
            raise RemoteProtocolError("the server gives no key for SRTP", KEY_MANAGEMENT_ERROR)
        for ports in (self._ports[index], self._announced_ports.get(index)):
            if ports is not None:
                ports.secure(keys, message)

    def agree(self, index: int, transport: Transport) -> None:
        """Apply the server's answer. Raises RemoteProtocolError if it cannot be used, or OSError."""
        if self.protocol is Protocol.TCP:
            used = set(chain.from_iterable(self.channels.values()))
            self.channels[index] = free_channels(transport.interleaved, (2 * index, 2 * index + 1), used)
        elif self.protocol is Protocol.MULTICAST:
            self._agree_multicast(index, transport)
        else:
            self._agree_unicast(index, transport)

    def _agree_unicast(self, index: int, transport: Transport) -> None:
        any_port = self._context.path_configuration.rtsp_any_port
        ports = transport.server_port
        if ports is None or ports[0] <= 1:  # some cameras send 0 or 1 for unknown ports
            if not any_port:
                raise RemoteProtocolError("server ports have not been provided")
            ports = None
        host = self._connection.remote_host
        if transport.source is not None and _is_address(transport.source):
            host = transport.source
        receiving = [self._ports[index], *self._open_told(index, transport.client_port)]
        for pair in receiving:
            pair.expect(host, None if any_port else ports)

    def _open_told(self, index: int, told: tuple[int, int] | None) -> list[TrackPorts]:
        """Also receive on the ports in the server's answer, if they are not the requested ones."""
        if told is None or told == self._ports[index].numbers or told[0] < FIRST_UNPRIVILEGED_PORT:
            return []
        try:
            sockets = open_pair_at(told, self._buffer_size)
        except OSError as error:
            self._context.log.warning("the server sends to ports %d-%d, which cannot be opened: %s", *told, error)
            return []
        self._announced_ports[index] = self._make_ports(index, sockets)
        return [self._announced_ports[index]]

    def _agree_multicast(self, index: int, transport: Transport) -> None:
        track = self._tracks[index]
        group = transport.destination or track.connection
        ports = transport.port or transport.client_port or ((track.port, track.port + 1) if track.port else None)
        if group is None or ports is None:
            raise RemoteProtocolError("the server tells no multicast address")
        sockets = open_group_pair(
            group,
            ports,
            self._connection.local_host,
            self._buffer_size,
        )
        self._ports[index] = self._make_ports(index, sockets)
        host = transport.source or self._connection.remote_host
        # A local server sends from the address of the interface that the group is routed to.
        self._ports[index].expect(None if _is_loopback(host) else host, None)

    def expect(self) -> None:
        """Prepare for media, once all tracks are set up: they may arrive before the answer to PLAY."""
        self._connection.expect_frames([*chain.from_iterable(self.channels.values())])
        self.punch()

    def punch(self) -> None:
        """Open the NATs between the server and our UDP ports."""
        if self.protocol is Protocol.UDP:
            report = serialize_compound([ReceiverReport(0, ())])
            for ports in self._ports.values():
                ports.punch(report)

    def send_report(self, index: int, report: bytes) -> None:
        """Send RTCP packets about a track; none over multicast."""
        if self.protocol is Protocol.TCP:
            self._connection.send_interleaved(self.channels[index][1], report)
        elif self.protocol is Protocol.UDP:
            self._ports[index].send_report(report)

    def close(self) -> None:
        """Close the sockets."""
        for ports in (*self._ports.values(), *self._announced_ports.values()):
            ports.close()


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "::1", "::ffff:127."))


def _is_address(text: str) -> bool:
    """Whether a text is an IP address, and not a name or a placeholder such as 0.0.0.0."""
    return text[:1].isdigit() and text != "0.0.0.0"
