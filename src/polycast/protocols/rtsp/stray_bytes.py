"""Logs that a peer sends bytes which belong neither to an interleaved frame nor to a message."""

from __future__ import annotations

from polycast.log import Log


class StrayBytes:
    """One warning for the first ones, and their sum at the end."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.count = 0
        """Bytes skipped."""

    def update(self, count: int) -> None:
        """Process the number of bytes that the parser has skipped so far."""
        if count > self.count:
            if not self.count:
                self._log.warning("bytes between interleaved frames are skipped, %d so far", count)
            self.count = count

    def close(self) -> None:
        """Log the sum, once."""
        if self.count:
            self._log.info("%d bytes between interleaved frames were skipped", self.count)
            self.count = 0
