"""Readers of a path that is always available: they stay when FFmpeg publishes and when it has gone.

They copy packets, of which hashes are compared with those of the published file, and decode everything without an
error.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.copies import AUDIO, NO_H264_SETS, VIDEO, hash_arguments, hashes_of_media
from tests.interop.tools import HashedPacket, Program, Server
from tests.support import made

pytestmark = pytest.mark.interop

SETTINGS = """\
paths:
  cam:
    alwaysAvailable: yes
    alwaysAvailableTracks:
    - {codec: H264}
    - {codec: MPEG4Audio, sampleRate: 48000, channelCount: 2}
"""
PUBLISHED_SECONDS = 3
SLATE_PACKETS = 10
"""Of each track, before and after those of the publisher."""


@pytest.fixture
def media() -> Path:
    """A file with H264 of another size and profile than the slate, and AAC."""
    tools.require("ffmpeg")
    picture = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25")
    sound = ("-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*t*(300+100*t)):sample_rate=48000")
    encoders = ("-c:v", "libx264", "-preset", "superfast", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "0", "-c:a", "aac")
    return made.by_ffmpeg(".mp4", *picture, *sound, "-t", str(PUBLISHED_SECONDS), *encoders, "-ac", "2")


def reader(server: Server, route: str, folder: Path) -> list[str | Path]:
    """Return FFmpeg's command line that copies packets for hashes, and decodes them, too."""
    sources: dict[str, list[str]] = {
        "rtsp-tcp": ["-rtsp_transport", "tcp", "-i", server.url("cam")],
        "rtsp-udp": ["-rtsp_transport", "udp", "-i", server.url("cam")],
        "rtmp": ["-i", server.rtmp_url("cam")],
        "hls": ["-live_start_index", "-1", "-i", f"http://127.0.0.1:{server.hls_port}/cam/index.m3u8"],
    }
    copied = hash_arguments(NO_H264_SETS, folder / f"{route}.md5")
    # With the precision of the stream: where the publisher takes over, two pictures may be less than 1/25 s apart.
    return tools.ffmpeg(*sources[route], *copied, "-map", "0", "-enc_time_base", "1:90000", "-f", "null", "-")


@pytest.mark.parametrize("protocol", ["rtsp", "rtmp"])
def test_readers_stay(media: Path, protocol: str, tmp_path: Path) -> None:
    routes = ("rtsp-tcp", "rtsp-udp", "rtmp", "hls")
    published = hashes_of_media(media, NO_H264_SETS)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(tools.run_server(tmp_path, SETTINGS, rtmp=True, hls="fmp4", dialect="mediamtx"))
        readers = {
            route: stack.enter_context(tools.start(f"read-{route}", reader(server, route, tmp_path), tmp_path))
            for route in routes
        }

        def wait_for(condition: str) -> None:
            for route, program in readers.items():
                program.wait_until(
                    lambda route=route: has(received(tmp_path, route), published, condition),  # type: ignore[misc]
                    f"{condition} (route {route})\n{server.log[-2000:]}",
                )

        wait_for("before")
        output = ["-f", "flv", server.rtmp_url("cam")]
        if protocol == "rtsp":
            output = ["-f", "rtsp", "-rtsp_transport", "tcp", server.url("cam")]
        publish = tools.run("publish", tools.quick_ffmpeg("-re", "-i", media, "-c", "copy", *output), tmp_path)
        assert publish.process.returncode == 0, publish.describe()
        wait_for("after")
        for program in readers.values():
            program.stop()
        for route, program in readers.items():
            check(published, received(tmp_path, route), route)
            assert errors_of(program, route) == [], f"{route}: {program.describe()}"


def received(folder: Path, route: str) -> list[HashedPacket]:
    output = folder / f"{route}.md5"
    return tools.read_framemd5(output.read_text()) if output.exists() else []


def has(packets: Sequence[HashedPacket], published: Sequence[HashedPacket], what: str) -> bool:
    """Whether a reader has packets of the slate before those of the publisher, or after them, on both tracks."""
    for track in (VIDEO, AUDIO):
        known = {packet.digest for packet in published if packet.stream == track}
        slate = [packet.digest not in known for packet in packets if packet.stream == track]
        if what == "after":
            slate = slate[slate.index(False) :] if False in slate else []
        if sum(slate) < SLATE_PACKETS:
            return False
    return True


def check(published: Sequence[HashedPacket], packets: Sequence[HashedPacket], route: str) -> None:
    for track in (VIDEO, AUDIO):
        sent = [packet.digest for packet in published if packet.stream == track]
        got = [packet for packet in packets if packet.stream == track]
        digests = [packet.digest for packet in got]
        first, last = (sent.index(digest) for digest in (inside(digests, sent)[0], inside(digests, sent)[-1]))
        assert inside(digests, sent) == sent[first : last + 1], f"{route}, track {track}: packets are missing"
        assert last - first > 0.9 * len(sent), f"{route}, track {track}: only {last - first} of {len(sent)} packets"
        times = [packet.dts for packet in got]
        steps = [after - before for before, after in itertools.pairwise(times)]
        assert min(steps) > 0, f"{route}, track {track}: time goes back by {-min(steps):.3f} s"
        assert max(steps) < 1.5, f"{route}, track {track}: a gap of {max(steps):.3f} s"


def inside(digests: Sequence[str], sent: Sequence[str]) -> list[str]:
    known = set(sent)
    return [digest for digest in digests if digest in known]


def errors_of(program: Program, route: str) -> list[str]:
    """Return what FFmpeg complains about, but for what it says when it is stopped, or when an init segment comes.

    FFmpeg 5 gives no time to the first picture that it gets over RTSP, whatever the server, and says so if that is a
    key frame; it silently drops another one.
    """
    usual = (
        r"Found duplicated MOOV Atom|Last message repeated|Exiting normally|received signal|RTP timestamps don't match"
    )
    lines = [line for line in program.errors.splitlines() if line.strip() and not re.search(usual, line)]
    without_time = next((line for line in lines if "Timestamps are unset in a packet for stream 0" in line), None)
    if route.startswith("rtsp") and without_time is not None:
        lines.remove(without_time)
    return lines
