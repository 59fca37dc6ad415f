"""Pulls a camera by its ONVIF address: its stream's address is asked for at each attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from polycast.config.path_schema import PathConfiguration
from polycast.errors import RemoteProtocolError
from polycast.hub.movement import CannotMove, Movement
from polycast.net.dial import describe_failure
from polycast.net.http_client import HttpClient
from polycast.protocols.onvif.camera import Camera
from polycast.protocols.pull import PullContext, Puller, PullError
from polycast.protocols.rtsp.source import RtspPuller
from polycast.wire.onvif.address import parse_address
from polycast.wire.onvif.soap import Refused


class OnvifPuller(Puller):
    """One camera."""

    label: ClassVar[str] = "onvif source"
    type_name: ClassVar[str] = "onvifSource"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._puller: RtspPuller | None = None

    async def pull(self, context: PullContext) -> None:
        stream = await self._resolve(context)
        if self._puller is None or self._puller.url != stream:
            self._puller = RtspPuller(stream)  # kept otherwise: it remembers which transport works
        await self._puller.pull(context)

    async def move(self, movement: Movement, configuration: PathConfiguration, timeout: float) -> None:
        try:
            async with self._camera(configuration, timeout) as camera:
                await camera.move(camera.address.profile, movement)
        except (OSError, RemoteProtocolError) as error:
            raise CannotMove(describe_failure(error)) from error

    async def _resolve(self, context: PullContext) -> str:
        try:
            async with self._camera(context.path_configuration, context.read_timeout) as camera:
                return await camera.stream(camera.address.profile)
        except Refused:
            raise
        except RemoteProtocolError as error:
            raise PullError(str(error)) from error

    @asynccontextmanager
    async def _camera(self, configuration: PathConfiguration, timeout: float) -> AsyncIterator[Camera]:
        address = parse_address(self.url)
        fingerprint = configuration.source_fingerprint if address.scheme == "https" else ""
        client = HttpClient()
        try:
            yield Camera(address, client.fetch, fingerprint=fingerprint, timeout=timeout)
        finally:
            await client.close()
