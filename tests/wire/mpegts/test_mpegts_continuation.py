"""Packets that continue a unit, processed together: the result is that of processing each by itself."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.hls.streams import AUDIO, VIDEO

from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts import demuxer as module
from polycast.wire.mpegts.constants import PACKET_SIZE, PAYLOAD_SIZE
from polycast.wire.mpegts.continuation import MAXIMUM_RUN, count_continuations, payloads_of
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.muxer import Muxer

SOUND_HEADERS = 23
"""Bytes before the sound in a unit of AAC: of the adaptation field, the PES header, and ADTS."""


class OneByOne(Demuxer):
    """Processes each packet by itself."""

    def _receive_continuations(self, data: bytes, start: int, output: object) -> int:
        return 0


def packets_of(codecs: list[Codec], seed: int, count: int = 12) -> list[bytes]:
    """Return the packets of a stream with pictures of 1 to 40 kB, and sound whose units have a length."""
    randomness = Random(seed)
    muxer = Muxer([Track(index, codec) for index, codec in enumerate(codecs)])
    data = muxer.tables()
    for number in range(count):
        for index, codec in enumerate(codecs):
            time = number * 3600
            size = randomness.randint(1, 40_000 if codec is VIDEO else 1_500)
            if codec is AUDIO and size % 2:  # its unit ends with a full packet
                size += -(size + SOUND_HEADERS) % PAYLOAD_SIZE
            body = randomness.randbytes(size).replace(b"\0", b"x")
            key = codec is not VIDEO or number % 5 == 0
            units = (body,) if codec is not VIDEO else (b"\x41" + body,)
            if codec is VIDEO and key:
                units = (VIDEO.sps, VIDEO.pps, b"\x65\x88" + body)
            data += muxer.write_frame(index, Frame(units, time, time, key=key), time, time)
    return [data[start : start + PACKET_SIZE] for start in range(0, len(data), PACKET_SIZE)]


def damage(packets: list[bytes], randomness: Random) -> list[bytes]:
    """Return the packets with some lost, repeated, exchanged, changed, or of other kinds."""
    damaged = list(packets)
    for _ in range(randomness.randint(0, 8)):
        position = randomness.randrange(len(damaged) - 1)
        packet = bytearray(damaged[position])
        match randomness.randrange(7):
            case 0:
                del damaged[position]
            case 1:
                damaged.insert(position, damaged[position])
            case 2:
                damaged[position : position + 2] = damaged[position + 1], damaged[position]
            case 3:  # a null packet
                damaged.insert(position, b"\x47\x1f\xff\x10" + bytes(PAYLOAD_SIZE))
            case 4:  # any bit of the header or of the adaptation field
                packet[randomness.randrange(6)] ^= 1 << randomness.randrange(8)
                damaged[position] = bytes(packet)
            case 5:  # a discontinuity that is announced
                damaged[position] = bytes(packet[:3]) + bytes((packet[3] | 0x20, 1, 0x80)) + bytes(packet[4:-2])
            case _:  # bytes that belong to no packet
                damaged.insert(position, randomness.randbytes(randomness.randint(1, 300)))
    return damaged


def read(demuxer: Demuxer, data: bytes, sizes: list[int]) -> list[object]:
    """Return everything that can be seen from outside."""
    seen: list[object] = []
    start = number = 0
    while start < len(data):
        size = sizes[number % len(sizes)]
        for index, frame in demuxer.receive_data(data[start : start + size]):
            seen.append((index, frame.units, frame.pts, frame.dts, frame.key))
        counters = demuxer.counters
        seen.append((demuxer.tracks, counters.broken, counters.continuity_errors, counters.lost_sync))
        start += size
        number += 1
    return [*seen, [(index, frame.units, frame.dts) for index, frame in demuxer.flush(is_whole=False)]]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    codecs=st.sampled_from([[VIDEO], [VIDEO, AUDIO], [AUDIO]]),
    sizes=st.lists(st.sampled_from([1, 100, 187, 188, 189, 1316, 13_160, 200_000]), min_size=1, max_size=3),
    maximum=st.sampled_from([1 << 24, 3_000]),
)
def test_the_result_is_that_of_single_packets(seed: int, codecs: list[Codec], sizes: list[int], maximum: int) -> None:
    data = b"".join(damage(packets_of(codecs, seed), Random(seed)))
    if max(sizes) == 1:
        data = data[:20_000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAXIMUM_PES_SIZE", maximum)
        assert read(Demuxer(), data, sizes) == read(OneByOne(), data, sizes)


def test_most_packets_are_processed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    packets = packets_of([VIDEO], 1)
    single = 0

    def count(self: Demuxer, data: bytes, start: int, output: object) -> None:
        nonlocal single
        single += 1
        plain(self, data, start, output)  # type: ignore[arg-type]

    plain = Demuxer._receive_packet
    monkeypatch.setattr(Demuxer, "_receive_packet", count)
    Demuxer().receive_data(b"".join(packets))
    assert single <= 2 + 2 * 12 < len(packets) / 10  # the tables; the first and the last packet of each picture


def run_of(count: int, counter: int) -> bytes:
    return b"".join(
        bytes((0x47, 0x01, 0x00, 0x10 | (counter + index) & 15)) + bytes((index,)) * PAYLOAD_SIZE
        for index in range(count)
    )


def test_a_run_and_its_payloads() -> None:
    data = run_of(20, 9)
    assert count_continuations(data, 0, 9) == 20
    assert count_continuations(data + b"\x47" * 187, PACKET_SIZE, 10) == 19  # an incomplete packet does not count
    assert payloads_of(data, PACKET_SIZE, 2) == (b"\x01" * PAYLOAD_SIZE, b"\x02" * PAYLOAD_SIZE)


def test_a_run_is_limited() -> None:
    assert count_continuations(run_of(MAXIMUM_RUN + 10, 0), 0, 0) == MAXIMUM_RUN


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 0x48), (1, 0x81), (1, 0x41), (1, 0x02), (2, 0x01), (3, 0x30), (3, 0x90), (3, 0x00), (3, 0x16)],
)
def test_where_a_run_ends(offset: int, value: int) -> None:
    data = bytearray(run_of(10, 0))
    data[5 * PACKET_SIZE + offset] = value
    assert count_continuations(bytes(data), 0, 0) == 5


@pytest.mark.parametrize("second", [0x41, 0x81])
def test_a_packet_that_continues_nothing(second: int) -> None:
    assert count_continuations(run_of(3, 0).replace(b"\x47\x01", bytes((0x47, second))), 0, 0) == 0
