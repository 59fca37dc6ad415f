"""Pulls a stream from an SRT server, or waits for an encoder that connects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final

from polycast.errors import ConfigurationError
from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.media.track import Track
from polycast.protocols.pull import PullContext, Puller, PullError
from polycast.protocols.srt.address import parse_address
from polycast.protocols.srt.client import Client
from polycast.protocols.transport_ingest import TransportIngest

_CHECK_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 0.5


class SrtPuller(Puller):
    """One SRT address."""

    label: ClassVar[str] = "srt source"
    type_name: ClassVar[str] = "srtSource"

    async def pull(self, context: PullContext) -> None:
        try:
            address = parse_address(self.url)
        except ConfigurationError as error:
            raise PullError(str(error)) from error

        def publish(tracks: Sequence[Track]) -> Stream:
            return context.publish(tracks, False)

        ingest = TransportIngest(publish, Counters(), context.log, program=address.program)
        client: Client

        def on_received(payloads: Sequence[bytes], now: float) -> None:
            try:
                ingest.receive(b"".join(payloads), now)
            except PullError as error:
                client.fail(error)

        client = Client(address, context.log, on_received)
        context.log.debug("connecting")
        try:
            await client.connect()
            while not client.lost.done():
                await asyncio.wait((client.lost,), timeout=_CHECK_SECONDS)
                _count(client, context.counters)
                if client.link is not None and ingest.stream is not None:
                    client.link.share.weight = 1 + len(ingest.stream.readers)
                if not ingest.tick(client.now()):
                    raise PullError(ingest.problem)
            client.lost.result()
        finally:
            await client.close(_CLOSE_SECONDS)


def _count(client: Client, counters: Counters) -> None:
    if client.link is not None:
        arrived = client.link.engine.arrived
        counters.bytes_received, counters.packets_received = arrived.bytes, arrived.packets
        counters.packets_lost = arrived.dropped_packets
        counters.packets_invalid = arrived.invalid_packets + arrived.undecryptable_packets
