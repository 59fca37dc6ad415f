"""The RTMP and RTMPS servers."""

from __future__ import annotations

import asyncio
import secrets

from polycast.config.dialects.registry import LEGACY, dialect_of
from polycast.config.schema import Configuration
from polycast.hub.stream import Stream
from polycast.items import LazyItems, SessionItem
from polycast.media.track import Track
from polycast.protocols.base import ServerContext, ServerKind, new_session_id
from polycast.protocols.rtmp.configuration import RtmpAuthMethod, RtmpConfiguration
from polycast.protocols.rtmp.connection import Connection, Host
from polycast.protocols.rtmp.reader import SharedMuxer
from polycast.protocols.shared_muxers import SharedMuxers
from polycast.protocols.transcoding import TranscodedTrack
from polycast.security.addresses import IPNetwork
from polycast.wire.rtmp.login import Login, LoginMethod


class RtmpServer(Host):
    """Plain RTMP."""

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(kind, context, configuration)
        # A client that logs in connects several times; each time, it may reach another worker.
        self.login = Login(context.workers.secret if context.workers is not None else secrets.token_bytes(32))
        self._clients: dict[str, Connection] = {}
        self._muxers: SharedMuxers[SharedMuxer] = SharedMuxers()

        self.apply(configuration)

    def apply(self, configuration: Configuration) -> None:
        super().apply(configuration)
        methods = configuration[RtmpConfiguration].rtmp_auth_methods
        self.login.methods = tuple(LoginMethod(method) for method in methods if method is not RtmpAuthMethod.QUERY)

    @property
    def session_type(self) -> str:
        return "rtmpConn"

    @property
    def proxy_networks(self) -> tuple[IPNetwork, ...]:
        return self.configuration[RtmpConfiguration].rtmp_trusted_proxies

    def make_connection(self) -> asyncio.Protocol:
        return Connection(self)

    def new_id(self) -> str:
        return new_session_id(self._clients.__contains__, self.context.workers)

    def add_client(self, connection: Connection) -> None:
        self._clients[connection.id] = connection

    def remove_client(self, connection: Connection) -> None:
        self._clients.pop(connection.id, None)

    def shared_muxer(
        self, stream: Stream, tracks: tuple[Track, ...], transcoded: tuple[TranscodedTrack, ...]
    ) -> SharedMuxer:
        return self._muxers.get(stream, tracks, lambda: SharedMuxer(tracks, transcoded))

    def items(self) -> LazyItems[SessionItem]:
        return LazyItems({connection.id: connection.item for connection in self._clients.values()})

    def kick(self, session_id: str) -> bool:
        connection = self._clients.get(session_id)
        if connection is None:
            return False
        connection.close("kicked")
        return True


class RtmpsServer(RtmpServer):
    """RTMP over TLS."""

    is_encrypted = True

    @property
    def session_type(self) -> str:
        # rtsp-simple-server does not tell them apart.
        return super().session_type if dialect_of(self.configuration.dialect) is LEGACY else "rtmpsConn"
