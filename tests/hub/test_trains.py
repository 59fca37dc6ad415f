"""Trains of packets, against the same packets added one by one."""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
from tests.hub.support import Frames, Packets, make_stream
from tests.rtp.codecs import CODECS

from polycast.hub.stream import FRAME_WAIT_BYTES, Stream
from polycast.media.codec import AV1, H264, H265, VP8, VP9, Codec, Kind, MPEG4Audio, Opus
from polycast.media.track import Track
from polycast.rtp.header import MAXIMUM_PACKET_SIZE, build_header
from polycast.rtp.payload.base import NO_PATTERN, Hints, PayloadPattern
from polycast.rtp.payload.registry import payload_of_codec
from polycast.wire.rtsp.parser import MessageParser

ALL_CODECS = [*CODECS, Opus()]

KEY_FRAGMENT = b"\x7c\x85\x88"
FRAGMENT = b"\x7c\x05\x88"
OTHER_FRAGMENT = b"\x5c\x81\x9a"
FIRST_BYTES = (0x00, 0x08, 0x10, 0x40, 0x41, 0x62, 0x65, 0x67, 0x7C, 0x5C, 0x80, 0x90)
SECOND_BYTES = (0x01, 0x05, 0x07, 0x41, 0x81, 0x85, 0x87)
CHANNEL = 4
NOW = 1000.0


def packet(
    sequence: int, payload: bytes, *, timestamp: int = 3000, marker: bool = False, payload_type: int = 96
) -> bytes:
    return build_header(payload_type, sequence & 0xFFFF, timestamp, 7, marker=marker) + payload


def frames(*packets: bytes) -> bytes:
    return b"".join(struct.pack(">cBH", b"$", CHANNEL, len(each)) + each for each in packets)


def take(stream: Stream, *packets: bytes, is_gathered: bool = False) -> bool:
    data = frames(*packets)
    train = MessageParser().take_train(data)
    assert train is not None
    return stream.tracks[0].take_train(data, train, NOW, is_gathered)


def add(stream: Stream, *packets: bytes, track: int = 0) -> None:
    for each in packets:
        stream.tracks[track].write_packet(each, 0, len(each), NOW, CHANNEL)
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
            [
                (run.track_index, each.data[each.start : each.end], each.sequence, each.timestamp, each.marker)
                for run in batch.runs
                for each in run.packets
            ]
            for batch in reader.batches
        ],
        "keys": [[each.key for run in batch.runs for each in run.packets] for batch in reader.batches],
        "first is key": [batch.runs[0].packets[0].key for batch in reader.batches],
        "has key": [batch.has_key for batch in reader.batches],
        "sizes": [(batch.size, batch.packet_count) for batch in reader.batches],
        "counts": (track.packets_received, track.bytes_received, track.packets_lost),
        "next": (track.next_sequence, track.last_timestamp, track.ssrc, track.frame_open),
        "codec": track.track.codec,
    }


@pytest.mark.parametrize("codec", ALL_CODECS, ids=repr)
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
    found, expected = seen(short, short_reader), seen(general, general_reader)
    # Payloads that no encoder makes may have a key frame behind a packet that says there is none.
    del found["keys"], expected["keys"]
    assert found == expected
    assert taken > 50


@dataclass(frozen=True)
class Beginnings:
    """How the payloads of a codec's packets begin."""

    codec: Codec
    key: bytes
    """First packet of a key frame."""
    key_rest: bytes
    picture: bytes
    """First packet of another picture."""
    rest: bytes
    parameters: bytes = b""
    """A whole packet of parameter sets, where they are sent in packets of their own."""


