"""Connections between nodes in memory: ordered, with a latency, cut when the network is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from tests.cluster.memory import Network

Protocol = TypeVar("Protocol", bound=asyncio.BaseProtocol)

BUFFER = 256 * 1024
"""Bytes on the way before the writer has to wait."""

SPACING = 1e-6
"""Seconds between what arrives at one end."""


class Pipe(asyncio.Transport):
    """One end."""

    def __init__(self, network: Network, protocol: asyncio.Protocol, names: tuple[str, str]) -> None:
        super().__init__()
        self.network = network
        self.protocol = protocol
        self.names = names
        """Of this node, and of the other one."""
        self.other: Pipe | None = None
        self.is_over = False
        self._last = 0.0
        self._waiting = 0
        self._high = 64 * 1024
        self._is_paused = False
        self._stopped = False
        self._held: list[bytes] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def _later(self, what: Callable[..., None], *arguments: Any) -> None:
        # In order, whatever the latency is; never at the same time, as a loop calls what is due then in any order.
        self._last = max(self._last + SPACING, self.loop.time() + self.network.delay())
        self.loop.call_at(self._last, what, *arguments)

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self.is_over or not data:
            return
        self._waiting += len(data)
        if self._waiting > self._high and not self._is_paused:
            self._is_paused = True
            self.protocol.pause_writing()
        self._later(self._arrive, bytes(data))

    def _arrive(self, data: bytes) -> None:
        other = self.other
        if other is None or other.is_over or self.network.is_separated(*self.names):
            return  # lost with the connection
        if other._stopped:
            other._held.append(data)
            return
        self.arrived(len(data))
        other.protocol.data_received(data)

    def arrived(self, size: int) -> None:
        self._waiting -= size
        if self._is_paused and self._waiting <= self._high // 4 and not self.is_over:
            self._is_paused = False
            self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self._stopped = True

    def resume_reading(self) -> None:
        self._stopped = False
        while self._held and not self._stopped and not self.is_over:
            data = self._held.pop(0)
            if self.other is not None:
                self.other.arrived(len(data))
            self.protocol.data_received(data)

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._later(self._lost, None)
            if self.other is not None and not self.network.is_separated(*self.names):
                self._later(self.other._peer_closed)

    def abort(self) -> None:
        self.close()

    def _peer_closed(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._lost(None)

    def reset(self) -> None:
        """The connection is lost, as this end finds out."""
        if not self.is_over:
            self.is_over = True
            self._later(self._lost, ConnectionResetError())

    def _lost(self, error: Exception | None) -> None:
        self.network.pipes.discard(self)
        self.protocol.connection_lost(error)

    def is_closing(self) -> bool:
        return self.is_over

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high if high is not None else 64 * 1024

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def connect(network: Network, own: str, factory: Callable[[], Protocol], address: str) -> Protocol:
    """Connect to the node with an address ``name:port``."""
    name = address.partition(":")[0]
    await asyncio.sleep(network.delay())
    accept = network.listeners.get(name)
    if network.is_separated(own, name):
        await asyncio.sleep(5)
        raise TimeoutError(f"{address} did not answer")
    if accept is None:
        raise ConnectionRefusedError(f"{address} refused")
    here, there = factory(), accept()
    ends = [Pipe(network, here, (own, name)), Pipe(network, there, (name, own))]  # type: ignore[arg-type]
    ends[0].other, ends[1].other = ends[1], ends[0]
    network.pipes.update(ends)
    there.connection_made(ends[1])
    here.connection_made(ends[0])
    return here
