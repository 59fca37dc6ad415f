"""What one call does and what one connection holds is limited, whatever the peer sends."""

from __future__ import annotations

import struct

import pytest
from tests.wire.rtmp.support import IDR, SEED, SIMPLE_HANDSHAKE, messages_of, video_header, video_message, wire

from polycast.errors import RemoteProtocolError
from polycast.wire.rtmp import amf, amf0, amf3
from polycast.wire.rtmp.chunks import MAXIMUM_STEPS, ChunkReader
from polycast.wire.rtmp.connection import MAXIMUM_EVENTS, MAXIMUM_IDLE_PARTIAL_SIZE
from polycast.wire.rtmp.demuxer import MAXIMUM_HELD_FRAMES
from polycast.wire.rtmp.events import Event, FrameReceived, TracksKnown
from polycast.wire.rtmp.messages import Command, UserControl
from polycast.wire.rtmp.server import MAXIMUM_EARLY_SIZE, ServerConnection

CONNECT = wire(20, Command("connect", 1.0, {"app": "live", "tcUrl": "rtmp://h/live"}).payload(), stream_id=0)
LARGE_CHUNKS = wire(1, struct.pack(">I", 1 << 20), stream_id=0)
PING = wire(4, struct.pack(">HI", 6, 1), stream_id=0)


def connected() -> ServerConnection:
    server = ServerConnection(0.0, seed=SEED)
    server.receive_data(SIMPLE_HANDSHAKE + CONNECT + LARGE_CHUNKS, 0.0)
    server.data_to_send()
    return server


def publishing() -> ServerConnection:
    server = connected()
    server.receive_data(wire(20, Command("publish", 5.0, None, ("key", "live")).payload()), 0.0)
    server.accept_publish(0.0)
    server.data_to_send()
    return server


def continue_receiving(server: ServerConnection) -> tuple[list[Event], int]:
    """Let the engine finish; return its events and how many calls it took."""
    events: list[Event] = []
    calls = 0
    while server.has_more:
        calls += 1
        events += server.receive_data(b"", 0.0)
    return events, calls


def test_pings_are_answered_some_at_a_time() -> None:
    server = connected()
    server.receive_data(PING * 5_000, 0.0)
    first = len(messages_of(server.data_to_send(), handshake=False))
    assert 0 < first <= 100
    _, calls = continue_receiving(server)
    assert calls >= 5_000 // first - 1
    pongs = messages_of(server.data_to_send(), handshake=False)
    assert pongs == [UserControl(7, 1)] * (5_000 - first)


def test_chunks_of_no_length_are_taken_some_at_a_time() -> None:
    reader = ChunkReader()
    messages = reader.receive(wire(8, b"") + b"\xc4" * (3 * MAXIMUM_STEPS))
    count = len(messages)
    assert count == MAXIMUM_STEPS
    while reader.has_more:
        messages = reader.receive(b"")
        assert len(messages) <= MAXIMUM_STEPS
        count += len(messages)
    assert count == 1 + 3 * MAXIMUM_STEPS
    assert reader.receive(wire(8, b"next"))[0].payload == b"next"


def test_bytes_that_arrive_during_processing_keep_their_order() -> None:
    server = connected()
    for number in range(500):
        server.receive_data(wire(4, struct.pack(">HI", 6, number), stream_id=0), 0.0)
    server.receive_data(
        b"".join(wire(4, struct.pack(">HI", 6, 500 + number), stream_id=0) for number in range(500)), 0.0
    )
    continue_receiving(server)
    pongs = messages_of(server.data_to_send(), handshake=False)
    assert [pong.value for pong in pongs if isinstance(pong, UserControl)] == list(range(1000))


def test_the_parts_of_an_aggregate_are_handled_some_at_a_time() -> None:
    server = publishing()
    server.receive_data(wire(18, amf0.encode("onMetaData", {"videocodecid": 7.0})) + wire(9, video_header()), 0.0)
    server.receive_data(wire(9, video_message(IDR)), 0.0)
    payload = video_message(IDR)
    part = b"\x09" + len(payload).to_bytes(3, "big") + bytes(7) + payload + (len(payload) + 11).to_bytes(4, "big")
    events = server.receive_data(wire(22, part * 400, chunk_size=1 << 20), 0.0)
    assert len(events) <= MAXIMUM_EVENTS
    more, calls = continue_receiving(server)
    assert len(events + more) == 400
    assert calls >= 3


def test_aggregates_of_a_client_that_does_not_publish_are_passed_over() -> None:
    server = connected()
    assert server.receive_data(wire(22, b"\xff" * 50, chunk_size=1 << 20), 0.0) == []


