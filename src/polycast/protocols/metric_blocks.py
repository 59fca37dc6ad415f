"""The metrics of MediaMTX that several protocols have: tables of them, and blocks that begin with these."""

from __future__ import annotations

from typing import Final

from polycast.items import CONNECTION_LABELS, SESSION_LABELS, Column, MetricBlock

INBOUND_BYTES: Final = Column("inboundBytes", "Bytes received")
OUTBOUND_BYTES: Final = Column("outboundBytes", "Bytes sent")

FORMER_BYTES: Final = (Column("bytesReceived", "Bytes received"), Column("bytesSent", "Bytes sent"))

FRAMES_DISCARDED: Final = Column("outboundFramesDiscarded", "Frames not sent because the client was too slow")

_PACKETS_RECEIVED: Final = Column("inboundRTPPackets", "RTP packets received")
_PACKETS_LOST: Final = Column("inboundRTPPacketsLost", "RTP packets that the client sent and that did not arrive")
_PACKETS_IN_ERROR: Final = Column("inboundRTPPacketsInError", "RTP packets received that were ignored")
_JITTER: Final = Column("inboundRTPPacketsJitter", "Interarrival jitter of RTP packets, in seconds", grows=False)
_REPORTS_RECEIVED: Final = Column("inboundRTCPPackets", "RTCP packets received")
_PACKETS_SENT: Final = Column("outboundRTPPackets", "RTP packets sent")
_REPORTS_SENT: Final = Column("outboundRTCPPackets", "RTCP packets sent")

RTSP_COLUMNS: Final = (
    INBOUND_BYTES,
    _PACKETS_RECEIVED,
    _PACKETS_LOST,
    _PACKETS_IN_ERROR,
    _JITTER,
    _REPORTS_RECEIVED,
    Column("inboundRTCPPacketsInError", "RTCP packets received that were ignored"),
    OUTBOUND_BYTES,
    _PACKETS_SENT,
    Column("outboundRTPPacketsReportedLost", "RTP packets sent that the client reported as lost"),
    Column("outboundRTPPacketsDiscarded", "RTP packets not sent because the client was too slow"),
    _REPORTS_SENT,
)

WEBRTC_COLUMNS: Final = (
    INBOUND_BYTES,
    _PACKETS_RECEIVED,
    _PACKETS_LOST,
    _JITTER,
    _REPORTS_RECEIVED,
    OUTBOUND_BYTES,
    _PACKETS_SENT,
    _REPORTS_SENT,
    FRAMES_DISCARDED,
)

_FORMER_PACKETS: Final = (
    *FORMER_BYTES,
    Column("rtpPacketsReceived", "RTP packets received"),
    Column("rtpPacketsSent", "RTP packets sent"),
    Column("rtpPacketsLost", "RTP packets lost in either direction"),
)
_FORMER_JITTER: Final = Column("rtpPacketsJitter", "Interarrival jitter of RTP packets, in seconds", grows=False)
_FORMER_REPORTS: Final = (
    Column("rtcpPacketsReceived", "RTCP packets received"),
    Column("rtcpPacketsSent", "RTCP packets sent"),
)

FORMER_RTSP_COLUMNS: Final = (
    *_FORMER_PACKETS,
    Column("rtpPacketsInError", "RTP packets received that were ignored"),
    _FORMER_JITTER,
    *_FORMER_REPORTS,
    Column("rtcpPacketsInError", "RTCP packets received that were ignored"),
)
FORMER_WEBRTC_COLUMNS: Final = (*_FORMER_PACKETS, _FORMER_JITTER, *_FORMER_REPORTS)


def connection_block(title: str, name: str, collection: str) -> MetricBlock:
    """Return the metrics of connections on which sessions are controlled."""
    return MetricBlock(
        title=title,
        name=name,
        collection=collection,
        labels=CONNECTION_LABELS,
        columns=(INBOUND_BYTES, OUTBOUND_BYTES),
        former=FORMER_BYTES,
    )


def session_block(
    title: str, name: str, collection: str, columns: tuple[Column, ...], former: tuple[Column, ...] = ()
) -> MetricBlock:
    """Return the metrics of sessions that have a state and a path."""
    return MetricBlock(
        title=title, name=name, collection=collection, labels=SESSION_LABELS, columns=columns, former=former
    )
