"""The protocols that there are. A new one is a folder beside this file and a row here."""

from __future__ import annotations

from polycast.protocols.base import ServerKind
from polycast.protocols.hls import HLS_KIND
from polycast.protocols.rtmp import RTMP_KIND, RTMPS_KIND
from polycast.protocols.rtsp import RTSP_KIND, RTSPS_KIND
from polycast.protocols.webrtc import WEBRTC_KIND

SERVER_KINDS: tuple[ServerKind, ...] = (RTSP_KIND, RTSPS_KIND, RTMP_KIND, RTMPS_KIND, HLS_KIND, WEBRTC_KIND)
"""In the order in which they are started; stopped the other way round."""
