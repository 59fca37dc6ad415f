"""Playlists of random streams, every version of them, against the rules of the specifications."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.hls.checker import Checker, Violation, parse
from tests.wire.hls.fragments import has_sync_sample
from tests.wire.hls.streams import (
    AUDIO,
    OPUS,
    START,
    VIDEO,
    Timed,
    audio,
    merge,
    options,
    regular,
    request,
    track,
    video,
)

from polycast.media.timebase import WallTime
from polycast.media.track import Track
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import MuxerOptions, Variant
from polycast.wire.hls.resource import Resource

RATES = {0: 90_000, 1: 48_000, 2: 48_000}
FRAME_RATES = [1, 5, 10, 12.5, 15, 20, 24_000 / 1001, 24, 25, 30_000 / 1001, 30, 48, 50, 60_000 / 1001, 60, 120]


class Viewer:
    """Loads every version of every playlist, and checks it."""

    def __init__(self, variant: Variant, tracks: list[Track], chosen: MuxerOptions) -> None:
        self.muxer = Muxer(variant, tracks, chosen)
        self.low_latency = variant is Variant.LOW_LATENCY
        names = ["stream.m3u8", *(f"audio{each.index}.m3u8" for each in tracks)]
        self.checkers = {name: Checker(self.size, low_latency=self.low_latency, begins=self.begins) for name in names}
        self.texts: dict[str, bytes] = {}
        self.versions = 0
        self.skipped = 0

    def size(self, name: str) -> int | None:
        found = self.muxer.lookup(name)
        return len(found.body) if isinstance(found, Resource) else None

    def begins(self, name: str) -> bool:
        found = self.muxer.lookup(name)
        assert isinstance(found, Resource)
        return has_sync_sample(bytes(found.body))

    def watch(self, frames: Iterable[Timed], rates: dict[int, int] = RATES) -> None:
        for index, frame in frames:
            seconds = frame.dts / rates[index]
            if self.muxer.write_frame(index, frame, seconds, WallTime(START + int(seconds * 1e9))):
                for name, checker in self.checkers.items():
                    self.load(name, checker)

    def load(self, name: str, checker: Checker) -> None:
        answer = request(self.muxer, name)
        if not isinstance(answer, Resource):
            return
        if answer.body == self.texts.get(name):
            return
        self.texts[name] = answer.body
        self.versions += 1
        playlist = checker.check(answer.body.decode())
        if self.low_latency:
            delta = request(self.muxer, name, "_HLS_skip=YES")
            assert isinstance(delta, Resource)
            self.skipped = max(self.skipped, checker.check_delta(delta.body.decode(), playlist))

    def last(self, name: str = "stream.m3u8") -> str:
        answer = request(self.muxer, name)
        assert isinstance(answer, Resource)
        return answer.body.decode()


@settings(max_examples=25, deadline=None)
@given(
    variant=st.sampled_from(Variant),
    rate=st.sampled_from(FRAME_RATES),
    key_interval=st.floats(0.01, 4),
    rounded=st.booleans(),
    audio_tracks=st.integers(0, 2),
    segment_duration=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    part_duration=st.sampled_from([0.1, 0.2, 0.333, 0.5, 1.0]),
    segment_count=st.sampled_from([7, 8, 12]),
)
def test_constant_frame_rate(
    variant: Variant,
    rate: float,
    key_interval: float,
    rounded: bool,
    audio_tracks: int,
    segment_duration: float,
    part_duration: float,
    segment_count: int,
) -> None:
    gop = max(int(key_interval * rate), 1)
    times = regular(9 + 2 * gop / rate, rate, gop)
    if rounded:  # as RTMP does
        times = [(round(time / 90) * 90, key) for time, key in times]
    tracks = [track(0, VIDEO), *(track(1 + number, AUDIO) for number in range(audio_tracks))]
    length = times[-1][0] / 90_000
    frames = merge(RATES, video(0, times), *(audio(1 + number, length) for number in range(audio_tracks)))
    chosen = options(segment_duration=segment_duration, part_duration=part_duration, segment_count=segment_count)
    viewer = Viewer(variant, tracks, chosen)
    viewer.watch(frames)
    assert viewer.versions > 0
    # a stream of one frame rate and distance of key frames has one target duration
    assert all(checker.target_changes == 0 for checker in viewer.checkers.values())
    assert (
        viewer.muxer.counters.corrected_times == viewer.muxer.counters.dropped == viewer.muxer.counters.ended_early == 0
    )


@settings(max_examples=25, deadline=None)
@given(
    variant=st.sampled_from(Variant),
    gops=st.lists(st.integers(1, 90), min_size=8, max_size=20),
    rate=st.sampled_from([15, 25, 30, 60]),
)
def test_random_key_frame_distances(variant: Variant, gops: list[int], rate: int) -> None:
    keys = {0, *accumulate(gops)}
    times = [(int(number * 90_000 / rate), number in keys) for number in range(sum(gops))]
    viewer = Viewer(variant, [track(0, VIDEO)], options())
    viewer.watch(video(0, times))
    assert viewer.versions > 0 or sum(gops) < 2 * rate + 2 * max(gops)


@settings(max_examples=25, deadline=None)
@given(
    variant=st.sampled_from(Variant),
    opus=st.booleans(),
    samples=st.sampled_from([120, 240, 480, 960, 1024, 1920, 2048, 2880]),
    segment_duration=st.sampled_from([0.5, 1.0, 3.0]),
    part_duration=st.sampled_from([0.1, 0.2, 0.5]),
    two=st.booleans(),
)
def test_audio_only(
    variant: Variant, opus: bool, samples: int, segment_duration: float, part_duration: float, two: bool
) -> None:
    tracks = [track(index, OPUS if opus else AUDIO) for index in range(2 if two else 1)]
    frames = merge({0: 48_000, 1: 48_000}, *(audio(each.index, 20, samples=samples) for each in tracks))
    viewer = Viewer(variant, tracks, options(segment_duration=segment_duration, part_duration=part_duration))
    viewer.watch(frames, {0: 48_000, 1: 48_000})
    assert viewer.versions >= 5
    assert viewer.checkers["stream.m3u8"].last is not None


@settings(max_examples=25, deadline=None)
@given(
    variant=st.sampled_from([Variant.MPEGTS, Variant.FMP4]),
    steps=st.lists(st.integers(1, 40_000), min_size=100, max_size=300),
    gop=st.integers(1, 60),
)
def test_variable_frame_rate(variant: Variant, steps: list[int], gop: int) -> None:
    times = [(time, number % gop == 0) for number, time in enumerate(accumulate(steps))]
    Viewer(variant, [track(0, VIDEO)], options()).watch(video(0, times))


@settings(max_examples=25, deadline=None)
@given(jitter=st.lists(st.integers(-900, 900), min_size=300, max_size=300), rate=st.sampled_from([15, 25, 30, 50]))
def test_parts_of_a_jittering_frame_rate(jitter: list[int], rate: int) -> None:
    """Times off by up to 10 ms, as RTP cameras send them: parts still fit a part target that may rise, not fall."""
    nominal = regular(300 / rate, rate, rate)
    times = [(max(time + shift, 0), key) for (time, key), shift in zip(nominal, jitter, strict=False)]
    viewer = Viewer(Variant.LOW_LATENCY, [track(0, VIDEO)], options())
    targets = []
    for timed in video(0, times):
        viewer.watch([timed])
        last = viewer.checkers["stream.m3u8"].last
        if last is not None and last.part_target is not None:
            targets.append(last.part_target)
    assert targets == sorted(targets)
    assert targets[-1] <= 0.7


def test_delta_updates_skip_old_segments() -> None:
    viewer = Viewer(Variant.LOW_LATENCY, [track(0, VIDEO)], options(segment_count=12))
    viewer.watch(video(0, regular(30)))
    assert viewer.skipped >= 5


def test_renditions_report_each_other() -> None:
    viewer = Viewer(Variant.LOW_LATENCY, [track(0, VIDEO), track(1, AUDIO), track(2, AUDIO)], options())
    viewer.watch(merge(RATES, video(0, regular(12)), audio(1, 12), audio(2, 12)))
    for name in viewer.checkers:
        if name != "audio0.m3u8":
            found = parse(viewer.last(name)).reports
            others = {"stream.m3u8", "audio1.m3u8", "audio2.m3u8"} - {name}
            assert set(found) == others
            for other, (sequence, part) in found.items():
                listed = parse(viewer.last(other))
                assert sequence == listed.segments[-1].sequence + bool(listed.open.parts)
                assert part == len(listed.open.parts or listed.segments[-1].parts) - 1


GOOD = """#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:1
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6,CAN-SKIP-UNTIL=6
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MEDIA-SEQUENCE:4

