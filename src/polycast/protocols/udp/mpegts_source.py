"""Receives an MPEG transport stream over UDP, or from a Unix socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from polycast.config.fields import field_value
from polycast.errors import ConfigurationError
from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.media.track import Track
from polycast.protocols.pull import PullContext, Puller, PullError
from polycast.protocols.transport_ingest import TransportIngest
from polycast.protocols.udp.address import parse_address
from polycast.protocols.udp.input import Input


class MpegtsPuller(Puller):
    """One address of the server that a transport stream is sent to."""

    label: ClassVar[str] = "mpegts source"
    type_name: ClassVar[str] = "mpegtsSource"

    async def pull(self, context: PullContext) -> None:
        try:
            address = parse_address(self.url)
        except ConfigurationError as error:
            raise PullError(str(error)) from error

        def publish(tracks: Sequence[Track]) -> Stream:
            return context.publish(tracks, False)

        found = Counters()
        ingest = TransportIngest(publish, found, context.log, program=address.program)
        loop = context.loop
        pieces: list[bytes] = []

        def on_data(data: bytes, start: int, end: int) -> None:
            pieces.append(data[start:end])
            context.counters.bytes_received += end - start
            context.counters.packets_received += 1

        def on_read() -> None:
            data = b"".join(pieces)
            pieces.clear()
            ingest.receive(data, loop.time())

        def tick(now: float) -> None:
            if not ingest.tick(now):
                raise PullError(ingest.problem)
            context.counters.packets_lost = found.packets_lost
            context.counters.packets_invalid = found.packets_invalid

        received = Input(context, "mpegts", on_data, on_read)
        context.log.debug("waiting for a sender")
        try:
            own = context.path_configuration.mpegts_udp_read_buffer_size
            await received.open(address, int(own or field_value(context.configuration, "udpReadBufferSize")))
            await received.wait(tick)
        except PullError:
            ingest.finish(loop.time())
            raise
        finally:
            received.close()
