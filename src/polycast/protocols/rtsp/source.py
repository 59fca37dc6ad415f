"""Pulls a stream from an RTSP or RTSPS server (RFC 2326), mostly a camera."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from polycast.config.source_values import range_header
from polycast.config.values import SourceProtocol
from polycast.errors import RemoteProtocolError, missing_packages
from polycast.net.dial import client_context
from polycast.protocols.pull import PullContext, Puller, PullError, first_of, until_lost
from polycast.protocols.rtsp.context import has_ciphers
from polycast.protocols.rtsp.source_connection import ClientConnection, StatusError
from polycast.protocols.rtsp.source_description import SourceDescription, read_description, read_sync_point
from polycast.protocols.rtsp.source_receiver import SourceReceiver
from polycast.protocols.rtsp.source_tunnel import open_connection
from polycast.security.origins import Origin, may_send_credentials
from polycast.wire.rtsp.headers.key_mgmt import read_key_mgmt, write_key_mgmt
from polycast.wire.rtsp.message import Method, Response
from polycast.wire.rtsp.transport_answer import read_transport_answer
from polycast.wire.rtsp.transport_choice import Protocol
from polycast.wire.rtsp.url import RtspUrl, resolve_location

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureStream

# Maximum number of redirections; more are considered a loop.
MAXIMUM_REDIRECTIONS: Final = 5
REDIRECTIONS: Final = (301, 302, 303, 305, 307, 308)

# Errors that do not depend on the transport: credentials, the path.
_NOT_ABOUT_TRANSPORT: Final = (401, 403, 404)

# Responses of live encoders that do not support a range (RFC 2326 section 11.3.7: 457).
_RANGE_REFUSED: Final = (400, 451, 456, 457, 501, 551)


class TransportRefused(PullError):
    """The server does not support this transport."""


class RtspPuller(Puller):
    """One RTSP address."""

    label: ClassVar[str] = "rtsp source"
    type_name: ClassVar[str] = "rtspSource"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._udp_failed = False
        """Whether UDP failed and TCP works; later attempts then start with TCP."""
        self._has_played = False
        """Whether the server answered PLAY at the last attempt."""

    async def pull(self, context: PullContext) -> None:
        try:
            url = RtspUrl.parse_source(self.url)
        except RemoteProtocolError as error:
            raise PullError(str(error)) from error
        configured = context.path_configuration.rtsp_transport
        tries_udp = configured is SourceProtocol.AUTOMATIC and not url.tunnel
        if not tries_udp or (url.scheme == "rtsps" and not has_ciphers()):
            await self._pull_with(context, url, _protocol_for(url, configured))
            return
        if not self._udp_failed:
            try:
                await self._pull_with(context, url, Protocol.UDP, is_trial=True)
            except TransportRefused as error:
                context.log.info("UDP does not work (%s); tries TCP", error)
        self._udp_failed = True
        try:
            await self._pull_with(context, url, Protocol.TCP)
        finally:
            # If TCP does not work either, the camera may not have been ready.
            self._udp_failed = self._has_played

    async def _pull_with(
        self, context: PullContext, url: RtspUrl, protocol: Protocol, *, is_trial: bool = False
    ) -> None:
        for _ in range(MAXIMUM_REDIRECTIONS + 1):
            attempt = _Attempt(context, url, protocol, is_trial=is_trial)
            try:
                target = await attempt.run()
            finally:
                self._has_played = attempt.has_played
            context.log.info("redirected to %s", target.without_credentials())
            if target.scheme == "rtsps" or url.tunnel:
                protocol, is_trial = _protocol_for(target, context.path_configuration.rtsp_transport), False
            url = self._with_credentials(context, target, url, attempt.remote_host)
        raise PullError("too many redirections")

    @staticmethod
    def _with_credentials(context: PullContext, target: RtspUrl, url: RtspUrl, remote_host: str) -> RtspUrl:
        """Return the target of the redirection, with the credentials that it may receive."""
        if target.user is not None or url.user is None:
            return target
        # The path's other sources may have credentials for that host.
        for written in (url, *map(RtspUrl.parse_source, _rtsp_sources(context))):
            host = remote_host if written is url else ""
            may = may_send_credentials(_origin_of(written), _origin_of(target), remote_host=host, any_port=True)
            if written.user is not None and may:
                return dataclasses.replace(target, user=written.user, password=written.password)
        context.log.warning(
            "user and password are not sent to %s: it is another host, or not encrypted", target.without_credentials()
        )
        return target


def _origin_of(url: RtspUrl) -> Origin:
    return Origin(url.scheme, url.host, url.effective_port)


def _rtsp_sources(context: PullContext) -> list[str]:
    schemes = ("rtsp:", "rtsps:", "rtsp+", "rtsps+")
    return [source for source in context.path_configuration.sources if source.startswith(schemes)]


def _protocol_for(url: RtspUrl, configured: SourceProtocol) -> Protocol:
    if url.tunnel and configured not in (SourceProtocol.AUTOMATIC, SourceProtocol.TCP):
        raise PullError("RTSP over HTTP or WebSocket can be used only with TCP")
    if url.tunnel:
        return Protocol.TCP
    if url.scheme == "rtsps":
        if configured is SourceProtocol.AUTOMATIC:
            return Protocol.TCP
        if configured is not SourceProtocol.TCP and not has_ciphers():
            raise PullError(missing_packages("SRTP, which RTSPS uses with UDP,", "cryptography"))
    return Protocol(configured.value)


class _Attempt:
    """One connection, from OPTIONS to TEARDOWN."""

    def __init__(self, context: PullContext, url: RtspUrl, protocol: Protocol, *, is_trial: bool) -> None:
        self._context = context
        self._url = url
        self._protocol = protocol
        self._is_trial = is_trial
        self._public: frozenset[str] = frozenset()
        self._connection: ClientConnection
        self._media: SourceReceiver | None = None
        self.has_played = False
        """Whether the server has answered PLAY."""
        self.remote_host = ""
        """The server's IP address."""

    async def run(self) -> RtspUrl:
        """Pull until the stream ends; only returns after a redirection, with the new address."""
        context, url = self._context, self._url
        tls = None
        if url.scheme == "rtsps":
            try:
                tls = client_context(context.path_configuration.source_fingerprint)
            except ValueError as error:
                raise PullError(str(error)) from error
        credentials = (url.user, url.password or "") if url.user is not None else None
        context.log.debug("connecting")
        connection = self._connection = await open_connection(
            lambda: ClientConnection(context.loop, context.log, credentials, context.read_timeout),
            url,
            tls=tls,
            timeout=context.read_timeout,
            dump_prefix=context.dump_prefix(f"{url.scheme}_source_conn"),
        )
        self.remote_host = connection.remote_host
        try:
            return await self._talk(connection)
        finally:
            if self._media is not None:
                self._media.close()
            connection.finish()

    async def _talk(self, connection: ClientConnection) -> RtspUrl:
        request_url = self._url.without_credentials()
        options = await connection.request(Method.OPTIONS, request_url.serialize(), accept=range(200, 600))
        self._store_public(options)
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
        if self._url.scheme == "rtsps" and self._protocol is not Protocol.TCP and not description.is_secure:
            if not self._is_trial:
                raise PullError("the server offers no SRTP; with RTSPS, only TCP can be used")
            self._protocol, self._is_trial = Protocol.TCP, False
        media = self._media = SourceReceiver(self._context, connection, description, self._protocol)
        base = await self._set_up(connection, description, media)
        media.transports.expect()
        played = await self._play(connection, base)
        self.has_played = True
        try:
            media.start(publish_at_once=not self._is_trial, sync_point=read_sync_point(played, description))
            connection.keep_alive(base, self._public)
            await first_of(media.wait(), until_lost(connection.lost))
        except PullError as error:
            # Nothing arrived, or the camera closed the connection before.
            if self._is_trial and not media.has_received:
                raise TransportRefused(str(error)) from error
            raise
        finally:
            connection.send(Method.TEARDOWN, base)
        raise PullError("the stream has ended")

    def _store_public(self, options: Response) -> None:
        methods = ",".join(options.headers.get_all("Public")) if options.status == 200 else ""
        self._public = frozenset(method.strip().upper() for method in methods.split(","))

    def _redirection(self, response: Response) -> RtspUrl:
        location = (response.headers.get("Location") or "").strip()
        try:
            target = resolve_location(location, self._url)
        except RemoteProtocolError as error:
            raise PullError(f"redirected to an {error}") from error
        if self._url.tunnel and not target.tunnel:
            # The server names its RTSP address, but it can only be reached through the tunnel.
            port = self._url.port if target.host == self._url.host else target.port
            target = dataclasses.replace(target, tunnel=self._url.tunnel, port=port)
        return target

    # SETUP

    async def _set_up(self, connection: ClientConnection, description: SourceDescription, media: SourceReceiver) -> str:
        """Set up the tracks; return the URL of the whole presentation."""
        bases = list(description.bases)
        for index in range(len(description.tracks)):
            offer = media.transports.offer(index)
            keys = await asyncio.to_thread(_new_keys) if offer.profile == "SAVP" else None
            while True:
                url = description.track_url(index, bases[0])
                headers = [("Transport", offer.serialize())]
                if keys is not None:
                    headers.append(("KeyMgmt", write_key_mgmt(url, keys.tracks[0].message(None))))
                try:
                    response = await self._try(connection, Method.SETUP, url, headers)
                    break
                except StatusError as error:
                    # The camera rejects the URL from its own description.
                    if error.status != 404 or index or len(bases) == 1:
                        raise
                    del bases[0]
            try:
                media.transports.agree(index, read_transport_answer(response.headers.get_all("Transport"), offer))
                if keys is not None:
                    header = response.headers.get("KeyMgmt")
                    media.transports.secure(index, keys, read_key_mgmt(header) if header is not None else None)
            except RemoteProtocolError as error:
                raise TransportRefused(str(error)) from error
        return bases[0]

    async def _try(
        self,
        connection: ClientConnection,
        method: Method,
        url: str,
        headers: Sequence[tuple[str, str]],
        *,
        passed_on: Collection[int] = (),
    ) -> Response:
        """Send a request. Raises TransportRefused if the server may accept another transport; StatusError for statuses
        in ``passed_on``.
        """
        try:
            return await connection.request(method, url, headers)
        except StatusError as error:
            if error.status in passed_on:
                raise
            # Some cameras send 400 or 500 instead of 461.
            if error.status == 461 or (self._is_trial and error.status not in _NOT_ABOUT_TRANSPORT):
                raise TransportRefused(str(error)) from error
            raise
        except (PullError, OSError) as error:
            # Others close the connection, or never answer; a timeout is an OSError.
            if self._is_trial:
                raise TransportRefused(f"{method}: {error}") from error
            raise

    # PLAY

    async def _play(self, connection: ClientConnection, base: str) -> Response:
        settings = self._context.path_configuration
        wanted = range_header(settings.rtsp_range_type, settings.rtsp_range_start)
        scale = [("Scale", settings.rtsp_scale)] if settings.rtsp_scale else []
        if wanted:
            return await self._try(connection, Method.PLAY, base, [("Range", wanted), *scale])
        try:
            headers = [("Range", "npt=0-"), *scale]
            return await self._try(connection, Method.PLAY, base, headers, passed_on=_RANGE_REFUSED)
        except StatusError as error:
            if error.status not in _RANGE_REFUSED:
                raise
            return await self._try(connection, Method.PLAY, base, scale)


def _new_keys() -> SecureStream:
    """Return our key for SRTP of one track. To be called in a thread, since the first call imports the ciphers."""
    from polycast.protocols.rtsp.secure import SecureStream  # its ciphers are an optional package

    return SecureStream(1)
