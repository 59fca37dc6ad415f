"""SRT: clients publish and read MPEG-TS; sources are pulled, streams are pushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from polycast.config.declarations import DestinationKind, SourceKind
from polycast.protocols.base import Address, Destination, Listener, Protocol, Pull, PushKind, ServerKind
from polycast.protocols.metric_blocks import FORMER_BYTES, FRAMES_DISCARDED, session_block
from polycast.protocols.srt.configuration import SrtConfiguration
from polycast.protocols.srt.item import SrtConnectionItem, connection_fields
from polycast.protocols.srt.keys import find_missing, load_encryption
from polycast.protocols.srt.statistics import columns

if TYPE_CHECKING:
    from polycast.log import Log
    from polycast.protocols.base import Server
    from polycast.protocols.pull import Puller
    from polycast.protocols.push import Pusher
    from polycast.protocols.srt.push import SrtPusher


def _load_server() -> type[Server]:
    from polycast.protocols.srt.server import SrtServer

    return SrtServer


def _load_puller() -> type[Puller]:
    from polycast.protocols.srt.source import SrtPuller

    return SrtPuller


def _load_pusher() -> type[SrtPusher]:
    from polycast.protocols.srt.push import SrtPusher

    return SrtPusher


def _open_push(destination: Destination) -> Callable[[Log], Pusher]:
    from polycast.protocols.srt.address import parse_address

    address, pusher = parse_address(destination.url), _load_pusher()
    if address.passphrase:
        load_encryption()
    return lambda log: pusher(address, log)


_COLUMNS: Final = (*columns(), *FORMER_BYTES, FRAMES_DISCARDED)

SRT = ServerKind(
    name="SRT",
    collection="srtconns",
    v3=connection_fields,
    metric="srt_conns",
    blocks=(session_block("SRT connections", "srt_conns", "srtconns", _COLUMNS),),
    is_enabled=lambda configuration: configuration[SrtConfiguration].srt,
    load=_load_server,
    listeners=(Listener("srtAddress", is_datagram=True),),
    address=Address(lambda _: "srt", is_shown=False),
    item=SrtConnectionItem,
    find_missing=find_missing,
)

PROTOCOL = Protocol(
    name="SRT",
    configuration=SrtConfiguration,
    servers=(SRT,),
    pulls=(Pull(SourceKind(name="SRT", schemes=("srt",), allows_user_alone=True, needs_host=False), _load_puller),),
    pushes=(PushKind(DestinationKind(schemes=("srt",)), _open_push, _load_pusher),),
    embedded={"srt": False},
)