def test_frames_from_before_the_tracks_were_known_are_handed_on_some_at_a_time() -> None:
    server = publishing()
    events = server.receive_data(wire(9, video_header()), 0.0)
    count = MAXIMUM_HELD_FRAMES - 1
    for _ in range(count):
        events += server.receive_data(wire(9, video_message(IDR)), 0.0)
    events += continue_receiving(server)[0]
    assert events == []
    events = server.handle_timeout(1.0)
    assert isinstance(events[0], TracksKnown)
    assert len(events) <= MAXIMUM_EVENTS
    more, _ = continue_receiving(server)
    assert [type(event) for event in (events + more)[1:]] == [FrameReceived] * count


def test_a_flood_of_frames_ends_the_analysis() -> None:
    server = publishing()
    events = server.receive_data(wire(9, video_header()), 0.0)
    for _ in range(MAXIMUM_HELD_FRAMES):
        events += server.receive_data(wire(9, video_message(IDR)), 0.0)
    events += continue_receiving(server)[0]
    assert len(events) == 1 + MAXIMUM_HELD_FRAMES


def test_media_from_before_the_acceptance_is_handled_some_at_a_time() -> None:
    server = connected()
    server.receive_data(wire(20, Command("publish", 5.0, None, ("key", "live")).payload()), 0.0)
    server.receive_data(wire(18, amf0.encode("onMetaData", {"videocodecid": 7.0})) + wire(9, video_header()), 0.0)
    server.receive_data(wire(9, video_message(IDR)) * 1_000, 0.0)
    assert continue_receiving(server)[0] == []
    events = server.accept_publish(0.0)
    assert len(events) <= MAXIMUM_EVENTS
    more, calls = continue_receiving(server)
    assert len(events + more) == 1_001
    assert calls >= 9


@pytest.mark.parametrize(
    ("start", "limit"),
    [
        (b"", MAXIMUM_IDLE_PARTIAL_SIZE),
        (wire(20, Command("play", 5.0, None, ("key",)).payload()), MAXIMUM_IDLE_PARTIAL_SIZE),
        (wire(20, Command("publish", 5.0, None, ("key", "live")).payload()), MAXIMUM_EARLY_SIZE),
    ],
    ids=["connected", "playing", "not yet accepted"],
)
def test_incomplete_messages_are_limited_over_all_chunk_streams(start: bytes, limit: int) -> None:
    server = connected()
    server.receive_data(start, 0.0)
    size = 1 << 18
    server.receive_data(wire(1, struct.pack(">I", size), stream_id=0), 0.0)
    for index in range(limit // size):
        header = bytes((3 + index, 0, 0, 0)) + (2 * size).to_bytes(3, "big") + b"\x09\x01\x00\x00\x00"
        for piece in (header, bytes(size)):
            server.receive_data(piece, 0.0)
        assert server.held_size == (index + 1) * size
    with pytest.raises(RemoteProtocolError, match=f"more than {limit} bytes of incomplete messages"):
        server.receive_data(
            b"\x3f" + bytes(3) + (2 * size).to_bytes(3, "big") + b"\x09\x01\x00\x00\x00" + bytes(size), 0.0
        )
    assert server.held_size == 0


def test_values_are_counted_over_both_formats() -> None:
    half = amf.MAXIMUM_VALUES // 2
    nulls = b"\x11\x09" + bytes((half * 2 + 1 >> 7 | 0x80, half * 2 + 1 & 0x7F)) + b"\x01" + b"\x01" * half
    assert len(amf0.decode(b"\x05" * (half - 10) + nulls)) == half - 9
    with pytest.raises(RemoteProtocolError, match="values"):
        amf0.decode(b"\x05" * half + nulls)


def test_long_arrays_of_numbers_are_taken() -> None:
    """FLV files have an index of their key frames in the metadata."""
    times = [float(number) for number in range(20_000)]
    assert amf0.decode(amf0.encode({"times": times, "empty": []})) == [{"times": times, "empty": []}]
    mixed: list[amf.Value] = [1.0, "a", 2.0]
    assert amf0.decode(amf0.encode(mixed)) == [mixed]


@pytest.mark.parametrize(("marker", "code"), [(0x0D, "i"), (0x0E, "I"), (0x0F, "d")])
def test_long_vectors_are_taken(marker: int, code: str) -> None:
    count = 5_000
    header = count * 2 + 1
    data = bytes((marker, header >> 7 | 0x80, header & 0x7F, 0)) + struct.pack(f">{count}{code}", *range(count))
    assert amf3.decode(data) == [list(range(count))]
