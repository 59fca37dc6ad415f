"""Streams as one long response over HTTP: FLV, MPEG-TS and pictures, as FFmpeg reads them."""

from __future__ import annotations

import gc
import io
import re
import weakref
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from tests.protocols.hls.support import Fixture, FramePublisher, running
from tests.wire.hls.streams import AUDIO, track

from polycast.codecs.registry import bitstream_of
from polycast.errors import MissingDependency
from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Reference
from polycast.media.codec import G722, H264, MJPEG
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.http_streams import streams as streams_module
from polycast.protocols.http_streams.formats import FlvFormat, TransportFormat
from polycast.protocols.http_streams.session import StreamSession

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")

SIZE = 96
SOUND = b"\x21\x10\x04\x60\x8c\x1c"


def encode(encoder: str, pixel_format: str, count: int = 50, **options: str) -> list[tuple[bytes, bool]]:
    """Return pictures that become brighter, and which of them are key frames."""
    context = av.CodecContext.create(encoder, "w")
    context.width = context.height = SIZE
    context.pix_fmt, context.time_base = pixel_format, Fraction(1, 25)
    context.options = options
    packets: list[Any] = []
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), number * 4, np.uint8), format="rgb24")
        picture = picture.reformat(format=pixel_format)
        picture.pts, picture.time_base = number, context.time_base
        packets += context.encode(picture)
    return [(bytes(packet), bool(packet.is_keyframe)) for packet in packets]


H264_PICTURES = encode("libx264", "yuv420p", preset="ultrafast", tune="zerolatency", g="10")
PARAMETERS = [unit for unit in bitstream_of(H264()).split(H264_PICTURES[0][0]) if unit[0] & 0x1F in (7, 8)]
VIDEO_TRACK = Track(0, H264(*PARAMETERS))


def frames(first: int = 0, count: int = 50) -> list[tuple[int, Frame]]:
    """Return pictures, 25 a second, and sound."""
    found = []
    for number in range(first, first + count):
        data, key = H264_PICTURES[number % 50]
        units = tuple(unit for unit in bitstream_of(H264()).split(data) if unit[0] & 0x1F in (1, 5))
        found.append((0, Frame(units, number * 3600, number * 3600, key=key)))
        found.append((1, Frame((SOUND + bytes((number,)),), number * 1920, number * 1920, key=True)))
    return found


