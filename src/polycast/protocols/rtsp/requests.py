"""Handles the RTSP requests (RFC 2326 section 10) that the engine has parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from polycast.config.redact import redact
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.hub.access_request import AccessRequest, Action
from polycast.hub.errors import (
    AccessDenied,
    Denial,
    NoOnePublishing,
    PathClosed,
    PathError,
    Redirected,
    RedirectedToNode,
)
from polycast.hub.path import Path, Source
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.net.outbox import Outbox
from polycast.protocols.rtsp.context import SessionContext
from polycast.protocols.rtsp.description import describe, tracks_of
from polycast.protocols.rtsp.reading import Reading
from polycast.protocols.rtsp.recording import Recording
from polycast.protocols.rtsp.reports import ReportSender
from polycast.protocols.rtsp.session import Session
from polycast.protocols.rtsp.sessions import Sessions
from polycast.wire.rtsp import events, transport_choice
from polycast.wire.rtsp.authentication import GivenCredentials
from polycast.wire.rtsp.headers.transport import Pair
from polycast.wire.rtsp.server import ServerConnection
from polycast.wire.rtsp.states import State
from polycast.wire.rtsp.transport_choice import ChosenTransport

# RTP-Info gives a sync point shortly before the first packet, so that no packet (such as a B-frame) precedes it.
RTP_INFO_LEAD_SECONDS = 0.1

# How long PLAY waits for the first packet of each track, so that RTP-Info contains all of them. Cameras send the first
# audio some hundred milliseconds after the first picture; a silent track must not delay the others for long.
FIRST_PACKETS_SECONDS = 1.0

Outcome = list[events.Event]
"""The result of a request: what the engine reports after the answer."""

Request = (
    events.DescribeRequested
    | events.AnnounceRequested
    | events.SetupRequested
    | events.PlayRequested
    | events.RecordRequested
    | events.PauseRequested
    | events.TeardownRequested
)


class Client(Protocol):
    """The connection whose requests are answered."""

    log: Log
    outbox: Outbox
    peer: tuple[str, int]
    asked_for: str
    """The path for which the client was challenged and gave no credentials."""

    @property
    def local_host(self) -> str:
        """Our IP address."""

    @property
    def remote_host(self) -> tuple[str, int]:
        """The client's IP address as given by sockets, and its scope, 0 except for link-local IPv6 addresses."""

    @property
    def failure_pause(self) -> float:
        """Seconds by which the answer to a failed authentication is delayed."""

    def flush(self) -> None:
        """Send the engine's output."""


