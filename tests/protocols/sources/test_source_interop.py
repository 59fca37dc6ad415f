"""Pulling from servers that are not ours: nginx with its RTMP module, nginx serving HLS files, VLC's RTSP server."""

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

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
load_module {module};
events {{}}
rtmp {{
  access_log off;
  server {{
    listen 127.0.0.1:{rtmp};
    application live {{ live on; hls on; hls_path {folder}/hls; hls_fragment 500ms; hls_playlist_length 10s; }}
  }}
}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{http}; root {folder}; }}
}}
"""
MODULE = FilePath("/usr/lib/nginx/modules/ngx_rtmp_module.so")


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


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, media: FilePath) -> Iterator[dict[str, int]]:
    """The ports of an nginx to which FFmpeg publishes ``live/cam``, again and again."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not FilePath(program).exists() or not MODULE.exists():
        pytest.skip("nginx with its RTMP module is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    ports = {"rtmp": tools.free_port(), "http": tools.free_port()}
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, module=MODULE, **ports))
    command: list[str | FilePath] = [program, "-p", folder, "-c", folder / "nginx.conf"]
    url = f"rtmp://127.0.0.1:{ports['rtmp']}/live/cam"
    publish = tools.ffmpeg("-re", "-stream_loop", "-1", "-i", media, "-c", "copy", "-f", "flv", url)
    with tools.start("nginx", command, folder) as server:
        server.wait_until(lambda: (folder / "nginx.pid").exists(), "nginx")
        with tools.start("publisher", publish, folder):
            server.wait_until(lambda: len(list(folder.glob("hls/*.ts"))) >= 3, "HLS segments")
            yield ports


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


async def test_nginx_rtmp(nginx: dict[str, int]) -> None:
    await pull(f"rtmp://127.0.0.1:{nginx['rtmp']}/live/cam")


async def test_nginx_hls(nginx: dict[str, int]) -> None:
    await pull(f"http://127.0.0.1:{nginx['http']}/hls/cam.m3u8")


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
        await app.log.wait(r"ERR: bad status code: 461 \(Unsupported transport\)")
