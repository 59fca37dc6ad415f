"""The fields of a session in the API that all protocols fill in the same way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from polycast.hub.stats import Counters
from polycast.items import Count, SessionItem


class SessionFields(TypedDict):
    """Arguments of `SessionItem` and its subclasses, for ``**``. Typed, so that mypy finds a field that is missing."""

    created: datetime
    uptime: float
    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_sent: int
    packets_lost: int
    packets_dropped: int
    packets_invalid: int
    reports_received: int
    reports_sent: int
    jitter: float
    round_trip: float | None


def session_fields(created: datetime, counters: Counters) -> SessionFields:
    """Return when a session began, in local time, how long ago (seconds), and its traffic."""
    uptime = (datetime.now(UTC) - created).total_seconds()
    return SessionFields(
        created=created.astimezone(),
        uptime=round(max(0.0, uptime), 3),
        bytes_received=counters.bytes_received,
        bytes_sent=counters.bytes_sent,
        packets_received=counters.packets_received,
        packets_sent=counters.packets_sent,
        packets_lost=counters.packets_lost,
        packets_dropped=counters.packets_dropped,
        packets_invalid=counters.packets_invalid,
        reports_received=counters.reports_received,
        reports_sent=counters.reports_sent,
        jitter=counters.jitter,
        round_trip=counters.round_trip,
    )


class RtpTraffic(TypedDict):
    """What API v3 says of the traffic of a session over RTP, in addition to its bytes."""

    inboundRTPPackets: Count
    inboundRTPPacketsLost: Count
    inboundRTPPacketsJitter: float
    inboundRTCPPackets: Count
    outboundRTPPackets: Count
    outboundRTCPPackets: Count
    rtpPacketsReceived: Count
    rtpPacketsSent: Count
    rtpPacketsLost: Count
    rtpPacketsJitter: float
    rtcpPacketsReceived: Count
    rtcpPacketsSent: Count


class RtspTraffic(RtpTraffic, TypedDict):
    """What it says in addition of those of RTSP, as MediaMTX does."""

    inboundRTPPacketsInError: Count
    inboundRTCPPacketsInError: Count
    outboundRTPPacketsReportedLost: Count
    outboundRTPPacketsDiscarded: Count
    rtpPacketsInError: Count
    rtcpPacketsInError: Count


class FrameTraffic(TypedDict):
    """What API v3 says of the traffic of a session that carries frames, in addition to its bytes."""

    outboundFramesDiscarded: Count


def rtp_session_fields(item: SessionItem) -> RtpTraffic:
    """Return the traffic of a session over RTP. What readers report of their reception did not arrive here."""
    lost, jitter = (item.packets_lost, item.jitter) if item.state == "publish" else (0, 0.0)
    return {
        "inboundRTPPackets": item.packets_received,
        "inboundRTPPacketsLost": lost,
        "inboundRTPPacketsJitter": jitter,
        "inboundRTCPPackets": item.reports_received,
        "outboundRTPPackets": item.packets_sent,
        "outboundRTCPPackets": item.reports_sent,
        "rtpPacketsReceived": item.packets_received,
        "rtpPacketsSent": item.packets_sent,
        "rtpPacketsLost": lost,
        "rtpPacketsJitter": jitter,
        "rtcpPacketsReceived": item.reports_received,
        "rtcpPacketsSent": item.reports_sent,
    }


def rtsp_session_fields(item: SessionItem) -> RtspTraffic:
    """Return the traffic of a session over RTSP."""
    return {
        **rtp_session_fields(item),
        "inboundRTPPacketsInError": item.packets_invalid,
        "inboundRTCPPacketsInError": 0,
        "outboundRTPPacketsReportedLost": item.packets_lost if item.state == "read" else 0,
        "outboundRTPPacketsDiscarded": item.packets_dropped,
        "rtpPacketsInError": item.packets_invalid,
        "rtcpPacketsInError": 0,
    }


def frame_session_fields(item: SessionItem) -> FrameTraffic:
    """Return the traffic of a session that carries frames."""
    return {"outboundFramesDiscarded": item.packets_dropped}
