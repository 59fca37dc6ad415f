"""Pulls a stream from an RTSP or RTSPS server (RFC 2326), mostly a camera."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import ClassVar, Final

from polycast.config.values import SourceProtocol
from polycast.errors import RemoteProtocolError
from polycast.net.dial import client_context, connect
from polycast.protocols.pull import PullContext, Puller, PullError, first_of
from polycast.protocols.rtsp.source_connection import ClientConnection, StatusError
from polycast.protocols.rtsp.source_description import SourceDescription, read_description, read_moment
from polycast.protocols.rtsp.source_media import NoPacketsError, SourceMedia
from polycast.wire.rtsp.headers.session import Session
from polycast.wire.rtsp.headers.transport import Transport
from polycast.wire.rtsp.message import Method, Response
from polycast.wire.rtsp.transport_choice import Protocol
from polycast.wire.rtsp.url import RtspUrl

# Redirections that are followed before it is taken for a loop.
MAXIMUM_REDIRECTIONS: Final = 5
REDIRECTIONS: Final = (301, 302, 303, 305, 307, 308)

# Seconds between keep-alives where the server tells no session timeout (RFC 2326 section 12.37 makes that 60), and the
# part of the timeout where it does.
KEEPALIVE_INTERVAL: Final = 30.0
KEEPALIVE_PART: Final = 0.8
SHORTEST_KEEPALIVE_INTERVAL: Final = 1.0

# Seconds for the farewell to a server.
TEARDOWN_SECONDS: Final = 1.0


class TransportRefused(PullError):
    """The server does not do this transport."""


class RtspPuller(Puller):
    """One RTSP address."""

    label: ClassVar[str] = "rtsp source"
    type_name: ClassVar[str] = "rtspSource"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._udp_failed = False
        """Whether UDP was tried in vain; later attempts then begin with TCP."""

    async def pull(self, context: PullContext) -> None:
        try:
            url = RtspUrl.parse(self.url)
        except RemoteProtocolError as error:
            raise PullError(str(error)) from error
        configured = context.path_configuration.source_protocol
        if url.scheme == "rtsps":
            if configured not in (SourceProtocol.AUTOMATIC, SourceProtocol.TCP):
                raise PullError("RTSPS can be used only with TCP")
            await self._pull_with(context, url, Protocol.TCP)
        elif configured is not SourceProtocol.AUTOMATIC:
            await self._pull_with(context, url, Protocol(configured.value))
        elif self._udp_failed:
            await self._pull_with(context, url, Protocol.TCP)
        else:
            try:
                await self._pull_with(context, url, Protocol.UDP, is_trial=True)
            except (TransportRefused, NoPacketsError) as error:
                context.log.info("UDP does not work (%s); tries TCP", error)
                self._udp_failed = True
                await self._pull_with(context, url, Protocol.TCP)

    async def _pull_with(
        self, context: PullContext, url: RtspUrl, protocol: Protocol, *, is_trial: bool = False
    ) -> None:
        for _ in range(MAXIMUM_REDIRECTIONS + 1):
            target = await _Attempt(context, url, protocol, is_trial=is_trial).run()
            context.log.info("redirected to %s", target.without_credentials())
            if target.user is None:
                target = dataclasses.replace(target, user=url.user, password=url.password)
            url = target
        raise PullError("too many redirections")


class _Attempt:
    """One connection, from OPTIONS to TEARDOWN."""

    def __init__(self, context: PullContext, url: RtspUrl, protocol: Protocol, *, is_trial: bool) -> None:
        self._context = context
        self._url = url
        self._protocol = protocol
        self._is_trial = is_trial
        self._public: frozenset[str] = frozenset()
        self._interval = KEEPALIVE_INTERVAL
        self._connection: ClientConnection
        self._media: SourceMedia | None = None

    async def run(self) -> RtspUrl:
        """Pull until that ends; returns only where the server redirects us, the new address."""
        context, url = self._context, self._url
        tls = None
        if url.scheme == "rtsps":
            try:
                tls = client_context(context.path_configuration.source_fingerprint)
            except ValueError as error:
                raise PullError(str(error)) from error
        credentials = (url.user, url.password or "") if url.user is not None else None
        context.log.debug("connecting")
        connection = self._connection = await connect(
            lambda: ClientConnection(context.loop, context.log, credentials, context.read_timeout),
            url.host,
            url.effective_port,
            tls=tls,
            timeout=context.read_timeout,
        )
        try:
            return await self._talk(connection)
        finally:
            if self._media is not None:
                self._media.close()
            connection.close()

    async def _talk(self, connection: ClientConnection) -> RtspUrl:
        request_url = self._url.without_credentials()
        options = await connection.request(Method.OPTIONS, request_url.serialize(), accept=range(200, 600))
        self._note_public(options)
        described = await connection.request(
            Method.DESCRIBE,
            request_url.serialize(),
            [("Accept", "application/sdp")],
            accept=(200, *REDIRECTIONS),
        )
        if described.status in REDIRECTIONS:
            return self._redirection(described)
        description = read_description(described, request_url)
        for reason in description.skipped:
            self._context.log.warning("%s", reason)
        media = self._media = SourceMedia(self._context, connection, description, self._protocol)
        await self._set_up(connection, description, media)
        media.punch()
        played = await self._play(connection, description)
        try:
            media.start(publish_at_once=not self._is_trial, moment=read_moment(played, description))
            await first_of(self._keep_alive(connection, description.base), media.wait(), _wait_for(connection.lost))
        finally:
            connection.send(Method.TEARDOWN, description.base)
        raise PullError("the stream has ended")

    def _note_public(self, options: Response) -> None:
        methods = ",".join(options.headers.get_all("Public")) if options.status == 200 else ""
        self._public = frozenset(method.strip().upper() for method in methods.split(","))

    def _redirection(self, response: Response) -> RtspUrl:
        location = (response.headers.get("Location") or "").strip()
        try:
            return RtspUrl.parse(location)
        except RemoteProtocolError as error:
            raise PullError(f"redirected to an {error}") from error

    # SETUP

    async def _set_up(self, connection: ClientConnection, description: SourceDescription, media: SourceMedia) -> None:
        for index, track in enumerate(description.tracks):
            offer = media.offer(index)
            try:
                response = await connection.request(Method.SETUP, track.url, [("Transport", offer.serialize())])
            except StatusError as error:
                # Some cameras say 400 or 500 where 461 is meant.
                if error.status == 461 or (self._is_trial and error.status not in (401, 403, 404)):
                    raise TransportRefused(str(error)) from error
                raise
            self._note_session(connection, response)
            try:
                media.agree(index, _transport_of(response, offer))
            except RemoteProtocolError as error:
                raise TransportRefused(str(error)) from error

    def _note_session(self, connection: ClientConnection, response: Response) -> None:
        header = response.headers.get("Session")
        if header is None:
            return
        try:
            session = Session.parse(header)
        except RemoteProtocolError:
            return
        connection.session = session.identifier
        if session.timeout:
            part = session.timeout * KEEPALIVE_PART
            self._interval = max(SHORTEST_KEEPALIVE_INTERVAL, min(KEEPALIVE_INTERVAL, part))

    # PLAY

    async def _play(self, connection: ClientConnection, description: SourceDescription) -> Response:
        try:
            return await connection.request(Method.PLAY, description.base, [("Range", "npt=0-")])
        except StatusError as error:
            # Live encoders that do not know ranges say so with 457 or 456 (RFC 2326 section 11.3.7).
            if error.status not in (456, 457):
                raise
            return await connection.request(Method.PLAY, description.base)

    async def _keep_alive(self, connection: ClientConnection, url: str) -> None:
        method = Method.GET_PARAMETER if Method.GET_PARAMETER in self._public else Method.OPTIONS
        while True:
            await asyncio.sleep(self._interval)
            connection.send(method, url)


def _transport_of(response: Response, offer: Transport) -> Transport:
    """The transport of an answer to SETUP; over TCP what we asked for, where the camera does not say it right."""
    header = response.headers.get("Transport")
    try:
        if header is None:
            raise RemoteProtocolError("the answer to SETUP has no transport")
        return Transport.parse(header)
    except RemoteProtocolError:
        if offer.lower_transport == "TCP":
            return offer
        raise


async def _wait_for(lost: asyncio.Future[None]) -> None:
    await asyncio.shield(lost)
