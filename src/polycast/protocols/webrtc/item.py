"""What the API says about a WebRTC session."""

from __future__ import annotations

from polycast.items import SessionItem


class WebRtcSessionItem(SessionItem, frozen=True, kw_only=True, rename="camel"):
    """One publisher or viewer."""

    peer_connection_established: bool
    local_candidate: str
    remote_candidate: str
