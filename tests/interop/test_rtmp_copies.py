"""Coded frames and their times survive RTMP to RTMP, RTMP to RTSP and RTSP to RTMP exactly, audio and video together.

A file is published with ``-c copy``; readers write hashes of the packets that they get, which are compared with those
of the file. Parameter sets are left out on both sides: the server may add them in front of key frames.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.copies import compare_track
from tests.interop.tools import HashedPacket

pytestmark = pytest.mark.interop

SECONDS_OF_MEDIA = 9
LEAST_PACKETS = 60
"""Of each track that a reader must get; about two seconds."""
READ_PACKETS = ("-frames:v", "100", "-frames:a", "150")
"""Three seconds, whenever a reader began; "-t" would count from the start of the stream, as timestamps are copied."""
TOLERANCE = 0.001
"""Seconds: RTMP counts in milliseconds."""

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30")
SOUND = ("-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*t*(300+100*t)):sample_rate=48000")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "15", "-x264-params", "scenecut=0")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=2", "-pix_fmt", "yuv420p", "-g", "15")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-g", "15", "-b:v", "1M")
AAC = ("-c:a", "aac", "-b:a", "64k")
OPUS = ("-c:a", "libopus", "-b:a", "64k")

NO_H264_SETS = "h264_mp4toannexb,filter_units=remove_types=7-9"
NO_H265_SETS = "hevc_mp4toannexb,filter_units=remove_types=32-35|39"
"""x265 puts its SEI message among the parameter sets, and the filter in front of key frames."""
NO_DELIMITERS = "av1_metadata=td=remove"


@dataclass(frozen=True)
class Media:
    """What is published, and how its packets are made comparable."""

    encoders: tuple[str, ...]
    filter: str = ""
    """For the video packets."""


MEDIA = {
    "h264-aac": Media((*X264, "-bf", "0", *AAC), NO_H264_SETS),
    "h264-aac-b-frames": Media((*X264, "-bf", "3", "-b_strategy", "0", *AAC), NO_H264_SETS),
    # Closed groups of pictures: those that lie before an open one's key frame cannot be decoded by who begins there.
    "h265-opus": Media((*X265, "-x265-params", "keyint=15:open-gop=0:bframes=2:log-level=error", *OPUS), NO_H265_SETS),
    "av1-opus": Media((*AV1, *OPUS), NO_DELIMITERS),
    "vp9-opus": Media((*VP9, *OPUS)),
}
LEGACY = ("h264-aac", "h264-aac-b-frames")
"""What Debian's FFmpeg carries over RTMP, too."""


@pytest.fixture(scope="module", params=MEDIA)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of an entry of `MEDIA`, and its file."""
    name: str = request.param
    tools.require("ffmpeg")
    program = "ffmpeg" if name in LEGACY else tools.current_ffmpeg()
    path = tmp_path_factory.mktemp("media") / f"{name}.mp4"
    arguments = tools.ffmpeg(*PICTURE, *SOUND, "-t", str(SECONDS_OF_MEDIA), *MEDIA[name].encoders, path)[1:]
    made = tools.run(f"make-{name}", [program, *arguments], path.parent)
    assert made.process.returncode == 0, made.describe()
    return name, path


def hash_arguments(media: Media, output: Path) -> list[str | Path]:
    """Return FFmpeg's arguments that copy both tracks, video first, as hashes of their packets."""
    filters = ["-bsf:v", media.filter] if media.filter else []
    # FFmpeg does not see which VP9 packets from RTP are key frames, and without -copyinkf would wait for one for ever.
    copy = ("-map", "0:v", "-map", "0:a", "-c", "copy", "-copyts", "-copyinkf")
    return [*copy, *filters, "-flush_packets", "1", "-f", "framemd5", output]


def hashes_of_file(program: str, media: Media, path: Path, folder: Path) -> list[HashedPacket]:
    output = folder / "published.md5"
    made = tools.run("hash", [program, *tools.ffmpeg("-i", path, *hash_arguments(media, output))[1:]], folder)
    assert made.process.returncode == 0, made.describe()
    return tools.read_framemd5(output.read_text())


@pytest.mark.parametrize("program", ["ffmpeg", "current-ffmpeg"])
def test_copies(server: tools.Server, source: tuple[str, Path], program: str, tmp_path: Path) -> None:
    name, path = source
    if program == "ffmpeg" and name not in LEGACY:
        pytest.skip("Debian's FFmpeg does not know Enhanced RTMP")
    executable = "ffmpeg" if program == "ffmpeg" else tools.current_ffmpeg()
    media = MEDIA[name]
    published = hashes_of_file(executable, media, path, tmp_path)
    stream = f"copies/{program}-{name}"
    relayed = f"{stream}-relayed"
    routes = {
        "rtmp-rtmp": ["-i", server.rtmp_url(stream)],
        "rtmp-rtsp-tcp": ["-rtsp_transport", "tcp", "-i", server.url(stream)],
        "rtmp-rtsp-udp": ["-rtsp_transport", "udp", "-i", server.url(stream)],
        "rtsp-rtmp": ["-i", server.rtmp_url(relayed)],
    }
    publish = tools.ffmpeg("-re", "-i", path, "-c", "copy", "-f", "flv", server.rtmp_url(stream))[1:]
    publish_rtsp = tools.ffmpeg("-re", "-i", path, "-c", "copy", "-strict", "experimental", "-f", "rtsp",
                                "-rtsp_transport", "tcp", server.url(relayed))[1:]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for where, command in ((stream, publish), (relayed, publish_rtsp)):
            publisher = stack.enter_context(
                tools.start(f"publish-{Path(where).name}", [executable, *command], tmp_path, net=server.net)
            )
            server.wait_for_publisher(where, publisher)
        readers = {
            route: stack.enter_context(
                tools.start(
                    f"read-{route}",
                    [executable, *tools.ffmpeg("-analyzeduration", "1M", *arguments, *READ_PACKETS,
                                               *hash_arguments(media, tmp_path / f"{route}.md5"))[1:]],
                    tmp_path,
                    net=server.net,
                )
            )
            for route, arguments in routes.items()
        }  # fmt: skip
        for reader in readers.values():
            assert reader.wait(), f"{reader.describe()}\n{server.log[-3000:]}"
            assert reader.process.returncode == 0, f"{reader.describe()}\n{server.log[-3000:]}"
    for route in routes:
        check(published, tools.read_framemd5((tmp_path / f"{route}.md5").read_text()), route)


def check(published: Sequence[HashedPacket], received: Sequence[HashedPacket], route: str) -> None:
    over_rtp = "rtsp" in route
    settling = tools.SETTLING_PACKETS if over_rtp else 0
    moved = {index: compare_track(published, received, index)[settling:] for index in (0, 1)}
    for index, shifts in moved.items():
        assert len(shifts) >= LEAST_PACKETS, f"{route}, track {index}: only {len(shifts)} packets"
    # One shift for both tracks: they are as much in sync as they were.
    shift = statistics.median(pts for pts, _ in moved[0])
    for index, shifts in moved.items():
        worst = max(abs(pts - shift) for pts, _ in shifts)
        assert worst <= TOLERANCE + 1e-9, f"{route}, track {index}: {worst * 1000:.2f} ms off"
        if not over_rtp:  # RTP carries no decoding times: readers make them up
            worst = max(abs(dts - shift) for _, dts in shifts)
            assert worst <= TOLERANCE + 1e-9, f"{route}, track {index}: decoding times {worst * 1000:.2f} ms off"
