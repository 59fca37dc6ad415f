"""Sources that send to the server without a protocol of their own: MPEG-TS and RTP, over UDP or to a Unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polycast.config.declarations import SourceKind
from polycast.protocols.base import Protocol, Pull
from polycast.protocols.udp.address import check_address

if TYPE_CHECKING:
    from polycast.protocols.pull import Puller


def _load_mpegts() -> type[Puller]:
    from polycast.protocols.udp.mpegts_source import MpegtsPuller

    return MpegtsPuller


def _load_rtp() -> type[Puller]:
    from polycast.protocols.udp.rtp_source import RtpPuller

    return RtpPuller


MPEGTS = SourceKind(name="MPEG-TS", schemes=("udp+mpegts", "udp", "unix+mpegts"), needs_host=False, check=check_address)
RTP = SourceKind(name="RTP", schemes=("udp+rtp", "unix+rtp"), needs_host=False, check=check_address)

PROTOCOL = Protocol(name="UDP", pulls=(Pull(MPEGTS, _load_mpegts), Pull(RTP, _load_rtp, is_for_library=False)))
