"""Packets that are received one by one are published in runs."""

from __future__ import annotations

from tests.hub.support import AUDIO, VIDEO, Packets, make_stream

from polycast.hub.packet_collector import MAXIMUM_PACKETS, PacketCollector
from polycast.hub.stream import Stream
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import build_header, parse_packet


def packet(track: Track, sequence: int, *, marker: bool = True) -> RtpPacket:
    payload_type = 96 + track.index
    data = build_header(payload_type, sequence, 3000 * sequence, 7, marker=marker) + b"\x41\x9a\x00\x00"
    return parse_packet(data, 0, len(data))


def runs(reader: Packets) -> list[list[tuple[int, list[int]]]]:
    """Return the runs of each batch: the index of the track, and the sequence numbers."""
    return [
        [(run.track_index, [each.sequence for each in run.packets]) for run in batch.runs] for batch in reader.batches
    ]


def make() -> tuple[Stream, PacketCollector, Packets]:
    stream, reader = make_stream(VIDEO, AUDIO), Packets()
    stream.add_reader(reader)
    return stream, PacketCollector(stream), reader


async def test_packets_of_one_read_keep_their_order() -> None:
    _, collector, reader = make()
    collector.add(0, [packet(VIDEO, 1), packet(VIDEO, 2)], 1.0)
    collector.add(0, [packet(VIDEO, 3)], 1.0)
    collector.add(1, [packet(AUDIO, 7)], 1.0)
    collector.add(0, [packet(VIDEO, 4)], 1.0)
    collector.end_of_read(coalesced=True)
    collector.end_of_read(coalesced=True)
    collector.add(1, [packet(AUDIO, 8)], 1.1)
    assert runs(reader) == [[(0, [1, 2, 3]), (1, [7]), (0, [4])]]
    collector.end_of_read(coalesced=True)
    assert runs(reader)[1:] == [[(1, [8])]]


async def test_the_packets_are_published_at_the_time_of_the_last_one() -> None:
    stream, collector, _ = make()
    collector.add(0, [packet(VIDEO, 1)], 1.0)
    assert stream.tracks[0].counters.packets == 0
    collector.add(0, [packet(VIDEO, 2)], 1.25)
    collector.publish()
    assert (stream.tracks[0].counters.packets, stream.tracks[0].position.time) == (2, 1.25)


async def test_a_long_read_is_published_in_parts() -> None:
    stream, collector, _ = make()
    for sequence in range(MAXIMUM_PACKETS + 1):
        collector.add(0, [packet(VIDEO, sequence)], 1.0)
    assert stream.tracks[0].counters.packets == MAXIMUM_PACKETS
    collector.publish()
    assert stream.tracks[0].counters.packets == MAXIMUM_PACKETS + 1
