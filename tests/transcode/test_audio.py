"""Sound becomes Opus or AAC and stays where it was: clicks are found at the times at which they were put."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from tests.transcode.sound import TONE_HERTZ, coded_clicks, decode, find_clicks, pitch

from polycast.api.decoding import Decoding
from polycast.api.inbox import Arrival
from polycast.media.codec import AC3, EAC3, FLAC, G722, LPCM, AudioCodec, MPEG4Audio, MPEGAudio, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode.audio import AAC, OPUS, AudioTarget, AudioTranscoder

TOLERANCE = 0.005
"""Seconds; viewers notice more than 20 ms."""
CLICKS = (0.5, 1.0, 1.5)
SECONDS = 2.0


@pytest.fixture(params=[OPUS, AAC], ids=lambda target: f"to {target.codec.name}")
def target(request: pytest.FixtureRequest) -> AudioTarget:
    chosen: AudioTarget = request.param
    return chosen


def aac(rate: int, channels: int = 2, times: Sequence[float] = CLICKS) -> tuple[Track, list[Frame]]:
    packets, extradata = coded_clicks("aac", tuple(times), SECONDS, rate, channels)
    track = Track(0, MPEG4Audio(extradata, rate, channels))
    return track, [Frame((data,), pts, pts, key=True) for data, pts in packets]


def moved(frames: Sequence[Frame], ticks: int, *, discontinuity: bool = False) -> list[Frame]:
    """Return frames that are later; the first one marks a discontinuity if asked."""
    return [
        Frame(
            frame.units,
            frame.pts + ticks,
            frame.dts + ticks,
            key=True,
            discontinuity=discontinuity and frame is frames[0],
        )
        for frame in frames
    ]


def transcode(transcoder: AudioTranscoder, frames: Sequence[Frame]) -> list[Frame]:
    return [made for frame in frames for made in transcoder.transcode(frame)]


def times_of(frames: Sequence[Frame], target: AudioTarget) -> list[float]:
    """Return the times of the clicks on the time line of the stream."""
    return [frames[0].pts / 48_000 + time for time in find_clicks(decode(frames, target.codec))]


def assert_increasing(frames: Sequence[Frame]) -> None:
    size = frames[0].duration
    assert size is not None
    assert all(second.pts >= first.pts + size for first, second in itertools.pairwise(frames))


def assert_continuous(frames: Sequence[Frame]) -> None:
    """Players hear every step of the times that is not that of a frame."""
    assert {second.pts - first.pts for first, second in itertools.pairwise(frames)} == {frames[0].duration}


@pytest.mark.parametrize(
    ("encoder", "rate", "channels", "codec"),
    [
        ("aac", 48_000, 2, MPEG4Audio(sample_rate=48_000)),
        ("aac", 44_100, 2, MPEG4Audio(sample_rate=44_100)),
        ("aac", 16_000, 1, MPEG4Audio(sample_rate=16_000, channels=1)),
        ("aac", 48_000, 6, MPEG4Audio(sample_rate=48_000, channels=6)),
        ("libmp3lame", 44_100, 2, MPEGAudio(44_100, 2)),
        ("mp2", 48_000, 2, MPEGAudio(48_000, 2, 2)),
        ("ac3", 48_000, 2, AC3(48_000, 2)),
        ("eac3", 48_000, 2, EAC3(48_000, 2)),
        ("flac", 48_000, 2, FLAC(sample_rate=48_000)),
        ("libopus", 48_000, 2, Opus()),
        ("libopus", 48_000, 6, Opus(6)),
        ("g722", 16_000, 1, G722()),
        ("pcm_s24be", 44_100, 2, LPCM(24, 44_100, 2)),
    ],
    ids=lambda value: None if isinstance(value, AudioCodec) else str(value),
)
def test_sound_stays_in_its_place(
    encoder: str, rate: int, channels: int, codec: AudioCodec, target: AudioTarget
) -> None:
    packets, extradata = coded_clicks(encoder, CLICKS, SECONDS, rate, channels)
    if isinstance(codec, MPEG4Audio):
        codec = dataclasses.replace(codec, configuration=extradata)
    if isinstance(codec, FLAC):
        codec = dataclasses.replace(codec, stream_info=extradata)
    track = Track(0, codec)
    ticks = [round(pts * track.clock_rate / rate) for _, pts in packets]
    frames = [Frame((data,), pts, pts, key=True) for (data, _), pts in zip(packets, ticks, strict=True)]
    transcoder = AudioTranscoder(track, target)
    made = transcode(transcoder, frames)
    assert transcoder.errors == 0
    assert_increasing(made)
    held_back = frames[-1].pts / track.clock_rate - made[-1].pts / 48_000
    assert held_back < (0.04 if target is OPUS else 0.09), "it is live: no more than two frames of Opus, four of AAC"
    assert times_of(made, target) == pytest.approx(CLICKS, abs=TOLERANCE)
    quiet = decode(made, target.codec)[:, 5_000:20_000]
    assert pitch(quiet) == pytest.approx(TONE_HERTZ, abs=5)
    assert np.abs(quiet[1]).max() > 0.02, "both channels have sound"


def test_times_in_milliseconds_do_no_harm(target: AudioTarget) -> None:
    """RTMP rounds them: the sound is neither stretched nor interrupted."""
    track, frames = aac(44_100)
    rounded = [
        Frame(frame.units, pts, pts, key=True)
        for frame in frames
        for pts in (round(round(frame.pts * 1000 / 44_100) * 44.1),)
    ]
    made = transcode(AudioTranscoder(track, target), rounded)
    assert_continuous(made)
    assert times_of(made, target) == pytest.approx(CLICKS, abs=TOLERANCE)


@pytest.mark.parametrize("drift", [1.002, 0.998])
@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_a_clock_that_drifts_is_followed(rate: int, drift: float, target: AudioTarget) -> None:
    """A camera whose sound has 0.2 % fewer or more samples than it says: after 12 s, that would be 24 ms."""
    seconds = 12.0
    times = tuple(float(second) + 0.5 for second in range(11))
    packets, extradata = coded_clicks("aac", times, seconds, rate)
    track = Track(0, MPEG4Audio(extradata, rate))
    frames = [Frame((data,), round(pts * drift), round(pts * drift), key=True) for data, pts in packets]
    made = transcode(AudioTranscoder(track, target), frames)
    assert_continuous(made)
    assert times_of(made, target) == pytest.approx([time * drift for time in times], abs=0.007)


def test_lost_frames_are_silence(target: AudioTarget) -> None:
    track, frames = aac(48_000)
    kept = [frame for frame in frames if not 0.6 < frame.pts / 48_000 < 0.9]
    made = transcode(AudioTranscoder(track, target), kept)
    assert_continuous(made)
    assert times_of(made, target) == pytest.approx(CLICKS, abs=TOLERANCE)
    samples = decode(made, target.codec)
    start = round(0.7 * 48_000) - made[0].pts
    assert np.abs(samples[:, start : start + 4800]).max() < 0.01


def test_a_long_pause_is_not_filled(target: AudioTarget) -> None:
    track, frames = aac(48_000)
    later = moved(frames, 60 * 48_000)
    made = transcode(AudioTranscoder(track, target), frames + later)
    assert_increasing(made)
    assert len(made) < 2 * SECONDS * 50 + 10
    assert times_of([frame for frame in made if frame.pts > 30 * 48_000], target) == pytest.approx(
        [60 + time for time in CLICKS], abs=TOLERANCE
    )


def test_another_publisher_goes_on(target: AudioTarget) -> None:
    track, frames = aac(48_000)
    end = frames[-1].pts + 1024
    made = transcode(AudioTranscoder(track, target), frames + moved(frames, end - frames[0].pts, discontinuity=True))
    assert_increasing(made)
    offset = (end - frames[0].pts) / 48_000
    assert times_of(made, target) == pytest.approx([*CLICKS, *(offset + time for time in CLICKS)], abs=TOLERANCE)


def test_times_that_go_back_do_not_go_back_for_viewers(target: AudioTarget) -> None:
    track, frames = aac(48_000)
    transcoder = AudioTranscoder(track, target)
    made = transcode(transcoder, frames + frames)
    assert_increasing(made)
    assert times_of(made, target) == pytest.approx(CLICKS, abs=TOLERANCE)
    assert transcode(transcoder, moved(frames, 5 * 48_000)), "later ones are heard again"


def test_parameters_change(target: AudioTarget) -> None:
    """Another sample rate and one channel, on the same time line, which keeps its clock rate."""
    track, frames = aac(48_000)
    other, other_frames = aac(32_000, 1)
    transcoder = AudioTranscoder(track, target)
    made = transcode(transcoder, frames)
    changed = Track(0, other.codec, None)
    transcoder.update(changed)
    shifted = moved(other_frames, 2 * 32_000)
    made += transcode(transcoder, shifted)
    assert transcoder.errors == 0
    assert_increasing(made)
    assert times_of(made, target) == pytest.approx([*CLICKS, *(2 + time for time in CLICKS)], abs=TOLERANCE)


def test_garbage_is_counted_and_the_sound_goes_on(target: AudioTarget) -> None:
    track, frames = aac(48_000)
    random = np.random.default_rng(7)
    broken = [
        Frame((random.bytes(200),), frame.pts, frame.dts, key=True) if 0.6 < frame.pts / 48_000 < 0.9 else frame
        for frame in frames
    ]
    transcoder = AudioTranscoder(track, target)
    made = transcode(transcoder, broken)
    assert transcoder.errors == sum(frame not in frames for frame in broken) > 0
    assert transcoder.problem
    assert_increasing(made)
    assert times_of(made, target) == pytest.approx(CLICKS, abs=TOLERANCE)


def test_empty_frames_are_no_end(target: AudioTarget) -> None:
    track, frames = aac(48_000)
    empty = [Frame((b"",), frame.pts, frame.dts, key=True) for frame in frames[3:5]]
    made = transcode(AudioTranscoder(track, target), frames[:3] + empty + frames[5:])
    assert times_of(made, target) == pytest.approx(CLICKS, abs=TOLERANCE)


def test_empty_frames_are_no_end_for_the_library_either() -> None:
    track, frames = aac(48_000)
    empty = [Frame((b"",), frame.pts, frame.dts, key=True) for frame in frames[3:5]]
    decoding = Decoding("bgr24")
    sounds = [
        sound
        for frame in frames[:3] + empty + frames[5:]
        for sound in decoding.decode(Arrival(track, frame, epoch=0, skipped=0))
    ]
    assert len(sounds) > 10
    assert decoding.errors == 0


def test_a_configuration_that_cannot_be_used_is_an_error_until_the_next(target: AudioTarget) -> None:
    track, frames = aac(48_000)
    transcoder = AudioTranscoder(Track(0, MPEG4Audio(b"\xff\xff\xff\xff")), target)
    assert transcode(transcoder, frames) == []
    assert transcoder.errors == len(frames)
    assert transcoder.problem
    transcoder.update(track)
    assert times_of(transcode(transcoder, frames), target) == pytest.approx(CLICKS, abs=TOLERANCE)
