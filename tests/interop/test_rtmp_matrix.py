"""Who publishes x who reads, over RTMP and RTMPS, crossed with RTSP over UDP and TCP; with the real programs.

The publishers run one after the other; all readers read each of them at the same time. Every other publisher has a
server with the configuration of MediaMTX.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.test_rtsp_matrix import publish_command as rtsp_publish_command
from tests.interop.test_rtsp_matrix import read_command as rtsp_read_command

pytestmark = pytest.mark.interop

PUBLISHERS = [
    ("ffmpeg", "rtmp"),
    ("ffmpeg", "rtmps"),
    ("current-ffmpeg", "rtmp"),
    ("current-ffmpeg", "rtmps"),
    ("rtmp2sink", "rtmp"),
    ("rtmp2sink", "rtmps"),
    ("rtmpsink", "rtmp"),
    ("ffmpeg", "udp"),
    ("ffmpeg", "tcp"),
    ("gstreamer", "tcp"),
]
READERS = [
    ("ffmpeg", "rtmp"),
    ("ffmpeg", "rtmps"),
    ("current-ffmpeg", "rtmp"),
    ("current-ffmpeg", "rtmps"),
    ("rtmp2src", "rtmp"),
    ("rtmp2src", "rtmps"),
    ("rtmpsrc", "rtmp"),
    ("vlc", "rtmp"),
    ("current-ffmpeg", "udp"),
    ("current-ffmpeg", "tcp"),
    ("gstreamer", "udp"),
]

FRAMES = 25
"""Pictures that a reader has to decode; less than a second of the stream."""

GSTREAMER_ELEMENTS = ("rtmp2sink", "rtmpsink", "rtmp2src", "rtmpsrc", "gstreamer")


@dataclass
class Result:
    """What a reader did."""

    frames: int
    status: int | None
    errors: str
    description: str


def program_of(name: str) -> str:
    """Return the program behind a publisher's or reader's name; skip when it is not there."""
    if name == "current-ffmpeg":
        return tools.current_ffmpeg()
    program = "gst-launch-1.0" if name in GSTREAMER_ELEMENTS else name
    tools.require(program)
    return program


def url_of(server: tools.Server, transport: str, path: str) -> str:
    if transport in ("udp", "tcp"):
        return server.url(path)
    return server.rtmp_url(path, tls=transport == "rtmps")


def publish_command(name: str, transport: str, url: str, media: Path) -> list[str | Path]:
    if transport in ("udp", "tcp"):
        return rtsp_publish_command(name, transport, url, media)
    if name.endswith("ffmpeg"):
        return [program_of(name), *tools.ffmpeg("-re", "-stream_loop", "-1", "-i", media, "-c", "copy", "-f", "flv",
                                                url)[1:]]  # fmt: skip
    options = ["tls-validation-flags=0"] if transport == "rtmps" else []
    # rtmpsink takes further options in its location, after a space, and librtmp waits for them to be told it is live.
    location = f"{url} live=1" if name == "rtmpsink" else url
    return tools.gstreamer(
        "flvmux", "name=mux", "streamable=true", "!", name, f"location={location}", *options,
        "videotestsrc", "is-live=true", "pattern=ball", "!", "video/x-raw,width=320,height=240,framerate=30/1", "!",
        "x264enc", "speed-preset=ultrafast", "tune=zerolatency", "key-int-max=15", "!",
        "video/x-h264,profile=baseline", "!", "queue", "!", "mux.",
        "audiotestsrc", "is-live=true", "volume=0.1", "!", "audio/x-raw,rate=48000,channels=2", "!",
        "voaacenc", "bitrate=64000", "!", "queue", "!", "mux.",
    )  # fmt: skip


def read_command(name: str, transport: str, url: str, output: Path) -> list[str | Path]:
    """Return a command that reads `FRAMES` pictures, for `decoded_frames`."""
    if transport in ("udp", "tcp"):
        _, *arguments = rtsp_read_command(name.removeprefix("current-"), transport, url, output)
        return [program_of(name), *arguments]
    if name.endswith("ffmpeg"):
        return [program_of(name), *tools.ffmpeg("-analyzeduration", "1M", "-i", url, "-map", "0:v",
                                                "-frames:v", str(FRAMES), "-f", "framemd5", output)[1:]]  # fmt: skip
    if name == "vlc":
        return tools.vlc("--run-time=4", "--sout", f"#transcode{{vcodec=mp2v,acodec=none}}:std{{access=file,mux=ts,"
                         f"dst={output}}}", url, "vlc://quit")  # fmt: skip
    options = ["tls-validation-flags=0"] if transport == "rtmps" else []
    location = f"{url} live=1" if name == "rtmpsrc" else url
    return tools.gstreamer(
        name, f"location={location}", *options, "!", "flvdemux", "!", *tools.h264_to_file(output, FRAMES),
    )  # fmt: skip


def decoded_frames(name: str, output: Path, folder: Path) -> int:
    """Return how many pictures a reader has written."""
    if not output.exists():
        return 0
    if name.endswith("ffmpeg"):
        return len(tools.read_framemd5(output.read_text()))
    return tools.count_pictures(output, folder)


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that VLC may write to: it runs as another user than root, to whom the folders of tests are closed."""
    folder = Path(tempfile.mkdtemp(prefix="polycast-rtmp-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=PUBLISHERS, ids="-".join)
def results(
    request: pytest.FixtureRequest,
    servers: Callable[[str], tools.Server],
    media: dict[str, Path],
    open_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], Result]:
    """What all readers got from one publisher."""
    name, transport = request.param
    program_of(name)
    server = servers(tools.DIALECTS[PUBLISHERS.index(request.param) % 2])
    path = f"live/{name}_{transport}"
    folder = tmp_path_factory.mktemp(f"{name}_{transport}")
    command = publish_command(name, transport, url_of(server, transport, path), media["h264+aac"])
    with tools.start(f"publish-{name}", command, folder, net=server.net, environment=server.trust) as publisher:
        server.wait_for_publisher(path, publisher)
        found = read_all(server, path, folder, open_folder)
        assert publisher.process.poll() is None, f"the publisher ended\n{publisher.describe()}\n{server.log[-3000:]}"
    return found


def read_all(server: tools.Server, path: str, folder: Path, open_folder: Path) -> dict[tuple[str, str], Result]:
    """Run all readers that are installed at the same time."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name, transport in READERS:
            try:
                program_of(name)
            except pytest.skip.Exception:
                continue
            output = (open_folder if name == "vlc" else folder) / f"{folder.name}-{name}-{transport}"
            command = read_command(name, transport, url_of(server, transport, path), output)
            program = tools.start(f"read-{name}-{transport}", command, folder, net=server.net, environment=server.trust)
            running[name, transport] = (stack.enter_context(program), output)
        found = {}
        for key, (program, output) in running.items():
            in_time = program.wait()
            status = program.process.returncode if in_time else None
            frames = decoded_frames(key[0], output, folder)
            found[key] = Result(frames, status, program.errors, f"{program.describe()}\n{server.log[-3000:]}")
        return found


@pytest.mark.parametrize("reader", READERS, ids="-".join)
def test_read(results: dict[tuple[str, str], Result], reader: tuple[str, str]) -> None:
    program_of(reader[0])
    result = results[reader]
    # GStreamer's rtspsrc may write PAUSE to the connection that it has just closed itself, at its own end of stream.
    closed_itself = reader[0] == "gstreamer" and "gst_rtspsrc_pause" in result.errors
    assert result.status == 0 or closed_itself, result.description
    assert result.frames >= FRAMES, f"{result.frames} pictures\n{result.description}"
    for complaint in ("error while decoding", "concealing", "Invalid data", "non-existing PPS"):
        assert complaint not in result.errors, result.description
