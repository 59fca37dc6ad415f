"""Tracks of one rendition in the order of their times, however far one lags behind another."""

from __future__ import annotations

import random

from tests.wire.hls.fragments import track_runs
from tests.wire.hls.streams import AUDIO, START, VIDEO, Timed, audio, merge, options, regular, request, track, video

from polycast.media.timebase import WallTime
from polycast.wire.hls.interleaver import MAXIMUM_HELD, Interleaver
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import Variant
from polycast.wire.hls.resource import Resource

RATES = {0: 90_000, 1: 48_000}


def times(interleaver: Interleaver[int], position: int, stamps: list[int]) -> list[tuple[int, int]]:
    """Add frames; return what comes out: position and time of each."""
    return [out for stamp in stamps for out in interleaver.add(position, stamp, 100, stamp)]


def test_a_track_waits_for_a_lagging_track() -> None:
    interleaver = Interleaver[int]([1000, 1000], 0)
    assert times(interleaver, 0, [0]) == [(0, 0)], "nothing is known of the other track yet"
    assert times(interleaver, 1, [0]) == [], "the leading one may be about to send something earlier"
    assert times(interleaver, 0, [40, 80, 120]) == [(1, 0)]
    # A frame of sound is due with the one before it, which it lets be written.
    assert times(interleaver, 1, [20]) == [(1, 20)]
    assert times(interleaver, 1, [41]) == [(1, 41)]
    assert times(interleaver, 1, [60, 80, 100]) == [(0, 40), (1, 60), (1, 80), (0, 80), (1, 100)]


def test_a_silent_track_is_waited_for_once() -> None:
    interleaver = Interleaver[int]([1000, 1000], 0)
    times(interleaver, 0, [0])
    times(interleaver, 1, [0])
    stamps = list(range(40, 2000, 40))
    found = {stamp: times(interleaver, 0, [stamp]) for stamp in stamps}
    assert found[40].pop(0) == (1, 0)
    assert not any(found[stamp] for stamp in range(40, 520, 40))
    assert [out for outs in found.values() for out in outs] == [(0, stamp) for stamp in stamps]
    assert all(found[stamp] == [(0, stamp)] for stamp in range(600, 2000, 40))


def test_a_track_that_lags_too_far_is_not_waited_for() -> None:
    interleaver = Interleaver[int]([1000, 1000], 0)
    times(interleaver, 0, [0, 40, 80, 2000])
    assert times(interleaver, 1, [1000]) == [(1, 1000)]
    assert times(interleaver, 0, [2040]) == [(0, 2040)]


def test_floods_without_time_are_not_held() -> None:
    interleaver = Interleaver[int]([90_000, 1000], 0)
    times(interleaver, 1, [0])
    out = times(interleaver, 0, list(range(5 * MAXIMUM_HELD)))
    assert len(out) >= 4 * MAXIMUM_HELD


def test_each_track_keeps_its_order() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        interleaver = Interleaver[int]([90_000, 48_000], 0)
        waiting = {0: list(range(0, 900_000, 3000)), 1: list(range(0, 480_000, 1024))}
        out: list[tuple[int, int]] = []
        while any(waiting.values()):
            position = chance.choice([each for each in waiting if waiting[each]])
            for _ in range(chance.randrange(1, 30)):
                if waiting[position]:
                    out += times(interleaver, position, [waiting[position].pop(0)])
        for position in (0, 1):
            found = [stamp for each, stamp in out if each == position]
            assert found == sorted(set(found))


def late(frames: list[Timed], seconds: float) -> list[Timed]:
    """Return frames in an order in which sound arrives so much later than the picture."""
    return sorted(frames, key=lambda timed: timed[1].dts / RATES[timed[0]] + seconds * timed[0])


def test_a_segment_has_as_much_sound_as_picture() -> None:
    """Cut in the order of arrival it has less: hls.js cannot play it to its end and loads it again and again."""
    for variant in (Variant.FMP4, Variant.LOW_LATENCY):
        muxer = Muxer(variant, [track(0, VIDEO), track(1, AUDIO)], options())
        for index, frame in late(merge(RATES, video(0, regular(6)), audio(1, 6)), 0.13):
            muxer.write_frame(index, frame, 0.0, WallTime(START + frame.dts * 1_000_000_000 // RATES[index]))
        answer = request(muxer, "stream.m3u8")
        assert isinstance(answer, Resource)
        names = [line for line in answer.body.decode().splitlines() if line.endswith(".mp4")]
        assert len(names) >= 4
        ends = [0.0]
        for name in names:
            file = muxer.lookup(name)
            assert isinstance(file, Resource)
            runs = track_runs(file.body)
            # Chrome places what is appended in "sequence" mode (Shaka) by the first track of a fragment.
            assert [run.track_id for run in runs[:2]] == [1, 2]
            picture = sum(sum(run.durations) for run in runs if run.track_id == 1)
            start = min(run.base_time for run in runs if run.track_id == 1) / 90_000
            sound = [run for run in runs if run.track_id == 2]
            end = max(run.base_time + sum(run.durations) for run in sound) / 48_000
            assert abs(min(run.base_time for run in sound) / 48_000 - ends[-1]) < 1e-6
            assert 0 <= end - (start + picture / 90_000) < 0.0214
            ends.append(end)
