"""The server side of RTSP (RFC 2326): one connection of a client, without I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtsp import events
from polycast.wire.rtsp.authentication import GivenCredentials, ServerAuthenticator
from polycast.wire.rtsp.deadlines import Deadlines
from polycast.wire.rtsp.headers.key_mgmt import write_key_mgmt
from polycast.wire.rtsp.headers.rtp_info import RTPInfo, serialize_rtp_info
from polycast.wire.rtsp.headers.session import Session as SessionHeader
from polycast.wire.rtsp.headers.transport import Pair, Transport, parse_transports
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.masking import without_secrets
from polycast.wire.rtsp.message import REASONS, Headers, Method, Request, Response
from polycast.wire.rtsp.parser import HttpRequestError, MessageParser
from polycast.wire.rtsp.response_writer import ResponseWriter
from polycast.wire.rtsp.server_session import (
    SESSION_TIMEOUT,
    STREAMING,
    Announcement,
    Endpoint,
    ServerSession,
    TrackSetup,
)
from polycast.wire.rtsp.states import State, next_state
from polycast.wire.rtsp.transport_choice import ChosenTransport, Protocol
from polycast.wire.rtsp.url import (
    RtspUrl,
    announce_path,
    check_record_controls,
    control_path,
    describe_path,
    match_record_control,
    setup_play_path,
)
from polycast.wire.sdp import SessionDescription, parse_sdp

PUBLIC: Final = "DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN"

FULL_SIZE: Final = 64 * 1024
"""Maximum bytes that wait while a request is being answered; above it, reading must stop. No client sends more before
the answer, and a read may exceed it by up to 256 KiB."""

EVENTS_PER_CALL: Final = 8
"""Maximum number of requests and runs of frames per call: about 30 microseconds each."""

BYTES_PER_CALL: Final = 16 * 1024
"""Bytes after the first request or run after which a call ends: long headers also take time."""

FAILURES_BEFORE_DENIAL: Final = 3
"""Requests without the right credentials that are answered with a challenge; VLC's login prompt makes four requests."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that is being answered."""

    request: Request
    session: ServerSession | None = None
    offers: list[Transport] = field(default_factory=list)
    """Of SETUP."""
    track: int = 0
    description: SessionDescription | None = None
    """Of ANNOUNCE."""


