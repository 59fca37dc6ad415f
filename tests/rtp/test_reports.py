"""Reception statistics, sender reports and round trips."""

from __future__ import annotations

import dataclasses

import pytest

from polycast.media.timebase import NANOSECONDS, WallTime, ntp_to_wall_time, wall_time_to_ntp
from polycast.rtp.reports import ReceiverStatistics, SenderReportSource, round_trip

EPOCH = WallTime(1_700_000_000 * NANOSECONDS)


def wall(seconds: float) -> WallTime:
    return WallTime(EPOCH + round(seconds * NANOSECONDS))


def test_no_report_before_the_first_packet() -> None:
    assert ReceiverStatistics(8000).report_block(1, 0.0) is None


def test_losses() -> None:
    statistics = ReceiverStatistics(90_000)
    for sequence in (65_533, 65_534, 65_535, 2, 3):
        statistics.update(sequence, 0, 0.0)
    block = statistics.report_block(7, 1.0)
    assert block is not None
    assert (block.ssrc, block.cumulative_lost, block.highest_sequence) == (7, 2, 65_536 + 3)
    assert block.fraction_lost == 2 * 256 // 7
    for sequence in range(4, 14):
        statistics.update(sequence, 0, 0.0)
    block = statistics.report_block(7, 2.0)
    assert block is not None
    assert (block.fraction_lost, block.cumulative_lost) == (0, 2)
    assert statistics.cumulative_lost == 2


def test_duplicates_make_the_loss_negative() -> None:
    statistics = ReceiverStatistics(90_000)
    for sequence in (1, 2, 2, 2):
        statistics.update(sequence, 0, 0.0)
    block = statistics.report_block(7, 1.0)
    assert block is not None
    assert (block.cumulative_lost, block.fraction_lost) == (-2, 0)


def test_reordering_is_no_loss() -> None:
    statistics = ReceiverStatistics(90_000)
    for sequence in (65_534, 0, 65_535, 1):
        statistics.update(sequence, 0, 0.0)
    block = statistics.report_block(7, 1.0)
    assert block is not None
    assert (block.cumulative_lost, block.highest_sequence) == (0, 65_537)


def test_restart_needs_two_packets() -> None:
    statistics = ReceiverStatistics(90_000)
    for sequence in (10, 11, 30_000, 12):
        statistics.update(sequence, 0, 0.0)
    assert (statistics.highest_sequence, statistics.cumulative_lost) == (12, 0)
    for sequence in (30_000, 30_001, 30_002):
        statistics.update(sequence, 0, 0.0)
    assert (statistics.highest_sequence, statistics.cumulative_lost) == (30_002, 0)


def test_jitter() -> None:
    """The worked example of RFC 3550 appendix A.8: J += (|D| - J) / 16."""
    statistics = ReceiverStatistics(8000)
    expected, last = 0.0, None
    timestamp = 0xFFFFFF00
    for sequence, late in enumerate((0.0, 0.005, 0.0, 0.01, 0.0, 0.0)):
        statistics.update(sequence, (timestamp + 160 * sequence) & 0xFFFFFFFF, 100 + 0.02 * sequence + late)
        if last is not None:
            expected += (abs(late - last) * 8000 - expected) / 16
        last = late
    assert statistics.jitter_seconds == pytest.approx(expected / 8000, abs=1e-9)
    block = statistics.report_block(1, 200.0)
    assert block is not None
    assert block.jitter == int(expected)


def test_packets_of_one_frame_do_not_count_as_jitter() -> None:
    statistics = ReceiverStatistics(90_000)
    for sequence in range(30):
        frame, part = divmod(sequence, 3)
        statistics.update(sequence, 3600 * frame, 0.04 * frame + 0.005 * part)
    assert statistics.jitter_seconds == pytest.approx(0, abs=1e-9)


def test_last_report_and_round_trip() -> None:
    """RFC 3550 figure 2: the round trip is 6.125 - 5.25 - ... = what was on the way."""
    ntp_sent = wall_time_to_ntp(wall(0))
    statistics = ReceiverStatistics(90_000)
    statistics.update(1, 0, 50.0)
    statistics.on_sender_report(ntp_sent, 50.0)
    block = statistics.report_block(1, 55.25)
    assert block is not None
    assert block.last_sender_report == ntp_sent >> 16 & 0xFFFFFFFF
    assert block.delay_since_last_sender_report == round(5.25 * 65_536)
    ntp_now = wall_time_to_ntp(wall(5.25 + 0.125))
    found = round_trip(block.last_sender_report, block.delay_since_last_sender_report, ntp_now)
    assert found == pytest.approx(0.125, abs=1e-4)


def test_round_trip_without_report_or_with_a_fast_clock_is_zero() -> None:
    assert round_trip(0, 0, wall_time_to_ntp(wall(0))) == 0.0
    ntp = wall_time_to_ntp(wall(0))
    assert round_trip(ntp >> 16 & 0xFFFFFFFF, 655, ntp) == 0.0


