"""The nodes of a cluster in API v3, and the paths of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from polycast.control.contract import ClusterNode, MediaServer
from polycast.control.errors import RequestError


def find(media_server: MediaServer, name: str) -> ClusterNode:
    """Return a living node. Raises RequestError."""
    found = next((item for item in media_server.nodes if item.name == name), None)
    if found is None:
        raise RequestError(404, "node not found")
    return found


async def drain(media_server: MediaServer, name: str, *, is_draining: bool) -> None:
    """Let a node take no new publishers and sources, or take them again. Raises RequestError."""
    find(media_server, name)
    if media_server.cluster is None or not await media_server.cluster.drain(name, is_draining=is_draining):
        raise RequestError(500, "the node does not answer")


async def paths_of_cluster(media_server: MediaServer, own: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the paths of all nodes, sorted by name: those that have a stream where it is published, each once."""
    items = {str(item["name"]): item for item in own}
    answers = await media_server.cluster.paths_elsewhere() if media_server.cluster is not None else ()
    for _, answer in answers:
        try:
            told = msgspec.json.decode(answer, type=list[dict[str, Any]])
        except msgspec.MsgspecError:
            continue
        for item in told:
            name = item.get("name")
            if isinstance(name, str) and (name not in items or (item.get("online") and not items[name].get("online"))):
                items[name] = item
    return [items[name] for name in sorted(items)]
