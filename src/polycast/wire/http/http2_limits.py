"""Limits of an HTTP/2 connection, and counters for abuse."""

from __future__ import annotations

from typing import Final

from polycast.wire.http.http2_frames import FRAME_SIZE

# Concurrent requests on one connection; a player has fewer than ten.
MAXIMUM_STREAMS: Final = 64

# Bytes of a compressed header block, over all its frames: it is decoded at once.
HEADER_BLOCK_LIMIT: Final = FRAME_SIZE

# Frames of a header block after the first one.
CONTINUATION_LIMIT: Final = 32

# Sum of the bodies on a connection, as a multiple of the limit of one: uploads are few and sequential.
BODIES_LIMIT: Final = 4

# Bytes of answers to SETTINGS, PING and errors that a client has not read: it sends without reading.
CONTROL_LIMIT: Final = 256 * 1024

# Requests cancelled by the client, beyond those that were answered: rapid reset (CVE-2023-44487).
RESET_LIMIT: Final = 200

# Frames that carry no request (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, late frames of ended streams...), beyond those
# that the traffic explains.
IDLE_FRAME_LIMIT: Final = 10_000

# Such frames that each request and each DATA frame sent explains: a client acknowledges what it received, on the stream
# and on the connection.
_FRAMES_PER_REQUEST: Final = 100
_FRAMES_PER_DATA: Final = 4

# Settings in one frame; RFC 9113 defines six.
SETTINGS_LIMIT: Final = 64


class AbuseCounter:
    """Counts what a client does that causes work without any benefit to it."""

    __slots__ = ("idle_frames", "resets")

    def __init__(self) -> None:
        self.idle_frames = 0
        self.resets = 0

    def on_request(self) -> None:
        """Count a request, which explains some frames."""
        self.idle_frames = max(0, self.idle_frames - _FRAMES_PER_REQUEST)

    def on_response(self) -> None:
        """Count a response, which makes up for one cancelled request."""
        self.resets = max(0, self.resets - 1)

    def on_data_sent(self, frames: int) -> None:
        """Count DATA frames sent, which explain acknowledgements."""
        self.idle_frames = max(0, self.idle_frames - _FRAMES_PER_DATA * frames)

    def is_excessive_after_reset(self) -> bool:
        """Count a request that was cancelled, or refused because of an error; return whether there are too many."""
        self.resets += 1
        return self.resets > RESET_LIMIT
