"""ICE candidates in SDP (RFC 8839 section 5.1, RFC 6544 section 4.5)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError

HOST: Final = "host"
REFLEXIVE: Final = "srflx"
RELAYED: Final = "relay"
UDP: Final = "udp"
TCP: Final = "tcp"
PASSIVE: Final = "passive"
"""The type of a TCP candidate to which the other side connects."""

_TYPE_PREFERENCE: Final = {HOST: 126, "prflx": 110, REFLEXIVE: 100, RELAYED: 0}
"""RFC 8445 section 5.1.2.2."""
_TCP_TYPE_PREFERENCE: Final = 90
"""TCP is less preferred than UDP except from a relay (RFC 6544 section 4.2)."""
_FOUNDATION: Final = re.compile("[A-Za-z0-9+/]{1,32}")
"""RFC 8839 section 5.1."""
MAXIMUM_CANDIDATES: Final = 64
"""Candidates stored per peer; a browser on a machine with many interfaces sends twenty."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transport address of a peer."""

    address: str
    """An IP address. Browsers may hide theirs behind a ``.local`` name."""
    port: int
    transport: str = UDP
    type: str = HOST
    priority: int = 0
    foundation: str = "1"
    component: int = 1
    tcp_type: str = ""
    """``active``, ``passive`` or ``so`` if the transport is TCP."""
    hides_base: bool = False
    """Whether to write a related address, which candidates that are not hosts must have, without telling it."""

    @property
    def is_ip_address(self) -> bool:
        """Whether the address is an IP address, not a name."""
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            return False
        return True

    def serialize(self) -> str:
        """Return the value of the ``candidate`` attribute."""
        text = (
            f"{self.foundation} {self.component} {self.transport} {self.priority} {self.address} {self.port}"
            f" typ {self.type}"
        )
        if self.hides_base:
            text += " raddr 0.0.0.0 rport 0"
        return f"{text} tcptype {self.tcp_type}" if self.tcp_type else text

    def describe(self) -> str:
        """Return the candidate as in logs and the API: ``host/udp/192.0.2.1/8189``."""
        return f"{self.type}/{self.transport}/{self.address}/{self.port}"


def host_priority(order: int, transport: str = UDP) -> int:
    """Return the priority of host candidate number ``order``; 0 is the best (RFC 8445 section 5.1.2)."""
    preference = _TYPE_PREFERENCE[HOST] if transport == UDP else _TCP_TYPE_PREFERENCE
    return preference << 24 | max(0, 0xFFFF - order) << 8 | 255


def reflexive_priority(order: int) -> int:
    """Return the priority of server-reflexive candidate number ``order``."""
    return _TYPE_PREFERENCE[REFLEXIVE] << 24 | max(0, 0xFFFF - order) << 8 | 255


def relayed_priority(order: int) -> int:
    """Return the priority of relayed candidate number ``order``."""
    return _TYPE_PREFERENCE[RELAYED] << 24 | max(0, 0xFFFF - order) << 8 | 255


def parse_candidate(text: str) -> Candidate:
    """Parse the value of a ``candidate`` attribute, with or without the prefix ``candidate:``.

    Raises RemoteProtocolError. Unknown extension attributes are ignored (RFC 8839 section 5.1).
    """
    words = text.strip().removeprefix("a=").removeprefix("candidate:").split()
    if len(words) < 8 or words[6].lower() != "typ":
        raise RemoteProtocolError(f"invalid ICE candidate: {text[:100]!a}")
    foundation, component, transport, priority, address, port, _, kind = words[:8]
    if not _FOUNDATION.fullmatch(foundation):
        raise RemoteProtocolError(f"invalid foundation of an ICE candidate: {foundation[:40]!a}")
    numbers = [_number(word, limit) for word, limit in ((component, 256), (priority, 0xFFFFFFFF), (port, 0xFFFF))]
    extensions = dict(zip(words[8::2], words[9::2], strict=False))
    return Candidate(
        address=address[:255],
        port=numbers[2],
        transport=transport.lower(),
        type=kind.lower(),
        priority=numbers[1],
        foundation=foundation,
        component=numbers[0],
        tcp_type=extensions.get("tcptype", "").lower(),
    )


def _number(word: str, limit: int) -> int:
    if not (word.isascii() and word.isdigit()) or len(word) > 10 or int(word) > limit:
        raise RemoteProtocolError(f"invalid number in an ICE candidate: {word[:20]!a}")
    return int(word)
