"""Names that settings had in rtsp-simple-server v0.20.0 and in earlier versions of MediaMTX."""

from __future__ import annotations

from typing import Final

from polycast.config.dialects.base import Deprecated
from polycast.config.kinds import NEGATED, ORIGIN

FORMER_NAMES: Final = {
    "readBufferCount": Deprecated("writeQueueSize"),
    "apiAllowOrigin": Deprecated("apiAllowOrigins", ORIGIN),
    "metricsAllowOrigin": Deprecated("metricsAllowOrigins", ORIGIN),
    "pprofAllowOrigin": Deprecated("pprofAllowOrigins", ORIGIN),
    "playbackAllowOrigin": Deprecated("playbackAllowOrigins", ORIGIN),
    "hlsAllowOrigin": Deprecated("hlsAllowOrigins", ORIGIN),
    "webrtcAllowOrigin": Deprecated("webrtcAllowOrigins", ORIGIN),
    "rtspDisable": Deprecated("rtsp", NEGATED),
    "rtmpDisable": Deprecated("rtmp", NEGATED),
    "hlsDisable": Deprecated("hls", NEGATED),
    "protocols": Deprecated("rtspTransports"),
    "encryption": Deprecated("rtspEncryption"),
    "authMethods": Deprecated("rtspAuthMethods"),
    "serverKey": Deprecated("rtspServerKey"),
    "serverCert": Deprecated("rtspServerCert"),
}

MOVED: Final = frozenset(
    {"record", "recordPath", "recordFormat", "recordPartDuration", "recordSegmentDuration", "recordDeleteAfter"}
)

FORMER_NAMES_OF_PATH: Final = {
    "disablePublisherOverride": Deprecated("overridePublisher", NEGATED),
    "sourceProtocol": Deprecated("rtspTransport"),
    "sourceAnyPortEnable": Deprecated("rtspAnyPort"),
    "runOnReady": Deprecated("runOnAvailable"),
    "runOnReadyRestart": Deprecated("runOnAvailableRestart"),
    "runOnNotReady": Deprecated("runOnUnavailable"),
    "rpiCameraProfile": Deprecated("rpiCameraH264Profile"),
    "rpiCameraLevel": Deprecated("rpiCameraH264Level"),
}
