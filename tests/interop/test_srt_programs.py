"""FFmpeg, GStreamer, srt-live-transmit and gosrt publish and read over SRT, clear and encrypted."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.interop import copies, go_programs, tools
from tests.interop.copies import AUDIO, NO_H264_SETS, VIDEO
from tests.interop.lossy_relay import lossy_relay
from tests.interop.tools import HashedPacket
from tests.support import made
from tests.support.ports import free_port

pytestmark = pytest.mark.interop

SECRET = "a_long_passphrase"
SIZES = {"": 0, "128": 16, "192": 24, "256": 32}
PUBLISHERS = ("ffmpeg", "srt-live-transmit", "gstreamer", "gosrt")
READERS = ("ffmpeg", "srt-live-transmit", "gstreamer", "gosrt")
GO_PACKAGE, GO_REQUIREMENTS = "github.com/datarhei/gosrt/contrib/client", "\tgithub.com/datarhei/gosrt v0.9.0\n"
FED = ("srt-live-transmit", "gosrt")
"""Programs that send what they get over UDP."""
PICTURES, SOUNDS = 40, 60
"""Packets that a reader has to get at least."""


@dataclass
class Running:
    """A server with SRT, and what is published to it."""

    server: tools.Server
    port: int
    api_port: int
    media: Path
    published: list[HashedPacket]

    @property
    def folder(self) -> Path:
        return self.server.folder

    def url(self, stream_id: str, key: str = "") -> str:
        return f"srt://127.0.0.1:{self.port}?mode=caller&streamid={stream_id}{parameters(key)}"

    @contextlib.contextmanager
    def path(self, name: str, settings: Mapping[str, Any]) -> Iterator[Callable[[str], Callable[[], bool]]]:
        """Add a path until the block ends. Return a function whose functions tell whether the log has a text since."""
        before = len(self.server.log)
        self._ask("POST", f"add/{name}", settings)
        try:
            yield lambda text: lambda: text in self.server.log[before:]
        finally:
            self._ask("DELETE", f"delete/{name}")

    def _ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> None:
        url = f"http://127.0.0.1:{self.api_port}/v3/config/paths/{path}"
        data = json.dumps(content).encode() if content else None
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60).close()


def parameters(key: str) -> str:
    return f"&passphrase={SECRET}&pbkeylen={SIZES[key]}" if key else ""


@pytest.fixture(scope="session")
def media() -> Path:
    """A minute of pictures with B-frames, and sound."""
    tools.require("ffmpeg")
    return made.by_ffmpeg(
        ".ts", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-f", "lavfi", "-i", "sine", "-t", "60",
        "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "2", "-c:a", "aac",
    )  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Iterator[Running]:
    secret = f"{{srtPublishPassphrase: {SECRET}, srtReadPassphrase: {SECRET}}}"
    paths = "".join(f"  ~^secret{key}: {secret}\n" for key in SIZES if key) + "  all:\n"
    port, api_port = free_port(), free_port()
    addresses = f"srt: yes\nsrtAddress: 127.0.0.1:{port}\napi: yes\napiAddress: 127.0.0.1:{api_port}\n"
    folder = tmp_path_factory.mktemp("srt")
    with tools.run_server(folder, f"{addresses}paths:\n{paths}", dialect="mediamtx") as server:
        server.program.wait_until(lambda: "[SRT] listener opened" in server.log, "an SRT listener")
        yield Running(server, port, api_port, media, copies.hashes_of_media(media, NO_H264_SETS))


def path_of(publisher: str, key: str) -> str:
    return f"{f'secret{key}' if key else 'clear'}-{publisher}"


def ffmpeg(name: str, *arguments: str | Path) -> list[str | Path]:
    """Return a command line of Debian's FFmpeg, or of ``quick-ffmpeg``, where another program is what matters."""
    return tools.ffmpeg(*arguments) if name == "ffmpeg" else tools.quick_ffmpeg(*arguments)


def publish_command(name: str, url: str, media: Path) -> list[str | Path]:
    """Return a command that sends the file at its own pace; srt-live-transmit gets it from `feed_command`."""
    if name.endswith("ffmpeg"):
        return ffmpeg(name, "-re", "-i", media, "-c", "copy", "-f", "mpegts", f"{url}&pkt_size=1316")
    if name == "gstreamer":
        reading = ("filesrc", f"location={media}", "!", "tsparse", "set-timestamps=true", "alignment=7", "!")
        return tools.gstreamer(*reading, "srtsink", f"uri={url}", "sync=true")
    if name == "gosrt":
        return [gosrt(), "-from", f"udp://127.0.0.1:{feed_port()}", "-to", url]
    return ["srt-live-transmit", "-q", "-chunk:1316", f"udp://127.0.0.1:{feed_port()}", url]


def gosrt() -> str:
    """Return the program of gosrt that copies a stream. Without a latency, it has none."""
    return go_programs.built("gosrt-client", GO_PACKAGE, GO_REQUIREMENTS)


