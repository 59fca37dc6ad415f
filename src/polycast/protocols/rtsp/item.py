"""What the API says about an RTSP session."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from polycast.items import SessionItem


class RtspSessionItem(SessionItem, frozen=True, kw_only=True, rename="camel"):
    """One publisher or reader."""

    profile: Annotated[str, Meta(description="'AVP', 'SAVP' (SRTP), or empty while no track is set up.")]
