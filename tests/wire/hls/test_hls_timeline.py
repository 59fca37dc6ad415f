"""Times that jump, repeat or go back; and the wall clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.hls.checker import parse
from tests.wire.hls.streams import AUDIO, START, VIDEO, audio, feed, merge, options, regular, text, track, video

from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import Variant
from polycast.wire.hls.program_clock import ProgramClock, capture_time
from polycast.wire.hls.segment import format_time
from polycast.wire.hls.timeline import Timeline

RATES = {0: 90_000, 1: 48_000}
SECOND = 90_000


def place(timeline: Timeline, index: int, times: list[int]) -> list[int | None]:
    placed = (timeline.place(index, time, time) for time in times)
    return [None if each is None else each[1] for each in placed]


def test_the_time_line_starts_at_the_first_frame_of_the_leading_track() -> None:
    timeline = Timeline([90_000, 48_000], 0)
    assert timeline.place(1, 48_000 * 100, 48_000 * 100) is None
    assert timeline.place(0, SECOND * 100 + 6000, SECOND * 100) == (6000, 0)
    assert timeline.place(1, 48_000 * 100 - 10, 48_000 * 100 - 10) is None
    assert timeline.place(1, 48_000 * 100 + 480, 48_000 * 100 + 480) == (480, 480)


@pytest.mark.parametrize(
    ("times", "expected", "corrected_times", "discontinuities"),
    [
        ([0, 3000, 6000], [0, 3000, 6000], 0, 0),
        ([0, 3000, 3000, 3000, 6000], [0, 3000, 3001, 3002, 6000], 2, 0),
        ([0, 3000, 1000, 6000], [0, 3000, 3001, 6000], 1, 0),
        ([0, 3000, SECOND * 3600, SECOND * 3600 + 3000], [0, 3000, 6000, 9000], 0, 1),
        ([SECOND * 3600, SECOND * 3600 + 3000, 0, 3000], [0, 3000, 6000, 9000], 0, 1),
        ([0, 3000, SECOND * 9, SECOND * 9 + 3000], [0, 3000, SECOND * 9, SECOND * 9 + 3000], 0, 0),
        ([0, 3000, -(1 << 70), 1 << 70], [0, 3000, 6000, 9000], 0, 2),
    ],
)
def test_times_of_the_leading_track(
    times: list[int], expected: list[int], corrected_times: int, discontinuities: int
) -> None:
    timeline = Timeline([90_000], 0)
    assert place(timeline, 0, times) == expected
    assert (timeline.counters.corrected_times, timeline.counters.discontinuities) == (corrected_times, discontinuities)


def test_other_tracks_follow_a_jump_of_the_leading_one() -> None:
    timeline = Timeline([90_000, 48_000], 0)
    place(timeline, 0, [0, 3000])
    assert place(timeline, 1, [0, 1024]) == [0, 1024]
    place(timeline, 0, [SECOND * 1000, SECOND * 1000 + 3000])
    assert place(timeline, 1, [2048, 3072]) == [None, None]  # still at the old time
    assert place(timeline, 1, [48_000 * 1000, 48_000 * 1000 + 1024]) == [3200, 4224]
    assert timeline.counters.out_of_sync == 2


@pytest.mark.parametrize("stall", [5, 30, 300])
def test_a_stall_of_the_leading_track_does_not_cost_the_sync(stall: int) -> None:
    timeline = Timeline([90_000, 48_000], 0)
    place(timeline, 0, [0, 3000])
    times = list(range(0, stall * 48_000, 4800))
    assert place(timeline, 1, times) == times
    assert place(timeline, 0, [stall * SECOND, stall * SECOND + 3000]) == [stall * SECOND, stall * SECOND + 3000]
    assert place(timeline, 1, [stall * 48_000]) == [stall * 48_000]
    assert timeline.counters.discontinuities == timeline.counters.out_of_sync == 0


def test_a_shifted_track_is_in_sync_again_after_a_jump_of_all_tracks() -> None:
    timeline = Timeline([90_000, 48_000], 0)
    place(timeline, 0, [0])
    for number in range(1, 100):  # the audio clock is 5000 s ahead: it is moved
        place(timeline, 0, [number * 3000])
        place(timeline, 1, [48_000 * 5000 + number * 1600])
    assert place(timeline, 0, [SECOND * 9000]) == [100 * 3000]
    assert place(timeline, 1, [48_000 * 9000 + 4800]) == [100 * 1600 + 4800]


def test_another_track_that_stays_away_is_moved() -> None:
    timeline = Timeline([90_000, 48_000], 0)
    place(timeline, 0, [0])
    assert place(timeline, 1, [0]) == [0]
    moved = []
    for number in range(1, 200):
        place(timeline, 0, [number * 3000])
        moved += place(timeline, 1, [48_000 * 5000 + number * 1600])
    first = next(index for index, time in enumerate(moved) if time is not None)
    assert 55 <= first <= 65  # after two seconds
    assert moved[first] == pytest.approx((first + 1) * 1600, abs=1600)
    assert all(time is not None for time in moved[first:])


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-(1 << 40), 1 << 40), st.integers(0, 1 << 40)), max_size=60))
def test_output_times_always_grow(frames: list[tuple[int, int, int]]) -> None:
    timeline = Timeline([90_000, 48_000], 0)
    last: dict[int, int] = {}
    for index, dts, composition in frames:
        placed = timeline.place(index, dts + composition, dts)
        if placed is not None:
            assert placed[0] >= placed[1] >= 0
            assert placed[1] > last.get(index, -1)
            last[index] = placed[1]


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("shift", [SECOND * 4000, -SECOND * 3, -SECOND * 4000])
def test_a_publisher_whose_clock_jumps(variant: Variant, shift: int) -> None:
    muxer = Muxer(variant, [track(0, VIDEO), track(1, AUDIO)], options())
    start = SECOND * 5000
    before = merge(RATES, video(0, regular(6, start=start)), audio(1, 6, start=start * 48 // 90))
    again = start + 6 * SECOND + shift
    after = merge(RATES, video(0, regular(6, start=again)), audio(1, 6, start=again * 48 // 90))
    feed(muxer, before, RATES)
    for index, frame in after:  # they arrive as if nothing had happened
        seconds = frame.dts / RATES[index] - shift / SECOND
        muxer.write_frame(index, frame, seconds, WallTime(START + int(seconds * 1e9)))
    segments = [segment for segment in parse(text(muxer)).segments if not segment.gap]
    assert len(segments) == 7
    assert sum(segment.discontinuity for segment in segments) == 1
    assert all(segment.duration == pytest.approx(1) for segment in segments)
    assert muxer.counters.discontinuities == 1


@pytest.mark.parametrize(("seconds", "is_trusted"), [(0.5, False), (0.5, True), (1e9, True), (-1e9, True)])
def test_dates_follow_the_capture_time(seconds: float, is_trusted: bool) -> None:
    """With useAbsoluteTimestamp, however far the publisher's clock is off."""
    muxer = Muxer(Variant.FMP4, [track(0, VIDEO)], options(trusts_capture_times=is_trusted))
    captured = START - round(seconds * NANOSECONDS)
    for index, frame in video(0, regular(5)):
        shown = Frame(
            frame.units, frame.pts, frame.dts, key=frame.key, wall_time=WallTime(captured + frame.dts * 100_000 // 9)
        )
        muxer.write_frame(index, shown, 0.0, WallTime(START + frame.dts * 100_000 // 9))
    dates = [segment.date.timestamp() for segment in parse(text(muxer)).segments if segment.date]
    assert dates[0] == pytest.approx(START / 1e9 - seconds, abs=0.001)


@pytest.mark.parametrize("wrong", [0, -1, 1 << 62, -(1 << 62), START - 3600 * NANOSECONDS, START + 2 * NANOSECONDS])
def test_capture_times_of_a_wrong_clock_are_ignored(wrong: int) -> None:
    assert capture_time(WallTime(wrong), START) == START
    assert capture_time(None, START) == START
    assert capture_time(WallTime(START - NANOSECONDS), START) == START - NANOSECONDS


def test_the_program_clock_smooths_jitter_and_follows_drift() -> None:
    clock = ProgramClock()
    assert clock.date(0, 90_000, START) == START
    late = WallTime(START + NANOSECONDS + 160_000_000)
    assert clock.date(90_000, 90_000, late) == START + NANOSECONDS + 10_000_000
    far = WallTime(START + 60 * NANOSECONDS)
    assert clock.date(180_000, 90_000, far) == far


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (START + 123_999_999, "2023-11-14T22:13:20.123Z"),
        (-5, "1970-01-01T00:00:00.000Z"),
        (1 << 100, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_dates_as_text(time: int, expected: str) -> None:
    assert format_time(WallTime(time)) == expected