OPUS = Beginnings(Opus(), *[b"\xfc\x01\x02\x03"] * 4)
BEGINNINGS = [
    Beginnings(
        H264(),
        KEY_FRAGMENT,
        FRAGMENT,
        b"\x7c\x81\x9a",
        b"\x7c\x01\x9a",
        bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8"),
    ),
    Beginnings(H264(), b"\x65\x88", b"\x65\x04", b"\x41\x9a", b"\x41\x04"),
    Beginnings(H265(), b"\x62\x01\x93\xaf", b"\x62\x01\x13\xaf", b"\x62\x01\x81\xd0", b"\x62\x01\x01\xd0"),
    Beginnings(VP8(), b"\x10\x10\x02", b"\x00\x10", b"\x10\x11", b"\x00\x11"),
    Beginnings(VP9(), b"\x08\x82\x49\x83\x42", b"\x00\x82", b"\x48\x86", b"\x40\x86"),
    Beginnings(AV1(), b"\x18\x0a\x01", b"\x90\x00", b"\x10\x32", b"\x90\x01"),
    OPUS,
    Beginnings(MPEG4Audio(bytes.fromhex("1190"), 48_000, 2), *[b"\x00\x10\x00\x48"] * 4),
]


def media(randomness: random.Random, beginnings: Beginnings, count: int, payload_type: int = 96) -> Iterator[bytes]:
    """Make the packets of pictures as encoders do: of one size, but the last one of a picture; some are lost."""
    sequence = 65_000
    for number in range(count):
        is_key = number % 5 == 3
        first, rest = (beginnings.key, beginnings.key_rest) if is_key else (beginnings.picture, beginnings.rest)
        size = randomness.choice((16, 40))
        payloads = [(first + randomness.randbytes(40))[:size]]
        payloads += [(rest + randomness.randbytes(40))[:size] for _ in range(randomness.choice((0, 0, 1, 2, 5)))]
        if randomness.random() < 0.7:
            payloads[-1] = payloads[-1][: randomness.randrange(6, size)]
        if is_key and beginnings.parameters and randomness.random() < 0.5:
            payloads.insert(0, beginnings.parameters)
        for index, payload in enumerate(payloads):
            sequence += 1
            if randomness.random() > 0.03:
                marker = index == len(payloads) - 1
                yield packet(sequence, payload, timestamp=3000 * number, marker=marker, payload_type=payload_type)


@pytest.mark.parametrize("beginnings", BEGINNINGS, ids=lambda beginnings: repr(beginnings.codec))
async def test_trains_cut_anywhere_are_their_packets(beginnings: Beginnings) -> None:
    randomness = random.Random(11)
    short, general = make_stream(Track(0, beginnings.codec)), make_stream(Track(0, beginnings.codec))
    readers: list[tuple[Packets, Packets]] = []
    taken = opened = 0
    packets = list(media(randomness, beginnings, 300))
    while packets:
        if randomness.random() < 0.05:  # one more, perhaps in the middle of a frame
            readers.append((Packets(), Packets()))
            short.add_reader(readers[-1][0])
            general.add_reader(readers[-1][1])
        count = randomness.choice((1, 1, 2, 3, 6, 9))
        read, packets = packets[:count], packets[count:]
        data = frames(*read)
        train = MessageParser().take_train(data)
        if train is not None and short.tracks[0].take_train(data, train, NOW, False):
            taken += 1
            opened += short.tracks[0].frame_open
        else:
            add(short, *read)
        add(general, *read)
        assert short.tracks[0].frame_open == general.tracks[0].frame_open
        assert (short.batch is None) == (general.batch is None)
    short.flush()
    general.flush()
    assert taken > 50
    assert opened > 10 or beginnings.codec.kind is Kind.AUDIO
    assert len(readers) > 5
    for short_reader, general_reader in readers:
        assert seen(short, short_reader) == seen(general, general_reader)
    assert short.tracks[0].packets_lost > 0