@dataclass(slots=True)
class RequestHandler:
    """Answers the requests of one connection, one at a time."""

    client: Client
    engine: ServerConnection
    sessions: Sessions
    context: SessionContext
    reports: ReportSender

    def handle(self, event: Request) -> Outcome | Coroutine[None, None, Outcome]:
        """Handle an event; return its result, or a coroutine that returns it.

        RemoteProtocolError and PathError of the coroutine are for `refuse`.
        """
        try:
            if isinstance(event, events.DescribeRequested):
                return self._describe(event)
            if isinstance(event, events.AnnounceRequested):
                return self._announce(event)
            session = self.sessions.join(event.session, self.client.peer)
            if isinstance(event, events.SetupRequested):
                if isinstance(session.media, Recording):
                    self._set_up_recording(event, session, session.media)
                    return []
                return self._set_up_reading(event, session)
            if isinstance(event, events.PlayRequested):
                return self._play(session)
            if isinstance(event, events.RecordRequested):
                self._record(session)
            elif isinstance(event, events.PauseRequested):
                self._pause(session)
            else:
                self._tear_down(session)
        except (RemoteProtocolError, PathError) as error:
            return self.refuse(error)
        return []

    def refuse(self, error: RemoteProtocolError | PathError) -> Outcome:
        """Answer a request that cannot be fulfilled; return the result."""
        if isinstance(error, Redirected):
            self.client.log.info("redirected to %s", redact(error.target))
            self.engine.redirect(error.target, 302 if isinstance(error, RedirectedToNode) else 301)
            return []
        return self.engine.refuse(_status_of(error), str(error))

    # Description

    async def _describe(self, event: events.DescribeRequested) -> Outcome:
        outcome = await self._authorize(Action.READ, event)
        if outcome is not None:
            return outcome
        name, scheme = ("RTSPS", "rtsps") if self.context.endpoint.is_encrypted else ("RTSP", "rtsp")
        self.context.hub.redirect(event.path, name, scheme)
        path = self.context.hub.path(event.path)
        try:
            stream = await path.wait_ready(query=event.query)
        finally:
            self.context.hub.release(path)
        parameters = {part.partition("=")[0] for part in event.query.split("&")}
        can_multicast = transport_choice.Protocol.MULTICAST in self.context.endpoint.protocols
        body = describe(
            stream.descriptions,
            event.url,
            over_ipv6=":" in self.client.peer[0],
            multicast_hint="vlcmulticast" in parameters and can_multicast,
            keys=self._keys_of(stream),
        )
        self.engine.accept_describe(body)
        return []

    def _keys_of(self, stream: Stream) -> Sequence[str]:
        """Return the MIKEY messages in base64 for the description, if the client may use SRTP over UDP."""
        secure = self.context.secure
        if secure is None or not secure.is_advertised or self.engine.is_tunnelled:
            return ()
        return secure.of(stream).messages(stream)

    # Publishing

    async def _announce(self, event: events.AnnounceRequested) -> Outcome:
        session = self.sessions.join(event.session, self.client.peer)
        try:
            announced = tracks_of(event.description)
            outcome = await self._authorize(Action.PUBLISH, event, session)
            if outcome is not None:
                return outcome
            path = self.context.hub.path(event.path)
            try:
                path.set_publisher(session)
            finally:
                self.context.hub.release(path)
            for note in announced.notes:
                session.log.info("%s", note)
            session.begin(Recording(session, self.context, path, announced.tracks))
            self.engine.accept_announce(event.path, event.query)
        finally:
            _end_unused(session)
        return []

    def _set_up_recording(self, event: events.SetupRequested, session: Session, recording: Recording) -> None:
        chosen = self.engine.choose_transport()
        key = None
        if chosen.is_secure and self.context.secure is not None and recording.keys is not None:
            self.context.secure.check_client_key(self.engine.client_key(), records=True)
            key = recording.keys.tracks[event.track].message(None)
        server_port = self._add_ports(recording, event.track, chosen)
        self.engine.accept_setup(event.path, event.query, chosen, server_port=server_port, key=key)

    def _record(self, session: Session) -> None:
        if not isinstance(session.media, Recording):
            raise LocalProtocolError("nothing was announced")
        session.media.start(session)
        self.engine.accept_record()

    # Reading

    async def _set_up_reading(self, event: events.SetupRequested, session: Session) -> Outcome:
        try:
            outcome = await self._authorize(Action.READ, event, session)
            if outcome is not None:
                return outcome
            path: Path = self.context.hub.path(event.path)
            try:
                stream = await path.wait_ready(query=event.query)
            finally:
                self.context.hub.release(path)
            path.check_reader_limit(session.id, lambda: self.sessions.reading(path))
            self.engine.check_request()
            self._set_up_track(event, session, path, stream)
        finally:
            _end_unused(session)
        return []

    def _set_up_track(self, event: events.SetupRequested, session: Session, path: Path, stream: Stream) -> None:
        reading, index = session.media, event.track
        if not isinstance(reading, Reading):
            reading = Reading(session, self.context, self.reports, path, stream)
        if reading.stream is not stream:
            raise NoOnePublishing(event.path)
        if not 0 <= index < len(stream.tracks) or stream.tracks[index].track.rtp is None:
            raise RemoteProtocolError(f"track {index} does not exist", 404)
        chosen = self.engine.choose_transport()
        ssrc = stream.tracks[index].ssrc
        key = None
        if chosen.is_secure and self.context.secure is not None:
            self.context.secure.check_client_key(self.engine.client_key(), records=False)
            key = self.context.secure.of(stream).tracks[index].message(ssrc)
        server_port = self._add_ports(reading, index, chosen)
        group: tuple[str, Pair] | None = None
        if chosen.protocol is transport_choice.Protocol.MULTICAST and self.context.groups is not None:
            multicast = self.context.groups.join(stream, session, self.client.local_host)
            group = multicast.addresses[index], multicast.ports
        session.begin(reading)
        self.engine.accept_setup(
            event.path, event.query, chosen, ssrc=ssrc, server_port=server_port, group=group, key=key
        )

    def _add_ports(self, media: Reading | Recording, track: int, chosen: ChosenTransport) -> Pair | None:
        """Store the client's UDP ports; return ours. None with another transport."""
        if chosen.client_port is None:
            return None
        if media.ports is None:
            raise RemoteProtocolError("transport protocol udp is disabled", 461)
        media.ports.add(track, *self.client.remote_host, chosen.client_port)
        return media.ports.server.numbers

    def _play(self, session: Session) -> Outcome | Coroutine[None, None, Outcome]:
        path, reading = _playable(session)
        # An on-demand stream may only be starting now.
        is_awaited = path.on_demand is not None or isinstance(path.publisher, Source)
        if is_awaited and session.wire.state is not State.PLAYING:
            now = self.context.loop.time()
            if reading.stream.is_beginning(session.wire.setups, now, FIRST_PACKETS_SECONDS):
                return self._play_later(session, reading)
        self._play_now(session, reading)
        return []

    async def _play_later(self, session: Session, reading: Reading) -> Outcome:
        buffer = reading.start_buffering()
        try:
            await buffer.wait(FIRST_PACKETS_SECONDS)
            self.engine.check_request()
            _playable(session)
            self._play_now(session, reading, buffer.starts)
        except BaseException:
            reading.stop_buffering()
            raise
        return []

    def _play_now(
        self, session: Session, reading: Reading, starts: Mapping[int, tuple[int, int]] | None = None
    ) -> None:
        # RTP-Info contains the next sequence numbers, and the timestamps of one sync point of all tracks by the clock
        # of the sender reports, so that a player's timeline does not jump with the first report.
        now = self.context.clock()
        places = reading.stream.positions(sorted(session.wire.setups), RTP_INFO_LEAD_SECONDS, now, starts)
        positions = [(place.track_index, place.sequence, place.timestamp) for place in places]
        if session.wire.is_secure and self.context.secure is not None:
            keys = self.context.secure.of(reading.stream).tracks
            ssrcs = [track.ssrc for track in reading.stream.tracks]
            positions = [(index, keys[index].sequence_of(ssrcs[index], number), at) for index, number, at in positions]
        outbox = self.client.outbox
        if session.wire.state is State.PLAYING:
            self.engine.accept_play(positions)
        elif session.wire.protocol is not transport_choice.Protocol.TCP:
            reading.start(outbox)
            self.engine.accept_play(positions)
        else:
            # The response is sent first: players do not expect packets before it.
            self.engine.accept_play(positions)
            self.client.flush()
            try:
                reading.start(outbox)
            except PathError as error:
                session.close(str(error))

    # Both

    def _pause(self, session: Session) -> None:
        media = session.media
        was_recording = session.wire.state is State.RECORDING
        if isinstance(media, Reading) or (media is not None and was_recording):
            media.stop()
        # The response goes first: removing the publisher may close the path, and with it this session.
        self.engine.accept_pause()
        if isinstance(media, Recording) and was_recording:
            self.client.flush()
            media.path.stop_publishing(session, "the publisher paused")

    def _tear_down(self, session: Session) -> None:
        self.engine.accept_teardown()
        self.client.flush()
        session.close(f"teardown by {self.client.peer[0]}", keep_connection=True)

    # Access

    async def _authorize(
        self,
        action: Action,
        event: events.DescribeRequested | events.AnnounceRequested | events.SetupRequested,
        session: Session | None = None,
    ) -> Outcome | None:
        """Return None if the client is allowed; else refuse it and return the result."""
        client, credentials = self.client, event.credentials
        request = AccessRequest(
            action,
            event.path,
            event.query,
            client.peer[0],
            credentials,
            asks_again=True,
            protocol="rtsp",
            id=session.id if session is not None else None,
            user_agent=credentials.user_agent,
            takes_token_from_query=True,
        )
        try:
            user = await self.context.hub.authorize(request)
        except AccessDenied as denied:
            is_asked = not credentials.is_given and denied.denial is not Denial.ADDRESS
            client.asked_for = event.path if is_asked else ""
            return await self._deny(denied, credentials)
        self.engine.authenticator.failures = 0
        client.asked_for = ""
        if session is not None:
            self.engine.check_request()
            session.user = user
        return None

    async def _deny(self, denied: AccessDenied, credentials: GivenCredentials) -> Outcome:
        if denied.denial is Denial.ADDRESS:
            await asyncio.sleep(self.client.failure_pause)
            return self.engine.deny(str(denied))
        if self.engine.may_try_again:
            needs_plain = self.context.hub.access.needs_plain
            self.engine.challenge(basic_only=credentials.needs_basic or needs_plain)
            return []
        self.client.log.info("authentication failed: %s", denied)
        await asyncio.sleep(self.client.failure_pause)
        return self.engine.deny(f"authentication failed: {denied}")


def _end_unused(session: Session) -> None:
    """End a session whose first request was refused."""
    if session.wire.state is State.INIT:
        session.close("not in use")


def _playable(session: Session) -> tuple[Path, Reading]:
    reading = session.media
    if not isinstance(reading, Reading) or reading.path.stream is not reading.stream:
        raise NoOnePublishing(session.wire.path_name)
    return reading.path, reading


def _status_of(error: RemoteProtocolError | PathError) -> int:
    if isinstance(error, RemoteProtocolError):
        return error.status
    if isinstance(error, NoOnePublishing | PathClosed):
        return 404
    return 400
