"""SRTP and SRTCP (RFC 3711, RFC 7714): protects sent packets, verifies and decrypts received ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from polycast.errors import LocalProtocolError
from polycast.wire.srtp.ciphers import AuthenticationError, make_cipher, position_of
from polycast.wire.srtp.profiles import MasterKey, Profile, derive_rtcp_keys, derive_rtp_keys

REPLAY_WINDOW: Final = 1024
"""How many packets behind the newest one a packet may be and still be accepted; RFC 3711 section 3.3.2 requires at
least 64, and at high bit rates a retransmission arrives a few hundred packets later."""

MAXIMUM_SOURCES: Final = 64
"""SSRCs from which a session may send, counted separately for RTP and RTCP: a publisher with simulcast and RTX has
ten."""

_HEADER_SIZE: Final = 12
_CONTROL_HEADER_SIZE: Final = 8
_ENCRYPTED: Final = 0x80000000
_MAXIMUM_CONTROL_INDEX: Final = 0x7FFFFFFF
_INDEX_BITS: Final = 48


class SrtpSender:
    """Protects the packets that one session sends. The caller keeps the packet index (RFC 3711 section 3.3.1)."""

    def __init__(self, profile: Profile, master: MasterKey) -> None:
        self.profile = profile
        self._rtp = make_cipher(profile, derive_rtp_keys(profile, master))
        self._rtcp = make_cipher(profile, derive_rtcp_keys(profile, master))
        self._control_index = 0
        self.protect_all = self._rtp.seal_all
        """Encrypts the packets of a batch into their destinations; see `ciphers.Sealing`."""

    def protect(self, header: bytes, payload: bytes, ssrc: int, index: int) -> bytes:
        """Return the SRTP packet for ``header`` and ``payload``.

        ``index`` is the packet's 48-bit index: the roll-over counter, then the sequence number.
        """
        return header + self._rtp.seal(position_of(ssrc, index), header, payload)

    def protect_control(self, packet: bytes) -> bytes:
        """Return the SRTCP packet for a compound packet.

        Raises LocalProtocolError if the index is exhausted, after 2**31 packets: the session has to end.
        """
        if self._control_index >= _MAXIMUM_CONTROL_INDEX:
            raise LocalProtocolError("the SRTCP index is exhausted")
        self._control_index += 1
        index = self._control_index
        position = position_of(int.from_bytes(packet[4:8], "big"), index)
        trailer = (_ENCRYPTED | index).to_bytes(4, "big")
        return self._rtcp.seal_control(position, packet[:_CONTROL_HEADER_SIZE], trailer, packet[_CONTROL_HEADER_SIZE:])


class ReplayWindow:
    """Tracks which indexes were received (RFC 3711 section 3.3.2)."""

    __slots__ = ("_seen", "newest")

    def __init__(self) -> None:
        self.newest = -1
        self._seen = 0
        """Bit n is set if ``newest - n`` was received."""

    def is_fresh(self, index: int) -> bool:
        """Return whether a packet with this index has not been received yet and is not too old."""
        behind = self.newest - index
        if behind < 0:
            return True
        return behind < REPLAY_WINDOW and not self._seen >> behind & 1

    def add(self, index: int) -> None:
        """Mark the index of an authenticated packet as received."""
        ahead = index - self.newest
        if self.newest < 0 or ahead >= REPLAY_WINDOW:
            self._seen = 1
            self.newest = index
        elif ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << REPLAY_WINDOW) - 1)
            self.newest = index
        else:
            self._seen |= 1 << -ahead


class SrtpReceiver:
    """Decrypts the packets that a session receives. Replayed, forged and damaged ones are refused and counted."""

    def __init__(
        self, profile: Profile, master: MasterKey, roll_over_counters: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        """``roll_over_counters``: by SSRC, those with which it starts instead of 0."""
        self._tag_size = profile.tag_size
        self._rtp = make_cipher(profile, derive_rtp_keys(profile, master))
        self._rtcp = make_cipher(profile, derive_rtcp_keys(profile, master))
        self._windows: dict[int, ReplayWindow] = {}
        self._control_windows: dict[int, ReplayWindow] = {}
        self._roll_over_counters = roll_over_counters
        self.refused = 0
        """Packets that were replayed, forged, damaged, or not SRTP at all."""

    def open(self, packet: bytes) -> bytes | None:
        """Return the RTP packet in an SRTP packet; None if it is refused."""
        size = header_size(packet)
        if size is None or len(packet) < size + self._tag_size:
            self.refused += 1
            return None
        ssrc = int.from_bytes(packet[8:12], "big")
        window = self._windows.get(ssrc) or ReplayWindow()
        index = _guess_index(window.newest, packet[2] << 8 | packet[3])
        if window.newest < 0 and self._roll_over_counters:
            index |= self._roll_over_counters.get(ssrc, 0) << 16
        if not window.is_fresh(index):
            self.refused += 1
            return None
        header = packet[:size]
        try:
            payload = self._rtp.open(position_of(ssrc, index), header, packet[size:])
        except AuthenticationError:
            self.refused += 1
            return None
        if not _remember(self._windows, ssrc, window, index):
            self.refused += 1
            return None
        return header + payload

    def open_control(self, packet: bytes) -> bytes | None:
        """Return the RTCP packet in an SRTCP packet; None if it is refused."""
        trailer = self._rtcp.control_trailer(packet)
        if len(packet) < _CONTROL_HEADER_SIZE + 4 + self._tag_size or len(trailer) < 4:
            self.refused += 1
            return None
        ssrc = int.from_bytes(packet[4:8], "big")
        index = int.from_bytes(trailer, "big") & _MAXIMUM_CONTROL_INDEX
        window = self._control_windows.get(ssrc) or ReplayWindow()
        if not window.is_fresh(index):
            self.refused += 1
            return None
        try:
            opened = self._rtcp.open_control(position_of(ssrc, index), packet)
        except AuthenticationError:
            self.refused += 1
            return None
        if not _remember(self._control_windows, ssrc, window, index):
            self.refused += 1
            return None
        return opened


def _remember(windows: dict[int, ReplayWindow], ssrc: int, window: ReplayWindow, index: int) -> bool:
    """Mark an authenticated packet as received; False if there are too many sources."""
    if ssrc not in windows:
        if len(windows) >= MAXIMUM_SOURCES:
            return False
        windows[ssrc] = window
    window.add(index)
    return True


def _guess_index(newest: int, sequence: int) -> int:
    """Return the most likely index of a sequence number (RFC 3711 appendix A)."""
    if newest < 0:
        return sequence
    cycle, last = newest >> 16, newest & 0xFFFF
    if last < 0x8000:
        if sequence - last > 0x8000:
            cycle = max(0, cycle - 1)
    elif last - 0x8000 > sequence:
        cycle += 1
    return (cycle << 16 | sequence) & ((1 << _INDEX_BITS) - 1)


def header_size(packet: bytes | memoryview) -> int | None:
    """Return the size of an RTP header with CSRC list and extension, which are not encrypted; None if truncated."""
    if len(packet) < _HEADER_SIZE or packet[0] >> 6 != 2:
        return None
    size = _HEADER_SIZE + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if len(packet) < size + 4:
            return None
        size += 4 + 4 * (packet[size + 2] << 8 | packet[size + 3])
    return size