async def test_tracks_keep_their_order() -> None:
    randomness = random.Random(12)
    video, audio = Track(0, H264()), Track(1, OPUS.codec)
    short, general = make_stream(video, audio), make_stream(video, audio)
    reader, other = Packets(), Packets()
    short.add_reader(reader)
    general.add_reader(other)
    waiting = [list(media(randomness, BEGINNINGS[0], 200)), list(media(randomness, OPUS, 300, 97))]
    taken = behind = 0
    while any(waiting):
        index = randomness.randrange(2)
        count = randomness.choice((1, 2, 4))
        read, waiting[index] = waiting[index][:count], waiting[index][count:]
        if not read:
            continue
        data = frames(*read)
        train = MessageParser().take_train(data)
        is_behind = short.batch is not None
        if train is not None and short.tracks[index].take_train(data, train, NOW, False):
            taken += 1
            behind += is_behind and index == 1
        else:
            add(short, *read, track=index)
        add(general, *read, track=index)
    short.flush()
    general.flush()
    assert taken > 100
    assert behind > 10
    assert seen(short, reader) == seen(general, other)
    assert any(batch.has_key for batch in reader.batches)
    assert not all(batch.has_key for batch in reader.batches)
    sounds = [batch for batch in reader.batches if all(run.track_index == 1 for run in batch.runs)]
    assert sounds
    assert not any(batch.has_key for batch in sounds)


async def test_a_train_is_noted_at_the_time_of_its_read() -> None:
    stream, _ = open_stream()
    track = stream.tracks[0]
    data = frames(*(packet(1 + index, OTHER_FRAGMENT + bytes(9), marker=index == 2) for index in range(3)))
    train = MessageParser().take_train(data)
    assert train is not None
    now = NOW + 5
    assert track.take_train(data, train, now, False)
    assert track.last_time == now
    assert track.reports.wall_time_of(3000) is not None  # so that readers can be sent sender reports
    assert track.reports.next_packet_time > now


async def test_a_train_that_waits_goes_out_by_itself() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(1, OTHER_FRAGMENT + bytes(9)), packet(2, OTHER_FRAGMENT + bytes(9)))
    assert not reader.batches
    async with asyncio.timeout(30):
        while not reader.batches:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert reader.sequences == [[1, 2]]


async def test_trains_of_a_large_open_frame_do_not_wait() -> None:
    stream, reader = open_stream()
    count = FRAME_WAIT_BYTES // 1400 // 8 + 1
    for number in range(count):
        assert not reader.batches
        assert take(stream, *(packet(8 * number + index, OTHER_FRAGMENT + bytes(1400)) for index in range(8)))
    assert reader.sequences == [list(range(8 * count))]


async def test_sequence_numbers_wrap_after_the_largest() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(65_535, FRAGMENT + b"a"), packet(65_536, FRAGMENT + b"a", marker=True))
    assert take(stream, packet(1, FRAGMENT + b"a"), packet(2, FRAGMENT + b"a", marker=True))
    assert take(stream, *(packet(65_533 + index, FRAGMENT + b"a", marker=index == 2) for index in range(3)))
    assert stream.tracks[0].next_sequence == 0
    assert reader.sequences == [[65_535, 0], [1, 2], [65_533, 65_534, 65_535]]
    assert stream.tracks[0].packets_lost == 0


async def test_an_open_frame_waits_for_its_end() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(1, OTHER_FRAGMENT + bytes(9)), packet(2, OTHER_FRAGMENT + bytes(9)))
    assert not reader.batches
    assert stream.tracks[0].frame_open
    assert take(stream, packet(3, OTHER_FRAGMENT + bytes(9), marker=True))
    assert reader.sequences == [[1, 2, 3]]
    assert not stream.tracks[0].frame_open


async def test_an_open_frame_does_not_wait_when_reads_are_coalesced() -> None:
    stream, reader = open_stream()
    for sequence in (1, 2, 3):
        assert take(stream, packet(sequence, OTHER_FRAGMENT + bytes(9), marker=sequence == 3), is_gathered=True)
        assert stream.tracks[0].frame_open == (sequence < 3)
        assert reader.sequences == [[number] for number in range(1, sequence + 1)]


