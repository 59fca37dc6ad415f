"""The successor of a publisher: another one that continues its stream, so that readers stay.

For RTP readers, SSRC and payload type stay, and sequence numbers and timestamps continue; readers of frames keep one
growing timeline. The pause between the two publishers appears as a gap of the same length.
"""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.codec import G711, LPCM
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import seconds_to_ticks
from polycast.media.track import Track
from polycast.rtp.header import build_packet, rewrite
from polycast.rtp.payload.registry import payload_of


def incompatibility(old: Sequence[Track], new: Sequence[Track]) -> str:
    """Return why readers of the tracks ``old`` cannot continue with ``new``; empty if they can.

    They can if the codecs are the same, in the same order, and decoders are configured in the same way; parameter sets
    that are sent in the stream may differ.
    """
    if [type(track.codec) for track in old] != [type(track.codec) for track in new]:
        return f"wants to publish [{_names(new)}], but stream expects [{_names(old)}]"
    for before, after in zip(old, new, strict=True):
        if not _agree(before, after):
            was, now = _configuration(before), _configuration(after)
            if was == now:
                was, now = _form(before), _form(after)
            return f"{after.codec_name} configuration does not match, is {now}, but stream expects {was}"
    return ""


def is_compatible(old: Sequence[Track], new: Sequence[Track]) -> bool:
    """Whether readers of the tracks ``old`` can continue with ``new``; see `incompatibility`."""
    return not incompatibility(old, new)


def _agree(old: Track, new: Track) -> bool:
    payload = payload_of(old)
    if old.clock_rate != new.clock_rate or not payload.is_compatible(old.codec, new.codec):
        return False
    if old.rtp is None or new.rtp is None:
        return old.rtp is new.rtp
    return payload_of(new) is payload and payload.form_key(old.rtp) == payload.form_key(new.rtp)


def _names(tracks: Sequence[Track]) -> str:
    return " ".join(track.codec_name for track in tracks)


def _configuration(track: Track) -> str:
    """Return what a decoder must know before it starts, in words."""
    codec = track.codec
    parts = [f"sampleRate={track.clock_rate}"]
    if isinstance(codec, G711):
        parts.insert(0, f"muLaw={'true' if codec.mu_law else 'false'}")
    elif isinstance(codec, LPCM):
        parts.insert(0, f"bitDepth={codec.bit_depth}")
    channels = getattr(codec, "channels", 0)
    if channels:
        parts.append(f"channelCount={channels}")
    return ", ".join(parts)


def _form(track: Track) -> str:
    return f"'{track.rtp.encoding} {track.rtp.parameters}'" if track.rtp is not None else "without RTP"


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

    def forget(self) -> None:
        """Begin again: the next packet need not continue the last one."""
        self.ssrc = None
        self.next_sequence = -1

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
