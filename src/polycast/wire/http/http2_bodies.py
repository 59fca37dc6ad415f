"""Bodies of the requests on an HTTP/2 connection: gathered up to limits, one by one and in sum."""

from __future__ import annotations

from polycast.wire.http.http2_frames import DEFAULT_WINDOW
from polycast.wire.http.http2_limits import BODIES_LIMIT
from polycast.wire.http.http2_streams import Stream


class Bodies:
    """What was received of bodies whose requests are not complete. ``limit`` is in bytes, for one of them."""

    __slots__ = ("_unacknowledged", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Bytes in sum."""
        self._unacknowledged = 0
        """Bytes of DATA whose window was not given back."""

    def acknowledge(self, size: int) -> int:
        """Return by how much to open the connection's window after so many bytes of DATA; 0 to wait for more."""
        self._unacknowledged += size
        if self._unacknowledged <= DEFAULT_WINDOW // 2:
            return 0
        growth, self._unacknowledged = self._unacknowledged, 0
        return growth

    def add(self, state: Stream, data: bytes) -> bool:
        """Gather a piece of a body; return False, and drop the body, when it is too large."""
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
        """Whether there is too much in sum."""
        return self.size > BODIES_LIMIT * self.limit

    def complete(self, state: Stream) -> None:
        """A request is complete: it gets its body."""
        if state.received:
            state.request.body = bytes(state.received)
            self.drop(state)

    def drop(self, state: Stream) -> None:
        """Forget what was received of a request."""
        if state.received:
            self.size -= len(state.received)
            state.received = bytearray()
