"""What is published over RTSP and RTMP comes out of each variant of HLS, read by FFmpeg, GStreamer and VLC.

FFmpeg also copies the packets: they are the published ones, and sound and picture are as much in sync as they were.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.copies import AUDIO, VIDEO, compare_track
from tests.interop.hls_server import VARIANTS, HlsServer, run_hls_server
from tests.support import made

pytestmark = pytest.mark.interop

SECONDS_OF_MEDIA = 25
SIZE = (320, 180)
MEDIA = (
    "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30",
    "-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*t*(300+100*t)):sample_rate=48000",
    "-t", str(SECONDS_OF_MEDIA), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30",
    "-bf", "2", "-b_strategy", "0", "-x264-params", "scenecut=0", "-c:a", "aac", "-b:a", "64k",
)  # fmt: skip
NO_SETS = "h264_mp4toannexb,filter_units=remove_types=6-9"
"""Parameter sets, delimiters and SEI are left out on both sides: the containers add and move them."""
FRAMES = 60
ENOUGH = FRAMES * SIZE[0] * SIZE[1] * 3 // 2
"""Bytes of that many decoded pictures."""
SYNC = 0.020
"""Seconds by which picture and sound may be apart."""
READERS = ("copy", "ffmpeg", "gstreamer", "vlc")


@pytest.fixture(scope="module")
def media() -> Path:
    tools.require("ffmpeg")
    return made.by_ffmpeg(".mp4", *MEDIA)


@pytest.fixture(scope="module", params=VARIANTS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HlsServer]:
    with run_hls_server(tmp_path_factory.mktemp(request.param), request.param) as running:
        yield running


HASHES = ("-map", "0:v", "-map", "0:a", "-c", "copy", "-copyts", "-bsf:v", NO_SETS, "-bsf:a", "aac_adtstoasc",
          "-flush_packets", "1", "-f", "framemd5")  # fmt: skip
"""FFmpeg's arguments that copy picture and sound as hashes of their packets."""


def read_command(name: str, server: HlsServer, path: str, output: Path) -> list[str | Path]:
    url = server.url(path)
    if name == "copy":
        # No "-t", which would count from the start of the stream, as timestamps are copied.
        return tools.ffmpeg("-i", url, "-frames:v", "160", "-frames:a", "260", *HASHES, output)
    if name == "ffmpeg":
        return tools.ffmpeg("-i", url, "-map", "0:v", "-frames:v", str(FRAMES), "-f", "framemd5", output)
    if name == "vlc":
        trust = [f"--gnutls-dir-trust={output.parent}"] if server.variant == "lowLatency" else []
        return tools.vlc(*trust, "--run-time=8", "--sout", "#transcode{vcodec=mp2v,acodec=none}:std{access=file,"
                         f"mux=ts,dst={output}}}", url, "vlc://quit")  # fmt: skip
    # It never ends by itself: hlsdemux waits for more of a live stream even when nobody wants it.
    return tools.gstreamer(
        "souphttpsrc", f"location={url}", "ssl-strict=false", "!", "hlsdemux", "!", "decodebin", "!", "videoconvert",
        "!", "video/x-raw,format=I420", "!", "filesink", "buffer-mode=unbuffered", f"location={output}",
    )  # fmt: skip


def decoded_frames(name: str, output: Path, folder: Path) -> int:
    """Return how many pictures a reader has written."""
    if not output.exists():
        return 0
    if name == "ffmpeg":
        return len(tools.read_framemd5(output.read_text()))
    if name == "gstreamer":
        return output.stat().st_size // (SIZE[0] * SIZE[1] * 3 // 2)
    hashes = folder / "vlc.md5"
    tools.run("count", tools.quick_ffmpeg("-i", output, "-map", "0:v", "-f", "framemd5", hashes), folder)
    return len(tools.read_framemd5(hashes.read_text())) if hashes.exists() else 0


@pytest.fixture(scope="module", params=["rtsp", "rtmp"])
def results(
    request: pytest.FixtureRequest, server: HlsServer, media: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[tools.Program, Path]]]:
    """What all readers made of one publisher, by reader: the program that has ended, and its output."""
    protocol = request.param
    path = f"live/{protocol}"
    folder = tmp_path_factory.mktemp(f"{server.variant}-{protocol}")
    # VLC is another user than root, to whom the folders of the tests are closed.
    open_folder = Path(tempfile.mkdtemp(prefix="polycast-hls-", dir="/tmp"))
    open_folder.chmod(0o777)
    shutil.copy(server.folder / "ca.crt", open_folder / "ca.crt")
    (open_folder / "ca.crt").chmod(0o644)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(server.publishing(path, protocol, "-re", "-i", media, "-c", "copy"))
            running = {}
            for name in READERS:
                program = {"copy": "ffmpeg", "gstreamer": "gst-launch-1.0"}.get(name, name)
                if shutil.which(program) is None:
                    continue
                output = (open_folder if name == "vlc" else folder) / f"{name}.out"
                command = read_command(name, server, path, output)
                running[name] = (stack.enter_context(tools.start(f"read-{name}", command, folder)), output)
            for name, (program, output) in running.items():
                if name == "gstreamer":
                    program.wait_until(lambda file=output: file.exists() and file.stat().st_size >= ENOUGH, "pictures")
                    program.stop()
                else:
                    program.wait()
            yield running
    finally:
        shutil.rmtree(open_folder)


@pytest.mark.parametrize("reader", READERS[1:])
def test_read(results: dict[str, tuple[tools.Program, Path]], server: HlsServer, reader: str, tmp_path: Path) -> None:
    if reader not in results:
        tools.require({"gstreamer": "gst-launch-1.0"}.get(reader, reader))
    program, output = results[reader]
    assert reader == "gstreamer" or program.process.poll() == 0, f"{program.describe()}\n{server.log[-3000:]}"
    assert decoded_frames(reader, output, tmp_path) >= FRAMES, program.describe()
    for complaint in ("error while decoding", "concealing", "Invalid data", "non-existing PPS"):
        assert complaint not in program.errors, program.describe()


def test_copy(results: dict[str, tuple[tools.Program, Path]], server: HlsServer, media: Path) -> None:
    program, output = results["copy"]
    assert program.process.poll() == 0, f"{program.describe()}\n{server.log[-3000:]}"
    published = tools.read_framemd5(made.by_ffmpeg(".md5", "-i", media, *HASHES).read_text())
    received = tools.read_framemd5(output.read_text())
    picture = [presented for presented, _ in compare_track(published, received, VIDEO)]
    sound = [presented for presented, _ in compare_track(published, received, AUDIO)]
    assert len(picture) >= 100
    assert len(sound) >= 150
    shift = statistics.median(picture)
    apart = max(abs(moved - shift) for moved in (*picture, *sound))
    print(f"{server.variant}: {len(picture)} pictures, {len(sound)} sounds, at most {apart * 1000:.2f} ms apart")
    assert apart <= SYNC
