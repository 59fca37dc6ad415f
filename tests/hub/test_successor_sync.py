"""A publisher of frames after one of packets: for readers of packets, the tracks stay in sync and never go back."""

from __future__ import annotations

import itertools
import struct

import pytest
from tests.hub.support import AUDIO, VIDEO, Packets, make_stream, publish_data

from polycast.hub import stream_clock
from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.hub.successor import incompatibility
from polycast.media.codec import G711, LPCM, Codec, MPEG4Audio, Opus
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime, wall_time_to_ntp
from polycast.media.track import RtpFormat, Track
from polycast.rtp.payload.registry import rtp_format_for
from polycast.rtp.rtcp import SenderReport

RATES = (90_000, 48_000)
KEY = bytes.fromhex("6588") + bytes(20)
SOUND = bytes.fromhex("0010") + struct.pack("!H", 4 << 3) + bytes(4)


class Wall:
    """The clock on the wall, which tests move. It stands in for the module ``time``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time_ns(self) -> int:
        return round((1_700_000_000 + self.seconds) * 10**9)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    found = Wall()
    monkeypatch.setattr(stream_clock, "time", found)
    return found


def packet(track: int, sequence: int, timestamp: int) -> bytes:
    payload = SOUND if track else KEY
    return struct.pack("!BBHII", 0x80, 0x80 | 96 + track, sequence, timestamp, 7 + track) + payload


def last_packets(reader: Packets, track: int) -> list[tuple[int, int]]:
    """Return sequence numbers and timestamps of what a reader got of a track."""
    return [
        (each.sequence, each.timestamp)
        for batch in reader.batches
        for run in batch.runs
        if run.track_index == track
        for each in run.packets
    ]


def published(wall: Wall, ahead: float) -> tuple[Stream, Packets]:
    """Return a stream of packets whose sound was sent ahead of time, by so many seconds, and a reader of it."""
    stream = make_stream(VIDEO, AUDIO)
    reader = Packets()
    stream.add_reader(reader)
    start = wall.time_ns()
    for track, rate in enumerate(RATES):
        wall.seconds = 0.0
        publish_data(stream, track, packet(track, 10, 1000), 0.0)
        # The reports say that timestamp 1000 is the same moment in both tracks.
        stream.on_sender_report(track, SenderReport(7 + track, wall_time_to_ntp(WallTime(start)), 1000, 1, 1), 0.0)
        wall.seconds = 2.0
        seconds = 2.0 + (ahead if track else 0.0)
        publish_data(stream, track, packet(track, 11, 1000 + round(seconds * rate)), 2.0)
    stream.flush()
    return stream, reader


@pytest.mark.parametrize("ahead", [0.0, 0.3, -0.3])
async def test_the_reports_stay_valid(wall: Wall, ahead: float) -> None:
    stream, reader = published(wall, ahead)
    before = [track.reports.wall_time_of(1000) for track in stream.tracks]
    assert stream.resume([VIDEO, AUDIO], publishes_packets=False)
    for number in range(40):
        wall.seconds = 2.1 + number / 40
        for track, rate in enumerate(RATES):
            time_ = round(number * rate / 40)
            unit = KEY if track == 0 else bytes(4)
            stream.publish_frame(track, Frame((unit,), time_, time_, key=True), 2.1 + number / 40)
    stream.flush()
    moments = []
    for track, rate in enumerate(RATES):
        assert stream.tracks[track].reports.wall_time_of(1000) == pytest.approx(before[track], abs=2_000_000)
        found = last_packets(reader, track)
        assert [sequence for sequence, _ in found] == list(range(10, 10 + len(found)))
        steps = [after[1] - before_[1] for before_, after in itertools.pairwise(found)]
        assert min(steps) > 0
        moments.append(found[-1][1] / rate)
    if ahead >= 0:
        assert moments[0] - 1000 / RATES[0] == pytest.approx(moments[1] - 1000 / RATES[1], abs=0.01)


async def test_reports_that_are_wrong_do_not_count(wall: Wall) -> None:
    stream, reader = published(wall, 0.0)
    stream.tracks[1].reports.on_publisher_report(wall_time_to_ntp(WallTime(wall.time_ns() - 3600 * 10**9)), 1000, 2.0)
    assert stream.resume([VIDEO, AUDIO], publishes_packets=False)
    wall.seconds = 2.5
    stream.publish_frame(1, Frame((bytes(4),), 0, 0, key=True), 2.5)
    stream.flush()
    found = last_packets(reader, 1)
    assert found[-1][1] - found[-2][1] == pytest.approx(0.5 * 48_000, abs=2)


def described(
    codec: Codec, parameters: str | None = None, payload_type: int = 97, encoding: str | None = None
) -> Track:
    form = rtp_format_for(codec, payload_type)
    assert form is not None
    return Track(
        0,
        codec,
        RtpFormat(
            payload_type,
            form.encoding if encoding is None else encoding,
            form.clock_rate,
            form.channels,
            form.parameters if parameters is None else parameters,
        ),
    )


AAC = MPEG4Audio(bytes.fromhex("1190"), 48_000, 2)
AAC_WORDS = "streamtype=5;profile-level-id=2; mode=aac-hbr;SizeLength=13;IndexLength=3;IndexDeltaLength=3"
SAME = [
    (described(AAC), described(AAC, AAC_WORDS, 100)),
    (described(AAC), described(MPEG4Audio(bytes.fromhex("119056e500"), 48_000, 2))),
    (described(Opus(2)), described(Opus(1))),
    (described(Opus(2)), described(Opus(2), "minptime=10;useinbandfec=1", 111)),
    (described(G711(True)), described(G711(True), "", 0, "")),
    (described(LPCM(16, 44_100, 2)), described(LPCM(16, 44_100, 2), "", 10)),
]
OTHER = [
    (described(AAC), described(AAC, AAC_WORDS.replace("13", "6")), "AAC configuration does not match, is 'mpeg4"),
    (described(AAC), described(MPEG4Audio(bytes.fromhex("1188"), 48_000, 1)), "is sampleRate=48000, channelCount=1"),
    (described(AAC), described(MPEG4Audio(b"\xff", 48_000, 2)), "AAC configuration does not match"),
    (described(AAC), described(AAC, "cpresent=0; config=400023203fc0", 97, "MP4A-LATM"), "is 'MP4A-LATM"),
    (described(Opus(2)), described(Opus(6)), "Opus configuration does not match"),
    (described(G711(True)), described(G711(False)), "is muLaw=false, sampleRate=8000, channelCount=1"),
    (described(LPCM(16, 8_000, 1)), described(LPCM(24, 8_000, 1)), "is bitDepth=24"),
    (described(AAC), described(Opus(2)), "wants to publish [Opus], but stream expects [AAC]"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_readers_can_continue(old: Track, new: Track) -> None:
    assert incompatibility([old], [new]) == ""
    assert incompatibility([new], [old]) == ""


@pytest.mark.parametrize(("old", "new", "reason"), OTHER)
def test_readers_cannot_continue(old: Track, new: Track, reason: str) -> None:
    assert reason in incompatibility([old], [new])
    assert incompatibility([new], [old])


class Frames(FrameReader):
    """Keeps the frames of a track, by default those of the picture."""

    def __init__(self, track: int = 0) -> None:
        self.track = track
        self.got: list[Frame] = []

    def deliver_frames(self, batch: FrameBatch) -> None:
        self.got += [entry for index, entry in batch.entries if index == self.track and isinstance(entry, Frame)]

    def close_reader(self, reason: str) -> None: ...

    def reference(self) -> Reference:
        return Reference("test")


def publish_packets(stream: Stream, wall: Wall) -> None:
    """Publish a packet of each track, and a report that both are of the same time."""
    for track in range(2):
        publish_data(stream, track, packet(track, 10, 90_000), 0.0)
        stream.on_sender_report(track, SenderReport(7, wall_time_to_ntp(WallTime(wall.time_ns())), 90_000, 1, 1), 0)


def publish_frames(stream: Stream, wall: Wall, count: int) -> None:
    """Publish frames of both tracks from second 1 on, ten a second."""
    for number in range(count):
        wall.seconds = 1.0 + number / 10
        for track, rate in enumerate(RATES):
            unit = KEY if track == 0 else bytes(4)
            time_ = round(number * rate / 10)
            stream.publish_frame(track, Frame((unit,), time_, time_, key=True), wall.seconds)


@pytest.mark.parametrize("is_first", [True, False])
async def test_reports_before_the_first_packets_of_a_successor(wall: Wall, is_first: bool) -> None:
    """FFmpeg sends them first: they tell when its frames were captured, not when the stream began."""
    stream = make_stream(VIDEO, AUDIO, packets=not is_first)
    reader = Frames()
    stream.add_reader(reader)
    if not is_first:  # the reports of an earlier publisher of packets are not its successor's
        publish_packets(stream, wall)
        stream.resume([VIDEO, AUDIO], publishes_packets=False)
    publish_frames(stream, wall, 80)
    stream.resume([VIDEO, AUDIO], publishes_packets=True)
    wall.seconds = 9.0
    ntp = wall_time_to_ntp(WallTime(wall.time_ns()))
    for track in range(2):
        stream.on_sender_report(track, SenderReport(7 + track, ntp, 5000, 0, 0), 9.0)
    for number in range(100):
        wall.seconds = 9.0 + number / 10
        for track, rate in enumerate(RATES):
            publish_data(stream, track, packet(track, 500 + number, 5000 + round(number * rate / 10)), wall.seconds)
    stream.flush()
    times = [(frame.wall_time or 0) / 1e9 - 1_700_000_000 for frame in reader.got[-100:]]
    assert times == pytest.approx([9.0 + number / 10 for number in range(100)], abs=0.01)


@pytest.mark.parametrize("early", [0.8, -0.8])
async def test_early_reports_of_a_successor_do_not_hide_later_ones(wall: Wall, early: float) -> None:
    """The timestamps of the tracks are unrelated, and sound is sent before its time: later reports bring it in sync."""
    stream = make_stream(VIDEO, AUDIO)
    readers = Frames(0), Frames(1)
    for reader in readers:
        stream.add_reader(reader)
    publish_packets(stream, wall)
    stream.resume([VIDEO, AUDIO], publishes_packets=False)
    publish_frames(stream, wall, 10)
    stream.resume([VIDEO, AUDIO], publishes_packets=True)
    starts = 3_000_000_000, 77_000_000

    def report(seconds: float) -> None:
        ntp = wall_time_to_ntp(WallTime(wall.time_ns()))
        for track, rate in enumerate(RATES):
            timestamp = starts[track] + round((seconds - 2.0) * rate) & 0xFFFFFFFF
            stream.on_sender_report(track, SenderReport(7 + track, ntp, timestamp, 1, 1), seconds)

    for number in range(100):
        wall.seconds = 2.0 + number / 10
        if number % 50 == 0:
            report(wall.seconds)
        for track, rate in enumerate(RATES):
            seconds = number / 10 + (early if track else 0)
            timestamp = starts[track] + round(seconds * rate) & 0xFFFFFFFF
            publish_data(stream, track, packet(track, 500 + number, timestamp), wall.seconds)
    stream.flush()
    picture, sound = (reader.got[-1].pts / rate for reader, rate in zip(readers, RATES, strict=True))
    assert sound - picture == pytest.approx(early, abs=0.01)
