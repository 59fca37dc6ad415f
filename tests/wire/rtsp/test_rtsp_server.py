"""The server's engine: requests as bytes in, events and responses out."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.rtsp.cases import FFMPEG_ANNOUNCE, FFMPEG_SDP

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtsp import events
from polycast.wire.rtsp.authentication import ClientAuthenticator
from polycast.wire.rtsp.deadlines import IDLE_TIMEOUT
from polycast.wire.rtsp.interleaved import RUN_LIMIT, InterleavedRun
from polycast.wire.rtsp.message import Headers, Request, Response
from polycast.wire.rtsp.parser import MessageParser
from polycast.wire.rtsp.server import (
    BYTES_PER_CALL,
    EVENTS_PER_CALL,
    FAILURES_BEFORE_DENIAL,
    FULL_SIZE,
    PUBLIC,
    ServerConnection,
)
from polycast.wire.rtsp.server_session import Endpoint, ServerSession
from polycast.wire.rtsp.states import State
from polycast.wire.rtsp.transport_choice import Protocol

URL = "rtsp://h/cam"
HOST = "192.0.2.1"
TIMEOUT = 10.0


class Server:
    """Connections of one endpoint."""

    def __init__(self, **options: object) -> None:
        secrets = count(1)
        self.endpoint = Endpoint(lambda: f"secret{next(secrets)}", timeout=TIMEOUT, **options)  # type: ignore[arg-type]

    def connect(self, host: str = HOST, now: float = 0.0) -> Client:
        return Client(ServerConnection(self.endpoint, host, now, nonce="nonce"))


class Client:
    """Writes requests to an engine, and reads its responses."""

    def __init__(self, engine: ServerConnection) -> None:
        self.engine = engine
        self.now = 0.0
        self._cseq = 0
        self._parser = MessageParser()

    def send(self, method: str, url: str = URL, body: bytes = b"", **headers: str) -> list[events.Event]:
        self._cseq += 1
        items = [("CSeq", str(self._cseq)), *((name.replace("_", "-"), value) for name, value in headers.items())]
        return self.engine.receive_data(Request(method, url, Headers(items), body).serialize(), self.now)

    def responses(self) -> list[Response]:
        self._parser.receive_data(self.engine.data_to_send())
        found: list[Response] = []
        while (event := self._parser.next_event()) is not None:
            assert isinstance(event, Response)
            assert event.headers.get("Server") == "polycast"
            found.append(event)
        return found

    def response(self) -> Response:
        (response,) = self.responses()
        assert response.cseq == str(self._cseq)
        return response

    def announce(self) -> ServerSession:
        (event,) = self.send("ANNOUNCE", body=FFMPEG_SDP, Content_Type="application/sdp")
        assert isinstance(event, events.AnnounceRequested)
        assert (event.path, event.query, len(event.description.medias)) == ("cam", "", 2)
        self.engine.accept_announce(event.path, event.query)
        assert self.response().status == 200
        return event.session

    def setup(self, url: str, transport: str, **headers: str) -> tuple[events.SetupRequested, Response]:
        (event,) = self.send("SETUP", url, Transport=transport, **headers)
        assert isinstance(event, events.SetupRequested)
        chosen = self.engine.choose_transport()
        self.engine.accept_setup(event.path, event.query, chosen, ssrc=0x1234, server_port=(8000, 8001))
        return event, self.response()

    def play(self) -> ServerSession:
        event, _ = self.setup(f"{URL}/trackID=0", "RTP/AVP/TCP;unicast;interleaved=0-1")
        (asked,) = self.send("PLAY")
        assert asked == events.PlayRequested(event.session)
        self.engine.accept_play([(0, 17, 3000)])
        assert self.response().status == 200
        return event.session


def test_a_publisher() -> None:
    client = Server().connect()
    assert client.send("OPTIONS") == []
    assert client.response().headers.get("Public") == PUBLIC
    session = client.announce()
    for index in range(2):
        channels = f"{2 * index}-{2 * index + 1}"
        transport = f"RTP/AVP/TCP;unicast;interleaved={channels};mode=record"
        event, response = client.setup(f"{URL}/streamid={index}", transport)
        assert (event.session, event.track, event.records) == (session, index, True)
        assert response.headers.get("Session") == session.secret
        assert response.headers.get("Transport") == f"RTP/AVP/TCP;unicast;interleaved={channels};ssrc=00001234"
        assert session.state is State.PRE_RECORD
    assert client.send("RECORD") == [events.RecordRequested(session)]
    assert session.state is State.PRE_RECORD
    client.engine.accept_record()
    assert session.state is State.RECORDING
    assert session.is_bound
    assert client.response().status == 200
    runs = client.engine.receive_data(b"$\x00\x00\x02ab$\x02\x00\x01c", 0.0)
    found = [
        (channel, run.data[start:end])
        for run in runs
        if isinstance(run, InterleavedRun)
        for channel, start, end in run.frames()
    ]
    assert found == [(0, b"ab"), (2, b"c")]
    assert not client.engine.has_more
    assert client.send("PAUSE") == [events.PauseRequested(session)]
    client.engine.accept_pause()
    assert session.state is State.PRE_RECORD
    assert client.response().status == 200
    assert client.send("TEARDOWN") == [events.TeardownRequested(session)]
    client.engine.accept_teardown()
    assert client.response().status == 200
    assert session.end() is State.PRE_RECORD
    assert session.has_ended
    assert not client.engine.endpoint.sessions
    assert client.engine.session is None


def test_a_player() -> None:
    client = Server().connect()
    (event,) = client.send("DESCRIBE", f"{URL}?x=1")
    assert isinstance(event, events.DescribeRequested)
    assert (event.path, event.query, event.credentials.is_given) == ("cam", "x=1", False)
    client.engine.accept_describe(b"v=0\r\n")
    described = client.response()
    assert (described.headers.get("Content-Base"), described.body) == (f"{URL}?x=1/", b"v=0\r\n")
    session = client.play()
    assert session.state is State.PLAYING
    assert client.send("PLAY") == [events.PlayRequested(session)]
    client.engine.accept_play([(0, 17, 3000)])
    response = client.response()
    assert response.headers.get("RTP-Info") == f"url={URL}/trackID=0;seq=17;rtptime=3000"
    assert response.headers.get("Session") == session.secret
    assert client.send("GET_PARAMETER") == []
    assert client.response().status == 200


def test_a_player_over_udp_and_one_over_multicast() -> None:
    server = Server()
    event, response = server.connect().setup(f"{URL}/trackID=0", "RTP/AVP;unicast;client_port=6000-6001")
    assert response.headers.get("Session") == f"{event.session.secret};timeout=60"
    assert response.headers.get("Transport") == (
        "RTP/AVP;unicast;client_port=6000-6001;server_port=8000-8001;ssrc=00001234"
    )
    client = server.connect()
    client.send("SETUP", f"{URL}/trackID=0", Transport="RTP/AVP;multicast")
    chosen = client.engine.choose_transport()
    with pytest.raises(LocalProtocolError):
        client.engine.accept_setup("cam", "", chosen)
    client.engine.accept_setup("cam", "", chosen, group=("239.0.0.1", (9000, 9001)))
    assert client.response().headers.get("Transport") == (
        "RTP/AVP;multicast;destination=239.0.0.1;port=9000-9001;ttl=127"
    )


def test_a_request_waits_for_the_previous_answer() -> None:
    client = Server().connect()
    (first,) = client.send("DESCRIBE")
    assert isinstance(first, events.DescribeRequested)
    assert client.engine._pending is not None
    assert client.send("OPTIONS") == []
    assert not client.engine.has_more
    assert client.engine.data_to_send() == b""
    assert client.engine.next_timeout() is None
    client.engine.refuse(404, "no one is publishing")
    assert client.engine.has_more
    assert client.engine.receive_data(b"", 0.0) == []
    assert [response.status for response in client.responses()] == [404, 200]
    assert not client.engine.has_more


def test_the_queue_behind_a_request_is_limited() -> None:
    client = Server().connect()
    client.send("DESCRIBE")
    client.engine.receive_data(bytes(FULL_SIZE), 0.0)
    assert not client.engine.is_full
    client.engine.receive_data(b"x", 0.0)
    assert client.engine.is_full
    assert client.engine.held_size == FULL_SIZE + 1
    client.engine.refuse(404, "")
    assert not client.engine.is_full


@pytest.mark.parametrize(
    ("request_bytes", "most"),
    [
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", EVENTS_PER_CALL),
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000), 2),
    ],
)
def test_one_call_answers_few_requests(request_bytes: bytes, most: int) -> None:
    assert BYTES_PER_CALL < 20_000
    client = Server().connect()
    client.engine.receive_data(request_bytes * 2 * most, 0.0)
    assert len(client.responses()) == most
    assert client.engine.has_more
    client.engine.receive_data(b"", 0.0)
    assert len(client.responses()) == most


@pytest.mark.parametrize(
    ("data", "most"),
    [(b"$\x00\x00\x00" * 3000, 8 * RUN_LIMIT), (b"$\x00\x00\x00$\x01\x00\x00" * 50, 8)],
    ids=["one channel", "two channels"],
)
def test_one_call_returns_few_frames(data: bytes, most: int) -> None:
    client = Server().connect()
    happened = client.engine.receive_data(data, 0.0)
    frames = 0
    while happened:
        assert all(isinstance(run, InterleavedRun) for run in happened)
        counts = [run.count for run in happened if isinstance(run, InterleavedRun)]
        assert sum(counts) <= most
        frames += sum(counts)
        happened = client.engine.receive_data(b"", 0.0) if client.engine.has_more else []
    assert frames == len(data) // 4


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\xff\xfe", 400), (b"OPTIONS * RTSP/3.0\r\n", 505)],
)
def test_bytes_that_cannot_be_read(data: bytes, status: int) -> None:
    client = Server().connect()
    with pytest.raises(RemoteProtocolError):
        client.engine.receive_data(data, 0.0)
    first_line = client.engine.data_to_send().partition(b"\r\n")[0]
    assert first_line.split()[1] == str(status).encode()
    assert client.engine.is_closed
    assert client.send("OPTIONS") == []
    assert client.engine.data_to_send() == b""


def test_a_connection_that_begins_with_http() -> None:
    """RTSP over HTTP or WebSocket: the engine continues with what the tunnel carries, but only once."""
    client = Server().connect()
    request = b"GET /cam HTTP/1.1\r\nx-sessioncookie: a\r\n\r\n"
    assert client.engine.receive_data(request, 0.0) == [events.HttpReceived(request)]
    assert client.engine.is_tunnelled
    assert client.engine.data_to_send() == b""
    (event,) = client.send("SETUP", f"{URL}/trackID=0", Transport="RTP/AVP;unicast;client_port=6000-6001")
    assert isinstance(event, events.SetupRequested)
    with pytest.raises(RemoteProtocolError, match="can't be used in a tunnel; use TCP") as raised:
        client.engine.choose_transport()
    assert raised.value.status == 461
    client.engine.refuse(461, "x")
    with pytest.raises(RemoteProtocolError, match="HTTP request on the RTSP port"):
        client.engine.receive_data(request, 0.0)
    assert client.engine.is_closed


def test_http_after_a_request() -> None:
    client = Server().connect()
    client.send("OPTIONS")
    assert client.response().status == 200
    with pytest.raises(RemoteProtocolError, match="HTTP request on the RTSP port"):
        client.engine.receive_data(b"GET / HTTP/1.1\r\n\r\n", 0.0)
    assert [response.status for response in client.responses()] == [505]


def test_data_before_an_error_is_returned() -> None:
    client = Server().connect()
    data = b"PLAY rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n\xff"
    (refused,) = client.engine.receive_data(data, 0.0)
    assert isinstance(refused, events.RequestRefused)
    assert client.engine.has_more
    with pytest.raises(RemoteProtocolError):
        client.engine.receive_data(b"", 0.0)
    assert [response.status for response in client.responses()] == [454, 400]


def test_a_bad_request_ends_the_connection() -> None:
    client = Server().connect()
    assert client.send("SETUP", f"{URL}/trackID=0") == [
        events.RequestRefused(400, "transport header is missing"),
        events.ConnectionEnded("transport header is missing"),
    ]
    assert client.response().status == 400
    assert not client.engine.endpoint.sessions
    client = Server().connect()
    assert client.engine.receive_data(b"OPTIONS * RTSP/1.0\r\n\r\n", 0.0) == [events.ConnectionEnded("CSeq is missing")]
    assert [response.status for response in client.responses()] == [400]
    client = Server().connect()
    assert client.send("DANCE") == [events.MethodUnknown("DANCE")]
    assert client.response().status == 501
    assert not client.engine.is_closed


def test_secrets_are_not_logged() -> None:
    client = Server().connect()
    client.play()
    refused, _ = client.send("PLAY", "rtsp://u:p@h/other")
    assert isinstance(refused, events.RequestRefused)
    client = Server(protocols=frozenset({Protocol.TCP})).connect()
    client.send("SETUP", f"{URL}/trackID=0", Transport="RTP/AVP;unicast;client_port=1000-1001")
    with pytest.raises(RemoteProtocolError) as raised:
        client.engine.choose_transport()
    assert raised.value.status == 461
    client.engine.refuse(461, "ask rtsp://u:p@h/cam for TCP")
    assert client.response().reason == "Unsupported Transport: ask rtsp://***@h/cam for TCP"


def test_credentials() -> None:
    client = Server().connect()
    for _ in range(FAILURES_BEFORE_DENIAL):
        client.send("DESCRIBE")
        assert client.engine.may_try_again
        client.engine.challenge(basic_only=False)
        challenges = client.response().headers.get_all("WWW-Authenticate")
    proof = ClientAuthenticator("u", "p").authorize(challenges, "DESCRIBE", URL)
    assert proof is not None
    (event,) = client.send("DESCRIBE", Authorization=proof)
    assert isinstance(event, events.DescribeRequested)
    assert event.credentials.matches("u", "p")
    assert not event.credentials.matches("u", "q")
    assert event.credentials.user == "u"
    assert not client.engine.may_try_again
    assert client.engine.deny("no") == [events.ConnectionEnded("no")]
    assert client.response().headers.get("WWW-Authenticate") is None


def test_redirections() -> None:
    client = Server().connect()
    for target, expected in (("/other", "rtsp://h/other"), ("rtsp://elsewhere/x", "rtsp://elsewhere/x")):
        client.send("DESCRIBE", f"{URL}?x=1")
        client.engine.redirect(target)
        response = client.response()
        assert (response.status, response.headers.get("Location")) == (301, expected)


def test_a_session_that_ends_while_its_request_waits() -> None:
    client = Server().connect()
    (event,) = client.send("SETUP", f"{URL}/trackID=0", Transport="RTP/AVP/TCP")
    assert isinstance(event, events.SetupRequested)
    client.engine.check_request()
    event.session.end()
    with pytest.raises(RemoteProtocolError) as raised:
        client.engine.check_request()
    assert raised.value.status == 454


def test_a_session_whose_state_changes_while_its_request_waits() -> None:
    server = Server()
    one, other = server.connect(), server.connect()
    (event,) = one.send("SETUP", f"{URL}/trackID=0", Transport="RTP/AVP;unicast;client_port=6000-6001")
    assert isinstance(event, events.SetupRequested)
    other.send("ANNOUNCE", body=FFMPEG_SDP, Content_Type="application/sdp", Session=event.session.secret)
    one.engine.accept_setup("cam", "", one.engine.choose_transport())
    with pytest.raises(RemoteProtocolError) as raised:
        other.engine.check_request()
    assert raised.value.status == 455
    with pytest.raises(RemoteProtocolError):
        other.engine.accept_announce("cam", "")
    assert event.session.state is State.READY


def test_answers_without_a_question() -> None:
    client = Server().connect()
    for answer in (client.engine.accept_pause, client.engine.accept_record, client.engine.accept_play):
        with pytest.raises(LocalProtocolError):
            answer()
    with pytest.raises(LocalProtocolError):
        client.engine.refuse(404, "")
    client.send("DESCRIBE")
    with pytest.raises(LocalProtocolError):
        client.engine.accept_record()
    client.engine.fail()
    assert client.response().status == 500
    assert client.engine.is_closed


def test_sessions_over_udp_outlive_their_connection() -> None:
    server = Server()
    client = server.connect()
    event, _ = client.setup(f"{URL}/trackID=0", "RTP/AVP;unicast;client_port=6000-6001")
    client.send("PLAY")
    client.engine.accept_play()
    assert client.engine.abandon() == []
    assert event.session.connection is None
    second = server.connect()
    second.now = 5.0
    assert second.send("GET_PARAMETER", Session=event.session.secret) == []
    assert second.response().status == 200
    assert event.session.last_request == 5.0
    assert event.session.connection is second.engine
    thief = server.connect("198.51.100.1")
    happened = thief.send("TEARDOWN", Session=event.session.secret)
    assert happened[0] == events.RequestRefused(400, "cannot use a session created with a different IP")


def test_sessions_over_tcp_end_with_their_connection() -> None:
    server = Server()
    client = server.connect()
    session = client.play()
    happened = server.connect().send("TEARDOWN", Session=session.secret)
    assert happened[0] == events.RequestRefused(400, "session is linked to another connection")
    assert client.engine.abandon() == [session]


def test_time_outs() -> None:
    engine = Server().connect(now=100.0).engine
    assert engine.next_timeout() == 100.0 + TIMEOUT
    assert engine.handle_timeout(109.9) == []
    assert engine.handle_timeout(110.0) == [events.ConnectionEnded("no request received in time")]
    assert engine.next_timeout() is None

    client = Server().connect()
    client.send("OPTIONS")
    assert client.engine.next_timeout() == IDLE_TIMEOUT
    for now in (1.0, 3.0, 5.0):
        client.engine.receive_data(b"X", now)  # a request that never ends, however often a byte comes
    assert client.engine.next_timeout() == 1.0 + TIMEOUT
    assert client.engine.handle_timeout(10.9) == []
    assert client.engine.handle_timeout(11.0) == [events.ConnectionEnded("a request was not completed in time")]

    client = Server().connect()
    client.now = 7.0
    client.send("OPTIONS")
    assert client.engine.handle_timeout(66.9) == []
    assert client.engine.handle_timeout(67.0) == [events.ConnectionEnded("idle for too long")]

    client = Server().connect()
    client.play()
    assert client.engine.next_timeout() is None
    assert client.engine.handle_timeout(1e6) == []


@given(st.lists(st.integers(1, 300), max_size=40))
def test_pieces_are_read_as_the_whole_is(sizes: list[int]) -> None:
    data = FFMPEG_ANNOUNCE + b"OPTIONS * RTSP/1.0\r\nCSeq: 3\r\n\r\n" * 3
    engine = Server().connect().engine
    happened: list[events.Event] = []
    for size in [*sizes, len(data)]:
        happened += engine.receive_data(data[:size], 0.0)
        data = data[size:]
    (event,) = happened
    assert isinstance(event, events.AnnounceRequested)
    engine.accept_announce(event.path, event.query)
    engine.receive_data(b"", 0.0)
    assert engine.data_to_send().count(b"RTSP/1.0 200 OK\r\n") == 4
