"""How settings are spelled: ``hls_segment_count`` in Python, ``hlsSegmentCount`` in files, upper case in variables."""

from __future__ import annotations

from typing import Final

_CAPITAL_WORDS: Final = {
    "url": "URL",
    "ca": "CA",
    "ip": "IP",
    "ips": "IPs",
    "rtp": "RTP",
    "rtcp": "RTCP",
    "id": "ID",
    "idr": "IDR",
    "fps": "FPS",
    "sdp": "SDP",
    "srtp": "SRTP",
    "srtcp": "SRTCP",
    "udp": "UDP",
    "tcp": "TCP",
    "ice": "ICE",
    "stun": "STUN",
    "awb": "AWB",
    "cdn": "CDN",
    "dvr": "DVR",
    "ev": "EV",
    "hdr": "HDR",
    "mjpeg": "MJPEG",
    "roi": "ROI",
    "http": "HTTP",
    "jwt": "JWT",
    "jwks": "JWKS",
}
"""Words that are upper case in the keys of rtsp-simple-server, unless they are the first word."""


def yaml_key(name: str) -> str:
    """The key in files and in the API of the Python field ``name``."""
    first, *others = name.split("_")
    return first + "".join(_CAPITAL_WORDS.get(word) or word.capitalize() for word in others)


def environment_name(key: str, prefix: str) -> str:
    """The environment variable of a global key."""
    return prefix + key.upper()
