"""Batches as messages of a subscription, built once for all subscribers."""

from __future__ import annotations

from typing import Final, NamedTuple

from polycast.hub.batch import FrameBatch, PacketBatch
from polycast.media.frame import Frame
from polycast.rtp.rtcp import SenderReport
from polycast.wire.subscription.messages import Report, frame, framed_packets, is_framed, packets, report, track_changed

_KEY: Final = "subscription"


class FrameForm(NamedTuple):
    """A batch of frames as messages."""

    data: bytes
    frame_count: int
    """Number of frames."""
    from_key: bytes
    """The messages from the first key frame on, with all descriptions; empty if there is none."""


def packet_messages(batch: PacketBatch) -> bytes:
    """Return the messages of a batch of packets."""
    return batch.form(_KEY, _encode_packets)


def _encode_packets(batch: PacketBatch) -> bytes:
    parts: list[bytes | memoryview] = []
    for run in batch.runs:
        if is_framed(run.framing):
            parts += framed_packets(run.track_index, run.count, run.framed())
        else:
            parts += packets(run.track_index, run.packets)
    return b"".join(parts)


def frame_messages(batch: FrameBatch, key_track: int) -> FrameForm:
    """Return the messages of a batch of frames; ``key_track``: see `Stream.key_track`."""
    return batch.form((_KEY, key_track), lambda each: _encode_frames(each, key_track))


def _encode_frames(batch: FrameBatch, key_track: int) -> FrameForm:
    parts: list[bytes | memoryview] = []
    later: list[bytes | memoryview] = []
    has_key = False
    count = 0
    for index, entry in batch.entries:
        if isinstance(entry, Frame):
            count += 1
            has_key = has_key or (entry.key and index == key_track)
            made = frame(index, entry)
            if has_key:
                later += made
        else:
            made = [track_changed(entry)]
            later += made
        parts += made
    return FrameForm(b"".join(parts), count, b"".join(later) if has_key else b"")


def report_message(track_index: int, value: SenderReport) -> bytes:
    """Return the message of a sender report."""
    return report(
        track_index, Report(value.ssrc, value.ntp, value.rtp_timestamp, value.packet_count, value.octet_count)
    )
