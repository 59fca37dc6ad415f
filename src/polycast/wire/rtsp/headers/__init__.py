"""The structured RTSP headers, one file each: text to value and back."""

from polycast.wire.rtsp.headers.credentials import Authorization, WWWAuthenticate, parse_challenges
from polycast.wire.rtsp.headers.range import Range
from polycast.wire.rtsp.headers.rtp_info import RTPInfo, parse_rtp_info, serialize_rtp_info
from polycast.wire.rtsp.headers.session import Session
from polycast.wire.rtsp.headers.transport import Transport, parse_transports, serialize_transports

__all__ = [
    "Authorization",
    "RTPInfo",
    "Range",
    "Session",
    "Transport",
    "WWWAuthenticate",
    "parse_challenges",
    "parse_rtp_info",
    "parse_transports",
    "serialize_rtp_info",
    "serialize_transports",
]
