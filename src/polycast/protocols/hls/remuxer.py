"""The reader that turns one path's stream into HLS, and the requests that wait for it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from polycast.config.schema import Configuration
from polycast.errors import LocalProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.log import Log
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import describe_tracks
from polycast.protocols.hls.waiting import Waiter, WaitingRoom
from polycast.wire.hls.directives import NO_DIRECTIVES, DeliveryDirectives, parse_directives
from polycast.wire.hls.muxer import INDEX_NAME, Muxer
from polycast.wire.hls.options import MuxerOptions, Variant
from polycast.wire.hls.resource import Refusal, Resource, WaitFor

# Seconds without a request after which a muxer that was made for a request is closed.
IDLE_SECONDS = 60.0

# Requests that may wait at one muxer for what is not there yet; more are told to come back.
MAXIMUM_WAITING = 10_000

_BUSY = Refusal(503, "too many requests wait for this stream")
_TIMED_OUT = Refusal(503, "the stream does not go on")
_NO_FILE = Refusal(404, "there is no such file")

Question = tuple[str, DeliveryDirectives]
"""What a request asks for: the name of a file, and for a playlist what it shall have."""

OnFound = Callable[[Resource | Refusal], None]


class Remuxer(FrameReader):
    """Feeds a muxer with the frames of a stream. Raises LocalProtocolError when HLS can carry none of the tracks."""

    def __init__(
        self,
        path: Path,
        stream: Stream,
        configuration: Configuration,
        *,
        log: Log,
        now: Callable[[], float],
        on_closed: Callable[[Remuxer], None],
        is_automatic: bool,
    ) -> None:
        options = MuxerOptions(
            prefix=f"{int(time.time()):x}{secrets.token_hex(3)}",
            segment_count=configuration.hls_segment_count,
            segment_duration=float(configuration.hls_segment_duration),
            part_duration=float(configuration.hls_part_duration),
            segment_maximum_size=int(configuration.hls_segment_max_size),
        )
        self.path = path
        self.is_automatic = is_automatic
        """Made because ``hlsAlwaysRemux`` is set, not for a request: never idle."""
        self.created = datetime.now(UTC)
        self.counters = Counters()
        """What its viewers got; the path counts it, too."""
        self._muxer = Muxer(Variant(configuration.hls_variant.value), stream.descriptions, options)
        self._log = log
        self._now = now
        self._on_closed = on_closed
        self._used = self._started = now()
        self._waiting: WaitingRoom[Question, Resource | Refusal] = WaitingRoom(self._answer_late, _TIMED_OUT)
        self._mended = 0
        for track in self._muxer.skipped:
            log.warning("track %d (%s) is skipped: HLS cannot carry it in this variant", track.index + 1, track)
        log.info("is converting into HLS, %s", describe_tracks(self._muxer.tracks))

    def deliver_frames(self, batch: FrameBatch) -> None:
        muxer = self._muxer
        now = self._now()
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
            if self._waiting.count:
                self._used = now
            self._waiting.wake()

    @property
    def last_request(self) -> datetime:
        """When it was last asked for a file."""
        return self.created + timedelta(seconds=self._used - self._started)

    def request(self, name: str, query: str, on_found: OnFound) -> Waiter[Question, Resource | Refusal] | None:
        """Call ``on_found`` with the file of a name: now, or when what is about to exist is there.

        Returns what to cancel when the client goes; None when it has been called.
        """
        self._used = now = self._now()
        directives = parse_directives(query) if name.endswith(".m3u8") else NO_DIRECTIVES
        if isinstance(directives, Refusal):
            on_found(directives)
            return None
        question = (name, directives)
        timeout = self._waiting.timeout(question)
        if timeout is None:
            answer = self._answer(question)
            if not isinstance(answer, WaitFor):
                on_found(answer)
                return None
            timeout = answer.timeout
        if self._waiting.count >= MAXIMUM_WAITING:
            on_found(_BUSY)
            return None
        return self._waiting.wait(question, timeout, now, on_found)

    def _answer(self, question: Question) -> Resource | Refusal | WaitFor:
        name, directives = question
        if not name.endswith(".m3u8"):
            return self._muxer.lookup(name) or _NO_FILE
        return self._muxer.index() if name == INDEX_NAME else self._muxer.playlist(name, directives)

    def _answer_late(self, question: Question) -> Resource | Refusal | None:
        answer = self._answer(question)
        return None if isinstance(answer, WaitFor) else answer

    def log_created(self, address: str | None = None) -> None:
        """Say who the muxer was made for: the client at ``address``, or nobody."""
        self._log.info("created %s", "automatically" if address is None else f"(requested by {address})")

    def close_reader(self, reason: str) -> None:
        self.close(reason)

    def reference(self) -> Reference:
        return Reference("hlsMuxer")

    def tick(self, now: float) -> None:
        """Called about once a second: closes an idle muxer, and tells what was mended."""
        counters = self._muxer.counters
        mended = counters.mended + counters.jumps + counters.strays + counters.dropped
        if mended != self._mended:
            self._log.warning(
                "timestamps or sizes had to be mended: %d times not growing, %d jumps, %d frames dropped so far",
                counters.mended,
                counters.jumps,
                counters.strays + counters.dropped,
            )
            self._mended = mended
        self._waiting.tick(now)
        if not self.is_automatic and not self._waiting.count and now - self._used >= IDLE_SECONDS:
            self.close("no requests in a while")

    def close(self, reason: str) -> None:
        """Stop; whoever waits is refused."""
        if self._muxer.closed:
            return
        self._muxer.close()
        self.path.remove_reader(self)
        self._waiting.wake()
        self._on_closed(self)
        self._log.info("destroyed (%s)", reason)
