"""The bytes of an RTSP server's responses, in the order in which they were sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from polycast.wire.rtsp.message import Headers, Request, Response

SERVER_NAME: Final = "polycast"


class ResponseWriter:
    """Keeps responses until they are written to the socket."""

    def __init__(self, trace: Callable[[Request | Response], None] | None = None) -> None:
        """``trace`` is called with each message, for the log."""
        self._trace = trace
        self.output: list[bytes] = []
        """What has been written since the last call of `take`."""

    def trace(self, message: Request | Response) -> None:
        """Pass a message to the trace callback."""
        if self._trace is not None:
            self._trace(message)

    def send(self, response: Response) -> None:
        """Write a response."""
        response.headers.set("Server", SERVER_NAME)
        # By name only: the order of the challenges matters.
        response.headers = Headers(sorted(response.headers.items(), key=lambda item: item[0]))
        self.output.append(response.serialize())
        self.trace(response)

    def take(self) -> bytes:
        """Return what has been written since the last call."""
        output = self.output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data
