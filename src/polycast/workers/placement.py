"""Which worker runs the source and the commands of a path: the one that has least to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polycast.config.names import compile_path_pattern
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration


def needs_a_place(path: PathConfiguration) -> bool:
    """Whether something runs for a path that must run once."""
    return bool(
        path.source not in ("publisher", "redirect") or path.always_available or path.run_on_init or path.run_on_demand
    )


class Placement:
    """The workers that run paths, by their numbers."""

    def __init__(self, numbers: Iterable[int], demo_path: str | None = None) -> None:
        """``demo_path`` is the path of the demo; None if there is none."""
        self._demo_path = demo_path
        self._load = dict.fromkeys(numbers, 0.0)
        """Share of its core that each worker has used lately, 0 to 1."""
        self.placed: dict[str, int] = {}
        """By path, for those that have an entry of their own."""
        self._on_demand: dict[str, int] = {}
        """The same for paths that exist while somebody reads them."""

    def set_load(self, number: int, load: float) -> None:
        """Remember how busy a worker is."""
        self._load[number] = load

    def planned(self, configuration: Configuration) -> dict[str, int]:
        """Return the places with a configuration. Paths stay where they are."""
        placed: dict[str, int] = {}
        wanting = [
            name
            for name, path in configuration.paths.items()
            if compile_path_pattern(name) is None and (name == self._demo_path or needs_a_place(path))
        ]
        for name in wanting:
            if name in self.placed:
                placed[name] = self.placed[name]
        for name in wanting:
            if name not in placed:
                placed[name] = self._idlest(placed)
        return placed

    def place(self, path: str, configuration: PathConfiguration) -> int:
        """Return the worker that runs a path, for somebody who wants to read it; 0 if nothing runs for it."""
        if path in self.placed:
            return self.placed[path]
        if not needs_a_place(configuration):
            return 0
        if path not in self._on_demand:
            self._on_demand[path] = self._idlest(self.placed)
        return self._on_demand[path]

    def on_closed(self, path: str, number: int) -> None:
        """A path was closed in a worker."""
        if self._on_demand.get(path) == number:
            del self._on_demand[path]

    def on_ended(self, number: int) -> None:
        """A worker has ended; those of its paths that have entries of their own wait for the one that replaces it."""
        for path in [path for path, place in self._on_demand.items() if place == number]:
            del self._on_demand[path]

    def _idlest(self, placed: Mapping[str, int]) -> int:
        counts = dict.fromkeys(self._load, 0)
        for number in (*placed.values(), *self._on_demand.values()):
            counts[number] += 1
        # In steps, so that small differences do not outweigh an even distribution.
        return min(self._load, key=lambda number: (round(self._load[number] * 4), counts[number], number))
