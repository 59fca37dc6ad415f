"""The last response to a client whose bytes cannot be parsed."""

from __future__ import annotations

from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.message import Headers, Response
from polycast.wire.rtsp.parser import HttpRequestError

# Players show the reason phrase: FFmpeg with -rtsp_transport http, live555 with a tunnel, clients of ONVIF's WebSocket.
HTTP_REASON: Final = "RTSP over HTTP or WebSocket is not supported; use rtsp:// or rtsps:// over TCP"
_HTTP_BODY: Final = (
    "This is the port of an RTSP server. Open it with a player, as rtsp://host:port/path.\n"
    "RTSP cannot be tunnelled over HTTP or WebSocket here: let the player use TCP.\n"
)


def refusal(error: RemoteProtocolError) -> Response:
    """Return the response to send before the connection is closed."""
    if not isinstance(error, HttpRequestError):
        return Response(error.status)
    headers = Headers([("Connection", "close"), ("Content-Type", "text/plain")])
    return Response(501, headers, _HTTP_BODY.encode(), HTTP_REASON, "HTTP/1.1")
