"""Packets of a read taken at once, against the same packets taken one by one."""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.hub.support import Frames, Packets, make_stream, publish_data
from tests.rtp.codecs import CODECS

from polycast.hub.batch import FramedRun
from polycast.hub.stream import FRAME_WAIT_BYTES, Stream
from polycast.media.codec import AV1, H264, H265, VP8, VP9, Codec, Kind, MPEG4Audio, Opus
from polycast.media.frame import Frame
from polycast.media.packet_buffer import PacketBuffer
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import MAXIMUM_PACKET_SIZE, build_header
from polycast.rtp.payload.base import NO_PATTERN, PayloadPattern
from polycast.rtp.payload.nal_unit_assembler import split_fragments
from polycast.rtp.payload.registry import payload_of_codec
from polycast.wire.rtsp.interleaved import InterleavedRun
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


def framed(*packets: bytes, track: int = 0) -> FramedRun:
    """Return packets as a run, as a parser makes it of one read."""
    parser = MessageParser()
    parser.receive_data(frames(*packets))
    run = parser.next_event()
    assert isinstance(run, InterleavedRun)
    assert run.is_last
    return FramedRun(track, run)


def take(stream: Stream, *packets: bytes, track: int = 0) -> bool:
    """Publish the packets of a read at once; return whether they were taken."""
    taken = stream.publish(framed(*packets, track=track), NOW)
    stream.end_of_read()
    return taken


def add(stream: Stream, *packets: bytes, track: int = 0) -> None:
    """Publish the packets of a read one by one."""
    for each in packets:
        publish_data(stream, track, each, NOW)
    stream.end_of_read()


def take_or_add(stream: Stream, *packets: bytes, track: int = 0) -> bool:
    """Publish the packets of a read at once, if they are taken, else one by one."""
    if take(stream, *packets, track=track):
        return True
    add(stream, *packets, track=track)
    return False


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
        "counts": (track.counters.packets, track.counters.bytes, track.counters.lost),
        "next": (track.next_sequence, track.last_timestamp, track.ssrc, track.frame_open),
        "codec": track.track.codec,
    }


@pytest.mark.parametrize("codec", ALL_CODECS, ids=repr)
async def test_a_read_is_its_packets(codec: Codec) -> None:
    randomness = random.Random(3)
    taken = 0
    (fast, fast_reader), (single, single_reader) = open_stream(codec), open_stream(codec)
    sequence = 65_500
    for timestamp in range(400):
        start = bytes((randomness.choice(FIRST_BYTES), randomness.choice(SECOND_BYTES), randomness.randrange(256)))
        rest = (start[:1] + bytes((start[1] & 0x1F,)) + start[2:]) if randomness.random() < 0.8 else start
        count = randomness.randrange(1, 6)
        payloads = [start, *[rest] * (count - 1)]
        if randomness.random() < 0.2:
            randomness.shuffle(payloads)
        sequence += randomness.choice((0, 0, 0, 2))
        numbers = [sequence + index for index in range(count)]
        if randomness.random() < 0.1:
            randomness.shuffle(numbers)
        packets = [
            packet(number, payload + bytes(9), timestamp=timestamp, marker=index == count - 1)
            for index, (number, payload) in enumerate(zip(numbers, payloads, strict=True))
        ]
        sequence += count
        taken += take_or_add(fast, *packets)
        add(single, *packets)
    assert seen(fast, fast_reader) == seen(single, single_reader)
    assert taken > 200


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


