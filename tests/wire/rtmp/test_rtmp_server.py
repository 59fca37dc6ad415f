"""The server engine, driven by bytes that real clients send: OBS's sequence, DJI-like clients, and bad ones."""

from __future__ import annotations

import struct

import pytest
from tests.wire.rtmp.support import (
    AUDIO,
    IDR,
    SEED,
    SIMPLE_HANDSHAKE,
    VIDEO,
    audio_header,
    audio_message,
    frames_of,
    messages_of,
    video_header,
    video_message,
    wire,
)

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import Generic
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp import amf0
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.amf0 import EcmaArray
from polycast.wire.rtmp.chunks import RawMessage
from polycast.wire.rtmp.events import (
    Capabilities,
    ConnectRequested,
    Event,
    FrameReceived,
    PeerClosedStream,
    PlayRequested,
    PublishRequested,
    TracksKnown,
)
from polycast.wire.rtmp.messages import (
    Acknowledgement,
    Command,
    Data,
    SetChunkSize,
    SetPeerBandwidth,
    UserControl,
    WindowAcknowledgementSize,
)
from polycast.wire.rtmp.muxer import Muxer
from polycast.wire.rtmp.server import (
    MAXIMUM_EARLY_SIZE,
    MAXIMUM_USER_AGENT,
    PLAY_REFUSED,
    PUBLISH_REFUSED,
    ServerConnection,
)
from polycast.wire.rtmp.states import State


def command(name: str, transaction: float, *values: Value, stream_id: int = 0, message_type: int = 20) -> bytes:
    lead = b"\x00" if message_type == 17 else b""
    return wire(message_type, lead + amf0.encode(name, transaction, *values), stream_id=stream_id)


CONNECT_OBJECT: dict[str, Value] = {
    "app": "live",
    "type": "nonprivate",
    "flashVer": "FMLE/3.0 (compatible; FMSc/1.0)",
    "swfUrl": "rtmp://127.0.0.1/live",
    "tcUrl": "rtmp://127.0.0.1/live",
}
CONNECT = command("connect", 1.0, CONNECT_OBJECT)

METADATA: EcmaArray = EcmaArray(
    duration=0.0,
    fileSize=0.0,
    width=640.0,
    height=360.0,
    videocodecid=7.0,
    videodatarate=2500.0,
    framerate=25.0,
    audiocodecid=10.0,
    audiodatarate=160.0,
    audiosamplerate=44_100.0,
    audiosamplesize=16.0,
    audiochannels=2.0,
    stereo=True,
    encoder="obs-output module (libobs version 30.2.3)",
)

OBS_PUBLISH = b"".join(
    (
        SIMPLE_HANDSHAKE,
        wire(1, struct.pack(">I", 4096), stream_id=0),
        wire(20, amf0.encode("connect", 1.0, CONNECT_OBJECT), stream_id=0, chunk_size=4096),
        wire(5, struct.pack(">I", 2_500_000), stream_id=0),
        wire(20, amf0.encode("releaseStream", 2.0, None, "key?user=u&pass=p"), stream_id=0),
        wire(20, amf0.encode("FCPublish", 3.0, None, "key?user=u&pass=p"), stream_id=0),
        wire(20, amf0.encode("createStream", 4.0, None), stream_id=0),
        wire(20, amf0.encode("publish", 5.0, None, "key?user=u&pass=p", "live"), stream_id=1),
    )
)
OBS_MEDIA = b"".join(
    (
        wire(18, amf0.encode("@setDataFrame", "onMetaData", METADATA), chunk_size=4096),
        wire(8, audio_header(), chunk_size=4096),
        wire(9, video_header(), chunk_size=4096),
        wire(9, video_message(b"\x06\x05\x01\x80", IDR), chunk_size=4096),
        wire(8, audio_message(), 5, chunk_size=4096),
        wire(9, video_message(IDR * 500, composition_time=80), 40, chunk_size=4096),
    )
)
OBS_END = b"".join(
    (
        wire(20, amf0.encode("FCUnpublish", 6.0, None, "key?user=u&pass=p"), stream_id=0),
        wire(20, amf0.encode("deleteStream", 7.0, None, 1.0), stream_id=0),
    )
)


def new_server(now: float = 0.0) -> ServerConnection:
    return ServerConnection(now, seed=SEED)


