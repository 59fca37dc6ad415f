"""The configuration of MediaMTX v1: ``mediamtx.yml`` and variables ``MTX_...``."""

from __future__ import annotations

from typing import Final

from polycast.config.dialects.base import Deprecated, Dialect, Form
from polycast.config.dialects.former import FORMER_NAMES, FORMER_NAMES_OF_PATH, MOVED
from polycast.config.dialects.mediamtx_unsupported import UNSUPPORTED, UNSUPPORTED_OF_PATH
from polycast.config.kinds import BYTES, DURATION, DURATION_OR_EMPTY, DURATION_WITH_DAYS, NEGATED

DEFAULT_USERS: Final = (
    {"user": "any", "permissions": [{"action": "publish"}, {"action": "read"}, {"action": "playback"}]},
    {
        "user": "any",
        "ips": ["127.0.0.1", "::1"],
        "permissions": [{"action": "api"}, {"action": "metrics"}, {"action": "pprof"}],
    },
)

MEDIAMTX: Final = Dialect(
    name="mediamtx",
    file="mediamtx.yml",
    prefixes=("RTSP_", "MTX_"),
    names_of_all=("all_others", "all"),
    has_path_defaults=True,
    ships_defaults=True,
    sorts_expressions=True,
    unknown_parameter='json: unknown field "%s"',
    invalid_path_name="invalid path name '{name}': {error}",
    realm="mediamtx",
    is_strict=True,
    kinds={DURATION: DURATION_OR_EMPTY, DURATION_WITH_DAYS: DURATION_OR_EMPTY},
    forms={"udpReadBufferSize": Form(kind=BYTES)},
    empty_defaults=frozenset({"udpReadBufferSize"}),
    defaults={
        "logFile": "mediamtx.log",
        "sysLogPrefix": "mediamtx",
        "udpMaxPayloadSize": 1452,
        "authInternalUsers": DEFAULT_USERS,
        "apiAddress": ":9997",
        "apiAllowOrigins": ["*"],
        "metricsAddress": ":9998",
        "metricsAllowOrigins": ["*"],
        "pprofAddress": ":9999",
        "pprofAllowOrigins": ["*"],
        "playbackAllowOrigins": ["*"],
        "srtpAddress": ":8004",
        "multicastSRTPPort": 8006,
        "rtspAuthMethods": ["basic"],
        "hlsVariant": "lowLatency",
        "webrtc": True,
        "srt": True,
    },
    path_forms={
        "rtspUDPReadBufferSize": Form(kind=BYTES),
        "mpegtsUDPReadBufferSize": Form(kind=BYTES),
        "rtpUDPReadBufferSize": Form(kind=BYTES),
    },
    path_defaults={
        "rpiCameraWidth": 1920,
        "rpiCameraHeight": 1080,
        "rpiCameraBitrate": 5_000_000,
        "rpiCameraH264Profile": "auto",
        "rpiCameraTextOverlay": "%Y-%m-%d %H:%M:%S - MediaMTX",
    },
    deprecated={
        **FORMER_NAMES,
        "externalAuthenticationURL": Deprecated("authHTTPAddress", implied={"authMethod": "http"}),
        "webrtcDisable": Deprecated("webrtc", NEGATED),
        "webrtcICEUDPMuxAddress": Deprecated("webrtcLocalUDPAddress"),
        "webrtcICETCPMuxAddress": Deprecated("webrtcLocalTCPAddress"),
        "webrtcICEHostNAT1To1IPs": Deprecated("webrtcAdditionalHosts"),
        "rtspUDPReadBufferSize": Deprecated("udpReadBufferSize", BYTES),
    },
    path_deprecated={
        **FORMER_NAMES_OF_PATH,
        "rpiCameraHardwareH264Profile": Deprecated("rpiCameraH264Profile"),
        "rpiCameraHardwareH264Level": Deprecated("rpiCameraH264Level"),
        "rpiCameraJPEGQuality": Deprecated("rpiCameraMJPEGQuality"),
    },
    replaced={
        "webrtcICEServers": "webrtcICEServers2",
        **dict.fromkeys(
            ("publishUser", "publishPass", "publishIPs", "readUser", "readPass", "readIPs"), "authInternalUsers"
        ),
    },
    moved=MOVED,
    unsupported=UNSUPPORTED,
    path_unsupported=UNSUPPORTED_OF_PATH,
)
