"""Pulls an HLS stream (RFC 8216): a multivariant or media playlist over HTTP or HTTPS."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import ClassVar, Final

from polycast.errors import RemoteProtocolError
from polycast.protocols.hls.source_crypto import KEY_SIZE, check_key, decrypt
from polycast.protocols.hls.source_demuxer import PieceDemuxer
from polycast.protocols.hls.source_http import Download, Fetcher, resolve
from polycast.protocols.hls.source_player import Lane, Player
from polycast.protocols.hls.source_playlist import Piece, PlaylistFollower, choose_variant
from polycast.protocols.pull import PullContext, Puller, PullError
from polycast.wire.hls.parsed import Initialization, Key, ParsedMediaPlaylist, ParsedMultivariantPlaylist
from polycast.wire.hls.parser import parse_playlist
from polycast.wire.mp4.demuxer import MAXIMUM_MEDIA_SIZE

# Bytes of an initialization: sample descriptions of a few tracks.
MAXIMUM_INITIALIZATION_SIZE: Final = 4 * 1024 * 1024

# Keys and initializations that are kept; a playlist uses one or two at a time.
REMEMBERED_FILES: Final = 8

# Target durations of media that are downloaded ahead of the playout.
BUFFER_TARGETS: Final = 2
SHORTEST_BUFFER_SECONDS: Final = 2.0

# Target durations without news after which a live playlist counts as dead (RFC 8216 section 6.2.1 allows 1.5).
STALLED_TARGETS: Final = 4

# Target durations that a server may hold a request for a playlist (draft-pantos-hls-rfc8216bis section 6.2.5.2).
HOLD_PATIENCE_TARGETS: Final = 3

# Downloads of one segment that may fail before the source counts as failed.
SEGMENT_ATTEMPTS: Final = 2


class HlsPuller(Puller):
    """One address of a playlist."""

    label: ClassVar[str] = "hls source"
    type_name: ClassVar[str] = "hlsSource"

    async def pull(self, context: PullContext) -> None:
        context.log.debug("connecting")
        fetcher = Fetcher(self.url, context.path_configuration.source_fingerprint, context.read_timeout)
        try:
            await self._pull(context, fetcher)
        finally:
            await fetcher.close()

    async def _pull(self, context: PullContext, fetcher: Fetcher) -> None:
        first = await fetcher.get_playlist(self.url)
        playlist = _parse(first)
        player = Player(context.loop, context.publish)
        if isinstance(playlist, ParsedMultivariantPlaylist):
            variant, audio = choose_variant(playlist)
            context.log.debug("using the variant with %d bit/s", variant.bandwidth)
            urls = [resolve(first.url, variant.uri)]
            if audio is not None and audio.uri is not None:
                urls.append(resolve(first.url, audio.uri))
        else:
            urls = [first.url]
        renditions = [
            _Rendition(context, fetcher, player, player.add_lane(only=_kind_of(number, len(urls))), url)
            for number, url in enumerate(urls)
        ]
        # The first failure of any of them is that of the source; the others are cancelled.
        try:
            async with asyncio.TaskGroup() as group:
                for rendition in renditions:
                    group.create_task(rendition.run())
                group.create_task(player.run())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None


def _kind_of(number: int, count: int) -> str | None:
    """With audio in a playlist of its own, what the variant has of it is not used."""
    return None if count == 1 else ("video", "audio")[number]


def _parse(download: Download) -> ParsedMediaPlaylist | ParsedMultivariantPlaylist:
    try:
        return parse_playlist(download.data)
    except RemoteProtocolError as error:
        raise PullError(f"invalid playlist: {error}") from error


class _Rendition:
    """Follows one media playlist and fills a lane with its frames."""

    def __init__(self, context: PullContext, fetcher: Fetcher, player: Player, lane: Lane, url: str) -> None:
        self._context = context
        self._fetcher = fetcher
        self._player = player
        self._lane = lane
        self._url = url
        self._follower = PlaylistFollower()
        self._demuxer = PieceDemuxer()
        self._files: OrderedDict[object, bytes] = OrderedDict()

    async def run(self) -> None:
        """Download until the playlist ends. Raises PullError."""
        loop = self._context.loop
        address = self._url
        patience = 0.0
        last_news = loop.time()
        skipped = 0
        while True:
            began = loop.time()
            download, playlist = await self._playlist(address, patience)
            pieces = self._follower.take(playlist)
            if self._follower.skipped > skipped:
                self._context.log.warning("%d segments were missed", self._follower.skipped - skipped)
                skipped = self._follower.skipped
            await self._take(pieces, download.url, playlist)
            if playlist.ended:
                self._lane.finish()
                return
            now = loop.time()
            if self._follower.has_changed:
                last_news = now
            stalled = max(self._context.read_timeout, float(STALLED_TARGETS * playlist.target_duration))
            if now - last_news >= stalled:
                raise PullError(f"the playlist has not changed for {stalled:g} s")
            await asyncio.sleep(self._follower.reload_delay(playlist, now - began))
            address = self._follower.reload_address(self._url, playlist)
            patience = float(HOLD_PATIENCE_TARGETS * playlist.target_duration) if address != self._url else 0.0

    async def _playlist(self, address: str, patience: float) -> tuple[Download, ParsedMediaPlaylist]:
        try:
            download = await self._fetcher.get_playlist(address, patience=patience)
        except PullError:
            if address == self._url:
                raise
            # A server that holds requests ends them with an error when the stream pauses.
            download = await self._fetcher.get_playlist(self._url)
        playlist = _parse(download)
        if isinstance(playlist, ParsedMultivariantPlaylist):
            raise PullError("a multivariant playlist refers to another one")
        return download, playlist

    async def _take(self, pieces: list[Piece], base: str, playlist: ParsedMediaPlaylist) -> None:
        room = max(SHORTEST_BUFFER_SECONDS, float(BUFFER_TARGETS * playlist.target_duration))
        for piece in pieces:
            await self._player.wait_for_room(self._lane, room)
            initialization = None
            if piece.initialization is not None:
                initialization = await self._initialization(piece.initialization, base, piece.sequence)
            data = await self._segment(piece, base)
            self._context.counters.bytes_received += len(data)
            frames = self._demuxer.receive(piece, initialization, data)
            self._lane.receive(self._demuxer.tracks, piece.period, frames)

    async def _segment(self, piece: Piece, base: str) -> bytes:
        url = resolve(base, piece.uri)
        for attempt in range(1, SEGMENT_ATTEMPTS + 1):
            try:
                download = await self._fetcher.get(url, MAXIMUM_MEDIA_SIZE, byte_range=piece.byte_range)
            except PullError as error:
                if attempt == SEGMENT_ATTEMPTS:
                    raise
                self._context.log.debug("retrying a segment: %s", error)
            else:
                break
        return await self._decrypted(download.data, piece.key, base, piece.sequence)

    async def _initialization(self, initialization: Initialization, base: str, sequence: int) -> bytes:
        found = self._files.get(initialization)
        if found is None:
            download = await self._fetcher.get(
                resolve(base, initialization.uri), MAXIMUM_INITIALIZATION_SIZE, byte_range=initialization.byte_range
            )
            found = await self._decrypted(download.data, initialization.key, base, sequence)
            self._remember(initialization, found)
        return found

    async def _decrypted(self, data: bytes, key: Key | None, base: str, sequence: int) -> bytes:
        if key is None:
            return data
        uri = check_key(key)
        secret = self._files.get(uri)
        if secret is None:
            secret = (await self._fetcher.get(resolve(base, uri), KEY_SIZE)).data
            self._remember(uri, secret)
        return decrypt(data, secret, key, sequence)

    def _remember(self, name: object, data: bytes) -> None:
        self._files[name] = data
        if len(self._files) > REMEMBERED_FILES:
            self._files.popitem(last=False)
