"""What arrives as an MPEG transport stream, whatever carries it."""

from __future__ import annotations

import logging

from tests.wire.mpegts.test_mpegts_field import VIDEO_TYPE, Written, association, pictures

from polycast.hub.stats import Counters
from polycast.log import Log
from polycast.protocols.transport_ingest import REPLACED, TransportIngest


def test_a_stream_ends_when_other_codecs_replace_its_own() -> None:
    ingest = TransportIngest(lambda tracks: None, Counters(), Log(logging.getLogger(__name__)))
    written = Written()
    data = written.section(0, association((1, 0x100))) + written.map(0x100, 1, (VIDEO_TYPE, 0x101))
    ingest.receive(data + pictures(written, 0x101, b"abc"), 0.0)
    assert ingest.tick(10.0)
    ingest.receive(written.map(0x100, 1, (0x24, 0x101)), 10.0)
    assert not ingest.tick(11.0)
    assert ingest.problem == REPLACED
