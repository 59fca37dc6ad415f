"""Batches: what one read of a publisher brought, shared by all readers of the stream.

A batch is built once and each wire form of it is built once; every reader gets the same bytes object.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track

Form = TypeVar("Form")


class PacketRun:
    """Consecutive packets of one track in a batch."""

    __slots__ = ("channel", "has_key", "packets", "size", "track_index")

    def __init__(self, track_index: int, channel: int) -> None:
        self.track_index = track_index
        self.channel = channel
        """When 0 or more: each packet stands in its ``data`` right behind a 4-byte frame header with this channel
        number, so a reader that uses the same channel can be given the publisher's bytes as they came."""
        self.packets: list[RtpPacket] = []
        self.size = 0
        """Bytes of the packets."""
        self.has_key = False
        """Whether a packet is in it at which a reader can begin."""


class _Batch:
    __slots__ = ("_forms",)

    def __init__(self) -> None:
        self._forms: dict[Hashable, Any] = {}

    def form(self, key: Hashable, build: Callable[..., Form]) -> Form:
        """Return the wire form called ``key``, built by ``build(self)`` for the first reader that asks."""
        forms = self._forms
        if key in forms:
            return forms[key]  # type: ignore[no-any-return]
        made = forms[key] = build(self)
        return made


class PacketBatch(_Batch):
    """RTP packets of all tracks, in the order of their arrival."""

    __slots__ = ("runs",)

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[PacketRun] = []

    @property
    def has_key(self) -> bool:
        """Whether a packet of a video track is in it at which decoding can start (any packet, where there is no
        video)."""
        return any(run.has_key for run in self.runs)

    @property
    def size(self) -> int:
        """Bytes of all packets."""
        return sum(run.size for run in self.runs)

    @property
    def packet_count(self) -> int:
        """Number of all packets."""
        return sum(len(run.packets) for run in self.runs)

    def from_key(self, key_track: int) -> PacketBatch:
        """Return this batch from the first key packet of track ``key_track`` on; what came before is left out."""
        cut: PacketBatch = self.form(("from_key", key_track), lambda _: self._cut(key_track))
        return cut

    def _cut(self, key_track: int) -> PacketBatch:
        cut = PacketBatch()
        found = False
        for run in self.runs:
            packets = run.packets
            if not found:
                if run.track_index != key_track:
                    continue
                start = next((i for i, packet in enumerate(packets) if packet.key), None)
                if start is None:
                    continue
                found = True
                packets = packets[start:]
            new_run = PacketRun(run.track_index, run.channel)
            new_run.packets = packets
            new_run.size = sum(map(len, packets))
            new_run.has_key = run.has_key
            cut.runs.append(new_run)
        return cut


class FrameBatch(_Batch):
    """Frames of all tracks, in the order in which they became complete."""

    __slots__ = ("entries",)

    def __init__(self, entries: list[tuple[int, Frame | Track]]) -> None:
        super().__init__()
        self.entries = entries
        """(track index, frame), or (track index, track) where the description of the track changes: from there on the
        frames belong to the new one."""
