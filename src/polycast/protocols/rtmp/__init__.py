"""RTMP and RTMPS: clients publish and read, sources are pulled, streams are pushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

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
    FORMER_BYTES,
    FRAMES_DISCARDED,
    INBOUND_BYTES,
    OUTBOUND_BYTES,
    session_block,
)
from polycast.protocols.rtmp.configuration import RtmpConfiguration
from polycast.protocols.session_fields import frame_session_fields
from polycast.protocols.transcode_audio import find_missing

if TYPE_CHECKING:
    from polycast.config.schema import Configuration
    from polycast.log import Log
    from polycast.protocols.base import Server
    from polycast.protocols.pull import Puller
    from polycast.protocols.push import Pusher
    from polycast.protocols.rtmp.push import RtmpPusher


def _load_rtmp() -> type[Server]:
    from polycast.protocols.rtmp.server import RtmpServer

    return RtmpServer


def _load_rtmps() -> type[Server]:
    from polycast.protocols.rtmp.server import RtmpsServer

    return RtmpsServer


def _load_puller() -> type[Puller]:
    from polycast.protocols.rtmp.source import RtmpPuller

    return RtmpPuller


def _load_pusher() -> type[RtmpPusher]:
    from polycast.protocols.rtmp.push import RtmpPusher

    return RtmpPusher


def _open_push(destination: Destination) -> Callable[[Log], Pusher]:
    from polycast.wire.rtmp.address import RTMPS_PORT, parse_url

    pusher, address = _load_pusher(), parse_url(destination.url, secure_port=RTMPS_PORT)
    return lambda log: pusher(address, log, destination.fingerprint)


def _is_enabled(configuration: Configuration, without: Encryption) -> bool:
    settings = configuration[RtmpConfiguration]
    return settings.rtmp and settings.rtmp_encryption is not without


_COLUMNS: Final = (INBOUND_BYTES, OUTBOUND_BYTES, FRAMES_DISCARDED)

RTMP = ServerKind(
    name="RTMP",
    collection="rtmpconns",
    v3=frame_session_fields,
    metric="rtmp_conns",
    blocks=(session_block("RTMP connections", "rtmp_conns", "rtmpconns", _COLUMNS, FORMER_BYTES),),
    is_enabled=lambda configuration: _is_enabled(configuration, Encryption.STRICT),
    load=_load_rtmp,
    listeners=(Listener("rtmpAddress"),),
    address=Address(lambda _: "rtmp"),
    find_missing=find_missing,
)

RTMPS = ServerKind(
    name="RTMPS",
    collection="rtmpsconns",
    v3=frame_session_fields,
    metric="rtmps_conns",
    blocks=(session_block("RTMPS connections", "rtmps_conns", "rtmpsconns", _COLUMNS, FORMER_BYTES),),
    is_enabled=lambda configuration: _is_enabled(configuration, Encryption.NO),
    load=_load_rtmps,
    listeners=(Listener("rtmpsAddress"),),
    certificate=Certificate("rtmpServerCert", "rtmpServerKey"),
    address=Address(lambda _: "rtmps", is_shown=False),
    find_missing=find_missing,
)

PROTOCOL = Protocol(
    name="RTMP",
    configuration=RtmpConfiguration,
    servers=(RTMP, RTMPS),
    pulls=(Pull(SourceKind(name="RTMP", schemes=("rtmp", "rtmps")), _load_puller),),
    pushes=(PushKind(DestinationKind(schemes=("rtmp", "rtmps")), _open_push, _load_pusher),),
    embedded={"rtmp": False},
)
