"""Finds cameras for the console."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Final
from urllib.parse import urlsplit

from polycast.control.console.cameras import CameraItem, CameraStreamItem
from polycast.net.http_client import HttpClient

SEARCH_SECONDS: Final = 3.0
"""Seconds to wait for answers."""
MAXIMUM_CAMERAS: Final = 256
"""Cameras that are asked for their streams: a single host in the network can pretend to be any number of them."""


async def find_cameras(client: HttpClient, hosts: Sequence[str], user: str, password: str) -> list[CameraItem]:
    """Return the cameras at ``hosts``, or those in the network if it is empty; see `MediaServer.find_cameras`."""
    await client.prepare()
    finding, soap = await asyncio.to_thread(_load)
    credentials = soap.Credentials(user, password) if user else None
    devices = await asyncio.to_thread(finding.search, hosts, (), SEARCH_SECONDS)
    found = await finding.ask_all(client.fetch, devices[:MAXIMUM_CAMERAS], credentials)
    entries = finding.entries_of(found, credentials, all_profiles=True)
    return [
        CameraItem(
            address=urlsplit(camera.device.address).netloc,
            name=camera.title,
            error=camera.error,
            streams=[
                CameraStreamItem(path=entry.name, description=str(entry.profile), source=entry.source)
                for entry in entries
                if entry.camera is camera
            ],
        )
        for camera in found
    ]


def _load() -> tuple[ModuleType, ModuleType]:
    """Import what only a search needs; it takes too long for the event loop."""
    return import_module("polycast.protocols.onvif.finding"), import_module("polycast.wire.onvif.soap")
