"""The capability exchange of Enhanced RTMP, as part of ``connect``."""

from __future__ import annotations

from enum import IntFlag

from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.events import Capabilities
from polycast.wire.rtmp.messages import number_member
from polycast.wire.rtmp.supported import AUDIO_FOUR_CCS, VIDEO_FOUR_CCS

MAXIMUM_FOUR_CCS = 100
"""Codecs that a peer may announce."""


class CapabilityFlag(IntFlag):
    """Bits of ``capsEx``."""

    RECONNECT = 1
    MULTITRACK = 2
    MOD_EX = 4
    TIMESTAMP_NANO_OFFSET = 8


class CodecFlag(IntFlag):
    """Bits of the values in ``videoFourCcInfoMap`` and ``audioFourCcInfoMap``."""

    CAN_DECODE = 1
    CAN_ENCODE = 2
    CAN_FORWARD = 4


def parse_capabilities(values: dict[str, Value]) -> Capabilities:
    """Return the capabilities announced by a ``connect`` object or its response."""
    names: set[str] = set()
    codecs = values.get("fourCcList")
    if isinstance(codecs, list):
        names.update(name for name in codecs[:MAXIMUM_FOUR_CCS] if isinstance(name, str))
    for member in ("videoFourCcInfoMap", "audioFourCcInfoMap"):
        codecs = values.get(member)
        if isinstance(codecs, dict):
            names.update(list(codecs)[:MAXIMUM_FOUR_CCS])
    flags = _bits(values, "capsEx")
    return Capabilities(
        frozenset(names),
        _bits(values, "audioCodecs"),
        bool(flags & CapabilityFlag.RECONNECT),
        bool(flags & CapabilityFlag.MULTITRACK),
        bool(flags & CapabilityFlag.MOD_EX),
        bool(flags & CapabilityFlag.TIMESTAMP_NANO_OFFSET),
    )


def _bits(values: dict[str, Value], name: str) -> int:
    """Return a member that is a set of bits; 0 if it does not fit into 32 bits, such as infinity and NaN."""
    number = number_member(values, name)
    return int(number) if number is not None and 0 <= number < 1 << 32 else 0


def announce_capabilities() -> dict[str, Value]:
    """Return the members that announce what Polycast supports: all codecs, forwarded unchanged."""
    flags = CapabilityFlag.MULTITRACK | CapabilityFlag.MOD_EX | CapabilityFlag.TIMESTAMP_NANO_OFFSET
    video: list[str] = [name.decode("ascii") for name in VIDEO_FOUR_CCS]
    audio: list[str] = [name.decode("ascii") for name in AUDIO_FOUR_CCS]
    return {
        "fourCcList": [*video, *audio],
        "videoFourCcInfoMap": {name: float(CodecFlag.CAN_FORWARD) for name in video},
        "audioFourCcInfoMap": {name: float(CodecFlag.CAN_FORWARD) for name in audio},
        "capsEx": float(flags),
    }
