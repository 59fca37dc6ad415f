"""Refused requests are logged once a minute for each client, path and reason, with the number of those left out."""

from __future__ import annotations

from polycast.hub.refusals import MAXIMUM_ADDRESSES, MAXIMUM_OF_ADDRESS, WINDOW_SECONDS, Refusals


def test_each_client_path_and_reason() -> None:
    refusals = Refusals()
    for address, path, reason in (("a", "p", "x"), ("b", "p", "x"), ("a", "q", "x"), ("a", "p", "y")):
        assert refusals.log_suffix(address, path, reason, 0.0) == ""
        assert refusals.log_suffix(address, path, reason, WINDOW_SECONDS - 1) is None
    assert refusals.log_suffix("a", "p", "x", WINDOW_SECONDS) == " (and 3 more refused requests of this address before)"
    assert refusals.log_suffix("a", "p", "x", WINDOW_SECONDS) is None
    assert refusals.log_suffix("a", "p", "y", WINDOW_SECONDS) == ""


def test_limits() -> None:
    refusals = Refusals()
    lines = [refusals.log_suffix("a", str(number), "x", 0.0) for number in range(MAXIMUM_OF_ADDRESS + 3)]
    assert lines == [""] * MAXIMUM_OF_ADDRESS + [None] * 3
    for number in range(MAXIMUM_ADDRESSES):
        assert refusals.log_suffix(f"b{number}", "p", "x", 1.0) == ""
    assert refusals.log_suffix("a", "0", "x", 1.0) == ""  # forgotten
