"""Retries, on demand, several sources, and publishers that come back: what readers see of it."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from tests.protocols.rtsp.support import AUDIO, VIDEO, Fixture, running, sdp
from tests.protocols.sources.camera import SILENCE, camera
from tests.support.rtp import key_unit, rtp, slice_unit

from polycast.hub import retry
from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtsp.message import Response

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}
OTHER_SPS = "Z0LAHtoCgL/lwEQAAAMABAAAAwDyPFi6gA=="
OTHER_VIDEO = (
    "m=video 0 RTP/AVP 98\r\na=rtpmap:98 H264/90000\r\n"
    f"a=fmtp:98 packetization-mode=1; sprop-parameter-sets={OTHER_SPS},aM48gA==\r\n"
)
H265 = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n"


def header(packet: bytes) -> tuple[int, int, int, int]:
    """Payload type, sequence number, timestamp, SSRC."""
    _, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet)
    return second & 0x7F, sequence, timestamp, ssrc


class Frames(FrameReader):
    """Collects what frame readers get."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, Frame]] = []
        self.changes: list[Track] = []
        self.closed = ""

    def deliver_frames(self, batch: FrameBatch) -> None:
        for index, entry in batch.entries:
            if isinstance(entry, Frame):
                self.frames.append((index, entry))
            else:
                self.changes.append(entry)

    def close_reader(self, reason: str) -> None:
        self.closed = reason

    def reference(self) -> Reference:
        return Reference("test")


async def ready(app: Fixture, name: str = "cam") -> Any:
    path = app.path(name)
    await app.until(lambda: path.stream is not None)
    return path


# Retries


async def test_the_pause_doubles_up_to_its_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "JITTER", 0.0)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    async with camera() as origin:
        origin.script["DESCRIBE"] = lambda *_: Response(404)
        monkeypatch.setattr(asyncio, "sleep", record)
        settings = {"source": origin.url(), "sourceProtocol": "tcp", "sourceRetryPauseMax": "30s"}
        async with running(paths={"cam": settings}):
            await origin.asked("DESCRIBE", 6)
    assert pauses[:5] == [5, 10, 20, 30, 30]


# On demand


def on_demand(url: str, **settings: Any) -> dict[str, Any]:
    return {"cam": {"source": url, "sourceProtocol": "tcp", "sourceOnDemand": True, **QUICK, **settings}}


async def test_the_first_reader_starts_it_and_the_last_one_stops_it() -> None:
    async with camera() as origin:
        paths = on_demand(origin.url(), sourceOnDemandCloseAfter="500ms")
        async with running(paths=paths) as app:
            assert app.log.find("started") is None
            readers = await asyncio.gather(*(app.reader("cam") for _ in range(10)))
            assert origin.connections == 1
            for reader in readers:
                await reader.close()
            await origin.asked("TEARDOWN")
            await app.log.wait(r"\[rtsp source\] stopped")
            await app.reader("cam")
            assert origin.connections == 2


async def test_held_requests_fail_when_it_does_not_start() -> None:
    async with camera() as origin:
        origin.script["DESCRIBE"] = lambda *_: SILENCE
        async with running(paths=on_demand(origin.url(), sourceOnDemandStartTimeout="50ms")) as app:
            client = await app.client()
            assert (await client.request("DESCRIBE", app.url("cam"))).status == 404
            assert app.log.find("source of path 'cam' has timed out")
            assert app.log.find("stopped")


async def test_a_source_on_demand_that_fails_while_it_is_read() -> None:
    async with camera() as origin, running(paths=on_demand(origin.url())) as app:
        reader = await app.reader("cam")
        await origin.close()
        assert await reader.ended()
        await app.log.wait(r"\[rtsp source\] stopped")
        await origin.open(port=origin.port)
        await app.reader("cam")


# Several sources


@pytest.mark.parametrize("second", [VIDEO, OTHER_VIDEO], ids=["same parameters", "other parameters"])
async def test_the_second_source_takes_over_and_readers_stay(second: str) -> None:
    async with camera() as one, camera(sdp(second)) as two:
        source = [one.url(), two.url()]
        async with running(paths={"cam": {"source": source, "sourceProtocol": "tcp", **QUICK}}) as app:
            path = await ready(app)
            reader = await app.reader("cam")
            frames = Frames()
            path.attach_reader(frames, path.stream)
            for index in range(3):
                one.send_key(timestamp=1000 + 3000 * index)
            before = [header(packet) for packet in await reader.packets(3)]
            await one.close()
            await app.log.wait("readers continue with the new publisher")
            two.sequence = 60000
            two.send(slice_unit(50), timestamp=500_000, ssrc=0x9999)  # decoding cannot start here
            two.send_key(timestamp=503_000, ssrc=0x9999)
            two.send(slice_unit(50), timestamp=506_000, ssrc=0x9999)
            inserted = 0 if second is VIDEO else 2
            packets = await reader.packets(2 + inserted)
            after = [header(packet) for packet in packets]
            assert {item[0] for item in before + after} == {96}
            assert {item[3] for item in before + after} == {0x1234}
            assert [item[1] for item in after] == list(range(before[-1][1] + 1, before[-1][1] + 3 + inserted))
            first_time = after[0][2]
            assert before[-1][2] < first_time < before[-1][2] + 90_000 * 5
            assert after[-1][2] == first_time + 3000
            assert [packet[12] & 0x1F for packet in packets] == [*([7, 8] if inserted else []), 5, 1]
            await app.until(lambda: len(frames.frames) >= 5)
            times = [frame.dts for _, frame in frames.frames]
            assert times == sorted(set(times))
            assert [str(change) for change in frames.changes] == (["H264"] if inserted else [])
            assert not frames.closed