class Body:
    """A response that is read while it is made."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.data = b""
        self._pieces = response.aiter_raw()

    async def until(self, condition: Callable[[bytes], Any]) -> bytes:
        """Read until a condition holds for what was received."""
        while not condition(self.data):
            self.data += await anext(self._pieces)
        return self.data

    async def rest(self) -> bytes:
        """Read to the end."""
        async for piece in self._pieces:
            self.data += piece
        return self.data


def sessions(it: Fixture) -> int:
    return len(list(it.server.streams.visits()))


@pytest.mark.parametrize(
    ("name", "container", "content_type"),
    [("stream.flv", "flv", "video/x-flv"), ("stream.ts", "mpegts", "video/mp2t")],
)
async def test_ffmpeg_reads_what_was_published(name: str, container: str, content_type: str) -> None:
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (VIDEO_TRACK, track(1, AUDIO)))
        publisher.write(frames(count=5))
        async with it.client.stream("GET", f"/cam/{name}") as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == content_type
            assert response.headers["access-control-allow-origin"] == "*"
            body = Body(response)
            await it.until(lambda: sessions(it) == 1)
            publisher.write(frames(5, 45))
            publisher.stop()
            data = await body.rest()
        with av.open(io.BytesIO(data), format=container) as opened:
            pictures, sounds = opened.streams.video[0], opened.streams.audio[0]
            packets = [packet for packet in opened.demux() if packet.size]
            assert sorted(stream.type for stream in opened.streams) == ["audio", "video"], "nothing else on the way"
        found = [(packet.pts * packet.time_base, packet.is_keyframe) for packet in packets if packet.stream is pictures]
        assert [key for _, key in found] == [number % 10 == 0 for number in range(10, 50)], "from a key frame on"
        steps = {round(float(later[0] - earlier[0]), 3) for earlier, later in pairwise(found)}
        assert steps == {0.04}
        heard = [bytes(packet) for packet in packets if packet.stream is sounds]
        assert [sound[-len(SOUND) - 1 :] for sound in heard] == [SOUND + bytes((number,)) for number in range(10, 50)]
        await it.until(lambda: sessions(it) == 0)


async def test_pictures_of_a_stream() -> None:
    """A page shows them with ``<img src="stream.mjpeg">``; FFmpeg decodes all of them."""
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (VIDEO_TRACK,))
        publisher.write(frames(count=5)[::2])
        async with it.client.stream("GET", "/cam/stream.mjpeg") as response:
            assert response.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
            body = Body(response)
            await it.until(lambda: sessions(it) == 1)
            publisher.write(frames(5, 45)[::2])
            data = await body.until(lambda data: data.count(b"--frame") >= 10)
        with av.open(io.BytesIO(data), format="mpjpeg") as opened:
            pictures = list(opened.decode(video=0))
        assert {(picture.width, picture.height) for picture in pictures} == {(SIZE, SIZE)}
        levels = [int(picture.to_ndarray(format="gray").mean()) for picture in pictures[:8]]
        assert levels == sorted(levels)
        assert levels[-1] - levels[0] > 20, "they become brighter"


async def test_one_picture() -> None:
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (VIDEO_TRACK,))
        publisher.write(frames(count=5)[::2])
        wanted = it.soon("/cam/frame.jpeg")
        await it.until(lambda: len(it.app.hub.paths["cam"].stream.readers) == 1)  # type: ignore[union-attr]
        publisher.write(frames(10, 10)[::2])
        response = await wanted
        assert response.headers["content-type"] == "image/jpeg"
        with av.open(io.BytesIO(response.content), format="jpeg_pipe") as opened:
            picture = next(opened.decode(video=0))
        assert abs(int(picture.to_ndarray(format="gray").mean()) - 40) < 6, "the picture that was published then"
        assert not it.app.hub.paths["cam"].stream.readers  # type: ignore[union-attr]


async def test_jpeg_pictures_remain_as_they_are() -> None:
    pictures = [data for data, _ in encode("mjpeg", "yuvj420p", 3)]
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (Track(0, MJPEG()),))
        wanted = it.soon("/cam/frame.jpeg")
        await it.until(lambda: len(it.app.hub.paths["cam"].stream.readers) == 1)  # type: ignore[union-attr]
        publisher.write([(0, Frame((pictures[0],), 0, 0, key=True))])
        assert (await wanted).content == pictures[0]
        async with it.client.stream("GET", "/cam/stream.mjpeg") as response:
            body = Body(response)
            await it.until(lambda: sessions(it) == 1)
            publisher.write([(0, Frame((data,), 0, 0, key=True)) for data in pictures])
            publisher.stop()
            data = await body.rest()
        heads = re.findall(rb"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: (\d+)\r\n\r\n", data)
        assert [int(length) for length in heads] == [len(picture) for picture in pictures]
        assert all(picture in data for picture in pictures)


async def test_a_stream_that_ends_has_no_picture() -> None:
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (VIDEO_TRACK,))
        wanted = it.soon("/cam/frame.jpeg")
        await it.until(lambda: len(it.app.hub.paths["cam"].stream.readers) == 1)  # type: ignore[union-attr]
        publisher.stop()
        assert (await wanted).status_code == 503


@pytest.mark.parametrize("name", ["frame.jpeg", "stream.mjpeg", "stream.flv"])
async def test_a_stream_that_ends_while_its_form_is_prepared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures need a library that is loaded in a thread at first."""
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (VIDEO_TRACK,))
        make = it.server.streams._format

        async def make_slowly(*arguments: Any) -> Any:
            made = await make(*arguments)
            publisher.stop()
            return made

        monkeypatch.setattr(it.server.streams, "_format", make_slowly)
        response = await it.get(f"/cam/{name}", 404)
        assert "no one is publishing" in response.text
        assert not it.server.streams._waiting
        assert sessions(it) == 0


async def test_nothing_remains_of_a_picture_that_was_sent() -> None:
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (VIDEO_TRACK,))
        publisher.write(frames(count=5)[::2])
        wanted = it.soon("/cam/frame.jpeg")
        await it.until(lambda: it.server.streams._waiting)
        (session,) = it.server.streams._waiting
        remains = weakref.ref(session)
        del session
        publisher.write(frames(10, 10)[::2])
        assert (await wanted).status_code == 200
        await it.client.get("/")  # the connection has another request now
        gc.collect()
        assert remains() is None


async def test_clients_are_listed_and_can_be_closed() -> None:
    async with running(httpStreams=True) as it:
        publisher = it.publish("cam", (VIDEO_TRACK, track(1, AUDIO)))
        headers = {"user-agent": "a player"}
        async with it.client.stream("GET", "/cam/stream.ts?a=b", headers=headers) as response:
            body = Body(response)
            await it.until(lambda: sessions(it) == 1)
            publisher.write(frames(count=20))
            await body.until(lambda data: len(data) > 2_000)
            ((identifier, item),) = it.server.viewers().items()
            assert (item.path, item.query, item.user_agent) == ("cam", "a=b", "a player")
            assert item.bytes_sent >= len(body.data)
            stream = it.app.hub.paths["cam"].stream
            assert stream is not None
            assert [reader.reference() for reader in stream.readers] == [Reference("hlsSession", identifier)]
            assert [reader.query for reader in stream.readers] == ["a=b"], "for runOnRead"
            assert it.server.kick(identifier)
            assert not it.server.kick(identifier)
            await body.rest()
            assert not stream.readers


