"""The arguments of ``read``, common to the server, the client and webcams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from polycast.api.decoding import Decoding
from polycast.api.inbox import Inbox
from polycast.api.options import OnEvent
from polycast.api.reader import FrameDecoding, FrameSource, Reader
from polycast.api.runtime import Runtime

CODED_BUFFER: Final = 600
"""Default buffer of a reader of encoded frames: 10 seconds of video with audio."""


def open_decoding(pixel_format: str, *, hardware: bool) -> Decoding:
    """Return what decodes streams. Raises ValueError for a wrong format, MissingDependency without PyAV."""
    return Decoding(pixel_format, hardware=hardware)


def open_inbox(buffer: int | None, *, decodes: bool) -> Inbox:
    """Return the queue of a reader. Raises ValueError for a wrong size."""
    if buffer is not None and buffer < 1:
        raise ValueError("the buffer must hold at least one frame")
    return Inbox(buffer if decodes or buffer is not None else CODED_BUFFER)


def open_reader(
    runtime: Runtime,
    subscribe: Callable[[Inbox], FrameSource],
    *,
    decoding: FrameDecoding | None,
    kinds: tuple[bool, bool],
    buffer: int | None,
    timeout: float | None,
    on_event: OnEvent | None,
    on_close: Callable[[], None] | None = None,
) -> Reader[Any]:
    """Create a reader. ``kinds``: whether video and audio are decoded. Raises ValueError for wrong arguments."""
    if decoding is not None and not any(kinds):
        raise ValueError("read needs video, audio or both")
    inbox = open_inbox(buffer, decodes=decoding is not None)
    return Reader(
        runtime,
        subscribe(inbox),
        inbox,
        decoding=decoding,
        has_video=kinds[0],
        newest=inbox.is_newest_first,
        timeout=timeout,
        on_event=on_event,
        on_close=on_close,
    )
