"""Pulling from VLC's RTSP server; others, with a comparison of frames, are in `tests.interop.test_sources_matrix`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest
from tests.interop import tools
from tests.protocols.rtsp.support import Fixture, running
from tests.protocols.sources.test_supervision import Frames

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    """A file of 4 s with a key frame in every half second."""
    tools.require("ffmpeg")
    file = tmp_path_factory.mktemp("media") / "media.mp4"
    subprocess.run(
        [
            *("ffmpeg", "-loglevel", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"),
            *("-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "4", "-c:v", "libx264", "-g", "12"),
            *("-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "aac", str(file)),
        ],
        check=True,
    )
    return file


async def pull(url: str, protocol: str = "automatic", *, seconds: float = 1.0) -> tuple[Fixture, Frames]:
    """Pull for some seconds of media and return what readers got."""
    settings = {"source": url, "sourceProtocol": protocol, "sourceRetryPause": "100ms"}
    async with running(paths={"cam": settings}) as app:
        path = app.path("cam")
        await app.until(lambda: path.stream is not None)
        frames = Frames()
        assert path.stream is not None
        path.attach_reader(frames, path.stream)
        video = next(track.index for track in path.stream.tracks if track.track.kind == "video")
        await app.until(lambda: sum(index == video for index, _ in frames.frames) >= 25 * seconds)
        assert {str(track.track) for track in path.stream.tracks} == {"H264", "MPEG4Audio"}
        assert {index for index, _ in frames.frames} == {0, 1}
        assert any(frame.key for index, frame in frames.frames if index == video)
        return app, frames


@pytest.fixture
def vlc(tmp_path: FilePath, media: FilePath) -> Iterator[str]:
    """The address of a stream that VLC serves."""
    tools.require("vlc")
    port = tools.free_port()
    chain = f"#rtp{{sdp=rtsp://127.0.0.1:{port}/cam}}"
    with tempfile.TemporaryDirectory() as folder:
        # VLC may run as another user, who does not get into the folders of the tests.
        FilePath(folder).chmod(0o755)
        readable = shutil.copy(media, folder)
        command = tools.vlc(readable, "--repeat", "--sout", chain, "--sout-keep", "--sout-all")
        with tools.start("vlc", command, tmp_path):
            yield f"rtsp://127.0.0.1:{port}/cam"


@pytest.mark.parametrize("protocol", ["automatic", "udp"])
async def test_vlc(vlc: str, protocol: str) -> None:
    await pull(vlc, protocol)


async def test_vlc_does_no_tcp(vlc: str) -> None:
    async with running(paths={"cam": {"source": vlc, "sourceProtocol": "tcp", "sourceRetryPause": "100ms"}}) as app:
        await app.log.wait(r"failed: bad status code: 461 \(Unsupported transport\)")