def feed(server: ServerConnection, data: bytes, piece: int = 1 << 30, now: float = 0.0) -> list[Event]:
    events: list[Event] = []
    for position in range(0, len(data), piece):
        events += server.receive_data(data[position : position + piece], now)
    return events


def connected(extra: dict[str, Value] | None = None) -> ServerConnection:
    server = new_server()
    feed(server, SIMPLE_HANDSHAKE + command("connect", 1.0, {**CONNECT_OBJECT, **(extra or {})}))
    server.data_to_send()
    return server


def publishing() -> ServerConnection:
    server = connected()
    feed(server, command("publish", 5.0, None, "key", "live", stream_id=1))
    server.accept_publish(0.0)
    server.data_to_send()
    return server


def playing(extra: dict[str, Value] | None = None) -> ServerConnection:
    server = connected(extra)
    feed(server, command("play", 5.0, None, "key", -2000.0, stream_id=1))
    server.accept_play([VIDEO, AUDIO])
    server.data_to_send()
    return server


def answers(server: ServerConnection) -> list[object]:
    return list(messages_of(server.data_to_send(), handshake=False, chunk_size=65_536))


def on_status(level: str, code: str, description: str) -> Command:
    return Command("onStatus", 0.0, None, ({"level": level, "code": code, "description": description},))


@pytest.mark.parametrize("piece", [1, 7, 128, 1 << 30])
def test_obs_publishes(piece: int) -> None:
    server = new_server()
    events = feed(server, OBS_PUBLISH, piece)
    assert [type(event) for event in events] == [ConnectRequested, PublishRequested]
    connect, publish = events
    assert isinstance(connect, ConnectRequested)
    assert (connect.app, connect.tc_url, connect.object_encoding) == ("live", "rtmp://127.0.0.1/live", 0)
    assert connect.flash_version.startswith("FMLE/")
    assert connect.capabilities == Capabilities()
    assert isinstance(publish, PublishRequested)
    assert (publish.app, publish.stream_key, publish.publish_type) == ("live", "key?user=u&pass=p", "live")
    (target,) = publish.targets
    assert (target.path, target.user, target.password) == ("live/key", "u", "p")
    success = {
        "level": "status",
        "code": "NetConnection.Connect.Success",
        "description": "Connection succeeded.",
        "objectEncoding": 0.0,
    }
    assert messages_of(server.data_to_send()) == [
        WindowAcknowledgementSize(2_500_000),
        SetPeerBandwidth(2_500_000, 2),
        SetChunkSize(65_536),
        Command("_result", 1.0, {"fmsVer": "LNX 9,0,124,2", "capabilities": 31.0}, (success,)),
        Command(
            "onFCPublish",
            0.0,
            None,
            ({"level": "status", "code": "NetStream.Publish.Start", "description": "key?user=u&pass=p"},),
        ),
        Command("_result", 4.0, None, (1.0,)),
    ]
    assert server.accept_publish(0.0) == []
    assert answers(server) == [on_status("status", "NetStream.Publish.Start", "publish start")]

    events = feed(server, OBS_MEDIA, piece)
    assert [type(event) for event in events] == [TracksKnown, FrameReceived, FrameReceived, FrameReceived]
    assert [(track, frame.dts, frame.pts) for track, frame in frames_of(events)] == [
        (0, 0, 0),
        (1, 221, 221),
        (0, 3600, 10_800),
    ]
    assert server.demuxer is not None
    assert server.demuxer.metadata.encoder.startswith("obs-output")
    assert feed(server, OBS_END, piece) == [PeerClosedStream("FCUnpublish")]
    assert server.state is State.CONNECTED
    assert answers(server) == []


def test_nothing_is_granted_before_it_is_accepted() -> None:
    server = connected()
    feed(server, command("publish", 5.0, None, "key", "live", stream_id=1))
    assert server.data_to_send() == b""
    server.refuse(PUBLISH_REFUSED, "invalid credentials")
    assert answers(server) == [on_status("error", "NetStream.Publish.BadName", "invalid credentials")]
    with pytest.raises(LocalProtocolError):
        server.accept_publish(0.0)


