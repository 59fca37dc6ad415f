"""Who guesses passwords."""

from __future__ import annotations

from polycast.hub.failures import LONGEST_LINE, MAXIMUM_ADDRESSES, TOLERATED_FAILURES, WINDOW_SECONDS, FailureTracker


def test_mistakes_are_tolerated_guessing_is_not() -> None:
    tracker = FailureTracker()
    assert [tracker.count("192.0.2.1", 0) for _ in range(TOLERATED_FAILURES + 2)] == [False] * TOLERATED_FAILURES + [
        True
    ] * 2
    assert not tracker.count("192.0.2.2", 0)


def test_window_ends() -> None:
    tracker = FailureTracker()
    for _ in range(TOLERATED_FAILURES + 1):
        tracker.count("192.0.2.1", 5)
    assert tracker.count("192.0.2.1", 5 + WINDOW_SECONDS)
    assert not tracker.count("192.0.2.1", 5.1 + WINDOW_SECONDS)


def test_memory_is_limited() -> None:
    tracker = FailureTracker()
    for number in range(MAXIMUM_ADDRESSES + 100):
        tracker.count(str(number), 0)
    assert len(tracker._counts) == MAXIMUM_ADDRESSES
    assert "0" not in tracker._counts


def test_attempts_of_one_address_are_serialized_over_all_connections() -> None:
    tracker = FailureTracker()
    turns = [tracker.turn("192.0.2.1", 100.0, 2.0) for _ in range(400)]
    waiting = [turn for turn in turns if turn is not None]
    assert waiting == [2.0 * number for number in range(1, LONGEST_LINE + 2)]
    assert tracker.turn("192.0.2.2", 100.0, 2.0) == 2.0
    # In a minute, 30 of them had their turn.
    assert tracker.turn("192.0.2.1", 160.0, 2.0) == 4.0
    assert tracker.turn("192.0.2.1", 1000.0, 2.0) == 2.0


def test_repeated_guesses() -> None:
    tracker = FailureTracker()
    assert not tracker.is_guessing("192.0.2.1", 0)
    for _ in range(TOLERATED_FAILURES + 1):
        tracker.count("192.0.2.1", 5)
    assert tracker.is_guessing("192.0.2.1", 5 + WINDOW_SECONDS)
    assert not tracker.is_guessing("192.0.2.1", 5.1 + WINDOW_SECONDS)
    for number in range(MAXIMUM_ADDRESSES + 100):
        tracker.turn(str(number), 0, 1.0)
    assert len(tracker._turns) == MAXIMUM_ADDRESSES
