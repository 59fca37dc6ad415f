"""Which requests keep a session alive."""

from __future__ import annotations

import pytest

from polycast.wire.rtsp.keep_alive import KeepAlive
from polycast.wire.rtsp.message import Method

GET, OPTIONS = Method.GET_PARAMETER, Method.OPTIONS


def test_methods_that_are_answered() -> None:
    for public, methods in ((set(), (OPTIONS,)), ({"OPTIONS", "GET_PARAMETER"}, (GET, OPTIONS))):
        keep_alive = KeepAlive(public)
        assert keep_alive.due() == methods
        assert not any(keep_alive.on_answer(method, 200) for method in methods)
        assert keep_alive.due() == methods


@pytest.mark.parametrize("status", [None, 400, 401, 404, 405, 454, 501])
@pytest.mark.parametrize(("refused", "other"), [(GET, OPTIONS), (OPTIONS, GET)])
def test_refused_or_unanswered_methods_are_omitted(status: int | None, refused: Method, other: Method) -> None:
    keep_alive = KeepAlive({"GET_PARAMETER"})
    for method in (refused, other):
        if status is None:
            assert not keep_alive.on_answer(method, None), "the first one may be late"
    assert keep_alive.due() == (GET, OPTIONS)
    assert keep_alive.on_answer(refused, status)
    assert not keep_alive.on_answer(other, 200)
    assert keep_alive.due() == (other,)
    assert not keep_alive.on_answer(refused, status), "it is told once"
    # When nothing is accepted, all is better than nothing; a server that was only slow is believed again.
    if status is None:
        assert not keep_alive.on_answer(other, None)
    assert keep_alive.on_answer(other, status)
    assert keep_alive.due() == (GET, OPTIONS)
    keep_alive.on_answer(other, 200)
    assert keep_alive.due() == (other,)


def test_options_alone_are_sent_whatever_the_answer() -> None:
    keep_alive = KeepAlive({"DESCRIBE"})
    keep_alive.on_answer(OPTIONS, 454)
    assert keep_alive.due() == (OPTIONS,)
