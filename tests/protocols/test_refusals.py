"""Refused HTTP requests are logged once a minute for each client, path and reason."""

from __future__ import annotations

from polycast.protocols.refusals import MAXIMUM_ADDRESSES, MAXIMUM_OF_ADDRESS, WINDOW_SECONDS, Refusals


def test_each_client_path_and_reason() -> None:
    refusals = Refusals()
    for address, path, reason in (("a", "p", "x"), ("b", "p", "x"), ("a", "q", "x"), ("a", "p", "y")):
        assert refusals.is_worth_telling(address, path, reason, 0.0)
        assert not refusals.is_worth_telling(address, path, reason, WINDOW_SECONDS - 1)
    assert refusals.is_worth_telling("a", "p", "x", WINDOW_SECONDS)
    assert not refusals.is_worth_telling("a", "p", "x", WINDOW_SECONDS)


def test_limits() -> None:
    refusals = Refusals()
    told = [refusals.is_worth_telling("a", str(number), "x", 0.0) for number in range(MAXIMUM_OF_ADDRESS + 1)]
    assert told == [True] * MAXIMUM_OF_ADDRESS + [False]
    for number in range(MAXIMUM_ADDRESSES):
        assert refusals.is_worth_telling(f"b{number}", "p", "x", 1.0)
    assert refusals.is_worth_telling("a", "0", "x", 1.0)  # forgotten
