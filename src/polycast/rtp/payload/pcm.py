"""Sample-based audio in RTP: G.711 and linear PCM (RFC 3551 sections 4.5.14 and 4.5.11), G.722, G.726, Speex."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.errors import RemoteProtocolError
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.rtp.header import MAXIMUM_PAYLOAD_SIZE
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer


class SampleDepacketizer(BaseDepacketizer):
    """Each packet is a run of samples.

    ``block_size`` is in bytes: one sample of every channel. ``ticks`` and ``bits`` give the duration: a payload of
    ``bits`` bits takes ``ticks`` ticks.
    """

    def __init__(self, block_size: int, *, ticks: int = 1, bits: int | None = None) -> None:
        super().__init__()
        self._block_size = block_size
        self._ticks = ticks
        self._bits = bits if bits is not None else 8 * block_size

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        size = packet.end - packet.payload
        if size == 0:
            return NO_FRAMES
        if size % self._block_size:
            raise RemoteProtocolError(f"{size} bytes are not a whole number of samples")
        duration = size * 8 * self._ticks // self._bits
        return (Frame((packet.payload_bytes(),), pts, pts, key=True, duration=duration),)


class WholePacketDepacketizer(BaseDepacketizer):
    """Each packet is one frame of unknown duration."""

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        if packet.payload == packet.end:
            return NO_FRAMES
        return (Frame((packet.payload_bytes(),), pts, pts, key=True),)


class SamplePacketizer(BasePacketizer):
    """Splits a run of samples into packets; the timestamp counts blocks of one sample per channel."""

    marks_last = False

    def __init__(
        self,
        payload_type: int,
        ssrc: int,
        initial_sequence: int,
        initial_timestamp: int,
        maximum_payload: int = MAXIMUM_PAYLOAD_SIZE,
        *,
        block_size: int,
    ) -> None:
        super().__init__(payload_type, ssrc, initial_sequence, initial_timestamp, maximum_payload)
        self._block_size = block_size

    def packetize(self, frame: Frame) -> list[RtpPacket]:
        samples = frame.units[0]
        room = self._maximum_payload - self._maximum_payload % self._block_size
        if len(samples) <= room:
            return self._build((samples,), frame.pts, True)
        packets: list[RtpPacket] = []
        for position in range(0, len(samples), room):
            part = samples[position : position + room]
            packets += self._build((part,), frame.pts + position // self._block_size, True)
        return packets
