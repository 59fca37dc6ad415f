"""What the API says about an SRT connection."""

from __future__ import annotations

from polycast.items import SessionItem
from polycast.protocols.session_fields import FrameTraffic
from polycast.protocols.srt.statistics import Statistics


class SrtConnectionItem(SessionItem, frozen=True, kw_only=True, rename="camel"):
    """One publisher or reader."""

    statistics: Statistics


class ConnectionTraffic(Statistics, FrameTraffic):
    """What API v3 says of the traffic of a connection, in addition to its bytes."""


def connection_fields(item: SrtConnectionItem) -> ConnectionTraffic:
    """Return the traffic of a connection."""
    return {**item.statistics, "outboundFramesDiscarded": item.packets_dropped}
