"""Types of the arguments of ``read`` and ``publish``: names that have a fixed set of values, and the common options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypedDict

from polycast.api.inbox import Event

ArrayFormat = Literal["bgr24", "rgb24", "gray", "bgra", "rgba", "yuv420p", "nv12"]
"""Formats of arrays, by FFmpeg's names."""

VideoCodecName = Literal["h264", "h265", "vp8", "vp9", "av1", "mjpeg"]
"""What `publish` encodes pictures to."""

AudioCodecName = Literal["aac", "opus", "pcmu", "pcma"]
"""What `publish` encodes audio to."""

Transport = Literal["tcp", "udp", "multicast", "automatic"]
"""How RTSP carries media."""

OnEvent = Callable[[Event], object]
"""What is called with each event."""


class WaitingOptions(TypedDict, total=False):
    """Options of every reader."""

    buffer: int | None
    timeout: float | None
    reconnect: bool
    on_event: OnEvent | None


class ReadOptions(WaitingOptions, total=False):
    """Options of readers of streams, see `Server.read`."""

    history: float


class DecodeOptions(ReadOptions, total=False):
    """Options of readers that decode, see `Server.read`."""

    format: ArrayFormat
    hardware: bool


class RemoteOptions(ReadOptions, total=False):
    """Options of readers of other servers, see `read`."""

    transport: Transport
    fingerprint: str


class RemoteDecodeOptions(DecodeOptions, total=False):
    """Options of readers of other servers, and of webcams given by name, that decode, see `read`."""

    transport: Transport
    fingerprint: str
    size: tuple[int, int] | None
    rate: float | None


class WebcamOptions(WaitingOptions, total=False):
    """Options of readers of webcams, see `read`."""

    format: ArrayFormat
    size: tuple[int, int] | None
    rate: float | None


class RecordedOptions(TypedDict, total=False):
    """Options of readers of recordings and files, see `read`."""

    format: ArrayFormat
