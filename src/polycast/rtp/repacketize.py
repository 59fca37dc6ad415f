"""Splits packets that do not fit a UDP datagram; publishers over TCP may send larger ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import (
    HEADER_SIZE,
    PacketSizes,
    build_packet,
    payload_type_of,
    rewrite,
    ssrc_of,
)
from polycast.rtp.payload.registry import payload_of
from polycast.rtp.refragment import Piece

DEFAULT_SIZES: Final = PacketSizes()


class Repacketizer:
    """Splits the packets of one track into packets of the target size, and renumbers all packets.

    Fragments are resized, so that the rest of one is put before the next; other packets are split separately, without
    waiting for the rest of the frame. Those that cannot be split pass if they fit a datagram. SSRC, payload type and
    timestamp stay, the marker moves to the last part.
    """

    def __init__(self, track: Track, sizes: PacketSizes = DEFAULT_SIZES, *, refuses: bool = True) -> None:
        """``refuses``: raise an error for packets that are too large for any datagram and cannot be split."""
        self._limit = limit = sizes.target
        self._maximum = sizes.maximum
        self._refuses = refuses
        self._track = track
        self._payload = payload_of(track)
        self._refragmenter = self._payload.refragmenter(track.codec, limit - HEADER_SIZE)
        self._peek = self._payload.peek_for(track.codec)
        self._shift = 0

    def push(self, packet: RtpPacket) -> list[RtpPacket]:
        """Return the packets to send instead of ``packet``: often the same object.

        Raises `RemoteProtocolError` if it is too large and the payload format does not allow splitting.
        """
        made: list[RtpPacket] = []
        pieces = (Piece(packet, None, packet.marker),)
        for source, payload, marker in self._refragmenter.push(packet) if self._refragmenter is not None else pieces:
            if payload is not None:
                self._add(made, source, payload, packet.sequence, marker=marker)
                continue
            parts = self._parts_of(source)
            for index, (part, ticks) in enumerate(parts):
                ends = index + 1 < len(parts) and parts[index + 1][1] != ticks and self._payload.marks_every_frame
                if part is None:
                    sequence = packet.sequence + self._shift + len(made)
                    made.append(source if not self._shift and not made else rewrite(source, sequence=sequence))
                else:
                    self._add(made, source, part, packet.sequence, ticks=ticks, marker=ends and marker)
            if made and marker and made[-1].data is not source.data:
                made[-1] = rewrite(made[-1], marker=True)
        self._shift = (self._shift + len(made) - 1) & 0xFFFF
        return made

    def _parts_of(self, packet: RtpPacket) -> Sequence[tuple[bytes | None, int]]:
        """Return the payloads that replace a packet; None for the unchanged packet."""
        size = packet.end - packet.start
        if size <= self._limit:
            return ((None, 0),)
        if packet.end - packet.payload <= self._limit - HEADER_SIZE:
            # Only the CSRC list or header extension makes it too large; they are omitted.
            return ((packet.payload_bytes(), 0),)
        room = self._limit - HEADER_SIZE
        parts = self._payload.split(self._track.codec, packet, room, self._track)
        if parts and max(len(part) for part, _ in parts) <= room:
            return parts
        if size > self._maximum and self._refuses:
            raise RemoteProtocolError(f"payload size ({size}) greater than maximum allowed ({self._maximum})")
        return ((None, 0),)

    def _add(
        self,
        made: list[RtpPacket],
        source: RtpPacket,
        payload: bytes,
        sequence: int,
        *,
        ticks: int = 0,
        marker: bool = False,
    ) -> None:
        smaller = build_packet(
            payload_type_of(source),
            sequence + self._shift + len(made),
            source.timestamp + ticks,
            ssrc_of(source),
            payload,
            marker=marker,
        )
        smaller.key = bool(self._peek(smaller.data, HEADER_SIZE, smaller.end) & 1)
        made.append(smaller)
