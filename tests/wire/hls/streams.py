"""Synthetic streams: real parameter sets, made-up pictures. Times and shapes as a test wants them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

from polycast.codecs import aac
from polycast.media.codec import H264, MPEG4Audio, Opus
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import Track
from polycast.wire.hls.directives import parse_directives
from polycast.wire.hls.muxer import INDEX_NAME, Muxer
from polycast.wire.hls.options import MuxerOptions
from polycast.wire.hls.resource import Answer, Refusal, Resource

SPS = bytes.fromhex("6742c028d900780227e584000003000400000300f03c60c920")
"""1920x1080, constrained baseline, level 4."""
PPS = bytes.fromhex("68ce3c80")
OTHER_SPS = bytes.fromhex("67640028acd940780227e5c05a808080a0000003002000000781e30632c0")
"""1920x1080, high profile."""
OTHER_PPS = bytes.fromhex("68ebe3cb22c0")
VIDEO = H264(SPS, PPS)
AUDIO = MPEG4Audio(aac.build_audio_specific_config(2, 48_000, 2), 48_000, 2)
OPUS = Opus(2)
START = WallTime(1_700_000_000_000_000_000)
"""2023-11-14T22:13:20Z."""

Timed = tuple[int, Frame]


def video(
    index: int, times: Iterable[tuple[int, bool]], size: int = 200, sps: bytes = SPS, pps: bytes = PPS
) -> Iterator[Timed]:
    """Yield H264 frames at the given times (90 kHz, key)."""
    for number, (time, key) in enumerate(times):
        picture = (b"\x65\x88" if key else b"\x41\x9a") + number.to_bytes(4, "big") + b"\x55" * size
        yield index, Frame((sps, pps, picture) if key else (picture,), time, time, key=key)


def audio(
    index: int, seconds: float, rate: int = 48_000, samples: int = 1024, start: int = 0, size: int = 100
) -> Iterator[Timed]:
    """Yield audio frames of ``samples`` each, in ticks of ``rate``."""
    for number in count():
        time = start + number * samples
        if time - start >= seconds * rate:
            return
        payload = number.to_bytes(4, "big") + b"\xaa" * size
        yield index, Frame((payload,), time, time, key=True, duration=samples)


def regular(seconds: float, rate: float = 30, gop: int = 30, start: int = 0) -> list[tuple[int, bool]]:
    """Return the times of a constant frame rate, each rounded down to a tick."""
    return [(start + int(number * 90_000 / rate), number % gop == 0) for number in range(int(seconds * rate))]


def merge(rates: dict[int, int], *streams: Iterable[Timed]) -> list[Timed]:
    """Return the frames of several tracks by time; ``rates`` are the clock rates by track index."""
    frames = [timed for stream in streams for timed in stream]
    return sorted(frames, key=lambda timed: (timed[1].dts / rates[timed[0]], timed[0]))


def track(index: int, codec: H264 | MPEG4Audio | Opus, **fields: str) -> Track:
    return Track(index, codec, **fields)  # type: ignore[arg-type]


def options(**fields: int | float) -> MuxerOptions:
    return MuxerOptions(prefix="t1", **fields)  # type: ignore[arg-type]


def feed(muxer: Muxer, frames: Iterable[Timed], rates: dict[int, int] | None = None) -> None:
    """Write frames, arriving at their own times."""
    for index, frame in frames:
        rate = (rates or {}).get(index, 90_000)
        seconds = frame.dts / rate
        muxer.write_frame(index, frame, seconds, WallTime(START + int(seconds * 1e9)))


def request(muxer: Muxer, name: str, query: str = "") -> Answer:
    """Answer a request for a file by its name, a path without folders, as a server does."""
    if not name.endswith(".m3u8"):
        return muxer.lookup(name) or Refusal(404, "there is no such file")
    if name == INDEX_NAME:
        return muxer.index()
    directives = parse_directives(query)
    return directives if isinstance(directives, Refusal) else muxer.playlist(name, directives)


def text(muxer: Muxer, name: str = "stream.m3u8", query: str = "") -> str:
    """Return a playlist that must be there."""
    answer = request(muxer, name, query)
    assert isinstance(answer, Resource), answer
    return answer.body.decode()