#EXT-X-MAP:URI="i"
#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:00.000Z
#EXTINF:1,
s4
#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:01.000Z
#EXT-X-PART:DURATION=0.5,URI="p0",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI="p1"
#EXTINF:1,
s5
#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:02.000Z
#EXT-X-PART:DURATION=0.5,URI="p2"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p3"
""".replace("HOLD-BACK=0.6", "HOLD-BACK=1.5")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("TARGETDURATION:1", "TARGETDURATION:0"),
        ("#EXTINF:1,\ns4", "#EXTINF:1.5,\ns4"),
        ("#EXTINF:1,\ns5", "#EXTINF:1.2,\ns5"),
        ("HOLD-BACK=1.5", "HOLD-BACK=0.9"),
        ("UNTIL=6", "UNTIL=5"),
        ("CAN-BLOCK-RELOAD=YES,", ""),
        ('DURATION=0.5,URI="p0"', 'DURATION=0.4,URI="p0"'),
        ('DURATION=0.5,URI="p1"', 'DURATION=0.6,URI="p1"'),
        ('URI="p3"', 'URI="p2"'),
        ("VERSION:9", "VERSION:5"),
        ("00:00:01.000Z", "00:00:01.500Z"),
        ("#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:00.000Z\n", ""),
        ("\ns4", "\ngone"),
        ("PART-INF:PART-TARGET=0.5\n", "PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:4\n"),
        ("#EXTINF:1,\ns4", "s4"),
    ],
)
def test_the_checker_finds_what_is_wrong(old: str, new: str) -> None:
    sizes = {"i": 1, "s4": 10, "s5": 4, **{f"p{number}": 2 for number in range(4)}}
    Checker(sizes.get, low_latency=True).check(GOOD)
    assert old in GOOD
    with pytest.raises(Violation):
        Checker(sizes.get, low_latency=True).check(GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SEQUENCE:4", "SEQUENCE:3"),
        ("SEQUENCE:4", "SEQUENCE:7"),
        ('URI="p2"\n', 'URI="p4"\n'),
        ("s5", "s4"),
        ("#EXTINF:1,\ns5", "#EXTINF:0.99999,\ns5"),
        ("TARGETDURATION:1", "TARGETDURATION:1\n#EXT-X-DISCONTINUITY-SEQUENCE:1"),
    ],
)
def test_the_checker_finds_a_wrong_update(old: str, new: str) -> None:
    sizes = {"i": 1, "s4": 10, "s5": 4, **{f"p{number}": 2 for number in range(5)}}
    checker = Checker(sizes.get, low_latency=True)
    checker.check(GOOD)
    checker.check(GOOD)
    assert old in GOOD
    with pytest.raises(Violation):
        checker.check(GOOD.replace(old, new))
