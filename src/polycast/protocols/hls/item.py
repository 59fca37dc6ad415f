"""What the API says about an HLS muxer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from polycast.items import BytesSent, Moment


class HlsMuxerItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """One muxer. The name of its path is the key under which it is listed."""

    created: Moment
    last_request: Annotated[str, Meta(description="Time of the last request, with its offset from UTC.")]
    """Written as rtsp-simple-server does."""
    bytes_sent: BytesSent

    @property
    def last_request_moment(self) -> datetime:
        """Time of the last request, for API v3, which writes all times in the same way."""
        # What follows the offset is the name of the zone, which cannot be read back.
        return datetime.strptime(self.last_request[:25], "%Y-%m-%d %H:%M:%S %z")
