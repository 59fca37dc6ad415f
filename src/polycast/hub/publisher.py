"""What feeds a path: a client's session, or a source that the server runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from polycast.hub.movement import CannotMove, Movement
from polycast.hub.retry import Failure
from polycast.hub.stats import Reference


class Publisher(ABC):
    """The publisher of a path: a client's session, a source that the server pulls, or the frames of a program."""

    is_copy: ClassVar[bool] = False
    """Whether it copies the stream from the node that publishes the path: commands, recordings and so on are there."""
    query: str = ""
    """The query of its URL, without ``?``; for commands."""

    @abstractmethod
    def close_publisher(self, reason: str) -> None:
        """End the publisher: another one took over, or the path was closed. Must not raise."""

    @abstractmethod
    def reference(self) -> Reference:
        """Return its name in the API."""

    def request_key_frame(self) -> None:
        """Request a key frame as soon as possible. Most publishers do not support this."""


class Source(Publisher):
    """A publisher that the server itself runs: it pulls or generates a stream."""

    @property
    def failure(self) -> Failure | None:
        """The current failure; None while it delivers a stream, and before the first failure."""
        return None

    async def move(self, movement: Movement) -> None:
        """Move the camera. Raises CannotMove; most sources cannot."""
        raise CannotMove("the source of this path is no camera that can be moved")

    @abstractmethod
    def start(self) -> None:
        """Start, in the background; call `Path.start_publishing` once the tracks are known, and retry until stopped."""

    @abstractmethod
    def stop(self, reason: str) -> None:
        """End for good."""