SPS = bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8")
PPS = bytes.fromhex("68ce3c80")
H265_SETS = [  # of a camera: 1920x1080, main profile
    bytes.fromhex("40010c01ffff016000000300b0000003000003007bac0901"),
    bytes.fromhex("420101016000000300b0000003000003007ba003c08010e58dae4932f4dc04040402"),
    bytes.fromhex("4401c0f2f03c90"),
]
OPUS = Beginnings(Opus(), *[b"\xfc\x01\x02\x03"] * 4)
BEGINNINGS = [
    Beginnings(
        H264(),
        KEY_FRAGMENT,
        FRAGMENT,
        b"\x7c\x81\x9a",
        b"\x7c\x01\x9a",
        SPS,
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


@pytest.mark.parametrize("with_frames", [False, True], ids=["packets only", "with frames"])
@pytest.mark.parametrize("beginnings", BEGINNINGS, ids=lambda beginnings: repr(beginnings.codec))
async def test_reads_cut_anywhere_are_their_packets(beginnings: Beginnings, with_frames: bool) -> None:
    randomness = random.Random(11)
    fast, single = make_stream(Track(0, beginnings.codec)), make_stream(Track(0, beginnings.codec))
    fast_frames, single_frames = Frames(), Frames()
    if with_frames:
        fast.add_reader(fast_frames)
        single.add_reader(single_frames)
    readers: list[tuple[Packets, Packets]] = []
    taken = opened = 0
    packets = list(media(randomness, beginnings, 300))
    while packets:
        if randomness.random() < 0.05:  # one more, perhaps in the middle of a frame
            readers.append((Packets(), Packets()))
            fast.add_reader(readers[-1][0])
            single.add_reader(readers[-1][1])
        count = randomness.choice((1, 1, 2, 3, 6, 9))
        read, packets = packets[:count], packets[count:]
        if take_or_add(fast, *read):
            taken += 1
            opened += fast.tracks[0].frame_open
        add(single, *read)
        assert fast.tracks[0].frame_open == single.tracks[0].frame_open
        assert bool(fast._runs) == bool(single._runs)
    fast.flush()
    single.flush()
    assert taken > 100
    assert opened > 10 or beginnings.codec.kind is Kind.AUDIO
    assert len(readers) > 5
    for fast_reader, single_reader in readers:
        assert seen(fast, fast_reader) == seen(single, single_reader)
    assert fast.tracks[0].counters.lost > 0
    assert described(fast_frames) == described(single_frames)
    # What is behind these beginnings is noise, which makes no frame of the other codecs.
    assert bool(fast_frames.entries) == (with_frames and isinstance(beginnings.codec, H264 | VP9 | Opus | MPEG4Audio))


def described(reader: Frames) -> list[object]:
    """What frames, and changed descriptions between them, say."""
    return [
        (entry.units, entry.pts, entry.dts, entry.key, entry.discontinuity) if isinstance(entry, Frame) else entry
        for _, entry in reader.entries
    ]


@pytest.mark.parametrize("later", [H264(), H264(SPS, b"\x68\xce\x3c\x80")], ids=["same", "other parameters"])
async def test_reads_of_a_successor_are_their_packets(later: H264) -> None:
    randomness = random.Random(13)
    (fast, fast_reader), (single, single_reader) = open_stream(), open_stream()
    taken = 0
    for codec, payload_type in ((H264(), 96), (later, 105)):
        if payload_type != 96:
            form = RtpFormat(payload_type, "H264", parameters="packetization-mode=1")
            for stream in (fast, single):
                assert stream.resume([Track(0, codec, form)], publishes_packets=True)
        for each in media(randomness, BEGINNINGS[0], 40, payload_type):
            taken += take_or_add(fast, each)
            add(single, each)
    fast.flush()
    single.flush()
    assert taken > 100
    assert seen(fast, fast_reader) == seen(single, single_reader)
    first, *_ = [run for batch in fast_reader.batches for run in batch.runs if run.framing is None]
    assert first.packets[0].key


async def test_tracks_keep_their_order() -> None:
    randomness = random.Random(12)
    video, audio = Track(0, H264()), Track(1, OPUS.codec)
    fast, single = make_stream(video, audio), make_stream(video, audio)
    reader, other = Packets(), Packets()
    fast.add_reader(reader)
    single.add_reader(other)
    waiting = [list(media(randomness, BEGINNINGS[0], 200)), list(media(randomness, OPUS, 300, 97))]
    taken = behind = 0
    while any(waiting):
        index = randomness.randrange(2)
        count = randomness.choice((1, 2, 4))
        read, waiting[index] = waiting[index][:count], waiting[index][count:]
        if not read:
            continue
        is_behind = bool(fast._runs)
        if take_or_add(fast, *read, track=index):
            taken += 1
            behind += is_behind and index == 1
        add(single, *read, track=index)
    fast.flush()
    single.flush()
    assert taken > 100
    assert behind > 10
    assert seen(fast, reader) == seen(single, other)
    assert any(batch.has_key for batch in reader.batches)
    assert not all(batch.has_key for batch in reader.batches)
    sounds = [batch for batch in reader.batches if all(run.track_index == 1 for run in batch.runs)]
    assert sounds
    assert not any(batch.has_key for batch in sounds)


async def test_a_read_is_noted_at_its_time() -> None:
    stream, _ = open_stream()
    track = stream.tracks[0]
    now = NOW + 5
    packets = [packet(1 + index, OTHER_FRAGMENT + bytes(9), marker=index == 2) for index in range(3)]
    assert stream.publish(framed(*packets), now)
    assert track.position.time == now
    assert track.reports.wall_time_of(3000) is not None  # so that readers can be sent sender reports
    assert track.reports.next_packet_time > now


async def test_an_incomplete_frame_is_sent_by_the_timer() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(1, OTHER_FRAGMENT + bytes(9)), packet(2, OTHER_FRAGMENT + bytes(9)))
    assert not reader.batches
    async with asyncio.timeout(60):
        while not reader.batches:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert reader.sequences == [[1, 2]]


async def test_a_large_open_frame_does_not_wait() -> None:
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
    assert stream.tracks[0].counters.lost == 0


async def test_an_open_frame_waits_for_its_end() -> None:
    stream, reader = open_stream()
    assert take(stream, packet(1, OTHER_FRAGMENT + bytes(9)), packet(2, OTHER_FRAGMENT + bytes(9)))
    assert not reader.batches
    assert stream.tracks[0].frame_open
    assert take(stream, packet(3, OTHER_FRAGMENT + bytes(9), marker=True))
    assert reader.sequences == [[1, 2, 3]]
    assert not stream.tracks[0].frame_open


async def test_a_read_is_queued_behind_earlier_data() -> None:
    stream, reader = open_stream()
    publish_data(stream, 0, packet(1, b"\x41abcd"), NOW)
    assert take(stream, packet(2, b"\x41abcd", marker=True))
    assert reader.sequences == [[1, 2]]


async def test_key_frames_and_parameters_are_found() -> None:
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
        pytest.param([packet(1, FRAGMENT + b"a"), packet(3, FRAGMENT + b"b")], id="a sequence number missing"),
        pytest.param([packet(1, FRAGMENT + b"a"), packet(1, FRAGMENT + b"b")], id="the same packet again"),
        pytest.param([packet(n, FRAGMENT + b"a") for n in (1, 3, 2, 4)], id="another order"),
        pytest.param([packet(n, FRAGMENT + b"a") for n in (1, 0x102, 3)], id="another high byte of the number"),
        pytest.param([packet(1, b"\x41a")], id="a payload that is too short"),
        pytest.param([packet(1, FRAGMENT + b"a"), packet(2, b"\x41")], id="a last one that is too short"),
        pytest.param([b"\xa0" + packet(1, b"\x41abc\1")[1:]], id="padding"),
        pytest.param([b"\x90" + packet(1, b"\x41abcdef")[1:]], id="an extension"),
        pytest.param([b"\x81" + packet(1, b"\x41abcdef")[1:]], id="a contributing source"),
        pytest.param([b"\x00" + packet(1, b"\x41abcdef")[1:]], id="another version"),
        pytest.param([packet(1, bytes(MAXIMUM_PACKET_SIZE))], id="too large"),
    ],
)
async def test_packets_that_must_be_parsed_are_left(packets: list[bytes]) -> None:
    stream, reader = open_stream()
    before = seen(stream, reader)
    assert not take(stream, *packets)
    stream.flush()
    assert seen(stream, reader) == before


