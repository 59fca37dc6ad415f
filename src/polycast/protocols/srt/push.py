"""Publishes to an SRT server."""

from __future__ import annotations

import asyncio
from typing import Final

from polycast.errors import LocalProtocolError, PolycastError
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.protocols.push import Pusher
from polycast.protocols.srt.address import SrtAddress
from polycast.protocols.srt.client import Client
from polycast.protocols.srt.reader import SharedDatagrams, TransportReader
from polycast.protocols.transport_form import select_tracks

_CLOSE_MARGIN_SECONDS: Final = 1.0
_CHECK_SECONDS: Final = 1.0


class PushError(PolycastError):
    """The stream cannot be sent."""


class SrtPusher(Pusher):
    """One connection to an SRT server."""

    def __init__(self, address: SrtAddress, log: Log) -> None:
        super().__init__()
        self._address = address
        self._log = log
        self._client: Client | None = None
        self._reader: TransportReader | None = None

    async def open(self, path: Path, stream: Stream) -> None:
        client = self._client = Client(self._address, self._log, lambda payloads, now: None)
        link = await client.connect()
        tracks = select_tracks(stream.descriptions)
        for track in stream.descriptions:
            if track not in tracks:
                self._log.warning("the track %s is left out: MPEG-TS does not carry it here", track.codec_name)
        try:
            shared = SharedDatagrams(tracks, self._address.payload_size)
        except LocalProtocolError as error:
            raise PushError(str(error)) from error
        self._reader = TransportReader(
            shared,
            link,
            self.counters,
            clock=client.now,
            close=lambda reason: None,  # the supervisor notices the end of the stream
            reference=lambda: Reference("srtPusher"),
        )
        self._reader.is_passive = True
        path.attach_reader(self._reader, stream)

    async def wait(self) -> None:
        if self._client is None:
            raise PushError("not connected")
        while not self._client.lost.done():
            self._count(self._client)
            await asyncio.wait((self._client.lost,), timeout=_CHECK_SECONDS)
        self._client.lost.result()

    def _count(self, client: Client) -> None:
        if client.link is not None:
            sent = client.link.engine.sent
            self.counters.bytes_sent, self.counters.packets_sent = sent.bytes, sent.packets
            self.counters.packets_dropped = sent.dropped_packets

    async def close(self, path: Path) -> None:
        if self._reader is not None:
            path.remove_reader(self._reader)
        if self._client is not None:
            self._count(self._client)
            await self._client.close(self._address.send_delay + _CLOSE_MARGIN_SECONDS)
