"""Polycast pulls from real servers, each kind of source over each transport: the frames are those of the origin.

The origins serve files in real time; Polycast pulls them all into one process; FFmpeg copies each path from there.
What it copies is a run of the packets of the file, and sound and picture are as much in sync as there.

FFmpeg serves RTMP to one reader (``-listen 1``), HLS only as files (nginx serves them here), and RTSP not at all: its
muxer is a client that announces, and ``-rtsp_flags listen`` makes the demuxer wait for one that does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.interop import copies, origins, tools
from tests.interop.tools import HashedPacket
from tests.support import made

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

SECONDS_OF_MEDIA = 130
"""More than the limits below together: the media must not end before they do, however busy the machine is."""
READ_MEDIA = 5
"""Seconds of the stream that each reader copies."""
LEAST = {"h264-aac": {copies.VIDEO: 105, copies.AUDIO: 164}, "h265-opus": {copies.VIDEO: 53, copies.AUDIO: 175}}
"""Packets of each track that a reader must get: at least 3.5 s. The sound may begin before the picture."""
SETTLING = {"h264-aac": {copies.VIDEO: 45, copies.AUDIO: 75}, "h265-opus": {copies.VIDEO: 23, copies.AUDIO: 75}}
"""Packets at the start, 1.5 s, whose times do not count: players put the tracks together by the first sender reports,
which come within a second."""
READY_SECONDS = 60.0

# x265 needs much time for a picture; small ones with much detail are too long for one RTP packet, too.
PICTURE = {
    "h264-aac": ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=30"),
    "h265-opus": ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=15"),
}
# A rising tone, so that no two packets are alike.
SOUND = ("-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*t*(300+100*t)):sample_rate=48000")
ENCODERS = {
    "h264-aac": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-bf", "2", "-b_strategy", "0",
                 "-x264-params", "scenecut=0", "-c:a", "aac", "-b:a", "64k"),
    # Closed groups of pictures: those that lie before an open one's key frame cannot be decoded by who begins there.
    "h265-opus": ("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1",
                  "-x265-params", "keyint=8:open-gop=0:bframes=2:crf=18:log-level=error",
                  "-c:a", "libopus", "-b:a", "64k"),
}  # fmt: skip
FILTERS = {"h264-aac": copies.NO_H264_SETS, "h265-opus": copies.NO_H265_SETS}

ORIGINS = {
    "polycast": origins.polycast,
    "gstreamer": origins.gstreamer,
    "ffmpeg": origins.ffmpeg,
    "nginx": origins.nginx,
}


PROTOCOLS = ("udp", "multicast", "tcp", "automatic")
MOUNTS = ("udp", "multicast", "tcp")


@dataclass(frozen=True)
class Row:
    """A path that is pulled."""

    origin: str
    name: str
    source: str
    """``{rtsp}`` and the like stand for the origin's ports, ``{media}`` for the name of the stream."""
    protocol: str = "automatic"
    tolerance: float = 0.001
    """Seconds by which times may be off: RTMP counts in milliseconds."""
    media: str = "h264-aac"

    @property
    def path(self) -> str:
        return f"{self.origin}-{self.name}-{self.media}"

    def settings(self, origin: origins.Origin) -> str:
        """Return the configuration of the path, in YAML."""
        source = self.source.replace("{media}", self.media).format(host=origin.host, **origin.ports)
        is_secure = source.startswith(("rtsps:", "rtmps:", "https:"))
        return (
            f"  {self.path}:\n    source: {source}\n    sourceProtocol: {self.protocol}\n    sourceRetryPause: 200ms\n"
            f"    sourceFingerprint: {origin.fingerprint if is_secure else ''}\n"
        )


