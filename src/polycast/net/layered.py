"""A transport inside another protocol: RTSP in HTTP or in WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Input(Protocol):
    """What receives the data of a layered transport (`net.budget.BudgetedProtocol`)."""

    def hold_reading(self) -> None: ...
    def release_reading(self) -> None: ...


class LayeredTransport(asyncio.Transport):
    """The transport of a protocol that is carried by another protocol.

    What is written goes to the transport ``output``, encoded if ``encode`` is given; ``input`` is paused and resumed.
    Whoever reads passes the decoded data to the protocol. ``on_close`` closes what is below.
    """

    def __init__(
        self, output: asyncio.Transport, on_close: Callable[[], None], encode: Callable[[bytes], bytes] | None = None
    ) -> None:
        super().__init__()
        self._output = output
        self._encode = encode
        self._on_close = on_close
        self._input: Input | None = None
        self._is_paused = False
        self._is_closing = False

    def set_input(self, source: Input | None) -> None:
        """Set whose reading is paused; it may be replaced at any time."""
        self._input = source
        if source is not None and self._is_paused:
            source.hold_reading()

    # asyncio.Transport: writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        encode = self._encode
        self._output.write(data if encode is None else encode(bytes(data)))

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._output.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._output.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        return self._output.get_write_buffer_size()

    # asyncio.Transport: reading

    def is_reading(self) -> bool:
        return not self._is_paused

    def pause_reading(self) -> None:
        self._is_paused = True
        if self._input is not None:
            self._input.hold_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._input is not None:
            self._input.release_reading()

    # asyncio.Transport: the rest

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._output.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._is_closing or self._output.is_closing()

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._on_close()

    def abort(self) -> None:
        self._is_closing = True
        self._output.abort()
