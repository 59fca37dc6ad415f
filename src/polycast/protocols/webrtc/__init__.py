"""WebRTC: browsers and others publish (WHIP) and watch (WHEP).

What the registry needs to know is here; the server itself is imported when it is started.
"""

from __future__ import annotations

from polycast.config.schema import Configuration
from polycast.protocols.base import Server, ServerContext, ServerKind


def _create_webrtc(context: ServerContext, configuration: Configuration) -> Server:
    from polycast.protocols.webrtc.server import WebRtcServer

    return WebRtcServer(context, configuration)


WEBRTC_KIND = ServerKind(
    name="WebRTC",
    is_enabled=lambda configuration: configuration.webrtc,
    create=_create_webrtc,
    restart_keys=frozenset(
        {
            "webrtc",
            "webrtcAddress",
            "webrtcEncryption",
            "webrtcServerKey",
            "webrtcServerCert",
            "webrtcLocalUDPAddress",
            "webrtcIPsFromInterfaces",
            "webrtcIPsFromInterfacesList",
            "webrtcAdditionalHosts",
        }
    ),
)
