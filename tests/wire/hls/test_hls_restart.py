"""A publisher that comes back: numbers never decrease, the timeline goes on, the pause shows in the dates."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.wire.hls.checker import Checker, Playlist, parse
from tests.wire.hls.streams import (
    AUDIO,
    OPUS,
    OTHER_PPS,
    OTHER_SPS,
    PPS,
    SPS,
    START,
    VIDEO,
    Timed,
    audio,
    merge,
    options,
    regular,
    request,
    text,
    track,
    video,
)

from polycast.media.codec import H264
from polycast.media.timebase import WallTime
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.numbering import EPOCH, MAXIMUM_PATHS, FirstNumbers, Numbering, numbers_of
from polycast.wire.hls.options import Variant
from polycast.wire.hls.resource import Resource
from polycast.wire.hls.timeline import Timeline

RATES = {0: 90_000, 1: 48_000}
BOTH = [track(0, VIDEO), track(1, AUDIO)]


def session(seconds: float, start: float, sps: bytes = SPS, pps: bytes = PPS) -> list[Timed]:
    """Return what a publisher sends whose clock begins at ``start`` seconds."""
    pictures = video(0, regular(seconds, start=int(start * 90_000)), sps=sps, pps=pps)
    return merge(RATES, pictures, audio(1, seconds, start=int(start * 48_000)))


def play(muxer: Muxer, frames: list[Timed], arrival: float, checker: Checker | None = None) -> Playlist:
    """Write frames, the first of which arrives so many seconds after the test's begin; return the last playlist."""
    first = frames[0][1].dts / RATES[frames[0][0]]
    for index, frame in frames:
        now = arrival + frame.dts / RATES[index] - first
        if muxer.write_frame(index, frame, now, WallTime(START + int(now * 1e9))) and checker is not None:
            answer = request(muxer, "stream.m3u8")
            if isinstance(answer, Resource):
                checker.check(answer.body.decode())
    return parse(text(muxer))


def size(muxer: Muxer, name: str) -> int | None:
    file = muxer.lookup(name)
    return len(file.body) if isinstance(file, Resource) else None


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("clock", [0.0, 5000.0])
def test_the_playlist_continues_after_a_discontinuity(variant: Variant, clock: float) -> None:
    muxer = Muxer(variant, BOTH, options())
    checker = Checker(lambda name: size(muxer, name), low_latency=variant is Variant.LOW_LATENCY)
    before = play(muxer, session(6.5, 100), 0.0, checker)
    assert muxer.resume([track(0, H264(b"", b"")), track(1, AUDIO)])
    after = play(muxer, session(2.3, clock), 10.0, checker)
    assert after.segments[-1].sequence == before.segments[-1].sequence + 3, "the rest of the first, and two more"
    changed = [segment for segment in after.segments if segment.discontinuity]
    assert len(changed) == 1
    assert changed[0].date is not None
    last = after.segments[after.segments.index(changed[0]) - 1]
    assert last.date is not None
    assert changed[0].date - last.date == timedelta(seconds=4), "6 s after the begin, and 10"
    assert muxer.counters.out_of_sync == muxer.counters.corrected_times == 0


def test_what_was_before_a_pause_leaves_when_enough_follows() -> None:
    """Shaka counts the segments that follow on from those before, and takes them for long past."""
    muxer = Muxer(Variant.FMP4, BOTH, options())
    play(muxer, session(8.5, 0), 0.0)
    assert muxer.resume(BOTH)
    frames = session(3.5, 0)
    enough = next(number for number, (_, frame) in enumerate(frames) if frame.dts >= 3 * 90_000)
    after = play(muxer, frames[:enough], 20.0)
    assert len(after.segments) == 7
    after = play(muxer, frames[enough:], 23.0)
    assert [segment.discontinuity for segment in after.segments] == [True, False, False]
    assert after.discontinuity_sequence == 0


def test_no_segment_is_removed_early_without_a_pause() -> None:
    muxer = Muxer(Variant.FMP4, BOTH, options())
    play(muxer, session(7.5, 0), 0.0)
    after = play(muxer, session(5, 7.5, OTHER_SPS, OTHER_PPS), 7.5)
    assert any(segment.discontinuity for segment in after.segments)
    assert len(after.segments) == 7


