"""MPEG-TS and RTP without a protocol of their own: received over UDP or from a Unix socket, and sent over UDP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polycast.config.declarations import DestinationKind, SourceKind
from polycast.protocols.base import Destination, Protocol, Pull, PushKind
from polycast.protocols.udp.address import check_address

if TYPE_CHECKING:
    from polycast.log import Log
    from polycast.protocols.pull import Puller
    from polycast.protocols.push import Pusher
    from polycast.protocols.udp.mpegts_push import MpegtsPusher
    from polycast.protocols.udp.rtp_push import RtpPusher


def _load_mpegts() -> type[Puller]:
    from polycast.protocols.udp.mpegts_source import MpegtsPuller

    return MpegtsPuller


def _load_rtp() -> type[Puller]:
    from polycast.protocols.udp.rtp_source import RtpPuller

    return RtpPuller


def _load_mpegts_pusher() -> type[MpegtsPusher]:
    from polycast.protocols.udp.mpegts_push import MpegtsPusher

    return MpegtsPusher


def _load_rtp_pusher() -> type[RtpPusher]:
    from polycast.protocols.udp.rtp_push import RtpPusher

    return RtpPusher


def _open_mpegts(destination: Destination) -> Callable[[Log], Pusher]:
    from polycast.protocols.udp.destination import parse_destination

    address, pusher = parse_destination(destination.url), _load_mpegts_pusher()
    return lambda log: pusher(address, log)


def _open_rtp(destination: Destination) -> Callable[[Log], Pusher]:
    from polycast.protocols.udp.destination import parse_destination

    address, pusher = parse_destination(destination.url), _load_rtp_pusher()
    return lambda log: pusher(address, log)


MPEGTS = SourceKind(name="MPEG-TS", schemes=("udp+mpegts", "udp", "unix+mpegts"), needs_host=False, check=check_address)
RTP = SourceKind(name="RTP", schemes=("udp+rtp", "unix+rtp"), needs_host=False, check=check_address)

PROTOCOL = Protocol(
    name="UDP",
    pulls=(Pull(MPEGTS, _load_mpegts), Pull(RTP, _load_rtp, is_for_library=False)),
    pushes=(
        PushKind(DestinationKind(schemes=("udp+mpegts",)), _open_mpegts, _load_mpegts_pusher),
        PushKind(DestinationKind(schemes=("udp+rtp",)), _open_rtp, _load_rtp_pusher),
    ),
)
