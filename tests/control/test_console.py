"""What the API keeps for the console: the last hour, pictures of streams, the log."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import threading
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from tests.control.support import Server, running
from tests.support.rtp import key_unit, rtp
from tests.support.waiting import PATIENCE, until

from polycast.cluster.directory import Load, NodeInfo
from polycast.codecs import nal
from polycast.control.console import history, log_ring, thumbnails
from polycast.control.console.history import History, Rings
from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Reference
from polycast.media.codec import H264, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track

WIDTH, HEIGHT = 640, 480


class Feed(Publisher):
    """Publishes frames on a path."""

    def __init__(self, server: Server, name: str, *tracks: Track) -> None:
        self.path: Path = server.app.hub.path(name)
        self.path.set_publisher(self)
        self.stream = self.path.start_publishing(self, tracks, publishes_packets=False)

    def close_publisher(self, reason: str) -> None:
        pass

    def reference(self) -> Reference:
        return Reference("feed")

    def send(self, frame: Frame, index: int = 0, now: float = 1.0) -> None:
        self.stream.publish_frame(index, frame, now)
        self.stream.flush()


def red_key_frame() -> tuple[bytes, ...]:
    """Return the units of a key frame that is red, encoded by x264."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
    encoder.framerate = 25
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0] = 255
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    data = b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))
    return tuple(unit for unit in nal.split_annexb(data) if unit[0] & 31 != 9)


def colour_of(picture: bytes) -> tuple[int, int, list[int]]:
    """Return width, height and the colour in the middle of a JPEG picture."""
    with av.open(io.BytesIO(picture), format="mjpeg") as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return shown.shape[1], shown.shape[0], shown[shown.shape[0] // 2, shown.shape[1] // 2].tolist()


async def test_a_thumbnail_is_made_of_the_next_key_frame_and_kept() -> None:
    async with running() as server:
        feed = Feed(server, "cam", Track(0, H264()))
        asked = asyncio.create_task(server.api.get("/v1/paths/thumbnail/cam"))
        second = asyncio.create_task(server.api.get("/v1/paths/thumbnail/cam"))
        await until(lambda: feed.path.readers)
        assert [reader.reference().type for reader in feed.path.readers] == ["thumbnail"], "both wait for one"
        units = red_key_frame()
        feed.send(Frame(units[-1:], 0, 0, key=False))
        feed.send(Frame(units, 3600, 3600, key=True))
        response = await asked
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "image/jpeg"
        width, height, (red, green, blue) = colour_of(response.content)
        assert (width, height) == (480, 360), "made smaller, in its aspect ratio"
        assert red > 230
        assert max(green, blue) < 25
        assert (await second).content == response.content
        assert not feed.path.readers
        again = await server.api.get("/v1/paths/thumbnail/cam")
        assert again.content == response.content, "no key frame came since"


async def test_thumbnails_that_are_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "KEY_FRAME_SECONDS", 0.01)
    async with running() as server:

        async def problem(name: str) -> str:
            response = await server.api.get(f"/v1/paths/thumbnail/{name}")
            assert response.status_code == 404
            return str(response.json()["error"])

        assert await problem("none") == "path 'none' does not exist"
        sound = Feed(server, "sound", Track(0, Opus()))
        assert await problem("sound") == "the stream has no pictures that can be decoded"
        silent = Feed(server, "silent", Track(0, H264()))
        assert await problem("silent") == "no key frame has arrived in time"
        assert not silent.path.readers
        assert not sound.path.readers


async def test_a_broken_key_frame_is_no_thumbnail() -> None:
    async with running() as server:
        feed = Feed(server, "cam", Track(0, H264()))
        asked = asyncio.create_task(server.api.get("/v1/paths/thumbnail/cam"))
        await until(lambda: feed.path.readers)
        feed.send(Frame((b"\x65junk" * 20,), 0, 0, key=True))
        response = await asked
        assert response.status_code == 404
        assert "H264" in response.json()["error"]


async def test_a_stream_ends_while_its_key_frame_is_waited_for() -> None:
    async with running() as server:
        feed = Feed(server, "cam", Track(0, H264()))
        asked = asyncio.create_task(server.api.get("/v1/paths/thumbnail/cam"))
        await until(lambda: feed.path.readers)
        feed.path.remove_publisher(feed, "the test ends it")
        response = await asked
        assert (response.status_code, response.json()) == (404, {"error": "the stream has ended"})


