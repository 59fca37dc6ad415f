"""Which packets are missing, as ranges: a peer can skip thousands of numbers with one packet."""

from __future__ import annotations

import math
from bisect import bisect_left
from operator import attrgetter


class Gap:
    """Consecutive packets that were found to be missing at the same time."""

    __slots__ = ("deadline", "first", "last", "next_request", "requests")

    def __init__(self, first: int, last: int, deadline: float) -> None:
        self.first = first
        self.last = last
        self.deadline = deadline
        """About when they are due."""
        self.requests = 0
        self.next_request = -math.inf

    def _split_off(self, first: int) -> Gap:
        """Return the packets from ``first`` on as a gap of their own, asked for at the same times."""
        other = Gap(first, self.last, self.deadline)
        other.requests, other.next_request = self.requests, self.next_request
        return other

    def without(self, first: int, last: int) -> list[Gap]:
        """Return what is left when some packets are no longer missing: at most two gaps."""
        rest = []
        if last < self.last:
            rest.append(self._split_off(last + 1))
        if self.first < first:
            self.last = first - 1
            rest.insert(0, self)
        return rest


_LAST = attrgetter("last")


class MissingPackets:
    """The gaps of a connection, in ascending order."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []

    def add(self, first: int, last: int, deadline: float) -> Gap:
        """Add packets behind all others, and return them."""
        gap = Gap(first, last, deadline)
        self.gaps.append(gap)
        return gap

    def __contains__(self, sequence: int) -> bool:
        gaps = self.gaps
        index = bisect_left(gaps, sequence, key=_LAST)
        return index < len(gaps) and gaps[index].first <= sequence

    def discard(self, first: int, last: int) -> None:
        """Packets are no longer missing, as far as they were."""
        gaps = self.gaps
        begin = end = bisect_left(gaps, first, key=_LAST)
        rest: list[Gap] = []
        while end < len(gaps) and gaps[end].first <= last:
            rest += gaps[end].without(first, last)
            end += 1
        gaps[begin:end] = rest

    def clear(self) -> None:
        """Nothing is missing any more."""
        self.gaps.clear()
