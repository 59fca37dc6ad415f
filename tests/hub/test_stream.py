"""Streams: batches, fan-out, and the two lanes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import struct

import pytest
from tests.hub.support import AUDIO, PPS, SPS, VIDEO, Frames, Packets, make_stream, publish_data, publish_packet

from polycast.errors import RemoteProtocolError
from polycast.hub.batch import FramedRun, MixedBatch, PacketBatch, PacketRun
from polycast.hub.stream import FRAME_WAIT_BYTES, Stream
from polycast.media.codec import AV1, H264
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import parse_packet
from polycast.rtp.rtcp import SenderReport
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.parser import MessageParser

NOW = 1000.0
IDR = b"\x65\x88" + bytes(range(100))
SLICE = b"\x41\x9a" + bytes(range(100, 200))


def rtp(sequence: int, payload: bytes, *, timestamp: int = 0, marker: bool = True, payload_type: int = 96) -> bytes:
    """Return an RTP packet (RFC 3550 section 5.1)."""
    return struct.pack("!BBHII", 0x80, payload_type | marker << 7, sequence & 0xFFFF, timestamp, 0x1234) + payload


def write(stream: Stream, data: bytes, track: int = 0) -> None:
    publish_data(stream, track, data, NOW)


def access_unit(payload: bytes) -> bytes:
    """Return an RTP payload with one AAC frame (RFC 3640 section 3.3.6)."""
    return struct.pack("!HH", 16, len(payload) << 3) + payload


async def test_one_read_is_one_batch() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    for sequence in range(5):
        write(stream, rtp(sequence, SLICE))
    assert not reader.batches
    stream.end_of_read()
    assert reader.sequences == [[0, 1, 2, 3, 4]]


async def test_all_readers_get_the_same_batch() -> None:
    stream, readers = make_stream(VIDEO), [Packets() for _ in range(5)]
    for reader in readers:
        stream.add_reader(reader)
    write(stream, rtp(1, SLICE))
    stream.end_of_read()
    assert len({id(reader.batches[0]) for reader in readers}) == 1


async def test_wire_form_is_built_once() -> None:
    batch = MixedBatch()
    counter = itertools.count()
    assert [batch.form("x", lambda _: next(counter)) for _ in range(3)] == [0, 0, 0]
    assert batch.form("y", lambda _: next(counter)) == 1


async def test_open_frame_waits_for_its_end() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    write(stream, rtp(1, SLICE, marker=False))
    stream.end_of_read()
    assert not reader.batches
    write(stream, rtp(2, SLICE))
    stream.end_of_read()
    assert reader.sequences == [[1, 2]]


async def test_open_frame_does_not_wait_if_reads_are_coalesced() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    write(stream, rtp(1, SLICE, marker=False))
    stream.end_of_read()
    write(stream, rtp(2, SLICE, marker=False))
    stream.end_of_read(coalesced=True)
    assert reader.sequences == [[1, 2]]
    write(stream, rtp(3, SLICE))
    stream.end_of_read(coalesced=True)
    assert reader.sequences == [[1, 2], [3]]


async def test_open_frame_waits_only_shortly() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    write(stream, rtp(1, SLICE, marker=False))
    stream.end_of_read()
    async with asyncio.timeout(60):
        while not reader.batches:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert reader.sequences == [[1]]


async def test_large_open_frame_does_not_wait() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    count = FRAME_WAIT_BYTES // 1400 + 1
    for sequence in range(count):
        write(stream, rtp(sequence, bytes(1400), marker=False))
    stream.end_of_read()
    assert reader.sequences == [list(range(count))]


async def test_audio_does_not_wait_for_markers() -> None:
    stream, reader = make_stream(Track(0, AUDIO.codec)), Packets()
    stream.add_reader(reader)
    write(stream, rtp(1, access_unit(b"abc"), marker=False))
    stream.end_of_read()
    assert reader.sequences == [[1]]


async def test_new_reader_starts_with_the_next_packet() -> None:
    stream, first, second = make_stream(VIDEO), Packets(), Packets()
    stream.add_reader(first)
    write(stream, rtp(1, SLICE, marker=False))
    stream.end_of_read()
    stream.add_reader(second)
    write(stream, rtp(2, SLICE))
    stream.end_of_read()
    assert first.sequences == [[1], [2]]
    assert second.sequences == [[2]]


async def test_removed_reader_gets_nothing() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    stream.add_reader(reader)  # a second time changes nothing
    assert stream.packet_readers == (reader,)
    stream.remove_reader(reader)
    stream.remove_reader(reader)
    write(stream, rtp(1, SLICE))
    stream.end_of_read()
    assert not reader.batches
    assert stream.packet_readers == ()


@pytest.mark.parametrize("frames", [False, True])
async def test_reader_that_fails_is_closed_and_the_others_continue(frames: bool) -> None:
    stream = make_stream(VIDEO)
    bad: Frames | Packets = Frames(fails=True) if frames else Packets(fails=True)
    good = Packets()
    for reader in (bad, good):
        stream.add_reader(reader)
    for sequence in range(3):
        write(stream, rtp(sequence, IDR, timestamp=3000 * sequence))
        stream.end_of_read()
    stream.flush()
    assert bad.closed == "internal error"
    assert bad not in stream.readers
    assert [sequence for batch in good.sequences for sequence in batch] == [0, 1, 2]


async def test_closed_stream_sends_nothing() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    write(stream, rtp(1, SLICE, marker=False))
    stream.end_of_read()
    stream.close()
    stream.add_reader(Packets())
    await asyncio.sleep(0.005)  # longer than a frame's wait
    assert not reader.batches
    assert not stream.readers


async def test_runs_keep_the_order_of_the_tracks() -> None:
    stream, reader = make_stream(VIDEO, AUDIO), Packets()
    stream.add_reader(reader)
    write(stream, rtp(1, SLICE))
    write(stream, rtp(2, SLICE))
    write(stream, rtp(7, access_unit(b"a"), payload_type=97), 1)
    write(stream, rtp(3, SLICE))
    stream.end_of_read()
    (batch,) = reader.batches
    assert [(run.track_index, [packet.sequence for packet in run.packets]) for run in batch.runs] == [
        (0, [1, 2]),
        (1, [7]),
        (0, [3]),
    ]
    assert batch.packet_count == 4
    assert batch.size == 3 * (12 + len(SLICE)) + 12 + 5


async def test_key_track_is_the_first_video_track() -> None:
    assert make_stream(Track(0, AUDIO.codec), Track(1, VIDEO.codec)).key_track == 1
    assert make_stream(Track(0, AUDIO.codec)).key_track == 0


async def test_key_frames_are_seen() -> None:
    stream, reader = make_stream(VIDEO, AUDIO), Packets()
    stream.add_reader(reader)
    for data, track in (
        (rtp(1, SLICE), 0),
        (rtp(2, access_unit(b"a"), payload_type=97), 1),
        (rtp(3, IDR), 0),
        (rtp(4, b"\x7c\x85\x88" + bytes(50), marker=True), 0),
    ):
        write(stream, data, track)
        stream.end_of_read()
    assert [batch.has_key for batch in reader.batches] == [False, False, True, True]


def packet(sequence: int, *, key: bool = False) -> RtpPacket:
    data = rtp(sequence, b"x" * sequence)
    return RtpPacket(data, 0, 12, len(data), sequence, 0, True, key)


def batch_of(*runs: tuple[int, list[RtpPacket]]) -> PacketBatch:
    batch = MixedBatch()
    for track_index, packets in runs:
        has_key = track_index == 0 and any(each.key for each in packets)
        batch.runs.append(PacketRun(track_index, packets, has_key=has_key))
    return batch


def test_batch_from_its_key_frame() -> None:
    batch = batch_of(
        (0, [packet(1)]),
        (1, [packet(10, key=True)]),
        (0, [packet(2), packet(3, key=True), packet(4)]),
        (1, [packet(11)]),
    )
    cut = batch.from_key(0)
    assert [(run.track_index, [each.sequence for each in run.packets]) for run in cut.runs] == [(0, [3, 4]), (1, [11])]
    assert cut.has_key
    assert (cut.packet_count, cut.size) == (3, 3 * 12 + 3 + 4 + 11)
    assert batch.from_key(0) is cut  # built once for all readers
    assert batch.packet_count == 6


def test_batch_without_a_key_frame_has_nothing_from_it() -> None:
    cut = batch_of((0, [packet(1), packet(2)]), (1, [packet(3, key=True)])).from_key(0)
    assert cut.packet_count == 0
    assert not cut.has_key


async def test_garbage_is_refused() -> None:
    stream = make_stream(VIDEO)
    with pytest.raises(RemoteProtocolError):
        write(stream, b"\x00" * 20)
    stream.flush()
    assert stream.bytes_received == 0


async def test_losses_are_counted() -> None:
    stream = make_stream(VIDEO)
    for sequence in (65534, 65535, 0, 3, 2, 4):
        write(stream, rtp(sequence, SLICE))
    stream.flush()
    track = stream.tracks[0]
    assert track.counters.packets == 6
    assert track.counters.lost in (2, 3)  # 1 and 2 are missing at first; 2 comes late
    assert track.ssrc == 0x1234
    assert track.next_sequence == 5


async def test_counters_of_a_stream() -> None:
    stream = make_stream(VIDEO)
    write(stream, rtp(1, SLICE))
    write(stream, rtp(2, SLICE))
    stream.end_of_read()
    assert stream.tracks[0].counters.packets == 2
    assert stream.bytes_received == 2 * (12 + len(SLICE))


async def test_frames_are_made_only_while_somebody_wants_them() -> None:
    stream, frames = make_stream(VIDEO), Frames()
    write(stream, rtp(1, IDR))
    stream.end_of_read()
    stream.add_reader(frames)
    write(stream, rtp(2, IDR, timestamp=3000))
    stream.end_of_read()
    (entry,) = [entry for _, entry in frames.entries if isinstance(entry, Frame)]
    assert entry.units[-1] == IDR
    assert entry.key
    stream.remove_reader(frames)
    assert not stream.tracks[0]._lane.is_open


async def test_packets_become_frames_of_both_tracks_on_one_time_line() -> None:
    stream, frames = make_stream(VIDEO, AUDIO), Frames()
    stream.add_reader(frames)
    for index in range(4):
        write(stream, rtp(2 * index, (SPS, PPS)[index % 2], timestamp=3000 * index, marker=False))
        write(stream, rtp(2 * index + 1, IDR, timestamp=3000 * index))
        payload = access_unit(bytes([index]) * 20)
        write(stream, rtp(index, payload, timestamp=1600 * index, payload_type=97), 1)
        stream.end_of_read()
    video = [frame for index, frame in frames.entries if index == 0 and isinstance(frame, Frame)]
    audio = [frame for index, frame in frames.entries if index == 1 and isinstance(frame, Frame)]
    assert [frame.units[-1] for frame in video] == [IDR] * 4
    assert [frame.units for frame in audio] == [(bytes([index]) * 20,) for index in range(4)]
    assert [frame.pts - video[0].pts for frame in video] == [0, 3000, 6000, 9000]
    assert [frame.pts - audio[0].pts for frame in audio] == [0, 1600, 3200, 4800]


async def test_frames_become_packets_of_both_tracks() -> None:
    stream, packets = make_stream(VIDEO, AUDIO, packets=False), Packets()
    stream.add_reader(packets)
    big = b"\x65\x88" + bytes(4000)
    stream.publish_frame(0, Frame((SPS, PPS, big), 0, 0, key=True), NOW)
    stream.publish_frame(1, Frame((b"a" * 50,), 0, 0, key=True), NOW)
    stream.publish_frame(0, Frame((SLICE,), 3000, 3000, key=False), NOW)
    stream.end_of_read()
    (batch,) = packets.batches
    video = [each for run in batch.runs if run.track_index == 0 for each in run.packets]
    audio = [each for run in batch.runs if run.track_index == 1 for each in run.packets]
    assert all(len(each) <= 1472 for each in video)
    assert [each.marker for each in video] == [False] * (len(video) - 2) + [True, True]
    first = video[0].sequence
    assert [(each.sequence - first) & 0xFFFF for each in video] == list(range(len(video)))
    assert (video[-1].timestamp - video[0].timestamp) & 0xFFFFFFFF == 3000
    assert audio[0].payload_bytes() == access_unit(b"a" * 50)
    assert batch.has_key


@pytest.mark.parametrize("size", [10, 1500, 100_000])
async def test_frame_survives_both_conversions(size: int) -> None:
    """Frames to packets to frames again, as in RTMP to RTSP to RTMP."""
    sender, packets = make_stream(VIDEO, AUDIO, packets=False), Packets()
    sender.add_reader(packets)
    receiver, frames = make_stream(*sender.descriptions), Frames()
    receiver.add_reader(frames)
    picture = b"\x65\x88" + bytes(index * 7 & 0xFF for index in range(size))
    for index in range(3):
        sender.publish_frame(0, Frame((picture,), 3000 * index, 3000 * index, key=True), NOW)
        sender.publish_frame(1, Frame((bytes([index]) * 30,), 1024 * index, 1024 * index, key=True), NOW)
        sender.end_of_read()
    for batch in packets.batches:
        for run in batch.runs:
            for each in run.packets:
                publish_packet(receiver, run.track_index, parse_packet(each.data, each.start, each.end), NOW)
        receiver.end_of_read()
    receiver.flush()
    video = [frame for index, frame in frames.entries if index == 0 and isinstance(frame, Frame)]
    audio = [frame for index, frame in frames.entries if index == 1 and isinstance(frame, Frame)]
    assert [frame.units[-1] for frame in video] == [picture] * 3
    assert [frame.units[0] for frame in audio] == [bytes([index]) * 30 for index in range(3)]


async def test_frame_readers_learn_of_changed_parameters_in_their_place() -> None:
    stream, frames = make_stream(VIDEO), Frames()
    stream.add_reader(frames)
    new_sps = bytes.fromhex("67640020ac2b402802dd80880000030008000003032042")
    write(stream, rtp(1, IDR))
    write(stream, rtp(2, new_sps, timestamp=3000, marker=False))
    write(stream, rtp(3, PPS, timestamp=3000, marker=False))
    write(stream, rtp(4, IDR, timestamp=3000))
    stream.flush()
    kinds = ["track" if isinstance(entry, Track) else "frame" for _, entry in frames.entries]
    assert kinds == ["frame", "track", "frame"]
    (track,) = [entry for _, entry in frames.entries if isinstance(entry, Track)]
    assert isinstance(track.codec, H264)
    assert track.codec.sps == new_sps
    assert stream.descriptions[0].codec == track.codec


async def test_tracks_of_frames_get_payload_types() -> None:
    stream = make_stream(VIDEO, AUDIO, packets=False)
    assert [track.rtp.payload_type for track in stream.descriptions if track.rtp is not None] == [96, 97]


def report(ntp_seconds: int, rtp_timestamp: int) -> SenderReport:
    return SenderReport(0x1234, ntp_seconds << 32, rtp_timestamp, 0, 0)


def begun_stream() -> Stream:
    """Return a stream with a reader, of whose picture and sound the first packets have come."""
    stream = make_stream(VIDEO, AUDIO)
    stream.add_reader(Packets())
    write(stream, rtp(1, SLICE, timestamp=90_000), 0)
    write(stream, rtp(1, access_unit(b"x"), timestamp=48_000, payload_type=97), 1)
    stream.flush()
    return stream


def told(stream: Stream, track: int, timestamp: int) -> int:
    """Return the wall-clock time in nanoseconds that readers are told for a timestamp."""
    wall_time = stream.tracks[track].reports.wall_time_of(timestamp)
    assert wall_time is not None
    return wall_time


async def test_what_arrives_after_the_end_is_ignored() -> None:
    stream = begun_stream()
    stream.close()
    stream.on_sender_report(0, report(2_208_988_800 + 10, 90_000), 0.0)
    write(stream, rtp(2, SLICE, timestamp=93_000), 0)
    stream.flush()


async def test_clock_of_the_publisher_does_not_shift_the_readers_clock() -> None:
    stream = begun_stream()
    before = told(stream, 0, 90_000)
    # A camera whose clock began in 1970, and whose sound was captured 50 ms after its picture.
    stream.on_sender_report(0, report(2_208_988_800 + 10, 90_000), 0.0)
    stream.on_sender_report(1, report(2_208_988_800 + 10, 48_000 - 2_400), 0.0)
    assert told(stream, 0, 90_000) == before
    assert told(stream, 1, 48_000) - before == pytest.approx(50_000_000, abs=1_000)
    # Its clock is set by a time server.
    stream.on_sender_report(0, report(3_900_000_000, 180_000), 1.0)
    assert told(stream, 0, 180_000) - before == pytest.approx(1_000_000_000, abs=1_000)


async def test_reader_that_joins_right_after_a_jump_of_the_timestamps() -> None:
    stream = begun_stream()
    write(stream, rtp(2, SLICE, timestamp=90_000 * 3600), 0)  # an hour later, before the clock is looked at again
    write(stream, rtp(2, access_unit(b"x"), timestamp=49_024, payload_type=97), 1)
    stream.flush()
    video, audio = stream.positions((0, 1), 0.0, NOW)
    assert (video.sequence, audio.sequence) == (3, 3)
    assert video.timestamp == pytest.approx(90_000 * 3600, abs=90_000 // 4)
    assert audio.timestamp == pytest.approx(49_024, abs=48_000 // 4)


def framed(*packets: bytes) -> FramedRun:
    """Return packets as a run of interleaved frames."""
    parser = MessageParser()
    parser.receive_data(b"".join(b"$\x06" + struct.pack(">H", len(each)) + each for each in packets))
    run = parser.next_event()
    assert isinstance(run, InterleavedRun)
    return FramedRun(0, run)


def units(first: int = 1) -> list[bytes]:
    """Return the packets of a key frame with parameter sets, and of a frame that goes on."""
    payloads = [SPS, PPS, b"\x7c\x85\x88" + IDR, b"\x7c\x45" + IDR, b"\x5c\x81\x9a" + SLICE, b"\x5c\x01" + SLICE]
    return [rtp(first + index, each, marker=index == 3, timestamp=index // 4) for index, each in enumerate(payloads)]


async def test_runs_of_packets_equal_single_packets() -> None:
    at_once, single = make_stream(Track(0, H264())), make_stream(Track(0, H264()))
    readers = [Packets(), Packets()]
    run = framed(*units())
    for stream, reader in zip((at_once, single), readers, strict=True):
        stream.add_reader(reader)
    assert at_once.publish(run, NOW)
    for each in units():
        write(single, each)
    for stream in (at_once, single):
        track = stream.tracks[0]
        assert track.frame_open
        assert track.track.codec == H264(SPS, PPS)
        assert (track.ssrc, track.next_sequence) == (0x1234, 7)
        stream.flush()
        assert (track.counters.packets, track.counters.bytes, track.counters.lost) == (6, sum(map(len, units())), 0)
        assert track.last_timestamp == 1
    (first,), (second,) = (reader.batches for reader in readers)
    assert (first.has_key, first.size, first.packet_count) == (second.has_key, second.size, second.packet_count)
    fields = [
        [
            (bytes(each.data[each.start : each.end]), each.key, each.marker, each.payload - each.start)
            for each in packets
        ]
        for packets in (first.runs[0].packets, second.runs[0].packets)
    ]
    assert fields[0] == fields[1]
    assert first.runs[0].packets is first.runs[0].packets  # made once for all readers
    assert [each.sequence for each in first.from_key(0).runs[0].packets] == [1, 2, 3, 4, 5, 6]
    (piece,) = first.runs[0].framed()
    assert piece is run.buffer.data
    assert (
        first.runs[0].payload_size
        == second.runs[0].payload_size
        == sum(each.end - each.payload for each in run.packets)
    )


async def test_runs_of_packets_after_a_loss() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    write(stream, rtp(1, SLICE))
    assert stream.publish(framed(*units(5)), NOW)
    write(stream, rtp(11, SLICE))
    stream.flush()
    assert stream.tracks[0].counters.lost == 3
    assert reader.sequences == [[1, 5, 6, 7, 8, 9, 10, 11]]


async def test_packets_that_must_be_parsed_form_no_run() -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    packets = units()
    assert not stream.publish(framed(packets[0], packets[2]), NOW)
    assert not stream.publish(framed(packets[0], b"\x90" + packets[1][1:]), NOW)
    stream.flush()
    assert not reader.batches
    assert stream.tracks[0].next_sequence is None
    assert stream.bytes_received == 0


async def test_malformed_packets_are_reported_once_and_then_periodically(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(logging.Logger, "_log", lambda _self, _level, text, values, **_: lines.append(text % values))
    stream = make_stream(VIDEO, AUDIO)
    stream.add_reader(Frames())
    for sequence in range(100):
        write(stream, rtp(sequence, b"\x00", payload_type=97), track=1)
        write(stream, rtp(sequence, b"\x78\xff\xff\x65"))
    assert lines == ["a packet of track 2 (AAC) cannot be read: AAC packet is too short"]
    publish_data(stream, 0, rtp(100, b"\x78\xff\xff\x65"), NOW + 61)
    assert lines[1:] == ["a packet of track 1 (H264) cannot be read: STAP-A packet is cut off (199 times more before)"]


async def test_frames_in_progress_of_all_tracks_have_a_limit_in_sum() -> None:
    stream = make_stream(*(Track(index, H264(SPS, PPS)) for index in range(24)))
    stream.add_reader(Frames())
    for index in range(24):
        write(stream, rtp(0, b"\x7c\x85" + bytes(60_000), marker=False), track=index)
        for sequence in range(1, 40):
            write(stream, rtp(sequence, b"\x7c\x05" + bytes(60_000), marker=False), track=index)
    stream.flush()
    depacketizers = [track._lane._depacketizer for track in stream.tracks]
    held = sum(depacketizer._fragments.size for depacketizer in depacketizers)  # type: ignore[union-attr]
    assert held <= 24 << 20
    assert all(depacketizer is not None and depacketizer.errors == 1 for depacketizer in depacketizers)
    assert stream.frame_limit == 1 << 20
    assert make_stream(VIDEO, AUDIO).frame_limit == 12 << 20


async def test_temporal_units_of_av1_have_the_same_limit() -> None:
    stream = make_stream(*(Track(index, AV1()) for index in range(24)))
    stream.add_reader(Frames())
    for index in range(24):
        for sequence in range(40):
            write(stream, rtp(sequence, b"\x10\x30" + bytes(60_000), marker=False), track=index)
    stream.flush()
    depacketizers = [track._lane._depacketizer for track in stream.tracks]
    assert sum(depacketizer._size for depacketizer in depacketizers) <= 24 << 20  # type: ignore[union-attr]
    assert all(depacketizer is not None and depacketizer.errors for depacketizer in depacketizers)
