"""Who publishes over RTSP x who reads it, with the real programs; and packets that come out as they went in.

The publishers {FFmpeg, GStreamer} x {UDP, TCP, TLS} run one after the other; each serves all readers
{FFmpeg, GStreamer, VLC} x {UDP, multicast, TCP, TLS} in turn. Every other publisher has a server with the configuration
of MediaMTX.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interop import tools

pytestmark = pytest.mark.interop

TRANSPORTS = ("udp", "tcp", "tls")
PUBLISHERS = [(program, transport) for program in ("ffmpeg", "gstreamer") for transport in TRANSPORTS]
READERS = [
    (program, transport)
    for program in ("ffmpeg", "gstreamer", "vlc")
    for transport in ("udp", "multicast", "tcp", "tls")
    # VLC has no RTSP over TLS: its live555 module knows only the scheme rtsp.
    if (program, transport) != ("vlc", "tls")
]

FRAMES = 25
"""Pictures that a reader has to decode; less than a second of the stream."""

FFMPEG_READ = {"udp": "udp", "multicast": "udp_multicast", "tcp": "tcp", "tls": "tcp"}
GSTREAMER_READ = {"udp": "udp", "multicast": "udp-mcast", "tcp": "tcp", "tls": "tcp"}


def publish_command(program: str, transport: str, url: str, media: Path) -> list[str | Path]:
    if program == "ffmpeg":
        lower = "udp" if transport == "udp" else "tcp"
        return tools.ffmpeg("-re", "-stream_loop", "-1", "-i", media, "-c", "copy", "-f", "rtsp",
                            "-rtsp_transport", lower, url)  # fmt: skip
    protocols = "udp" if transport == "udp" else "tcp"
    return tools.gstreamer(
        "rtspclientsink", "name=sink", f"location={url}", f"protocols={protocols}", "latency=0",
        "tls-validation-flags=0",
        "videotestsrc", "is-live=true", "pattern=ball", "!", "video/x-raw,width=320,height=240,framerate=30/1", "!",
        "x264enc", "speed-preset=ultrafast", "tune=zerolatency", "key-int-max=15", "!",
        "video/x-h264,profile=baseline", "!", "sink.",
        "audiotestsrc", "is-live=true", "volume=0.1", "!", "audio/x-raw,rate=48000,channels=2", "!",
        "voaacenc", "bitrate=64000", "!", "sink.",
    )  # fmt: skip


def read_command(program: str, transport: str, url: str, output: Path) -> list[str | Path]:
    """Return a command that reads `FRAMES` pictures, for `decoded_frames`, and ends with status 0."""
    if program == "ffmpeg":
        return tools.ffmpeg("-rtsp_transport", FFMPEG_READ[transport], "-analyzeduration", "1M", "-i", url,
                            "-map", "0:v", "-frames:v", str(FRAMES), "-f", "framemd5", output)  # fmt: skip
    if program == "gstreamer":
        return tools.gstreamer(
            *tools.rtspsrc(url, GSTREAMER_READ[transport]), "latency=50",
            "tls-validation-flags=0", "!", "rtph264depay", "!", *tools.h264_to_file(output, FRAMES),
        )  # fmt: skip
    flags = {"udp": [], "multicast": [], "tcp": ["--rtsp-tcp"]}[transport]
    return tools.vlc(*flags, "--run-time=4", "--sout", f"#transcode{{vcodec=mp2v,acodec=none}}:std{{access=file,mux=ts,"
                     f"dst={output}}}", url, "vlc://quit")  # fmt: skip


def decoded_frames(program: str, output: Path, folder: Path) -> int:
    """Return how many pictures a reader has written."""
    if program == "ffmpeg":
        return len(tools.read_framemd5(output.read_text()))
    return tools.count_pictures(output, folder)


@pytest.fixture(scope="module", params=PUBLISHERS, ids="-".join)
def published(
    request: pytest.FixtureRequest,
    servers: Callable[[str], tools.Server],
    media: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[tools.Server, str]]:
    """The server and the path that one of the publishers publishes to."""
    program, transport = request.param
    server = servers(tools.DIALECTS[PUBLISHERS.index(request.param) % 2])
    tools.require("ffmpeg" if program == "ffmpeg" else "gst-launch-1.0")
    path = f"{program}_{transport}"
    url = server.url(path, tls=transport == "tls")
    command = publish_command(program, transport, url, media["h264+aac"])
    with tools.start(f"publish-{path}", command, tmp_path_factory.mktemp(path), net=server.net) as publisher:
        server.wait_for_publisher(path, publisher)
        yield server, path
        assert publisher.process.poll() is None, f"the publisher ended\n{publisher.describe()}\n{server.log[-3000:]}"


@pytest.fixture(scope="module")
def vlc_reads_rtsp(tmp_path_factory: pytest.TempPathFactory) -> bool:
    tools.require("vlc")
    return tools.vlc_has_rtsp(tmp_path_factory.mktemp("vlc"))


@pytest.mark.parametrize("reader", READERS, ids="-".join)
def test_read(
    published: tuple[tools.Server, str], reader: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server, path = published
    program, transport = reader
    tools.require("gst-launch-1.0" if program == "gstreamer" else program)
    if program == "vlc" and not request.getfixturevalue("vlc_reads_rtsp"):
        pytest.skip("this VLC was built without live555, its RTSP module; see test_vlc_dialect.py")
    if transport == "multicast" and not server.net.has_multicast:
        pytest.skip("multicast between programs of one machine needs a network namespace, and that needs root")
    if reader == ("vlc", "multicast"):
        path += "?vlcmulticast"
    folder = tmp_path
    if program == "vlc":
        # VLC is another user than root, to whom the folders of the tests are closed.
        folder = Path(tempfile.mkdtemp(prefix="polycast-vlc-", dir="/tmp"))
        request.addfinalizer(lambda: shutil.rmtree(folder))
        folder.chmod(0o777)
    output = folder / "frames"
    command = read_command(program, transport, server.url(path, tls=transport == "tls"), output)
    finished = tools.run(f"read-{program}-{transport}", command, tmp_path, net=server.net)
    message = f"{finished.describe()}\n--- server\n{server.log[-3000:]}"
    assert finished.process.returncode == 0 or tools.has_interrupted_its_pause(finished), message
    frames = decoded_frames(program, output, tmp_path)
    assert frames >= FRAMES, f"{frames} pictures\n{message}"
    for complaint in ("error while decoding", "concealing", "Invalid data", "non-existing PPS"):
        assert complaint not in finished.errors, message


@pytest.mark.parametrize("protocols", ["udp", "tcp"])
def test_gstreamer_reads_over_ipv6(
    server: tools.Server, media: dict[str, Path], protocols: str, tmp_path: Path
) -> None:
    """As ``rtsp://localhost`` does where that name stands for ``::1``."""
    if not server.net.prefix:
        pytest.skip("the server listens on all addresses only in a network namespace, and that needs root")
    tools.require("gst-launch-1.0")
    path = f"ipv6_{protocols}"
    publish = publish_command("ffmpeg", "tcp", server.url(path), media["h264+aac"])
    with tools.start("publish", publish, tmp_path, net=server.net) as publisher:
        server.wait_for_publisher(path, publisher)
        output = tmp_path / "frames"
        command = tools.gstreamer(
            *tools.rtspsrc(f"rtsp://[::1]:{server.port}/{path}", protocols), "latency=50",
            "!", "rtph264depay", "!", *tools.h264_to_file(output, FRAMES),
        )  # fmt: skip
        finished = tools.run("read", command, tmp_path, net=server.net)
    message = f"{finished.describe()}\n--- server\n{server.log[-3000:]}"
    assert finished.process.returncode == 0 or tools.has_interrupted_its_pause(finished), message
    assert decoded_frames("gstreamer", output, tmp_path) >= FRAMES, message