async def test_a_reader_that_fails_is_closed_alone() -> None:
    stream, reader = open_stream()
    failing, other = Packets(fails=True), Packets()
    stream.add_reader(failing)
    stream.add_reader(other)
    for sequence in (1, 2):
        assert take(stream, packet(sequence, FRAGMENT + b"a", marker=True))
    assert failing.closed == "internal error"
    assert reader.sequences == other.sequences == [[1], [2]]


def continuation_of(codec: Codec) -> PayloadPattern:
    return payload_of_codec(codec).continuation


@pytest.mark.parametrize("codec", ALL_CODECS, ids=repr)
def test_columns_match_masks(codec: Codec) -> None:
    pattern = continuation_of(codec)
    fits_any = pattern.pattern & pattern.mask == pattern.pattern
    for place in range(4):
        for value in range(256):
            payload = bytearray(pattern.pattern.to_bytes(4, "big"))
            payload[place] = value
            by_mask = int.from_bytes(payload, "big") & pattern.mask == pattern.pattern
            by_columns = all(payload[column] in fitting for column, fitting in pattern.columns)
            assert by_mask == by_columns
            assert fits_any or not by_columns


def payloads_that_fit(pattern: PayloadPattern) -> Iterator[bytes]:
    """Make payloads with every value that fits in the bytes that the pattern looks at, and some in the others."""
    fitting = dict(pattern.columns)
    some = bytes((0x00, 0x42, 0x7F, 0x80, 0xFF))
    for first in itertools.product(*(fitting.get(place, some) for place in range(4))):
        yield bytes(first) + bytes(9)