@functools.cache
def feed_port() -> int:
    """Return the port on which srt-live-transmit gets what it sends."""
    return free_port()


def feed_command(media: Path) -> list[str | Path]:
    address = f"udp://127.0.0.1:{feed_port()}?pkt_size=1316"
    return tools.quick_ffmpeg("-re", "-i", media, "-c", "copy", "-f", "mpegts", address)


def read_command(name: str, url: str, output: Path) -> list[str | Path]:
    """Return a command that writes what it reads to a file, and does not end by itself."""
    if name.endswith("ffmpeg"):
        copy = ("-map", "0", "-c", "copy", "-copyts", "-flush_packets", "1", "-f", "mpegts")
        return ffmpeg(name, "-analyzeduration", "1000000", "-i", url, *copy, output)
    if name == "gstreamer":
        return tools.gstreamer("srtsrc", f"uri={url}", "!", "filesink", f"location={output}", "buffer-mode=2")
    if name == "gosrt":
        return [gosrt(), "-from", url, "-to", f"file://{output}"]
    return ["sh", "-c", f"exec srt-live-transmit -q -chunk:1316 '{url}' file://con > {output}"]


def require(*names: str) -> None:
    for name in set(names) - {"gosrt"}:
        tools.require("gst-launch-1.0" if name == "gstreamer" else name)
    if "gosrt" in names:
        gosrt()


def check(output: Path, published: list[HashedPacket]) -> None:
    """Assert that the packets in a file are published ones, without a gap."""
    received = copies.hashes_of_file(output, NO_H264_SETS)
    # The last picture of a file that was cut off may not be whole.
    last = max(index for index, packet in enumerate(received) if packet.stream == VIDEO)
    received = [packet for index, packet in enumerate(received) if index != last]
    last = max(index for index, packet in enumerate(received) if packet.stream == AUDIO)
    received = [packet for index, packet in enumerate(received) if index != last]
    shifts = {track: copies.compare_track(published, received, track) for track in (VIDEO, AUDIO)}
    assert len(shifts[VIDEO]) >= PICTURES
    assert len(shifts[AUDIO]) >= SOUNDS
    steps = [presented for each in shifts.values() for presented, _ in each[10:]]
    assert max(steps) - min(steps) < 0.002, "pictures and sound have the distance that they had"


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


ENOUGH = 140_000
"""Bytes with `PICTURES` and `SOUNDS`."""


@pytest.mark.parametrize(
    ("publisher", "key"),
    [(publisher, key) for publisher in PUBLISHERS for key in SIZES if publisher != "gosrt" or key in ("", "256")],
)
def test_frames_arrive_unchanged(running: Running, publisher: str, key: str) -> None:
    require(publisher, *READERS)
    path, folder = path_of(publisher, key), running.folder
    command = publish_command(publisher, running.url(f"publish:{path}", key), running.media)
    with tools.start(publisher, command, folder) as publishing, contextlib.ExitStack() as stack:
        if publisher in FED:
            stack.enter_context(tools.start("feed", feed_command(running.media), folder))
        running.server.wait_for_publisher(path, publishing)
        outputs = {reader: folder / f"{path}-{reader}.ts" for reader in READERS}
        programs = {
            reader: stack.enter_context(
                tools.start(reader, read_command(reader, running.url(f"read:{path}", key), output), folder)
            )
            for reader, output in outputs.items()
        }
        for reader, program in programs.items():
            program.wait_until(lambda output=outputs[reader]: size_of(output) > ENOUGH, "enough received bytes")  # type: ignore[misc]
    for output in outputs.values():
        check(output, running.published)


LATENCY = 4000
"""Milliseconds in which lost packets are repaired, also several times in a row, and on a machine that stands still."""


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.15])
def test_losses_are_repaired(running: Running, loss: float) -> None:
    """Neither what libsrt sends nor what it receives has a gap."""
    require("ffmpeg", *READERS)
    path, folder = f"loss{round(loss * 100)}", running.folder
    with lossy_relay(running.port, loss) as relay, contextlib.ExitStack() as stack:
        # FFmpeg counts the latency in microseconds.
        url = f"srt://127.0.0.1:{relay.port}?mode=caller&latency={{}}&streamid="
        command = publish_command("ffmpeg", f"{url.format(1000 * LATENCY)}publish:{path}", running.media)
        publishing = stack.enter_context(tools.start("publisher", command, folder))
        running.server.wait_for_publisher(path, publishing)
        outputs = {reader: folder / f"{path}-{reader}.ts" for reader in READERS}
        programs = {}
        for reader, output in outputs.items():
            address = f"{url.format(1000 * LATENCY if reader == 'ffmpeg' else LATENCY)}read:{path}"
            programs[reader] = stack.enter_context(tools.start(reader, read_command(reader, address, output), folder))
        for reader, program in programs.items():
            program.wait_until(lambda output=outputs[reader]: size_of(output) > 2 * ENOUGH, "enough received bytes")  # type: ignore[misc]
        assert relay.lost > 400 * loss
    for output in outputs.values():
        check(output, running.published)


