"""A client of STUN servers, against the messages of aioice."""

from __future__ import annotations

import itertools

import pytest
from aioice import stun

from polycast.wire.webrtc.stun import parse_message
from polycast.wire.webrtc.stun_client import MAXIMUM_TRANSMISSIONS, REQUEST_INTERVAL, StunClient

ONE, OTHER = ("192.0.2.1", 3478), ("192.0.2.2", 3478)
MAPPED = ("203.0.113.5", 4000)


def client(*servers: tuple[str, int]) -> StunClient:
    numbers = itertools.count()
    return StunClient(servers, 0.0, lambda size: bytes([next(numbers)]) * size)


def answer(request: bytes, mapped: tuple[str, int] = MAPPED, *, is_error: bool = False) -> bytes:
    """Return the answer of a server."""
    parsed = stun.parse_message(request)
    assert parsed.message_method == stun.Method.BINDING
    assert parsed.message_class == stun.Class.REQUEST
    kind = stun.Class.ERROR if is_error else stun.Class.RESPONSE
    message = stun.Message(stun.Method.BINDING, kind, transaction_id=parsed.transaction_id)
    if is_error:
        message.attributes["ERROR-CODE"] = (500, "Server Error")
    else:
        message.attributes["XOR-MAPPED-ADDRESS"] = mapped
    return bytes(message)


def test_the_public_address_is_learnt_and_asked_for_again() -> None:
    it = client(ONE)
    assert it.next_timeout() == 0.0
    it.handle_timeout(0.0)
    ((request, destination),) = it.data_to_send()
    assert destination == ONE
    assert it.addresses == ()
    it.receive(parse_message(answer(request)), ONE, 0.1)
    assert it.addresses == (MAPPED,)
    assert it.next_timeout() == pytest.approx(0.1 + REQUEST_INTERVAL)
    it.handle_timeout(0.1 + REQUEST_INTERVAL)
    ((again, _),) = it.data_to_send()
    assert again != request
    it.receive(parse_message(answer(again, ("2001:db8::5", 5000))), ONE, 30.0)
    assert it.addresses == (("2001:db8::5", 5000),)


def test_what_answers_nothing_is_ignored() -> None:
    it = client(ONE, OTHER)
    it.handle_timeout(0.0)
    (first, _), (second, _) = it.data_to_send()
    it.receive(parse_message(answer(first)), OTHER, 0.1)
    it.receive(parse_message(answer(second)), ONE, 0.1)
    it.receive(parse_message(answer(first)), ("192.0.2.9", 3478), 0.1)
    it.receive(parse_message(first), ONE, 0.1)
    assert it.addresses == ()
    it.receive(parse_message(answer(first)), ONE, 0.1)
    it.receive(parse_message(answer(first, ("198.51.100.1", 1))), ONE, 0.2)  # a second time
    assert it.addresses == (MAPPED,)
    it.receive(parse_message(answer(second)), OTHER, 0.3)
    assert it.addresses == (MAPPED,), "the same address of two servers"


@pytest.mark.parametrize("is_error", [False, True])
def test_an_address_is_forgotten_when_the_server_no_longer_tells_it(is_error: bool) -> None:
    it = client(ONE)
    it.handle_timeout(0.0)
    ((request, _),) = it.data_to_send()
    it.receive(parse_message(answer(request)), ONE, 0.0)
    now = REQUEST_INTERVAL
    it.handle_timeout(now)
    ((request, _),) = it.data_to_send()
    if is_error:
        it.receive(parse_message(answer(request, is_error=True)), ONE, now)
    else:
        times = []
        while it.addresses:
            due = it.next_timeout()
            assert due is not None
            times.append(due - now)
            it.handle_timeout(due)
            it.data_to_send()
        assert times == [0.5, 1.5, 3.5, 7.5, 15.5]
        assert len(times) == MAXIMUM_TRANSMISSIONS
    assert it.addresses == ()
    due = it.next_timeout()
    assert due is not None
    it.handle_timeout(due)
    assert it.data_to_send(), "it asks again later"


def test_without_servers_there_is_nothing_to_do() -> None:
    assert client().next_timeout() is None