# Codec, further options of the publishing and of the reading FFmpeg, and how many packets the reader waits for.
# H264 and H265 are rewritten by the metadata filter on both ends, because start codes may have 3 or 4 bytes.
# VP9 needs -copyinkf: FFmpeg does not see which VP9 packets from RTP are key frames, and would wait for one for ever.
# MJPEG is compared by its decoded pictures: RTP carries no JPEG headers, the reader makes new ones (RFC 2435).
COPIES = {
    "h264": (("-bsf:v", "h264_metadata"), 45),
    "h265": (("-bsf:v", "hevc_metadata"), 45),
    "vp8": ((), 45),
    "vp9": ((), 45),
    "aac": ((), 70),
    "opus": ((), 75),
    "mp3": ((), 60),
    "g711": ((), 75),
    "mjpeg": (("-c:v", "rawvideo"), 45),
}
MARGIN_PACKETS = 15
"""More than the last reader's packets may be on their way in the publisher when it is stopped."""


@pytest.mark.parametrize("codec", COPIES)
def test_packets_read_are_the_packets_published(
    server: tools.Server, media: dict[str, Path], codec: str, tmp_path: Path
) -> None:
    hash_options, least = COPIES[codec]
    path = f"copy_{codec}"
    sent, got = tmp_path / "sent.md5", tmp_path / "got.md5"
    publish = tools.ffmpeg(
        "-re", "-stream_loop", "-1", "-i", media[codec],
        "-c", "copy", "-strict", "experimental", "-f", "rtsp", "-rtsp_transport", "tcp", server.url(path),
        "-c", "copy", *hash_options, "-flush_packets", "1", "-f", "framemd5", sent,
    )  # fmt: skip
    read = tools.ffmpeg(
        "-rtsp_transport", "tcp", "-i", server.url(path),
        "-c", "copy", "-copyinkf", *hash_options, "-frames", str(least + MARGIN_PACKETS), "-f", "framemd5", got,
    )  # fmt: skip
    with tools.start("publish", publish, tmp_path, net=server.net) as publisher:
        server.wait_for_publisher(path, publisher)
        finished = tools.run("read", read, tmp_path, net=server.net)
        assert finished.process.returncode == 0, f"{finished.describe()}\n{publisher.describe()}\n{server.log[-3000:]}"
        publisher.stop((signal.SIGINT,))
    tools.compare_packets(tools.read_framemd5(sent.read_text()), tools.read_framemd5(got.read_text()), least=least)
