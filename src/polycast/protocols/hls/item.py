"""What the API says about an HLS muxer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from polycast.items import BytesSent, DateTime


class HlsMuxerItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """One muxer. The name of its path is the key under which it is listed."""

    created: DateTime
    last_request: Annotated[str, Meta(description="Time of the last request, with its offset from UTC.")]
    """Written as rtsp-simple-server does."""
    bytes_sent: BytesSent

    @property
    def last_request_time(self) -> datetime:
        """Time of the last request, for API v3, which writes all times in the same way."""
        date, time, offset, _ = self.last_request.split(" ", 3)  # the name of the zone cannot be read back
        return datetime.strptime(f"{date} {time} {offset}", "%Y-%m-%d %H:%M:%S.%f %z")
