"""Audio and video on one timeline."""

from __future__ import annotations

import pytest

from polycast.media.timebase import NANOSECONDS, WallTime, wall_time_to_ntp
from polycast.rtp.timeline import CORRECTION_THRESHOLD, START_TIME, Timeline

EPOCH = 1_700_000_000 * NANOSECONDS
VIDEO, AUDIO = 0, 1
VIDEO_RATE, AUDIO_RATE = 90_000, 48_000
VIDEO_START, AUDIO_START = 0xFFFFF000, 0x12345678


class Publisher:
    """Captures both tracks on one clock; ``seconds`` is capture time, ``now`` arrival."""

    def __init__(self) -> None:
        self.timeline = Timeline([VIDEO_RATE, AUDIO_RATE])

    def timestamp(self, track: int, seconds: float) -> int:
        start, rate = ((VIDEO_START, VIDEO_RATE), (AUDIO_START, AUDIO_RATE))[track]
        return (start + round(seconds * rate)) & 0xFFFFFFFF

    def report(self, track: int, seconds: float, clock: float = 0.0) -> None:
        ntp = wall_time_to_ntp(WallTime(EPOCH + round((seconds + clock) * NANOSECONDS)))
        self.timeline.on_sender_report(track, ntp, self.timestamp(track, seconds))

    def packet(self, track: int, seconds: float, now: float) -> float:
        """Return the time on the timeline in seconds."""
        pts = self.timeline.tracks[track].extend(self.timestamp(track, seconds), now)
        return pts / (VIDEO_RATE, AUDIO_RATE)[track]


def test_starts_near_zero_and_grows_over_the_wrap() -> None:
    publisher = Publisher()
    times = [publisher.packet(VIDEO, frame * 0.04, 100 + frame * 0.04) for frame in range(100)]
    assert times == pytest.approx([START_TIME + frame * 0.04 for frame in range(100)], abs=1e-9)


def test_in_sync_from_the_first_frame_with_reports() -> None:
    publisher = Publisher()
    publisher.report(VIDEO, 3.0)
    publisher.report(AUDIO, 3.5)
    video = publisher.packet(VIDEO, 4.0, 100.0)
    # Audio arrives 300 ms late, and began 70 ms earlier.
    audio = publisher.packet(AUDIO, 3.93, 100.3)
    assert video == START_TIME
    assert audio - video == pytest.approx(-0.07, abs=0.001)


def test_by_arrival_without_reports() -> None:
    publisher = Publisher()
    assert publisher.packet(VIDEO, 4.0, 100.0) == START_TIME
    assert publisher.packet(AUDIO, 9.0, 100.25) == pytest.approx(START_TIME + 0.25)
    assert publisher.timeline.tracks[VIDEO].wall_time(90_000) is None


@pytest.mark.parametrize("late", [0.4, 5.0])
def test_late_report_corrects_audio_that_is_shown_too_late(late: float) -> None:
    publisher = Publisher()
    video = publisher.packet(VIDEO, 0.0, 100.0)
    audio = publisher.packet(AUDIO, 0.0, 100.0 + late)
    publisher.report(VIDEO, 1.0)
    publisher.report(AUDIO, 1.0)
    next_video, next_audio = publisher.packet(VIDEO, 6.0, 106.0), publisher.packet(AUDIO, 6.0, 106.0)
    assert next_video == pytest.approx(next_audio, abs=0.001)
    assert next_video > video
    assert next_audio > audio
    # Once only: the clocks of reports drift.
    publisher.report(AUDIO, 7.0, clock=1.0)
    assert publisher.packet(AUDIO, 8.0, 108.0) - next_audio == pytest.approx(2.0, abs=0.001)


def test_late_report_corrects_video_that_is_shown_too_late() -> None:
    publisher = Publisher()
    publisher.packet(AUDIO, 0.0, 100.0)
    publisher.packet(VIDEO, 0.0, 100.5)
    publisher.report(AUDIO, 1.0)
    publisher.report(VIDEO, 1.0)
    assert publisher.packet(VIDEO, 2.0, 102.0) == pytest.approx(publisher.packet(AUDIO, 2.0, 102.0), abs=0.001)