HINTED = [codec for codec in CODECS if continuation_of(codec) is not NO_PATTERN]


@pytest.mark.parametrize("codec", HINTED, ids=repr)
def test_continuations_are_not_flagged(codec: Codec) -> None:
    inspect = payload_of_codec(codec).peek_for(codec)
    payloads = list(payloads_that_fit(continuation_of(codec)))
    assert len(payloads) >= 64
    assert not any(inspect(payload, 0, len(payload)) for payload in payloads)


def test_codecs_with_continuations() -> None:
    assert {type(codec) for codec in HINTED} == {H264, H265, AV1, VP8, VP9}


@pytest.mark.parametrize("size", [3, 9])
async def test_a_key_frame_with_the_timestamp_of_the_picture_before_is_found(size: int) -> None:
    stream, reader = open_stream()
    packets = [
        packet(1, b"\x5c\x41\x9a" + bytes(9), marker=True),
        packet(2, KEY_FRAGMENT + bytes(size), marker=True),
    ]
    take_or_add(stream, *packets)
    assert [batch.has_key for batch in reader.batches] == [True]


async def test_packets_among_which_is_another_payload_type_are_not_taken_at_once() -> None:
    stream, reader = open_stream()
    packets = [packet(index, OTHER_FRAGMENT + bytes(9), marker=index == 3) for index in range(4)]
    foreign = [*packets[:2], packet(2, OTHER_FRAGMENT + bytes(9), payload_type=72), packets[3]]
    assert not take(stream, *foreign)
    assert not take(stream, *foreign[:2], foreign[2] + b"a", foreign[3])  # of several sizes
    assert take(stream, *packets)
    assert reader.sequences == [[0, 1, 2, 3]]


