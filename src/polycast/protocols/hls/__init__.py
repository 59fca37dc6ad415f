"""HLS: streams as playlists and files over HTTP, and the player page.

What the registry needs is here; the server itself is imported when it is started.
"""

from __future__ import annotations

from polycast.config.schema import Configuration
from polycast.protocols.base import Server, ServerContext, ServerKind


def _create_hls(context: ServerContext, configuration: Configuration) -> Server:
    from polycast.protocols.hls.server import HlsServer

    return HlsServer(context, configuration)


HLS_KIND = ServerKind(
    name="HLS",
    is_enabled=lambda configuration: not configuration.hls_disable,
    create=_create_hls,
    module="polycast.protocols.hls.server",
)
