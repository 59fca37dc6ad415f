"""Where segments and parts begin and end, whatever the publisher and the disk do."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.record.support import START, Recording, Written, read
from tests.wire.hls.streams import (
    AUDIO,
    OTHER_PPS,
    OTHER_SPS,
    VIDEO,
    Timed,
    audio,
    merge,
    regular,
    track,
    video,
)

from polycast.media.codec import H264, MPEG4Audio, MPEGAudio
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import Track

BOTH = (track(0, VIDEO), track(1, AUDIO))
RATES = {0: 90_000, 1: 48_000}
SECOND = 1_000_000_000


def both(seconds: int, *, start: int = 0, gop: int = 30, **options: Any) -> list[Timed]:
    """Return pictures, 30 a second, with a key frame each second, and sound."""
    pictures = video(0, regular(seconds, gop=gop, start=start * 90_000), **options)
    return merge(RATES, pictures, audio(1, seconds, start=start * 48_000))


def times(files: Iterable[Written]) -> list[tuple[float, float]]:
    """Return start and duration of files in seconds."""
    return [(file.start.time / SECOND, (file.duration or 0) / SECOND) for file in files]


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the boxes of a file: type and content."""
    found = []
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        found.append((kind, data[8:size]))
        data = data[size:]
    return found


def frames_in(files: Iterable[Written], folder: Path) -> int:
    return sum(len(packets) for file in files for packets in read(file, folder, [VIDEO, AUDIO], "fmp4"))


def test_the_layout_of_a_file() -> None:
    recording = Recording(BOTH, part=0.5)
    recording.write(both(1, start=1))
    (file,) = recording.close()
    kinds = [kind for kind, _ in boxes(file.data)]
    assert kinds == [b"ftyp", b"moov", *(b"moof", b"mdat") * len(file.parts)]
    assert 2 <= len(file.parts) <= 3
    assert file.data.startswith(b"\0\0\0\x20ftypmp42\0\0\0\x01mp41mp42isomhlsf")
    information = file.data[file.data.index(b"mtxi") :]
    number, time, wall_time = struct.unpack(">Qqq", information[24:48])
    assert information[4:24] == b"\0\0\0\0" + file.start.stream.bytes
    assert (number, time, wall_time) == (0, SECOND, START + SECOND)


def test_segments_begin_at_key_frames_with_all_sound_of_their_time() -> None:
    recording = Recording(BOTH, segment=2.5)
    recording.write(both(8, start=1))
    files = recording.close()
    assert [start for start, _ in times(files)] == [1.0, 4.0, 7.0]
    assert [duration for _, duration in times(files)][:2] == [3.0, 3.0]
    assert [file.start.number for file in files] == [0, 1, 2]


def test_recording_begins_with_a_key_frame_and_sound_at_once(tmp_path: Path) -> None:
    recording = Recording(BOTH, segment=10)
    recording.write(timed for timed in both(3, start=1) if timed[0] == 1 or timed[1].dts > 90_000)
    (file,) = recording.close()
    pictures, sound = read(file, tmp_path, [VIDEO, AUDIO], "fmp4")
    assert (pictures[0].dts, pictures[0].key, len(pictures)) == (2.0, True, 60)
    assert (sound[0].dts, len(sound)) == (1.0, 141)


def test_the_last_frame_of_a_file_is_written(tmp_path: Path) -> None:
    recording = Recording(BOTH[:1], segment=60)
    recording.write(video(0, [(90_000 * second, True) for second in range(1, 5)]))
    (file,) = recording.close()
    assert len(read(file, tmp_path, [VIDEO], "fmp4")[0]) == 4
    assert file.duration == 4 * SECOND


def test_sound_alone() -> None:
    recording = Recording([track(0, AUDIO)], segment=1)
    recording.write(audio(0, 3, start=48_000))
    files = recording.close()
    assert [start for start, _ in times(files)] == pytest.approx([1.0, 2.003, 3.005], abs=0.001)


def test_sound_is_recorded_while_the_announced_video_does_not_come() -> None:
    recording = Recording(BOTH, segment=1)
    recording.write(audio(1, 3, start=48_000))
    recording.write(both(3, start=4))
    files = recording.close()
    starts = [start for start, _ in times(files)]
    assert starts[:3] == pytest.approx([1.0, 2.003, 3.005], abs=0.001)
    assert starts[3:] == [5.0, 6.0]


