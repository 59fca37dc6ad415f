"""The client's engine and the server's in memory, with bytes that arrive in pieces of a seeded size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.rtsp.cases import FFMPEG_SDP

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtsp import client, events
from polycast.wire.rtsp.client import PENDING_LIMIT, Answered, ClientConnection, KeepAliveRefused, NotAnswered
from polycast.wire.rtsp.headers.transport import Transport
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.message import Headers, Method, Request, Response
from polycast.wire.rtsp.parser import MessageParser
from polycast.wire.rtsp.server import ServerConnection
from polycast.wire.rtsp.server_session import Endpoint
from polycast.wire.rtsp.states import State, next_state

URL = "rtsp://h/cam"
PATIENCE = 10.0


class Pair:
    """A client and a server, and a network that cuts what they send."""

    def __init__(self, seed: int | None = None, *, needs_password: bool = False) -> None:
        secrets = count(1)
        self.now = 0.0
        self.endpoint = Endpoint(lambda: f"secret{next(secrets)}")
        self.server = ServerConnection(self.endpoint, "192.0.2.1", 0.0, nonce="nonce")
        self.client = ClientConnection(("user", "pass"), new_nonce=lambda: "cnonce")
        self.asked: list[events.Event] = []
        """Requests as the server understood them."""
        self.told: list[client.Event] = []
        """What the client learned, media aside."""
        self.to_server: list[tuple[int, bytes]] = []
        self.to_client: list[tuple[int, bytes]] = []
        """Interleaved frames."""
        self.moved_to = ""
        self._needs_password = needs_password
        self._random = Random(seed) if seed is not None else None

    def _pieces(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        while data:
            size = self._random.choice((1, 2, 7, 60, 1000)) if self._random is not None else len(data)
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    def exchange(self, media: bytes = b"") -> None:
        """Hand over bytes until both are silent; ``media`` goes to the client behind all else."""
        while True:
            upward, downward = self.client.data_to_send(), self.server.data_to_send()
            if not upward and not downward:
                downward, media = media, b""
                if not downward:
                    return
            for piece in self._pieces(upward):
                self._on_server(self.server.receive_data(piece, self.now))
                while self.server.has_more:
                    self._on_server(self.server.receive_data(b"", self.now))
            for piece in self._pieces(downward):
                self._on_client(self.client.receive_data(piece, self.now))
                while self.client.has_more:
                    self._on_client(self.client.receive_data(b"", self.now))

    def ask(
        self, method: str, url: str = URL, headers: list[tuple[str, str]] | None = None, body: bytes = b""
    ) -> Response:
        """Send a request and return the answer to it."""
        number = self.client.send_request(method, url, headers or (), body, now=self.now, patience=PATIENCE)
        self.exchange()
        (answer,) = [event for event in self.told if isinstance(event, Answered) and event.number == number]
        return answer.response

    def set_up(self, track: int, *, records: bool = False) -> Response:
        mode = "record" if records else None
        offer = Transport("TCP", delivery="unicast", interleaved=(2 * track, 2 * track + 1), mode=mode)
        control = f"streamid={track}" if records else f"trackID={track}"
        return self.ask("SETUP", f"{URL}/{control}", [("Transport", offer.serialize())])

    def send_media(self, *frames: tuple[int, bytes]) -> None:
        """Send interleaved frames to the server."""
        for piece in self._pieces(framed(*frames)):
            self._on_server(self.server.receive_data(piece, self.now))
            while self.server.has_more:
                self._on_server(self.server.receive_data(b"", self.now))

    def _on_client(self, happened: list[client.Event]) -> None:
        for event in happened:
            if isinstance(event, InterleavedRun):
                self.to_client += [(channel, event.data[start:end]) for channel, start, end in event.frames()]
            else:
                self.told.append(event)

    def _on_server(self, happened: list[events.Event]) -> None:
        for event in happened:
            if isinstance(event, InterleavedRun):
                self.to_server += [(channel, event.data[start:end]) for channel, start, end in event.frames()]
                continue
            self.asked.append(event)
            try:
                self._answer(event)
            except RemoteProtocolError as error:
                self._on_server(self.server.refuse(error.status, str(error)))

    def _answer(self, event: events.Event) -> None:
        server = self.server
        is_for_known = isinstance(event, events.DescribeRequested | events.AnnounceRequested | events.SetupRequested)
        if is_for_known and self._needs_password and not event.credentials.matches("user", "pass"):
            server.challenge(basic_only=False)
            return
        if isinstance(event, events.DescribeRequested):
            if self.moved_to:
                server.redirect(self.moved_to)
            else:
                server.accept_describe(FFMPEG_SDP)
        elif isinstance(event, events.AnnounceRequested):
            server.accept_announce(event.path, event.query)
        elif isinstance(event, events.SetupRequested):
            server.accept_setup(event.path, event.query, server.choose_transport())
        elif isinstance(event, events.PlayRequested):
            server.accept_play([(track, 1, 90_000) for track in event.session.setups])
        elif isinstance(event, events.TeardownRequested):
            server.accept_teardown()
            event.session.end()
        elif isinstance(event, events.RecordRequested):
            server.accept_record()
        elif isinstance(event, events.PauseRequested):
            server.accept_pause()


def framed(*frames: tuple[int, bytes]) -> bytes:
    return b"".join(b"$%c%s%s" % (channel, len(data).to_bytes(2, "big"), data) for channel, data in frames)


SEEDS = [None, *range(12)]
FRAMES = [(channel, b"\x80" + bytes((number,)) * (17 * number)) for number in range(30) for channel in (0, 2)]


@pytest.mark.parametrize("seed", SEEDS)
def test_play(seed: int | None) -> None:
    pair = Pair(seed, needs_password=True)
    assert "PLAY" in (pair.ask("OPTIONS").headers.get("Public") or "")
    described = pair.ask("DESCRIBE", headers=[("Accept", "application/sdp")])
    assert (described.status, described.body) == (200, FFMPEG_SDP)
    assert [pair.set_up(track).status for track in range(2)] == [200, 200]
    assert pair.client.session is not None
    assert pair.endpoint.sessions.keys() == {pair.client.session.identifier}
    played = pair.ask("PLAY")
    assert (played.headers.get("RTP-Info") or "").count("rtptime=90000") == 2
    pair.client.expect_frames({0, 1, 2, 3})
    pair.exchange(framed(*FRAMES))
    assert pair.to_client == FRAMES
    pair.send_media((1, b"\x80" * 8))
    assert pair.to_server == [(1, b"\x80" * 8)]
    assert pair.ask("PAUSE").status == 200
    assert pair.ask("PLAY").status == 200
    assert pair.ask("TEARDOWN").status == 200
    assert not pair.endpoint.sessions
    assert [type(event) for event in pair.asked].count(events.DescribeRequested) == 2  # once without the password


@pytest.mark.parametrize("seed", SEEDS)
def test_publish(seed: int | None) -> None:
    pair = Pair(seed, needs_password=True)
    assert pair.ask("ANNOUNCE", headers=[("Content-Type", "application/sdp")], body=FFMPEG_SDP).status == 200
    assert pair.set_up(0, records=True).status == 200
    session = pair.server.session
    assert session is not None
    assert session.state is State.PRE_RECORD
    refused = pair.ask("PLAY")
    assert refused.status == 455
    assert pair.set_up(1, records=True).status == 200
    assert pair.ask("RECORD").status == 200
    assert session.state is State.RECORDING
    pair.send_media(*FRAMES)
    assert pair.to_server == FRAMES
    assert pair.ask("TEARDOWN").status == 200
    assert session.has_ended


def test_a_redirection() -> None:
    pair = Pair()
    pair.moved_to = "/other"
    response = pair.ask("DESCRIBE")
    assert (response.status, response.headers.get("Location")) == (301, "rtsp://h/other")


@pytest.mark.parametrize("needs_password", [False, True])
@given(
    seed=st.integers(0, 1 << 16),
    asked=st.lists(
        st.sampled_from(["OPTIONS", "DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "RECORD", "PAUSE", "TEARDOWN"])
    ),
)
def test_the_session_follows_the_table(needs_password: bool, seed: int, asked: list[str]) -> None:
    pair = Pair(seed, needs_password=needs_password)
    state = State.INIT
    for method in asked:
        if pair.server.is_closed:
            return
        if method == "SETUP":
            response = pair.set_up(0, records=state is State.PRE_RECORD)
        elif method == "ANNOUNCE":
            body = FFMPEG_SDP.partition(b"m=audio")[0]
            response = pair.ask(method, headers=[("Content-Type", "application/sdp")], body=body)
        else:
            response = pair.ask(method)
        if response.status == 200:
            state = next_state(state, method)
        session = pair.server.session
        assert (session.state if session is not None else State.INIT) is state
        assert response.status in (200, 400, 454, 455)
        if response.status == 455:
            with pytest.raises(RemoteProtocolError):
                next_state(state, method)


def answers(pair: Pair, method: str, respond: Callable[[Request], Response | None]) -> None:
    """Answer what the client has sent by hand, where the method is this one."""
    parser = MessageParser()
    parser.receive_data(pair.client.data_to_send())
    while (request := parser.next_event()) is not None:
        assert isinstance(request, Request)
        response = respond(request) if request.method == method else Response(200)
        if response is not None:
            response.headers.set("CSeq", request.cseq or "")
            pair.told += pair.client.receive_data(response.serialize(), pair.now)  # type: ignore[arg-type]


def test_a_wrong_password_is_sent_once() -> None:
    pair = Pair()
    number = pair.client.send_request("DESCRIBE", URL, now=0.0, patience=1.0)
    challenge = [("WWW-Authenticate", 'Basic realm="x"')]
    proofs: list[str | None] = []

    def refuse(request: Request) -> Response:
        proofs.append(request.headers.get("Authorization"))
        return Response(401, Headers(challenge))

    pair.now = 0.9
    answers(pair, "DESCRIBE", refuse)
    assert pair.client.next_timeout() == pytest.approx(1.9)  # as long again for the answer to the second one
    answers(pair, "DESCRIBE", refuse)
    (event,) = pair.told
    assert isinstance(event, Answered)
    assert (event.number, event.response.status) == (number, 401)
    assert proofs[0] is None
    assert (proofs[1] or "").startswith("Basic ")
    assert pair.client.data_to_send() == b""


def test_a_request_without_an_answer() -> None:
    pair = Pair()
    number = pair.client.send_request("DESCRIBE", URL, now=0.0, patience=2.0)
    assert pair.client.handle_timeout(1.9) == []
    assert pair.client.handle_timeout(2.0) == [NotAnswered(number, "DESCRIBE", 2.0)]
    assert pair.client.next_timeout() is None
    pair.client.send_request("OPTIONS", URL, now=2.0, patience=2.0)
    # The late answer is not taken for that to the next request.
    assert pair.client.receive_data(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", 2.5) == []
    (event,) = pair.client.receive_data(b"RTSP/1.0 200 OK\r\nCSeq: 2\r\n\r\n", 2.5)
    assert isinstance(event, Answered)


def test_answers_without_numbers_are_matched_in_order() -> None:
    pair = Pair()
    numbers = [pair.client.send_request("OPTIONS", URL, now=0.0, patience=1.0) for _ in range(3)]
    happened = pair.client.receive_data(b"RTSP/1.0 200 OK\r\nCSeq: 2\r\n\r\nRTSP/1.0 200 OK\r\n\r\n", 0.0)
    assert [event.number for event in happened if isinstance(event, Answered)] == numbers[1:]
    assert pair.client.receive_data(b"RTSP/1.0 200 OK\r\n\r\n", 0.0) == []
    assert pair.client.handle_timeout(1.0) == [NotAnswered(numbers[0], "OPTIONS", 1.0)]


def test_unanswered_requests_are_limited() -> None:
    pair = Pair()
    for _ in range(PENDING_LIMIT + 5):
        pair.client.send_request("OPTIONS", URL, now=0.0)
    number = pair.client.send_request("OPTIONS", URL, now=0.0, patience=1.0)
    (event,) = pair.client.receive_data(b"RTSP/1.0 200 OK\r\nCSeq: 22\r\n\r\n", 0.0)
    assert event == Answered(number, event.response)  # type: ignore[union-attr]
    for _ in range(PENDING_LIMIT):
        pair.client.send_request("OPTIONS", URL, now=0.0, patience=1.0)
    with pytest.raises(LocalProtocolError):
        pair.client.send_request("OPTIONS", URL, now=0.0, patience=1.0)


def test_keep_alives() -> None:
    pair = Pair()
    pair.client.send_request("SETUP", URL, now=0.0, patience=1.0)
    answers(pair, "SETUP", lambda _: Response(200, Headers([("Session", "S1;timeout=10")])))
    pair.client.send_request("SETUP", URL, now=0.0, patience=1.0)
    answers(pair, "SETUP", lambda _: Response(200, Headers([("Session", "S1")])))
    pair.told.clear()
    pair.client.keep_alive(URL, {"GET_PARAMETER"}, 0.0)
    assert pair.client.next_timeout() == 8.0
    assert pair.client.handle_timeout(7.9) == []
    assert pair.client.data_to_send() == b""
    pair.now = 8.0
    assert pair.client.handle_timeout(8.0) == []
    asked: list[str] = []

    def refuse(request: Request) -> Response:
        asked.append(request.headers.get("Session") or "")
        return Response(454)

    answers(pair, "GET_PARAMETER", refuse)
    assert asked == ["S1"]
    assert pair.told == [KeepAliveRefused("GET_PARAMETER", 454)]
    assert pair.client.handle_timeout(16.0) == []
    assert pair.client.data_to_send().count(b"RTSP/1.0\r\n") == 1  # OPTIONS alone
    assert pair.client.next_timeout() == 20.0
    assert pair.client.handle_timeout(20.0) == []  # one missing answer counts for nothing yet
    pair.client.handle_timeout(24.0)
    assert pair.client.handle_timeout(28.0) == [KeepAliveRefused("OPTIONS", None)]


def test_requests_of_the_server() -> None:
    pair = Pair()
    for method, status in (("OPTIONS", 200), ("SET_PARAMETER", 200), ("PLAY", 501), ("TEARDOWN", 200)):
        happened = pair.client.receive_data(f"{method} {URL} RTSP/1.0\r\nCSeq: 7\r\n\r\n".encode(), 0.0)
        assert happened == ([client.SessionEnded(Method.TEARDOWN)] if method == "TEARDOWN" else [])
        assert pair.client.data_to_send().startswith(b"RTSP/1.0 %d " % status)


def test_bytes_that_cannot_be_read() -> None:
    pair = Pair()
    number = pair.client.send_request("OPTIONS", URL, now=0.0, patience=1.0)
    (event,) = pair.client.receive_data(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n\xff", 0.0)
    assert isinstance(event, Answered)
    assert event.number == number
    assert pair.client.has_more
    with pytest.raises(RemoteProtocolError):
        pair.client.receive_data(b"", 0.0)
    assert pair.client.is_closed
    assert pair.client.next_timeout() is None
    with pytest.raises(LocalProtocolError):
        pair.client.send_request("OPTIONS", URL, now=0.0)
