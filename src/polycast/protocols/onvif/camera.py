"""Asks a camera over HTTP. Used by sources and by ``polycast discover``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from polycast.errors import RemoteProtocolError
from polycast.hub.movement import Movement
from polycast.wire.onvif import device, ptz
from polycast.wire.onvif.address import OnvifAddress
from polycast.wire.onvif.device import Profile, Services
from polycast.wire.onvif.document import Element
from polycast.wire.onvif.soap import CONTENT_TYPE, body_of, envelope

NONCE_BYTES: Final = 16


class Fetch(Protocol):
    """Sends requests, as `HttpClient.fetch` does."""

    async def __call__(
        self, method: str, url: str, body: bytes = b"", fingerprint: str = "", *, more_headers: Mapping[str, str]
    ) -> tuple[int, bytes]: ...


class Camera:
    """A camera. Its methods raise RemoteProtocolError, OSError, and TimeoutError after ``timeout`` seconds."""

    def __init__(self, address: OnvifAddress, fetch: Fetch, *, fingerprint: str = "", timeout: float = 10.0) -> None:
        self.address = address
        self._fetch = fetch
        self._fingerprint = fingerprint
        self._timeout = timeout
        self._clock = timedelta()
        self._services: Services | None = None

    async def profiles(self) -> list[Profile]:
        """Return what it can send."""
        media = (await self._known_services()).media
        return device.profiles(await self._ask(self.address.service(media), device.GET_PROFILES))

    async def stream(self, profile: str) -> str:
        """Return the RTSP address of a profile, with user and password. ``profile``: see `device.choose_profile`."""
        chosen = device.choose_profile(await self.profiles(), profile)
        media = (await self._known_services()).media
        body = await self._ask(self.address.service(media), device.get_stream_uri(chosen.token))
        return self.address.stream(device.stream_uri(body))

    async def move(self, profile: str, movement: Movement) -> None:
        """Move it; ``profile`` as for `stream`, or if that is empty, the first one that can be moved."""
        address = (await self._known_services()).ptz
        known = await self.profiles()
        if not profile:
            known = [each for each in known if each.can_move] or known
        token = device.choose_profile(known, profile).token
        if not address:
            raise RemoteProtocolError("the camera cannot be moved")
        if movement.preset:
            request = ptz.goto_preset(token, movement.preset)
        elif movement.is_stop:
            request = ptz.stop(token)
        else:
            request = ptz.continuous_move(token, movement.pan, movement.tilt, movement.zoom, movement.seconds)
        await self._ask(self.address.service(address), request)

    async def _known_services(self) -> Services:
        if self._services is None:
            await self._compare_clocks()
            body = await self._ask(self.address.device, device.GET_CAPABILITIES)
            self._services = device.services(body)
        return self._services

    async def _compare_clocks(self) -> None:
        """Find out how far its clock is off: it refuses passwords whose date is not now."""
        try:
            body = await self._ask(self.address.device, device.GET_TIME, is_public=True)
        except RemoteProtocolError:  # some want a password even for this; then the clock may be right
            return
        time = device.device_time(body)
        if time is not None:
            self._clock = time - datetime.now(UTC)

    async def _ask(self, url: str, request: str, *, is_public: bool = False) -> Element:
        credentials = None if is_public else self.address.credentials
        body = envelope(
            request, credentials, nonce=secrets.token_bytes(NONCE_BYTES), created=datetime.now(UTC) + self._clock
        )
        async with asyncio.timeout(self._timeout):
            status, data = await self._fetch(
                "POST", url, body, self._fingerprint, more_headers={"Content-Type": CONTENT_TYPE}
            )
        return body_of(status, data)
