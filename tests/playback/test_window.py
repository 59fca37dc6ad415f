"""The live playlist over recorded files, without a server: all that a player gets of it keeps the rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.playback.support import EPOCH, SECOND
from tests.wire.hls.checker import Checker, Playlist

from polycast.playback.index import Segment
from polycast.playback.window import LiveWindow
from polycast.wire.hls.numbering import FirstNumbers

HOUR = 3600


def part(start: float, seconds: float, *, joins: bool = True, gop: float = 2, **options: Any) -> Segment:
    """Return a file that begins some seconds after `EPOCH`."""
    begin = (EPOCH * SECOND) + round(start * SECOND)
    fields: dict[str, Any] = {
        "start": begin,
        "file": f"/cam/{start}.mp4",
        "end": begin + round(seconds * SECOND),
        "joins": joins,
        "time": round(start * SECOND),
        "head": "a",
        "cuts": tuple(round(number * gop * SECOND) for number in range(1, int(seconds / gop + 0.999))),
    }
    return Segment(**{**fields, **options})


@dataclass
class Viewer:
    """Gets each version of a playlist, and checks it with all before."""

    window: LiveWindow
    last: Playlist = field(default_factory=Playlist)

    def __post_init__(self) -> None:
        self.checker = Checker(self.size_of, low_latency=False)

    def size_of(self, name: str) -> int | None:
        return 1 if self.window.find(name) is not None or self.window.find_head(name) is not None else None

    def see(self, parts: Sequence[Segment], now: float, older: Sequence[str] = ()) -> Playlist:
        """Return the playlist at some seconds after `EPOCH`."""
        self.window.update(parts, EPOCH * SECOND + round(now * SECOND), older)
        self.last = self.checker.check(self.window.write().decode())
        self.checker.check_delta(self.window.write(skips=True).decode(), self.last)
        return self.last


def by_date(*parts: Segment) -> list[Segment]:
    return sorted(parts, key=lambda each: each.start)


def viewer_of(length: float = 60, shortest: float = 1, number: int = 100) -> Viewer:
    first = FirstNumbers(number, 7)
    return Viewer(LiveWindow(round(length * SECOND), round(shortest * SECOND), first, "dvr-x-"))


def places(playlist: Playlist) -> list[tuple[float, float]]:
    """Return when segments begin, in seconds after `EPOCH`, and how long they are."""
    found = []
    for segment in playlist.segments:
        assert segment.date is not None
        found.append((segment.date.timestamp() - EPOCH, segment.duration))
    return found


def test_a_file_that_grows() -> None:
    viewer = viewer_of()
    for seconds in (3, 4.5, 5.9, 6.1, 8.5):
        viewer.see([part(0, seconds, is_complete=False)], seconds + 0.5)
    assert places(viewer.last) == [(0, 2), (2, 2), (4, 2), (6, 2)], "the end belongs to none while the file may grow"
    assert viewer.last.media_sequence == 100
    assert viewer.last.target == 2
    assert viewer.last.control["HOLD-BACK"] == "6.0"
    assert viewer.last.control["CAN-BLOCK-RELOAD"] == "YES"
    assert places(viewer.see([part(0, 9, is_complete=True)], 9.5))[-1] == (8, 1)


def test_the_window_moves_over_files() -> None:
    viewer = viewer_of(length=60)
    skipped = 0
    for now in range(4, 200, 3):
        parts = [
            part(begin, min(20, now - begin), joins=begin > 0, is_complete=now - begin >= 20)
            for begin in range(0, now, 20)
            if begin + 20 > now - 60
        ]
        playlist = viewer.see(parts, now)
        times = places(playlist)
        assert times[-1][0] + times[-1][1] >= now - 2.5
        assert times[0][0] + times[0][1] > now - 60 >= min(times[0][0], now - 60)
        assert not any(segment.discontinuity for segment in playlist.segments)
        delta = viewer.window.write(skips=True).decode()
        skipped = int((re.findall("SKIPPED-SEGMENTS=(.*)", delta) or [0])[0])
    assert skipped > 20
    bases = {segment.base for segment in viewer.window._segments}
    assert bases == {120 * SECOND, 140 * SECOND, 160 * SECOND, 180 * SECOND}, "files lie on one timeline"


def test_a_gap_and_another_one() -> None:
    viewer = viewer_of(length=30)
    first, second, third = part(0, 10, joins=False), part(20, 10, joins=False), part(35, 10, joins=False, head="b")
    viewer.see([first], 12)
    playlist = viewer.see([first, second], 30)
    assert [segment.sequence for segment in playlist.segments if segment.discontinuity] == [105]
    assert viewer.window._segments[-1].base == 10 * SECOND, "a gap takes no time"
    playlist = viewer.see([second, third], 47)
    assert len({segment.initialization for segment in playlist.segments}) == 2
    playlist = viewer.see([third], 66)
    assert playlist.discontinuity_sequence == 8, (
        "the first discontinuity has left with its segment, the second is first"
    )
    assert playlist.segments[0].discontinuity
    assert viewer.window.next_numbers == (115, 10)


def test_files_that_were_deleted() -> None:
    viewer = viewer_of()
    parts = [part(0, 10, joins=False), part(10, 10), part(20, 10)]
    viewer.see(parts, 30)
    window = viewer.window
    window.update(parts[1:], EPOCH * SECOND + 31 * SECOND)
    text = window.write().decode()
    assert "#EXT-X-GAP" not in text
    assert text.count("#EXTINF") == 10
    window.update([*parts[2:], part(30, 10)], EPOCH * SECOND + 41 * SECOND)
    window.update([parts[2]], EPOCH * SECOND + 42 * SECOND)
    text = window.write().decode()
    assert text.count("#EXT-X-GAP") == 5, "in the middle, and at the end, nothing can be removed"


def test_a_recording_that_ended_without_completing_its_file() -> None:
    viewer = viewer_of(length=600)
    file = part(0, 9, is_complete=False)
    assert places(viewer.see([file], 20))[-1] == (6, 2)
    assert places(viewer.see([file], 70))[-1] == (8, 1), "after a minute, nothing more is expected"
    playlist = viewer.see([part(0, 15, is_complete=False)], 74)
    assert places(playlist)[-3:] == [(8, 1), (10, 2), (12, 2)], "what follows begins at a key frame"
    assert playlist.segments[-2].discontinuity


def test_the_clock_is_set_back() -> None:
    viewer = viewer_of(length=60)
    old = [part(begin, 10, joins=begin > 960) for begin in range(960, 1000, 10)]
    viewer.see([*old, part(1000, 5.5, is_complete=False)], 1006)
    # now the clock is set back by half a minute: the new files have dates of old ones
    old.append(part(1000, 6))
    for now in (976, 977.5, 981):
        playlist = viewer.see(by_date(*old, part(976, now - 976 + 0.1, joins=False, is_complete=False)), now)
    assert places(playlist)[-4:] == [(1002, 2), (1004, 2), (976, 2), (978, 2)]
    assert [segment.sequence for segment in playlist.segments if segment.discontinuity] == [123]
    assert not any(segment.gap for segment in playlist.segments)
    assert playlist.media_sequence == 100, "nothing has vanished"
    # 26 s after it: what is listed leaves the window when it would have left it with the clock as it was
    new = [part(976, 10, joins=False), part(986, 10)]
    playlist = viewer.see(by_date(*old, *new, part(996, 6, is_complete=False)), 1002)
    assert places(playlist)[0] == (972, 2)
    assert places(playlist)[-1] == (998, 2)
    playlist = viewer.see(by_date(*old, *new, part(996, 10), part(1006, 30)), 1036)
    assert places(playlist)[0] == (976, 2), "when a minute has passed, only what was recorded since is listed"
    assert places(playlist)[-1] == (1034, 2)


def test_the_clock_was_set_back_before_anybody_looked() -> None:
    viewer = viewer_of(length=60)
    old = [part(begin, 10, joins=begin > 0) for begin in range(0, 100, 10)]
    for now in range(42, 90, 2):
        new = [
            part(begin + 0.5, min(10, now - begin - 0.5), joins=begin > 40, is_complete=now - begin > 10)
            for begin in range(40, now, 10)
        ]
        known = [each for each in old if each.start <= (EPOCH + now + 10) * SECOND]
        future = [each.file for each in known if each.start > (EPOCH + 42 - 10) * SECOND]
        playlist = viewer.see(by_date(*known, *new), now, future)
    dates = [date for date, _ in places(playlist)]
    assert dates == sorted(dates), "files from before do not come among those that are recorded"
    assert places(playlist)[-1] == (84.5, 2)
    assert dates[:6] == [28, 30, 32, 34, 36, 38]
    assert len([date for date in dates if date > 40]) == 5 * 5 - 2


def test_the_clock_is_set_back_by_more_than_the_window() -> None:
    """What was recorded at that time before, which lies in the window again, is not live."""
    viewer = viewer_of(length=60)
    day = [part(HOUR + begin, 10, joins=begin > 0) for begin in range(0, 60, 10)]
    viewer.see(day, HOUR + 61)
    before = [part(begin, 10, joins=begin > 0) for begin in range(0, 80, 10)]
    viewer.see(by_date(*before, *day), 62)
    new = [part(62.5, 10, joins=False), part(72.5, 6, is_complete=False)]
    playlist = viewer.see(by_date(*before, *new, *day), 79)
    assert [date for date, _ in places(playlist) if date < HOUR] == [62.5, 64.5, 66.5, 68.5, 70.5, 72.5, 74.5]


def test_no_key_frame_for_minutes() -> None:
    viewer = viewer_of(length=600)
    playlist = viewer.see([part(0, 10, joins=False), part(10, 100, gop=100), part(110, 10)], 121)
    assert places(playlist)[4:6] == [(8, 2), (110, 2)]
    assert [segment.discontinuity for segment in playlist.segments].index(True) == 5
    assert viewer.window._segments[5].base == 10 * SECOND, "what is left out takes no time"
    assert playlist.target == 2, "nobody waits for what is not loaded"


@pytest.mark.parametrize(("hours", "longest"), [(1, 2), (2, 4), (24, 30)])
def test_long_windows_have_few_segments(hours: int, longest: int) -> None:
    viewer = viewer_of(length=hours * HOUR)
    parts = [part(number * HOUR, HOUR, joins=number > 0) for number in range(hours)]
    playlist = viewer.see(parts, hours * HOUR)
    assert {segment.duration for segment in playlist.segments[:-hours]} <= {longest, 30.0, 24.0, longest / 2, 2.0}
    assert len(playlist.segments) <= 3_000
    assert len(viewer.window.write()) < 350_000
    assert len(viewer.window.write(skips=True)) < 2_000


def test_names_of_others_are_not_found() -> None:
    viewer = viewer_of()
    viewer.see([part(0, 10, joins=False)], 11)
    for name in ("dvr-x-99.m4s", "dvr-x-105.m4s", "dvr-x-.m4s", "dvr-x--1.m4s", "dvr-y-100.m4s", "dvr-x-1\u0661.m4s"):
        assert viewer.window.find(name) is None
    assert viewer.window.find_head("dvr-x-b.mp4") is None