def test_sender_report_without_publisher_clock() -> None:
    source = SenderReportSource(90_000)
    assert source.report(1, 0.0, wall(0), 0, 0) is None
    assert source.wall_time_of(0) is None
    source.on_packet(0xFFFFFFF0, 10.0, wall(0))
    # Jitter of 50 ms does not get into the mapping.
    source.on_packet((0xFFFFFFF0 + 90_000) & 0xFFFFFFFF, 11.05, wall(1.05))
    assert source.wall_time_of((0xFFFFFFF0 + 90_000) & 0xFFFFFFFF) == wall(1)
    report = source.report(7, 12.05, wall(2.05), 3, 4)
    assert report is not None
    assert (report.ssrc, report.packet_count, report.octet_count) == (7, 3, 4)
    assert report.rtp_timestamp == (0xFFFFFFF0 + 180_000) & 0xFFFFFFFF
    assert abs(ntp_to_wall_time(report.ntp) - wall(2)) <= 1


def test_drift_of_the_publisher_is_followed() -> None:
    source = SenderReportSource(1000)
    source.on_packet(0, 0.0, wall(0))
    source.on_packet(1000, 1.19, wall(1.19))
    assert source.wall_time_of(1000) == wall(1)
    source.on_packet(2000, 2.21, wall(2.21))
    assert source.wall_time_of(2000) == wall(2.21)


def test_mapping_of_the_publisher_is_passed_on() -> None:
    source = SenderReportSource(90_000)
    source.on_packet(5000, 10.0, wall(0))
    source.on_publisher_report(0, 1, 10.0)
    assert source.wall_time_of(5000) == wall(0), "a report without a clock says nothing"
    source.on_publisher_report(wall_time_to_ntp(wall(1000)), 5000, 10.0)
    source.on_packet(5000 + 90_000, 11.5, wall(1.5))
    assert abs((source.wall_time_of(95_000) or 0) - wall(1001)) <= 1
    report = source.report(7, 11.5, wall(1.5), 0, 0)
    assert report is not None
    assert report.rtp_timestamp == 95_000
    assert abs(ntp_to_wall_time(report.ntp) - wall(1001)) <= 1


def test_mapping_survives_many_wraps() -> None:
    """32 bits of 90 kHz last 13 hours."""
    source = SenderReportSource(90_000)
    for minute in range(0, 60 * 48, 10):
        seconds = minute * 60
        source.on_packet(seconds * 90_000 & 0xFFFFFFFF, seconds, wall(seconds))
        assert source.wall_time_of(seconds * 90_000 & 0xFFFFFFFF) == wall(seconds)


def test_tracks_that_share_one_sync_point() -> None:
    source = SenderReportSource(48_000)
    source.on_sync_point(5000, wall(100))
    # The track arrives late, and unevenly: it stays where the moment puts it.
    source.on_packet(5000 + 24_000, 10.0, wall(101.2))
    source.on_packet(5000 + 48_000, 10.2, wall(101.4))
    assert source.wall_time_of(5000 + 48_000) == wall(101)
    source.on_publisher_report(wall_time_to_ntp(wall(500)), 5000, 11.0)
    source.on_sync_point(5000, wall(100))
    assert abs((source.wall_time_of(5000) or 0) - wall(500)) <= 1, "the publisher knows better"


@pytest.mark.parametrize("late", [-3.0, 3.0])
def test_an_estimated_sync_point(late: float) -> None:
    source = SenderReportSource(48_000)
    source.on_sync_point(5000, wall(100))
    source.on_packet(5000, 10.0, wall(100 + late))
    assert source.wall_time_of(5000) == wall(100 + late)
    source.on_packet(5000 + 48_000, 11.5, wall(101.5 + late))
    assert source.wall_time_of(5000 + 48_000) == wall(101.5 + late), "jitter has its usual limit again"


def test_a_receiver_report_shows_the_round_trip() -> None:
    source = SenderReportSource(90_000)
    # The publisher's clock is a year off; what counts is when the report was sent.
    source.on_publisher_report(wall_time_to_ntp(wall(-31_536_000)), 1000, 50.0)
    source.on_packet(1000, 50.0, wall(0))
    report = source.report(7, 60.0, wall(10), 1, 1)
    assert report is not None
    receiver = ReceiverStatistics(90_000)
    receiver.update(1, 0, 0.0)
    receiver.on_sender_report(report.ntp, 100.0)
    block = receiver.report_block(7, 103.0)
    assert block is not None
    assert source.round_trip(block, 63.25) == pytest.approx(0.25, abs=1e-4)
    assert source.round_trip(dataclasses.replace(block, last_sender_report=0), 63.25) is None
    assert source.round_trip(dataclasses.replace(block, last_sender_report=12345), 63.25) is None
    for second in range(1000):
        source.report(7, 61.0 + second, wall(11 + second), 1, 1)
    assert source.round_trip(block, 1100.0) is None