class ServerConnection:
    """One client.

    Call `receive_data` with received bytes, `handle_timeout` at `next_timeout`, and after each of
    these and of every other method write `data_to_send` to the socket. `RemoteProtocolError` out of `receive_data`
    means that the bytes cannot be parsed: write the remaining output, close, and log its text.

    Requests are answered by the method that the event names, one at a time: until then, received data is queued, and
    nothing is granted to the client. While ``has_more`` is true, yield to other connections, then call `receive_data`
    without bytes; read no more from the socket while `is_full` is true.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        remote_host: str,
        now: float,
        *,
        nonce: str,
        trace: Callable[[Request | Response], None] | None = None,
    ) -> None:
        """``nonce``: random text, for Digest. ``trace`` is called with each message, for the log."""
        self.endpoint = endpoint
        self.remote_host = remote_host
        self.session: ServerSession | None = None
        """The session of requests without a session header: the one whose media flow over this connection, or the last
        one that was set up on it."""
        self.sessions: set[ServerSession] = set()
        """All sessions on this connection."""
        self.has_more = False
        """Whether received bytes are left for another call of `receive_data`."""
        self.is_closed = False
        self.authenticator = ServerAuthenticator(nonce, methods=endpoint.authentication_methods, offer_sha256=True)
        self._parser = MessageParser()
        self._pending: _Pending | None = None
        self._writer = ResponseWriter(trace)
        self.output = self._writer.output
        """What `data_to_send` will return."""
        self._deadlines = Deadlines(endpoint, now)

    # Bytes

    def receive_data(self, data: bytes, now: float) -> list[events.Event]:
        """Take bytes from the socket and return what they mean: at most one event that needs an answer. Raises
        `RemoteProtocolError`.
        """
        received = self.receive(data, now)
        return received if isinstance(received, list) else [received]

    def receive(self, data: bytes, now: float) -> InterleavedRun | list[events.Event]:
        """Like `receive_data`; a run of frames that is the whole of the bytes is returned as itself. The hot path."""
        if self.is_closed:
            return []
        parser = self._parser
        if self._pending is not None:
            if data:
                self._deadlines.last_received = now
                parser.receive_data(data)
            return []
        run = parser.receive_run(data) if data else None
        if run is not None and run.is_last:
            self.has_more = False
            return run
        deadlines = self._deadlines
        if data:
            deadlines.last_received = now
        try:
            found = run or parser.next_event()
            if found is not None:
                return self._take_more(found, now)
        except RemoteProtocolError as error:
            if isinstance(error, HttpRequestError) and not deadlines.has_spoken and not self.is_tunnelled:
                return self._begin_tunnel(error.data)
            self._writer.send(Response(error.status))
            self._close()
            raise
        self.has_more = False
        deadlines.on_worked(now, is_incomplete=parser.is_incomplete)
        return []

    def _begin_tunnel(self, data: bytes) -> list[events.Event]:
        self.has_more = False
        self._parser = MessageParser(is_tunnelled=True)
        return [events.HttpReceived(data)]

    def _take_more(self, first: Request | Response | InterleavedRun, now: float) -> list[events.Event]:
        """Take what was found, and as much of what is behind it as one call may."""
        happened: list[events.Event] = []
        parser = self._parser
        self._deadlines.incomplete_since = None
        least = parser.buffered - BYTES_PER_CALL
        found: Request | Response | InterleavedRun | None = first
        for number in range(1, EVENTS_PER_CALL + 1):
            if type(found) is InterleavedRun:
                happened.append(found)
            elif isinstance(found, Request):
                happened += self._on_request(found, now)
            is_waiting = self._pending is not None or self.is_closed
            if is_waiting or number == EVENTS_PER_CALL or parser.buffered <= least:
                break
            try:
                found = parser.next_event()
            except RemoteProtocolError:
                if not happened:
                    raise
                break  # the next call raises it again
            if found is None:
                self.has_more = False
                self._deadlines.on_worked(now, is_incomplete=parser.is_incomplete)
                return happened
        self.has_more = self._pending is None and not self.is_closed
        return happened

    def data_to_send(self) -> bytes:
        """Return the bytes to write to the socket, once. They end where a response ends."""
        return self._writer.take()

    @property
    def held_size(self) -> int:
        """Received bytes that are not part of an event yet."""
        return self._parser.buffered

    @property
    def is_tunnelled(self) -> bool:
        """Whether the bytes come through HTTP or WebSocket, so that media must be interleaved."""
        return self._parser.is_tunnelled

    @property
    def is_full(self) -> bool:
        """Whether too much is queued behind the request that is being answered."""
        return self._pending is not None and self._parser.buffered > FULL_SIZE

    @property
    def has_spoken(self) -> bool:
        """Whether the client has sent a request."""
        return self._deadlines.has_spoken

    @property
    def skipped(self) -> int:
        """Bytes between interleaved frames that were skipped so far, since those of a session are expected."""
        return self._parser.skipped

    def expect_frames(self, session: ServerSession | None) -> None:
        self._parser.expect_frames(session.channels if session is not None else ())

    def abandon(self) -> list[ServerSession]:
        """The connection was closed or is abandoned. Return the sessions that end with it."""
        self._close()
        sessions = [*self.sessions]
        for session in sessions:
            if session.state in STREAMING and session.protocol is not Protocol.TCP:
                session.move_to(None)
        return [session for session in sessions if session.connection is self]

    # Time

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, in the time of ``now``; None: never."""
        if self.is_closed or self._pending is not None:
            return None
        return self._deadlines.next_timeout(has_session=self.session is not None)

    def handle_timeout(self, now: float) -> list[events.Event]:
        """Disconnect a client that sends nothing, or never completes a message."""
        if self.is_closed or self._pending is not None:
            return []
        reason = self._deadlines.check(now, has_session=self.session is not None)
        return self._end(reason) if reason else []

    # Requests

    def _on_request(self, request: Request, now: float) -> list[events.Event]:
        self._deadlines.has_spoken = True
        self._writer.trace(request)
        if request.cseq is None:
            self._writer.send(Response(400))
            return self._end("CSeq is missing")
        self._pending = _Pending(request)
        handler = _HANDLERS.get(request.method)
        if handler is None:
            self._answer(Response(501))
            return [events.MethodUnknown(request.method)]
        try:
            self._touch_session(request, now)
            event = handler(self, request, now)
        except RemoteProtocolError as error:
            return self.refuse(error.status, str(error))
        return [event] if event is not None else []

    def on_options(self, request: Request, now: float) -> None:
        session = self._find_session(request)
        response = Response(200, Headers([("Public", PUBLIC)]))
        self._answer(response, session if request.headers.get("Session") is not None else None)

    def on_parameters(self, request: Request, now: float) -> None:
        session = self._need_session(request)
        if request.method == Method.SET_PARAMETER and request.body:
            raise RemoteProtocolError("there are no parameters to set", 451)
        self._answer(Response(200, Headers([("Content-Type", "text/parameters")])), session)

    def on_describe(self, request: Request, now: float) -> events.Event:
        url = RtspUrl.parse(request.url)
        return events.DescribeRequested(url, *describe_path(url), self._credentials(request))

    def on_announce(self, request: Request, now: float) -> events.Event:
        session = self._find_session(request)
        next_state(session.state if session is not None else State.INIT, Method.ANNOUNCE)
        url = RtspUrl.parse(request.url)
        path, query = announce_path(url)
        content_type = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if content_type != "application/sdp":
            raise RemoteProtocolError(f"unsupported Content-Type: '{content_type}'")
        description = parse_sdp(request.body)
        check_record_controls(url, [media.control for media in description.medias])
        session = session or ServerSession(self.endpoint, self, now)
        self._pending = _Pending(request, session, description=description)
        return events.AnnounceRequested(session, path, query, description, self._credentials(request))

    def on_setup(self, request: Request, now: float) -> events.Event:
        session = self._find_session(request)
        next_state(session.state if session is not None else State.INIT, Method.SETUP)
        header = request.headers.get("Transport")
        if header is None:
            raise RemoteProtocolError("transport header is missing")
        offers = parse_transports(header)
        url = RtspUrl.parse(request.url)
        announced = session.announcement if session is not None else None
        if session is not None and announced is not None:
            path, query = session.path_name, session.query
            index = match_record_control(url, announced.url, announced.controls)
            if index is None:
                raise RemoteProtocolError(f"invalid track path '{url.path_and_query}'")
        else:
            path, query, index = setup_play_path(url)
            if session is not None and session.path_name and session.path_name != path:
                raise RemoteProtocolError(f"can't setup tracks of different paths ('{session.path_name}', '{path}')")
        session = session or ServerSession(self.endpoint, self, now)
        self._pending = _Pending(request, session, offers, index)
        credentials = self._credentials(request)
        return events.SetupRequested(session, path, query, index, announced is not None, credentials)

    def on_play(self, request: Request, now: float) -> events.Event:
        return events.PlayRequested(self._need_ready(request, Method.PLAY))

    def on_record(self, request: Request, now: float) -> events.Event:
        session = self._need_ready(request, Method.RECORD)
        announced = session.announcement
        if announced is None or len(session.setups) != len(announced.controls):
            raise RemoteProtocolError("not all announced tracks have been setup")
        return events.RecordRequested(session)

    def on_pause(self, request: Request, now: float) -> events.Event:
        session = self._need_session(request)
        next_state(session.state, Method.PAUSE)
        self._pending = _Pending(request, session)
        return events.PauseRequested(session)

    def on_teardown(self, request: Request, now: float) -> events.Event:
        session = self._need_session(request)
        self._pending = _Pending(request, session)
        return events.TeardownRequested(session)

    def _need_ready(self, request: Request, method: Method) -> ServerSession:
        session = self._need_session(request)
        next_state(session.state, method)
        path, _ = control_path(RtspUrl.parse(request.url))
        if path != session.path_name:
            raise RemoteProtocolError(f"path has changed, was '{session.path_name}', now is '{path}'")
        self._pending = _Pending(request, session)
        return session

    def _credentials(self, request: Request) -> GivenCredentials:
        header, agent = request.headers.get("Authorization"), request.headers.get("User-Agent")
        return GivenCredentials(self.authenticator, request.method, request.url, header, agent or "")

    # Sessions

    def _find_session(self, request: Request) -> ServerSession | None:
        """The session that the request names; without a name, the connection's own."""
        header = request.headers.get("Session")
        own = self.session
        if header is None:
            return own
        session = self.endpoint.sessions.get(SessionHeader.parse(header).identifier)
        if session is None:
            raise RemoteProtocolError("the session does not exist", 454)
        if session.remote_host != self.remote_host:
            raise RemoteProtocolError("cannot use a session created with a different IP")
        if session.is_bound and session.connection is not self:
            raise RemoteProtocolError("session is linked to another connection")
        if own is not None and own is not session and own.is_bound:
            raise RemoteProtocolError("connection is linked to another session")
        return session

    def _need_session(self, request: Request) -> ServerSession:
        session = self._find_session(request)
        if session is None:
            # rtsp-simple-server answers 501 here; RFC 2326 section 11.3.5 requires 454.
            raise RemoteProtocolError(f"{request.method} needs a session; SETUP creates one", 454)
        return session

    def _touch_session(self, request: Request, now: float) -> None:
        header = request.headers.get("Session")
        session = None
        if header is not None:
            session = self.endpoint.sessions.get(header.partition(";")[0].strip())
        session = session or self.session
        if session is not None and session.remote_host == self.remote_host:
            session.last_request, session.user_agent = now, request.headers.get("User-Agent") or session.user_agent
            if session.connection is None and self.session is None:
                self._attach(session)  # a UDP session continues over a new connection

    def _attach(self, session: ServerSession) -> None:
        """Attach a session: requests without a session header refer to it, and it ends with the connection."""
        session.move_to(self)
        self.session = session

    # Answers

    def check_request(self) -> None:
        """Call this if time has passed since the event, before granting anything to the client.

        Raises RemoteProtocolError: 454 if the session has ended meanwhile, 455 if a request over another connection
        has changed its state.
        """
        pending = self._answered()
        if pending.session is not None:
            if pending.session.has_ended:
                raise RemoteProtocolError("the session was closed", 454)
            next_state(pending.session.state, pending.request.method)

    def choose_transport(self) -> ChosenTransport:
        """Return the transport for the track of `SetupRequested`.

        Raises RemoteProtocolError if there is none: 461 if the client may request another one, else 400.
        """
        pending = self._answered()
        session = self._answered_session()
        records = session.announcement is not None
        return session.choose_transport(pending.offers, pending.track, records=records, is_tunnelled=self.is_tunnelled)

    def accept_describe(self, body: bytes) -> None:
        """Answer with a session description."""
        url = self._answered().request.url
        base = url if url.endswith("/") else f"{url}/"
        self._answer(Response(200, Headers([("Content-Base", base), ("Content-Type", "application/sdp")]), body))

    def accept_announce(self, path: str, query: str) -> None:
        """Let the client set up the tracks that it announced."""
        pending, session = self._answered(), self._answered_session()
        if pending.description is None:
            raise LocalProtocolError("nothing was announced")
        session.advance(Method.ANNOUNCE)
        session.path_name, session.query = path, query
        session.announcement = Announcement.of(RtspUrl.parse(pending.request.url), pending.description)
        self._attach(session)
        self._answer(Response(200))

    def accept_setup(
        self,
        path: str,
        query: str,
        chosen: ChosenTransport,
        *,
        ssrc: int | None = None,
        server_port: Pair | None = None,
        group: tuple[str, Pair] | None = None,
        key: str | None = None,
    ) -> None:
        """Set up the track with the transport of `choose_transport`.

        ``server_port``: ours, for UDP. ``group``: address and ports of the multicast group. ``ssrc``: of the packets
        that the client will get, if known. ``key``: for SRTP, the MIKEY message in base64 with our key.
        """
        pending, session = self._answered(), self._answered_session()
        transport = chosen.answer(ssrc=ssrc, server_port=server_port, group=group)
        session.advance(Method.SETUP)
        session.path_name, session.query = path, query
        session.setups[pending.track] = TrackSetup(
            chosen.protocol, chosen.interleaved, chosen.client_port, chosen.is_secure, self.client_key()
        )
        self._attach(session)
        has_timeout = chosen.protocol is not Protocol.TCP and session.announcement is None
        headers = Headers([("Transport", transport.serialize())])
        if key is not None:
            headers.set("KeyMgmt", write_key_mgmt(pending.request.url, key))
        self._answer(Response(200, headers), session, has_timeout=has_timeout)

    def client_key(self) -> str | None:
        """Return the client's key for the track of `SetupRequested`; see `ServerSession.client_key`."""
        pending = self._answered()
        return self._answered_session().client_key(pending.request.headers.get("KeyMgmt"), pending.track)

    def accept_play(self, positions: Iterable[tuple[int, int, int | None]] = ()) -> None:
        """Answer PLAY. Over TCP, media may only follow after it; players do not expect any before.

        ``positions``: (track, sequence number, RTP timestamp) of the start of each track, as far as known.
        """
        pending, session = self._answered(), self._answered_session()
        response = Response(200)
        base = dataclasses.replace(RtspUrl.parse(pending.request.url), password=None).serialize().removesuffix("/")
        info = serialize_rtp_info(
            RTPInfo(f"{base}/trackID={track}", sequence, timestamp) for track, sequence, timestamp in positions
        )
        was_playing = session.state is State.PLAYING
        session.advance(Method.PLAY)
        if not was_playing:
            self._attach(session)
            self._expect_frames_of(session)
        self._answer(response, session, has_timeout=session.protocol is not Protocol.TCP, info=info)

    def accept_record(self) -> None:
        """Let the client send media."""
        session = self._answered_session()
        session.advance(Method.RECORD)
        self._attach(session)
        self._expect_frames_of(session)
        self._answer(Response(200), session)

    def accept_pause(self) -> None:
        """Answer PAUSE."""
        session = self._answered_session()
        session.advance(Method.PAUSE)
        self._answer(Response(200), session)

    def accept_teardown(self) -> None:
        """Answer TEARDOWN. The session must then be ended."""
        self._answer(Response(200))

    def redirect(self, target: str, status: int = 301) -> None:
        """Answer with a redirection; a target that starts with a slash is a path of this server at the address of the
        request.
        """
        if target.startswith("/"):
            url = RtspUrl.parse(self._answered().request.url)
            target = dataclasses.replace(url, path=target[1:], query="").serialize()
        self._answer(Response(status, Headers([("Location", target)])))

    @property
    def may_try_again(self) -> bool:
        """Whether a client without valid credentials gets a `challenge` instead of a `deny`."""
        return self.authenticator.failures < FAILURES_BEFORE_DENIAL

    def challenge(self, *, basic_only: bool) -> None:
        """Request credentials from the client (401). ``basic_only``: for credentials that only Basic can prove."""
        self.authenticator.failures += 1
        challenges = self.authenticator.challenges(basic_only)
        self._answer(Response(401, Headers([("WWW-Authenticate", challenge) for challenge in challenges])))

    def deny(self, reason: str) -> list[events.Event]:
        """Refuse an unauthorized request (401), and disconnect the client."""
        self._answer(Response(401))
        return self._end(reason)

    def refuse(self, status: int, reason: str) -> list[events.Event]:
        """Refuse the request. The reason is for the log, and only with 461 for the client."""
        reason = without_secrets(reason)
        # The alternative is for the client's log, which shows the reason phrase.
        self._answer(Response(status, reason=f"{REASONS[status]}: {reason}" if status == 461 else None))
        happened: list[events.Event] = [events.RequestRefused(status, reason)]
        # After a bad request the states of client and server may differ.
        return happened + self._end(reason) if status == 400 else happened

    def fail(self) -> None:
        """Report an internal error to the client (500), and disconnect it."""
        if self.is_closed:
            return
        if self._pending is not None:
            self._answer(Response(500))
        else:
            self._writer.send(Response(500))
        self._close()

    def _expect_frames_of(self, session: ServerSession) -> None:
        if session.channels:
            self.expect_frames(session)

    def _answered(self) -> _Pending:
        if self._pending is None:
            raise LocalProtocolError("there is no request to answer")
        return self._pending

    def _answered_session(self) -> ServerSession:
        session = self._answered().session
        if session is None:
            raise LocalProtocolError("the request has no session")
        return session

    def _answer(
        self, response: Response, session: ServerSession | None = None, *, has_timeout: bool = False, info: str = ""
    ) -> None:
        request = self._answered().request
        if session is not None:
            header = SessionHeader(session.secret, SESSION_TIMEOUT if has_timeout else None)
            response.headers.set("Session", header.serialize())
        if info:
            response.headers.set("RTP-Info", info)
        if request.cseq is not None:
            response.headers.set("CSeq", request.cseq)
        self._writer.send(response)
        self._pending = None
        self.has_more = self._parser.buffered > 0

    def _end(self, reason: str) -> list[events.Event]:
        self._close()
        return [events.ConnectionEnded(reason)]

    def _close(self) -> None:
        """Accept nothing more. Sessions stay until the connection is abandoned, since media may still be in transit."""
        self.is_closed = True
        self.has_more = False
        self._pending = None


_Handler = Callable[[ServerConnection, Request, float], events.Event | None]

_HANDLERS: Final[dict[str, _Handler]] = {
    Method.OPTIONS: ServerConnection.on_options,
    Method.DESCRIBE: ServerConnection.on_describe,
    Method.ANNOUNCE: ServerConnection.on_announce,
    Method.SETUP: ServerConnection.on_setup,
    Method.PLAY: ServerConnection.on_play,
    Method.RECORD: ServerConnection.on_record,
    Method.PAUSE: ServerConnection.on_pause,
    Method.TEARDOWN: ServerConnection.on_teardown,
    Method.GET_PARAMETER: ServerConnection.on_parameters,
    Method.SET_PARAMETER: ServerConnection.on_parameters,
}
