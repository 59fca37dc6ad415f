"""The thread that transcodes: it takes what is put, in order, drops what it cannot manage, and ends when told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from tests.support.waiting import PATIENCE

from polycast.media.codec import MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode import worker as module
from polycast.transcode.worker import MAXIMUM_AGE, MAXIMUM_WAITING, MAXIMUM_WAITING_SIZE, Worker

TRACK = Track(0, MPEG4Audio())
OTHER = Track(0, MPEG4Audio(channels=1))


class Transcoder:
    """Returns the frames that it gets, once it may."""

    def __init__(self, track: Track) -> None:
        self.errors = 0
        self.problem = ""
        self.restarts = 0
        self.requests: SimpleQueue[None] = SimpleQueue()
        self.seen.put(track)
        Transcoder.last = self

    last: Transcoder
    seen: SimpleQueue[Track | Frame]
    may_work: threading.Event
    clock: float

    def update(self, track: Track) -> None:
        self.seen.put(track)

    def restart(self) -> None:
        self.restarts += 1

    def request_key_frame(self) -> None:
        self.requests.put(None)

    def transcode(self, frame: Frame) -> list[Frame]:
        self.seen.put(frame)
        assert self.may_work.wait(PATIENCE)
        if frame.units == (b"broken",):
            self.errors += 1
            self.problem = "it is broken"
            return []
        if frame.units == (b"bug",):
            raise KeyError("bug")
        return [frame]


def frame(data: bytes = b"sound") -> Frame:
    return Frame((data,), 0, 0, key=True)


class Running:
    """A worker and what it delivered."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.delivered: SimpleQueue[list[Frame]] = SimpleQueue()
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        self.worker = Worker(
            lambda: Transcoder(TRACK),
            deliver=self.delivered.put,
            fail=self.failures.put,
            name="test",
            now=lambda: self.clock,
        )
        self.worker.start()

    def next(self) -> list[Frame]:
        return self.delivered.get(timeout=PATIENCE)

    def join(self) -> None:
        self.worker.thread.join(PATIENCE)
        assert not self.worker.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Running]:
    Transcoder.seen = SimpleQueue()
    Transcoder.may_work = threading.Event()
    Transcoder.may_work.set()
    started = Running()
    yield started
    Transcoder.may_work.set()
    started.worker.close()
    started.join()


def seen() -> Any:
    return Transcoder.seen.get(timeout=PATIENCE)


def test_batches_are_delivered_in_order(running: Running) -> None:
    first, second, third = frame(), frame(), frame()
    running.worker.put([first, OTHER, second])
    running.worker.put([third])
    assert running.next() == [first, second]
    assert running.next() == [third]
    assert [seen() for _ in range(5)] == [TRACK, first, OTHER, second, third]
    assert running.worker.dropped == 0


def test_what_waits_too_long_is_dropped_but_not_the_parameters(running: Running) -> None:
    Transcoder.may_work.clear()
    slow, late, fresh = frame(), frame(), frame()
    running.worker.put([slow])
    assert (seen(), seen()) == (TRACK, slow)
    running.worker.put([late, OTHER])
    running.clock = MAXIMUM_AGE + 0.1
    running.worker.put([fresh])
    Transcoder.may_work.set()
    assert running.next() == [slow]
    assert running.next() == [fresh]
    assert (seen(), seen()) == (OTHER, fresh)
    assert running.worker.dropped == 1


def test_the_queue_is_limited(running: Running) -> None:
    Transcoder.may_work.clear()
    running.worker.put([frame()])
    assert seen() == TRACK
    seen()
    for _ in range(MAXIMUM_WAITING):
        running.worker.put([frame()])
    running.worker.put([OTHER, frame(), frame()])
    assert running.worker.dropped == 2
    Transcoder.may_work.set()
    for _ in range(MAXIMUM_WAITING + 1):
        assert len(running.next()) == 1
    running.worker.put([frame()])
    assert len(running.next()) == 1
    assert [seen() for _ in range(MAXIMUM_WAITING + 1)][-1] == OTHER


