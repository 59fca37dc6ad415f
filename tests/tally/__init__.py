"""A protocol that exists only for tests: it counts what clients send. It shows all that a protocol declares.

TCP clients send lines; the first one names a path. Datagrams are counted as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

from tests.tally.configuration import TallyConfiguration
from tests.tally.item import TallyItem

from polycast.config.declarations import DestinationKind, SourceKind
from polycast.items import SESSION_LABELS, Column, MetricBlock
from polycast.protocols.base import Address, Destination, Listener, Protocol, Pull, PushKind, ServerKind

if TYPE_CHECKING:
    from tests.tally.clients import TallyPusher

    from polycast.log import Log
    from polycast.protocols.base import Server
    from polycast.protocols.pull import Puller
    from polycast.protocols.push import Pusher


def _load_server() -> type[Server]:
    from tests.tally.server import TallyServer

    return TallyServer


def _load_puller() -> type[Puller]:
    from tests.tally.clients import TallyPuller

    return TallyPuller


def _load_pusher() -> type[TallyPusher]:
    from tests.tally.clients import TallyPusher

    return TallyPusher


def _open_push(destination: Destination) -> Callable[[Log], Pusher]:
    pusher = _load_pusher()
    return lambda log: pusher(destination.url)


class TallyFields(TypedDict):
    """What API v3 says of a session in addition."""

    linesCounted: int


def _fields(item: TallyItem) -> TallyFields:
    return {"linesCounted": item.lines_counted}


PROTOCOL = Protocol(
    name="Tally",
    configuration=TallyConfiguration,
    servers=(
        ServerKind(
            name="Tally",
            collection="tallysessions",
            metric="tally_sessions",
            v3=_fields,
            blocks=(
                MetricBlock(
                    title="Tally sessions",
                    name="tally_sessions",
                    collection="tallysessions",
                    labels=SESSION_LABELS,
                    columns=(Column("inboundBytes", "Bytes received"), Column("linesCounted", "Lines counted")),
                ),
            ),
            is_enabled=lambda configuration: not configuration[TallyConfiguration].tally_disable,
            load=_load_server,
            listeners=(
                Listener("tallyAddress"),
                Listener("tallyDatagramAddress", is_datagram=True, follows="tallyAddress"),
            ),
            address=Address(lambda _: "tally"),
            item=TallyItem,
        ),
    ),
    pulls=(Pull(SourceKind(name="Tally", schemes=("tally",)), _load_puller),),
    pushes=(PushKind(DestinationKind(schemes=("tally",)), _open_push, _load_pusher),),
    embedded={"tallyDisable": True},
)
