"""That `copies.compare_copy` finds what it is there to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from tests.interop.copies import AUDIO, VIDEO, compare_copy
from tests.interop.tools import HashedPacket

RATES = {VIDEO: 30, AUDIO: 50}
PUBLISHED = [
    HashedPacket(track, index / rate, 100, f"{track}-{index}", index / rate)
    for track, rate in RATES.items()
    for index in range(200)
]


def copy(seconds: float = 3.0) -> list[HashedPacket]:
    """What a reader gets that comes after a second and takes that moment for 0."""
    return [
        dataclasses.replace(packet, pts=packet.pts - 1, dts=packet.dts - 1)
        for packet in PUBLISHED
        if 1 <= packet.pts < 1 + seconds
    ]


def check(received: list[HashedPacket]) -> None:
    compare_copy(PUBLISHED, received, least={VIDEO: 60, AUDIO: 100}, tolerance=0.001, settling={VIDEO: 10, AUDIO: 10})


def without(track: int) -> list[HashedPacket]:
    packets = copy()
    packets.remove([packet for packet in packets if packet.stream == track][40])
    return packets


def changed(track: int, position: int = 40, **changes: object) -> list[HashedPacket]:
    packets = copy()
    packet = [packet for packet in packets if packet.stream == track][position]
    packets[packets.index(packet)] = dataclasses.replace(packet, **changes)  # type: ignore[arg-type]
    return packets


def shifted(track: int, seconds: float) -> list[HashedPacket]:
    return [
        dataclasses.replace(packet, pts=packet.pts + seconds) if packet.stream == track else packet for packet in copy()
    ]


def test_a_copy() -> None:
    check(copy())
    check(changed(AUDIO, 5, pts=7.0))  # it has not settled yet


@pytest.mark.parametrize("track", [VIDEO, AUDIO])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda track: [packet for packet in copy() if packet.stream != track], "was never published"),
        (lambda track: copy(1.5), "only"),
        (without, "differs"),
        (lambda track: changed(track, digest="other"), "differs"),
        (lambda track: changed(track, 0, digest="other"), "was never published"),
        (lambda track: changed(track, pts=1.5), "beside"),
        (lambda track: shifted(track, 0.02), "beside"),
    ],
)
def test_what_is_not_a_copy(track: int, spoil: Callable[[int], list[HashedPacket]], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(spoil(track))
