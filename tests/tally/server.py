"""The server of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from tests.tally.configuration import TallyConfiguration
from tests.tally.item import TallyItem

from polycast.config.schema import Configuration
from polycast.hub.stats import Counters
from polycast.net.address import join_host_port
from polycast.net.listen import open_udp_socket
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.base import ServerContext, ServerKind, new_session_id
from polycast.protocols.session_fields import session_fields
from polycast.protocols.tcp_server import ServerConnection, TcpServer
from polycast.security.addresses import parse_address


class TallyConnection(ServerConnection):
    """One client."""

    def __init__(self, server: TallyServer) -> None:
        super().__init__(server)
        self.tally = server
        self.id = new_session_id(server.clients.__contains__)
        self.created = datetime.now(UTC)
        self.counters = Counters()
        self.path_name = ""
        self.lines = 0

    def on_connected(self) -> None:
        super().on_connected()
        self.tally.clients[self.id] = self

    def on_lost(self, reason: str) -> None:
        self.tally.clients.pop(self.id, None)
        super().on_lost(reason)

    def receive(self, data: bytes, now: float) -> bool:
        self.counters.bytes_received += len(data)
        self.path_name = self.path_name or data.split(b"\n")[0].decode("ascii", "replace")
        self.lines += data.count(b"\n") * self.tally.configuration[TallyConfiguration].tally_step
        self.answer(b"%d\n" % self.lines)
        return False

    def item(self) -> TallyItem:
        return TallyItem(
            address=join_host_port(*self.peer),
            state="publish",
            path=self.path_name,
            user="",
            query="",
            user_agent="",
            transport="TCP",
            lines_counted=self.lines,
            **session_fields(self.created, self.counters),
        )


class TallyServer(TcpServer):
    """Counts lines and datagrams."""

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(kind, context, configuration)
        self.clients: dict[str, TallyConnection] = {}
        self.datagrams = 0
        self._socket: UdpSocket | None = None

    def make_connection(self) -> TallyConnection:
        return TallyConnection(self)

    async def open_more(self) -> list[str]:
        host, port = parse_address(self.configuration[TallyConfiguration].tally_datagram_address)
        bound = await asyncio.to_thread(open_udp_socket, host, port)
        self._socket = UdpSocket(self.context.loop, bound, self._on_datagram)
        return [f"{host}:{self._socket.port} (UDP)"]

    def close_more(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        self.datagrams += 1
        if self._socket is not None:
            self._socket.send(b"%d" % self.datagrams, address)

    @property
    def ports(self) -> dict[str, int]:
        return {**super().ports, "tallyDatagramAddress": self._socket.port if self._socket is not None else 0}

    def items(self) -> Mapping[str, TallyItem]:
        return {key: client.item() for key, client in self.clients.items()}

    def kick(self, session_id: str) -> bool:
        client = self.clients.get(session_id)
        if client is not None:
            client.close("kicked")
        return client is not None