async def test_pictures_in_the_making_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MAXIMUM_WAITING", 1)
    async with running() as server:
        feeds = [Feed(server, name, Track(0, H264())) for name in ("a", "b")]
        asked = asyncio.create_task(server.api.get("/v1/paths/thumbnail/a"))
        await until(lambda: feeds[0].path.readers)
        assert (await server.api.get("/v1/paths/thumbnail/b")).status_code == 503
        feeds[0].send(Frame(red_key_frame(), 0, 0, key=True))
        assert (await asked).status_code == 200


def test_rings_keep_the_last_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SAMPLES", 3)
    rings = Rings(2)
    assert rings.is_empty
    rings.add_gap()
    assert rings.is_empty
    for value in range(3):
        rings.add(value, value * 1000.4)
    assert [*rings] == [[0, 1, 2], [0, 1000, 2001]]
    rings.add_gap()
    assert [*rings] == [[1, 2, None], [1000, 2001, None]]
    rings.add(math.pi, 1)
    assert next(iter(rings)) == [2, None, 3.142]


def sampler(server: Server) -> History:
    console = server.app.control._console
    assert console is not None
    console.history.stop()  # the test takes the samples
    return console.history


async def test_the_last_hour_of_a_path() -> None:
    async with running() as server:
        samples = sampler(server)
        assert (await server.api.get("/v1/paths/history/none")).status_code == 404
        feed = Feed(server, "cam", Track(0, Opus()), Track(1, H264()))
        feed.send(Frame((bytes(1000),), 0, 0, key=True))
        for number in range(20):
            is_key = number % 8 == 0
            unit = (b"\x65" if is_key else b"\x41") + bytes(999)
            feed.send(Frame((unit,), number * 3600, number * 3600, key=is_key), 1, 100 + number / 25)
        await samples.sample(2.0)
        feed.stream.tracks[1].counters.lost += 3
        await samples.sample(2.0)
        feed.path.stop_publishing(feed, "a pause")
        await samples.sample(2.0)
        found = await server.get("/v1/paths/history/cam")
        assert found == {
            "interval": 10.0,
            "bitRate": [21 * 1000 * 8 / 2, 0.0, None],
            "bitRateOut": [0.0, 0.0, None],
            "frameRate": [10.0, 0.0, None],
            "keyFrameInterval": [0.32, 0.32, None],
            "packetsLost": [0.0, 3.0, None],
            "readers": [0.0, 0.0, None],
            "longestDelivery": None,
        }
        again = feed.path.start_publishing(feed, [Track(0, H264())], publishes_packets=False)
        again.publish_frame(0, Frame((bytes(500),), 0, 0, key=True), 200.0)
        await samples.sample(2.0)
        assert (await server.get("/v1/paths/history/cam"))["bitRate"][-1] == 2000, "the counters begin again"


async def test_frames_of_packets_are_counted() -> None:
    async with running() as server:
        publisher = await server.publisher("cam")
        await server.until(lambda: server.app.hub.paths["cam"].stream)
        stream = server.app.hub.paths["cam"].stream
        assert stream is not None
        counters = stream.tracks[0].counters
        for number in range(6):
            unit = key_unit() if number % 3 == 0 else b"\x41" + bytes(100)
            publisher.send_frame(0, rtp(number, unit, timestamp=1000 + number * 3600))
        await server.until(lambda: counters.packets == 6)
        # Those that the loop reads at once count as one.
        assert 1 <= counters.frames <= 6


async def test_paths_whose_history_is_kept_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAXIMUM_PATHS", 1)
    async with running() as server:
        samples = sampler(server)
        first, _ = (Feed(server, name, Track(0, H264())) for name in ("a", "b"))
        await samples.sample(1.0)
        assert len((await server.get("/v1/paths/history/a"))["bitRate"]) == 1
        assert (await server.get("/v1/paths/history/b"))["bitRate"] == []
        first.path.remove_publisher(first, "over")
        await samples.sample(1.0)
        await samples.sample(1.0)
        assert len((await server.get("/v1/paths/history/b"))["bitRate"]) >= 1


