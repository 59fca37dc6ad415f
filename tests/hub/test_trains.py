"""Trains of packets, against the same packets added one by one."""

from __future__ import annotations

import random
import struct

import pytest
from tests.hub.support import Frames, Packets, make_stream

from polycast.hub.stream import Stream
from polycast.media.codec import AV1, H264, H265, VP8, VP9, Codec, MPEG4Audio, MPEG4Video, Opus
from polycast.media.track import Track
from polycast.rtp.header import MAXIMUM_PACKET_SIZE, build_header
from polycast.rtp.payload.registry import packet_hints, packet_peek
from polycast.wire.rtsp.parser import MessageParser

CODECS = [
    H264(),
    H265(),
    H265(maximum_don_difference=2),
    AV1(),
    VP8(),
    VP9(),
    MPEG4Video(),
    MPEG4Audio(bytes.fromhex("1190"), 48_000, 2),
    Opus(),
]

KEY_FRAGMENT = b"\x7c\x85\x88"
FRAGMENT = b"\x7c\x05\x88"
OTHER_FRAGMENT = b"\x5c\x81\x9a"
FIRST_BYTES = (0x00, 0x08, 0x10, 0x40, 0x41, 0x62, 0x65, 0x67, 0x7C, 0x5C, 0x80, 0x90)
SECOND_BYTES = (0x01, 0x05, 0x07, 0x41, 0x81, 0x85, 0x87)
CHANNEL = 4


def packet(sequence: int, payload: bytes, *, timestamp: int = 3000, marker: bool = False) -> bytes:
    return build_header(96, sequence & 0xFFFF, timestamp, 7, marker=marker) + payload


def frames(*packets: bytes) -> bytes:
    return b"".join(struct.pack(">cBH", b"$", CHANNEL, len(each)) + each for each in packets)


def take(stream: Stream, *packets: bytes) -> bool:
    data = frames(*packets)
    train = MessageParser().take_train(data)
    assert train is not None
    channel, stride, count, last = train
    return stream.tracks[0].take_train(data, channel, stride, count, last, stream.now)


def add(stream: Stream, *packets: bytes) -> None:
    for each in packets:
        stream.tracks[0].write_packet(each, 0, len(each))
    stream.end_of_read()


def open_stream(codec: Codec | None = None) -> tuple[Stream, Packets]:
    stream, reader = make_stream(Track(0, codec or H264())), Packets()
    stream.add_reader(reader)
    return stream, reader


def seen(stream: Stream, reader: Packets) -> dict[str, object]:
    """What one can see of a stream and of what a reader got."""
    track = stream.tracks[0]
    return {
        "packets": [
            [(each.data[each.start : each.end], each.sequence, each.timestamp, each.marker) for each in run.packets]
            for batch in reader.batches
            for run in batch.runs
        ],
        "first is key": [batch.runs[0].packets[0].key for batch in reader.batches],
        "has key": [batch.has_key for batch in reader.batches],
        "sizes": [(batch.size, batch.packet_count) for batch in reader.batches],
        "counts": (track.packets_received, track.bytes_received, track.packets_lost),
        "next": (track.next_sequence, track.last_timestamp, track.ssrc, track.frame_open),
        "codec": track.track.codec,
    }


@pytest.mark.parametrize("codec", CODECS, ids=repr)
async def test_a_train_is_its_packets(codec: Codec) -> None:
    randomness = random.Random(3)
    taken = 0
    (short, short_reader), (general, general_reader) = open_stream(codec), open_stream(codec)
    sequence = 65_500
    for timestamp in range(400):
        start = bytes((randomness.choice(FIRST_BYTES), randomness.choice(SECOND_BYTES), randomness.randrange(256)))
        rest = (start[:1] + bytes((start[1] & 0x1F,)) + start[2:]) if randomness.random() < 0.8 else start
        count = randomness.randrange(1, 6)
        payloads = [start, *[rest] * (count - 1)]
        sequence += randomness.choice((0, 0, 0, 2))
        packets = [
            packet(sequence + index, payload + bytes(9), timestamp=timestamp, marker=index == count - 1)
            for index, payload in enumerate(payloads)
        ]
        sequence += count
        if take(short, *packets):
            taken += 1
        else:
            add(short, *packets)
        add(general, *packets)
    assert seen(short, short_reader) == seen(general, general_reader)
    assert taken > 50


async def test_an_open_frame_waits_for_its_end() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(1, OTHER_FRAGMENT + bytes(9)), packet(2, OTHER_FRAGMENT + bytes(9)))
    assert not reader.batches
    assert stream.tracks[0].frame_open
    assert take(stream, packet(3, OTHER_FRAGMENT + bytes(9), marker=True))
    assert reader.sequences == [[1, 2, 3]]
    assert not stream.tracks[0].frame_open


