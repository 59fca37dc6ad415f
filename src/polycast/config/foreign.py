"""Settings of other servers, for the error that names their equivalent here."""

from __future__ import annotations

from typing import Final

_PAGE: Final = "see docs/migrate.md"

_RENAMED: Final = {
    "rtsp": "rtspDisable: yes turns RTSP off",
    "rtmp": "rtmpDisable: yes turns RTMP off",
    "hls": "hlsDisable: yes turns HLS off",
    "rtspTransports": "here: protocols",
    "rtspEncryption": "here: encryption",
    "rtspServerKey": "here: serverKey",
    "rtspServerCert": "here: serverCert",
    "rtspAuthMethods": "here: authMethods",
    "writeQueueSize": "here: readBufferCount",
    "hlsAllowOrigins": "here: hlsAllowOrigin",
    "apiAllowOrigins": "here: apiAllowOrigin",
    "pathDefaults": "here: the settings of the path 'all' for names without a path of their own; no path inherits them",
}
_RENAMED_OF_PATH: Final = {
    "overridePublisher": "here: disablePublisherOverride, with the opposite value",
    "rtspTransport": "here: sourceProtocol",
    "rtspAnyPort": "here: sourceAnyPortEnable",
    "runOnAvailable": "here: runOnReady",
    "runOnUnavailable": "here: runOnNotReady",
}

# Prefixes of keys whose feature has no equivalent.
_PREFIXES: Final = ("webrtc", "srt", "srtp", "moq", "playback", "record", "auth", "multicastSR", "whep", "rtsp", "rtp")
_PREFIXES_OF_PATH: Final = (
    "record",
    "srt",
    "moq",
    "whep",
    "rtsp",
    "rtp",
    "alwaysAvailable",
    "forward",
)

_OTHER: Final = frozenset(
    {
        "logStructured",
        "sysLogPrefix",
        "dumpPackets",
        "udpMaxPayloadSize",
        "rtmpTrustedProxies",
        "hlsDirectory",
        "hlsMuxerCloseAfter",
        "hlsCDNSecret",
        "metricsAllowOrigins",
        "pprofAllowOrigins",
        "apiTrustedProxies",
        "metricsTrustedProxies",
        "pprofTrustedProxies",
        "useAbsoluteTimestamp",
    }
)
_GO2RTC: Final = frozenset({"streams", "ffmpeg", "homekit", "ngrok", "hass", "preload", "publish"})

OTHER_NAMES_OF_ALL: Final = frozenset({"all_others"})
"""What another server calls the entry ``all``."""


def renamed_key(key: str, *, of_path: bool) -> str:
    """Return the message about a key of MediaMTX with an equivalent of another name here; otherwise empty."""
    renamed = (_RENAMED_OF_PATH if of_path else _RENAMED).get(key, "")
    return f"a setting of MediaMTX; {renamed}; {_PAGE}" if renamed else ""


def foreign_key(key: str, *, of_path: bool) -> str:
    """Return the message about a key of another server; empty if none of the known ones has it."""
    renamed = renamed_key(key, of_path=of_path)
    if renamed:
        return renamed
    prefixes = _PREFIXES_OF_PATH if of_path else _PREFIXES
    if key in _OTHER or any(key.startswith(prefix) and key[len(prefix) :][:1].isupper() for prefix in prefixes):
        return f"a setting of MediaMTX that does not exist here; {_PAGE}"
    if key in prefixes:
        return f"a setting of MediaMTX that does not exist here; {_PAGE}"
    if key in _GO2RTC and not of_path:
        return "a setting of go2rtc; here, sources are written below 'paths:', as in 'cam: {source: rtsp://...}'"
    return ""