async def test_what_waits_goes_out_before_a_train_of_a_gathered_read() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(1, OTHER_FRAGMENT + bytes(9)))
    assert not reader.batches
    assert take(stream, packet(2, OTHER_FRAGMENT + bytes(9)), is_gathered=True)
    assert reader.sequences == [[1, 2]]


async def test_readers_are_offered_a_train_before_its_packets() -> None:
    class Eager(Packets):
        offers: ClassVar[list[tuple[bytes, int, int, int]]] = []
        is_ready = True

        def pass_on(self, data: bytes, track_index: int, channel: int, count: int) -> bool:
            self.offers.append((data, track_index, channel, count))
            return self.is_ready

    (stream, reader), eager = open_stream(), Eager()
    stream.add_reader(eager)
    packets = [packet(1, OTHER_FRAGMENT + bytes(9)), packet(2, OTHER_FRAGMENT + b"a", marker=True)]
    assert take(stream, *packets)
    eager.is_ready = False
    key = packet(3, KEY_FRAGMENT + bytes(9), marker=True)
    assert take(stream, key)
    assert eager.offers == [(frames(*packets), 0, CHANNEL, 2), (frames(key), 0, CHANNEL, 1)]
    assert eager.sequences == [[3]]
    assert eager.batches[0].has_key
    assert reader.sequences == [[1, 2], [3]]


async def test_a_reader_that_fails_to_pass_a_train_on_is_removed_alone() -> None:
    class Failing(Packets):
        def pass_on(self, data: bytes, track_index: int, channel: int, count: int) -> bool:
            raise ValueError

    (stream, reader), failing = open_stream(), Failing()
    stream.add_reader(failing)
    for sequence in (1, 2):
        assert take(stream, packet(sequence, OTHER_FRAGMENT + bytes(9), marker=True))
    assert reader.sequences == [[1], [2]]
    assert failing.closed
    assert failing not in stream.readers


async def test_a_train_waits_behind_what_waits() -> None:
    stream, reader = open_stream()
    stream.tracks[0].write_packet(packet(1, b"\x41abcd"), 0, 17, NOW)
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
async def test_packets_that_need_a_closer_look_are_left(packets: list[bytes]) -> None:
    stream, reader = open_stream()
    before = seen(stream, reader)
    assert not take(stream, *packets)
    stream.flush()
    assert seen(stream, reader) == before


def leaves_alone(stream: Stream, reader: Packets, *packets: bytes) -> bool:
    """Return whether a train is not taken, and nothing of it."""
    before = seen(stream, reader)
    taken = take(stream, *packets)
    stream.flush()
    return not taken and seen(stream, reader) == before


async def test_frame_readers_use_the_slow_path() -> None:
    stream, reader = open_stream()
    lane = Frames()
    stream.add_reader(lane)
    assert leaves_alone(stream, reader, packet(1, FRAGMENT + b"a", marker=True))
    stream.remove_reader(lane)
    assert take(stream, packet(1, FRAGMENT + b"a", marker=True))


async def test_packets_of_another_ssrc_use_the_slow_path() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(1, FRAGMENT + b"a", marker=True))
    assert stream.resume([Track(0, H264())], publishes_packets=True)
    assert leaves_alone(stream, reader, packet(9, KEY_FRAGMENT + b"a", marker=True))
    add(stream, packet(9, KEY_FRAGMENT + b"a", marker=True))
    assert leaves_alone(stream, reader, packet(10, FRAGMENT + b"a", marker=True))  # renumbered, too


async def test_a_track_whose_packets_are_cut_takes_no_trains() -> None:
    stream, reader = open_stream()
    stream.tracks[0].cut()
    assert leaves_alone(stream, reader, packet(1, FRAGMENT + b"a", marker=True))