def test_video_that_ends_does_not_keep_a_segment_open(tmp_path: Path) -> None:
    recording = Recording(BOTH, segment=5)
    recording.write(both(2, start=1))
    recording.write(audio(1, 40, start=3 * 48_000))
    files = recording.close()
    assert len(files) > 3
    assert frames_in(files, tmp_path) == 60 + 94 + 1875


def test_a_part_has_its_duration_or_its_size() -> None:
    recording = Recording(BOTH[:1], segment=60, part=1)
    recording.write(video(0, regular(4, start=90_000), size=1000))
    assert [len(file.parts) for file in recording.close()] == [4]
    recording = Recording(BOTH[:1], segment=60, part=60, part_size=30_000)
    recording.write(video(0, regular(4, start=90_000), size=1000))
    (file,) = recording.close()
    assert len(file.parts) == 5
    assert all(len(part) <= 32_000 for part in file.parts)


def test_a_frame_larger_than_a_part_is_a_part_of_its_own(tmp_path: Path) -> None:
    recording = Recording(BOTH[:1], segment=60, part=60, part_size=500)
    recording.write(video(0, regular(1, start=90_000), size=1000))
    (file,) = recording.close()
    assert len(file.parts) == 30
    assert len(read(file, tmp_path, [VIDEO], "fmp4")[0]) == 30


def test_new_parameters_of_a_codec_begin_a_segment(tmp_path: Path) -> None:
    recording = Recording(BOTH, segment=60)
    recording.write(both(2, start=1))
    recording.segmenter.change_track(0, Track(0, H264(OTHER_SPS, OTHER_PPS)))
    recording.write(both(2, start=3, sps=OTHER_SPS, pps=OTHER_PPS))
    before, after = recording.close()
    assert times([before, after]) == [(1.0, 2.0), (3.0, pytest.approx(2.0, abs=0.03))]
    assert (before.start.stream, after.start.number) == (after.start.stream, 1)
    assert (OTHER_SPS in before.data, OTHER_SPS in after.data) == (False, True)
    assert frames_in([before, after], tmp_path) == 120 + 188


def test_the_same_parameters_do_not() -> None:
    recording = Recording(BOTH, segment=60)
    recording.write(both(1, start=1))
    recording.segmenter.change_track(0, Track(0, H264(*VIDEO_SETS)))
    recording.write(both(1, start=2))
    assert len(recording.close()) == 1


VIDEO_SETS = (VIDEO.sps, VIDEO.pps)


def test_a_file_begins_when_the_parameters_of_all_tracks_are_known(tmp_path: Path) -> None:
    """Those of the video come with its first key frame, two seconds after the sound."""
    recording = Recording([track(0, AUDIO), Track(1, H264())], segment=60)
    recording.write(audio(0, 2, start=48_000))
    assert recording.files == []
    recording.segmenter.change_track(1, Track(1, VIDEO))
    pictures = video(1, regular(2, start=3 * 90_000))
    recording.write(merge({0: 48_000, 1: 90_000}, audio(0, 2, start=3 * 48_000), pictures))
    (file,) = recording.close()
    assert file.start.time == SECOND
    assert [len(packets) for packets in read(file, tmp_path, [AUDIO, VIDEO], "fmp4")] == [188, 60]


