"""Rate-limited warnings about a publisher: logged immediately, and then periodically."""

from __future__ import annotations

from polycast.log import Log
from polycast.media.track import Track

INTERVAL_SECONDS = 60.0
"""Seconds between two warnings of one kind."""

LOSS_INTERVAL_SECONDS = 10.0
"""Seconds between two warnings about lost packets."""

MAXIMUM_FOREIGN_TYPES_LOGGED = 4
"""Maximum number of unknown payload types in the log; the packets of all are counted."""


class RepeatedWarning:
    """One kind of warning about one stream."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._untold = 0
        self._next = 0.0

    def warn(self, now: float, text: str, *values: object) -> None:
        """Log a warning, or count it if the last one was recent. ``now``: monotonic seconds."""
        if now < self._next:
            self._untold += 1
            return
        more = f" ({self._untold} times more before)" if self._untold else ""
        self._log.warning(f"{text}%s", *values, more)
        self._untold = 0
        self._next = now + INTERVAL_SECONDS


class LossWarning:
    """The warning about packets of one publisher that were lost: immediately, and then as their number in a period."""

    def __init__(self, log: Log, text: str = "%d RTP packets lost") -> None:
        """``text`` has one ``%d``, the number of packets lost since the last warning."""
        self._log = log
        self._text = text
        self._logged = 0
        self._next = 0.0

    def update(self, lost: int, now: float) -> None:
        """Log a warning if more were lost. ``lost``: number so far; ``now``: monotonic seconds."""
        if lost > self._logged and now >= self._next:
            self._log.warning(self._text, lost - self._logged)
            self._logged = lost
            self._next = now + LOSS_INTERVAL_SECONDS


class StreamWarnings:
    """The warnings about a stream's publisher."""

    __slots__ = ("_foreign_types", "_jumps", "_unreadable", "log")

    def __init__(self, log: Log) -> None:
        self.log = log
        self._foreign_types: set[int] = set()
        """Payload types of dropped packets that were logged."""
        self._jumps = RepeatedWarning(log)
        self._unreadable = RepeatedWarning(log)

    def on_foreign_packet(self, track: Track, payload_type: int) -> None:
        """Log once that packets of a payload type are dropped."""
        types = self._foreign_types
        if payload_type not in types and len(types) < MAXIMUM_FOREIGN_TYPES_LOGGED and track.rtp is not None:
            types.add(payload_type)
            self.log.warning(
                "packets with payload type %d are dropped: that of track %d (%s) is %d",
                payload_type,
                track.index + 1,
                track.codec_name,
                track.rtp.payload_type,
            )

    def on_unannounced_type(self, track: Track, payload_type: int) -> None:
        """Log that the publisher sends another payload type than it has announced."""
        if track.rtp is not None:
            self.log.warning(
                "track %d (%s) was announced with payload type %d, but is sent with %d, which is accepted",
                track.index + 1,
                track.codec_name,
                track.rtp.payload_type,
                payload_type,
            )

    def on_jump(self, track: Track, seconds: float, now: float) -> None:
        """Warn that the clock of the publisher jumped."""
        self._jumps.warn(
            now,
            "the time of track %d (%s) jumped by %+.1f s; the stream continues with a new part of the timeline",
            track.index + 1,
            track.codec_name,
            seconds,
        )

    def on_unreadable(self, track: Track, reason: str, now: float) -> None:
        """Warn that a packet cannot be converted to frames."""
        self._unreadable.warn(
            now, "a packet of track %d (%s) cannot be read: %s", track.index + 1, track.codec_name, reason
        )
