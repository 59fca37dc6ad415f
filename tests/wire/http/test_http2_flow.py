"""HTTP/2 with h2 as the client, which holds us to its windows; small and changing ones, and several streams in turn."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from tests.wire.http.support import DATE, take

from polycast.wire.http.http2 import Http2Connection
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

CODES = h2.settings.SettingCodes
BODY = bytes(range(256)) * 1000


class Player:
    """A client with its connection to an engine. What it was sent is in ``bodies``, by stream."""

    def __init__(self, window: int = 65_535) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.client.local_settings = h2.settings.Settings(initial_values={CODES.INITIAL_WINDOW_SIZE: window})
        self.client.initiate_connection()
        self.server = Http2Connection()
        self.bodies: dict[int, bytearray] = defaultdict(bytearray)
        self.statuses: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.order: list[int] = []
        """Streams in the order of their DATA."""

    def ask(self, path: str = "/a", method: str = "GET", *, body: bool = False) -> int:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(
            stream,
            [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)],
            end_stream=not body,
        )
        return stream

    def exchange(self, answer: Response | None = None) -> None:
        """Let both talk until neither has more to say; the server answers requests with ``answer``."""
        while True:
            data = self.client.data_to_send()
            if data:
                self.server.receive_data(data)
            while (event := self.server.next_event()) is not None:
                if isinstance(event, Request) and answer is not None:
                    self.server.respond(event.stream, answer, DATE, head=event.method == "HEAD")
            sent = take(self.server, 50_000)
            if not sent and not data:
                return
            for happened in self.client.receive_data(sent):
                self.note(happened)

    def note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.order.append(event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived):
            self.statuses[event.stream_id] = dict(event.headers)[b":status"]
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)

    def open(self, size: int, stream: int | None = None) -> None:
        self.client.increment_flow_control_window(size, stream)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "answer", [Response(200, [], b"small"), Response(304, [(b"etag", b'"a"')]), Response(404, [], b"no")]
)
def test_answers(method: str, answer: Response) -> None:
    player = Player()
    streams = [player.ask(method=method) for _ in range(3)]
    player.exchange(answer)
    for stream in streams:
        assert player.statuses[stream] == b"%d" % answer.status
        assert player.bodies[stream] == (answer.body if method == "GET" else b"")
    assert player.ended == set(streams)


def test_the_connections_window() -> None:
    player = Player(window=1 << 20)
    stream = player.ask()
    player.exchange(Response(200, [], BODY))
    assert len(player.bodies[stream]) == 65_535
    assert player.server.is_sending
    player.open(1)
    player.exchange()
    assert len(player.bodies[stream]) == 65_536
    player.open(len(BODY))
    player.exchange()
    assert player.bodies[stream] == BODY
    assert player.ended == {stream}
    assert not player.server.is_sending


def test_a_streams_window_holds_up_no_other() -> None:
    player = Player(window=10)
    player.open(1 << 20)
    first, second = player.ask(), player.ask()
    player.exchange(Response(200, [], BODY))
    assert [len(player.bodies[stream]) for stream in (first, second)] == [10, 10]
    player.open(1 << 20, second)
    player.exchange()
    assert player.bodies[second] == BODY
    assert len(player.bodies[first]) == 10
    player.open(len(BODY) - 11, first)
    player.exchange()
    assert player.ended == {second}
    player.open(1, first)
    player.exchange()
    assert player.bodies[first] == BODY
    assert player.ended == {first, second}


def test_no_window_at_all() -> None:
    player = Player(window=0)
    stream = player.ask()
    player.exchange(Response(200, [], b"x"))
    assert player.statuses[stream] == b"200"
    assert not player.bodies[stream]
    player.open(1, stream)
    player.exchange()
    assert player.bodies[stream] == b"x"


def test_windows_below_zero() -> None:
    """A client that takes back what it had allowed (RFC 9113 section 6.9.2)."""
    player = Player(window=1000)
    player.open(1 << 20)
    stream = player.ask()
    player.exchange(Response(200, [], BODY))
    assert len(player.bodies[stream]) == 1000
    player.client.update_settings({CODES.INITIAL_WINDOW_SIZE: 100})  # 900 below zero now
    player.exchange()
    player.open(900, stream)
    player.exchange()
    assert len(player.bodies[stream]) == 1000
    player.open(1, stream)
    player.exchange()
    assert len(player.bodies[stream]) == 1001
    player.client.update_settings({CODES.INITIAL_WINDOW_SIZE: 1 << 20})
    player.exchange()
    assert player.bodies[stream] == BODY


@pytest.mark.parametrize("seed", range(8))
def test_windows_that_change_all_the_time(seed: int) -> None:
    random = Random(seed)
    player = Player(window=random.choice((0, 1, 100, 20_000)))
    answers = [Response(200, [], BODY[: random.choice((1, 500, 16_384, 16_385, 100_000))]) for _ in range(6)]
    asked = {}
    for answer in answers:
        stream = player.ask()
        asked[stream] = answer
        player.exchange(answer)
    for _ in range(2000):
        if player.ended == set(asked):
            break
        step = random.randrange(3)
        if step == 0:
            player.open(random.choice((1, 99, 16_384)))
        elif step == 1:
            player.open(random.choice((1, 5000, 40_000)), random.choice([s for s in asked if s not in player.ended]))
        else:
            player.client.update_settings({CODES.INITIAL_WINDOW_SIZE: random.choice((0, 1, 3000, 70_000))})
        player.exchange()
    assert {stream: bytes(player.bodies[stream]) for stream in asked} == {s: a.body for s, a in asked.items()}


def test_streams_have_their_turns() -> None:
    player = Player(window=1 << 20)
    player.open(1 << 20)
    streams = [player.ask() for _ in range(3)]
    player.exchange(Response(200, [], bytes(10 * 16_384)))
    assert player.order == streams * 10


def test_large_frames_for_clients_that_allow_them() -> None:
    player = Player(window=1 << 20)
    player.client.update_settings({CODES.MAX_FRAME_SIZE: 1 << 20})
    player.open(1 << 20)
    player.exchange()
    stream = player.ask()
    player.exchange(Response(200, [], BODY))
    assert player.bodies[stream] == BODY
    assert len(player.order) == -(-len(BODY) // 65_536)


def test_a_body_is_answered_when_it_is_complete() -> None:
    player = Player()
    stream = player.ask(method="POST", body=True)
    player.client.send_data(stream, bytes(10_000))
    player.exchange(Response(404, [], b"no"))
    assert not player.statuses
    player.client.send_data(stream, bytes(10_000), end_stream=True)
    player.exchange(Response(404, [], b"no"))
    assert player.statuses[stream] == b"404"
    assert player.bodies[stream] == b"no"
    other = player.ask()
    player.exchange(Response(200, [], b"yes"))
    assert player.bodies[other] == b"yes"


def test_a_request_that_is_given_up_while_it_is_answered() -> None:
    player = Player()
    first = player.ask()
    player.exchange(Response(200, [], BODY))
    player.client.reset_stream(first)
    player.open(1 << 20)
    second = player.ask()
    player.exchange(Response(200, [], b"second"))
    assert player.bodies[second] == b"second"
    assert not player.server.is_sending
