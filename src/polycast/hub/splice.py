"""Joining a second publisher to the stream of a first one, so that readers stay: they see one stream that goes on.

RTP readers keep SSRC, payload type, and sequence numbers and timestamps that continue; frame readers keep one growing
time line. The pause between the two publishers shows as a gap of the same length.
"""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import build_packet, rewrite
from polycast.rtp.payload.registry import payload_of


def can_follow(old: Sequence[Track], new: Sequence[Track]) -> bool:
    """Whether readers of the tracks ``old`` can go on with ``new``: the same codecs in the same order."""
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


class PacketSplice:
    """Renumbers the packets of a track's second publisher."""

    __slots__ = ("_parameters", "_payload_type", "_sequence", "_ssrc", "offset")

    def __init__(self, *, ssrc: int, payload_type: int, sequence: int, parameters: tuple[bytes, ...]) -> None:
        """``sequence`` is the number of the next packet; ``parameters`` are sent in front of the first one."""
        self._ssrc = ssrc
        self._payload_type = payload_type
        self._sequence = sequence
        self._parameters = parameters
        self.offset: int | None = None
        """What is added to RTP timestamps; None before the first packet."""

    def begin(self, packet: RtpPacket, timestamp: int) -> list[RtpPacket]:
        """Take the first packet, which gets ``timestamp``; return it with the parameter sets in front."""
        self.offset = timestamp - packet.timestamp
        packets = [
            build_packet(
                self._payload_type, self._sequence + index, timestamp, self._ssrc, unit, marker=False, key=True
            )
            for index, unit in enumerate(self._parameters)
        ]
        # From here on it is the distance between the two numberings.
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


def shifted(frame: Frame, ticks: int) -> Frame:
    """Return the frame, ``ticks`` later."""
    return retimed(frame, frame.pts + ticks, frame.dts + ticks, discontinuity=frame.discontinuity)


def retimed(frame: Frame, pts: int, dts: int, *, discontinuity: bool) -> Frame:
    """Return the frame with other times."""
    return Frame(
        frame.units,
        pts,
        dts,
        key=frame.key,
        wall_time=frame.wall_time,
        duration=frame.duration,
        discontinuity=discontinuity,
    )
