"""RTSP and RTSPS: clients publish and read.

What the registry needs to know is here; the server itself is imported when it is started.
"""

from __future__ import annotations

from polycast.config.schema import Configuration
from polycast.config.values import Encryption
from polycast.protocols.base import Server, ServerContext, ServerKind


def _create_rtsp(context: ServerContext, configuration: Configuration) -> Server:
    from polycast.protocols.rtsp.server import RtspServer

    return RtspServer(context, configuration)


def _create_rtsps(context: ServerContext, configuration: Configuration) -> Server:
    from polycast.protocols.rtsp.server import RtspsServer

    return RtspsServer(context, configuration)


RTSP_KIND = ServerKind(
    name="RTSP",
    is_enabled=lambda configuration: (
        not configuration.rtsp_disable and configuration.encryption is not Encryption.STRICT
    ),
    create=_create_rtsp,
    module="polycast.protocols.rtsp.server",
)

RTSPS_KIND = ServerKind(
    name="RTSPS",
    is_enabled=lambda configuration: not configuration.rtsp_disable and configuration.encryption is not Encryption.NO,
    create=_create_rtsps,
    module="polycast.protocols.rtsp.server",
)
