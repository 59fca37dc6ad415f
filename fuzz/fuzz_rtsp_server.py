"""Fuzz target: what clients send to an RTSP server, on two connections, whole and in pieces.

The first byte chooses the size of the pieces, the second one how the requests are answered. ``SWITCH`` in the data
stands for a change to the other connection.
"""

from __future__ import annotations

from itertools import count

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp import events
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.message import Response
from polycast.wire.rtsp.parser import Limits, MessageParser
from polycast.wire.rtsp.server import ServerConnection
from polycast.wire.rtsp.server_session import Endpoint, ServerSession
from polycast.wire.rtsp.states import State

SWITCH = b"\xf0SWITCH"

_SDP = b"v=0\r\nm=video 0 RTP/AVP 96\r\na=control:trackID=0\r\nm=audio 0 RTP/AVP 0\r\na=control:trackID=1\r\n"


def _request(method: str, url: str = "rtsp://h/p", headers: str = "", body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{headers}{length}\r\n".encode() + body


_ANNOUNCE = _request("ANNOUNCE", headers="Content-Type: application/sdp\r\n", body=_SDP)
_TCP = "Transport: RTP/AVP/TCP;unicast;interleaved={}-{}{}\r\n"
_UDP = "Transport: RTP/AVP;unicast;client_port=6000-6001\r\n"
_RECORD = (
    _ANNOUNCE
    + _request("SETUP", "rtsp://h/p/trackID=0", _TCP.format(0, 1, ";mode=record"))
    + _request("SETUP", "rtsp://h/p/trackID=1", _TCP.format(2, 3, ";mode=record"))
    + _request("RECORD")
)
_PLAY = _request("DESCRIBE") + _request("SETUP", "rtsp://h/p/trackID=0", _TCP.format(0, 1, "")) + _request("PLAY")
_MEDIA = b"$\x00\x00\x04\x80abc$\x02\x00\x02\x80a"

SEEDS: list[bytes] = [
    b"\x00\x00" + _RECORD + _MEDIA + _request("PAUSE") + _request("RECORD") + _MEDIA + _request("TEARDOWN"),
    b"\x01\x00" + _request("OPTIONS") + _PLAY + _MEDIA + _request("PAUSE") + _request("GET_PARAMETER"),
    b"\x05\x00" + _request("SETUP", "rtsp://h/p/trackID=0", _UDP) + SWITCH
    + _request("PLAY", headers="Session: 1\r\n") + _request("SET_PARAMETER", headers="Session: 1\r\n", body=b"x"),
    b"\x07\x1b" + _PLAY + _RECORD + SWITCH + _PLAY,
    b"\x03\xe4" + _request("SETUP", "rtsp://h/p/trackID=0", "Transport: RTP/AVP;multicast\r\n") * 2 + _request("PLAY"),
    b"\xff\x55" + _request("DESCRIBE", headers="Authorization: Basic dTpw\r\n") * 5 + b"GET / HTTP/1.1\r\n\r\n",
    b"\x02\x00" + _RECORD + _MEDIA + b"\x00\x00" + _MEDIA + _request("TEARDOWN") + b"\x00" + _request("OPTIONS"),
]  # fmt: skip
DICTIONARY: list[bytes] = [
    SWITCH,
    b"Session: 1\r\n",
    b"Session: 2\r\n",
    b"\r\nCSeq: 1\r\n",
    b"ANNOUNCE ",
    b"SETUP ",
    b"PLAY ",
    b"RECORD ",
    b"PAUSE ",
    b"TEARDOWN ",
    b";mode=record",
    b"/trackID=1",
    b"multicast",
    b"client_port=7000-7001",
    _MEDIA,
]


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError leaves the engine, pieces give what the whole gives, and no session is left over."""
    piece, choices = (data[0] or 1 << 16, data[1]) if len(data) > 1 else (1, 0)
    parts = data[2:].split(SWITCH)
    if _Server(choices).run(parts, 1 << 16) != _Server(choices).run(parts, piece):
        raise AssertionError("the result depends on how the bytes were cut")


class _Server:
    """Two connections of one endpoint, and who answers their requests."""

    def __init__(self, choices: int) -> None:
        secrets = count(1)
        self._endpoint = Endpoint(lambda: str(next(secrets)))
        self._choices = [choices >> shift & 3 for shift in range(0, 8, 2)]
        self._happened: list[str] = []

    def run(self, parts: list[bytes], piece: int) -> list[str]:
        """Return what happened: events, answers and the bytes that were sent."""
        engines = [ServerConnection(self._endpoint, "192.0.2.1", 0.0, nonce="n") for _ in range(2)]
        for number, part in enumerate(parts):
            for position in range(0, len(part), piece):
                self._receive(engines[number % 2], part[position : position + piece])
        sent = [engine.data_to_send() for engine in engines]
        for data in sent:
            self._check_responses(data)
        self._happened += map(repr, sent)
        for engine in engines:
            timeout = engine.next_timeout()
            if timeout is not None and not engine.handle_timeout(timeout):
                raise AssertionError("nothing happened when time was up")
            for session in engine.abandon():
                session.end()
        for session in [*self._endpoint.sessions.values()]:
            if session.connection is not None or session.state not in (State.PLAYING, State.RECORDING):
                raise AssertionError("a session without a connection was left over")
        return self._happened

    def _receive(self, engine: ServerConnection, data: bytes) -> None:
        try:
            happened = engine.receive_data(data, 1.0)
            while happened or engine.has_more:
                for event in happened:
                    self._on_event(engine, event)
                happened = engine.receive_data(b"", 1.0) if engine.has_more else []
        except RemoteProtocolError as error:
            self._happened.append(str(error.status))  # the text quotes what there was at that time
        if engine._pending is not None:
            raise AssertionError("a request was not answered")

    def _on_event(self, engine: ServerConnection, event: events.Event) -> None:
        if isinstance(event, InterleavedRun):
            self._happened += [f"{channel} {event.data[start:end]!r}" for channel, start, end in event.frames()]
            return
        self._happened.append(type(event).__name__)
        if isinstance(event, events.RequestRefused | events.MethodUnknown | events.ConnectionEnded):
            return
        if isinstance(event, events.HttpReceived):  # a tunnel, which `fuzz_rtsp_tunnel` has
            engine.abandon()
            return
        try:
            self._answer(engine, event)
        except RemoteProtocolError as error:
            for more in engine.refuse(error.status, str(error)):
                self._on_event(engine, more)
        if not isinstance(event, events.DescribeRequested) and event.session.state is State.INIT:
            event.session.end()

    def _answer(self, engine: ServerConnection, event: events.Event) -> None:
        choice = self._choices[len(self._happened) % 4]
        engine.check_request()
        if isinstance(event, events.DescribeRequested | events.AnnounceRequested | events.SetupRequested):
            event.credentials.matches(*event.credentials.plain())
            if choice == 3:
                engine.challenge(basic_only=False)
                return
        if choice == 2:
            for more in engine.refuse(400 if len(self._happened) % 3 else 404, event.__class__.__name__):
                self._on_event(engine, more)
            return
        self._accept(engine, event)

    def _accept(self, engine: ServerConnection, event: events.Event) -> None:
        if isinstance(event, events.DescribeRequested):
            engine.accept_describe(_SDP)
        elif isinstance(event, events.AnnounceRequested):
            engine.accept_announce(event.path, event.query)
        elif isinstance(event, events.SetupRequested):
            chosen = engine.choose_transport()
            engine.accept_setup(event.path, event.query, chosen, server_port=(1, 2), group=("239.0.0.1", (3, 4)))
        elif isinstance(event, events.PlayRequested):
            engine.accept_play([(track, 1, 2) for track in event.session.setups])
        elif isinstance(event, events.RecordRequested):
            engine.accept_record()
        elif isinstance(event, events.PauseRequested):
            engine.accept_pause()
        elif isinstance(event, events.TeardownRequested):
            engine.accept_teardown()
            _end(event.session)

    def _check_responses(self, data: bytes) -> None:
        parser = MessageParser(Limits(header_value=1 << 16, head=1 << 20))
        parser.receive_data(data.rpartition(b"HTTP/1.1 501")[0] or data)
        try:
            while (found := parser.next_event()) is not None:
                if not isinstance(found, Response):
                    raise AssertionError("something else than responses was sent")
        except RemoteProtocolError as error:
            if b"HTTP/1.1" not in data:
                raise AssertionError("what was sent cannot be read") from error


def _end(session: ServerSession) -> None:
    session.end()
    if not session.has_ended or session.state is not State.INIT:
        raise AssertionError("a session did not end")
