"""The reader that converts the stream of one path to HLS, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from typing import Protocol

from polycast.errors import LocalProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.log import Log
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import Track, describe_tracks
from polycast.net.http.file import HttpFile
from polycast.net.http.transaction import Transaction
from polycast.protocols.hls.blocked_requests import BlockedRequests
from polycast.protocols.hls.configuration import HlsConfiguration
from polycast.protocols.hls.folder import MuxerFolder
from polycast.protocols.hls.item import HlsMuxerItem
from polycast.protocols.hls.recorded import recorded_playlist
from polycast.protocols.hls.sound import ConvertedSound, advice
from polycast.protocols.hls.target import ResourceKey
from polycast.wire.hls.dash import MANIFEST_NAME
from polycast.wire.hls.directives import DeliveryDirectives
from polycast.wire.hls.muxer import INDEX_NAME, Muxer
from polycast.wire.hls.numbering import FirstNumbers
from polycast.wire.hls.options import MuxerOptions, Variant
from polycast.wire.hls.resource import Refusal, Resource, WaitFor

# Seconds after the end of the stream for which the files remain available, and requests for the playlist are held. A
# publisher that returns within this time continues after a discontinuity: players see a pause instead of an error,
# after which many give up.
LINGER_SECONDS = 10.0

# Requests that one muxer may hold; further ones are answered with 503.
MAXIMUM_WAITING = 10_000

# Responses that are cached until the next part. Players request the files of a playlist, and playlists in a few ways;
# the numbers of a directive can be chosen freely.
MAXIMUM_ANSWERS = 256

# Sent with each request by the built-in players of Apple's systems (AVFoundation).
_APPLE_SESSION = b"x-playback-session-id"

_BUSY = Refusal(503, "too many requests are waiting for this stream")
TIMED_OUT = Refusal(503, "the stream has stalled")
_NO_FILE = Refusal(404, "there is no such file")

Lookup = HttpFile | Refusal


class Responder(Protocol):
    """Makes responses for remuxers."""

    def prepare(self, resource: Resource, name: str, skipped: Sequence[Track] = ()) -> HttpFile:
        """Return a file of the muxer with its headers; ``skipped`` are the tracks that are not carried."""
        ...

    def is_public(self, path: Path) -> bool:
        """Return whether reading the path needs no authorisation."""
        ...

    def references(self, path_name: str) -> Sequence[Reference]:
        """Return the names of the viewers of a stream in the API."""
        ...

    def deliver(self, remuxer: Remuxer, transactions: Sequence[Transaction], found: Lookup) -> None:
        """Answer requests that have waited."""
        ...


class _Answers:
    """Files requested since the muxer last published something."""

    __slots__ = ("by_key", "by_resource")

    def __init__(self) -> None:
        self.by_key: dict[ResourceKey, HttpFile] = {}
        self.by_resource: dict[Resource, HttpFile] = {}


class Remuxer(FrameReader):
    """Feeds a muxer with the frames of a stream. Raises LocalProtocolError if HLS can carry none of the tracks."""

    def __init__(
        self,
        path: Path,
        stream: Stream,
        settings: HlsConfiguration,
        *,
        numbers: FirstNumbers,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        now: Callable[[], float],
        responder: Responder,
        on_closed: Callable[[Remuxer], None],
        on_wanted: Callable[[Remuxer], None],
        is_automatic: bool,
    ) -> None:
        options = MuxerOptions(
            prefix=f"{int(time.time()):x}{secrets.token_hex(3)}",
            first_sequence=numbers.sequence,
            first_discontinuity_sequence=numbers.discontinuity_sequence,
            segment_count=settings.hls_segment_count,
            segment_duration=float(settings.hls_segment_duration),
            part_duration=float(settings.hls_part_duration),
            segment_maximum_size=int(settings.hls_segment_max_size),
            trusts_capture_times=path.configuration.use_absolute_timestamp,
            splits_audio=settings.dash,
            recorded_playlist=recorded_playlist(path),
            recorded_seconds=int(path.configuration.hls_dvr),
        )
        self.path = path
        self.key_frame_interval = options.segment_duration
        self.is_public = responder.is_public(path)
        """Whether its files need no authorisation."""
        self.is_automatic = is_automatic
        """Whether it was created because of ``hlsAlwaysRemux``, not for a request: never idle."""
        self.created = datetime.now(UTC)
        self.counters: Counters = Counters()
        """What was sent to viewers; the path counts it as well."""
        variant = Variant(settings.hls_variant.value)
        self._sound = ConvertedSound(variant, loop)
        self._muxer = Muxer(variant, self._sound.tracks_of(path, stream), options)
        self._log = log
        self._now = now
        self._responder = responder
        self._on_closed = on_closed
        self._on_wanted = on_wanted
        """Called if there are requests after the stream has ended."""
        self._used = now()
        self._ended: float | None = None
        """When the stream ended; None while it is live."""
        self.last_delivery = self._used
        """When the publisher's last frames arrived; monotonic seconds."""
        self._blocked: BlockedRequests[ResourceKey, Transaction, Lookup] = BlockedRequests()
        self._answers = _Answers()
        self._folder: MuxerFolder | None = None
        if settings.hls_directory:
            self._folder = MuxerFolder(FilePath(settings.hls_directory, *path.name.split("/")), loop, log)
            self._folder.update({})
        self._reported_corrections = 0
        self._log_tracks()

    def _log_tracks(self) -> None:
        for track in self._muxer.skipped:
            self._log.warning(
                "track %d (%s) is skipped: HLS cannot carry it in this variant%s",
                track.index + 1,
                track.codec_name,
                "" if self.path.configuration.transcode_audio else advice(self._muxer.variant, track),
            )
        self._log.info("is converting to HLS, %s", describe_tracks(self._muxer.tracks))

    @property
    def is_live(self) -> bool:
        """Whether a stream feeds it; otherwise it waits for the publisher to return."""
        return self._ended is None

    @property
    def next_numbers(self) -> tuple[int, int]:
        """The media sequence and discontinuity sequence numbers that follow those of the muxer."""
        return self._muxer.next_numbers

    def resume(self, path: Path, stream: Stream) -> bool:
        """Continue with another stream of the path, once attached to it; False if its codecs differ."""
        if self._muxer.closed or not self._muxer.resume(self._sound.tracks_of(path, stream)):
            return False
        self.path = path
        self._ended = None
        self.update_access()
        self._used = self.last_delivery = self._now()
        self.forget_answers()
        self._log_tracks()
        return True

    def begin(self, stream: Stream) -> None:
        """It was attached to the stream."""
        self._sound.begin(self, stream, self._muxer.tracks)

    def deliver_frames(self, batch: FrameBatch) -> None:
        self._sound.take(batch)
        muxer = self._muxer
        now = self.last_delivery = self._now()
        wall_time = WallTime(time.time_ns())
        published = False
        for index, entry in batch.entries:
            if isinstance(entry, Frame):
                published |= muxer.write_frame(index, entry, now, wall_time)
            else:
                try:
                    muxer.update_track(entry)
                except LocalProtocolError as error:
                    self._log.warning("%s", error)
        if published:
            self.forget_answers()
            if self._folder is not None:
                self._folder.update(muxer.all_files())
            if self._blocked.count:
                self._used = now
            self._blocked.wake(self._look_up_again, self._deliver)

    @property
    def last_request(self) -> datetime:
        """Time of the last request for a file."""
        return datetime.now(UTC) - timedelta(seconds=self._now() - self._used)

    def item(self) -> HlsMuxerItem:
        """Return the item for the API."""
        return HlsMuxerItem(
            created=self.created.astimezone(),
            last_request=self.last_request.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f %z %Z"),
            bytes_sent=self.counters.bytes_sent,
        )

    def request(self, key: ResourceKey, transaction: Transaction, now: float) -> Lookup | None:
        """Return what a request asks for; None if the request is blocked: the responder delivers it later."""
        self._used = now
        key = self._adapt(key, transaction, now)
        found = self._answers.by_key.get(key)
        if found is not None:
            return found
        blocked = self._blocked
        group = blocked.groups.get(key)
        timeout = 0.0
        if group is None:
            answer = self._look_up(key)
            if not isinstance(answer, WaitFor):
                return answer
            timeout = answer.timeout if self._ended is None else LINGER_SECONDS
        if blocked.count >= MAXIMUM_WAITING:
            return _BUSY
        if group is None:
            group = blocked.add_group(key, timeout)
        blocked.add(group, transaction, now)
        transaction.on_cancelled = group.remove
        return None

    def _adapt(self, key: ResourceKey, transaction: Transaction, now: float) -> ResourceKey:
        """Return the key of a request, with the parameters of a playlist that are not in its query."""
        name, directives = key
        if isinstance(directives, Refusal) or not name.endswith(".m3u8"):
            return key
        if self._ended is None:
            awaited = self._muxer.next_due(name, now)
        else:  # a player that gets the same playlist repeatedly discards its segments (Shaka), or gives up
            awaited = self._muxer.next_sequence(name)
        gaps = _APPLE_SESSION in transaction.request.fields
        return (name, directives._replace(gaps=gaps, awaited=awaited)) if gaps or awaited is not None else key

    def use(self, now: float) -> None:
        """Note that its stream is watched by other means than its own files, so that it stays."""
        self._used = now

    def update_access(self) -> None:
        """Find out again whether its files need authorisation, after a change of the settings."""
        self.is_public = self.is_live and self._responder.is_public(self.path)

    def forget_answers(self) -> None:
        """Discard the cached responses."""
        self._answers = _Answers()

    def _look_up(self, key: ResourceKey) -> Lookup | WaitFor:
        name, directives = key
        answer: Resource | Refusal | WaitFor | None
        if isinstance(directives, Refusal):
            return directives
        if name == MANIFEST_NAME:
            answer = self._muxer.manifest(WallTime(time.time_ns()))
        elif not name.endswith(".m3u8"):
            answer = self._muxer.lookup(name) or _NO_FILE
        else:
            answer = self._muxer.index() if name == INDEX_NAME else self._muxer.playlist(name, directives)
        if not isinstance(answer, Resource):
            return answer
        answers = self._answers
        file = answers.by_resource.get(answer)
        if file is None:
            skipped = self._muxer.skipped if name == INDEX_NAME else ()
            file = answers.by_resource[answer] = self._responder.prepare(answer, name, skipped)
        if len(answers.by_key) < MAXIMUM_ANSWERS:
            answers.by_key[key] = file
        return file

    def _look_up_again(self, key: ResourceKey) -> Lookup | None:
        answer = self._look_up(key)
        return None if isinstance(answer, WaitFor) else answer

    def _give_up(self, key: ResourceKey) -> Lookup:
        name, directives = key
        if isinstance(directives, DeliveryDirectives) and directives.awaited is not None:
            # It was held without having asked for that.
            return self._look_up_again((name, directives._replace(awaited=None))) or TIMED_OUT
        return TIMED_OUT

    def _deliver(self, transactions: Sequence[Transaction], found: Lookup) -> None:
        self._responder.deliver(self, transactions, found)

    def log_created(self, address: str | None = None) -> None:
        """Log for whom the muxer was created: the client at ``address``, or nobody."""
        self._log.info("created %s", "automatically" if address is None else f"(requested by {address})")

    def close_reader(self, reason: str) -> None:
        self._sound.end(self)
        is_over = self.path.is_closed or self.path.stream is not None  # its settings changed, or this reader failed
        if is_over or self._muxer.closed or not self._muxer.has_content:
            self.close(reason)
            return
        self._ended = self._now()
        self.is_public = False
        self._log.info("the stream has ended (%s); its playlist remains available for %d s", reason, LINGER_SECONDS)

    def reference(self) -> Reference:
        return Reference("hlsMuxer")

    def clients(self) -> Sequence[Reference]:
        return self._responder.references(self.path.name)

    def tick(self, now: float, close_after: float) -> None:
        """Called about once a second: closes a muxer without a request for ``close_after`` seconds, and logs
        corrections."""
        counters = self._muxer.counters
        corrections = counters.corrected_times + counters.discontinuities + counters.out_of_sync + counters.dropped
        if corrections != self._reported_corrections:
            self._log.warning(
                "corrected so far: %d non-monotonic timestamps, %d discontinuities; %d frames dropped",
                counters.corrected_times,
                counters.discontinuities,
                counters.out_of_sync + counters.dropped,
            )
            self._reported_corrections = corrections
        if self._ended is not None:
            if now - self._ended >= LINGER_SECONDS:
                self.close("the stream has ended")
            elif self._used > self._ended:
                self._on_wanted(self)
            return
        if self._blocked.count and self._muxer.notice_pause(now):
            self.forget_answers()
            self._blocked.wake(self._look_up_again, self._deliver)
        self._blocked.tick(now, self._give_up, self._deliver)
        if not self.is_automatic and not self._blocked.count and now - self._used >= close_after:
            self.close("no requests in a while")

    def close(self, reason: str) -> None:
        """Stop; blocked requests are refused."""
        if self._muxer.closed:
            return
        self._muxer.close()
        self.forget_answers()
        if self._folder is not None:
            self._folder.close()
        self.path.remove_reader(self)
        self._sound.end(self)
        self._blocked.wake(self._look_up_again, self._deliver)
        self._on_closed(self)
        self._log.info("destroyed (%s)", reason)
