"""What the server does for each RTSP request (RFC 2326 section 10)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polycast.errors import RemoteProtocolError
from polycast.hub.access import AccessRequest, Action
from polycast.hub.errors import (
    AccessDenied,
    Denial,
    NoOnePublishing,
    PathClosed,
    PathError,
    Redirected,
)
from polycast.hub.path import Path, Source
from polycast.hub.stream import Stream
from polycast.net.udp import Address
from polycast.protocols.rtsp.description import describe, tracks_of
from polycast.protocols.rtsp.masking import without_secrets
from polycast.protocols.rtsp.session import READER_TIMEOUT, Session, TrackSetup
from polycast.security.credentials import is_hashed
from polycast.wire.rtsp.authentication import ServerAuthenticator, basic_credentials
from polycast.wire.rtsp.headers.credentials import Authorization
from polycast.wire.rtsp.headers.rtp_info import RTPInfo, serialize_rtp_info
from polycast.wire.rtsp.headers.session import Session as SessionHeader
from polycast.wire.rtsp.headers.transport import Transport, parse_transports
from polycast.wire.rtsp.message import REASONS, Headers, Method, Request, Response
from polycast.wire.rtsp.states import State, next_state
from polycast.wire.rtsp.transport_choice import ChosenTransport, Protocol, choose_transport
from polycast.wire.rtsp.url import (
    RtspUrl,
    announce_path,
    check_record_controls,
    control_path,
    describe_path,
    match_record_control,
    setup_play_path,
)
from polycast.wire.sdp import parse_sdp

if TYPE_CHECKING:
    from polycast.protocols.rtsp.connection import Connection

PUBLIC = "DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN"

# Failures that are answered with a challenge; VLC's login prompt makes four requests.
FAILURES_BEFORE_PAUSE = 3

# RTP-Info gives the time of a moment shortly before the first packet, so that no packet lies before it (a B-frame may).
RTP_INFO_LEAD_SECONDS = 0.1

# How long PLAY waits for the first packet of each track, so that RTP-Info names them all. Cameras send the first sound
# some hundred milliseconds after the first picture; a track that is silent must not hold up the others for long.
FIRST_PACKETS_SECONDS = 1.0

# Time to live told to multicast readers.
ADVERTISED_TTL = 127


@dataclass(slots=True)
class Answer:
    """A response, and what to do once it is on its way."""

    response: Response
    after: Callable[[], None] | None = None
    close: str = ""
    """The reason to close the connection; empty to keep it."""


class RtspCredentials:
    """The Authorization header of a request, checked against what the path asks for."""

    def __init__(self, authenticator: ServerAuthenticator, request: Request) -> None:
        self._authenticator = authenticator
        self._request = request
        self.header = request.headers.get("Authorization")
        self.needs_basic = False
        """Whether the credentials asked for are hashed, which only Basic can prove."""

    @property
    def user(self) -> str:
        """The user name given, for logs and the API; not proven."""
        if self.header is None:
            return ""
        try:
            return Authorization.parse(self.header).username
        except RemoteProtocolError:
            return ""

    @property
    def is_given(self) -> bool:
        return self.header is not None

    def matches(self, user: str, password: str) -> bool:
        self.needs_basic = is_hashed(user) or is_hashed(password)
        return self._authenticator.verify(self.header, self._request.method, self._request.url, user, password)

    def plain(self) -> tuple[str, str]:
        return basic_credentials(self.header) or ("", "")


class RequestHandler:
    """Answers the requests of one connection, one at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._server = connection.server
        self._hub = connection.server.context.hub
        self._handlers: dict[str, Callable[[Request], Answer | Coroutine[None, None, Answer]]] = {
            Method.OPTIONS: self._options,
            Method.DESCRIBE: self._describe,
            Method.ANNOUNCE: self._announce,
            Method.SETUP: self._setup,
            Method.PLAY: self._play,
            Method.RECORD: self._record,
            Method.PAUSE: self._pause,
            Method.TEARDOWN: self._teardown,
            Method.GET_PARAMETER: self._parameters,
            Method.SET_PARAMETER: self._parameters,
        }

    def handle(self, request: Request) -> Answer | Coroutine[None, None, Answer]:
        """Return the answer, or a coroutine that does."""
        if request.cseq is None:
            return Answer(Response(400), close="CSeq is missing")
        handler = self._handlers.get(request.method)
        if handler is None:
            self._connection.log.debug("method %s is not implemented", request.method)
            return Answer(Response(501))
        try:
            self._touch_session(request)
            answer = handler(request)
        except (RemoteProtocolError, PathError) as error:
            return self._refuse(request, error)
        if isinstance(answer, Answer):
            return answer
        return self._guard(request, answer)

    async def _guard(self, request: Request, coroutine: Coroutine[None, None, Answer]) -> Answer:
        try:
            return await coroutine
        except (RemoteProtocolError, PathError) as error:
            return self._refuse(request, error)

    def _refuse(self, request: Request, error: RemoteProtocolError | PathError) -> Answer:
        if isinstance(error, Redirected):
            location = _redirect_target(error.target, RtspUrl.parse(request.url))
            return Answer(Response(301, Headers([("Location", location)])))
        status = _status_of(error)
        reason = without_secrets(str(error))
        self._connection.log.info("request refused (%d): %s", status, reason)
        # What to use instead is for the client's log, which shows the reason phrase.
        phrase = f"{REASONS[status]}: {reason}" if status == 461 else None
        # After a bad request the client and we may not mean the same thing any more.
        return Answer(Response(status, reason=phrase), close=reason if status == 400 else "")

    # Sessions

    def _find_session(self, request: Request) -> Session | None:
        """The session that the request names; without a name, the connection's own."""
        header = request.headers.get("Session")
        own = self._connection.session
        if header is None:
            return own
        session = self._server.find_session(SessionHeader.parse(header).identifier)
        if session is None:
            raise RemoteProtocolError("the session does not exist", 454)
        if session.remote_host != self._connection.peer[0]:
            raise RemoteProtocolError("cannot use a session created with a different IP")
        if session.is_bound and session.connection is not self._connection:
            raise RemoteProtocolError("session is linked to another connection")
        if own is not None and own is not session and own.is_bound:
            raise RemoteProtocolError("connection is linked to another session")
        return session

    def _need_session(self, request: Request) -> Session:
        session = self._find_session(request)
        if session is None:
            # rtsp-simple-server answers 501 here; 454 is what RFC 2326 section 11.3.5 asks for.
            raise RemoteProtocolError(f"{request.method} needs a session; SETUP creates one", 454)
        return session

    def _touch_session(self, request: Request) -> None:
        header = request.headers.get("Session")
        session = None
        if header is not None:
            session = self._server.find_session(header.partition(";")[0].strip())
        session = session or self._connection.session
        if session is not None and session.remote_host == self._connection.peer[0]:
            session.last_request = self._server.now()
            if session.connection is None and self._connection.session is None:
                session.attach(self._connection)  # a UDP session goes on over a new connection

    def _session_for(self, request: Request) -> Session:
        session = self._find_session(request)
        return session if session is not None else self._server.create_session(self._connection)

    @staticmethod
    def _with_session(session: Session, response: Response, *, timeout: bool = False) -> Response:
        seconds = READER_TIMEOUT if timeout else None
        response.headers.set("Session", SessionHeader(session.secret, seconds).serialize())
        return response

    # Requests without waiting

    def _options(self, request: Request) -> Answer:
        response = Response(200, Headers([("Public", PUBLIC)]))
        session = self._find_session(request)
        if session is not None and request.headers.get("Session") is not None:
            self._with_session(session, response)
        return Answer(response)

    def _parameters(self, request: Request) -> Answer:
        session = self._need_session(request)
        if request.method == Method.SET_PARAMETER and request.body:
            raise RemoteProtocolError("there are no parameters to set", 451)
        response = Response(200, Headers([("Content-Type", "text/parameters")]))
        return Answer(self._with_session(session, response))

    def _play(self, request: Request) -> Answer | Coroutine[None, None, Answer]:
        session, path, stream = self._playable(request)
        # A stream that is there because somebody asked for it may begin only now.
        is_awaited = path.on_demand is not None or isinstance(path.publisher, Source)
        if is_awaited and session.state is not State.PLAYING:
            patience = FIRST_PACKETS_SECONDS
            if stream.is_beginning(session.setups, self._server.context.loop.time(), patience):
                return self._play_later(request, session, path, stream)
        return self._play_now(request, session, stream)

    async def _play_later(self, request: Request, session: Session, path: Path, stream: Stream) -> Answer:
        prelude = session.begin_prelude(path, stream)
        try:
            await prelude.wait(FIRST_PACKETS_SECONDS)
            _check_alive(session)
            self._playable(request)
            return self._play_now(request, session, stream, prelude.starts)
        except BaseException:
            session.end_prelude()
            raise

    def _playable(self, request: Request) -> tuple[Session, Path, Stream]:
        session = self._need_session(request)
        next_state(session.state, Method.PLAY)
        self._check_path(request, session)
        path, stream = session.path, session.stream
        if stream is None or path is None or path.stream is not stream:
            raise NoOnePublishing(session.path_name)
        return session, path, stream

    def _play_now(
        self,
        request: Request,
        session: Session,
        stream: Stream,
        starts: Mapping[int, tuple[int, int]] | None = None,
    ) -> Answer:
        following = next_state(session.state, Method.PLAY)
        response = self._with_session(session, Response(200), timeout=session.protocol is not Protocol.TCP)
        info = self._rtp_info(request, session, stream, starts)
        if info:
            response.headers.set("RTP-Info", info)
        if session.state is State.PLAYING:
            return Answer(response)
        session.attach(self._connection)
        if session.protocol is not Protocol.TCP:
            session.start_reading()
            session.state = following
            return Answer(response)

        def start() -> None:
            # The response goes first: players do not expect packets before it.
            try:
                session.start_reading()
            except PathError as error:
                session.close(str(error))

        session.state = following
        return Answer(response, after=start)

    def _record(self, request: Request) -> Answer:
        session = self._need_session(request)
        following = next_state(session.state, Method.RECORD)
        self._check_path(request, session)
        if len(session.setups) != len(session.announced):
            raise RemoteProtocolError("not all announced tracks have been setup")
        session.attach(self._connection)
        session.start_publishing()
        session.state = following
        return Answer(self._with_session(session, Response(200)))

    def _pause(self, request: Request) -> Answer:
        session = self._need_session(request)
        following = next_state(session.state, Method.PAUSE)
        if session.state is State.PLAYING:
            session.stop_reading()
        elif session.state is State.RECORDING:
            session.stop_publishing("the publisher paused")
        session.state = following
        return Answer(self._with_session(session, Response(200)))

    def _teardown(self, request: Request) -> Answer:
        session = self._need_session(request)
        return Answer(
            Response(200), after=lambda: session.close(f"teardown by {self._connection.peer[0]}", keep_connection=True)
        )

    @staticmethod
    def _check_path(request: Request, session: Session) -> None:
        path, _ = control_path(RtspUrl.parse(request.url))
        if path != session.path_name:
            raise RemoteProtocolError(f"path has changed, was '{session.path_name}', now is '{path}'")

    def _rtp_info(
        self, request: Request, session: Session, stream: Stream, starts: Mapping[int, tuple[int, int]] | None
    ) -> str:
        """Tell the sequence number that comes next, and the timestamps of one moment: the same for all tracks by the
        clock that the sender reports use, so that a player's time line does not jump when the first report comes.
        """
        base = RtspUrl.parse(request.url)
        positions = stream.positions(sorted(session.setups), RTP_INFO_LEAD_SECONDS, starts)
        return serialize_rtp_info(
            RTPInfo(_track_url(base, position.track_index), position.sequence, position.timestamp)
            for position in positions
        )

    # Requests that may wait

    async def _describe(self, request: Request) -> Answer:
        url = RtspUrl.parse(request.url)
        name, query = describe_path(url)
        refusal = await self._authorize(request, Action.READ, name, query)
        if refusal is not None:
            return refusal
        path = self._hub.path(name)
        try:
            stream = await path.wait_ready()
        finally:
            self._hub.release(path)
        parameters = {part.partition("=")[0] for part in query.split("&")}
        multicast_hint = "vlcmulticast" in parameters and Protocol.MULTICAST in self._server.protocols
        over_ipv6 = ":" in self._connection.peer[0]
        body = describe(stream.descriptions, url, over_ipv6=over_ipv6, multicast_hint=multicast_hint)
        base = request.url if request.url.endswith("/") else f"{request.url}/"
        return Answer(Response(200, Headers([("Content-Base", base), ("Content-Type", "application/sdp")]), body))

    async def _announce(self, request: Request) -> Answer:
        session = self._session_for(request)
        try:
            return await self._announce_on(session, request)
        finally:
            if session.state is State.INIT:
                session.close("not in use")

    async def _announce_on(self, session: Session, request: Request) -> Answer:
        following = next_state(session.state, Method.ANNOUNCE)
        url = RtspUrl.parse(request.url)
        name, query = announce_path(url)
        content_type = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if content_type != "application/sdp":
            raise RemoteProtocolError(f"unsupported Content-Type: '{content_type}'")
        description = parse_sdp(request.body)
        announced = tracks_of(description)
        controls = [media.control for media in description.medias]
        check_record_controls(url, controls)
        refusal = await self._authorize(request, Action.PUBLISH, name, query, session)
        if refusal is not None:
            return refusal
        path = self._hub.path(name)
        try:
            path.set_publisher(session)
        finally:
            self._hub.release(path)
        session.path, session.path_name, session.query = path, name, query
        session.announced = announced.tracks
        for note in announced.notes:
            session.log.info("%s", note)
        session.announce_url = url
        session.controls = controls
        session.begin(following)
        session.attach(self._connection)
        return Answer(Response(200))

    async def _setup(self, request: Request) -> Answer:
        session = self._session_for(request)
        next_state(session.state, Method.SETUP)
        header = request.headers.get("Transport")
        if header is None:
            raise RemoteProtocolError("transport header is missing")
        try:
            offers = parse_transports(header)
            if session.state is State.PRE_RECORD:
                return self._setup_record(request, session, offers)
            return await self._setup_play(request, session, offers)
        finally:
            if session.state is State.INIT:
                session.close("not in use")

    def _setup_record(self, request: Request, session: Session, offers: list[Transport]) -> Answer:
        if session.announce_url is None:
            raise RemoteProtocolError("nothing was announced", 455)
        index = match_record_control(RtspUrl.parse(request.url), session.announce_url, session.controls)
        if index is None:
            raise RemoteProtocolError(f"invalid track path '{RtspUrl.parse(request.url).path_and_query}'")
        chosen = self._choose(session, offers, index, record=True)
        return self._set_up(session, index, chosen, ssrc=None)

    async def _setup_play(self, request: Request, session: Session, offers: list[Transport]) -> Answer:
        url = RtspUrl.parse(request.url)
        name, query, index = setup_play_path(url)
        if session.path_name and session.path_name != name:
            raise RemoteProtocolError(f"can't setup tracks of different paths ('{session.path_name}', '{name}')")
        refusal = await self._authorize(request, Action.READ, name, query, session)
        if refusal is not None:
            return refusal
        path: Path = self._hub.path(name)
        try:
            stream = await path.wait_ready()
        finally:
            self._hub.release(path)
        _check_alive(session)
        if session.stream is not None and session.stream is not stream:
            raise NoOnePublishing(name)
        if not 0 <= index < len(stream.tracks) or stream.tracks[index].track.rtp is None:
            raise RemoteProtocolError(f"track {index} does not exist", 404)
        chosen = self._choose(session, offers, index, record=False)
        answer = self._set_up(session, index, chosen, ssrc=stream.tracks[index].ssrc, stream=stream)
        session.path, session.path_name, session.query, session.stream = path, name, query, stream
        session.begin(next_state(session.state, Method.SETUP))
        return answer

    def _choose(self, session: Session, offers: list[Transport], index: int, *, record: bool) -> ChosenTransport:
        if index in session.setups:
            raise RemoteProtocolError(f"track {index} has already been setup")
        channels = {
            channel for setup in session.setups.values() if setup.channels is not None for channel in setup.channels
        }
        return choose_transport(
            offers,
            allowed=self._server.protocols,
            encrypted=self._server.is_encrypted,
            record=record,
            used_protocol=session.protocol,
            used_channels=channels,
        )

    def _set_up(
        self, session: Session, index: int, chosen: ChosenTransport, *, ssrc: int | None, stream: Stream | None = None
    ) -> Answer:
        setup = TrackSetup(chosen.protocol)
        if chosen.protocol is Protocol.TCP:
            setup.channels = chosen.interleaved
            transport = Transport("TCP", delivery="unicast", interleaved=chosen.interleaved, ssrc=ssrc)
        elif chosen.protocol is Protocol.UDP:
            setup.addresses, transport = self._set_up_udp(session, chosen, ssrc)
        elif stream is not None:
            group = self._server.join_group(stream, session, self._connection.local_host)
            transport = Transport(
                delivery="multicast",
                destination=group.addresses[index],
                port=group.ports,
                ttl=ADVERTISED_TTL,
                ssrc=ssrc,
            )
        else:
            raise RemoteProtocolError("publishing over multicast is not supported", 461)
        session.setups[index] = setup
        session.attach(self._connection)
        response = Response(200, Headers([("Transport", transport.serialize())]))
        timeout = chosen.protocol is not Protocol.TCP and session.state is not State.PRE_RECORD
        return Answer(self._with_session(session, response, timeout=timeout))

    def _set_up_udp(
        self, session: Session, chosen: ChosenTransport, ssrc: int | None
    ) -> tuple[tuple[Address, Address], Transport]:
        ports = self._server.ports_for_media
        if ports is None or chosen.client_port is None:
            raise RemoteProtocolError("transport protocol udp is disabled", 461)
        host, _, *more = self._connection.peer_address
        scope = more[1] if len(more) == 2 else 0
        rtp, rtcp = (ports.rtp.address(host, port, scope) for port in chosen.client_port)
        first, second = chosen.client_port
        if ports.is_taken(rtp, rtcp):
            raise RemoteProtocolError(f"UDP ports {first} and {second} are already in use by another reader")
        if any(setup.addresses is not None and setup.addresses[0] == rtp for setup in session.setups.values()):
            raise RemoteProtocolError(f"UDP ports {first} and {second} are already in use by another track")
        transport = Transport(delivery="unicast", client_port=chosen.client_port, server_port=ports.numbers, ssrc=ssrc)
        return (rtp, rtcp), transport

    # Access

    async def _authorize(
        self, request: Request, action: Action, path: str, query: str, session: Session | None = None
    ) -> Answer | None:
        """Return None when the client may, else the answer that refuses."""
        connection = self._connection
        credentials = RtspCredentials(connection.authenticator, request)
        try:
            await self._hub.authorize(
                AccessRequest(action, path, query, connection.peer[0], credentials, asks_again=True)
            )
        except AccessDenied as denied:
            is_asked = not credentials.is_given and denied.denial is not Denial.ADDRESS
            connection.asked_for = path if is_asked else ""
            return await self._deny(denied, credentials)
        connection.failures = 0
        connection.asked_for = ""
        if session is not None:
            _check_alive(session)
            session.user = credentials.user
        return None

    async def _deny(self, denied: AccessDenied, credentials: RtspCredentials) -> Answer:
        connection = self._connection
        if denied.denial is Denial.ADDRESS:
            await asyncio.sleep(self._server.failure_pause)
            return Answer(Response(401), close=str(denied))
        connection.failures += 1
        if connection.failures > FAILURES_BEFORE_PAUSE:
            connection.log.info("authentication failed: %s", denied)
            await asyncio.sleep(self._server.failure_pause)
            return Answer(Response(401), close=f"authentication failed: {denied}")
        basic_only = credentials.needs_basic or self._hub.access.is_external
        challenges = connection.authenticator.challenges(basic_only)
        return Answer(Response(401, Headers([("WWW-Authenticate", challenge) for challenge in challenges])))


def _check_alive(session: Session) -> None:
    """Raise 454 when the session was closed while its request waited: it must not get hold of anything any more."""
    if session.has_ended:
        raise RemoteProtocolError("the session was closed", 454)


def _status_of(error: RemoteProtocolError | PathError) -> int:
    if isinstance(error, RemoteProtocolError):
        return error.status
    if isinstance(error, NoOnePublishing | PathClosed):
        return 404
    return 400


def _redirect_target(target: str, url: RtspUrl) -> str:
    """A target that begins with a slash is a path of this server, reached in the way the request came."""
    if not target.startswith("/"):
        return target
    return dataclasses.replace(url, path=target[1:], query="").serialize()


def _track_url(base: RtspUrl, index: int) -> str:
    text = dataclasses.replace(base, password=None).serialize()
    return f"{text.removesuffix('/')}/trackID={index}"
