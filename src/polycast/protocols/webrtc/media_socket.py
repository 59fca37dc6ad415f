"""How the packets of a connection reach the peer: as datagrams, or as frames over TCP."""

from __future__ import annotations

from typing import ClassVar, Protocol

from polycast.net.outbox import Outbox
from polycast.net.udp import Address, UdpSocket


class MediaSocket(Protocol):
    """The UDP port, or the TCP connection, to the peer."""

    @property
    def outbox(self) -> Outbox | None:
        """The queue of a TCP connection, which loses no packets, and sends each after its size (RFC 4571)."""
        ...

    @property
    def relayed(self) -> str:
        """Its relayed candidate, as in logs and the API; empty if it is not a relay."""
        ...

    def send(self, data: bytes, address: Address) -> None:
        """Send one packet."""

    def send_segments(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        """Send packets: datagrams of ``segment_size`` bytes, or whole frames. The caller may overwrite ``data``
        afterwards."""


class DatagramSocket(UdpSocket):
    """A UDP socket."""

    outbox: ClassVar[None] = None
    relayed: ClassVar[str] = ""
