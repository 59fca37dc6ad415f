"""What all connections of one event loop share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class LoopLocal(Generic[_Value]):
    """A value for each event loop, kept by the loop itself, so that it ends with the loop.

    A dictionary with weak keys would keep every loop for ever: the values refer to their loops.
    """

    def __init__(self, name: str, make: Callable[[asyncio.AbstractEventLoop], _Value]) -> None:
        """``make`` is called when the value of a loop is first asked for."""
        self._attribute = f"_polycast_{name}"
        self._make = make

    def get(self, loop: asyncio.AbstractEventLoop) -> _Value:
        """Return the value of a loop."""
        value: _Value | None = getattr(loop, self._attribute, None)
        if value is None:
            value = self._make(loop)
            self.set(loop, value)
        return value

    def set(self, loop: asyncio.AbstractEventLoop, value: _Value) -> None:
        """Replace the value of a loop."""
        setattr(loop, self._attribute, value)