async def test_a_reader_that_fails_is_closed_alone() -> None:
    stream, reader = open_stream()
    failing, other = Packets(fails=True), Packets()
    stream.add_reader(failing)
    stream.add_reader(other)
    for sequence in (1, 2):
        assert take(stream, packet(sequence, FRAGMENT + b"a", marker=True))
    assert failing.closed == "internal error"
    assert reader.sequences == other.sequences == [[1], [2]]


def hints_of(codec: Codec) -> Hints:
    return payload_of_codec(codec).hints


@pytest.mark.parametrize("codec", ALL_CODECS, ids=repr)
def test_columns_match_masks(codec: Codec) -> None:
    for hint in (hints_of(codec).continuation, hints_of(codec).no_key):
        fits_any = hint.pattern & hint.mask == hint.pattern
        for place in range(4):
            for value in range(256):
                payload = bytearray(hint.pattern.to_bytes(4, "big"))
                payload[place] = value
                by_mask = int.from_bytes(payload, "big") & hint.mask == hint.pattern
                by_columns = all(payload[column] in fitting for column, fitting in hint.columns)
                assert by_mask == by_columns
                assert fits_any or not by_columns


def payloads_that_fit(hint: PayloadPattern) -> Iterator[bytes]:
    """Make payloads with every value that fits in the bytes that the pattern looks at, and some in the others."""
    fitting = dict(hint.columns)
    some = bytes((0x00, 0x42, 0x7F, 0x80, 0xFF))
    for first in itertools.product(*(fitting.get(place, some) for place in range(4))):
        yield bytes(first) + bytes(9)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if hints_of(codec).no_key is not NO_PATTERN], ids=repr)
def test_pictures_without_a_key_show_the_peek_nothing(codec: Codec) -> None:
    peek = payload_of_codec(codec).peek_for(codec)
    payloads = list(payloads_that_fit(hints_of(codec).no_key))
    assert len(payloads) >= 64
    assert not any(peek(payload, 0, len(payload)) for payload in payloads)


@pytest.mark.parametrize(
    "codec", [codec for codec in CODECS if hints_of(codec).continuation is not NO_PATTERN], ids=repr
)
def test_continuations_show_the_peek_nothing(codec: Codec) -> None:
    peek = payload_of_codec(codec).peek_for(codec)
    payloads = list(payloads_that_fit(hints_of(codec).continuation))
    assert len(payloads) >= 64
    assert not any(peek(payload, 0, len(payload)) for payload in payloads)


def test_codecs_with_hints() -> None:
    hinted = {type(codec) for codec in CODECS if hints_of(codec).continuation is not NO_PATTERN}
    assert hinted == {H264, H265, AV1, VP8, VP9}
    assert {type(codec) for codec in CODECS if hints_of(codec).no_key is not NO_PATTERN} == {H264, H265}


@pytest.mark.parametrize("size", [3, 9])
async def test_a_key_frame_with_the_timestamp_of_the_picture_before_is_noticed(size: int) -> None:
    stream, reader = open_stream()
    packets = [
        packet(1, b"\x5c\x41\x9a" + bytes(9), marker=True),
        packet(2, KEY_FRAGMENT + bytes(size), marker=True),
    ]
    if not take(stream, *packets):
        add(stream, *packets)
    assert [batch.has_key for batch in reader.batches] == [True]


async def test_a_train_with_a_packet_of_another_payload_type_is_left_to_the_slow_path() -> None:
    stream, reader = open_stream()
    sizes = [packet(index, OTHER_FRAGMENT + bytes(9)) for index in range(4)]
    foreign = [*sizes[:2], packet(2, OTHER_FRAGMENT + bytes(9), payload_type=72, marker=True), sizes[3]]
    assert not take(stream, *foreign)
    data = frames(*foreign)
    assert not stream.tracks[0].add_packets(data, 4, [len(each) for each in foreign], CHANNEL)
    assert take(stream, *sizes, is_gathered=True)
    assert reader.sequences == [[0, 1, 2, 3]]