@pytest.mark.parametrize("rate", [90_000, 48_000], ids=["video", "sound"])
def test_a_track_that_stays_unknown_does_not_keep_the_others_waiting(rate: int) -> None:
    unknown = Track(1, H264() if rate == 90_000 else MPEGAudio())
    recording = Recording([track(0, AUDIO), unknown], segment=60)
    recording.write(audio(0, 15, start=48_000))
    (file,) = recording.files
    assert file.start.time == SECOND
    (file,) = recording.close()
    assert file.duration == pytest.approx(15 * SECOND, abs=SECOND // 40)


def test_a_track_whose_parameters_come_late_is_not_lost(tmp_path: Path) -> None:
    recording = Recording([track(0, AUDIO), Track(1, H264())], segment=60)
    recording.write(audio(0, 12, start=48_000))
    recording.segmenter.change_track(1, Track(1, VIDEO))
    pictures = video(1, regular(2, start=13 * 90_000))
    recording.write(merge({0: 48_000, 1: 90_000}, audio(0, 2, start=13 * 48_000), pictures))
    before, after = recording.close()
    assert before.start.stream == after.start.stream
    assert (
        len(read(before, tmp_path, [AUDIO], "fmp4")[0]) + len(read(after, tmp_path, [AUDIO, VIDEO], "fmp4")[0])
        == 563 + 94
    )
    assert len(read(after, tmp_path, [AUDIO, VIDEO], "fmp4")[1]) == 60


def test_frames_without_known_parameters_are_left_out() -> None:
    recording = Recording([Track(0, MPEGAudio()), Track(1, MPEG4Audio(b""))], segment=60)
    recording.write(audio(0, 1, rate=90_000))
    assert recording.close() == []


def test_a_pause_of_the_publisher_divides_the_recording() -> None:
    recording = Recording(BOTH, segment=60)
    recording.write(both(2, start=1))
    frames = both(2, start=10)
    for _, frame in frames[:2]:
        frame.discontinuity = True
    recording.write(frames)
    before, after = recording.close()
    assert times([before, after]) == [(1.0, pytest.approx(2.0, abs=0.03)), (10.0, pytest.approx(2.0, abs=0.03))]
    assert before.start.stream != after.start.stream
    assert after.start.number == 0


def test_a_short_pause_does_not_divide_it() -> None:
    recording = Recording(BOTH, segment=60)
    recording.write(both(2, start=1))
    frames = both(2, start=3)
    for _, frame in frames[:2]:
        frame.discontinuity = True
    recording.write(frames)
    before, after = recording.close()
    assert (before.start.stream, before.end) == (after.start.stream, after.start.time)


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_a_clock_that_is_set_begins_a_segment_with_the_new_date(shift: float) -> None:
    recording = Recording(BOTH, segment=60)
    recording.write(both(2, start=1))
    recording.clock_shift = shift
    recording.write(both(2, start=3))
    before, after = recording.close()
    assert after.start.wall_time == pytest.approx(START + round((3 + shift) * SECOND), abs=SECOND // 10)
    assert before.start.stream != after.start.stream
    assert after.start.time == 3 * SECOND


def test_dates_follow_the_clock_of_the_publisher() -> None:
    """It is known exactly, and some seconds behind: the network was slow."""
    recording = Recording(BOTH[:1], segment=1)
    for _, frame in video(0, regular(4, start=90_000)):
        frame.wall_time = WallTime(START - 3 * SECOND + frame.pts * SECOND // 90_000)
        recording.write([(0, frame)])
    assert [file.start.wall_time for file in recording.close()] == [
        pytest.approx(START + (second - 3) * SECOND, abs=SECOND // 1000) for second in range(1, 5)
    ]


def test_a_publisher_whose_clock_is_wrong_does_not_decide_the_date() -> None:
    recording = Recording(BOTH[:1], segment=60)
    for _, frame in video(0, regular(2, start=90_000)):
        frame.wall_time = WallTime(frame.pts * SECOND // 90_000)
        recording.write([(0, frame)])
    (file,) = recording.close()
    assert file.start.wall_time == START + SECOND


def test_a_publisher_whose_clock_is_trusted_decides_the_date() -> None:
    recording = Recording(BOTH[:1], segment=60, trusts=True)
    for _, frame in video(0, regular(2, start=90_000)):
        frame.wall_time = WallTime(frame.pts * SECOND // 90_000)
        recording.write([(0, frame)])
    (file,) = recording.close()
    assert file.start.wall_time == pytest.approx(SECOND, abs=SECOND // 1000)


def test_media_that_drifts_from_the_clock_begins_anew_without_a_loss(tmp_path: Path) -> None:
    """The publisher's clock is 10 % too fast."""
    recording = Recording(BOTH[:1], segment=3600, part=1)
    pictures = list(video(0, regular(200, start=90_000)))
    for _, frame in pictures:
        recording.now = frame.dts / 90_000 * 0.9
        recording.segmenter.write(0, frame, recording.arrival())
    files = recording.close()
    assert len(files) > 1
    for file in files:
        assert abs(file.start.wall_time - START - file.start.time * 0.9) < 2.1 * SECOND
    assert sum(len(read(file, tmp_path, [VIDEO], "fmp4")[0]) for file in files) == len(pictures)


def test_seconds_that_are_sent_at_once_do_not_tear_the_recording() -> None:
    recording = Recording(BOTH[:1], segment=3600, part=1)
    pictures = list(video(0, regular(60, start=90_000)))
    for _, frame in pictures:
        seconds = frame.dts / 90_000
        recording.now = max(recording.now, 30.0 if 20 < seconds < 30 else seconds)
        recording.segmenter.write(0, frame, recording.arrival())
    assert len(recording.close()) == 1


def test_without_room_everything_up_to_a_key_frame_is_dropped(tmp_path: Path) -> None:
    recording = Recording(BOTH, segment=60, part=0.2)
    recording.write(both(2, start=1))
    recording.shelf.room = False
    recording.write(both(2, start=3))
    recording.shelf.room = True
    recording.write(both(2, start=5, gop=20)[10:])
    (file,) = recording.close()
    pictures, sound = read(file, tmp_path, [VIDEO, AUDIO], "fmp4")
    lost = [packet for packet in pictures if 3.3 < packet.dts < 5.6]
    assert lost == []
    assert next(packet for packet in pictures if packet.dts > 5).key
    dropped = recording.segmenter.counters.dropped
    assert len(pictures) + len(sound) + dropped == 3 * (60 + 94) - 10
    assert 0.5 < dropped / (2 * 77 + 60) < 1.5


def test_a_head_that_found_no_room_is_not_missing_later(tmp_path: Path) -> None:
    recording = Recording(BOTH, segment=60, part=0.2)
    recording.shelf.room = False
    recording.write(both(2, start=1))
    recording.shelf.room = True
    recording.write(both(2, start=3))
    (file,) = recording.close()
    assert file.data[4:8] == b"ftyp"
    assert file.start.time == 3 * SECOND
    assert len(read(file, tmp_path, [VIDEO, AUDIO], "fmp4")[0]) == 60


def test_a_segment_that_was_lost_is_followed_by_another_recording() -> None:
    recording = Recording(BOTH, segment=60, part=0.2)
    recording.write(both(2, start=1))
    recording.segmenter.abandon()
    recording.write(both(2, start=3))
    lost, file = recording.close()
    assert lost.duration is None
    assert file.start.stream != lost.start.stream
    assert times([file]) == [(3.0, pytest.approx(2.0, abs=0.03))]


def test_a_track_that_lags_behind_is_not_cut(tmp_path: Path) -> None:
    """The sound comes 0.8 s after its pictures, which is more than is waited for."""
    recording = Recording(BOTH, segment=1)
    frames = [(frame.dts / RATES[index] + 0.8 * index, index, frame) for index, frame in both(5, start=1)]
    recording.write((index, frame) for _, index, frame in sorted(frames, key=lambda item: item[:2]))
    files = recording.close()
    assert recording.segmenter.counters.late == 0
    assert frames_in(files, tmp_path) == 150 + 235


def test_a_frame_that_cannot_be_written_is_left_out() -> None:
    recording = Recording([track(0, AUDIO)], "mpegts", segment=60)
    frames = list(audio(0, 1, start=48_000))
    frames[5] = (0, Frame((bytes(9000),), frames[5][1].pts, frames[5][1].dts, key=True))  # longer than ADTS allows
    recording.write(frames)
    (file,) = recording.close()
    assert recording.segmenter.counters.invalid == 1
    assert len(recording.shelf.invalid) == 1
    assert file.duration == pytest.approx(SECOND, abs=SECOND // 40)


def test_files_of_mpegts_continue_each_other() -> None:
    recording = Recording(BOTH, "mpegts", segment=1)
    recording.write(both(3, start=1))
    files = recording.close()
    assert len(files) == 3
    counters: dict[int, int] = {}
    for packet in (file.data[at : at + 188] for file in files for at in range(0, len(file.data), 188)):
        identifier = (packet[1] & 0x1F) << 8 | packet[2]
        if packet[3] & 0x10:
            assert packet[3] & 15 == (counters.get(identifier, (packet[3] & 15) - 1) + 1) & 15
            counters[identifier] = packet[3] & 15
    for file in files:
        assert [(file.data[at + 1] & 0x1F) << 8 | file.data[at + 2] for at in (0, 188)] == [0, 0x1000]