def test_small_error_stays() -> None:
    publisher = Publisher()
    publisher.packet(VIDEO, 0.0, 100.0)
    publisher.packet(AUDIO, 0.0, 100.0 + CORRECTION_THRESHOLD * 0.9)
    publisher.report(VIDEO, 1.0)
    publisher.report(AUDIO, 1.0)
    difference = publisher.packet(AUDIO, 2.0, 102.0) - publisher.packet(VIDEO, 2.0, 102.0)
    assert difference == pytest.approx(CORRECTION_THRESHOLD * 0.9, abs=0.001)


def test_reports_of_different_clocks_are_ignored() -> None:
    publisher = Publisher()
    publisher.report(VIDEO, 0.0)
    publisher.report(AUDIO, 0.0, clock=86_400.0)
    publisher.packet(VIDEO, 0.0, 100.0)
    assert publisher.packet(AUDIO, 0.0, 100.02) == pytest.approx(START_TIME + 0.02, abs=0.001)


def test_wall_time() -> None:
    publisher = Publisher()
    publisher.report(VIDEO, 1.0)
    publisher.packet(VIDEO, 4.0, 100.0)
    wall_time = publisher.timeline.tracks[VIDEO].wall_time(round((START_TIME + 2.0) * VIDEO_RATE))
    assert wall_time is not None
    assert abs(wall_time - (EPOCH + 6 * NANOSECONDS)) < 20_000


def test_report_without_a_clock_is_ignored() -> None:
    timeline = Timeline([VIDEO_RATE])
    timeline.on_sender_report(0, 0, 0)
    timeline.tracks[0].extend(0, 1.0)
    assert timeline.tracks[0].wall_time(0) is None


@pytest.mark.parametrize("hours", [5, 7, 13, 14, 100])
def test_tracks_stay_in_sync_over_a_long_silence(hours: int) -> None:
    """While nobody needs frames no timestamps are extended; 32 bits of 90 kHz wrap every 13 hours."""
    publisher = Publisher()
    publisher.packet(VIDEO, 0.0, 100.0)
    publisher.packet(AUDIO, 0.0, 100.0)
    seconds = hours * 3600.0
    assert publisher.packet(VIDEO, seconds, 100 + seconds) == pytest.approx(START_TIME + seconds, abs=0.001)
    assert publisher.packet(AUDIO, seconds, 100.1 + seconds) == pytest.approx(START_TIME + seconds, abs=0.001)


def sync_point(publisher: Publisher, video: float, audio: float) -> None:
    publisher.timeline.set_sync_point(
        {VIDEO: publisher.timestamp(VIDEO, video), AUDIO: publisher.timestamp(AUDIO, audio)}
    )


@pytest.mark.parametrize("first", [VIDEO, AUDIO])
def test_in_sync_from_the_first_frame_with_a_sync_point(first: int) -> None:
    publisher = Publisher()
    sync_point(publisher, 3.0, 3.0)
    times = {first: publisher.packet(first, 4.0, 100.0)}
    # The other track arrives 400 ms late, and began 70 ms earlier.
    times[1 - first] = publisher.packet(1 - first, 3.93, 100.4)
    assert times[first] == START_TIME
    assert times[1 - first] - times[first] == pytest.approx(-0.07, abs=0.001)
    assert publisher.timeline.tracks[first].wall_time(90_000) is None, "it tells nothing of the wall clock"


@pytest.mark.parametrize("audio", [0.0, 5.0, 9000.0])
def test_a_sync_point_that_is_made_up(audio: float) -> None:
    publisher = Publisher()
    sync_point(publisher, 3.0, audio)
    assert publisher.packet(VIDEO, 4.0, 100.0) == START_TIME
    assert publisher.packet(AUDIO, 4.0, 100.1) == pytest.approx(START_TIME + 0.1)


def test_reports_correct_a_sync_point() -> None:
    publisher = Publisher()
    sync_point(publisher, 3.0, 3.5)
    video = publisher.packet(VIDEO, 4.0, 100.0)
    publisher.packet(AUDIO, 4.0, 100.1)
    publisher.report(VIDEO, 4.0)
    publisher.report(AUDIO, 4.0)
    assert publisher.packet(AUDIO, 5.0, 101.0) - publisher.packet(VIDEO, 5.0, 101.0) == pytest.approx(0, abs=0.001)
    assert publisher.packet(VIDEO, 5.0, 101.0) >= video + 1.0 - 0.001
