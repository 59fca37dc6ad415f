"""RTSP and RTSPS: clients publish and read, sources are pulled, streams are pushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypedDict

from polycast.config.declarations import DestinationKind, SourceKind
from polycast.config.values import Encryption
from polycast.protocols.base import (
    Address,
    Certificate,
    Destination,
    Listener,
    Protocol,
    Pull,
    PushKind,
    ServerKind,
)
from polycast.protocols.metric_blocks import (
    FORMER_RTSP_COLUMNS,
    RTSP_COLUMNS,
    connection_block,
    session_block,
)
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.protocols.rtsp.item import RtspSessionItem
from polycast.protocols.session_fields import RtspTraffic, rtsp_session_fields
from polycast.wire.rtsp.transport_choice import Protocol as Transport

if TYPE_CHECKING:
    from polycast.config.schema import Configuration
    from polycast.log import Log
    from polycast.protocols.base import Server
    from polycast.protocols.pull import Puller
    from polycast.protocols.push import Pusher
    from polycast.protocols.rtsp.push import RtspPusher


def _load_rtsp() -> type[Server]:
    from polycast.protocols.rtsp.server import RtspServer

    return RtspServer


def _load_rtsps() -> type[Server]:
    from polycast.protocols.rtsp.context import has_ciphers
    from polycast.protocols.rtsp.server import RtspsServer

    if has_ciphers():
        import polycast.protocols.rtsp.secure  # noqa: F401  # here, where an import does not block the loop

    return RtspsServer


def _load_puller() -> type[Puller]:
    from polycast.protocols.rtsp.source import RtspPuller

    return RtspPuller


def _load_pusher() -> type[RtspPusher]:
    from polycast.protocols.rtsp.push import RtspPusher

    return RtspPusher


def _open_push(destination: Destination) -> Callable[[Log], Pusher]:
    from polycast.wire.rtsp.url import RtspUrl

    pusher, parsed = _load_pusher(), RtspUrl.parse(destination.url)
    return lambda log: pusher(parsed, log, destination.fingerprint)


def _is_enabled(configuration: Configuration, without: Encryption) -> bool:
    settings = configuration[RtspConfiguration]
    return settings.rtsp and settings.rtsp_encryption is not without


def _uses_udp(configuration: Configuration) -> bool:
    return Transport.UDP in configuration[RtspConfiguration].rtsp_transports


def _uses_srtp(configuration: Configuration) -> bool:
    return configuration[RtspConfiguration].uses_srtp_over_udp


class RtspFields(RtspTraffic, TypedDict):
    """What an RTSP session has in API v3."""

    transport: str | None
    profile: str | None


def _session_fields(item: RtspSessionItem) -> RtspFields:
    return {"transport": item.transport or None, "profile": item.profile or None, **rtsp_session_fields(item)}


WORKER_STEP: Final = 8
"""Between the ports for media of two workers: the default ones for multicast and SRTP are in between."""

RTSP = ServerKind(
    name="RTSP",
    collection="rtspsessions",
    connections="rtspconns",
    v3=_session_fields,
    item=RtspSessionItem,
    metric="rtsp_sessions",
    blocks=(
        connection_block("RTSP connections", "rtsp_conns", "rtspconns"),
        session_block("RTSP sessions", "rtsp_sessions", "rtspsessions", RTSP_COLUMNS, FORMER_RTSP_COLUMNS),
    ),
    is_enabled=lambda configuration: _is_enabled(configuration, Encryption.STRICT),
    load=_load_rtsp,
    listeners=(
        Listener("rtspAddress"),
        Listener("rtpAddress", is_datagram=True, worker_step=WORKER_STEP, is_used=_uses_udp, follows="rtspAddress"),
        Listener("rtcpAddress", is_datagram=True, worker_step=WORKER_STEP, is_used=_uses_udp, follows="rtspAddress"),
    ),
    address=Address(lambda _: "rtsp"),
)

RTSPS = ServerKind(
    name="RTSPS",
    collection="rtspssessions",
    connections="rtspsconns",
    v3=_session_fields,
    item=RtspSessionItem,
    metric="rtsps_sessions",
    blocks=(
        connection_block("RTSPS connections", "rtsps_conns", "rtspsconns"),
        session_block("RTSPS sessions", "rtsps_sessions", "rtspssessions", RTSP_COLUMNS, FORMER_RTSP_COLUMNS),
    ),
    is_enabled=lambda configuration: _is_enabled(configuration, Encryption.NO),
    load=_load_rtsps,
    listeners=(
        Listener("rtspsAddress"),
        Listener("srtpAddress", is_datagram=True, worker_step=WORKER_STEP, is_used=_uses_srtp, follows="rtspsAddress"),
        Listener("srtcpAddress", is_datagram=True, worker_step=WORKER_STEP, is_used=_uses_srtp, follows="rtspsAddress"),
    ),
    certificate=Certificate("rtspServerCert", "rtspServerKey"),
    address=Address(lambda _: "rtsps"),
)

PROTOCOL = Protocol(
    name="RTSP",
    configuration=RtspConfiguration,
    servers=(RTSP, RTSPS),
    pulls=(
        Pull(
            # Cameras that have a user without a password exist.
            SourceKind(
                name="RTSP",
                schemes=("rtsp", "rtsps"),
                redirects=True,
                allows_user_alone=True,
                allows_fragment=False,
            ),
            _load_puller,
        ),
        Pull(
            SourceKind(
                name="tunnelled RTSP",
                schemes=("rtsp+http", "rtsps+http", "rtsp+ws", "rtsps+ws"),
                allows_user_alone=True,
                allows_fragment=False,
            ),
            _load_puller,
        ),
    ),
    pushes=(PushKind(DestinationKind(schemes=("rtsp", "rtsps")), _open_push, _load_pusher),),
)