@pytest.mark.parametrize(
    ("stream_id", "expected"),
    [
        ("read:nobody", "1404"),
        ("write:clear", "1400"),
        ("read:secret128-x", "Password required or unexpected"),
    ],
)
def test_a_refused_program_says_why(running: Running, stream_id: str, expected: str) -> None:
    tools.require("srt-live-transmit")
    command = ["srt-live-transmit", "-loglevel:note", running.url(stream_id), "file://con"]
    if expected.isdigit():
        expected = "Application-defined rejection reason"
    with tools.start("refused", command, running.folder) as program:
        program.wait_until(lambda: expected in program.errors + program.output, "the reason")


names = (f"added{number}" for number in itertools.count(1))
"""Of paths that are added for one test."""
OTHER_MODE = {"caller": "listener", "listener": "caller"}
HOSTS = "127.0.0.1", "127.0.0.2"
"""Of this side and of the other one, if they meet."""


def addresses(mode: str, program: str, key: str) -> tuple[str, str]:
    """Return the addresses for the server, which is in this mode, and for the other program."""
    port, ours, theirs = free_port(), *HOSTS
    secret = parameters(key)
    if mode != "rendezvous":
        return tuple(f"srt://127.0.0.1:{port}?mode={each}{secret}" for each in (mode, OTHER_MODE[mode]))  # type: ignore[return-value]
    local = f"localaddress={theirs}&localport={port}" if program == "gstreamer" else f"adapter={theirs}"
    return (
        f"srt://{theirs}:{port}?mode=rendezvous&adapter={ours}{secret}",
        f"srt://{ours}:{port}?mode=rendezvous&{local}{secret}",
    )


@pytest.mark.parametrize(
    ("origin", "mode", "key"),
    [
        ("ffmpeg", "caller", ""),
        ("ffmpeg", "caller", "256"),
        ("ffmpeg", "listener", ""),
        ("ffmpeg", "listener", "256"),
        ("gosrt", "caller", "256"),
        ("gosrt", "listener", ""),
        ("srt-live-transmit", "rendezvous", "256"),
        ("gstreamer", "rendezvous", ""),
    ],
)
def test_a_source(running: Running, tmp_path: Path, origin: str, mode: str, key: str) -> None:
    """The other side listens or calls, or both call."""
    require("ffmpeg", origin)
    path = next(names)
    source, url = addresses(mode, origin, key)
    settings = {"source": source, "sourceRetryPause": "100ms", "sourceRetryPauseMax": "200ms"}
    with running.path(path, settings) as has_logged, contextlib.ExitStack() as stack:
        if mode == "listener":
            running.server.program.wait_until(has_logged("waits for a connection on port"), "a listening source")
        program = stack.enter_context(tools.start("origin", publish_command(origin, url, running.media), tmp_path))
        if origin in FED:
            stack.enter_context(tools.start("feed", feed_command(running.media), tmp_path))
        program.wait_until(has_logged("ready: 2 tracks (H264, AAC)"), "a ready source")
        output = tmp_path / "out.ts"
        reader = stack.enter_context(
            tools.start("reader", read_command("quick-ffmpeg", running.url(f"read:{path}"), output), tmp_path)
        )
        reader.wait_until(lambda: size_of(output) > ENOUGH, "enough received bytes")
    check(output, running.published)


@pytest.mark.parametrize(
    ("target", "mode", "key"),
    [
        ("srt-live-transmit", "caller", ""),
        ("srt-live-transmit", "caller", "128"),
        ("srt-live-transmit", "listener", ""),
        ("srt-live-transmit", "listener", "128"),
        ("gosrt", "caller", "128"),
        ("gosrt", "listener", ""),
        ("srt-live-transmit", "rendezvous", ""),
        ("gstreamer", "rendezvous", "128"),
    ],
)
def test_a_destination(running: Running, tmp_path: Path, target: str, mode: str, key: str) -> None:
    """The stream is forwarded to a program that listens or calls, or both call."""
    require("ffmpeg", target)
    path = next(names)
    destination, url = addresses(mode, target, key)
    with running.path(path, {"forward": [{"dest": destination}]}) as has_logged:
        output = tmp_path / "out.ts"
        command = publish_command("quick-ffmpeg", running.url(f"publish:{path}"), running.media)
        with tools.start("publisher", command, tmp_path) as publisher:
            if mode == "listener":  # gosrt calls once
                publisher.wait_until(has_logged("waits for a connection on port"), "a listening destination")
            with tools.start("target", read_command(target, url, output), tmp_path) as program:
                program.wait_until(lambda: size_of(output) > ENOUGH, "enough received bytes")
    check(output, running.published)
