"""Publishers whose clock is set, jumps, or is wrong for one frame: what readers of frames get all the same."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import pytest
from tests.codecs.conftest import encode, encoders  # noqa: F401
from tests.codecs.media import Encode
from tests.hub.support import AUDIO, VIDEO, Frames, Packets, make_stream, publish_packet

from polycast.codecs import h264
from polycast.codecs.nal import split_length_prefixed
from polycast.hub.stream import Stream
from polycast.media.codec import G711, H264, MJPEG, VP8, Codec, Kind, MPEG4Audio, Opus
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, ntp_to_wall_time, wall_time_to_ntp
from polycast.media.track import Track
from polycast.rtp.header import rewrite
from polycast.rtp.payload.h264 import H264Packetizer
from polycast.rtp.rtcp import SenderReport

NOW = 1000.0
JPEG_TABLES = bytes(range(1, 65))

Jump = Callable[[int], float]
"""Seconds by which the clock is off, by number of the frame."""


def jpeg() -> bytes:
    """Return a JPEG picture (RFC 2435: baseline, two tables)."""
    tables = b"\xff\xdb\x00\x43\x00" + JPEG_TABLES + b"\xff\xdb\x00\x43\x01" + JPEG_TABLES
    start = b"\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    scan = b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00"
    return b"\xff\xd8" + tables + start + scan + bytes(60) + b"\xff\xd9"


UNITS: dict[type[Codec], Callable[[int], bytes]] = {
    H264: lambda number: (b"\x65\x88" if number % 25 == 0 else b"\x41\x9a") + bytes(40),
    VP8: lambda number: (
        (b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00" if number % 25 == 0 else b"\x31\x02\x00") + bytes(40)
    ),
    MJPEG: lambda _: jpeg(),
    MPEG4Audio: lambda _: b"\x21\x00\x03\x40" + bytes(10),
    Opus: lambda _: b"\xfc" + bytes(30),
    G711: lambda _: bytes(320),
}
CODECS = [VIDEO.codec, VP8(), MJPEG(), AUDIO.codec, Opus(), G711(True, 8000, 1)]


def write(stream: Stream, index: int, number: int, off: float, now: float) -> None:
    """Publish one frame of 40 ms (sound: what is due then)."""
    track = stream.tracks[index].track
    time = round((number * 0.04 + off) * track.clock_rate)
    unit = UNITS[type(track.codec)](number)
    key = track.codec.kind is Kind.AUDIO or number % 25 == 0 or isinstance(track.codec, MJPEG)
    stream.publish_frame(index, Frame((unit,), time, time, key=key), now)


def publish(codec: Codec, jump: Jump, *, packets: bool, count: int = 200) -> tuple[Stream, list[Frame]]:
    """Return the stream and the frames that a reader gets of a publisher of packets or of frames."""
    stream, reader = make_stream(Track(0, codec), packets=packets), Frames()
    stream.add_reader(reader)
    sender, sent = make_stream(Track(0, codec), packets=False), Packets()
    sender.add_reader(sent)
    for number in range(count):
        now = NOW + number * 0.04
        if not packets:
            write(stream, 0, number, jump(number), now)
        else:
            write(sender, 0, number, 0.0, now)
            sender.flush()
            off = round(jump(number) * sender.tracks[0].track.clock_rate)
            for packet in sent.batches[-1].runs[0].packets:
                publish_packet(stream, 0, rewrite(packet, timestamp=packet.timestamp + off), now)
        stream.flush()
    return stream, [entry for _, entry in reader.entries if isinstance(entry, Frame)]


def check(stream: Stream, frames: list[Frame], count: int) -> None:
    """Check that the timeline goes on in steps of a frame."""
    rate = stream.tracks[0].track.clock_rate
    assert len(frames) >= count
    steps = [(after.dts - before.dts) / rate for before, after in itertools.pairwise(frames)]
    assert min(steps) == pytest.approx(0.04, abs=0.001)
    assert max(steps) == pytest.approx(0.04, abs=0.001)


@pytest.mark.parametrize("packets", [True, False], ids=["packets", "frames"])
@pytest.mark.parametrize("seconds", [-3600.0, -30.0, 20.0, 9800.0])
@pytest.mark.parametrize("codec", CODECS, ids=repr)
async def test_a_jump_of_the_clock(
    codec: Codec, seconds: float, packets: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stream, frames = publish(codec, lambda number: seconds if number >= 110 else 0.0, packets=packets)
    check(stream, frames, 198)
    assert [index for index, frame in enumerate(frames) if frame.discontinuity] == [pytest.approx(111, abs=2)]


@pytest.mark.parametrize("packets", [True, False], ids=["packets", "frames"])
@pytest.mark.parametrize("seconds", [-30.0, 20.0, 9800.0])
@pytest.mark.parametrize("codec", CODECS, ids=repr)
async def test_one_frame_with_a_wrong_time(codec: Codec, seconds: float, packets: bool) -> None:
    stream, frames = publish(codec, lambda number: seconds if number == 110 else 0.0, packets=packets)
    check(stream, frames, 198)
    assert not any(frame.discontinuity for frame in frames)


async def test_a_time_jump_is_reported_once_and_then_periodically(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        logging.Logger, "_log", lambda _self, level, text, values, **_: lines.append(f"{level} {text % values}")
    )
    publish(VIDEO.codec, lambda number: number // 25 * -30.0, packets=True, count=25 * 70)
    warnings = [line for line in lines if "jumped" in line]
    assert warnings == [
        "30 the time of track 1 (H264) jumped by -30.0 s; the stream continues with a new part of the timeline",
        "30 the time of track 1 (H264) jumped by -30.0 s; the stream continues with a new part of the timeline"
        " (59 times more before)",
    ]


@pytest.mark.parametrize("at", [30, 33, 40], ids=["key frame", "second picture", "between key frames"])
@pytest.mark.parametrize("seconds", [-3600.0, -30.0, -0.5, 9800.0])
async def test_a_jump_of_reordered_pictures(encode: Encode, seconds: float, at: int) -> None:  # noqa: F811
    media = encode(
        "libx264",
        "mp4",
        "-bf",
        "3",
        "-g",
        "30",
        "-pix_fmt",
        "yuv420p",
        source=("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=6"),
    )
    codec, size = h264.parse_configuration_record(media.box(b"avcC"))
    packetizer = H264Packetizer(96, 1, 0, 0)
    packetizer.codec = codec
    stream, reader = make_stream(Track(0, codec)), Frames()
    stream.add_reader(reader)
    shown = [float(packet["pts_time"]) for packet in media.packets]
    for number, (data, pts) in enumerate(zip(media.packet_data(), shown, strict=True)):
        units = tuple(split_length_prefixed(data, size))
        off = seconds if number >= at else 0.0
        frame = Frame(units, round((pts + off) * 90_000), 0, key=h264.is_key(units))
        for packet in packetizer.packetize(frame):
            packet.key = frame.key
            publish_packet(stream, 0, packet, NOW + number * 0.04)
        stream.flush()
    frames = [entry for _, entry in reader.entries if isinstance(entry, Frame)]
    assert len(frames) >= len(shown) - 8
    assert all(frame.dts <= frame.pts for frame in frames)
    dts = [frame.dts / 90_000 for frame in frames]
    assert dts == sorted(dts)
    assert dts[-1] - dts[0] == pytest.approx((len(shown) - 1) * 0.04, abs=0.6)
    # After a second, pictures are as far apart as ever.
    late = sorted(frame.pts for frame in frames[-80:])[5:]
    assert late == [late[0] + 3600 * step for step in range(75)]
    assert sum(frame.discontinuity for frame in frames) == 1


@pytest.mark.parametrize("delay", [0, 2, 10], ids=lambda delay: f"sound {delay} frames later")
@pytest.mark.parametrize("seconds", [-3600.0, -30.0, 9800.0])
@pytest.mark.parametrize("packets", [True, False], ids=["packets", "frames"])
async def test_tracks_stay_in_sync_over_a_jump(seconds: float, delay: int, packets: bool) -> None:
    sound = Track(1, Opus())
    stream, reader = make_stream(VIDEO, sound, packets=packets), Frames()
    sender, sent = make_stream(VIDEO, sound, packets=False), Packets()
    stream.add_reader(reader)
    sender.add_reader(sent)
    for number in range(200):
        now = NOW + number * 0.04
        for index in (0, 1):
            off = seconds if number >= 110 + index * delay else 0.0
            if not packets:
                write(stream, index, number, off, now)
                continue
            write(sender, index, number, 0.0, now)
            sender.flush()
            ticks = round(off * sender.tracks[index].track.clock_rate)
            for packet in sent.batches[-1].runs[0].packets:
                publish_packet(stream, index, rewrite(packet, timestamp=packet.timestamp + ticks), now)
        stream.flush()
    last = {index: entry for index, entry in reader.entries if isinstance(entry, Frame)}
    assert last[0].pts / 90_000 == pytest.approx(last[1].pts / 48_000, abs=0.001)


async def test_sender_reports_put_a_track_in_sync_that_jumped_alone() -> None:
    sound = Track(1, Opus())
    stream, reader = make_stream(VIDEO, sound), Frames()
    sender, sent = make_stream(VIDEO, sound, packets=False), Packets()
    stream.add_reader(reader)
    sender.add_reader(sent)
    wall = WallTime(1_700_000_000 * NANOSECONDS)
    bases: dict[int, int] = {}
    for number in range(300):
        now = NOW + number * 0.04
        for index in (0, 1):
            if index == 1 and 100 <= number < 112:
                continue  # the sound is interrupted while its clock is set: arrival alone says too little
            write(sender, index, number, 0.0, now)
            sender.flush()
            rate = sender.tracks[index].track.clock_rate
            off = 500 * rate + rate * 3 // 10 if index == 1 and number >= 112 else 0
            for packet in sent.batches[-1].runs[0].packets:
                timestamp = (packet.timestamp + off) & 0xFFFFFFFF
                publish_packet(stream, index, rewrite(packet, timestamp=timestamp), now)
                bases[index] = timestamp - round(number * 0.04 * rate)
        if number % 50 == 10:
            for index in (0, 1):
                rate = sender.tracks[index].track.clock_rate
                timestamp = (bases[index] + round(number * 0.04 * rate)) & 0xFFFFFFFF
                ntp = wall_time_to_ntp(WallTime(wall + number * 40_000_000))
                stream.on_sender_report(index, SenderReport(1, ntp, timestamp, 1, 1), now)
        stream.flush()
    last = {index: entry for index, entry in reader.entries if isinstance(entry, Frame)}
    assert last[0].pts / 90_000 == pytest.approx(last[1].pts / 48_000, abs=0.11)
    assert last[0].wall_time == pytest.approx(wall + 299 * 40_000_000, abs=2_000_000)
    assert last[1].wall_time == pytest.approx(wall + 299 * 40_000_000, abs=2_000_000)


@pytest.mark.parametrize("seconds", [-3600.0, 9800.0])
async def test_reports_for_readers_over_rtp_do_not_jump(seconds: float) -> None:
    stream, reader = make_stream(VIDEO), Packets()
    stream.add_reader(reader)
    sender, sent = make_stream(VIDEO, packets=False), Packets()
    sender.add_reader(sent)
    reports = stream.tracks[0].reports
    told: list[tuple[float, float]] = []
    for number in range(300):
        now = NOW + number * 0.04
        write(sender, 0, number, 0.0, now)
        sender.flush()
        off = round(seconds * 90_000) if number >= 140 else 0
        for packet in sent.batches[-1].runs[0].packets:
            timestamp = (packet.timestamp + off) & 0xFFFFFFFF
            publish_packet(stream, 0, rewrite(packet, timestamp=timestamp), now)
        if number == 10:
            report = SenderReport(1, wall_time_to_ntp(WallTime(1_700_000_000 * NANOSECONDS)), timestamp, 1, 1)
            stream.on_sender_report(0, report, now)
        reports.on_packet(timestamp, now, WallTime(round(1_800_000_000 * NANOSECONDS + now * NANOSECONDS)))
        if number > 10 and number % 25 == 0:
            mine = reports.report(1, now, WallTime(0), 1, 1)
            assert mine is not None
            told.append((ntp_to_wall_time(mine.ntp) / NANOSECONDS, now))
    first = told[0][0] - told[0][1]
    assert all(wall - now == pytest.approx(first, abs=0.1) for wall, now in told)


@pytest.mark.parametrize("first", [True, False], ids=["packets first", "frames first"])
@pytest.mark.parametrize("second", [True, False], ids=["then packets", "then frames"])
async def test_another_publisher_is_a_discontinuity_on_the_same_time_line(first: bool, second: bool) -> None:
    sound = Track(1, Opus())
    stream, reader = make_stream(VIDEO, sound, packets=first), Frames()
    stream.add_reader(reader)
    for publisher, packets in enumerate((first, second)):
        sender, sent = make_stream(VIDEO, sound, packets=False), Packets()
        sender.add_reader(sent)
        if publisher:
            assert stream.resume(stream.descriptions, publishes_packets=packets)
        for number in range(50):
            now = NOW + publisher * 5 + number * 0.04
            for index in (0, 1):
                if not packets:
                    write(stream, index, number, 777.0 * publisher, now)
                    continue
                write(sender, index, number, 0.0, now)
                sender.flush()
                for packet in sent.batches[-1].runs[0].packets:
                    publish_packet(stream, index, packet, now)
            stream.flush()
    for index, rate in ((0, 90_000), (1, 48_000)):
        frames = [entry for track, entry in reader.entries if track == index and isinstance(entry, Frame)]
        assert len(frames) == pytest.approx(100, abs=2)
        assert [frame.discontinuity for frame in frames].index(True) == pytest.approx(50, abs=1)
        assert sum(frame.discontinuity for frame in frames) == 1
        if not (first and second):  # timestamps of packets are continued by the clock of the loop
            assert (frames[-1].dts - frames[0].dts) / rate == pytest.approx(6.96, abs=0.15)
    last = {index: entry for index, entry in reader.entries if isinstance(entry, Frame)}
    assert last[0].pts / 90_000 == pytest.approx(last[1].pts / 48_000, abs=0.05)
