"""Publishers that send an MPEG transport stream of FFmpeg in RTP: it is passed on as it is, or demuxed."""

from __future__ import annotations

import subprocess

import pytest
from tests.interop import tools
from tests.protocols.rtsp.support import Fixture, RtspClient, rtp, running, sdp, udp_transport
from tests.protocols.sources.test_supervision import Frames

from polycast.protocols.transport_ingest import ANALYSIS_SECONDS

TRANSPORT_STREAM = "m=video 0 RTP/AVP 33\r\n"
PACKET_SIZE = 7 * 188
PICTURES = 50
DEMUXED = {"all": {"rtspDemuxMpegts": True}}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of H264 and AAC."""
    tools.require("ffmpeg")
    file = tmp_path_factory.mktemp("media") / "media.ts"
    pictures = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "10", "-pix_fmt", "yuv420p", "-c:a", "aac")
    command = ["ffmpeg", "-loglevel", "error", "-nostdin", *pictures, "-t", "2", *codecs, "-f", "mpegts", str(file)]
    subprocess.run(command, check=True)
    return file.read_bytes()


def packets_of(data: bytes) -> list[bytes]:
    parts = [data[start : start + PACKET_SIZE] for start in range(0, len(data), PACKET_SIZE)]
    return [rtp(index, part, payload_type=33, timestamp=900 * index) for index, part in enumerate(parts)]


async def publish(it: Fixture, media: bytes) -> RtspClient:
    """Publish the first half, with which the path becomes ready, over TCP."""
    publisher = await it.publisher("cam", sdp(TRANSPORT_STREAM))
    packets = packets_of(media)
    for packet in packets[: len(packets) // 2]:
        publisher.send_frame(0, packet)
    await it.until(lambda: it.path("cam").stream is not None)
    return publisher


async def test_the_tracks_are_published(media: bytes) -> None:
    async with running(paths=DEMUXED) as it:
        publisher = await publish(it, media)
        await it.log.wait(r"session .*is publishing to path 'cam', with TCP, 2 tracks \(H264, AAC\)$")
        reader = await it.client()
        description = (await reader.request("DESCRIBE", it.url("cam"))).body.decode()
        assert "H264/90000" in description
        assert "config=" in description
        frames = Frames()
        path = it.path("cam")
        assert path.stream is not None
        path.attach_reader(frames, path.stream)
        packets = packets_of(media)
        for packet in packets[len(packets) // 2 :]:
            publisher.send_frame(0, packet)
        assert (await publisher.request("TEARDOWN", it.url("cam"))).status == 200
        await it.until(lambda: path.stream is None)
        pictures = [frame for index, frame in frames.frames if index == 0]
        assert PICTURES // 3 < len(pictures) < PICTURES
        assert len({frame.pts for frame in pictures}) == len(pictures)
        assert any(frame.key for frame in pictures)
        assert sum(index for index, _ in frames.frames) > 20, "sound"


async def test_over_udp_out_of_order(media: bytes) -> None:
    async with running(paths=DEMUXED) as it:
        client, rtp_end, rtcp_end = await it.client(), await it.udp(), await it.udp()
        await client.announce(it.url("cam"), sdp(TRANSPORT_STREAM))
        await client.setup(it.url("cam"), transport=udp_transport(rtp_end, rtcp_end, record=True))
        assert (await client.request("RECORD", it.url("cam"))).status == 200
        packets = packets_of(media)
        packets[1:3] = reversed(packets[1:3])
        for packet in packets:
            rtp_end.send(packet, it.server.ports["rtpAddress"])
        await it.until(lambda: it.path("cam").stream is not None)
        assert [track.codec_name for track in it.path("cam").stream.descriptions] == ["H264", "AAC"]  # type: ignore[union-attr]


async def test_a_publisher_that_pauses_goes_on(media: bytes) -> None:
    async with running(paths=DEMUXED) as it:
        publisher = await publish(it, media)
        assert (await publisher.request("PAUSE", it.url("cam"))).status == 200
        await it.until(lambda: it.path("cam").stream is None)
        assert (await publisher.request("RECORD", it.url("cam"))).status == 200
        for packet in packets_of(media):
            publisher.send_frame(0, packet)
        await it.until(lambda: it.path("cam").stream is not None)


async def test_what_is_no_transport_stream_ends_the_session() -> None:
    async with running(paths=DEMUXED, readTimeout="1h") as it:
        publisher = await it.publisher("cam", sdp(TRANSPORT_STREAM))
        publisher.send_frame(0, rtp(1, bytes(1316), payload_type=33))
        await publisher.sync(it.url("cam"))
        it.pass_time(ANALYSIS_SECONDS + 1)
        await it.log.wait("destroyed .*the stream doesn't contain any supported codec")


async def test_a_path_that_was_taken_meanwhile(media: bytes) -> None:
    async with running(paths=DEMUXED) as it:
        late = await it.publisher("cam", sdp(TRANSPORT_STREAM))
        await publish(it, media)
        assert await late.ended()


@pytest.mark.parametrize("paths", [{"all": {}}, DEMUXED])
async def test_others_are_passed_on(paths: dict[str, dict[str, bool]], media: bytes) -> None:
    """Without the setting, and streams of another kind."""
    async with running(paths=paths) as it:
        description = sdp(TRANSPORT_STREAM, "m=audio 0 RTP/AVP 0\r\n") if paths is DEMUXED else sdp(TRANSPORT_STREAM)
        publisher = await it.publisher("cam", description, tracks=2 if paths is DEMUXED else 1)
        reader = await it.reader("cam")
        sent = packets_of(media)[:20]
        for packet in sent:
            publisher.send_frame(0, packet)
        assert await reader.packets(20) == sent
