"""The parts of packets: loss lists, acknowledgements, numbers, datagrams for many receivers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.srt import captured

from polycast.errors import LocalProtocolError
from polycast.wire.srt.acknowledgements import parse_acknowledgement
from polycast.wire.srt.datagrams import MAXIMUM_COUNT, split
from polycast.wire.srt.loss_list import MAXIMUM_WORDS, build_loss_list, parse_loss_list
from polycast.wire.srt.packet import HEADER, SEQUENCE_MASK, TIME_MASK, extend_sequence, extend_time, largest_payload


def test_an_acknowledgement_of_libsrt() -> None:
    report = parse_acknowledgement(captured.LISTENER_ACK)
    assert report == (1001, 100_000, 50_000, 8190, 1000)


@pytest.mark.parametrize("size", [0, 3])
def test_an_acknowledgement_without_position_is_invalid(size: int) -> None:
    assert parse_acknowledgement(bytes(16 + size)) is None


def test_a_loss_list_as_in_the_draft() -> None:
    """draft-sharabayko-srt-01 appendix A: the packets 3, 5 to 8 and 2**31 - 1."""
    body = bytes.fromhex("00000003 80000005 00000008 7fffffff")
    assert parse_loss_list(body) == [(3, 3), (5, 8), (SEQUENCE_MASK, SEQUENCE_MASK)]
    assert build_loss_list([(3, 3), (5, 8), (SEQUENCE_MASK, SEQUENCE_MASK)]) == body


def test_a_long_loss_list_fits_in_a_packet() -> None:
    body = build_loss_list((number * 10, number * 10 + 1) for number in range(1000))
    assert len(body) == 4 * MAXIMUM_WORDS
    assert len(parse_loss_list(body)) == MAXIMUM_WORDS // 2


@pytest.mark.parametrize("text", ["80000005", "80000005 80000008", "000000"])
def test_an_incomplete_loss_list_ends_earlier(text: str) -> None:
    assert parse_loss_list(bytes.fromhex("00000001" + text)) == [(1, 1)]


@given(st.integers(0, 1 << 40), st.integers(-(1 << 29), 1 << 29))
def test_sequence_numbers_are_extended_to_the_nearest(near: int, step: int) -> None:
    assert extend_sequence((near + step) & SEQUENCE_MASK, near) == near + step


@given(st.integers(0, 1 << 50), st.integers(-(1 << 30), 1 << 30))
def test_timestamps_are_extended_to_the_nearest(near: int, step: int) -> None:
    assert extend_time((near + step) & TIME_MASK, near) == near + step


@given(st.integers(1, 500), st.integers(1, 7), st.integers(0, 1000))
def test_data_is_split_into_datagrams(packets: int, per_datagram: int, first: int) -> None:
    data = bytes(number & 0xFF for number in range(packets)) * 188
    sequence, pieces = first, []
    for datagrams in split(data, 188 * per_datagram):
        assert datagrams.count <= MAXIMUM_COUNT
        written = bytes(datagrams.write_headers(sequence, 0xC0000000 | sequence + 1, 1 << 33 | 5, 0x1234))
        for index in range(datagrams.count):
            datagram = written[index * datagrams.segment_size : (index + 1) * datagrams.segment_size]
            assert HEADER.unpack_from(datagram) == (
                sequence + index, 0xC0000000 | sequence + index + 1, 5, 0x1234,
            )  # fmt: skip
            assert datagram[16:] == datagrams.payload(index)
            pieces.append(datagram[16:])
        sequence += datagrams.count
    assert b"".join(pieces) == data


@pytest.mark.parametrize(("size", "expected"), [(1452, 1316), (1472, 1316), (9000, 1316), (1000, 940), (100, 188)])
def test_as_many_transport_packets_as_fit(size: int, expected: int) -> None:
    assert largest_payload(size) == expected


@pytest.mark.parametrize(("size", "payload_size"), [(1316, 0), (1316, 1457), (1316, 189), (189, 188)])
def test_other_sizes_are_a_mistake(size: int, payload_size: int) -> None:
    with pytest.raises(LocalProtocolError, match="no possible size"):
        split(bytes(size), payload_size)
