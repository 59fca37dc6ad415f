"""Wire forms of batches: built once for all readers that get the same bytes."""

from __future__ import annotations

import struct

import pytest
from tests.protocols.rtsp.support import rtp, slice_unit

from polycast.hub.batch import FramedRun, PacketBatch
from polycast.hub.stats import Counters
from polycast.protocols.rtsp import readers
from polycast.protocols.rtsp.readers import DatagramReader, MulticastGroup, to_datagrams
from polycast.wire.rtsp.interleaved import next_run
from polycast.wire.rtsp.parser import INTERLEAVED_LIMIT


class Socket:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_segments(self, data: bytes, segment_size: int, address: object) -> None:
        self.sent.append(data)

    def address(self, host: str, port: int) -> tuple[str, int]:
        return host, port


class Session:
    counters = Counters()
    query = ""


def test_unicast_and_multicast_share_the_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def counted(batch: PacketBatch, track_index: int) -> readers.DatagramForm:
        built.append(track_index)
        return to_datagrams(batch, track_index)

    monkeypatch.setattr(readers, "to_datagrams", counted)
    packets = [rtp(index, slice_unit()) for index in range(3)]
    data = b"".join(struct.pack(">cBH", b"$", 0, len(packet)) + packet for packet in packets)
    run = next_run(data, 0, INTERLEAVED_LIMIT)
    assert run is not None
    batch = FramedRun(0, run)
    unicast, multicast = Socket(), Socket()
    reader = DatagramReader(Session(), unicast, unicast, {0: (("::1", 1), ("::1", 2))})  # type: ignore[arg-type]
    group = MulticastGroup(None, multicast, multicast, {0: "239.0.0.1"}, (5000, 5001))  # type: ignore[arg-type]
    reader.deliver(batch)
    assert group.deliver(batch)[0] == 3
    assert unicast.sent == multicast.sent == [b"".join(packets)]
    assert built == [0]
