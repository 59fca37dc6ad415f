"""Finds cameras, asks for their streams, and makes paths of them, for ``polycast discover`` and the console."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from msgspec import Struct

from polycast.config.names import ALL_PATHS_ALIAS
from polycast.errors import RemoteProtocolError
from polycast.protocols.onvif.camera import Camera, Fetch
from polycast.protocols.onvif.probing import find_cameras
from polycast.wire.onvif.address import OnvifAddress
from polycast.wire.onvif.device import DEVICE_PATH, Profile
from polycast.wire.onvif.discovery import PORT, Device
from polycast.wire.onvif.soap import Credentials

AT_ONCE: Final = 16
"""Cameras that are asked at the same time."""
ASK_SECONDS: Final = 10.0
"""Seconds to wait for a response of a camera."""
MAXIMUM_NAME: Final = 40
"""Characters of a path that is made of a camera's name."""


class Found(Struct, frozen=True):
    """A camera with its streams."""

    device: Device
    profiles: tuple[Profile, ...]
    error: str = ""
    """Why its streams could not be listed; empty if they were."""

    @property
    def title(self) -> str:
        """The name that it reports."""
        return " ".join(part for part in (self.device.name, self.device.hardware) if part)


class Entry(Struct, frozen=True):
    """A path for a stream."""

    name: str
    source: str
    camera: Found
    profile: Profile


def search(hosts: Sequence[str], interfaces: Sequence[str], seconds: float) -> list[Device]:
    """Return the cameras that answer, and those at ``hosts``; it blocks. See `find_cameras`. Raises OSError."""
    targets = [_target(host) for host in hosts]
    devices = find_cameras(targets, interfaces, seconds)
    for host, _ in targets:
        # Some only answer multicast messages, so the hosts are also asked for their streams without an answer.
        if not any(urlsplit(address).hostname == host for address in devices):
            address = f"http://{f'[{host}]' if ':' in host else host}{DEVICE_PATH}"
            devices[address] = Device(address, "", "")
    return list(devices.values())


async def ask_all(fetch: Fetch, devices: Sequence[Device], credentials: Credentials | None) -> list[Found]:
    """Ask cameras for their streams."""
    turns = asyncio.Semaphore(AT_ONCE)
    return await asyncio.gather(*(_ask(fetch, turns, device, credentials) for device in devices))


def entries_of(found: Sequence[Found], credentials: Credentials | None, *, all_profiles: bool) -> list[Entry]:
    """Return paths for the streams of cameras, each with a name of its own."""
    entries: list[Entry] = []
    taken: set[str] = set()
    for each in found:
        parts = urlsplit(each.device.address)
        base = _slug(each.device.name or each.device.hardware or parts.hostname or "")
        for number, profile in enumerate(each.profiles if all_profiles else each.profiles[:1], 1):
            wanted = base if number == 1 else f"{base}-{_slug(profile.name) or number}"
            name, count = wanted, 1
            while name in taken:
                count += 1
                name = f"{wanted}-{count}"
            taken.add(name)
            user = ""
            if credentials is not None:
                user = f"{quote(credentials.user, safe='')}:{quote(credentials.password, safe='')}@"
            scheme = "onvifs" if parts.scheme == "https" else "onvif"
            path = "/" if parts.path in ("", DEVICE_PATH) else parts.path
            query = f"?profile={quote(profile.token, safe='')}"
            entries.append(Entry(name, f"{scheme}://{user}{parts.netloc}{path}{query}", each, profile))
    return entries


def _slug(text: str) -> str:
    """Return a text as the name of a path."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAXIMUM_NAME].strip("-")
    return slug if slug not in ("", ALL_PATHS_ALIAS) else f"camera-{slug}".rstrip("-")


def _target(text: str) -> tuple[str, int]:
    """Return host and port. Raises OSError."""
    try:
        parts = urlsplit(f"//{text}" if text.count(":") < 2 or text.startswith("[") else f"//[{text}]")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise OSError(f"'{text}' is not a host: {error}") from error
    if not host:
        raise OSError(f"'{text}' is not a host")
    return host, port or PORT


async def _ask(fetch: Fetch, turns: asyncio.Semaphore, device: Device, credentials: Credentials | None) -> Found:
    camera = Camera(_address(device, credentials), fetch, timeout=ASK_SECONDS)
    async with turns:
        try:
            return Found(device, tuple(await camera.profiles()))
        except TimeoutError:
            return Found(device, (), f"no answer within {ASK_SECONDS:g} s")
        except (OSError, RemoteProtocolError) as error:
            return Found(device, (), str(error))


def _address(device: Device, credentials: Credentials | None) -> OnvifAddress:
    parts = urlsplit(device.address)
    return OnvifAddress(parts.scheme, parts.netloc, parts.path or DEVICE_PATH, credentials, "")