def test_play() -> None:
    server = connected()
    events = feed(
        server,
        command("createStream", 2.0, None)
        + command("getStreamLength", 3.0, None, "key")
        + command("play", 4.0, None, "key?x=1", -2000.0, stream_id=1)
        + wire(4, struct.pack(">HII", 3, 1, 3000), stream_id=0),
    )
    assert [type(event) for event in events] == [PlayRequested]
    assert answers(server) == [Command("_result", 2.0, None, (1.0,))]
    assert server.accept_play([VIDEO, AUDIO, Track(2, Generic())]) == (VIDEO, AUDIO)
    sent = answers(server)
    assert sent[:6] == [
        UserControl(4, 1),
        UserControl(0, 1),
        on_status("status", "NetStream.Play.Reset", "play reset"),
        on_status("status", "NetStream.Play.Start", "play start"),
        on_status("status", "NetStream.Data.Start", "data start"),
        on_status("status", "NetStream.Play.PublishNotify", "publish notify"),
    ]
    metadata, video, audio = sent[6:]
    assert isinstance(metadata, Data)
    assert isinstance(video, RawMessage)
    assert isinstance(audio, RawMessage)
    assert metadata.values[0] == "onMetaData"
    assert (video.payload, video.timestamp, audio.payload) == (video_header(), 0, audio_header())
    server.send_frame(0, Frame((IDR,), 3600, 3600, key=True))
    (frame,) = answers(server)
    assert isinstance(frame, RawMessage)
    assert (frame.type, frame.timestamp, frame.payload) == (9, 40, video_message(IDR))
    server.end_play()
    assert [type(message) for message in answers(server)] == [UserControl, Command, Command]
    assert server.state is State.CONNECTED


def test_play_with_a_shared_muxer() -> None:
    muxer = Muxer([VIDEO, AUDIO])
    readers = [connected(), connected()]
    for server in readers:
        feed(server, command("play", 4.0, None, "key", stream_id=1))
        assert server.accept_play([VIDEO, AUDIO]) == (VIDEO, AUDIO)
    first, second = (server.data_to_send() for server in readers)
    assert first == second
    frame = muxer.message(0, Frame((IDR,), 3600, 3600, key=True))
    raw_messages = messages_of(first + frame, handshake=False, chunk_size=65_536)
    assert isinstance(raw_messages[-1], RawMessage)
    assert raw_messages[-1].payload == video_message(IDR)


def test_play_is_refused() -> None:
    server = connected()
    feed(server, command("play", 4.0, None, "key", stream_id=1))
    with pytest.raises(LocalProtocolError, match="the stream doesn't contain an H264 track or an AAC track"):
        server.accept_play([Track(0, Generic())])
    server.refuse(PLAY_REFUSED, "no one is publishing to path 'live/key'")
    # GStreamer goes by the code, FFmpeg by the level, and rtsp-simple-server's client only by the level of the first.
    assert answers(server) == [
        on_status(level, PLAY_REFUSED, "no one is publishing to path 'live/key'") for level in ("status", "error")
    ]


@pytest.mark.parametrize(
    ("announced", "is_encoder"),
    [
        ({"type": "nonprivate", "flashVer": ""}, True),
        ({"type": "", "flashVer": "FMLE/3.0 (compatible; Lavf60.16.100)"}, True),
        ({"type": "", "flashVer": "LNX 9,0,124,2"}, False),
    ],
)
def test_when_a_publisher_is_told_to_start(announced: dict[str, Value], is_encoder: bool) -> None:
    """Encoders show the reason of a refusal only if it comes in place of the start; others wait for the start."""
    server = connected(announced)
    started = on_status("status", "NetStream.Publish.Start", "publish start")
    feed(server, command("publish", 5.0, None, "key", "live", stream_id=1))
    assert answers(server) == ([] if is_encoder else [started])
    server.accept_publish(0.0)
    assert answers(server) == ([started] if is_encoder else [])


def test_a_playing_client_is_still_read() -> None:
    server = playing()
    ping = wire(4, struct.pack(">HI", 6, 1234), stream_id=0)
    assert feed(server, ping + wire(3, struct.pack(">I", 5000), stream_id=0)) == []
    assert answers(server) == [UserControl(7, 1234)]
    assert server.acknowledged == 5000
    assert feed(server, command("closeStream", 0.0, None, stream_id=1)) == [PeerClosedStream("closeStream")]


def test_a_client_that_sends_media_before_it_was_accepted() -> None:
    server = connected()
    start = command("publish", 5.0, None, "key", "live", stream_id=1)
    assert [type(event) for event in feed(server, start + wire(9, video_header()) + wire(9, video_message(IDR)))] == [
        PublishRequested
    ]
    assert server.accept_publish(1.0) == []
    deadline = server.next_timeout()
    assert deadline == 2.0
    assert [type(event) for event in server.handle_timeout(deadline)] == [TracksKnown, FrameReceived]