def fragments(randomness: random.Random, codec: Codec, number: int, kind: int) -> list[bytes]:
    """Return the payloads of a picture: its slices in fragments (RFC 6184 section 5.8, RFC 7798 section 4.4.3), some
    key pictures after parameter sets in packets of their own."""
    if isinstance(codec, H265):
        header, order = bytes((49 << 1, 1)), b"\0\0" if codec.maximum_don_difference else b""
        sets = [unit[:2] + order + unit[2:] for unit in H265_SETS]
    else:
        header, order, sets = bytes((0x5C,)), b"", [SPS, PPS]
    payloads = sets if kind != 1 and randomness.random() < 0.7 else []
    size = randomness.randrange(20, 40)
    for slice_number in range(randomness.choice((1, 1, 2, 4))):
        count = randomness.randrange(2, 9)
        for index in range(count):
            second = kind | (0x80 if index == 0 else 0x40 if index == count - 1 else 0)
            start = (0x1A if slice_number else 0x9A) if not index else number & 0xFF
            body = bytes((start,)) + randomness.randbytes(size if index < count - 1 else randomness.randint(17, size))
            payloads = [*payloads, header + bytes((second,)) + (order if index == 0 else b"") + body]
    return payloads


def reads(randomness: random.Random, packets: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the packets as reads bring them: most at once, some in several pieces."""
    while packets:
        count = len(packets) if randomness.random() < 0.7 else randomness.randint(1, len(packets))
        yield packets[:count]
        packets = packets[count:]


def damage(randomness: random.Random, packets: list[bytes]) -> list[bytes]:
    """Return the packets of a picture with one deviation."""
    place = randomness.randrange(len(packets))
    changed = bytearray(packets[place])
    match randomness.randrange(6):
        case 0:
            return packets[:place] + packets[place + 1 :] or packets
        case 1:
            changed[1] ^= 0x80  # the marker bit
        case 2:
            changed[7] ^= 1  # the timestamp
        case 3:
            changed[12] ^= 0x60
        case 4:
            changed[13] ^= randomness.choice((0x80, 0x40, 0x20, 0x01))
        case 5:
            changed[14] ^= randomness.choice((0x80, 0x40, 0x20, 0x01))
    return [*packets[:place], bytes(changed), *packets[place + 1 :]]


@pytest.mark.parametrize("codec", [H264(), H265(), H265(maximum_don_difference=1)], ids=repr)
async def test_a_picture_in_fragments_becomes_the_frame_of_its_packets(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = 0

    def count(buffer: PacketBuffer, header_size: int, unit_header: bytes) -> list[bytes] | None:
        nonlocal joined
        parts = split_fragments(buffer, header_size, unit_header)
        joined += parts is not None
        return parts

    monkeypatch.setattr("polycast.rtp.payload.nal_unit_assembler.split_fragments", count)
    randomness = random.Random(4)
    streams = [make_stream(Track(0, codec)) for _ in range(2)]
    readers = [Frames() for _ in streams]
    for stream, reader in zip(streams, readers, strict=True):
        stream.add_reader(reader)
    key, other = (19, 1) if isinstance(codec, H265) else (5, 1)
    sequence = 65_500
    waiting: list[bytes] = []
    for number in range(600):
        payloads = fragments(randomness, codec, number, other if number % 10 else key)
        packets = [
            packet(sequence + index, payload, timestamp=number * 3000, marker=index == len(payloads) - 1)
            for index, payload in enumerate(payloads)
        ]
        sequence += len(packets) + (randomness.random() < 0.03)
        if randomness.random() < 0.3:
            packets = damage(randomness, packets)
        waiting += packets
        if randomness.random() < 0.2:
            continue  # two pictures in one read
        for each in reads(randomness, waiting):
            take_or_add(streams[0], *each)
            add(streams[1], *each)
        waiting = []
    fast, single = (
        [(each.units, each.pts, each.dts, each.key) if isinstance(each, Frame) else each for _, each in reader.entries]
        for reader in readers
    )
    assert fast == single
    assert len(single) > 300
    assert any(isinstance(each, Track) for each in single)
    if isinstance(codec, H265) and codec.maximum_don_difference:
        assert joined == 0, "there are order numbers between the fragments"
    else:
        assert joined > 300
