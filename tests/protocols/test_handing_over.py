"""Connections that another worker goes on with: it makes the same engine of the bytes, and answers nothing twice."""

from __future__ import annotations

import pytest
from tests.wire.rtmp.support import SEED, Pair

from polycast.protocols.handing_over import MAXIMUM_HISTORY, History
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.server import ServerConnection


class Recording(ServerConnection):
    """An engine whose bytes are recorded, in both directions."""

    def __init__(self, now: float, seed: bytes) -> None:
        super().__init__(now, seed=seed)
        self.history = History()
        self.sent = b""

    def receive_data(self, data: bytes, now: float) -> object:  # type: ignore[override]
        self.history.receive(data)
        return super().receive_data(data, now)

    def data_to_send(self) -> bytes:
        data = self.history.answer(super().data_to_send())
        self.sent += data
        return data


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("piece", [1, 7, 1 << 30])
def test_the_engine_of_another_worker_goes_on(mode: Mode, piece: int) -> None:
    url = parse_url("rtmp://example.com/live/key?user=u&pass=p")
    client, first = ClientConnection(url, mode, 0.0, seed=SEED), Recording(5.25, SEED[::-1])
    _, events = Pair(client, first, piece).exchange()  # type: ignore[arg-type]
    assert first.history.answered == len(first.sent) > 3_000

    other = ServerConnection(5.25, seed=first.seed)
    history = History(answered_before=first.history.answered)
    again = list(other.receive_data(bytes(first.history.received), 7.0))
    while other.has_more:
        again += other.receive_data(b"", 7.0)
    assert [type(event) for event in again] == [type(event) for event in events]
    answers = other.data_to_send()
    assert answers == first.sent
    assert history.answer(answers) == b""
    # From here on, what is sent is new.
    other.refuse("NetStream.Play.Failed", "text")
    refusal = other.data_to_send()
    assert history.answer(refusal) == refusal
    assert history.answered == len(refusal)


@pytest.mark.parametrize("pieces", [(10, 5), (4, 11), (15,), (3, 3, 3, 3, 3), (14, 1)])
def test_what_was_answered_is_not_sent_again(pieces: tuple[int, ...]) -> None:
    history, sent, data = History(answered_before=10), b"", bytes(range(15))
    for size in pieces:
        sent += history.answer(data[:size])
        data = data[size:]
    assert sent == bytes(range(10, 15))


def test_a_long_conversation_is_not_remembered() -> None:
    history = History()
    assert history.receive(bytes(MAXIMUM_HISTORY))
    assert not history.receive(b"1")
