"""Limits of an HTTP/2 connection, and the count of what a client does that is of no use to it."""

from __future__ import annotations

from typing import Final

from polycast.wire.http.http2_frames import FRAME_SIZE

# Requests that may be under way on one connection; a player has fewer than ten.
MAXIMUM_STREAMS: Final = 64

# Bytes of a compressed header block, over all its frames: it is decoded in one go.
HEADER_BLOCK_LIMIT: Final = FRAME_SIZE

# Frames of a header block after the first one.
CONTINUATION_LIMIT: Final = 32

# Bodies of a connection's requests in sum, in times of the limit of one: uploads are few and follow each other.
BODIES_LIMIT: Final = 4

# Bytes of answers to SETTINGS, PING and mistakes that a client has not taken: it sends, and does not read.
CONTROL_LIMIT: Final = 256 * 1024

# Requests cancelled by the client, over those that were answered: it makes us work for nothing (CVE-2023-44487).
RESET_LIMIT: Final = 200

# Frames that carry no request (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, late frames of ended streams...) over those
# that the traffic explains.
IDLE_FRAME_LIMIT: Final = 10_000

# Such frames that each request and each DATA frame of ours explains: a client acknowledges what it received, on the
# stream and on the connection.
_FRAMES_PER_REQUEST: Final = 100
_FRAMES_PER_DATA: Final = 4

# Settings of one frame; RFC 9113 knows six.
SETTINGS_LIMIT: Final = 64


class Misuse:
    """Counts what a client does that costs us work and brings it nothing."""

    __slots__ = ("idle_frames", "resets")

    def __init__(self) -> None:
        self.idle_frames = 0
        self.resets = 0

    def on_request(self) -> None:
        """A request explains some frames."""
        self.idle_frames = max(0, self.idle_frames - _FRAMES_PER_REQUEST)

    def on_response(self) -> None:
        """A request that is answered makes up for one that is cancelled."""
        self.resets = max(0, self.resets - 1)

    def on_data_sent(self, frames: int) -> None:
        """DATA frames of ours explain acknowledgements."""
        self.idle_frames = max(0, self.idle_frames - _FRAMES_PER_DATA * frames)

    def is_excessive_after_reset(self) -> bool:
        """Count a request that was cancelled, or refused for a mistake."""
        self.resets += 1
        return self.resets > RESET_LIMIT
