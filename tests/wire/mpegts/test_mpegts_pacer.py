"""Transport streams are sent evenly, and their clock says when: measured as a receiver does it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from tests.wire.hls.streams import AUDIO, VIDEO, audio, merge, regular, track, video

from polycast.media.timebase import rescale
from polycast.wire.mpegts import pacer as pacer_module
from polycast.wire.mpegts.muxer import Muxer
from polycast.wire.mpegts.pacer import DELAY, Pacer

RATES = {0: 90_000, 1: 48_000}
START = 5000.0


def stream(seconds: int, size: int = 8000) -> list[tuple[float, bytes]]:
    """Return packets and when they are made: pictures, the first of each second ten times as large, and sound."""
    muxer = Muxer((track(0, VIDEO), track(1, AUDIO)))
    lanes = merge(
        RATES,
        [(0, frame) for _, frame in video(0, regular(seconds), size=size)],
        audio(1, seconds),
    )
    made = []
    for index, frame in lanes:
        time = rescale(frame.dts, RATES[index], 90_000)
        tables = muxer.tables() if frame.key and index == 0 else b""
        made.append((time / 90_000, tables + muxer.write_frame(index, frame, time, time)))
    return made


def clocks(datagrams: list[tuple[float, bytes]]) -> list[tuple[float, float, bool]]:
    """Return when each PCR was sent, its time in seconds, and whether it is marked as discontinuous (ISO/IEC 13818-1
    section 2.4.3.4)."""
    found = []
    for time, datagram in datagrams:
        for start in range(0, len(datagram), 188):
            packet = datagram[start : start + 188]
            assert packet[0] == 0x47
            if packet[3] & 0x20 and packet[4] > 0 and packet[5] & 0x10:
                bits = int.from_bytes(packet[6:12], "big")
                ticks = (bits >> 15) * 300 + (bits & 0x1FF)
                found.append((time, ticks / 27e6, bool(packet[5] & 0x80)))
    return found


def run(pacer: Pacer, made: list[tuple[float, bytes]], *, lag: float = 0.0, seed: int = 0) -> list[tuple[float, bytes]]:
    """Send in steps of a millisecond, up to ``lag`` seconds late; return the datagrams with their times."""
    chance = random.Random(seed)
    now, sent, left = START, [], list(made)
    while left or pacer.held:
        while left and START + left[0][0] <= now:
            pacer.receive_data(left.pop(0)[1], now)
        if not left:
            pacer.finish()
        late = now + chance.random() * lag
        while (datagram := pacer.next_datagram(late)) is not None:
            sent.append((late, datagram))
        now += 0.001
    return sent


def accuracy(found: list[tuple[float, float, bool]]) -> float:
    """Return by how many seconds the clock differs from that of the receiver at most."""
    offsets = [time - clock for time, clock, _ in found]
    return max(offsets) - min(offsets)


@pytest.mark.parametrize("lag", [0.0, 0.004])
def test_the_clock_is_exact_and_the_packets_are_even(lag: float) -> None:
    made = stream(10)
    sent = run(Pacer(7), made, lag=lag)
    found = clocks(sent)
    assert len(found) == 300
    assert accuracy(found) < 1e-6
    assert max(later[0] - earlier[0] for earlier, later in pairwise(found)) < 0.04
    assert b"".join(data for _, data in sent)[:4] == made[0][1][:4]
    assert sum(len(data) for _, data in sent) == sum(len(data) for _, data in made), "nothing is lost"
    # A frame of 8,000 bytes comes at once, and leaves within the time to the next one.
    rates = [sum(len(data) for time, data in sent if begin <= time < begin + 0.01) for begin in
             [START + 2 + 0.01 * step for step in range(100)]]  # fmt: skip
    assert max(rates) < 4 * sum(rates) / len(rates)
    assert {len(data) for _, data in sent} <= {188 * count for count in range(1, 8)}


def test_frames_that_come_irregularly() -> None:
    chance = random.Random(1)
    made = sorted((time + chance.random() * 0.1, index, data) for index, (time, data) in enumerate(stream(10)))
    late = 0.0
    ordered = []
    for time, _, data in sorted(made, key=lambda item: item[1]):  # none overtakes another one
        late = max(late, time)
        ordered.append((late, data))
    found = clocks(run(Pacer(7), ordered))
    assert accuracy(found) < 5e-6, "while it begins to follow"
    assert not any(is_discontinuous for _, _, is_discontinuous in found)


def test_what_comes_at_once_is_sent_in_its_time() -> None:
    """Segments of HLS: four seconds of frames at once."""
    made = [(time // 4 * 4, data) for time, data in stream(12)]
    sent = run(Pacer(7), made)
    found = clocks(sent)
    assert accuracy(found) < 1e-6
    assert sent[-1][0] - sent[0][0] == pytest.approx(12, abs=0.2)


def test_a_stream_that_pauses_goes_on() -> None:
    made = stream(6)
    paused = [(time + (2.0 if time >= 3 else 0.0), data) for time, data in made]
    sent = run(Pacer(7), paused)
    found = clocks(sent)
    assert sum(len(data) for _, data in sent) == sum(len(data) for _, data in made)
    assert sum(is_discontinuous for _, _, is_discontinuous in found) == 1
    place = next(index for index, item in enumerate(found) if item[2])
    assert accuracy(found[:place]) < 1e-6
    assert accuracy(found[place:]) < 1e-6


@pytest.mark.parametrize("jump", [-1000.0, 1000.0])
def test_a_clock_that_jumps(jump: float) -> None:
    muxer = Muxer((track(0, VIDEO),))
    made = []
    for number, (_, frame) in enumerate(video(0, regular(6))):
        time = frame.dts + 100_000_000 + (round(jump * 90_000) if number >= 90 else 0)
        if number == 90 and jump < 0:  # an encoder that starts again
            muxer = Muxer((track(0, VIDEO),))
        made.append((frame.dts / 90_000, muxer.write_frame(0, frame, time, time)))
    sent = run(Pacer(7), made)
    found = clocks(sent)
    assert [index for index, item in enumerate(found) if item[2]] == [90]
    assert accuracy(found[:90]) < 1e-6
    assert accuracy(found[90:]) < 1e-6
    assert sent[-1][0] - sent[0][0] == pytest.approx(6, abs=0.2), "without a pause"


@pytest.mark.parametrize("skew", [-100e-6, 100e-6])
def test_the_clock_of_an_encoder_is_followed(skew: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 ppm are 0.36 s in an hour: without following, a slower one would run out, and a faster one be ever later."""
    monkeypatch.setattr(pacer_module, "_MAXIMUM_SLEW", 200e-6)
    pacer, muxer, now = Pacer(7), Muxer((track(0, VIDEO),)), START
    slacks = []
    for number, (_, frame) in enumerate(video(0, regular(1200, rate=10))):
        now = START + frame.dts / 90_000 * (1 + skew)
        time = frame.dts
        pacer.receive_data(muxer.write_frame(0, frame, time, time), now)
        while pacer.next_datagram(now) is not None:
            pass
        if number % 100 == 99:
            slacks.append(pacer._base + pacer._pcr - now)  # type: ignore[operator]
    assert all(abs(slack - DELAY) < 0.05 for slack in slacks[5:])


def test_no_more_is_held_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacer_module, "MAXIMUM_HELD", 100)
    pacer = Pacer(7)
    for _, data in stream(5):
        pacer.receive_data(data, START)
    assert pacer.held <= 100
    assert pacer.dropped > 0


def test_slow_streams_do_not_wait_for_full_datagrams() -> None:
    muxer = Muxer((track(1, AUDIO),))
    made = []
    for _, frame in audio(1, 5):
        time = rescale(frame.dts, 48_000, 90_000)
        made.append((time / 90_000, muxer.write_frame(0, frame, time, time)))
    sent = run(Pacer(7), made)
    assert max(later[0] - earlier[0] for earlier, later in pairwise(sent)) < 0.1