H264_ROWS = (
    *(Row("polycast", f"rtsp-{protocol}", "rtsp://127.0.0.1:{rtsp}/{media}", protocol) for protocol in PROTOCOLS),
    Row("polycast", "rtsps", "rtsps://127.0.0.1:{rtsps}/{media}"),
    Row("polycast", "rtmp", "rtmp://127.0.0.1:{rtmp}/{media}"),
    Row("polycast", "rtmps", "rtmps://127.0.0.1:{rtmps}/{media}"),
    Row("polycast", "hls-mpegts", "http://127.0.0.1:{mpegts}/{media}/index.m3u8"),
    Row("polycast", "hls-fmp4", "http://127.0.0.1:{fmp4}/{media}/index.m3u8"),
    Row("polycast", "hls-lowLatency", "https://127.0.0.1:{lowLatency}/{media}/index.m3u8"),
    *(Row("gstreamer", f"rtsp-{mount}", f"rtsp://{{host}}:{{rtsp}}/{{media}}-{mount}", mount) for mount in MOUNTS),
    Row("gstreamer", "rtsp-automatic", "rtsp://{host}:{rtsp}/{media}-all"),
    Row("gstreamer", "rtsp-automatic-refused", "rtsp://{host}:{rtsp}/{media}-tcp"),
    Row("gstreamer", "rtsps", "rtsps://{host}:{rtsps}/{media}-all"),
    Row("ffmpeg", "rtmp", "rtmp://127.0.0.1:{rtmp-{media}}/live/{media}"),
    Row("nginx", "rtmp", "rtmp://127.0.0.1:{rtmp}/live/{media}"),
    # The RTMP module recomputes audio times from the number of samples, unless they are off by more than 2 ms.
    Row("nginx", "rtmp-hls", "http://127.0.0.1:{http}/rtmp/{media}.m3u8", tolerance=0.003),
    *(Row("nginx", name, f"http://127.0.0.1:{{http}}/{name}-{{media}}/index.m3u8") for name in origins.HLS_FILES),
    Row("nginx", "https", "https://127.0.0.1:{https}/mpegts-{media}/index.m3u8"),
)
CARRY_H265 = {
    "polycast": ("rtsp-udp", "rtsps", "rtmp", "hls-mpegts", "hls-fmp4", "hls-lowLatency"),
    "gstreamer": ("rtsp-udp", "rtsp-tcp"),
    "ffmpeg": ("rtmp",),
    "nginx": ("fmp4",),
}
"""Rows that are run with H265 and Opus, too."""
ROWS = (
    *H264_ROWS,
    *(dataclasses.replace(row, media="h265-opus") for row in H264_ROWS if row.name in CARRY_H265[row.origin]),
)


PULLED_IN_WORDS_OF_MEDIAMTX = ("polycast", "ffmpeg")
"""Origins whose paths are in a configuration of MediaMTX; those of the others in one of rtsp-simple-server."""


@dataclass
class Results:
    """What came of pulling all rows of an origin."""

    origin: str
    readers: dict[str, tools.Program] = field(default_factory=dict)
    """By path, those that were started: the path was ready."""
    copied: dict[str, list[HashedPacket]] = field(default_factory=dict)
    log: str = ""
    """Of the Polycast that pulled."""
    origin_log: str = ""

    def lines(self, row: Row) -> list[str]:
        """Return what the log says of a row's path."""
        return [line for line in self.log.splitlines() if f"[path {row.path}]" in line]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files that the origins serve."""
    tools.require("ffmpeg")
    folder = tmp_path_factory.mktemp("media")
    for name in ENCODERS:
        (folder / f"{name}.mp4").symlink_to(media_file(name))
    return folder


def media_file(name: str) -> Path:
    length = ("-t", str(SECONDS_OF_MEDIA))
    return made.by_ffmpeg(".mp4", *PICTURE[name], *SOUND, *length, "-pix_fmt", "yuv420p", *ENCODERS[name])


@pytest.fixture(scope="module")
def published(media: Path) -> dict[str, list[HashedPacket]]:
    """The packets of the files."""
    return {name: copies.hashes_of_media(media_file(name), FILTERS[name]) for name in ENCODERS}


@pytest.fixture(scope="module")
def results(net: tools.Network, media: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Results]:
    """Return what came of an origin, which runs when it is first asked for."""
    made: dict[str, Results | BaseException] = {}

    def of_origin(name: str) -> Results:
        if name not in made:
            try:
                made[name] = pull_all(name, net, media, tmp_path_factory)
            except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
                made[name] = error
        found = made[name]
        if isinstance(found, BaseException):
            raise found
        return found

    return of_origin


def pull_all(name: str, net: tools.Network, media: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Run an origin, pull all its rows and copy each path, all at once."""
    rows = [row for row in ROWS if row.origin == name and (row.protocol != "multicast" or net.has_multicast)]
    results = Results(name)
    folder = tmp_path_factory.mktemp(name)
    home = tmp_path_factory.mktemp(f"{name}-puller")
    with ORIGINS[name](folder, media, net) as origin:
        settings = "paths:\n" + "".join(row.settings(origin) for row in rows)
        dialect = tools.DIALECTS[name in PULLED_IN_WORDS_OF_MEDIAMTX]
        with (
            tools.run_server(home, settings, net=net, dialect=dialect) as server,
            contextlib.ExitStack() as stack,
        ):
            deadline = time.monotonic() + READY_SECONDS
            for row in rows:
                if wait_until_ready(server, row, deadline):
                    command = read_command(server, row, home / f"{row.path}.md5")
                    results.readers[row.path] = stack.enter_context(tools.start(row.path, command, home, net=net))
            deadline = time.monotonic() + tools.RUN_SECONDS
            for reader in results.readers.values():
                reader.wait(max(0.0, deadline - time.monotonic()))
            results.log, results.origin_log = server.log, origin.log
    for path in results.readers:
        output = home / f"{path}.md5"
        results.copied[path] = tools.read_framemd5(output.read_text()) if output.exists() else []
    return results


