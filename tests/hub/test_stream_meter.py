"""How long media takes from its read to the last reader."""

from __future__ import annotations

import time

from tests.hub.support import PPS, SPS, VIDEO, Frames, Packets, make_stream, publish_data
from tests.support.rtp import key_unit, rtp, slice_unit

from polycast.hub.stats import StreamMeter
from polycast.media.codec import H264
from polycast.media.frame import Frame

PATIENCE = 30.0
"""Seconds that a test may take on a busy machine."""


def ago(seconds: float) -> float:
    return time.monotonic() - seconds


async def test_a_batch_counts_from_its_first_read() -> None:
    stream = make_stream(VIDEO)
    for reader in (Packets(), Packets()):
        stream.add_reader(reader)
    publish_data(stream, 0, rtp(1, key_unit(), marker=False), ago(100))
    publish_data(stream, 0, rtp(2, slice_unit()), ago(1))
    stream.end_of_read()
    assert stream.meter.deliveries == 1
    assert 100 <= stream.meter.delivery_seconds < 100 + PATIENCE
    publish_data(stream, 0, rtp(3, slice_unit()), ago(2))
    stream.end_of_read()
    assert stream.meter.deliveries == 2
    assert 102 <= stream.meter.delivery_seconds < 102 + PATIENCE
    assert 100 <= stream.meter.longest_delivery < 100 + PATIENCE


async def test_frames_count_once() -> None:
    stream = make_stream(VIDEO, packets=False)
    for reader in (Frames(), Packets()):
        stream.add_reader(reader)
    stream.publish_frame(0, Frame((key_unit(),), pts=0, dts=0, key=True), ago(50))
    stream.end_of_read()
    assert stream.meter.deliveries == 1
    assert 50 <= stream.meter.delivery_seconds < 50 + PATIENCE


async def test_what_nobody_reads_does_not_count() -> None:
    stream = make_stream(VIDEO)
    publish_data(stream, 0, rtp(1, key_unit()), ago(100))
    stream.end_of_read()
    stream.add_reader(Packets())
    assert stream.meter.deliveries == 0
    publish_data(stream, 0, rtp(2, slice_unit()), ago(1))
    stream.end_of_read()
    assert stream.meter.deliveries == 1
    assert stream.meter.delivery_seconds < 1 + PATIENCE


async def test_descriptions_do_not_count() -> None:
    stream = make_stream(VIDEO, packets=False)
    reader = Frames()
    stream.add_reader(reader)
    stream.set_codec(0, H264(SPS, PPS + b"\x00"))
    stream.flush()
    assert len(reader.entries) == 1
    assert stream.meter.deliveries == 0
    stream.set_codec(0, H264(SPS, PPS))
    stream.publish_frame(0, Frame((key_unit(),), pts=0, dts=0, key=True), ago(3))
    stream.end_of_read()
    assert stream.meter.deliveries == 1
    assert 3 <= stream.meter.delivery_seconds < 3 + PATIENCE


def test_the_longest_one_is_forgotten_after_a_minute() -> None:
    meter = StreamMeter(0.0)
    assert meter.longest_delivery == 0
    meter.began = 1.0
    meter.on_delivered(1.5)
    for second in range(60):
        assert meter.longest_delivery == 0.5, second
        meter.sample(0, float(second + 1))
    meter.sample(0, 61.0)
    assert meter.longest_delivery == 0
    assert (meter.deliveries, meter.delivery_seconds) == (1, 0.5)
