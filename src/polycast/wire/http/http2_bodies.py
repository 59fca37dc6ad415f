"""Request bodies on an HTTP/2 connection, collected up to a limit for each and for their sum."""

from __future__ import annotations

from polycast.wire.http.http2_frames import DEFAULT_WINDOW
from polycast.wire.http.http2_limits import BODIES_LIMIT
from polycast.wire.http.http2_streams import Stream


class Bodies:
    """The bodies of incomplete requests. ``limit`` is in bytes, for one body."""

    __slots__ = ("_unacknowledged", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Sum of all bodies in bytes."""
        self._unacknowledged = 0
        """Bytes of DATA for which no WINDOW_UPDATE was sent yet."""

    def acknowledge(self, size: int) -> int:
        """Return by how much to open the connection's window after ``size`` bytes of DATA; 0 to wait for more."""
        self._unacknowledged += size
        if self._unacknowledged <= DEFAULT_WINDOW // 2:
            return 0
        growth, self._unacknowledged = self._unacknowledged, 0
        return growth

    def add(self, state: Stream, data: bytes) -> bool:
        """Add a piece of a body; if the body is too large, discard it and return False."""
        received = state.received
        if received is None:
            return True
        if len(received) + len(data) > self.limit:
            self.drop(state)
            state.received = None
            return False
        received += data
        self.size += len(data)
        return True

    @property
    def is_excessive(self) -> bool:
        """Whether the sum exceeds the limit."""
        return self.size > BODIES_LIMIT * self.limit

    def complete(self, state: Stream) -> None:
        """Set the body of a complete request."""
        if state.received:
            state.request.body = bytes(state.received)
            self.drop(state)

    def drop(self, state: Stream) -> None:
        """Discard what was received of a body."""
        if state.received:
            self.size -= len(state.received)
            state.received = bytearray()
