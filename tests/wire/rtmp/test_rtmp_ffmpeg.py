"""Real FFmpegs publish to the server engine and read from it: what comes out is what went in.

Two FFmpegs are used: the one on the system, and a current one that speaks Enhanced RTMP (the package
``imageio-ffmpeg``, or ``POLYCAST_CURRENT_FFMPEG``). The sockets are a few lines of asyncio here.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.ports import free_port
from tests.wire.rtmp.support import SEED

from polycast.errors import RemoteProtocolError
from polycast.media.track import Track
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.connection import Connection
from polycast.wire.rtmp.events import (
    Event,
    FrameReceived,
    PeerClosedStream,
    PlayRequested,
    PublishRequested,
    RequestAccepted,
    TrackChanged,
    TrackIgnored,
    TracksKnown,
)
from polycast.wire.rtmp.server import PUBLISH_REFUSED, ServerConnection

pytestmark = pytest.mark.interop

PROCESS_SECONDS = 30


def system_ffmpeg() -> str | None:
    return shutil.which("ffmpeg")


def current_ffmpeg() -> str | None:
    path = os.environ.get("POLYCAST_CURRENT_FFMPEG")
    if path is None and importlib.util.find_spec("imageio_ffmpeg") is not None:
        path = str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    return path


FINDERS: dict[str, Callable[[], str | None]] = {"system": system_ffmpeg, "current": current_ffmpeg}


def ffmpeg(name: str) -> str:
    path = FINDERS[name]()
    if path is None:
        pytest.skip(f"there is no {name} FFmpeg")
    return path


@dataclass
class Session:
    """What one connection told, and what is to be played on it."""

    events: list[Event] = field(default_factory=list)
    error: Exception | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    play: list[Event] = field(default_factory=list)
    refuse: str = ""
    multitrack: bool = False
    """Treat the player as one that announced multitrack; FFmpeg understands it and says nothing."""

    @property
    def tracks(self) -> tuple[Track, ...]:
        return next(event.tracks for event in self.events if isinstance(event, TracksKnown))

    @property
    def media(self) -> list[Event]:
        return [event for event in self.events if isinstance(event, (TracksKnown, TrackChanged, FrameReceived))]


class Shell(asyncio.Protocol):
    """The least that drives an engine."""

    def __init__(self, connection: Connection, session: Session) -> None:
        self.connection = connection
        self.session = session
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self.connection.receive_data(data, time.monotonic()):
                self.handle(event)
            while self.connection.has_more:
                for event in self.connection.receive_data(b"", time.monotonic()):
                    self.handle(event)
        except RemoteProtocolError as error:
            self.session.error = error
            self.close()
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        demuxer = self.connection.demuxer
        if demuxer is not None:
            try:
                self.session.events += demuxer.handle_timeout(float("inf"))
            except RemoteProtocolError as problem:
                self.session.error = problem
        self.session.closed.set()

    def flush(self) -> None:
        data = self.connection.data_to_send()
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        self.flush()
        if self.transport is not None:
            self.transport.close()

    def handle(self, event: Event) -> None:
        session = self.session
        session.events.append(event)
        server = self.connection
        if isinstance(server, ServerConnection) and isinstance(event, PublishRequested):
            if session.refuse:
                server.refuse(PUBLISH_REFUSED, session.refuse)
                self.close()
            else:
                for following in server.accept_publish(time.monotonic()):
                    self.handle(following)
        elif isinstance(server, ServerConnection) and isinstance(event, PlayRequested):
            tracks = next(item.tracks for item in session.play if isinstance(item, TracksKnown))
            server.capabilities = replace(server.capabilities, multitrack=session.multitrack)
            carried = {track.index for track in server.accept_play(tracks)}
            send(server, [item for item in session.play if getattr(item, "track", 0) in carried])
            server.end_play()
            self.close()
        elif isinstance(event, RequestAccepted) and isinstance(server, ClientConnection) and session.play:
            server.send_tracks(next(item.tracks for item in session.play if isinstance(item, TracksKnown)))
            send(server, session.play)
            server.close_stream()
            self.close()
        elif isinstance(event, PeerClosedStream):
            self.close()


def send(connection: Connection, media: list[Event]) -> None:
    tracks: tuple[Track, ...] = ()
    for event in media:
        if isinstance(event, TracksKnown):
            tracks = event.tracks
        elif isinstance(event, TrackChanged):
            connection.update_track(replace(tracks[event.track], codec=event.codec))
        elif isinstance(event, FrameReceived):
            connection.send_frame(event.track, event.frame)


@asynccontextmanager
async def serve(session: Session) -> AsyncIterator[str]:
    """A server for one session; yields the URL of a stream on it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Shell(ServerConnection(time.monotonic(), seed=SEED), session), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"rtmp://127.0.0.1:{port}/app/key?user=u&pass=p"
    finally:
        server.close()
        await server.wait_closed()