async def test_the_last_hour_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "INTERVAL", 0.01)
    async with running() as server:
        Feed(server, "cam", Track(0, H264()))
        async with asyncio.timeout(PATIENCE):
            found: dict[str, Any] = {"cpu": []}
            while len(found["cpu"]) < 3:
                found = await server.get("/v1/server/history")
        assert found["interval"] == 0.01
        assert {len(found[key]) for key in ("bitRate", "bitRateOut", "cpu", "loopLag")} == {len(found["cpu"])}
        assert all(value >= 0 for value in found["cpu"])


async def test_the_state_of_the_server(tmp_path: Any) -> None:
    cam = {"record": True, "recordPath": f"{tmp_path}/%path/%Y-%m-%d_%H-%M-%S-%f"}
    async with running(paths={"cam": cam, "all": {}}) as server:
        found = await server.get("/v1/server/status")
        assert found["hasThumbnails"] is True
        assert found["memory"] > 10_000_000
        assert found["cpu"] > 0
        (disk,) = found["disks"]
        assert (disk["purpose"], disk["folder"]) == ("recordings", str(tmp_path))
        assert 0 < disk["free"] <= disk["total"]
        assert found["playbackPort"] is None


async def test_the_log_is_kept_and_told() -> None:
    async with running(logLevel="info") as server:
        log = server.app.log.child("here")
        async with server.api.stream("GET", "/v1/events?log=yes") as response:
            parts = response.aiter_text()
            assert "retry" in await anext(parts)
            log.warning("it is %s\x1b[31m", "late")
            text = ""
            while '"[here] it is late' not in text:
                text += await anext(parts)
        assert "event: log\n" in text
        assert '"level":"warn"' in text
        found = (await server.get("/v1/server/log"))["lines"]
        (line,) = [each for each in found if "it is late" in each["text"]]
        assert (line["level"], line["text"]) == ("warn", "[here] it is late\\x1b[31m")
        numbers = [each["number"] for each in found]
        assert numbers == sorted(numbers)


async def test_other_listeners_get_no_lines() -> None:
    async with running() as server, server.api.stream("GET", "/v1/events") as response:
        parts = response.aiter_text()
        await anext(parts)
        server.app.log.warning("not an event")
        server.app.hub.path("cam").log.info("nor this")
        text = ""
        while "path_created" not in text:
            text += await anext(parts)
        assert "event: log" not in text


async def test_lines_may_come_from_threads_and_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_ring, "MAXIMUM_TEXT", 30)
    async with running() as server:
        thread = threading.Thread(target=lambda: server.app.log.error("x" * 100))
        thread.start()
        await asyncio.to_thread(thread.join)
        texts = [line["text"] for line in (await server.get("/v1/server/log"))["lines"]]
        assert "x" * 30 in texts
        logger = server.app.log.logger
        for handler in list(logger.handlers):
            if isinstance(handler, log_ring.LogRing):
                handler.emit(logging.LogRecord("x", logging.ERROR, "", 0, "%d", ("not a number",), None))
        assert len((await server.get("/v1/server/log"))["lines"]) >= 1
        handlers = [each for each in logger.handlers if isinstance(each, log_ring.LogRing)]
        assert len(handlers) == 1
        await server.app.control.stop()
        assert not [each for each in logging.getLogger(logger.name).handlers if isinstance(each, log_ring.LogRing)]


async def test_nodes_of_a_cluster_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(cpu=0.25, bit_rate=3e6, readers=4, publishers=2)
    others = {"b": NodeInfo("b", "2", "10.0.0.2:8600", load, is_draining=True)}
    node = SimpleNamespace(
        name="a",
        info=NodeInfo("a", "1", "10.0.0.1:8600"),
        registry=SimpleNamespace(directory=SimpleNamespace(nodes=others)),
    )
    async with running() as server:
        assert (await server.get("/v1/server/status"))["nodes"] == []
        with monkeypatch.context() as patched:
            patched.setattr(server.app.cluster, "node", node)
            first, second = (await server.get("/v1/server/status"))["nodes"]
        assert (first["name"], first["isSelf"], first["readers"]) == ("a", True, 0)
        assert second == {
            "name": "b",
            "address": "10.0.0.2:8600",
            "isSelf": False,
            "isDraining": True,
            "cpu": 0.25,
            "bitRate": 3_000_000,
            "publishers": 2,
            "readers": 4,
        }
