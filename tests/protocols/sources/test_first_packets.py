"""The first reader of a source that begins: PLAY waits for the first packet of each track, and nothing is lost."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.protocols.rtsp.support import AUDIO, VIDEO, Fixture, RtspClient, UdpEnd, running, sdp
from tests.protocols.sources.camera import Camera, camera
from tests.support.rtp import key_unit, rtp, slice_unit

from polycast.protocols.rtsp import requests
from polycast.protocols.rtsp.reading import Reading
from polycast.rtp.rtcp import SenderReport, parse_compound
from polycast.wire.rtsp.message import Response

SOUND = b"\x00\x10\x00\x20\x21\x10\x04\x60"
BOTH = sdp(VIDEO, AUDIO)


@pytest.fixture(autouse=True)
def play_waits(play_at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "FIRST_PACKETS_SECONDS", 20.0)


def on_demand(url: str, **settings: object) -> dict[str, object]:
    return {"cam": {"source": url, "sourceProtocol": "tcp", "sourceOnDemand": True, **settings}}


def info(response: Response) -> dict[int, tuple[int, int]]:
    """Return sequence number and RTP time by track, out of RTP-Info."""
    text = response.headers.get("RTP-Info") or ""
    entries = re.findall(r"trackID=(\d+);seq=(\d+);rtptime=(\d+)", text)
    return {int(track): (int(sequence), int(time)) for track, sequence, time in entries}


def is_buffering(app: Fixture) -> bool:
    """Whether a reader waits for the first packets."""
    halves = [session.media for session in app.sessions]
    return any(isinstance(half, Reading) and half._start_buffer is not None for half in halves)


async def begin(app: Fixture, origin: Camera, path: str = "cam") -> tuple[RtspClient, asyncio.Task[Response]]:
    """Return a client whose PLAY waits."""
    client = await app.client()
    assert (await client.request("DESCRIBE", app.url(path))).status == 200
    for index in range(2):
        transport = f"RTP/AVP/TCP;unicast;interleaved={2 * index}-{2 * index + 1}"
        await client.setup(app.url(path), index, transport)
    task = asyncio.create_task(client.request("PLAY", app.url(path)))
    await app.until(lambda: is_buffering(app))
    return client, task


def send(origin: Camera, channel: int, sequence: int, timestamp: int, payload: bytes) -> bytes:
    packet = rtp(sequence, payload, timestamp=timestamp, payload_type=96 + channel // 2, ssrc=5 + channel)
    origin.clients[0].send_packet(packet, channel)
    return packet


async def test_rtp_info_names_every_track_and_reports_come_first() -> None:
    async with camera(BOTH) as origin, running(paths=on_demand(origin.url())) as app:
        client, playing = await begin(app, origin)
        pictures = [send(origin, 0, 500, 90_000, key_unit()), send(origin, 0, 501, 93_600, slice_unit())]
        await app.until(lambda: app.path("cam").stream.packet_readers)
        assert not playing.done()
        sound = send(origin, 2, 900, 48_000, SOUND)
        response = await playing
        assert response.status == 200
        told = info(response)
        assert set(told) == {0, 1}
        assert [sequence for sequence, _ in told.values()] == [500, 900]
        # One moment, shortly before the first packets.
        assert 0 < 90_000 - told[0][1] < 90_000
        frames = [await client.frame() for _ in range(5)]
        assert [channel for channel, _ in frames] == [1, 3, 0, 0, 2]
        assert [data for channel, data in frames if channel % 2 == 0] == [*pictures, sound]
        reports = [parse_compound(data)[0] for channel, data in frames if channel % 2]
        assert all(isinstance(report, SenderReport) for report in reports)
        after = send(origin, 0, 502, 97_200, slice_unit())
        assert await client.packets(1) == [after]
        assert len(app.path("cam").stream.packet_readers) == 1


async def test_a_silent_track_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "FIRST_PACKETS_SECONDS", 0.3)
    async with camera(BOTH) as origin, running(paths=on_demand(origin.url())) as app:
        client, playing = await begin(app, origin)
        picture = send(origin, 0, 500, 90_000, key_unit())
        response = await playing
        assert set(info(response)) == {0}
        assert await client.packets(1) == [picture]


SHORT = {"sourceOnDemandCloseAfter": "400ms"}


async def test_the_source_is_not_stopped_while_play_waits() -> None:
    async with camera(BOTH) as origin, running(paths=on_demand(origin.url(), **SHORT)) as app:
        client, playing = await begin(app, origin)
        await asyncio.sleep(0.7)
        send(origin, 0, 500, 90_000, key_unit())
        send(origin, 2, 900, 48_000, SOUND)
        assert (await playing).status == 200
        assert len(await client.packets(1)) == 1
        await client.close()
        await origin.asked("TEARDOWN")


@pytest.mark.parametrize("end", ["client", "camera"])
async def test_a_waiting_client_may_leave(end: str) -> None:
    async with camera(BOTH) as origin, running(paths=on_demand(origin.url(), **SHORT)) as app:
        client, playing = await begin(app, origin)
        if end == "client":
            playing.cancel()
            await client.close()
            await origin.asked("TEARDOWN")
        else:
            origin.clients[0].transport.abort()
            assert (await playing).status in (404, 454)
        await app.until(lambda: not is_buffering(app))


async def test_over_udp() -> None:
    async with camera(BOTH) as origin, running(paths=on_demand(origin.url())) as app:
        client = await app.client()
        ends: list[tuple[UdpEnd, UdpEnd]] = []
        for index in range(2):
            ends.append((await app.udp(), await app.udp()))
            ports = f"{ends[-1][0].port}-{ends[-1][1].port}"
            await client.setup(app.url("cam"), index, f"RTP/AVP;unicast;client_port={ports}")
        playing = asyncio.create_task(client.request("PLAY", app.url("cam")))
        await app.until(lambda: is_buffering(app))
        picture = send(origin, 0, 500, 90_000, key_unit())
        sound = send(origin, 2, 900, 48_000, SOUND)
        assert set(info(await playing)) == {0, 1}
        assert [await ends[0][0].get(), await ends[1][0].get()] == [picture, sound]
        for _, reports in ends:
            assert isinstance(parse_compound(await reports.get())[0], SenderReport)


async def test_a_relayed_path_tells_the_same() -> None:
    async with camera(BOTH) as origin:
        paths = {**on_demand(origin.url()), "other": {"fallback": "/cam"}}
        async with running(paths=paths) as app:
            direct, playing = await begin(app, origin)
            client = await app.client()
            # RTSP readers are redirected; who comes over another protocol has the path fed from there.
            task = asyncio.create_task(app.path("other").wait_ready(follows=True))
            await app.until(task.done)
            send(origin, 0, 500, 90_000, key_unit())
            send(origin, 2, 900, 48_000, SOUND)
            assert set(info(await playing)) == {0, 1}
            stream = task.result()
            assert [
                position.sequence for position in stream.positions([0, 1], 0.1, asyncio.get_running_loop().time())
            ] == [501, 901]
            await client.close()
            await direct.close()


@pytest.mark.parametrize("send_first", [False, True])
async def test_play_does_not_wait_for_a_client_that_publishes(send_first: bool) -> None:
    async with running() as app:
        publisher = await app.publisher("cam", BOTH, tracks=2)
        if send_first:
            publisher.send_frame(0, rtp(1, key_unit()))
        reader = await app.reader("cam", tracks=2)
        packet = rtp(2, key_unit())
        publisher.send_frame(0, packet)
        assert await reader.packets(1) == [packet]


REORDERED_SPS = "Z2QAHqzZQKAv+XARAAADAAEAAAMAPA8WLZY="
"""H264 High with a reorder depth of 2 (libx264 with -bf 2)."""


async def test_the_first_key_frame_of_reordered_pictures_is_left_out() -> None:
    # FFmpeg 5.1 gives the first picture no time: "Can't write packet with unknown timestamp".
    reordered = (
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        f"a=fmtp:96 packetization-mode=1; sprop-parameter-sets={REORDERED_SPS},aOvjyyLA\r\n"
    )
    async with camera(sdp(reordered, AUDIO)) as origin, running(paths=on_demand(origin.url())) as app:
        client, playing = await begin(app, origin)
        for sequence in (500, 501):
            send(origin, 0, sequence, 90_000, key_unit())
        sound = send(origin, 2, 900, 48_000, SOUND)
        await app.until(lambda: app.path("cam").stream.tracks[1].next_sequence is not None)
        picture = send(origin, 0, 502, 97_200, slice_unit())
        told = info(await playing)
        assert [sequence for sequence, _ in told.values()] == [502, 900]
        after = send(origin, 0, 503, 93_600, slice_unit())
        key = send(origin, 0, 504, 180_000, key_unit())
        frames = [await client.frame() for _ in range(6)]
        assert [data for channel, data in frames if channel % 2 == 0] == [sound, picture, after, key]


async def test_the_first_reader_of_reordered_pictures_waits_also_when_all_tracks_have_begun() -> None:
    reordered = (
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        f"a=fmtp:96 packetization-mode=1; sprop-parameter-sets={REORDERED_SPS},aOvjyyLA\r\n"
    )
    async with camera(sdp(reordered)) as origin, running(paths=on_demand(origin.url())) as app:
        client = await app.client()
        assert (await client.request("DESCRIBE", app.url("cam"))).status == 200
        await client.setup(app.url("cam"), 0, "RTP/AVP/TCP;unicast;interleaved=0-1")
        send(origin, 0, 499, 86_400, slice_unit())
        await app.until(lambda: app.path("cam").stream.tracks[0].next_sequence == 500)
        playing = asyncio.create_task(client.request("PLAY", app.url("cam")))
        await app.until(lambda: is_buffering(app))
        send(origin, 0, 500, 90_000, key_unit())
        picture = send(origin, 0, 501, 97_200, slice_unit())
        assert info(await playing)[0][0] == 501
        assert await client.packets(1) == [picture]
