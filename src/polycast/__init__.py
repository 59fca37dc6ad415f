"""Polycast: a live media server and proxy, and a library.

Everything that programs may use is here; names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polycast._version import __version__
from polycast.providers import provide

if TYPE_CHECKING:
    from polycast.api.client import publish as publish
    from polycast.api.client import read as read
    from polycast.api.clip import Clip as Clip
    from polycast.api.errors import AccessRefused as AccessRefused
    from polycast.api.errors import ConnectionFailed as ConnectionFailed
    from polycast.api.errors import NotFound as NotFound
    from polycast.api.errors import PublishRefused as PublishRefused
    from polycast.api.errors import ReadTimeout as ReadTimeout
    from polycast.api.errors import StreamEnded as StreamEnded
    from polycast.api.frames import AudioFrame as AudioFrame
    from polycast.api.frames import CodedFrame as CodedFrame
    from polycast.api.frames import VideoFrame as VideoFrame
    from polycast.api.hooks import AuthenticationRequest as AuthenticationRequest
    from polycast.api.inbox import Event as Event
    from polycast.api.inbox import EventKind as EventKind
    from polycast.api.reader import Reader as Reader
    from polycast.api.recorded import RecordedFrames as RecordedFrames
    from polycast.api.recordings import RecordedPeriod as RecordedPeriod
    from polycast.api.recordings import RecordingRequest as RecordingRequest
    from polycast.api.recordings import Recordings as Recordings
    from polycast.api.recordings import recordings as recordings
    from polycast.api.server import Server as Server
    from polycast.api.serving import serve as serve
    from polycast.api.statistics import ServerStatistics as ServerStatistics
    from polycast.api.statistics import SessionStatistics as SessionStatistics
    from polycast.api.statistics import StreamStatistics as StreamStatistics
    from polycast.api.together import Together as Together
    from polycast.api.together import together as together
    from polycast.api.writer import CodedWriter as CodedWriter
    from polycast.api.writer import Writer as Writer
    from polycast.app import StartError as StartError
    from polycast.errors import ConfigurationError as ConfigurationError
    from polycast.errors import MissingDependency as MissingDependency
    from polycast.errors import PolycastError as PolycastError
    from polycast.errors import UnsupportedCodec as UnsupportedCodec
    from polycast.media.codec import AC3 as AC3
    from polycast.media.codec import AV1 as AV1
    from polycast.media.codec import EAC3 as EAC3
    from polycast.media.codec import FLAC as FLAC
    from polycast.media.codec import G711 as G711
    from polycast.media.codec import G722 as G722
    from polycast.media.codec import H264 as H264
    from polycast.media.codec import H265 as H265
    from polycast.media.codec import LPCM as LPCM
    from polycast.media.codec import MJPEG as MJPEG
    from polycast.media.codec import VP8 as VP8
    from polycast.media.codec import VP9 as VP9
    from polycast.media.codec import Codec as Codec
    from polycast.media.codec import MPEG4Audio as MPEG4Audio
    from polycast.media.codec import MPEGAudio as MPEGAudio
    from polycast.media.codec import Opus as Opus
    from polycast.media.track import Track as Track


def _protocols() -> tuple[Any, ...]:
    from polycast.protocols.registry import protocols

    return protocols()


provide(_protocols)

_HOMES = {
    "polycast.api.client": ("publish", "read"),
    "polycast.api.clip": ("Clip",),
    "polycast.api.errors": (
        "AccessRefused",
        "ConnectionFailed",
        "NotFound",
        "PublishRefused",
        "ReadTimeout",
        "StreamEnded",
    ),
    "polycast.api.frames": ("AudioFrame", "CodedFrame", "VideoFrame"),
    "polycast.api.hooks": ("AuthenticationRequest",),
    "polycast.api.inbox": ("Event", "EventKind"),
    "polycast.api.reader": ("Reader",),
    "polycast.api.recorded": ("RecordedFrames",),
    "polycast.api.recordings": ("RecordedPeriod", "RecordingRequest", "Recordings", "recordings"),
    "polycast.api.server": ("Server",),
    "polycast.api.serving": ("serve",),
    "polycast.api.statistics": ("ServerStatistics", "SessionStatistics", "StreamStatistics"),
    "polycast.api.together": ("Together", "together"),
    "polycast.api.writer": ("CodedWriter", "Writer"),
    "polycast.app": ("StartError",),
    "polycast.errors": ("ConfigurationError", "MissingDependency", "PolycastError", "UnsupportedCodec"),
    "polycast.media.codec": (
        "AC3",
        "AV1",
        "EAC3",
        "FLAC",
        "G711",
        "G722",
        "H264",
        "H265",
        "LPCM",
        "MJPEG",
        "VP8",
        "VP9",
        "Codec",
        "MPEG4Audio",
        "MPEGAudio",
        "Opus",
    ),
    "polycast.media.track": ("Track",),
}
"""Where each public name is defined."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'polycast' has no attribute '{name}'")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
