"""WebRTC: browsers and other clients publish (WHIP) and watch (WHEP).

What the registry needs to know is here; the server itself is imported when it is started.
"""

from __future__ import annotations

from polycast.config.schema import Configuration
from polycast.errors import missing_packages
from polycast.protocols.base import Server, ServerContext, ServerKind

MISSING_PACKAGES = missing_packages("WebRTC", "pyOpenSSL", "cryptography", "ifaddr") + ", or set webrtc: no"


def _create_webrtc(context: ServerContext, configuration: Configuration) -> Server:
    try:
        from polycast.protocols.webrtc.server import WebRtcServer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("OpenSSL", "cryptography", "ifaddr"):
            raise
        raise OSError(MISSING_PACKAGES) from error
    return WebRtcServer(context, configuration)


WEBRTC_KIND = ServerKind(
    name="WebRTC",
    is_enabled=lambda configuration: configuration.webrtc,
    create=_create_webrtc,
    module="polycast.protocols.webrtc.server",
)