async def test_a_client_that_leaves_stops_reading() -> None:
    async with running(httpStreams=True) as it:
        it.publish("cam", (VIDEO_TRACK,))
        async with it.client.stream("GET", "/cam/stream.flv"):
            await it.until(lambda: sessions(it) == 1)
        await it.until(lambda: sessions(it) == 0)
        assert not it.app.hub.paths["cam"].stream.readers  # type: ignore[union-attr]


async def test_the_server_stops_while_clients_read() -> None:
    async with running(httpStreams=True) as it:
        it.publish("cam", (VIDEO_TRACK,))
        async with it.client.stream("GET", "/cam/stream.flv") as response:
            await it.until(lambda: sessions(it) == 1)
            await it.server.stop("the test ends")
            await Body(response).rest()
            assert sessions(it) == 0


async def test_only_who_may_read_gets_it() -> None:
    paths = {"cam": {"readUser": "user", "readPass": "password"}}
    async with running(httpStreams=True, paths=paths) as it:
        it.publish("cam", (VIDEO_TRACK,))
        refused = await it.get("/cam/stream.flv", 401)
        assert refused.headers["www-authenticate"].startswith("Basic")
        await it.get("/cam/frame.jpeg", 401)
        answer = await it.client.head("/cam/stream.flv", auth=("user", "password"))
        assert (answer.status_code, answer.content) == (200, b"")
        assert sessions(it) == 0


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/nothing/stream.flv", 404, "no one is publishing"),
        ("/speech/stream.flv", 404, "the stream doesn't contain a track with a codec that FLV can carry"),
        ("/speech/stream.mjpeg", 404, "the stream doesn't contain a track of which pictures can be made"),
    ],
)
async def test_what_cannot_be_sent(target: str, status: int, text: str) -> None:
    async with running(httpStreams=True) as it:
        it.publish("speech", (Track(0, G722()),))
        assert text in (await it.get(target, status)).text


async def test_pictures_need_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(purpose: str) -> None:
        raise MissingDependency(f"{purpose} need a package")

    monkeypatch.setattr(streams_module, "import_av", refuse)
    async with running(httpStreams=True) as it:
        it.publish("cam", (VIDEO_TRACK,))
        await it.get("/cam/stream.mjpeg", 503)
        assert any("pictures as JPEG of other codecs need a package" in line for line in it.log.lines)


async def test_it_is_off_unless_it_is_enabled() -> None:
    async with running() as it:
        it.publish("cam", (VIDEO_TRACK,))
        assert (await it.client.get("/cam/stream.flv")).status_code == 301
        await it.get("/cam/stream.ts", 404)


class _Slow:
    """A client that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.data = b""
        self.unsent = 0
        self.on_cancelled: object = None

    def send(self, data: bytes) -> None:
        self.data += data
        self.unsent += len(data)


async def test_a_slow_client_continues_with_a_key_frame() -> None:
    async with running() as it:
        publisher = FramePublisher(it.app.hub.path("cam"), (VIDEO_TRACK, track(1, AUDIO)))
        for shared, container in ((FlvFormat, "flv"), (TransportFormat, "mpegts")):
            client: Any = _Slow()
            tracks = tuple(publisher.stream.descriptions)
            session = StreamSession(client, shared(tracks), Reference("test", "1"), lambda: None, log=it.app.log)
            session.begin(publisher.path, publisher.stream)
            publisher.write(frames(0, 15))
            client.unsent = 2_000_000
            publisher.write(frames(15, 10))
            client.unsent = 500_000  # still too much to continue
            publisher.write(frames(25, 10))
            client.unsent = 0
            publisher.write(frames(35, 15))
            session.leave()
            with av.open(io.BytesIO(client.data), format=container) as opened:
                packets = [packet for packet in opened.demux(opened.streams.video[0]) if packet.size]
                first = packets[0].pts
                numbers = [round((packet.pts - first) * packet.time_base * 25) for packet in packets]
            assert numbers == [*range(15), *range(40, 50)], "without a picture that cannot be decoded"
            assert session.counters.packets_dropped > 0


def test_a_batch_without_media_is_no_start() -> None:
    assert FlvFormat((VIDEO_TRACK,)).form(FrameBatch([])).start == -1
