"""The joined timeline of a stream: what passes, what is corrected, and where a new piece begins."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from polycast.media.continuity import MAXIMUM_LATE_FRAMES, Continuity

RATE, SOUND_RATE = 90_000, 48_000
PICTURE, SOUND = 3600, 1024


class Camera:
    """Frames of one or two tracks in real time; tests set their clocks."""

    def __init__(self, *, sound: bool = False, gop: int = 25) -> None:
        self.continuity = Continuity([RATE, SOUND_RATE] if sound else [RATE])
        self.now = 1000.0
        self.gop = gop
        self.number = 0
        self.sounds = 0
        self.start = self.now
        self.video_clock: Callable[[int], float] = lambda _: 0.0
        """Seconds by which the clock of the picture is off, by number of the picture."""
        self.sound_clock: Callable[[int], float] = lambda _: 0.0
        """The same of the sound, by the number of the picture at that time."""
        self.video: list[float] = []
        self.audio: list[float] = []
        self.in_order_of_presentation = False
        self.begins: list[tuple[int, int]] = []
        """(track, number of the frame) where a new piece began."""

    def run(self, pictures: int) -> None:
        for _ in range(pictures):
            number, self.number = self.number, self.number + 1
            self.now = self.start + number * PICTURE / RATE
            track = self.continuity.tracks[0]
            time = number * PICTURE + round(self.video_clock(number) * RATE)
            floor = round(self.video[-1] * RATE) if self.in_order_of_presentation and self.video else None
            self.video.append(track.place(time, self.now, key=number % self.gop == 0, floor=floor) / RATE)
            if track.began:
                self.begins.append((0, number))
            while len(self.continuity.tracks) > 1 and self.sounds * SOUND / SOUND_RATE <= number * PICTURE / RATE:
                track = self.continuity.tracks[1]
                time = self.sounds * SOUND + round(self.sound_clock(number) * SOUND_RATE)
                self.audio.append(track.place(time, self.now) / SOUND_RATE)
                if track.began:
                    self.begins.append((1, self.sounds))
                self.sounds += 1

    def check_video(self, tolerance: float = 0.001) -> None:
        steps = [after - before for before, after in itertools.pairwise(self.video)]
        assert min(steps) >= 0.04 - tolerance
        assert max(steps) <= 0.04 + tolerance

    def sync(self) -> float:
        """Return by how many seconds the last sound is away from where it belongs beside the last picture."""
        return (self.video[-1] - (self.number - 1) * 0.04) - (self.audio[-1] - (self.sounds - 1) * SOUND / SOUND_RATE)


def test_times_pass_as_they_are() -> None:
    camera = Camera(sound=True)
    camera.run(200)
    assert camera.video == [number * PICTURE / RATE for number in range(200)]
    assert camera.audio == [number * SOUND / SOUND_RATE for number in range(camera.sounds)]
    assert not camera.begins


@pytest.mark.parametrize("seconds", [-3600.0, -30.0, -4.0, -1.5, 5.0, 20.0, 9800.0])
@pytest.mark.parametrize("at", [50, 60], ids=["at a key frame", "between key frames"])
def test_a_time_jump_starts_a_new_timeline(seconds: float, at: int) -> None:
    camera = Camera()
    camera.video_clock = lambda number: seconds if number >= at else 0.0
    camera.run(200)
    camera.check_video()
    # One that is no key frame has to be confirmed by the next one.
    assert camera.begins == [(0, at if at == 50 else at + 1)]
    track = camera.continuity.tracks[0]
    assert (track.pieces, track.outliers) == (1, 0)
    assert track.jump == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("seconds", [-0.3, -0.1])
def test_a_small_step_back_at_a_key_frame_starts_a_new_timeline(seconds: float) -> None:
    camera = Camera()
    camera.in_order_of_presentation = True
    camera.video_clock = lambda number: seconds if number >= 50 else 0.0
    camera.run(100)
    camera.check_video()
    assert camera.begins == [(0, 50)]


def test_decoding_times_that_a_muxer_guesses_are_no_jumps() -> None:
    # Negative composition times: the decoding time is moved back to the time of presentation.
    camera = Camera()
    camera.video_clock = lambda number: -0.2 if number % 25 == 0 and number else 0.0
    camera.run(200)
    assert not camera.begins
    assert camera.video == [pytest.approx(number * 0.04 + camera.video_clock(number)) for number in range(200)]


def test_a_few_late_frames_are_dropped_and_more_start_a_new_timeline() -> None:
    camera = Camera()
    camera.video_clock = lambda number: -0.9 if number >= 60 else 0.0
    camera.run(70)
    late = 60 + MAXIMUM_LATE_FRAMES
    assert camera.video[60:late] == [pytest.approx(number * 0.04 - 0.9) for number in range(60, late)]
    assert camera.begins == [(0, late)]
    assert camera.video[late:] == sorted(camera.video[late:])
    assert camera.video[late] > camera.video[59]


@pytest.mark.parametrize("seconds", [-9800.0, -2.0, 20.0, 9800.0])
@pytest.mark.parametrize("sound", [False, True])
def test_one_outlier_gets_the_time_at_which_it_was_due(seconds: float, sound: bool) -> None:
    camera = Camera(sound=sound)
    camera.video_clock = lambda number: seconds if number == 60 else 0.0
    camera.run(200)
    assert camera.video == [number * PICTURE / RATE for number in range(200)]
    assert not camera.begins
    assert camera.continuity.tracks[0].outliers == 1


@pytest.mark.parametrize("seconds", [20.0, -9800.0])
@pytest.mark.parametrize("sound", [False, True])
def test_a_key_frame_with_an_outlier_time_has_no_lasting_effect(seconds: float, sound: bool) -> None:
    camera = Camera(sound=sound)
    camera.video_clock = lambda number: seconds if number == 50 else 0.0
    camera.run(200)
    camera.check_video()
    assert camera.video[60:] == [number * PICTURE / RATE for number in range(60, 200)]


@pytest.mark.parametrize("seconds", [0.6, 0.9, 2.0, 2.9])
@pytest.mark.parametrize("sound", [False, True])
def test_a_step_that_is_taken_back_is_forgotten(seconds: float, sound: bool) -> None:
    camera = Camera(sound=sound)
    camera.video_clock = lambda number: seconds if number == 60 else 0.0
    camera.run(200)
    expected = [number * PICTURE / RATE for number in range(200)]
    expected[60] += seconds
    assert camera.video == [pytest.approx(time) for time in expected]
    assert not camera.begins


def test_a_jump_long_after_a_gap_is_detected() -> None:
    camera = Camera()
    camera.video_clock = lambda number: 0.0 if number < 60 else 0.7 if number < 260 else -3.3
    camera.run(400)
    assert [number for _, number in camera.begins] == [261]
    assert camera.video == sorted(camera.video)


def test_outliers_again_and_again() -> None:
    camera = Camera()
    camera.video_clock = lambda number: 9800.0 if number % 50 == 30 else 0.0
    camera.run(500)
    assert camera.video == [number * PICTURE / RATE for number in range(500)]
    assert camera.continuity.tracks[0].outliers == 10


def test_unusable_times_are_replaced_by_the_clock() -> None:
    camera = Camera(gop=1000)
    camera.video_clock = lambda number: (number * 7919 % 1000) * 37.0
    camera.run(300)
    assert camera.video == sorted(camera.video)
    assert camera.video[-1] - camera.video[0] == pytest.approx(299 * 0.04, abs=2.0)


@pytest.mark.parametrize("seconds", [-3600.0, -30.0, 9800.0])
@pytest.mark.parametrize("delay", [0, 3, 20], ids=lambda delay: f"sound {delay} pictures later")
def test_tracks_that_jump_together_stay_in_sync(seconds: float, delay: int) -> None:
    camera = Camera(sound=True)
    camera.video_clock = lambda number: seconds if number >= 60 else 0.0
    camera.sound_clock = lambda number: seconds if number >= 60 + delay else 0.0
    camera.run(300)
    camera.check_video(0.03)
    assert camera.sync() == pytest.approx(0.0, abs=0.001)
    assert sorted(track for track, _ in camera.begins) == [0, 1]


@pytest.mark.parametrize("seconds", [-3600.0, -30.0, -2.0, 20.0, 9800.0])
@pytest.mark.parametrize("jumps", ["video", "sound"])
def test_a_single_track_that_jumps_is_placed_by_the_clock(seconds: float, jumps: str) -> None:
    camera = Camera(sound=True)
    setattr(camera, f"{jumps}_clock", lambda number: seconds if number >= 60 else 0.0)
    camera.run(300)
    assert camera.sync() == pytest.approx(0.0, abs=0.05)
    assert [track for track, _ in camera.begins] == [0 if jumps == "video" else 1]


def test_a_jump_back_and_forth_ends_where_it_began() -> None:
    camera = Camera(sound=True)
    camera.video_clock = camera.sound_clock = lambda number: 500.0 if 60 <= number < 120 else 0.0
    camera.run(200)
    camera.check_video(0.03)
    assert camera.sync() == pytest.approx(0.0, abs=0.001)


def test_a_pause_is_no_jump() -> None:
    track = Continuity([RATE]).tracks[0]
    assert track.place(0, 1000.0) == 0
    assert track.place(60 * RATE, 1060.0) == 60 * RATE
    # Nor are times that did not go on meanwhile.
    assert track.place(60 * RATE + PICTURE, 1090.0) == 60 * RATE + PICTURE
    assert track.pieces == track.outliers == 0


def test_retained_packets_may_arrive_immediately() -> None:
    track = Continuity([RATE]).tracks[0]
    for number in range(50):
        track.place(number * PICTURE, 1000 + number * 0.04)
    # 10 s later the network delivers; the camera left out six seconds of pictures.
    for number in [*range(50, 80), *range(230, 300)]:
        assert track.place(number * PICTURE, 1012.0) == number * PICTURE
    assert track.pieces == track.outliers == 0


def test_a_gap_that_other_tracks_fill_is_no_jump() -> None:
    # A file that is sent faster than it plays.
    continuity = Continuity([RATE, SOUND_RATE])
    video, audio = continuity.tracks
    for second in range(60):
        if not 20 <= second < 40:
            assert video.place(second * RATE, 1000.0) == second * RATE
        assert audio.place(second * SOUND_RATE, 1000.0) == second * SOUND_RATE
    assert video.pieces == audio.pieces == 0


def test_tracks_with_bases_far_apart_are_brought_together() -> None:
    camera = Camera(sound=True)
    camera.sound_clock = lambda _: 37_000.0
    camera.run(100)
    assert camera.video[0] == 0.0
    assert camera.sync() == pytest.approx(0.0, abs=0.05)
    assert not camera.begins


def test_tracks_with_bases_far_apart_jump_together() -> None:
    camera = Camera(sound=True)
    camera.video_clock = lambda number: -500.0 if number >= 60 else 0.0
    camera.sound_clock = lambda number: 36_500.0 if number >= 75 else 37_000.0
    camera.run(60)
    before = camera.sync()
    camera.run(100)
    assert camera.sync() == pytest.approx(before, abs=0.001)
    assert sorted(track for track, _ in camera.begins) == [0, 1]


def test_a_track_may_begin_later() -> None:
    continuity = Continuity([RATE, SOUND_RATE])
    continuity.tracks[0].place(0, 1000.0)
    assert continuity.tracks[1].place(30 * SOUND_RATE, 1030.0) == 30 * SOUND_RATE


def test_pictures_in_decoding_order_pass() -> None:
    track = Continuity([RATE]).tracks[0]
    order = [0, *(base + offset for base in range(0, 80, 4) for offset in (4, 2, 1, 3))]
    reached = 0
    for index, number in enumerate(order):
        assert track.place(number * PICTURE, 1000 + index * 0.04, floor=reached, key=index == 0) == number * PICTURE
        reached = max(0, index - 2) * PICTURE
    assert track.pieces == track.outliers == 0


def test_without_a_clock_times_follow_each_other() -> None:
    continuity = Continuity([RATE, SOUND_RATE], 10.0)
    video, audio = continuity.tracks
    for number in range(100):
        offset = -1000 if number >= 50 else 0
        placed = video.place(number * PICTURE + offset * RATE, None, key=number % 25 == 0)
        assert placed == number * PICTURE
        heard = audio.place(number * 1920 + offset * SOUND_RATE, None)
        assert heard == number * 1920
    assert (video.pieces, audio.pieces) == (1, 1)


def test_another_publisher_continues_where_the_first_one_ended() -> None:
    continuity = Continuity([RATE, SOUND_RATE])
    video, audio = continuity.tracks
    video.place(10 * RATE, 1000.0)
    audio.place(10 * SOUND_RATE, 1000.0)
    continuity.restart()
    placed = video.place(500 * RATE, 1007.0) / RATE
    assert placed == pytest.approx(17.0)
    # The tracks of the new publisher keep their distance.
    assert audio.place(501 * SOUND_RATE, 1008.2) / SOUND_RATE == pytest.approx(placed + 1)
    assert video.began
    assert audio.began


@pytest.mark.parametrize("seed", range(40))
def test_the_timeline_neither_jumps_nor_stalls_for_any_times(seed: int) -> None:
    randomness = random.Random(seed)
    continuity = Continuity([RATE, SOUND_RATE])
    now, time, time_of_sound = 1000.0, 0, 0
    reached = [0.0, 0.0]
    for number in range(2000):
        now += 0.04
        if randomness.random() < 0.02:
            time += randomness.randrange(-(10**9), 10**9)
        if randomness.random() < 0.02:
            time_of_sound += randomness.randrange(-(10**9), 10**9)
        time += PICTURE
        time_of_sound += 1920
        off = randomness.randrange(-(10**9), 10**9) if randomness.random() < 0.05 else 0
        placed = [
            continuity.tracks[0].place(time + off, now, key=number % 25 == 0) / RATE,
            continuity.tracks[1].place(time_of_sound, now) / SOUND_RATE,
        ]
        for index in (0, 1):
            if number:
                assert -1.0 <= placed[index] - reached[index] <= 4.0
            reached[index] = placed[index]
    # Random steps of up to three seconds cannot be told from gaps; on the whole time goes on as the clock does.
    assert placed[0] - continuity.tracks[1].last / SOUND_RATE == pytest.approx(0.0, abs=10.0)
