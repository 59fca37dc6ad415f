"""What real clients send, replayed from bytes made as they make them: OBS (librtmp), DJI, GStreamer's order, relays."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from tests.protocols.rtmp.support import Fixture, RawClient, video_frame
from tests.wire.rtmp.support import (
    AUDIO,
    IDR,
    PPS,
    SLICE,
    SPS,
    VIDEO,
    audio_header,
    audio_message,
    length_prefixed,
    video_header,
    video_message,
)

from polycast.media.codec import Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp import amf0
from polycast.wire.rtmp.amf0 import EcmaArray
from polycast.wire.rtmp.client import Mode
from polycast.wire.rtmp.demuxer import GRACE_PERIOD
from polycast.wire.rtmp.events import FrameReceived, RequestAccepted
from polycast.wire.rtmp.messages import Command, SetChunkSize, WindowAcknowledgementSize

OBS_CHUNK_SIZE = 4096

OBS_METADATA: EcmaArray = EcmaArray(
    {
        "duration": 0.0,
        "fileSize": 0.0,
        "width": 640.0,
        "height": 360.0,
        "videocodecid": 7.0,
        "videodatarate": 2500.0,
        "framerate": 25.0,
        "audiocodecid": 10.0,
        "audiodatarate": 160.0,
        "audiosamplerate": 44_100.0,
        "audiosamplesize": 16.0,
        "audiochannels": 2.0,
        "stereo": True,
        "2.1": False,
        "3.1": False,
        "4.0": False,
        "4.1": False,
        "5.1": False,
        "7.1": False,
        "encoder": "obs-output module (libobs version 30.2.3)",
    }
)


class Librtmp:
    """Chunks as librtmp writes them: headers shrink to what differs from the message before on the same channel."""

    def __init__(self) -> None:
        self.chunk_size = 128
        self._before: dict[int, tuple[int, int, int]] = {}

    def message(
        self, channel: int, message_type: int, payload: bytes, timestamp: int = 0, *, stream_id: int = 0, large: bool
    ) -> bytes:
        before = self._before.get(channel)
        self._before[channel] = (message_type, len(payload), timestamp)
        if before is None or large:
            form, header = 0, timestamp.to_bytes(3, "big") + len(payload).to_bytes(3, "big") + bytes((message_type,))
            header += struct.pack("<I", stream_id)
        elif before[:2] == (message_type, len(payload)):
            form, header = 2, (timestamp - before[2]).to_bytes(3, "big")
        else:
            form = 1
            header = (timestamp - before[2]).to_bytes(3, "big") + len(payload).to_bytes(3, "big")
            header += bytes((message_type,))
        data = bytes((form << 6 | channel,)) + header + payload[: self.chunk_size]
        for position in range(self.chunk_size, len(payload), self.chunk_size):
            data += bytes((0xC0 | channel,)) + payload[position : position + self.chunk_size]
        return data

    def set_chunk_size(self, size: int) -> bytes:
        data = self.message(2, 1, struct.pack(">I", size), large=True)
        self.chunk_size = size
        return data


async def obs_connect(client: RawClient, url: str, key: str) -> Librtmp:
    """OBS from the first byte to the acceptance of ``publish``."""
    writer = Librtmp()
    client.send(b"\x03" + bytes(8) + bytes(index * 7 & 0xFF for index in range(1528)))
    await client.receive(1 + 2 * 1536)
    client.send(client.received[1:1537])  # librtmp echoes S1 as C2
    client.send(writer.set_chunk_size(OBS_CHUNK_SIZE))
    values = {
        "app": "live",
        "type": "nonprivate",
        "flashVer": "FMLE/3.0 (compatible; FMSc/1.0)",
        "swfUrl": url,
        "tcUrl": url,
    }
    client.send(writer.message(3, 20, amf0.encode("connect", 1.0, values), large=True))
    await client.receive_until(b"NetConnection.Connect.Success")
    client.send(writer.message(2, 5, struct.pack(">I", 2_500_000), large=True))
    for number, name in ((2.0, "releaseStream"), (3.0, "FCPublish")):
        client.send(writer.message(3, 20, amf0.encode(name, number, None, key), large=False))
    client.send(writer.message(3, 20, amf0.encode("createStream", 4.0, None), large=False))
    await client.receive_until(amf0.encode("_result", 4.0, None, 1.0))
    client.send(writer.message(4, 20, amf0.encode("publish", 5.0, None, key, "live"), stream_id=1, large=True))
    await client.receive_until(b"onStatus")
    return writer


def obs_media(writer: Librtmp) -> Iterator[bytes]:
    """Metadata, sequence headers and frames. All go on channel 4, the first with a whole header."""
    metadata = amf0.encode("@setDataFrame", "onMetaData", OBS_METADATA)
    yield writer.message(4, 18, metadata, stream_id=1, large=True)
    yield writer.message(4, 8, audio_header(), stream_id=1, large=True)
    yield writer.message(4, 9, video_header(), stream_id=1, large=True)
    sei = b"\x06\x05\x01\x80"
    yield writer.message(4, 9, video_message(SPS, PPS, sei, IDR * 200), stream_id=1, large=True)
    media = [(number * 23, 8, audio_message(bytes((number,) * 8))) for number in range(1, 30)]
    media += [(number * 40, 9, video_message(SLICE + bytes((number,)), key=False)) for number in range(1, 17)]
    for timestamp, message_type, payload in sorted(media):
        yield writer.message(4, message_type, payload, timestamp, stream_id=1, large=False)


async def test_obs_publishes(it: Fixture) -> None:
    client = await it.raw()
    writer = await obs_connect(client, f"rtmp://127.0.0.1:{it.port()}/live", "cam")
    data = b"".join(obs_media(writer))
    # The stream is there after the first frames; the reader wants a key frame, which comes again.
    client.send(data)
    await it.log.wait(r"is publishing to path 'live/cam', 2 tracks \(H264, AAC\)")
    reader = await it.reader("live/cam")
    client.send(writer.message(4, 9, video_message(IDR * 300, composition_time=80), 1000, stream_id=1, large=False))
    client.send(writer.message(4, 8, audio_message(), 1003, stream_id=1, large=False))
    video, audio = await reader.frames(2)
    assert video.frame.units == (IDR * 300,)
    assert (video.frame.dts, video.frame.pts) == (90_000, 97_200)
    assert audio.frame.dts == 44_232  # 1003 ms at 44.1 kHz

    messages = client.messages()
    names = [item.name for item in messages if isinstance(item, Command)]
    assert names == ["_result", "onFCPublish", "_result", "onStatus"]
    assert [item.size for item in messages if isinstance(item, SetChunkSize)] == [65_536]
    assert [item.size for item in messages if isinstance(item, WindowAcknowledgementSize)] == [2_500_000]

    client.send(writer.message(3, 20, amf0.encode("FCUnpublish", 6.0, None, "cam"), large=False))
    client.send(writer.message(3, 20, amf0.encode("deleteStream", 7.0, None, 1.0), large=False))
    await reader.ended()
    await it.until(lambda: not it.app.hub.paths)
    assert it.connections, "OBS closes the connection itself"


async def test_dji_publishes(it: Fixture) -> None:
    """No metadata, media before the answer to ``publish``, empty NAL units and access unit delimiters."""
    client = await it.raw()
    client.send_connect("live", f"rtmp://127.0.0.1:{it.port()}/live")
    client.send_publish("dji")
    client.send_message(9, video_header())
    client.send_message(8, audio_header())
    client.send_message(9, video_message(b"\x09\xf0", IDR), 0)
    await client.receive_until(b"onStatus")
    client.send_message(9, b"\x27\x01\x00\x00\x00" + bytes(4), 40)
    client.send_message(9, b"\x27\x01\x00\x00\x00" + bytes(4) + length_prefixed(SLICE) + bytes(4), 80)
    for number in range(3, 30):
        client.send_message(9, video_message(SLICE, key=False), number * 40)
        client.send_message(8, audio_message(), number * 40)
    await it.log.wait(r"is publishing to path 'live/dji', 2 tracks \(H264, AAC\)")
    reader = await it.reader("live/dji")
    client.send_message(9, b"\x17\x01\x00\x00\x00" + bytes(4) + length_prefixed(b"\x09\xf0", IDR), 2000)
    client.send_message(9, video_message(SLICE, key=False), 2040)
    key, inter = await reader.frames(2)
    assert (key.frame.units, inter.frame.units) == ((IDR,), (SLICE,))


async def test_a_relay_reads_as_nginx_does(it: Fixture) -> None:
    """A simple handshake, no ``tcUrl`` port, acknowledgement window and buffer length in between, pings."""
    publisher = await it.publisher("live/cam")
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live", flashVer="ngx-local-relay")
    client.send_message(5, struct.pack(">I", 5_000_000), stream_id=0)
    client.send_command(Command("createStream", 2.0, None))
    client.send_message(4, struct.pack(">HII", 3, 1, 0), stream_id=0)
    client.send_command(Command("play", 0.0, None, ("cam",)), stream_id=1)
    await client.receive_until(b"NetStream.Play.PublishNotify")
    publisher.send_video([1], keys=[1])
    await client.receive_until(video_frame(1, key=True).units[0])
    # The server still reads: it answers a ping, and sees that the relay leaves.
    client.send_message(4, struct.pack(">HI", 6, 4711), stream_id=0)
    await client.receive_until(struct.pack(">HI", 7, 4711))
    client.send_command(Command("deleteStream", 3.0, None, (1.0,)))
    await it.until(lambda: not it.path("live/cam").readers)


@pytest.mark.parametrize("name", ["getStreamLength", "_checkbw", "FCSubscribe", "setBufferTime", "anything"])
async def test_calls_of_players_do_no_harm(it: Fixture, name: str) -> None:
    publisher = await it.publisher("live/cam")
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    client.send_command(Command("createStream", 2.0, None))
    client.send_command(Command(name, 3.0, None, ("cam",)))
    client.send_command(Command("play", 4.0, None, ("cam", -2000.0)), stream_id=1)
    await client.receive_until(b"NetStream.Play.Start")
    publisher.send_video([1], keys=[1])
    await client.receive_until(video_frame(1, key=True).units[0])


async def test_a_client_publishes_again_on_the_same_connection(it: Fixture) -> None:
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    for key in ("one", "two"):
        client.send_publish(key)
        await client.receive_until(amf0.encode("onStatus", 0.0))
        client.send_message(9, video_header())
        client.send_message(8, audio_header())
        metadata = amf0.encode("onMetaData", {"videocodecid": 7.0, "audiocodecid": 10.0})
        client.send_message(18, metadata)
        client.send_message(9, video_message(IDR))
        await it.log.wait(f"is publishing to path 'live/{key}'")
        client.send_command(Command("deleteStream", 9.0, None, (1.0,)))
        await it.until(lambda: not it.app.hub.paths)
        client.received = client.received[:3073]
    assert it.connections


async def test_two_publishers_in_one_program(it: Fixture) -> None:
    """Streams do not mix."""
    first, second = await it.publisher("a"), await it.publisher("b", [VIDEO, AUDIO])
    reader = await it.client(Mode.PLAY, "b")
    await reader.event(RequestAccepted)
    first.send_video([1, 2], keys=[1])
    second.send_video([7], keys=[7])
    await reader.frames(1)
    assert [event.frame.units for event in reader.all(FrameReceived)] == [video_frame(7, key=True).units]


@pytest.mark.parametrize("is_metadata_last", [False, True])
async def test_a_publisher_is_ready_without_a_frame(it: Fixture, is_metadata_last: bool) -> None:
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    client.send_publish("cam")
    metadata = (18, amf0.encode("@setDataFrame", "onMetaData", {"videocodecid": 7.0, "audiocodecid": 10.0}))
    headers = [(9, video_header()), (8, audio_header())]
    for message_type, payload in [*headers, metadata] if is_metadata_last else [metadata, *headers]:
        client.send_message(message_type, payload)
    await it.until(lambda: bool(it.app.hub.paths) and it.path("live/cam").publisher is not None)
    # The housekeeping does not run: the clock of the test stands still, and the server waits no second.
    it.clock.value += GRACE_PERIOD
    reader = await it.reader("live/cam")
    client.send_message(9, video_message(IDR))
    assert (await reader.frames(1))[0].frame.units == (IDR,)


async def test_a_player_waits_for_a_publisher_that_is_starting(it: Fixture) -> None:
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    client.send_publish("cam")
    await client.receive_until(b"NetStream.Publish.Start")
    reader = await it.client(Mode.PLAY, "live/cam")
    await it.until(lambda: bool(it.path("live/cam")._pending))
    client.send_message(18, amf0.encode("onMetaData", {"videocodecid": 7.0}))
    client.send_message(9, video_header())
    client.send_message(9, video_message(IDR))
    await reader.accepted()


async def test_a_player_waits_no_longer_than_its_publisher(it: Fixture) -> None:
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    client.send_publish("cam")
    await client.receive_until(b"NetStream.Publish.Start")
    reader = await it.client(Mode.PLAY, "live/cam")
    await it.until(lambda: bool(it.path("live/cam")._pending))
    await client.close()
    assert (await reader.refused()).description == "no one is publishing to path 'live/cam'"


async def test_the_first_result_after_connect_is_that_of_create_stream(it: Fixture) -> None:
    """The reference's own client does not look at transaction numbers."""
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    for number, name in enumerate(("releaseStream", "FCPublish", "_checkbw", "getStreamLength")):
        client.send_command(Command(name, 2.0 + number, None, ("cam",)))
    client.send_command(Command("createStream", 9.0, None))
    await client.receive_until(amf0.encode("_result", 9.0))
    results = [item for item in client.messages() if isinstance(item, Command) and item.name == "_result"]
    assert [(item.transaction_id, item.arguments[-1]) for item in results[1:]] == [(9.0, 1.0)]


