"""What the API says about an HLS muxer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from polycast.items import BytesSent, Moment


class HlsMuxerItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """One muxer. The name of its path is the key under which it is listed."""

    created: Moment
    last_request: Annotated[str, Meta(description="Time of the last request, with its offset from UTC.")]
    """Written as rtsp-simple-server does."""
    bytes_sent: BytesSent