async def test_a_train_waits_behind_what_waits() -> None:
    stream, reader = open_stream()
    stream.tracks[0].write_packet(packet(1, b"\x41abcd"), 0, 17)
    assert take(stream, packet(2, b"\x41abcd", marker=True))
    assert reader.sequences == [[1, 2]]


async def test_key_frames_and_parameters_are_noticed() -> None:
    stream, reader = open_stream()
    parameters = bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8")
    assert take(stream, packet(1, parameters, marker=True))
    assert stream.tracks[0].track.codec == H264(parameters)
    assert take(stream, *(packet(2 + index, (FRAGMENT, KEY_FRAGMENT)[not index] + bytes(9)) for index in range(4)))
    stream.flush()
    assert [batch.has_key for batch in reader.batches] == [True, True]
    assert [each.key for each in reader.batches[1].runs[0].packets] == [True, False, False, False]
    assert reader.batches[1].from_key(0).packet_count == 4


@pytest.mark.parametrize(
    "packets",
    [
        pytest.param([packet(1, KEY_FRAGMENT + b"a"), packet(2, KEY_FRAGMENT + b"b")], id="two starts"),
        pytest.param([packet(1, FRAGMENT + b"a"), packet(3, FRAGMENT + b"b")], id="a sequence number missing"),
        pytest.param([packet(1, b"\x41a")], id="a payload too short to be looked at"),
        pytest.param([packet(1, FRAGMENT + b"a"), packet(2, b"\x41")], id="a last one too short to be looked at"),
        pytest.param([b"\xa0" + packet(1, b"\x41abc\1")[1:]], id="padding"),
        pytest.param([b"\x90" + packet(1, b"\x41abcdef")[1:]], id="an extension"),
        pytest.param([b"\x81" + packet(1, b"\x41abcdef")[1:]], id="a contributing source"),
        pytest.param([b"\x00" + packet(1, b"\x41abcdef")[1:]], id="another version"),
        pytest.param([packet(1, bytes(MAXIMUM_PACKET_SIZE))], id="too large"),
        pytest.param(
            [packet(1, OTHER_FRAGMENT + b"a"), packet(2, KEY_FRAGMENT + b"a", timestamp=6000)],
            id="a key frame behind another picture",
        ),
    ],
)
async def test_what_needs_a_closer_look_is_left(packets: list[bytes]) -> None:
    stream, reader = open_stream()
    before = seen(stream, reader)
    assert not take(stream, *packets)
    stream.flush()
    assert seen(stream, reader) == before


async def test_frame_lanes_and_second_publishers_take_the_general_way() -> None:
    stream, _ = open_stream()
    lane = Frames()
    stream.add_reader(lane)
    assert not take(stream, packet(1, FRAGMENT + b"a", marker=True))
    stream.remove_reader(lane)
    assert take(stream, packet(1, FRAGMENT + b"a", marker=True))
    assert stream.resume([Track(0, H264())], publishes_packets=True)
    assert not take(stream, packet(9, KEY_FRAGMENT + b"a", marker=True))


async def test_a_track_whose_packets_are_cut_takes_no_trains() -> None:
    stream, _ = open_stream()
    stream.tracks[0].takes_trains = False
    assert not take(stream, packet(1, FRAGMENT + b"a", marker=True))


async def test_a_reader_that_fails_is_closed_alone() -> None:
    stream, reader = open_stream()
    failing, other = Packets(fails=True), Packets()
    stream.add_reader(failing)
    stream.add_reader(other)
    for sequence in (1, 2):
        assert take(stream, packet(sequence, FRAGMENT + b"a", marker=True))
    assert failing.closed == "internal error"
    assert reader.sequences == other.sequences == [[1], [2]]


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_columns_say_what_masks_say(codec: Codec) -> None:
    for hint in (packet_hints(codec).continuation, packet_hints(codec).no_key):
        columns = dict(hint.columns)
        for place in range(4):
            shift = 24 - 8 * place
            mask, pattern = hint.mask >> shift & 0xFF, hint.pattern >> shift & 0xFF
            fitting = bytes(value for value in range(256) if value & mask == pattern)
            assert columns.get(place, bytes(range(256))) == fitting


@pytest.mark.parametrize("codec", [H264(), H265(), H265(maximum_don_difference=2)], ids=repr)
def test_pictures_without_a_key_show_the_peek_nothing(codec: Codec) -> None:
    hint, peek = packet_hints(codec).no_key, packet_peek(codec)
    found = 0
    for value in range(0, 1 << 24, 11):
        if value << 8 & hint.mask == hint.pattern:
            found += 1
            if not found % 7:
                assert peek(value.to_bytes(3, "big") + bytes(9), 0, 12) == 0
    assert found
