"""Publishes to a WHIP server (RFC 9725)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from polycast.errors import UnsupportedCodec
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.protocols.base import Destination
from polycast.protocols.pull import PullError
from polycast.protocols.push import PATIENCE, Pusher
from polycast.protocols.webrtc.client_peer import ClientPeer
from polycast.protocols.webrtc.negotiation import (
    STREAM_NAME,
    accept_sending,
    offer_to_send,
    tracks_to_offer,
)
from polycast.protocols.webrtc.offer import Offer
from polycast.protocols.webrtc.outgoing import B_FRAMES
from polycast.protocols.webrtc.outgoing_stream import OutgoingStream
from polycast.protocols.webrtc.selection import SentTrack
from polycast.protocols.webrtc.signalling_client import SignallingClient
from polycast.protocols.webrtc.viewer import Viewer, ViewerTrack

HANDSHAKE_TICK: Final = 0.05
"""Seconds between two checks of timeouts before the connection is established."""

TICK: Final = 1.0
"""Seconds between two checks of timeouts later."""


class WhipPusher(Pusher):
    """One connection to a WHIP server. It is also the `PeerOwner`."""

    def __init__(self, destination: Destination, log: Log) -> None:
        super().__init__()
        self._destination = destination
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._client: SignallingClient | None = None
        self._peer: ClientPeer | None = None
        self._viewer: Viewer | None = None
        self._tracks: Sequence[ViewerTrack] = ()
        self._has_warned = False
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        """Fails when the connection is lost."""
        self._ended.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)

    # Pusher

    async def open(self, path: Path, stream: Stream) -> None:
        server = self._destination
        client = self._client = SignallingClient(server.url, server.fingerprint, server.bearer_token, PATIENCE)
        offered = tracks_to_offer(stream.descriptions)
        streams = OutgoingStream()
        outgoing = [streams.track(item.track) for item in offered]
        with contextlib.closing(Offer(offer_to_send(offered, outgoing), STREAM_NAME)) as offer:
            answer = await offer.send(client)
            accepted = accept_sending(answer, offered)
            if not accepted:
                names = ", ".join(item.track.codec_name for item in offered)
                raise UnsupportedCodec(f"the server takes none of the tracks: {names}")
            self._warn_of_missing(stream, accepted)
            peer = self._peer = ClientPeer(self._loop, offer, answer, self)
        await self._wait_for_connection(peer)
        self._tracks = [ViewerTrack(streams.track(item.track), item.format) for item in accepted]
        self._viewer = Viewer(
            peer,
            self._tracks,
            self.counters,
            close=self.on_peer_closed,
            reference=lambda: Reference("whipPusher"),
            request_key_frame=lambda: _request_key_frame(path),
            cname=STREAM_NAME,
            now=self._loop.time(),
        )
        self._viewer.is_passive = True
        path.attach_reader(self._viewer, stream)

    async def wait(self) -> None:
        peer, viewer = self._peer, self._viewer
        if peer is None or viewer is None:
            raise PullError("not connected")
        while not self._ended.done():
            now = self._loop.time()
            peer.tick(now)
            viewer.tick(now)
            if not self._has_warned and any(track.outgoing.has_reordering for track in self._tracks):
                self._has_warned = True
                self._log.warning("%s; they are dropped (encode without B-frames)", B_FRAMES)
            await asyncio.wait((self._ended,), timeout=TICK)
        self._ended.result()

    async def close(self, path: Path) -> None:
        if self._viewer is not None:
            path.remove_reader(self._viewer)
        if self._peer is not None:
            self._peer.close("closed by us")
        if self._client is not None:
            await asyncio.shield(self._client.close())

    async def _wait_for_connection(self, peer: ClientPeer) -> None:
        deadline = self._loop.time() + PATIENCE
        while not (self._ended.done() or self._connected.done()):
            await asyncio.wait(
                (self._connected, self._ended), timeout=HANDSHAKE_TICK, return_when=asyncio.FIRST_COMPLETED
            )
            now = self._loop.time()
            peer.tick(now)
            if now >= deadline:
                raise TimeoutError(f"the server's media port did not answer within {PATIENCE:g} s")
        if self._ended.done():
            self._ended.result()

    def _warn_of_missing(self, stream: Stream, accepted: Sequence[SentTrack]) -> None:
        sent = {item.track.index for item in accepted}
        for track in stream.descriptions:
            if track.index not in sent:
                self._log.warning("the track %s is left out: WebRTC does not carry it here", track.codec_name)

    # PeerOwner

    def on_connected(self, now: float) -> None:
        self._connected.set_result(None)

    def on_rtp(self, packet: bytes, now: float) -> None:
        """WHIP servers send no media."""

    def on_rtcp(self, packet: bytes, now: float) -> None:
        if self._viewer is not None:
            self._viewer.receive_rtcp(packet, now)

    def on_end_of_read(self) -> None:
        """Nothing is received."""

    def on_internal_error(self) -> None:
        self._log.exception("internal error")

    def on_peer_closed(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(PullError(f"peer connection closed ({reason})"))


def _request_key_frame(path: Path) -> None:
    if path.publisher is not None:
        path.publisher.request_key_frame()
