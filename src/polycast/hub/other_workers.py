"""What paths need to know of the other worker processes of the server."""

from __future__ import annotations

from typing import Protocol


class OtherWorkers(Protocol):
    """The other workers."""

    def is_run_here(self, path: str) -> bool:
        """Whether this worker runs the source and the commands of a path, if it has any."""
        ...

    async def settle(self, path: str) -> None:
        """Decide which worker is to start what a path gets its stream from on demand."""
        ...

    def readers_of(self, path: str) -> int:
        """Return how many clients read a path there, if their number is limited."""
        ...