def wait_until_ready(server: tools.Server, row: Row, deadline: float) -> bool:
    """Return whether a path is ready before a monotonic time."""
    while not re.search(rf"\[path {row.path}\] \[\w+ source\] ready", server.log):
        if time.monotonic() > deadline:
            return False
        time.sleep(tools.POLL_SECONDS)
    return True


def read_command(server: tools.Server, row: Row, output: Path) -> list[str | Path]:
    return tools.quick_ffmpeg(
        "-rtsp_transport", "tcp", "-analyzeduration", "1M", "-i", server.url(row.path), "-t", str(READ_MEDIA),
        *copies.hash_arguments(FILTERS[row.media], output),
    )  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_frames_are_those_of_the_origin(
    results: Callable[[str], Results], row: Row, net: tools.Network, published: dict[str, list[HashedPacket]]
) -> None:
    if row.protocol == "multicast" and not net.has_multicast:
        pytest.skip("multicast between programs of one machine needs a network namespace, and that needs root")
    result = results(row.origin)
    log = "\n".join(result.lines(row))
    assert row.path in result.readers, f"it was not ready\n{log}\n{result.origin_log[-3000:]}"
    reader = result.readers[row.path]
    assert reader.process.returncode == 0, f"{reader.describe()}\n{log}"
    copies.compare_copy(
        published[row.media],
        result.copied[row.path],
        least=LEAST[row.media],
        tolerance=row.tolerance,
        settling=SETTLING[row.media],
    )
    assert log.count(" source] ready") == 1, f"the source was interrupted\n{log}"


def test_each_transport_was_used(results: Callable[[str], Results], net: tools.Network) -> None:
    """GStreamer's mounts refuse all transports but one; Polycast as the origin says what it was asked for."""
    log = results("polycast").origin_log
    used = re.findall(r"is reading from path '(\S+)', with (\S+),", log)
    expected = [("h264-aac", name) for name in ("TCP", "TCP/TLS", "UDP", "UDP")]
    expected += [("h265-opus", name) for name in ("TCP/TLS", "UDP")]
    if net.has_multicast:
        expected.append(("h264-aac", "UDP-multicast"))
    assert sorted(used) == sorted(expected)
    log = results("gstreamer").log
    assert re.findall(r"\[path (\S+)\] \[rtsp source\] UDP does not work \(bad status code: 461", log) == [
        "gstreamer-rtsp-automatic-refused-h264-aac"
    ]


def test_ffmpeg_serves_no_rtsp(net: tools.Network, media: Path, tmp_path: Path) -> None:
    url = f"rtsp://127.0.0.1:{tools.free_port()}/cam"
    muxer = tools.ffmpeg("-i", media / "h264-aac.mp4", "-c", "copy", "-f", "rtsp", "-rtsp_flags", "listen", url)
    dialled = tools.run("mux", muxer, tmp_path, net=net)
    assert dialled.process.returncode != 0
    assert "Connection refused" in dialled.errors, "as a muxer it is a client whatever its flags say"
    demuxer = tools.ffmpeg("-rtsp_flags", "listen", "-i", url, "-f", "null", "-")
    settings = f"paths:\n  cam:\n    source: {url}\n    sourceRetryPause: 100ms\n"
    with (
        tools.start("demux", demuxer, tmp_path, net=net) as waiting,
        tools.run_server(tmp_path, settings, net=net) as server,
    ):
        assert waiting.wait(), server.log
        assert "Unexpected command in Idle State DESCRIBE" in waiting.errors
        server.program.wait_until(lambda: "] failed: " in server.log, "end of the source")
