"""Pulls a camera by its ONVIF address: its stream's address is asked for at each attempt."""

from __future__ import annotations

from typing import ClassVar

from polycast.errors import RemoteProtocolError
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

    async def _resolve(self, context: PullContext) -> str:
        client = HttpClient()
        try:
            address = parse_address(self.url)
            camera = Camera(
                address,
                client.fetch,
                fingerprint=context.path_configuration.source_fingerprint if address.scheme == "https" else "",
                timeout=context.read_timeout,
            )
            return await camera.stream(address.profile)
        except Refused:
            raise
        except RemoteProtocolError as error:
            raise PullError(str(error)) from error
        finally:
            await client.close()
