"""Which worker runs a source: the one with the least to do, and always the same one."""

from __future__ import annotations

from typing import Any

from polycast.config import from_mapping
from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.schema import Configuration
from polycast.workers.placement import Placement

SOURCE = {"source": "rtsp://camera/stream"}


def configuration(paths: dict[str, Any]) -> Configuration:
    return from_mapping({"paths": paths}, MEDIAMTX)


def test_sources_and_commands_are_distributed() -> None:
    placement = Placement((1, 2, 3))
    paths = {f"cam{number}": SOURCE for number in range(6)}
    placed = placement.planned(
        configuration({**paths, "live": {}, "other": {"source": "redirect", "sourceRedirect": "/live"}})
    )
    assert sorted(placed) == sorted(paths)
    assert sorted(placed.values()) == [1, 1, 2, 2, 3, 3]
    command = {"runOnInit": "true"}
    assert set(placement.planned(configuration({"a": command, "b": command, "c": command})).values()) == {1, 2, 3}


def test_paths_stay_where_they_are() -> None:
    placement = Placement((1, 2))
    placement.placed = placement.planned(configuration({"a": SOURCE, "b": SOURCE}))
    before = placement.placed["b"]
    placement.placed = placement.planned(configuration({"b": SOURCE}))
    assert placement.placed == {"b": before}
    placement.placed = placement.planned(configuration({"b": SOURCE, "a": SOURCE}))
    assert placement.placed == {"b": before, "a": 3 - before}


def test_a_busy_worker_gets_nothing_new() -> None:
    placement = Placement((1, 2))
    placement.set_load(1, 0.9)
    assert set(placement.planned(configuration({"a": SOURCE, "b": SOURCE})).values()) == {2}


def test_paths_on_demand() -> None:
    placement = Placement((1, 2))
    paths = configuration(
        {"~^cam(.*)$": {"source": "rtsp://camera/$G1", "sourceOnDemand": True}, "all_others": {}}
    ).paths
    on_demand, plain = paths.values()
    assert placement.place("live", plain) == 0
    first = placement.place("cam1", on_demand)
    assert placement.place("cam1", on_demand) == first
    assert placement.place("cam2", on_demand) == 3 - first
    placement.on_closed("cam1", 3 - first)
    assert placement.place("cam1", on_demand) == first
    placement.on_ended(first)
    placement.set_load(first, 1.0)
    assert placement.place("cam1", on_demand) == 3 - first