def test_new_parameters_come_with_the_publisher() -> None:
    muxer = Muxer(Variant.FMP4, BOTH, options())
    before = play(muxer, session(3.5, 0), 0.0)
    assert muxer.resume([track(0, H264(OTHER_SPS, OTHER_PPS)), track(1, AUDIO)])
    after = play(muxer, session(2.5, 0, OTHER_SPS, OTHER_PPS), 5.0)
    new = muxer.lookup(after.segments[-1].initialization or "")
    assert isinstance(new, Resource)
    assert OTHER_SPS in new.body
    assert after.segments[-1].initialization != before.segments[-1].initialization
    rest = next(segment for segment in after.segments if segment.sequence == before.segments[-1].sequence + 1)
    assert rest.initialization == before.segments[-1].initialization


def test_tracks_in_another_order_or_of_other_codecs() -> None:
    muxer = Muxer(Variant.FMP4, BOTH, options())
    play(muxer, session(3.5, 0), 0.0)
    assert not muxer.resume([track(0, VIDEO), track(1, OPUS)])
    assert not muxer.resume([track(0, VIDEO)])
    assert not muxer.resume([*BOTH, track(2, AUDIO)])
    assert muxer.resume([track(0, AUDIO), track(1, VIDEO)]) is False
    assert muxer.resume([track(4, VIDEO), track(7, AUDIO)])
    frames = [(4 if index == 0 else 7, frame) for index, frame in session(2.5, 0)]
    for index, frame in frames:
        muxer.write_frame(index, frame, 0.0, WallTime(START))
    assert sum(segment.discontinuity for segment in parse(text(muxer)).segments) == 1


def test_numbers_of_the_next_muxer_are_higher() -> None:
    muxer = Muxer(Variant.LOW_LATENCY, BOTH, options(first_sequence=1000, first_discontinuity_sequence=10))
    playlist = play(muxer, session(4.5, 0), 0.0)
    assert playlist.discontinuity_sequence == 10
    assert playlist.media_sequence == 1007, "seven numbers are for gaps"
    sequence, discontinuity_sequence = muxer.next_numbers
    assert sequence > playlist.segments[-1].sequence
    assert discontinuity_sequence > playlist.segments[-1].discontinuity_sequence


def test_the_clock_gives_the_first_numbers() -> None:
    moment = EPOCH + 86_400 * 365 + 0.3
    first = numbers_of(moment)
    assert first.sequence == 4 * 86_400 * 365 + 1
    assert first.discontinuity_sequence == 24 * 365, "few, as hls.js walks through all of them with each playlist"
    for seconds in (1, 7, 3599, 3600, 10**8):
        later = numbers_of(moment + seconds)
        assert later.sequence >= first.sequence + 3 * seconds
        assert later.discontinuity_sequence >= first.discontinuity_sequence
    assert numbers_of(EPOCH + 16 * 365.25 * 86_400).sequence < 2**31
    assert numbers_of(0) == FirstNumbers(0, 0)


def test_numbers_are_remembered() -> None:
    numbering = Numbering()
    first = numbering.begin("a", EPOCH + 100)
    numbering.end("a", (first.sequence + 5000, first.discontinuity_sequence + 30))
    again = numbering.begin("a", EPOCH + 101)
    assert (again.sequence, again.discontinuity_sequence) == (first.sequence + 5000, 30)
    assert numbering.begin("b", EPOCH + 101) == numbers_of(EPOCH + 101)
    assert numbering.begin("a", EPOCH + 10_000).sequence == 40_000, "the clock has overtaken it"
    for number in range(MAXIMUM_PATHS):
        numbering.end(f"p{number}", (1, 1))
    assert numbering.begin("a", EPOCH + 101) == numbers_of(EPOCH + 101)


def test_the_timeline_continues_with_another_publisher() -> None:
    timeline = Timeline([90_000, 48_000], 0)
    assert timeline.place(0, 7, 7) == (0, 0)
    assert timeline.place(1, 48_000, 48_000) is not None
    timeline.restart()
    assert timeline.place(1, 0, 0) is None, "until the leading track begins"
    placed = timeline.place(0, 10**9, 10**9)
    assert placed is not None
    assert timeline.jumped
    last = 1 - 7 / 90_000
    assert last < placed[0] / 90_000 < last + 0.1
    other = timeline.place(1, 10**9 * 48 // 90, 10**9 * 48 // 90)
    assert other is not None
    assert other[0] / 48_000 == pytest.approx(placed[0] / 90_000, abs=1e-4)