async def run(program: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        program, "-hide_banner", "-nostdin", "-y", "-loglevel", "error", *arguments, stderr=subprocess.PIPE
    )
    try:
        _, output = await asyncio.wait_for(process.communicate(), PROCESS_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, output.decode("utf-8", "replace")


async def publish(program: str, source: Path, session: Session) -> tuple[int, str]:
    async with serve(session) as url:
        result = await run(program, "-i", str(source), "-map", "0", "-c", "copy", "-f", "flv", url)
        await asyncio.wait_for(session.closed.wait(), PROCESS_SECONDS)
    return result


Digest = dict[str, list[tuple[int, int, str]]]


async def frame_digests(program: str, source: str, output: Path) -> Digest:
    """Decoding time, presentation time in milliseconds and MD5 of every packet, by stream."""
    result, text = await run(program, "-i", source, "-map", "0", "-c", "copy", "-copyts", "-f", "framemd5", str(output))
    assert result == 0, text
    digests: Digest = {}
    for line in output.read_text().splitlines():
        if not line.startswith("#"):
            stream, dts, pts, _, _, digest = (part.strip() for part in line.split(",")[:6])
            digests.setdefault(stream, []).append((int(dts), int(pts), digest))
    return {"media": [], **{f"{items[0][2]}": items for items in digests.values()}}


def assert_equal(found: Digest, expected: Digest) -> None:
    """The same packets; times may differ by the millisecond of RTMP's rounding."""
    assert found.keys() == expected.keys()
    for name, packets in expected.items():
        assert [packet[2] for packet in found[name]] == [packet[2] for packet in packets]
        for (dts, pts, _), (expected_dts, expected_pts, _) in zip(found[name], packets, strict=True):
            assert abs(dts - expected_dts) <= 1
            assert abs(pts - expected_pts) <= 1


VIDEO = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=1")
AUDIO = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1:sample_rate=44100")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "10")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", "-g", "10")
# FFmpeg writes temporal delimiters, which the AV1 binding leaves out (and so do we).
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=2", "-g", "10", "-bsf:v", "av1_metadata=td=remove")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "10")

