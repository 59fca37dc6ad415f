"""Publishing to another RTSP server: what its answers mean."""

from __future__ import annotations

import pytest
from tests.protocols.rtsp.support import H264_ONLY, VIDEO, running, sdp
from tests.protocols.sources.camera import Camera, camera
from tests.support.rtp import key_unit, rtp, slice_unit

from polycast.hub.batch import PacketRun
from polycast.media.packet import RtpPacket
from polycast.protocols.rtsp.push import RtspPusher
from polycast.protocols.rtsp.readers import interleaved_key
from polycast.rtp.header import parse_packet
from polycast.rtp.rtcp import SenderReport, parse_compound
from polycast.wire.rtsp.message import Headers, Request, Response
from polycast.wire.rtsp.url import RtspUrl


@pytest.mark.parametrize(
    ("answer", "channels"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=0-1;mode=record", (0, 1)),
        ("RTP/AVP/TCP;unicast;interleaved=7-9", (7, 9)),
        ("RTP/AVP;unicast;interleaved=4-5", (4, 5)),
        ("RTP/AVP/TCP;unicast", (0, 1)),
        (None, (0, 1)),
    ],
)
async def test_channels(answer: str | None, channels: tuple[int, int]) -> None:
    def setup(_: Camera, request: Request) -> Response:
        told = [] if answer is None else [("Transport", answer)]
        return Response(200, Headers([("Session", "1"), *told]))

    unknown = "m=audio 0 RTP/AVP 97\r\n"
    async with camera() as target, running() as it:
        target.script["SETUP"] = setup
        publisher = await it.publisher("cam", sdp(unknown, VIDEO), tracks=2)
        path = it.path("cam")
        assert path.stream is not None
        pusher = RtspPusher(RtspUrl.parse(target.url("there")), path.log, "")
        try:
            await pusher.open(path, path.stream)
            assert target.methods() == ["OPTIONS", "ANNOUNCE", "SETUP", "RECORD"]
            assert "m=audio" not in target.requests[1].body.decode(), "nobody could know what it is"
            publisher.send_frame(2, rtp(1, key_unit()))
            await it.until(lambda: target.frames)
            assert target.frames == [(channels[0], rtp(1, key_unit()))]
            pusher._send_reports()
            await it.until(lambda: len(target.frames) == 2)
            channel, report = target.frames[1]
            assert channel == channels[1]
            sent = parse_compound(report)[0]
            assert isinstance(sent, SenderReport)
            assert (sent.packet_count, sent.octet_count) == (1, len(key_unit()))
        finally:
            await pusher.close(path)


def _packet(sequence: int, unit: bytes) -> RtpPacket:
    data = rtp(sequence, unit)
    return parse_packet(data, 0, len(data))


async def test_a_slow_server_gets_nothing_before_the_next_key_frame() -> None:
    packets = [_packet(sequence, unit) for sequence, unit in ((5, slice_unit()), (6, key_unit()))]
    packets[1].key = True
    async with camera() as target, running() as it:
        await it.publisher("cam", H264_ONLY)
        path = it.path("cam")
        assert path.stream is not None
        pusher = RtspPusher(RtspUrl.parse(target.url("there")), path.log, "")
        try:
            await pusher.open(path, path.stream)
            assert pusher._outbox is not None
            pusher._outbox.ready = False
            pusher.deliver(PacketRun(0, packets[:1]))
            pusher.deliver(PacketRun(0, packets, has_key=True))
            await it.until(lambda: target.frames)
            assert target.frames == [(0, rtp(6, key_unit()))]
            assert pusher._outbox.dropped == 2
            assert pusher._counts == [[1, len(key_unit())]]
        finally:
            await pusher.close(path)


async def test_pushes_with_the_same_channels_share_their_bytes() -> None:
    packets = [_packet(1, key_unit())]
    batch = PacketRun(0, packets, has_key=True)
    async with camera() as target, running() as it:
        await it.publisher("cam", H264_ONLY)
        path = it.path("cam")
        assert path.stream is not None
        pushers = [RtspPusher(RtspUrl.parse(target.url(name)), path.log, "") for name in ("here", "there")]
        try:
            for pusher in pushers:
                await pusher.open(path, path.stream)
                pusher.deliver(batch)
            assert batch._forms is not None
            assert [*batch._forms] == [interleaved_key((0,))]
            await it.until(lambda: len(target.frames) == 2)
        finally:
            for pusher in pushers:
                await pusher.close(path)


async def test_a_server_that_sends_something_when_the_push_ends_reads_all() -> None:
    """A reset in answer to that could cost the server the end of the stream."""

    def say_much(target: Camera, request: Request) -> None:
        for _ in range(3):
            target.clients[0].send_packet(b"a report", 1)

    async with camera() as target, running() as it:
        target.script["TEARDOWN"] = say_much
        await it.publisher("cam", H264_ONLY)
        path = it.path("cam")
        assert path.stream is not None
        pusher = RtspPusher(RtspUrl.parse(target.url("there")), path.log, "")
        await pusher.open(path, path.stream)
        await pusher.close(path)
        await it.until(lambda: target.losses)
        assert target.methods()[-1] == "TEARDOWN"
        assert target.losses == [None]
