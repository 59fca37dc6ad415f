"""Pulls a stream from a WHEP server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import ClassVar, Final
from urllib.parse import urlsplit

from polycast.errors import RemoteProtocolError
from polycast.hub.stream import Stream
from polycast.hub.warnings import LossWarning
from polycast.media.track import Track
from polycast.protocols.pull import PullContext, Puller, PullError
from polycast.protocols.webrtc.client_peer import ClientPeer
from polycast.protocols.webrtc.gathering import gather, stun_urls
from polycast.protocols.webrtc.inbound import InboundMedia
from polycast.protocols.webrtc.incoming import Incoming
from polycast.protocols.webrtc.negotiation import ReceivedTrack, accept_answer, offer_to_receive, received_extension
from polycast.protocols.webrtc.offer import Offer
from polycast.protocols.webrtc.peer import PeerState
from polycast.protocols.webrtc.signalling_client import SignallingClient
from polycast.wire.webrtc.description import (
    MID_EXTENSION,
    TRANSPORT_SEQUENCE_EXTENSION,
    RemoteDescription,
)

TICK_SECONDS: Final = 0.05
"""Seconds between two checks of timeouts."""

KEY_FRAME_TICK_SECONDS: Final = 1.0
"""Seconds between two checks whether readers need a key frame."""


class WhepPuller(Puller):
    """One WHEP address."""

    label: ClassVar[str] = "webrtc source"
    type_name: ClassVar[str] = "webRTCSource"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._session: _Session | None = None
        """Set while the peers are connected, or connecting."""

    def request_key_frame(self) -> None:
        if self._session is not None:
            self._session.request_key_frame()

    async def pull(self, context: PullContext) -> None:
        settings = context.path_configuration
        client = SignallingClient(
            self.url,
            settings.source_fingerprint,
            settings.whep_bearer_token,
            context.read_timeout,
            context.dump_prefix(f"{urlsplit(self.url).scheme}_source_conn"),
        )
        try:
            with contextlib.closing(Offer(offer_to_receive())) as offer:
                timeout = float(settings.whep_stun_gather_timeout)
                if timeout and (urls := stun_urls(await client.links())):
                    offer.reflexive = await gather(offer.bound, urls, timeout, context.log)
                answer = await offer.send(client)
                try:
                    received = accept_answer(answer)
                except RemoteProtocolError as error:
                    raise PullError(f"invalid answer: {error}") from error
                session = _Session(context, answer, received)
                session.connect(ClientPeer(context.loop, offer, answer, session))
            self._session = session
            try:
                await session.run()
            finally:
                self._session = None
                session.close()
        finally:
            await asyncio.shield(client.close())


class _Session:
    """Passes the media of the peer to the stream."""

    def __init__(self, context: PullContext, answer: RemoteDescription, received: Sequence[ReceivedTrack]) -> None:
        self._context = context
        self._answer = answer
        self._received = received
        self._peer: ClientPeer | None = None
        self._incoming: Incoming | None = None
        self._ended: asyncio.Future[None] = context.loop.create_future()
        self._ended.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)
        self._last_packet = context.loop.time()

    def connect(self, peer: ClientPeer) -> None:
        """Use the connection that is being established."""
        self._peer = peer
        context = self._context
        media = InboundMedia(
            [item.inbound for item in self._received],
            context.loop.time(),
            mid_extension=received_extension(self._answer, MID_EXTENSION),
            transport_sequence_extension=received_extension(self._answer, TRANSPORT_SEQUENCE_EXTENSION),
        )
        self._incoming = Incoming(
            context.loop,
            peer,
            media,
            [(item.inbound, item.track) for item in self._received],
            context.counters,
            self._publish,
            gather_seconds=float(context.path_configuration.whep_track_gather_timeout),
        )

    async def run(self) -> None:
        """Check timeouts until the stream ends; always ends with an exception."""
        loop = self._context.loop
        deadline = loop.time() + float(self._context.path_configuration.whep_handshake_timeout)
        loss = LossWarning(self._context.log)
        next_tick = loop.time()
        while not self._ended.done():
            await asyncio.wait((self._ended,), timeout=TICK_SECONDS)
            now = loop.time()
            peer = self._peer
            if peer is None or self._ended.done():
                break
            peer.tick(now)
            loss.update(self._context.counters.packets_lost, now)
            if self._incoming is not None and now >= next_tick:
                next_tick = now + KEY_FRAME_TICK_SECONDS
                self._incoming.tick(now)
            if peer.state is not PeerState.CONNECTED:
                if now >= deadline:
                    raise PullError("deadline exceeded while waiting connection")
                self._last_packet = now
            elif now - self._last_packet >= self._context.read_timeout:
                raise PullError(f"nothing was received for {self._context.read_timeout:g} s")
        self._ended.result()

    def request_key_frame(self) -> None:
        """Request a key frame from the server."""
        if self._incoming is not None:
            self._incoming.request_key_frame()

    def close(self) -> None:
        """End the connection."""
        if self._incoming is not None:
            self._incoming.close()
        if self._peer is not None:
            self._peer.close("the source is stopped")

    # PeerOwner

    def on_connected(self, now: float) -> None:
        if self._incoming is not None:
            self._incoming.connect(now)

    def on_rtp(self, packet: bytes, now: float) -> None:
        self._last_packet = now
        if self._incoming is not None:
            self._incoming.receive_rtp(packet, now)

    def on_rtcp(self, packet: bytes, now: float) -> None:
        if self._incoming is not None:
            self._incoming.receive_rtcp(packet, now)

    def on_end_of_read(self) -> None:
        if self._incoming is not None:
            self._incoming.end_of_read()

    def on_internal_error(self) -> None:
        self._context.log.exception("internal error")

    def on_peer_closed(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(PullError(f"peer connection closed ({reason})"))

    def _publish(self, tracks: Sequence[Track]) -> Stream | None:
        log = self._context.log
        is_late = self._incoming is not None and self._incoming.stream is not None
        if self._ended.done():
            return None
        try:
            stream = self._context.publish(tracks, True)
        except PullError as error:
            if is_late:
                log.warning("a track that has started late is left out: %s", error)
            else:
                self._ended.set_exception(error)
            return None
        if is_late:
            log.warning("a track has started late: the stream begins again with it")
        return stream