# Name, the FFmpeg that publishes and reads, the arguments that make the file, the codecs.
STREAMS = [
    ("h264-aac", "system", (*X264, "-bf", "0", "-c:a", "aac"), "H264 MPEG4Audio"),
    ("h264-b-frames", "system", (*X264, "-bf", "3", "-c:a", "aac"), "H264 MPEG4Audio"),
    ("h264-current", "current", (*X264, "-bf", "2", "-c:a", "aac"), "H264 MPEG4Audio"),
    ("h264-mp3", "system", (*X264, "-bf", "0", "-c:a", "libmp3lame"), "H264 MPEG2Audio"),
    ("h264-a-law", "system", (*X264, "-bf", "0", "-c:a", "pcm_alaw", "-ar", "8000"), "H264 PCMA"),
    ("h264-lpcm", "system", (*X264, "-bf", "0", "-c:a", "pcm_s16le"), "H264 LPCM"),
    ("aac-alone", "system", ("-vn", "-c:a", "aac"), "MPEG4Audio"),
    ("h264-alone", "system", (*X264, "-an"), "H264"),
    ("h265-opus", "current", (*X265, "-bf", "2", "-c:a", "libopus", "-ar", "48000"), "H265 Opus"),
    ("av1-flac", "current", (*AV1, "-c:a", "flac"), "AV1 FLAC"),
    ("vp9-ac3", "current", (*VP9, "-c:a", "ac3"), "VP9 AC3"),
    ("vp9-eac3", "current", (*VP9, "-c:a", "eac3"), "VP9 EAC3"),
]


@pytest.mark.parametrize(("name", "program", "encoding", "codecs"), STREAMS, ids=[stream[0] for stream in STREAMS])
async def test_publish_and_read(
    name: str, program: str, encoding: tuple[str, ...], codecs: str, tmp_path: Path
) -> None:
    executable = ffmpeg(program)
    source = tmp_path / f"{name}.flv"
    result, text = await run(executable, *VIDEO, *AUDIO, *encoding, str(source))
    assert result == 0, text

    published = Session()
    result, text = await publish(executable, source, published)
    assert published.error is None
    assert result == 0, text
    assert " ".join(map(str, published.tracks)) == codecs

    player = Session(play=published.media)
    async with serve(player) as url:
        found = await frame_digests(executable, url, tmp_path / "found")
    assert_equal(found, await frame_digests(executable, str(source), tmp_path / "expected"))


async def test_received_frames_are_those_of_the_encoder(tmp_path: Path) -> None:
    """Against the packets that another demuxer reads from the file, so nothing of ours is on both sides."""
    av = pytest.importorskip("av")
    executable = ffmpeg("system")
    source = tmp_path / "source.mp4"
    await run(executable, *VIDEO, *AUDIO, *X264, "-bf", "2", "-c:a", "aac", "-movflags", "+faststart", str(source))
    session = Session()
    await publish(executable, source, session)
    with av.open(str(source)) as container:
        # All that is needed, now: a packet must not outlive its container.
        packets = [
            (packet.stream.type, bytes(packet), packet.is_keyframe, float(packet.pts * packet.time_base))
            for packet in container.demux()
            if packet.size
        ]
    for index, kind in enumerate(("video", "audio")):
        frames = [event.frame for event in session.events if isinstance(event, FrameReceived) and event.track == index]
        expected = [packet[1:] for packet in packets if packet[0] == kind]
        payloads = [frame.avcc() if kind == "video" else frame.units[0] for frame in frames]
        assert payloads == [data for data, _, _ in expected]
        assert [frame.key for frame in frames] == [key for _, key, _ in expected]
        rate = session.tracks[index].clock_rate
        offset = frames[0].pts / rate - expected[0][2]
        for frame, (_, _, seconds) in zip(frames, expected, strict=True):
            assert abs(frame.pts / rate - offset - seconds) < 0.002


async def test_several_tracks_through_enhanced_rtmp(tmp_path: Path) -> None:
    executable = ffmpeg("current")
    source = tmp_path / "source.flv"
    second = ("-f", "lavfi", "-i", "sine=frequency=880:duration=1:sample_rate=48000")
    maps = ("-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:a:0", "aac", "-c:a:1", "libopus")
    result, text = await run(executable, *VIDEO, *AUDIO, *second, *maps, *X264, str(source))
    assert result == 0, text
    session = Session()
    result, text = await publish(executable, source, session)
    assert session.error is None
    assert result == 0, text
    assert [str(track) for track in session.tracks] == ["H264", "MPEG4Audio", "Opus"]
    player = Session(play=session.media, multitrack=True)
    async with serve(player) as url:
        found = await frame_digests(executable, url, tmp_path / "found")
    assert len(found) == 1 + 3
    assert_equal(found, await frame_digests(executable, str(source), tmp_path / "expected"))


