"""Streams of an HTTP/2 connection: their states, and what to do with a frame in each state."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final

from polycast.wire.http.http2_frames import FrameType
from polycast.wire.http.message import Request


class Condition(Enum):
    """State of a stream, as far as the client can know it (RFC 9113 section 5.1)."""

    IDLE = auto()
    OPEN = auto()
    """The request's body is incomplete."""
    HALF_CLOSED = auto()
    """The request is complete; the response is pending or being sent."""
    CLOSED = auto()
    RESET = auto()
    """Reset by this side, which the client may not know yet."""


class Action(Enum):
    """What to do with a frame."""

    TAKE = auto()
    IGNORE = auto()
    STREAM_ERROR = auto()
    """Reset the stream with STREAM_CLOSED."""
    CONNECTION_ERROR = auto()
    """End the connection with PROTOCOL_ERROR."""
    CONNECTION_CLOSED_ERROR = auto()
    """End the connection with STREAM_CLOSED."""


ACTIONS: Final = {
    (FrameType.DATA, Condition.IDLE): Action.CONNECTION_ERROR,
    (FrameType.DATA, Condition.OPEN): Action.TAKE,
    (FrameType.DATA, Condition.HALF_CLOSED): Action.STREAM_ERROR,
    (FrameType.DATA, Condition.CLOSED): Action.CONNECTION_CLOSED_ERROR,
    (FrameType.DATA, Condition.RESET): Action.IGNORE,
    (FrameType.HEADERS, Condition.IDLE): Action.TAKE,
    (FrameType.HEADERS, Condition.OPEN): Action.TAKE,
    (FrameType.HEADERS, Condition.HALF_CLOSED): Action.STREAM_ERROR,
    (FrameType.HEADERS, Condition.CLOSED): Action.CONNECTION_CLOSED_ERROR,
    (FrameType.HEADERS, Condition.RESET): Action.IGNORE,
    (FrameType.RST_STREAM, Condition.IDLE): Action.CONNECTION_ERROR,
    (FrameType.RST_STREAM, Condition.OPEN): Action.TAKE,
    (FrameType.RST_STREAM, Condition.HALF_CLOSED): Action.TAKE,
    (FrameType.RST_STREAM, Condition.CLOSED): Action.IGNORE,
    (FrameType.RST_STREAM, Condition.RESET): Action.IGNORE,
    (FrameType.WINDOW_UPDATE, Condition.IDLE): Action.CONNECTION_ERROR,
    (FrameType.WINDOW_UPDATE, Condition.OPEN): Action.TAKE,
    (FrameType.WINDOW_UPDATE, Condition.HALF_CLOSED): Action.TAKE,
    (FrameType.WINDOW_UPDATE, Condition.CLOSED): Action.IGNORE,
    (FrameType.WINDOW_UPDATE, Condition.RESET): Action.IGNORE,
}
"""What to do with a frame of a stream."""


class Stream:
    """A request and its response."""

    __slots__ = (
        "body",
        "declared",
        "is_answered",
        "is_returned",
        "is_streaming",
        "is_whole",
        "more",
        "received",
        "request",
        "unacknowledged",
        "window",
    )

    def __init__(self, window: int, request: Request, declared: int | None) -> None:
        self.window = window
        """Bytes of DATA that the client accepts on this stream now."""
        self.request = request
        self.declared = declared
        """Bytes of the request's body according to its content-length."""
        self.received: bytearray | None = bytearray()
        """The request's body so far; None if it exceeds the limit and is ignored."""
        self.unacknowledged = 0
        """Bytes of DATA received for which no WINDOW_UPDATE was sent yet."""
        self.is_whole = False
        """Whether the request has ended."""
        self.is_returned = False
        """Whether the request was returned as an event."""
        self.is_answered = False
        self.body: memoryview | None = None
        """The rest of the piece of the response's body that is being sent."""
        self.is_streaming = False
        """Whether more of the response's body follows."""
        self.more: deque[bytes] | None = None
        """Queued pieces of a streamed body."""

    @property
    def unsent(self) -> int:
        """Number of bytes of the response's body that have yet to be sent."""
        return (len(self.body) if self.body is not None else 0) + sum(map(len, self.more or ()))