def test_little_of_the_name_of_a_client_is_kept() -> None:
    assert connected({"flashVer": "Lavf/" + "x" * 100_000}).user_agent == "Lavf/" + "x" * (MAXIMUM_USER_AGENT - 5)


def test_early_media_is_limited() -> None:
    server = connected()
    feed(server, command("publish", 5.0, None, "key", "live", stream_id=1))
    with pytest.raises(RemoteProtocolError, match="before the stream was accepted"):
        feed(server, wire(9, bytes(1 << 20)) * (MAXIMUM_EARLY_SIZE >> 20))


def test_metadata_before_acceptance_counts() -> None:
    server = connected()
    feed(server, command("publish", 5.0, None, "key", "live", stream_id=1))
    feed(server, wire(18, amf0.encode("@setDataFrame", "onMetaData", METADATA)))
    server.accept_publish(0.0)
    events = feed(server, wire(8, audio_header()) + wire(9, video_header()) + wire(9, video_message(IDR)))
    assert [type(event) for event in events] == [TracksKnown, FrameReceived]


def test_aggregates_are_split() -> None:
    server = publishing()
    parts = b""
    for kind, payload, time in ((8, audio_header(), 0), (9, video_header(), 0), (9, video_message(IDR), 40)):
        parts += bytes((kind,)) + len(payload).to_bytes(3, "big") + time.to_bytes(3, "big") + bytes(4)
        parts += payload + (len(payload) + 11).to_bytes(4, "big")
    metadata = wire(18, amf0.encode("onMetaData", METADATA))
    events = feed(server, metadata + wire(22, parts, 1000))
    assert [type(event) for event in events] == [TracksKnown, FrameReceived]
    assert frames_of(events)[0][1].dts == 1040 * 90


def test_unknown_messages_and_commands_are_ignored() -> None:
    server = publishing()
    data = b"".join(wire(kind, b"\x00\x01\x02", stream_id=0) for kind in (0, 7, 10, 16, 19, 63, 255))
    data += wire(4, b"\x00\xff\x00\x00\x00\x00", stream_id=0)
    data += command("setBufferTime", 9.0, None) + command("|RtmpSampleAccess", 0.0)
    assert feed(server, data) == []
    assert server.data_to_send() == b""


def test_amf3_commands() -> None:
    server = connected({"objectEncoding": 3.0})
    assert [type(event) for event in feed(server, command("play", 1.0, None, "key", stream_id=1, message_type=17))] == [
        PlayRequested
    ]


def test_capabilities_are_exchanged() -> None:
    server = new_server()
    announced: dict[str, Value] = {
        "fourCcList": ["av01", "hvc1"],
        "audioFourCcInfoMap": {"Opus": 1.0},
        "capsEx": 2.0,
    }
    (event,) = feed(server, SIMPLE_HANDSHAKE + command("connect", 1.0, {**CONNECT_OBJECT, **announced}))
    assert isinstance(event, ConnectRequested)
    assert event.capabilities == Capabilities(frozenset({"av01", "hvc1", "Opus"}), multitrack=True)
    result = messages_of(server.data_to_send())[3]
    assert isinstance(result, Command)
    assert isinstance(result.object, dict)
    assert result.object["capsEx"] == 14.0
    assert "hvc1" in result.object["videoFourCcInfoMap"]  # type: ignore[operator]


def test_quotation_marks_around_the_url() -> None:
    server = connected({"tcUrl": "'rtmp://u:p@127.0.0.1/live'"})
    (event,) = feed(server, command("publish", 5.0, None, "key", "live", stream_id=1))
    assert isinstance(event, PublishRequested)
    assert [(target.path, target.user, target.password) for target in event.targets] == [("live/key", "u", "p")]


@pytest.mark.parametrize("flags", [float("nan"), float("inf"), -1.0, 1e300])
def test_senseless_capabilities_are_none(flags: float) -> None:
    server = connected({"capsEx": flags})
    assert server.capabilities == Capabilities()