async def test_readers_leave_when_the_second_source_has_another_codec() -> None:
    async with camera() as one, camera(sdp(H265)) as two:
        source = [one.url(), two.url()]
        async with running(paths={"cam": {"source": source, "sourceProtocol": "tcp", **QUICK}}) as app:
            path = await ready(app)
            reader = await app.reader("cam")
            await one.close()
            assert await reader.ended()
            await app.log.wait("the new publisher has different tracks; readers are disconnected")
            await app.log.wait(r"ready: 1 track \(H265\)")
            assert [str(track) for track in path.stream.descriptions] == ["H265"]


def changes(app: Fixture) -> int:
    """Return how often readers were taken over by another source."""
    return sum("readers continue with the new publisher" in line for line in app.log.lines)


async def test_after_the_last_source_the_first_is_tried() -> None:
    async with camera() as one, camera() as two, camera() as three:
        origins = (one, two, three)
        source = [origin.url() for origin in origins]
        async with running(paths={"cam": {"source": source, "sourceProtocol": "tcp", **QUICK}}) as app:
            await ready(app)
            reader = await app.reader("cam")
            for turn, origin in enumerate((one, two, three, one)):
                await app.until(lambda turn=turn: changes(app) == turn)
                assert [len(each.clients) for each in origins] == [int(each is origin) for each in origins]
                # The ones before have returned, but nothing goes back to them.
                await origin.close()
                await origin.open(port=origin.port)
            await app.until(lambda: changes(app) == 4)
            two.send_key(timestamp=1000)
            assert await reader.packets(1)


async def test_when_all_sources_fail_readers_leave_and_the_first_is_tried_again() -> None:
    async with camera() as one, camera() as two:
        two.script["DESCRIBE"] = lambda *_: Response(404)
        source = [one.url(), two.url()]
        async with running(paths={"cam": {"source": source, "sourceProtocol": "tcp", **QUICK}}) as app:
            await ready(app)
            reader = await app.reader("cam")
            await one.close()
            assert await reader.ended()
            await one.open(port=one.port)
            await ready(app)


# publisherGrace


GRACE = {"all": {"publisherGrace": "5s"}}


async def publish(app: Fixture, description: str, tracks: int = 1) -> Any:
    return await app.publisher("live", description, tracks)


def frame_of(packet: bytes, channel: int = 0) -> bytes:
    return struct.pack("!BBH", 0x24, channel, len(packet)) + packet


@pytest.mark.parametrize("takes_over", [False, True], ids=["returns", "takes over"])
async def test_a_publisher_comes_back_and_readers_stay(takes_over: bool) -> None:
    async with running(paths=GRACE) as app:
        description = sdp(VIDEO, AUDIO)
        first = await publish(app, description, 2)
        reader = await app.reader("live", 2)
        first.send(frame_of(rtp(10, key_unit(), timestamp=9000)) + frame_of(rtp(5, b"\0\x10\0\0", payload_type=97), 2))
        await reader.packets(1)
        stream = app.path("live").stream
        if not takes_over:
            await first.close()
            await app.log.wait("readers wait up to 5 s")
        second = await publish(app, description, 2)
        await app.log.wait("readers continue with the new publisher")
        second.send(frame_of(rtp(900, key_unit(), timestamp=77, ssrc=5)))
        (packet,) = await reader.packets(1)
        assert header(packet)[:2] == (96, 11)
        assert header(packet)[3] == 0x1234
        assert app.path("live").stream is stream


async def test_readers_are_closed_when_nobody_comes_back() -> None:
    async with running(paths={"all": {"publisherGrace": "50ms"}}) as app:
        first = await publish(app, sdp(VIDEO))
        reader = await app.reader("live")
        await first.close()
        assert await reader.ended()
        await app.until(lambda: "live" not in app.app.hub.paths)


async def test_without_grace_readers_are_closed_at_once() -> None:
    async with running() as app:
        first = await publish(app, sdp(VIDEO))
        reader = await app.reader("live")
        await first.close()
        assert await reader.ended()
        assert app.log.find("readers wait") is None


async def test_sender_reports_of_the_second_publisher_fit_its_new_timestamps() -> None:
    async with running(paths=GRACE) as app:
        first = await publish(app, sdp(VIDEO))
        path = app.path("live")
        assert path.stream is not None
        frames = Frames()
        path.attach_reader(frames, path.stream)
        first.send(frame_of(rtp(1, key_unit(), timestamp=1000)))
        await app.until(lambda: len(frames.frames) == 1)
        await first.close()
        second = await publish(app, sdp(VIDEO))
        report = struct.pack("!BBHIQIII", 0x80, 200, 6, 1, 0xE0000000 << 32, 50_000, 1, 1)
        second.send(frame_of(rtp(1, key_unit(), timestamp=50_000)) + frame_of(report, 1))
        second.send(frame_of(rtp(2, key_unit(), timestamp=95_000)))
        await app.until(lambda: len(frames.frames) == 3)
        # Half a second after the moment that the report tells.
        assert frames.frames[-1][1].wall_time == (0xE0000000 - 2208988800) * 10**9 + 5 * 10**8
