"""Passwords, redirection and fallback as FFmpeg and GStreamer live them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop import tools

pytestmark = pytest.mark.interop

# The hash is that of "secret".
SETTINGS = """
authenticationFailurePause: 100ms
paths:
  moved:
    source: redirect
    sourceRedirect: rtsp://127.0.0.1:{port}/target
  door:
    fallback: /target
  target:
  hashed:
    publishUser: camera
    publishPass: sha256:K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=
    readUser: viewer
    readPass: another
"""


@pytest.fixture(scope="module")
def server(
    net: tools.Network, media: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tools.Server]:
    """A server with a publisher on ``target`` and one, with its password, on ``hashed``."""
    folder = tmp_path_factory.mktemp("server")
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(tools.run_server(folder, SETTINGS, net=net))
        for path, user in (("target", ""), ("hashed", "camera:secret")):
            command = publish(running.url(path, user=user), media)
            running.wait_for_publisher(path, stack.enter_context(tools.start(path, command, folder, net=net)))
        yield running


def publish(url: str, media: dict[str, Path]) -> list[str | Path]:
    return tools.quick_ffmpeg("-re", "-stream_loop", "-1", "-i", media["h264"], "-c", "copy", "-f", "rtsp",
                              "-rtsp_transport", "tcp", url)  # fmt: skip


def read(server: tools.Server, url: str, folder: Path) -> tuple[int, str]:
    """Read 5 packets with FFmpeg; return their number and what FFmpeg said."""
    output = folder / "packets.md5"
    command = tools.ffmpeg(
        "-rtsp_transport", "tcp", "-i", url, "-c", "copy", "-frames:v", "5", "-f", "framemd5", output
    )
    program = tools.run("read", command, folder, net=server.net)
    packets = tools.read_framemd5(output.read_text()) if output.exists() else []
    return len(packets), program.errors


@pytest.mark.parametrize("path", ["target", "moved", "door"])
def test_ffmpeg_is_sent_on(server: tools.Server, path: str, tmp_path: Path) -> None:
    packets, errors = read(server, server.url(path), tmp_path)
    assert packets == 5, errors


@pytest.mark.parametrize("path", ["moved", "door"])
def test_gstreamer_is_sent_on(server: tools.Server, path: str, tmp_path: Path) -> None:
    tools.require("gst-launch-1.0")
    pipeline = tools.gstreamer(
        *tools.rtspsrc(server.url(path), "tcp"), "!", "rtph264depay", "!",
        *tools.h264_to_file(tmp_path / "frames", 5),
    )  # fmt: skip
    program = tools.run("read", pipeline, tmp_path, net=server.net)
    message = f"{program.describe()}\n--- server\n{server.log[-3000:]}"
    assert program.process.returncode == 0 or tools.has_interrupted_its_pause(program), message
    assert tools.count_pictures(tmp_path / "frames", tmp_path) > 0, message


@pytest.mark.parametrize(("user", "may"), [("viewer:another", True), ("viewer:wrong", False), ("", False)])
def test_reader_with_password(server: tools.Server, user: str, may: bool, tmp_path: Path) -> None:
    packets, errors = read(server, server.url("hashed", user=user), tmp_path)
    assert packets == (5 if may else 0)
    assert ("401 Unauthorized" in errors) is not may


def test_publisher_with_the_wrong_password(server: tools.Server, media: dict[str, Path], tmp_path: Path) -> None:
    command = publish(server.url("hashed", user="camera:wrong"), media)
    program = tools.run("publish", command, tmp_path, net=server.net)
    assert program.process.returncode not in (0, None)
    assert "401 Unauthorized" in program.errors
    # The previous publisher continues.
    packets, errors = read(server, server.url("hashed", user="viewer:another"), tmp_path)
    assert packets == 5, errors
