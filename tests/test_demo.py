"""The demo stream: what it encodes is decoded again and looked at, with a clock of our own."""

from __future__ import annotations

import builtins
import itertools
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.waiting import PATIENCE

from polycast.demo.source import Clock, DemoSource
from polycast.errors import PolycastError
from polycast.media.codec import H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime

av = pytest.importorskip("av")
numpy = pytest.importorskip("numpy")

START = WallTime(1_700_652_964_000_000_000)
RATE = 10


def encode(source: DemoSource, pictures: int) -> tuple[list[Frame], list[Frame]]:
    tracks: tuple[list[Frame], list[Frame]] = ([], [])
    for index in range(pictures):
        for track, frame in source.encode(index, WallTime(START + index * NANOSECONDS // source.rate)):
            tracks[track].append(frame)
    return tracks


@pytest.fixture(scope="module")
def source() -> DemoSource:
    return DemoSource(640, 360, RATE)


@pytest.fixture(scope="module")
def frames(source: DemoSource) -> tuple[list[Frame], list[Frame]]:
    return encode(source, 2 * RATE + 1)


def test_tracks(source: DemoSource) -> None:
    video, audio = source.tracks
    assert (video.index, audio.index) == (0, 1)
    assert isinstance(video.codec, H264)
    assert video.codec.sps[0] & 0x1F == 7
    assert video.codec.pps[0] & 0x1F == 8
    assert isinstance(audio.codec, MPEG4Audio)
    assert (audio.codec.sample_rate, audio.codec.channels) == (48_000, 2)
    # AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1): object type 2, frequency index 3, 2 channels.
    assert audio.codec.configuration[:2] == bytes([2 << 3 | 3 >> 1, (3 & 1) << 7 | 2 << 3])


def test_video_times_and_key_frames(frames: tuple[list[Frame], list[Frame]]) -> None:
    video, _ = frames
    assert [frame.pts for frame in video] == [index * 90_000 // RATE for index in range(2 * RATE + 1)]
    assert all(frame.dts == frame.pts for frame in video)
    assert [index for index, frame in enumerate(video) if frame.key] == [0, RATE, 2 * RATE]
    assert [unit[0] & 0x1F for unit in video[0].units][:2] == [7, 8]
    assert video[RATE].wall_time == START + NANOSECONDS


def test_audio_times(frames: tuple[list[Frame], list[Frame]]) -> None:
    _, audio = frames
    assert [frame.pts for frame in audio] == list(range(0, 1024 * len(audio), 1024))
    # Two seconds and a tenth, less what the encoder still holds.
    assert 2.0 < len(audio) * 1024 / 48_000 < 2.1
    second = next(frame for frame in audio if frame.pts >= 48_000)
    assert second.wall_time is not None
    assert abs(second.wall_time - START - second.pts * NANOSECONDS // 48_000) < 1000


def test_the_picture_decodes_and_moves(frames: tuple[list[Frame], list[Frame]]) -> None:
    video, _ = frames
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    pictures = [picture for frame in video for picture in decoder.decode(av.Packet(frame.annexb()))]
    pictures += decoder.decode(None)
    assert len(pictures) == len(video)
    assert (pictures[0].width, pictures[0].height) == (640, 360)
    lumas = [picture.to_ndarray()[:360].astype(int) for picture in pictures]
    for one, other in itertools.pairwise(lumas):
        assert (abs(one - other) > 40).sum() > 100
    # The bars at the top stay where they are: 75 % grey and blue of BT.709.
    assert abs(lumas[-1][5, 5] - 180) < 4
    assert abs(lumas[-1][5, 635] - 28) < 4


def test_the_sound_decodes_to_a_tone_with_a_pip(source: DemoSource, frames: tuple[list[Frame], list[Frame]]) -> None:
    _, audio = frames
    decoder = av.CodecContext.create("aac", "r")
    codec = source.tracks[1].codec
    assert isinstance(codec, MPEG4Audio)
    decoder.extradata = codec.configuration
    sound = numpy.concatenate(
        [part.to_ndarray()[0] for frame in audio for part in decoder.decode(av.Packet(frame.units[0]))]
    )
    loudness = [float(abs(sound[start : start + 2400]).max()) for start in (48_200, 60_000, 72_000)]
    assert loudness[0] > 0.2
    assert 0.03 < loudness[1] < 0.08
    assert 0.03 < loudness[2] < 0.08


class FakeClock(Clock):
    """Time that passes only while somebody waits for it, and jumps once."""

    def __init__(self, *, stop_after: int, jump: tuple[int, float] | None = None) -> None:
        self.time = 50.0
        self.waits = 0
        self.stop_after = stop_after
        self.jump = jump

    def now(self) -> float:
        return self.time

    def wall_time(self) -> WallTime:
        return WallTime(START + round(self.time * NANOSECONDS))

    def wait(self, seconds: float, stopped: threading.Event) -> bool:
        self.time += seconds
        self.waits += 1
        if self.jump is not None and self.waits == self.jump[0]:
            self.time += self.jump[1]
        return self.waits > self.stop_after


def run(clock: FakeClock) -> list[tuple[float, int]]:
    """Run a source to the end of its clock; return when each picture came, and its time in ticks."""
    pictures: list[tuple[float, int]] = []
    source = DemoSource(320, 180, RATE, clock=clock)

    def on_frames(frames: list[tuple[int, Frame]]) -> None:
        pictures.extend((clock.time, frame.pts) for track, frame in frames if track == 0)

    source.start(on_frames)
    assert source._thread is not None
    source._thread.join(PATIENCE)
    source.stop()
    return pictures


def test_pictures_come_in_real_time() -> None:
    pictures = run(FakeClock(stop_after=25))
    assert len(pictures) == 25
    for arrival, pts in pictures:
        assert arrival - 50.0 == pytest.approx(pts / 90_000)


def test_a_pause_of_the_machine_is_not_caught_up() -> None:
    pictures = run(FakeClock(stop_after=10, jump=(5, 60.0)))
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(pictures)]
    assert gaps == pytest.approx([0.1, 0.1, 0.1, 60.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert [pts for _, pts in pictures] == [index * 9000 for index in range(10)]


def test_the_clock_is_drawn() -> None:
    from polycast.demo.picture import ADVANCE, FONT, Picture

    picture = Picture(1280, 720)
    moment = datetime(2024, 5, 6, 12, 34, 56, 789_000, tzinfo=UTC)
    lumas = picture.draw(0.0, moment)[:720]
    left, top = picture._clock_position
    cell = picture._clock_glyphs["0"][0].shape[1] // ADVANCE
    for place, character in enumerate("12:34:56.789"):
        dots = [
            [
                bool(lumas[top + row * cell + cell // 2, left + (place * ADVANCE + column) * cell + cell // 2] > 100)
                for column in range(5)
            ]
            for row in range(7)
        ]
        assert dots == [[bool(row >> (4 - column) & 1) for column in range(5)] for row in FONT[character]]
    before = picture.draw(0.0, moment).copy()
    assert (picture.draw(0.0, moment + timedelta(milliseconds=1)) != before).any()


@pytest.mark.parametrize(("width", "height"), [(641, 360), (640, 361), (160, 90)])
def test_a_size_that_cannot_be(width: int, height: int) -> None:
    with pytest.raises(PolycastError, match="even sides"):
        DemoSource(width, height)


def test_without_pyav_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "av":
            raise ImportError("No module named 'av'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(PolycastError, match="pip install av numpy"):
        DemoSource()
