"""Forwarding: what FFmpeg publishes reaches other servers as the same coded frames, over each protocol.

Destinations are another server of this kind (RTSP, RTMP, with TLS and without), nginx-rtmp, and FFmpeg itself, which
listens.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from pathlib import Path

import pytest
from tests.interop import origins, tools
from tests.interop.copies import AUDIO, NO_H264_SETS, VIDEO, compare_track, hash_arguments, hashes_of_media
from tests.interop.tools import HashedPacket
from tests.support import made

pytestmark = pytest.mark.interop

LEAST = {VIDEO: 60, AUDIO: 100}
READ_PACKETS = ("-frames:v", "90", "-frames:a", "140")


PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30")
SOUND = ("-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*t*(300+100*t)):sample_rate=48000")
ENCODERS = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "15", "-bf", "0", "-c:a", "aac")


@pytest.fixture(scope="module")
def media() -> Path:
    """A file with H264 and AAC."""
    tools.require("ffmpeg")
    return made.by_ffmpeg(".mp4", *PICTURE, *SOUND, "-t", "40", *ENCODERS)


def fingerprint(folder: Path) -> str:
    """Return that of the certificate of a server."""
    certificate = (folder / "server.crt").read_text().partition("-----END CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[0] + certificate[1])).hexdigest()


def settings(*destinations: str) -> str:
    entries = "".join(f"    - {destination}\n" for destination in destinations)
    return f"paths:\n  cam:\n    forward:\n{entries}"


def check(published: list[HashedPacket], output: Path, name: str) -> None:
    received = tools.read_framemd5(output.read_text())
    for track, least in LEAST.items():
        shifts = compare_track(published, received, track)
        assert len(shifts) >= least, f"{name}: only {len(shifts)} packets of track {track}"


def test_to_several_servers_at_once(media: Path, tmp_path: Path) -> None:
    published = hashes_of_media(media, NO_H264_SETS)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(tools.run_server(theirs, rtmp=True))
        pin = fingerprint(theirs)
        destinations = [
            f"dest: {other.url('$MTX_PATH/rtsp')}",
            f"{{dest: {other.url('$MTX_PATH/rtsps', tls=True)}, destFingerprint: {pin}}}",
            f"dest: {other.rtmp_url('$MTX_PATH')}#rtmp",
            f"{{dest: {other.rtmp_url('$MTX_PATH/rtmps', tls=True)}, destFingerprint: {pin}}}",
        ]
        server = stack.enter_context(tools.run_server(ours, settings(*destinations), dialect="mediamtx"))
        publish = tools.quick_ffmpeg(
            "-re", "-i", media, "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", server.url("cam")
        )
        publisher = stack.enter_context(tools.start("publish", publish, tmp_path))
        names = ("rtsp", "rtsps", "rtmp", "rtmps")
        for name in names:
            other.wait_for_publisher(f"cam/{name}", publisher)
        readers = [
            stack.enter_context(
                tools.start(
                    f"read-{name}",
                    tools.quick_ffmpeg(
                        *("-rtsp_transport", "tcp", "-i", other.url(f"cam/{name}"), *READ_PACKETS),
                        *hash_arguments(NO_H264_SETS, tmp_path / f"{name}.md5"),
                    ),
                    tmp_path,
                )
            )
            for name in names
        ]
        for reader in readers:
            assert reader.wait(), f"{reader.describe()}\n{server.log[-3000:]}"
            assert reader.process.returncode == 0, reader.describe()
        assert publisher.process.poll() is None, "it is not disturbed"
    for name in names:
        check(published, tmp_path / f"{name}.md5", name)


def test_to_nginx(media: Path, tmp_path: Path) -> None:
    published = hashes_of_media(media, NO_H264_SETS)
    with contextlib.ExitStack() as stack:
        ports, _ = stack.enter_context(origins.nginx_alone(tmp_path, tools.Network()))
        url = f"rtmp://127.0.0.1:{ports['rtmp']}/live"
        server = stack.enter_context(tools.run_server(tmp_path, settings(f"dest: {url}#cam")))
        publish = tools.quick_ffmpeg(
            "-re", "-i", media, "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", server.url("cam")
        )
        publisher = stack.enter_context(tools.start("publish", publish, tmp_path))
        server.wait_for_publisher("cam", publisher)
        output = tmp_path / "nginx.md5"
        read = tools.quick_ffmpeg("-i", f"{url}/cam", *READ_PACKETS, *hash_arguments(NO_H264_SETS, output))
        reader = tools.run("read", read, tmp_path)
        assert reader.process.returncode == 0, f"{reader.describe()}\n{server.log[-3000:]}"
    check(published, output, "nginx")


def test_to_ffmpeg(media: Path, tmp_path: Path) -> None:
    published = hashes_of_media(media, NO_H264_SETS)
    port, output = tools.free_port(), tmp_path / "ffmpeg.md5"
    listen = tools.ffmpeg(
        *("-listen", "1", "-i", f"rtmp://127.0.0.1:{port}/live/key", *READ_PACKETS),
        *hash_arguments(NO_H264_SETS, output),
    )
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(tools.start("listen", listen, tmp_path))
        server = stack.enter_context(
            tools.run_server(tmp_path, settings(f"dest: rtmp://127.0.0.1:{port}/live#key", "dest: rtsp://127.0.0.1:1/"))
        )
        publish = tools.quick_ffmpeg(
            "-re", "-i", media, "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", server.url("cam")
        )
        publisher = stack.enter_context(tools.start("publish", publish, tmp_path))
        server.wait_for_publisher("cam", publisher)
        assert reader.wait(), f"{reader.describe()}\n{server.log[-3000:]}"
        assert "live/key" not in server.log
    check(published, output, "ffmpeg")
