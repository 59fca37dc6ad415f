"""Who guesses passwords."""

from __future__ import annotations

from polycast.hub.failures import MAXIMUM_ADDRESSES, TOLERATED_FAILURES, WINDOW_SECONDS, FailureTracker


def test_mistakes_are_tolerated_guessing_is_not() -> None:
    tracker = FailureTracker()
    assert [tracker.note("192.0.2.1", 0) for _ in range(TOLERATED_FAILURES + 2)] == [False] * TOLERATED_FAILURES + [
        True
    ] * 2
    assert not tracker.note("192.0.2.2", 0)


def test_window_ends() -> None:
    tracker = FailureTracker()
    for _ in range(TOLERATED_FAILURES + 1):
        tracker.note("192.0.2.1", 5)
    assert tracker.note("192.0.2.1", 5 + WINDOW_SECONDS)
    assert not tracker.note("192.0.2.1", 5.1 + WINDOW_SECONDS)


def test_memory_is_limited() -> None:
    tracker = FailureTracker()
    for number in range(MAXIMUM_ADDRESSES + 100):
        tracker.note(str(number), 0)
    assert len(tracker._counts) == MAXIMUM_ADDRESSES
    assert "0" not in tracker._counts