def test_the_bytes_in_the_queue_are_limited(running: Running) -> None:
    Transcoder.may_work.clear()
    running.worker.put([frame()])
    assert seen() == TRACK
    seen()
    count = 64
    large = bytes(MAXIMUM_WAITING_SIZE // count)
    for _ in range(count):
        running.worker.put([frame(large)])
    assert running.worker.dropped == 0
    running.worker.put([frame(), OTHER])
    assert running.worker.dropped == 1
    Transcoder.may_work.set()
    for _ in range(count + 1):
        assert len(running.next()) == 1
    running.worker.put([frame(large)])
    assert len(running.next()) == 1
    assert running.worker.dropped == 1


def test_descriptions_of_the_track_are_limited(running: Running) -> None:
    """A publisher may change its parameters with each message, faster than decoders can be opened."""
    Transcoder.may_work.clear()
    running.worker.put([frame()])
    assert seen() == TRACK
    seen()
    for _ in range(3 * MAXIMUM_WAITING):
        running.worker.put([TRACK])
    running.worker.put([TRACK, frame(), OTHER])
    assert running.worker.dropped == 1
    Transcoder.may_work.set()
    assert len(running.next()) == 1
    running.worker.put([last := frame()])
    assert running.next() == [last]
    received = [seen() for _ in range(Transcoder.seen.qsize())]
    assert received[-2:] == [OTHER, last]
    assert len(received) <= MAXIMUM_WAITING + 2


def picture(*, key: bool = False, size: int = 5) -> Frame:
    return Frame((bytes(size),), 0, 0, key=key)


def test_late_pictures_are_dropped_up_to_the_next_key_frame(running: Running) -> None:
    Transcoder.may_work.clear()
    slow = picture(key=True)
    running.worker.put([slow])
    assert (seen(), seen()) == (TRACK, slow)
    running.worker.put([picture(), picture()])
    running.clock = MAXIMUM_AGE + 0.1
    key, next_one = picture(key=True), picture()
    running.worker.put([picture(), picture()])
    running.worker.put([key, next_one])
    Transcoder.may_work.set()
    assert running.next() == [slow]
    assert running.next() == [key, next_one]
    assert running.worker.dropped == 4
    assert Transcoder.last.restarts == 1


@pytest.mark.parametrize("limit", ["MAXIMUM_WAITING", "MAXIMUM_WAITING_SIZE"])
def test_pictures_that_found_no_room_are_missing_up_to_the_next_key_frame(
    running: Running, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit == "MAXIMUM_WAITING":
        monkeypatch.setattr(module, limit, 4)
    else:
        running.worker._queue._maximum_size = 20
    Transcoder.may_work.clear()
    first = picture(key=True)
    running.worker.put([first])
    assert (seen(), seen()) == (TRACK, first)
    taken = [picture() for _ in range(4)]
    for each in taken:
        running.worker.put([each])
    running.worker.put([picture()])
    assert running.worker.dropped == 1
    Transcoder.may_work.set()
    assert [running.next() for _ in range(5)] == [[each] for each in (first, *taken)]
    key = picture(key=True)
    running.worker.put([OTHER])
    running.worker.put([picture(), picture(), key])
    assert running.next() == [key]
    assert running.worker.dropped == 3
    assert Transcoder.last.restarts == 1


def test_key_frames_are_requested(running: Running) -> None:
    running.worker.put([first := frame()])
    assert running.next() == [first]
    running.worker.request_key_frame()
    Transcoder.last.requests.get(timeout=PATIENCE)


def test_errors_are_told(running: Running) -> None:
    running.worker.put([frame(b"broken"), good := frame()])
    assert running.next() == [good]
    assert (running.worker.errors, running.worker.problem) == (1, "it is broken")


def test_a_bug_ends_the_thread_and_is_told(running: Running) -> None:
    running.worker.put([frame(b"bug")])
    assert isinstance(running.failures.get(timeout=PATIENCE), KeyError)
    running.join()


def test_nothing_is_delivered_after_closing(running: Running) -> None:
    Transcoder.may_work.clear()
    running.worker.put([frame(), frame(b"bug")])
    running.worker.put([frame()])
    assert seen() == TRACK
    seen()
    running.worker.close()
    Transcoder.may_work.set()
    running.join()
    assert running.delivered.empty()
    assert running.failures.empty()
