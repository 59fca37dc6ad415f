"""The part target of a Low-Latency playlist, chosen so that all parts but the last of a segment fill at least 85 % of
it.

draft-pantos-hls-rfc8216bis section 4.4.4.9 requires each part to be 85 % to 100 % of the part target; iOS refuses
streams that violate this. A part is a whole number of frames, so the target depends on the durations of the frames.
"""

from __future__ import annotations

_STEP = 5
"""Milliseconds: the target is raised in steps of this size."""
_ROUNDING = 2
"""Milliseconds by which the sum of frame durations may be off if a publisher rounds its times to milliseconds."""
_JITTER = 4
"""Milliseconds by which the durations of frames may differ and still count as one frame rate."""
_MAXIMUM_DURATIONS = 32
"""Different frame durations that are stored; a few that differ by rounding are usual."""
MAXIMUM_TARGET = 5_000
"""Milliseconds: the target is never raised above this for a frame rate."""
MAXIMUM_GROWTH = 1_000
"""Milliseconds up to which a published target can still increase. Longer parts are caused by stalls of the publisher;
they are listed with the target as their duration, because otherwise every player would hold back further."""


class PartTarget:
    """Chooses the part target during the first segment, and keeps it from then on.

    ``minimum`` and ``maximum`` are the shortest and the longest duration of a part, in ticks of ``rate``.
    """

    __slots__ = ("_durations", "_fixed", "_longest", "_rate", "_shortest", "maximum", "milliseconds", "minimum")

    def __init__(self, part_duration: float, rate: int) -> None:
        self._rate = rate
        self._durations: set[int] = set()
        self._shortest = 0
        self._longest = 0
        self._fixed = False
        self._set(max(round(part_duration * 1000), 1))

    def _set(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds
        self.minimum = -(-milliseconds * self._rate * 85 // 100_000)
        self.maximum = milliseconds * self._rate // 1000

    def observe(self, duration: int) -> None:
        """Add the duration of a frame in ticks, before the target is fixed."""
        if self._fixed or duration <= 0 or duration in self._durations:
            return
        self._shortest = min(self._shortest or duration, duration)
        self._longest = max(self._longest, duration)
        target = self.milliseconds
        if (self._longest - self._shortest) * 1000 > _JITTER * self._rate:
            # A part ends at 85 %, so it is shorter than 85 % plus a frame: the longest frame must fit into 15 %.
            longest = -(-self._longest * 1000 // self._rate)
            needed = max(min(-(-longest * 100 // 15), MAXIMUM_GROWTH), longest)
            self._set(max(target, -(-needed // _STEP) * _STEP))
            return
        durations = self._durations
        if len(durations) < _MAXIMUM_DURATIONS:
            durations.add(duration)
        while target < MAXIMUM_TARGET and not all(self._suits(target, each) for each in durations):
            target += _STEP
        if target != self.milliseconds:
            self._set(target)

    def _suits(self, target: int, duration: int) -> bool:
        """Return whether parts of frames of ``duration`` each fill between 85 % and 100 % of ``target``."""
        scaled = duration * 1000
        margin = 0 if duration * 1000 * 100 < self._rate else _ROUNDING
        least = (target * 85 // 100 + 1 + margin) * self._rate
        count = -(-least // scaled)
        return count * scaled + margin * self._rate <= target * self._rate

    def fix(self) -> None:
        """Keep the target from now on, because it was published."""
        self._fixed = True

    def grow(self, duration: int) -> None:
        """Raise a fixed target for a part that is longer, within `MAXIMUM_GROWTH`."""
        needed = -(-duration * 1000 // self._rate)
        needed = min(-(-needed // _STEP) * _STEP, MAXIMUM_GROWTH)
        if needed > self.milliseconds:
            self._set(needed)
