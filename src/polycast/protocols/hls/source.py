"""Pulls an HLS stream (RFC 8216): a multivariant or media playlist over HTTP or HTTPS."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import ClassVar, Final

from polycast.errors import RemoteProtocolError
from polycast.protocols.hls.source_crypto import KEY_SIZE, Decryptor, check_key, decrypt
from polycast.protocols.hls.source_demuxer import PieceDemuxer
from polycast.protocols.hls.source_http import Download, Fetcher, MissingFileError
from polycast.protocols.hls.source_player import Player, PlayoutQueue
from polycast.protocols.hls.source_playlist import Piece, PlaylistFollower, choose_variant
from polycast.protocols.http_addresses import resolve
from polycast.protocols.pull import PullContext, Puller, PullError, first_of
from polycast.wire.hls.parsed import ByteRange, Initialization, Key, ParsedMediaPlaylist, ParsedMultivariantPlaylist
from polycast.wire.hls.parser import parse_playlist
from polycast.wire.mp4.demuxer import MAXIMUM_METADATA_SIZE

# Bytes of an initialization: sample descriptions of a few tracks.
MAXIMUM_INITIALIZATION_SIZE: Final = MAXIMUM_METADATA_SIZE + 64 * 1024

# Bytes of a segment; it is read while it is played, and never completely in memory.
MAXIMUM_SEGMENT_SIZE: Final = 256 * 1024 * 1024

# Bytes of frames that are downloaded ahead of the playout, however short their duration.
MAXIMUM_BUFFER_SIZE: Final = 24 * 1024 * 1024

# Seconds for which a segment is demuxed before other work on the loop, and the initial number of bytes.
SLICE_SECONDS: Final = 0.001
FIRST_SLICE_SIZE: Final = 4096
LARGEST_SLICE_SIZE: Final = 64 * 1024
SMALLEST_SLICE_SIZE: Final = 256

# Bytes of a playlist above which it is parsed in a thread: 500 lines take a few milliseconds.
LARGE_PLAYLIST_SIZE: Final = 32 * 1024

# Frames queued before other work on the loop: those of a fragment arrive all at once.
FRAMES_AT_ONCE: Final = 100

# A large playlist is not reloaded before this many times the time that it took to parse it.
PARSE_SHARE: Final = 8

# The download of a segment may take this many times its duration before the source counts as failed.
SLOWEST_DOWNLOAD: Final = 3

# Read timeouts within which a source has to be ready (its playlists, an initialization and a segment), and the minimum
# in seconds.
START_TIMEOUTS: Final = 3
SHORTEST_START_SECONDS: Final = 10.0

# Keys and initializations that are cached; a playlist uses one or two at a time.
CACHED_FILES: Final = 8

# Target durations of media that are downloaded ahead of the playout.
BUFFER_TARGETS: Final = 2
SHORTEST_BUFFER_SECONDS: Final = 2.0

# Target durations without a change after which a live playlist counts as stalled (RFC 8216 section 6.2.1 allows 1.5).
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
        # In a thread, because it may load a library and the system's certificates, which takes tenths of a second.
        fingerprint = context.path_configuration.source_fingerprint
        dump_prefix = context.dump_prefix("hlss_source_conn" if self.url.startswith("https:") else "hls_source_conn")
        fetcher = await asyncio.to_thread(Fetcher, self.url, fingerprint, context.read_timeout, dump_prefix)
        try:
            await self._pull(context, fetcher)
        finally:
            await fetcher.close()

    async def _pull(self, context: PullContext, fetcher: Fetcher) -> None:
        player = Player(context.loop, context.publish)
        try:
            await first_of(self._play(context, fetcher, player), _limit_start(player, context.read_timeout))
        finally:
            player.clear()  # the traceback of an exception may hold it

    async def _play(self, context: PullContext, fetcher: Fetcher, player: Player) -> None:
        first = await fetcher.get_playlist(self.url)
        playlist = await _parse(context.loop, first)
        if isinstance(playlist, ParsedMultivariantPlaylist):
            variant, audio = choose_variant(playlist)
            context.log.debug("using the variant with %d bit/s", variant.bandwidth)
            urls, variables = [resolve(first.url, variant.uri)], playlist.variables
            if audio is not None and audio.uri is not None:
                urls.append(resolve(first.url, audio.uri))
        else:
            urls, variables = [first.url], {}
        renditions = [
            _Rendition(context, fetcher, player, player.add_queue(only=_kind_of(number, len(urls))), url, variables)
            for number, url in enumerate(urls)
        ]
        # The first failure of any of them is that of the source; the others are cancelled. When a rendition has ended,
        # the player still plays what is left.
        await first_of(player.run(), *(_fail_only(rendition.run()) for rendition in renditions))


async def _fail_only(work: Awaitable[None]) -> None:
    await work
    await asyncio.get_running_loop().create_future()


async def _limit_start(player: Player, read_timeout: float) -> None:
    """Fail if there is no stream in time: servers may send a byte from time to time forever."""
    seconds = max(START_TIMEOUTS * read_timeout, SHORTEST_START_SECONDS)
    try:
        async with asyncio.timeout(seconds):
            await player.started.wait()
    except TimeoutError as error:
        raise PullError(f"no stream within {seconds:g} s") from error
    await asyncio.get_running_loop().create_future()


def _kind_of(number: int, count: int) -> str | None:
    """If audio has its own playlist, the audio of the variant is not used."""
    return None if count == 1 else ("video", "audio")[number]


async def _parse(
    loop: asyncio.AbstractEventLoop, download: Download, variables: Mapping[str, str] | None = None
) -> ParsedMediaPlaylist | ParsedMultivariantPlaylist:
    try:
        if len(download.data) >= LARGE_PLAYLIST_SIZE:
            return await loop.run_in_executor(None, parse_playlist, download.data, download.url, variables)
        return parse_playlist(download.data, download.url, variables)
    except RemoteProtocolError as error:
        raise PullError(f"invalid playlist: {error}") from error


class _UnreadableError(PullError):
    """A segment is invalid: another download would not help."""


class _Rendition:
    """Follows one media playlist and fills a queue with its frames."""

    def __init__(
        self,
        context: PullContext,
        fetcher: Fetcher,
        player: Player,
        queue: PlayoutQueue,
        url: str,
        variables: Mapping[str, str],
    ) -> None:
        """``variables`` are those of the multivariant playlist, if there is one."""
        self._context = context
        self._fetcher = fetcher
        self._player = player
        self._queue = queue
        self._url = url
        self._variables = variables
        self._follower = PlaylistFollower()
        self._demuxer = PieceDemuxer()
        self._files: OrderedDict[object, bytes] = OrderedDict()
        """Initializations and keys of the current period."""
        self._period: int | None = None
        self._slice_size = FIRST_SLICE_SIZE
        self._parse_seconds = 0.0
        """How long the last playlist took to parse."""

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
            pieces = self._follower.update(playlist)
            if self._follower.skipped > skipped:
                self._context.log.warning("%d segments were missed", self._follower.skipped - skipped)
                skipped = self._follower.skipped
            await self._download(pieces, download.url, playlist)
            if playlist.ended:
                if pieces and (frames := self._demuxer.end_analysis()):
                    self._queue.receive(self._demuxer.tracks, pieces[-1].period, frames)
                self._queue.finish()
                return
            now = loop.time()
            if self._follower.has_changed:
                last_news = now
            stalled = max(self._context.read_timeout, float(STALLED_TARGETS * playlist.target_duration))
            if now - last_news >= stalled:
                raise PullError(f"the playlist has not changed for {stalled:g} s")
            least = PARSE_SHARE * self._parse_seconds
            await asyncio.sleep(max(self._follower.reload_delay(playlist, now - began), least))
            address = self._follower.reload_address(self._url, playlist)
            patience = float(HOLD_PATIENCE_TARGETS * playlist.target_duration) if address != self._url else 0.0

    async def _playlist(self, address: str, patience: float) -> tuple[Download, ParsedMediaPlaylist]:
        try:
            download = await self._fetcher.get_playlist(address, patience=patience)
        except PullError:
            if address == self._url:
                raise
            # A server that blocks requests ends them with an error when the stream pauses.
            download = await self._fetcher.get_playlist(self._url)
        loop = self._context.loop
        began = loop.time()
        playlist = await _parse(loop, download, self._variables)
        self._parse_seconds = loop.time() - began if len(download.data) >= LARGE_PLAYLIST_SIZE else 0.0
        if isinstance(playlist, ParsedMultivariantPlaylist):
            raise PullError("a multivariant playlist refers to another one")
        return download, playlist

    async def _download(self, pieces: list[Piece], base: str, playlist: ParsedMediaPlaylist) -> None:
        room = max(SHORTEST_BUFFER_SECONDS, float(BUFFER_TARGETS * playlist.target_duration))
        for piece in pieces:
            await self._player.wait_for_room(self._queue, room, MAXIMUM_BUFFER_SIZE)
            if piece.period != self._period:
                self._period = piece.period
                self._files.clear()  # an encoder that has started again may have written other files of the same names
            initialization = None
            if piece.initialization is not None:
                initialization = await self._initialization(piece.initialization, base, piece.sequence)
            try:
                await self._segment(piece, base, initialization)
            except MissingFileError as error:
                if playlist.ended or not self._follower.put_back(piece):
                    raise
                self._context.log.debug("reloading the playlist: %s", error)
                return

    async def _segment(self, piece: Piece, base: str, initialization: bytes | None) -> None:
        """Demux a segment while it is downloaded."""
        url = resolve(base, piece.uri)
        decryptor = None
        if piece.key is not None:
            decryptor = Decryptor(await self._secret(piece.key, base), piece.key, piece.sequence)
        self._demuxer.begin(piece, initialization)
        received = 0
        for attempt in range(1, SEGMENT_ATTEMPTS + 1):
            try:
                async with aclosing(self._pieces(piece, url, received)) as pieces:
                    async for data in pieces:
                        received += len(data)
                        await self._demux(piece, data if decryptor is None else decryptor.update(data))
            except (_UnreadableError, MissingFileError):  # another attempt would not help
                raise
            except PullError as error:
                if attempt == SEGMENT_ATTEMPTS:
                    raise
                # What was received is already on its way to the readers: the download continues where it stopped.
                self._context.log.debug("the download of a segment is resumed at byte %d: %s", received, error)
            else:
                break
        if decryptor is not None:
            await self._demux(piece, decryptor.finish())
        frames = self._demuxer.end(piece)
        self._queue.receive(self._demuxer.tracks, piece.period, frames, is_repeated=piece.is_repeated)

    async def _pieces(self, piece: Piece, url: str, received: int) -> AsyncGenerator[bytes, None]:
        """Yield a segment from byte ``received`` on, at the speed at which it is played."""
        window = piece.byte_range
        if received:
            start, length = (window.start, window.length) if window is not None else (0, MAXIMUM_SEGMENT_SIZE)
            window = ByteRange(start + received, length - received)
        loop = self._context.loop
        seconds = max(self._context.read_timeout, SLOWEST_DOWNLOAD * piece.duration)
        async with self._fetcher.open(url, MAXIMUM_SEGMENT_SIZE, byte_range=window) as body:
            deadline = loop.time() + seconds
            async for data in body.pieces:
                if loop.time() > deadline:
                    raise PullError(f"a segment of {piece.duration:g} s was not received within {seconds:g} s")
                self._context.counters.bytes_received += len(data)
                before = loop.time()
                yield data
                await self._player.wait_for_room(self._queue, math.inf, MAXIMUM_BUFFER_SIZE)
                deadline += loop.time() - before

    async def _demux(self, piece: Piece, data: bytes) -> None:
        """Pass bytes of a segment to the demuxer in pieces that take about a millisecond each."""
        loop = self._context.loop
        view = memoryview(data)
        start = 0
        while start < len(view):
            began = loop.time()
            size = self._slice_size
            try:
                frames = self._demuxer.feed(bytes(view[start : start + size]))
            except PullError as error:
                is_encrypted = piece.key is not None
                text = "a segment cannot be decrypted: wrong key" if is_encrypted else str(error)
                raise _UnreadableError(text) from error
            for first in range(0, len(frames), FRAMES_AT_ONCE):
                if first:
                    await asyncio.sleep(0)
                some = frames[first : first + FRAMES_AT_ONCE]
                self._queue.receive(self._demuxer.tracks, piece.period, some, is_repeated=piece.is_repeated)
            start += size
            took = loop.time() - began
            if took > SLICE_SECONDS:
                self._slice_size = max(size // 2, SMALLEST_SLICE_SIZE)
            elif took < SLICE_SECONDS / 2:
                self._slice_size = min(size * 2, LARGEST_SLICE_SIZE)
            if start < len(view):
                await asyncio.sleep(0)

    async def _initialization(self, initialization: Initialization, base: str, sequence: int) -> bytes:
        found = self._files.get(initialization)
        if found is None:
            download = await self._fetcher.get(
                resolve(base, initialization.uri), MAXIMUM_INITIALIZATION_SIZE, byte_range=initialization.byte_range
            )
            found = download.data
            if initialization.key is not None:
                found = decrypt(found, await self._secret(initialization.key, base), initialization.key, sequence)
            self._remember(initialization, found)
        return found

    async def _secret(self, key: Key, base: str) -> bytes:
        uri = check_key(key)
        secret = self._files.get(uri)
        if secret is None:
            secret = (await self._fetcher.get(resolve(base, uri), KEY_SIZE)).data
            self._remember(uri, secret)
        return secret

    def _remember(self, name: object, data: bytes) -> None:
        self._files[name] = data
        if len(self._files) > CACHED_FILES:
            self._files.popitem(last=False)
