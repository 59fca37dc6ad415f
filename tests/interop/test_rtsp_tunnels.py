"""RTSP in HTTP, and SRTP of RTSPS over UDP and multicast, as FFmpeg and GStreamer speak them.

(live555's form, from its bytes: tests/protocols/rtsp/test_server_tunnels.py)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.test_rtsp_matrix import FRAMES, decoded_frames, publish_command

pytestmark = pytest.mark.interop


DIALECT = "mediamtx"
"""That of the server; the other one has SRTP only if it is asked for."""


@dataclass(frozen=True)
class Row:
    """A program that reads."""

    name: str
    program: str
    scheme: str
    """Of the address; those with an s are for the listener with TLS."""
    options: tuple[str, ...]
    says: str
    """What the server's log calls the transport."""

    def command(self, server: tools.Server, path: str, output: Path) -> list[str | Path]:
        """Return a command that reads `FRAMES` pictures, for `decoded_frames`, and ends with status 0."""
        url = server.url(path, tls=self.scheme.startswith("rtsps"))
        url = self.scheme + url[url.index(":") :]
        if self.program == "ffmpeg":
            return tools.ffmpeg(*self.options, "-analyzeduration", "1M", "-i", url, "-map", "0:v",
                                "-frames:v", str(FRAMES), "-f", "framemd5", output)  # fmt: skip
        return tools.gstreamer(
            "rtspsrc", f"location={url}", *self.options, "teardown-timeout=20000000000", "latency=50",
            "tls-validation-flags=0", "!", "rtph264depay", "!", *tools.h264_to_file(output, FRAMES),
        )  # fmt: skip


ROWS = (
    Row("ffmpeg-http", "ffmpeg", "rtsp", ("-rtsp_transport", "http"), "TCP"),
    Row("ffmpeg-https", "ffmpeg", "rtsps", ("-rtsp_transport", "https"), "TCP/TLS"),
    Row("gstreamer-http", "gstreamer", "rtsph", (), "TCP"),
    Row("gstreamer-srtp-udp", "gstreamer", "rtspsu", (), "UDP/SRTP"),
    Row("gstreamer-srtp-multicast", "gstreamer", "rtsps", ("protocols=udp-mcast+tls",), "UDP-multicast/SRTP"),
)
PUBLISHERS = ("ffmpeg-tcp", "gstreamer-srtp-udp")


def publisher_command(name: str, server: tools.Server, media: Path) -> list[str | Path]:
    if name == "ffmpeg-tcp":
        return publish_command("ffmpeg", "tcp", server.url(name), media)
    url = server.url(name, tls=True)
    command = publish_command("gstreamer", "udp", f"rtspsu{url[url.index(':') :]}", media)
    command.insert(command.index("rtspclientsink") + 1, "profiles=savp")
    return command


@pytest.fixture(scope="module", params=PUBLISHERS)
def published(
    request: pytest.FixtureRequest,
    servers: Callable[[str], tools.Server],
    media: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[tools.Server, str]]:
    """The server and the path that one of the publishers publishes to."""
    path = request.param
    tools.require("ffmpeg" if path.startswith("ffmpeg") else "gst-launch-1.0")
    server = servers(DIALECT)
    command = publisher_command(path, server, media["h264+aac"])
    with tools.start(f"publish-{path}", command, tmp_path_factory.mktemp(path), net=server.net) as publisher:
        server.wait_for_publisher(path, publisher)
        yield server, path
        assert publisher.process.poll() is None, f"the publisher ended\n{publisher.describe()}\n{server.log[-3000:]}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_read(published: tuple[tools.Server, str], row: Row, tmp_path: Path) -> None:
    server, path = published
    tools.require("gst-launch-1.0" if row.program == "gstreamer" else row.program)
    if "mcast" in str(row.options) and not server.net.has_multicast:
        pytest.skip("multicast between programs of one machine needs a network namespace, and that needs root")
    output = tmp_path / "frames"
    before = len(server.log)
    finished = tools.run(f"read-{row.name}", row.command(server, path, output), tmp_path, net=server.net)
    message = f"{finished.describe()}\n--- server\n{server.log[-3000:]}"
    assert finished.process.returncode == 0 or tools.has_interrupted_its_pause(finished), message
    assert decoded_frames(row.program, output, tmp_path) >= FRAMES, message
    assert f"is reading from path '{path}', with {row.says}, " in server.log[before:], message
