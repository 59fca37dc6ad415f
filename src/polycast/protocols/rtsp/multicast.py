"""The multicast groups of a server: their addresses, and the stream of each group."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from polycast.errors import RemoteProtocolError
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.net.listen import open_udp_socket
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.rtsp.media_ports import SEND_BUFFER_SIZE
from polycast.protocols.rtsp.readers import MulticastGroup

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureStreams

# Time to live of multicast packets: they stay within the site. The same as in rtsp-simple-server.
MULTICAST_TTL = 16


class MulticastGroups:
    """The groups in use, one per stream with multicast readers."""

    def __init__(self, allocator: MulticastAllocator, secure: SecureStreams | None = None) -> None:
        """``secure``: with it, the groups get SRTP."""
        self._allocator = allocator
        self._secure = secure
        self._groups: dict[Stream, MulticastGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def find(self, stream: Stream) -> MulticastGroup | None:
        """Return the group of a stream, if there is one."""
        return self._groups.get(stream)

    def join(self, stream: Stream, session: object, local_host: str) -> MulticastGroup:
        """Return the group of a stream, created for its first reader.

        Raises RemoteProtocolError (461) if none is available, so that the client tries another transport.
        """
        group = self._groups.get(stream)
        if group is None:
            try:
                make = MulticastGroup if self._secure is None else partial(self._secure.make_group, stream)
                group = self._allocator.open([track.index for track in stream.tracks], local_host, make)
            except OSError as error:
                raise RemoteProtocolError(f"multicast is not possible now: {error}", 461) from error
            self._groups[stream] = group
        group.sessions.add(session)
        return group

    def leave(self, session: object) -> None:
        """Remove a session from its group; the last one closes it."""
        for stream, group in list(self._groups.items()):
            group.sessions.discard(session)
            if not group.sessions:
                del self._groups[stream]
                self._allocator.close(group)


class MulticastAllocator:
    """Assigns addresses of the configured range to multicast streams."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        network: str,
        ports: tuple[int, int],
        log: Log,
        dump_prefix: Callable[[], str] = str,
    ) -> None:
        """``dump_prefix`` returns the argument of `UdpSocket.dump` for new groups."""
        self._loop = loop
        self._dump_prefix = dump_prefix
        self._network = ipaddress.ip_network(network, strict=False)
        self._ports = ports
        self._log = log
        self._used: set[str] = set()
        self._next = 1

    def open(
        self, track_indexes: Sequence[int], local_host: str, make: Callable[..., MulticastGroup] = MulticastGroup
    ) -> MulticastGroup:
        """Return a group with an address for each track, sending from the interface of ``local_host``.

        ``make``: its class.

        Raises OSError if no address is free or the sockets cannot be opened.
        """
        hosts: dict[int, str] = {}
        try:
            for index in track_indexes:
                hosts[index] = self._allocate()
            rtp = self._open_socket(local_host)
            try:
                rtcp = self._open_socket(local_host)
            except OSError:
                rtp.close()
                raise
        except OSError:
            self._used.difference_update(hosts.values())
            raise
        # Group members answer to the group, so nothing of interest arrives at these sockets.
        sockets = UdpSocket(self._loop, rtp, _ignore), UdpSocket(self._loop, rtcp, _ignore)
        for each in sockets:
            each.dump(self._dump_prefix())
        return make(self._loop, *sockets, hosts, self._ports)

    def close(self, group: MulticastGroup) -> None:
        """Close a group and free its addresses."""
        group.close()
        self._used.difference_update(group.addresses.values())

    def _allocate(self) -> str:
        for _ in range(min(self._network.num_addresses, 65_536)):
            host = str(self._network[self._next % self._network.num_addresses])
            self._next += 1
            if host not in self._used and ipaddress.ip_address(host).is_multicast:
                self._used.add(host)
                return host
        raise OSError(f"no free multicast address in {self._network}")

    def _open_socket(self, local_host: str) -> socket.socket:
        udp = open_udp_socket("0.0.0.0", 0, 0, SEND_BUFFER_SIZE)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, MULTICAST_TTL)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        interface = self._interface(local_host)
        if interface is not None:
            with contextlib.suppress(OSError):
                udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        return udp

    def _interface(self, local_host: str) -> bytes | None:
        """The interface of the reader's connection; for a local reader the one that the kernel routes to."""
        try:
            address = ipaddress.IPv4Address(local_host)
        except ValueError:
            return None
        if not address.is_loopback:
            return address.packed
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((str(self._network[1]), 9))
            except OSError:  # no multicast route: at least local programs that listen on loopback receive it
                return struct.pack("!I", 0x7F000001)
        return None


def _ignore(data: bytes, start: int, end: int, address: Address) -> None:
    """Drop a datagram."""
