"""Receiving a publisher's RTP, whatever protocol it comes by."""

from __future__ import annotations

import logging

import pytest
from tests.hub.support import AUDIO, LOGGER, VIDEO, Packets, make_stream

from polycast.hub.stats import Counters
from polycast.log import Log
from polycast.protocols.rtp_receiver import MediaReceiver
from polycast.rtp.header import build_header
from polycast.wire.rtsp.interleaved import next_run
from polycast.wire.rtsp.parser import INTERLEAVED_LIMIT

NOW = 1000.0


def packet(sequence: int, payload_type: int, size: int = 20) -> bytes:
    return build_header(payload_type, sequence, 3000, 7, marker=True) + b"\x41" * size


def receive(receiver: MediaReceiver, track: int, *packets: bytes, is_tcp: bool) -> None:
    if not is_tcp:
        for each in packets:
            receiver.tracks[track].receive_datagram(each, 0, len(each), NOW)
        return
    data = b"".join(b"$\0" + len(each).to_bytes(2, "big") + each for each in packets)
    run = next_run(data, 0, INTERLEAVED_LIMIT)
    assert run is not None
    receiver.tracks[track].receive_buffer(run, NOW)


@pytest.mark.parametrize("is_tcp", [True, False], ids=["TCP", "UDP"])
async def test_losses_of_all_tracks_are_counted(is_tcp: bool) -> None:
    stream, counters = make_stream(VIDEO, AUDIO), Counters()
    receiver = MediaReceiver(stream, counters, Log(LOGGER), NOW, reorders=not is_tcp)
    assert receiver.idle_since == NOW
    for sequence in (1, 2, 5):
        receive(receiver, 0, packet(sequence, 96), is_tcp=is_tcp)
    for sequence in (1, 3):
        receive(receiver, 1, packet(sequence, 97), is_tcp=is_tcp)
    receiver.tick(NOW)
    receiver.tick(NOW + 1)  # what is missing is given up
    assert (counters.packets_received, counters.bytes_received) == (5, 5 * 32)
    assert counters.packets_lost == 3


async def test_losses_are_logged_as_numbers(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(logging.getLogger("polycast.test.losses"))
    receiver = MediaReceiver(make_stream(VIDEO), Counters(), log, NOW, reorders=False)
    texts: list[list[str]] = []
    for sequences, at in (((1, 2), 0), ((5, 6), 1), ((8,), 2), ((10,), 5), ((11,), 30), ((12,), 60), ((15,), 61)):
        receive(receiver, 0, *(packet(sequence, 96) for sequence in sequences), is_tcp=True)
        caplog.clear()
        receiver.tick(NOW + at)
        texts.append([record.getMessage() for record in caplog.records if record.levelname == "WARNING"])
    assert texts == [[], ["2 RTP packets lost"], [], [], ["2 RTP packets lost"], [], ["2 RTP packets lost"]]


@pytest.mark.parametrize("is_tcp", [True, False], ids=["TCP", "UDP"])
async def test_packets_that_cannot_be_used_do_not_keep_others_back(is_tcp: bool) -> None:
    stream, reader, counters = make_stream(VIDEO), Packets(), Counters()
    stream.add_reader(reader)
    receiver = MediaReceiver(stream, counters, Log(LOGGER), NOW, reorders=not is_tcp)
    foreign, invalid, large = packet(1, 72), b"\x00" + packet(1, 96)[1:], packet(3, 96, 3000)
    receive(receiver, 0, packet(1, 96), foreign, invalid, packet(2, 96), large, packet(4, 96), is_tcp=is_tcp)
    receiver.end_of_read()
    received = [each for batch in reader.sequences for each in batch]
    assert received == list(range(1, 1 + len(received)))
    assert len(received) > 4  # the large one is sent in parts, and what follows is renumbered
    assert stream.tracks[0].counters.foreign == 1
    assert counters.packets_received == 4


class Types:
    """Scripts of payload types that a publisher of a track announced as 96, beside one announced as 97, sends."""

    ANOTHER = (98, 98, 98)
    ANOTHER_ONLY_AT_FIRST = (98, 96, 98, 96)
    ANOTHER_LATER = (96, 98, 98, 96)
    TWO_OTHERS = (98, 99, 98)
    OF_ANOTHER_TRACK = (97, 97)
    STATIC = (50, 72, 0)


@pytest.mark.parametrize("is_tcp", [True, False], ids=["TCP", "UDP"])
@pytest.mark.parametrize("together", [True, False], ids=["one read", "a read each"])
@pytest.mark.parametrize(
    ("types", "accepted"),
    [
        (Types.ANOTHER, (0, 1, 2)),
        (Types.ANOTHER_ONLY_AT_FIRST, (0, 1, 3)),
        (Types.ANOTHER_LATER, (0, 3)),
        (Types.TWO_OTHERS, (0, 2)),
        (Types.OF_ANOTHER_TRACK, ()),
        (Types.STATIC, ()),
    ],
)
async def test_a_publisher_that_sends_another_type_than_it_announced(
    types: tuple[int, ...], accepted: tuple[int, ...], together: bool, is_tcp: bool
) -> None:
    stream, reader, counters = make_stream(VIDEO, AUDIO), Packets(), Counters()
    stream.add_reader(reader)
    receiver = MediaReceiver(stream, counters, Log(LOGGER), NOW, reorders=not is_tcp)
    packets = [packet(number, payload_type, 20 + number) for number, payload_type in enumerate(types)]
    for each in [packets] if together else [[one] for one in packets]:
        receive(receiver, 0, *each, is_tcp=is_tcp)
    receiver.tick(NOW + 1)  # what is missing is given up
    received = [each for batch in reader.batches for run in batch.runs for each in run.packets]
    assert [len(each.payload_bytes()) - 20 for each in received] == list(accepted)
    assert {each.data[each.start + 1] & 0x7F for each in received} <= {96}, "readers get the announced type"
    assert stream.tracks[0].counters.foreign == len(types) - len(accepted)
    assert counters.packets_received == len(accepted)