@pytest.mark.parametrize(
    ("announced", "carried"),
    [({}, ["H264"]), ({"audioCodecs": 4071.0}, ["H264"]), ({"fourCcList": ["Opus"]}, ["H264", "Opus"])],
    ids=["silent", "FFmpeg", "enhanced"],
)
async def test_a_reader_gets_what_it_announced(it: Fixture, announced: dict[str, Any], carried: list[str]) -> None:
    publisher = await it.publisher("live/cam", [VIDEO, Track(1, Opus())])
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live", **announced)
    client.send_command(Command("createStream", 2.0, None))
    client.send_command(Command("play", 3.0, None, ("cam",)), stream_id=1)
    await client.receive_until(b"NetStream.Play.Start")
    publisher.send_frame(1, Frame((b"\xf8\xff\xfe",), 0, 0, key=True))
    publisher.send_video([1], keys=[1])
    await client.receive_until(video_frame(1, key=True).units[0])
    assert (b"Opus" in client.received) == ("Opus" in carried)
    await it.log.wait(rf"is reading from path 'live/cam', \d tracks? \({', '.join(carried)}\)")
    if "Opus" not in carried:
        await it.log.wait(r"track 2 \(Opus\) is skipped: the peer did not announce Enhanced RTMP, which Opus needs")
