"""RTMP and RTMPS: clients publish and read.

What the registry needs is here; the server itself is imported when it is started.
"""

from __future__ import annotations

from polycast.config.schema import Configuration
from polycast.config.values import Encryption
from polycast.protocols.base import Server, ServerContext, ServerKind


def _create_rtmp(context: ServerContext, configuration: Configuration) -> Server:
    from polycast.protocols.rtmp.server import RtmpServer

    return RtmpServer(context, configuration)


def _create_rtmps(context: ServerContext, configuration: Configuration) -> Server:
    from polycast.protocols.rtmp.server import RtmpsServer

    return RtmpsServer(context, configuration)


RTMP_KIND = ServerKind(
    name="RTMP",
    is_enabled=lambda configuration: (
        not configuration.rtmp_disable and configuration.rtmp_encryption is not Encryption.STRICT
    ),
    create=_create_rtmp,
    module="polycast.protocols.rtmp.server",
)

RTMPS_KIND = ServerKind(
    name="RTMPS",
    is_enabled=lambda configuration: (
        not configuration.rtmp_disable and configuration.rtmp_encryption is not Encryption.NO
    ),
    create=_create_rtmps,
    module="polycast.protocols.rtmp.server",
)