def test_acknowledgements() -> None:
    server = publishing()
    feed(server, wire(5, struct.pack(">I", 5000), stream_id=0))
    server.data_to_send()
    for _ in range(3):
        feed(server, wire(99, bytes(4000)))
    sent = [
        message for message in messages_of(server.data_to_send(), False, 65_536) if isinstance(message, Acknowledgement)
    ]
    assert sent[-1].sequence_number == server.bytes_received
    assert 1 <= len(sent) <= 3


def test_acknowledgements_wrap() -> None:
    assert Acknowledgement((1 << 32) + 5).payload() == b"\x00\x00\x00\x05"


def test_a_tiny_window_costs_one_acknowledgement_per_read() -> None:
    server = publishing()
    feed(server, wire(5, struct.pack(">I", 1), stream_id=0) + wire(99, bytes(10)) * 500)
    assert len(answers(server)) <= 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x06", "RTMPE"),
        (SIMPLE_HANDSHAKE + command("publish", 1.0, None, "key"), "instead of 'connect'"),
        (SIMPLE_HANDSHAKE + command("connect", 1.0, None), "without 'app'"),
        (SIMPLE_HANDSHAKE + command("connect", 1.0, {"app": 5.0}), "without 'app'"),
        (SIMPLE_HANDSHAKE + command("connect", 1.0, {"app": "a", "tcUrl": "nonsense"}), "invalid tcUrl"),
        (SIMPLE_HANDSHAKE + command("connect", 1.0, {"app": "a" * 5000}), "characters"),
        (SIMPLE_HANDSHAKE + CONNECT + CONNECT, "not allowed"),
        (SIMPLE_HANDSHAKE + b"\x04" + bytes(3) + b"\xff\xff\xff\x09" + bytes(4), "16777215 bytes"),
        (SIMPLE_HANDSHAKE + wire(1, struct.pack(">I", 1)), "chunk size of 1"),
        (SIMPLE_HANDSHAKE + wire(20, b"\x03\x00\x01a" * 10_000), "nested deeper"),
        (SIMPLE_HANDSHAKE + CONNECT + command("publish", 1.0, None, "k" * 5000), "characters"),
        (
            SIMPLE_HANDSHAKE + CONNECT + command("publish", 1.0, None, "a") + command("publish", 2.0, None, "b"),
            "publish is not allowed in state 'publish requested'",
        ),
    ],
)
def test_bad_clients_are_refused_with_a_reason(data: bytes, text: str) -> None:
    server = new_server()
    with pytest.raises(RemoteProtocolError, match=text):
        feed(server, data)
    assert server.state is State.CLOSED
    assert server.receive_data(b"more", 0.0) == []
    assert server.next_timeout() is None


def test_a_stalled_handshake_ends_even_when_bytes_trickle() -> None:
    server = new_server(100.0)
    assert server.next_timeout() == 110.0
    feed(server, b"\x03" + bytes(100), now=109.0)
    assert server.next_timeout() == 110.0
    assert server.handle_timeout(109.9) == []
    with pytest.raises(RemoteProtocolError, match="no data for 10 seconds in state 'handshake'"):
        server.handle_timeout(110.0)


def test_a_silent_publisher_times_out_and_an_active_one_does_not() -> None:
    server = publishing()
    feed(server, wire(9, video_message(IDR)), now=5.0)
    assert feed(server, b"", now=5.0) == []
    assert server.next_timeout() == 6.0  # the analysis
    with pytest.raises(RemoteProtocolError, match="no tracks found"):
        server.handle_timeout(6.0)
    server = publishing()
    feed(server, wire(18, amf0.encode("onMetaData", METADATA)), now=5.0)
    assert server.next_timeout() == 15.0
    with pytest.raises(RemoteProtocolError, match="in state 'publishing'"):
        server.handle_timeout(15.0)


def test_a_player_may_be_silent() -> None:
    assert playing().next_timeout() is None


def test_a_publisher_may_publish_again() -> None:
    server = publishing()
    feed(server, OBS_END)
    assert [type(event) for event in feed(server, command("publish", 9.0, None, "other", stream_id=1))] == [
        PublishRequested
    ]


def test_wrong_use_is_told() -> None:
    server = connected()
    for call in (
        lambda: server.accept_publish(0.0),
        lambda: server.accept_play([VIDEO]),
        lambda: server.refuse(PLAY_REFUSED, ""),
        lambda: server.end_play(),
        lambda: server.send_frame(0, Frame((IDR,), 0, 0, key=True)),
        lambda: server.update_track(VIDEO),
    ):
        with pytest.raises(LocalProtocolError):
            call()
