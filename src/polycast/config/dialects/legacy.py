"""The configuration of rtsp-simple-server v0.20.0: ``rtsp-simple-server.yml`` and variables ``RTSP_...``."""

from __future__ import annotations

from typing import Final

from polycast.config.dialects.base import Dialect, Form
from polycast.config.kinds import NEGATED, ORIGIN

_ENCRYPTION: Final = "invalid encryption value: '%s'"

FORMS: Final = {
    "logLevel": Form(message="invalid log level: %s"),
    "writeQueueSize": Form("readBufferCount"),
    "apiAllowOrigins": Form("apiAllowOrigin", ORIGIN),
    "hlsAllowOrigins": Form("hlsAllowOrigin", ORIGIN),
    "webrtcAllowOrigins": Form("webrtcAllowOrigin", ORIGIN),
    "rtsp": Form("rtspDisable", NEGATED),
    "rtspTransports": Form("protocols", message="invalid protocol: %s"),
    "rtspEncryption": Form("encryption", message=_ENCRYPTION),
    "rtspServerKey": Form("serverKey"),
    "rtspServerCert": Form("serverCert"),
    "rtspAuthMethods": Form("authMethods", message="invalid authentication method: %s"),
    "rtmp": Form("rtmpDisable", NEGATED),
    "rtmpEncryption": Form(message=_ENCRYPTION),
    "hls": Form("hlsDisable", NEGATED),
    "hlsVariant": Form(message="invalid hlsVariant value: '%s'"),
}

PATH_FORMS: Final = {
    "rtspTransport": Form("sourceProtocol", message="invalid protocol '%s'"),
    "rtspAnyPort": Form("sourceAnyPortEnable"),
    "overridePublisher": Form("disablePublisherOverride", NEGATED),
    "runOnAvailable": Form("runOnReady"),
    "runOnAvailableRestart": Form("runOnReadyRestart"),
    "runOnUnavailable": Form("runOnNotReady"),
    "rpiCameraH264Profile": Form("rpiCameraProfile"),
    "rpiCameraH264Level": Form("rpiCameraLevel"),
}

LEGACY: Final = Dialect(
    name="rtsp-simple-server",
    file="rtsp-simple-server.yml",
    prefixes=("RTSP_",),
    names_of_all=("all",),
    allows_sources_of_expressions=False,
    empty_is_default=True,
    has_viewer_commands=False,
    requires_encryption_for_low_latency=True,
    requires_plain_transports=True,
    shown={"writeQueueSize": "ReadBufferCount"},
    forms=FORMS,
    path_forms=PATH_FORMS,
)
