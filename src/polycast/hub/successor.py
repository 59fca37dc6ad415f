"""The successor of a publisher: another one that continues its stream, so that readers stay.

For RTP readers, SSRC and payload type stay, and sequence numbers and timestamps continue; readers of frames keep one
growing timeline. The pause between the two publishers appears as a gap of the same length.
"""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import seconds_to_ticks
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import build_packet, rewrite
from polycast.rtp.payload.registry import payload_of


def is_compatible(old: Sequence[Track], new: Sequence[Track]) -> bool:
    """Whether readers of the tracks ``old`` can continue with ``new``: the same codecs in the same order."""
    return len(old) == len(new) and all(map(_agree, old, new))


def _agree(old: Track, new: Track) -> bool:
    if type(old.codec) is not type(new.codec) or old.clock_rate != new.clock_rate:
        return False
    payload = payload_of(old)
    if not payload.is_compatible(old.codec, new.codec):
        return False
    return payload.is_self_describing or _format_key(old.rtp) == _format_key(new.rtp)


def _format_key(form: RtpFormat | None) -> tuple[str, str]:
    return ("", "") if form is None else (form.encoding.upper(), form.parameters.replace(" ", "").lower())


class RtpPosition:
    """The position in the packets of a track as readers see them; the next publisher continues from here."""

    __slots__ = ("next_sequence", "ssrc", "time", "timestamp")

    def __init__(self) -> None:
        self.ssrc: int | None = None
        """The SSRC that all readers see; the first publisher's own if it sends RTP."""
        self.next_sequence = -1
        """Sequence number of the next packet; -1 before the first one."""
        self.timestamp = 0
        """RTP timestamp of the last packet."""
        self.time: float | None = None
        """When the last packet was received (monotonic seconds); None before the first one."""

    def timestamp_at(self, now: float, clock_rate: int) -> int:
        """Return the RTP timestamp of a time, relative to the last packet; it may exceed 32 bits."""
        if self.time is None:
            return self.timestamp
        elapsed = max(0.0, now - self.time)
        # Never the same timestamp: that would look like another packet of the last frame.
        return self.timestamp + max(1, seconds_to_ticks(elapsed, clock_rate))


class Renumbering:
    """Renumbers the packets of a track's successor to continue those of its first publisher."""

    __slots__ = ("_parameters", "_payload_type", "_sequence", "_ssrc", "offset")

    def __init__(self, *, ssrc: int, payload_type: int, sequence: int, parameters: tuple[bytes, ...]) -> None:
        """``sequence`` is the number of the next packet; ``parameters`` are sent before the first one."""
        self._ssrc = ssrc
        self._payload_type = payload_type
        self._sequence = sequence
        self._parameters = parameters
        self.offset: int | None = None
        """The offset of RTP timestamps; None before the first packet."""

    def begin(self, packet: RtpPacket, timestamp: int) -> list[RtpPacket]:
        """Process the first packet, which gets ``timestamp``; return it with the parameter sets before it."""
        self.offset = timestamp - packet.timestamp
        packets = [
            build_packet(
                self._payload_type, self._sequence + index, timestamp, self._ssrc, unit, marker=False, key=True
            )
            for index, unit in enumerate(self._parameters)
        ]
        # From now on it is the offset between the two numberings.
        self._sequence = (self._sequence + len(packets) - packet.sequence) & 0xFFFF
        packets.append(self.renumber(packet))
        return packets

    def renumber(self, packet: RtpPacket) -> RtpPacket:
        """Return a later packet as readers see it."""
        return rewrite(
            packet,
            payload_type=self._payload_type,
            sequence=packet.sequence + self._sequence,
            timestamp=packet.timestamp + (self.offset or 0),
            ssrc=self._ssrc,
        )


class Succession:
    """Adapts the packets or frames of a track's successor."""

    __slots__ = ("_awaits_key", "_renumbering")

    def __init__(self, *, awaits_key: bool, renumbering: Renumbering | None) -> None:
        """``awaits_key``: nothing is sent before a key frame. ``renumbering`` is None if there are no earlier packets
        to continue."""
        self._awaits_key = awaits_key
        self._renumbering = renumbering

    @property
    def is_over(self) -> bool:
        """Whether packets and frames can pass unchanged from now on."""
        return not self._awaits_key and self._renumbering is None

    def admits(self, *, key: bool) -> bool:
        """Whether a frame or packet is sent; ``key``: decoding can start at it."""
        self._awaits_key = self._awaits_key and not key
        return not self._awaits_key

    def renumber(self, packet: RtpPacket, position: RtpPosition, now: float, clock_rate: int) -> list[RtpPacket]:
        """Return the packets to send instead of an admitted one."""
        renumbering = self._renumbering
        if renumbering is None:
            return [packet]
        if renumbering.offset is None:
            return renumbering.begin(packet, position.timestamp_at(now, clock_rate) & 0xFFFFFFFF)
        return [renumbering.renumber(packet)]

    def outgoing_timestamp(self, timestamp: int) -> int | None:
        """Return an RTP timestamp of the publisher as readers see it; None if unknown."""
        if self._renumbering is None:
            return timestamp
        offset = self._renumbering.offset
        return None if offset is None else (timestamp + offset) & 0xFFFFFFFF


def retimed(frame: Frame, pts: int, dts: int, *, discontinuity: bool) -> Frame:
    """Return the frame with adapted times."""
    return Frame(
        frame.units,
        pts,
        dts,
        key=frame.key,
        wall_time=frame.wall_time,
        duration=frame.duration,
        discontinuity=discontinuity,
    )
