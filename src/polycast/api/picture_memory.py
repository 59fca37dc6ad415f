"""Reuses the memory of pictures, because fresh pages from the system cost CPU time for each picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

MAXIMUM_KEPT: Final = 3
"""Arrays kept: the picture that a program works with, the next one, and one that is being decoded."""

CAN_COUNT: Final = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether the number of references to an object can be relied on."""


def _references(objects: Sequence[object], index: int) -> int:
    return sys.getrefcount(objects[index])


_UNUSED: Final = _references([object()], 0)
"""Reference count of an array that is not in use."""


class PictureMemory:
    """Keeps arrays, and reuses those that are no longer in use. Not thread-safe.

    An array is in use while there is a view of it, such as a picture, a slice of one or a tensor: each refers to it.
    """

    def __init__(self) -> None:
        self._kept: list[NDArray[numpy.uint8]] = []

    def copy(self, picture: NDArray[numpy.uint8]) -> NDArray[numpy.uint8]:
        """Return a contiguous copy of a picture, which belongs to the caller."""
        import numpy

        memory = self._unused(picture.shape)
        if memory is None:
            memory = numpy.empty(picture.shape, numpy.uint8)
            self._kept = [each for each in self._kept if each.shape == picture.shape]
            if CAN_COUNT and len(self._kept) < MAXIMUM_KEPT:
                self._kept.append(memory)
        numpy.copyto(memory, picture)
        return memory[:]

    def _unused(self, shape: tuple[int, ...]) -> NDArray[numpy.uint8] | None:
        for index in range(len(self._kept)):
            if self._kept[index].shape == shape and _references(self._kept, index) == _UNUSED:
                return self._kept[index]
        return None
