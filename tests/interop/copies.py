"""Whether coded frames went through unchanged: hashes of the packets of a file, and of those that a reader copied.

Parameter sets, delimiters and SEI messages are left out on both sides: containers add, move and repeat them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.interop import tools
from tests.interop.tools import HashedPacket
from tests.support import made

VIDEO, AUDIO = 0, 1
"""Indexes of the tracks in what `hash_arguments` makes FFmpeg write."""

NO_H264_SETS = "h264_mp4toannexb,filter_units=remove_types=6-9"
NO_H265_SETS = "hevc_mp4toannexb,filter_units=remove_types=32-35|39"

Shift = tuple[float, float]
"""Seconds by which a packet comes later than in the file: presented, decoded."""


def hashing(video_filter: str) -> list[str | Path]:
    """Return FFmpeg's arguments that copy both tracks, video first, as hashes of their packets; the output follows."""
    return ["-map", "0:v", "-map", "0:a", "-c", "copy", "-copyts", "-bsf:v", video_filter, "-flush_packets", "1",
            "-f", "framemd5"]  # fmt: skip


def hash_arguments(video_filter: str, output: Path) -> list[str | Path]:
    """Return `hashing` with its output."""
    return [*hashing(video_filter), output]


def hashes_of_file(path: Path, video_filter: str) -> list[HashedPacket]:
    """Return the packets of a media file."""
    output = path.with_suffix(".md5")
    command = tools.quick_ffmpeg("-i", path, *hash_arguments(video_filter, output))
    made = tools.run("hash", command, path.parent)
    assert made.process.returncode == 0, made.describe()
    return tools.read_framemd5(output.read_text())


def hashes_of_media(path: Path, video_filter: str) -> list[HashedPacket]:
    """Return the packets of a media file that `tests.support.made` has made; they are hashed once per test run."""
    return tools.read_framemd5(made.by_ffmpeg(".md5", "-i", path, *hashing(video_filter)).read_text())


def compare_track(published: Sequence[HashedPacket], received: Sequence[HashedPacket], track: int) -> list[Shift]:
    """Assert that the packets of one track are published ones, in their order and without a gap; return how far each
    of them is shifted in time."""
    sent = [packet for packet in published if packet.stream == track]
    got = [packet for packet in received if packet.stream == track]
    first = next((index for index, packet in enumerate(sent) if got and packet.digest == got[0].digest), None)
    assert first is not None, f"track {track}: the first of {len(got)} packets received was never published"
    assert first + len(got) <= len(sent), f"track {track}: more packets came than were published"
    for index, packet in enumerate(got):
        assert packet.digest == sent[first + index].digest, (
            f"track {track}: packet {index} of {len(got)} differs: {sent[first + index]}, received {packet}"
        )
    return [
        (packet.pts - sent[first + index].pts, packet.dts - sent[first + index].dts) for index, packet in enumerate(got)
    ]


def compare_copy(
    published: Sequence[HashedPacket],
    received: Sequence[HashedPacket],
    *,
    least: Mapping[int, int],
    tolerance: float,
    settling: Mapping[int, int],
) -> None:
    """Assert that both tracks are copies, with at least so many packets, and have been shifted by the same time.

    ``tolerance``: seconds by which a packet may be off. ``settling``: packets of each track at the start whose times do
    not count.
    """
    shifts = {track: compare_track(published, received, track) for track in least}
    for track, minimum in least.items():
        assert len(shifts[track]) >= minimum, f"track {track}: only {len(shifts[track])} packets"
    common = statistics.median(presented for presented, _ in shifts[VIDEO][settling[VIDEO] :])
    for track in least:
        worst = max((presented - common for presented, _ in shifts[track][settling[track] :]), key=abs)
        assert abs(worst) <= tolerance + 1e-9, f"track {track}: {worst * 1000:.2f} ms beside the video track's times"