@pytest.mark.parametrize("program", FINDERS)
async def test_a_reader_that_announces_nothing_keeps_its_picture(program: str, tmp_path: Path) -> None:
    """FFmpeg before 6.1 fails at the first enhanced message; later ones read them, and say as little."""
    source = tmp_path / "source.flv"
    result, text = await run(ffmpeg("current"), *VIDEO, *AUDIO, *X264, "-c:a", "libopus", str(source))
    assert result == 0, text
    session = Session()
    await publish(ffmpeg("current"), source, session)
    assert [str(track) for track in session.tracks] == ["H264", "Opus"]
    async with serve(Session(play=session.media)) as url:
        found = await frame_digests(ffmpeg(program), url, tmp_path / "found")
    picture = await frame_digests(ffmpeg("current"), str(source), tmp_path / "expected")
    expected = next(packets for packets in picture.values() if len(packets) == 25)
    assert [[packet[2] for packet in packets] for packets in found.values() if packets] == [
        [packet[2] for packet in expected]
    ]


async def test_a_codec_that_is_not_carried_is_left_out(tmp_path: Path) -> None:
    executable = ffmpeg("system")
    source = tmp_path / "source.flv"
    await run(executable, *VIDEO, *AUDIO, "-c:v", "flv", "-c:a", "aac", str(source))
    session = Session()
    await publish(executable, source, session)
    assert [str(track) for track in session.tracks] == ["MPEG4Audio"]
    ignored = [event for event in session.events if isinstance(event, TrackIgnored)]
    assert ignored == [TrackIgnored("video", 0, "unsupported video codec Sorenson H.263")]


@pytest.mark.parametrize("program", FINDERS)
async def test_a_refusal_reaches_the_publisher(program: str, tmp_path: Path) -> None:
    executable = ffmpeg(program)
    source = tmp_path / "source.flv"
    await run(executable, *AUDIO, "-c:a", "aac", str(source))
    result, text = await publish(executable, source, Session(refuse="invalid credentials"))
    assert result != 0
    assert "invalid credentials" in text


async def test_client_engine_against_ffmpeg_as_server(tmp_path: Path) -> None:
    """FFmpeg listens; the client engine publishes to it, and what it writes is what was sent."""
    executable = ffmpeg("system")
    source, written = tmp_path / "source.flv", tmp_path / "written.flv"
    await run(executable, *VIDEO, *AUDIO, *X264, "-bf", "2", "-c:a", "aac", str(source))
    published = Session()
    await publish(executable, source, published)

    session = Session(play=published.media)
    port = free_port()  # FFmpeg cannot tell which one it took
    url = f"rtmp://127.0.0.1:{port}/app/key"
    listener = asyncio.create_task(
        run(executable, "-listen", "1", "-timeout", "10", "-i", url, "-c", "copy", "-copyts", str(written))
    )
    client = ClientConnection(parse_url(url), Mode.PUBLISH, time.monotonic(), seed=SEED)
    await connect(client, session, port)
    result, text = await asyncio.wait_for(listener, PROCESS_SECONDS)
    assert session.error is None
    assert result == 0, text
    assert_equal(
        await frame_digests(executable, str(written), tmp_path / "found"),
        await frame_digests(executable, str(source), tmp_path / "expected"),
    )


async def connect(client: ClientConnection, session: Session, port: int) -> None:
    """Connect as soon as the other side listens."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PROCESS_SECONDS
    while True:
        try:
            await loop.create_connection(lambda: Shell(client, session), "127.0.0.1", port)
        except OSError:
            if loop.time() > deadline:
                raise
            await asyncio.sleep(0.02)
        else:
            await asyncio.wait_for(session.closed.wait(), PROCESS_SECONDS)
            return
