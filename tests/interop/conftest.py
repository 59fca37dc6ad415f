"""Media files and the network that the interoperability tests share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interop import tools
from tests.support import made

SECONDS_OF_MEDIA = 4

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30")
# A rising tone, so that no two packets are alike.
SOUND = "aevalsrc=0.3*sin(2*PI*t*(300+100*t)):sample_rate={rate}"

VIDEO_ENCODERS = {
    "h264": ("libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-pix_fmt", "yuv420p"),
    "h265": ("libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p",
             "-x265-params", "keyint=15:log-level=error:repeat-headers=1"),
    # With several threads, those that wait for the others keep a processor busy.
    "vp8": ("libvpx", "-threads", "1", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-g", "15",
            "-b:v", "1M"),
    "vp9": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-g", "15", "-b:v", "1M"),
    # RFC 2435 knows only the standard Huffman tables.
    "mjpeg": ("mjpeg", "-huffman", "default", "-q:v", "8", "-pix_fmt", "yuvj420p"),
}  # fmt: skip
AUDIO_ENCODERS = {
    "aac": (48000, "aac", "-b:a", "96k"),
    "opus": (48000, "libopus", "-b:a", "64k"),
    "mp3": (48000, "libmp3lame", "-b:a", "96k"),
    "g711": (8000, "pcm_mulaw"),
}


@pytest.fixture(scope="session")
def net() -> Iterator[tools.Network]:
    with tools.network() as network:
        yield network


@pytest.fixture(scope="module")
def servers(net: tools.Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tools.Server]]:
    """Returns the server of a dialect, with RTSP and RTMP, where everybody may publish and read; started when asked."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def server_of(dialect: str) -> tools.Server:
            folder = tmp_path_factory.mktemp(dialect)
            return stack.enter_context(tools.run_server(folder, net=net, rtmp=True, dialect=dialect))

        yield server_of


@pytest.fixture
def server(servers: Callable[[str], tools.Server], request: pytest.FixtureRequest) -> tools.Server:
    """The server for a test, of one dialect or the other."""
    return servers(tools.dialect_of(request.node.nodeid))


@pytest.fixture(scope="session")
def media() -> dict[str, Path]:
    """Short files by codec, and ``h264+aac``."""
    tools.require("ffmpeg")
    seconds = ("-t", str(SECONDS_OF_MEDIA))
    files = {
        name: made.by_ffmpeg(".nut", *PICTURE, *seconds, "-c:v", *encoder) for name, encoder in VIDEO_ENCODERS.items()
    }
    for name, (rate, *encoder) in AUDIO_ENCODERS.items():
        source = SOUND.format(rate=rate) + (",asetnsamples=160" if name == "g711" else "")
        files[name] = made.by_ffmpeg(".nut", "-f", "lavfi", "-i", source, *seconds, "-c:a", *encoder)
    files["h264+aac"] = made.by_ffmpeg(".nut", "-i", files["h264"], "-i", files["aac"], "-c", "copy")
    return files
