"""Interleaved frames: packets on an RTSP connection, each after a header with a channel number and its size
(RFC 2326 section 10.12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct
from typing import Final

from polycast.media.packet_buffer import Framing, PacketBuffer

DOLLAR: Final = 0x24
"""First byte of each frame."""
HEADER_SIZE: Final = 4
HEADER: Final = Struct(">BBH")
"""Dollar sign, channel, bytes of the payload."""

RUN_LIMIT: Final = 256
"""Maximum number of frames in one run, so that a read of tiny frames is processed in parts; a read of 256 KiB has about
200 packets of video."""

SHAPE_LIMIT: Final = 512
"""Pairs of frame size and number of frames whose reader of headers is kept; at 8 KiB for `RUN_LIMIT` frames, they take
4 MiB at most, whatever clients send."""

_FRAMINGS: Final = tuple(Framing(HEADER_SIZE, f"interleaved channel {channel}") for channel in range(256))

_INTERLEAVED: Final = frozenset(_FRAMINGS)

_unpack_header: Final = HEADER.unpack_from


def interleaved_frame(channel: int, payload: bytes) -> bytes:
    """Return one frame of at most 65535 bytes of payload."""
    return HEADER.pack(DOLLAR, channel, len(payload)) + payload


def interleaved_framing(channel: int) -> Framing | None:
    """Return the framing of a channel; None for -1, which means no channel."""
    return _FRAMINGS[channel] if channel >= 0 else None


def is_interleaved(framing: Framing | None) -> bool:
    """Whether packets with this framing are interleaved frames, on whatever channel."""
    return framing in _INTERLEAVED


class InterleavedRun(PacketBuffer, eq=False, gc=False):
    """Consecutive interleaved frames of one channel in one buffer; the payloads are the packets."""

    channel: int = 0
    is_last: bool = False
    """Whether the parser has nothing more, so that it need not be called again."""

    def frames(self) -> Iterator[tuple[int, int, int]]:
        """Yield ``(channel, start, end)`` of each frame: ``data[start:end]`` is its payload."""
        for start, end in self.bounds():
            yield self.channel, start, end


def uniform_run(data: bytes, start: int, limit: int) -> InterleavedRun | None:
    """Return the frames in ``data[start:]``, which begins with the header of one, if it is nothing but frames of
    one channel and size, the last one perhaps smaller; otherwise None. ``limit``: see `next_run`.

    A shortcut for `next_run`: all headers are read and compared at once.
    """
    _, channel, size = _unpack_header(data, start)
    stride = size + HEADER_SIZE
    end = len(data)
    count, rest = divmod(end - start, stride)
    if size > limit or not 0 < count < RUN_LIMIT:
        return None
    if count > 1:
        headers = _unpack_headers(stride, count)(data, start)
        if headers.count(headers[0]) != count:
            return None
    if rest:
        if rest < HEADER_SIZE or _unpack_header(data, end - rest) != (DOLLAR, channel, rest - HEADER_SIZE):
            return None
        count += 1
    return InterleavedRun(_FRAMINGS[channel], data, start, end, count, stride, (), channel, True)


@lru_cache(SHAPE_LIMIT)
def _unpack_headers(stride: int, count: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """Return a function that returns the headers of ``count`` frames of ``stride`` bytes."""
    between = f"{HEADER_SIZE}s{stride - HEADER_SIZE}x"
    return Struct(between * (count - 1) + f"{HEADER_SIZE}s").unpack_from


def next_run(data: bytes, start: int, limit: int) -> InterleavedRun | None:
    """Return the frames of one channel from ``start`` on, where the header of one is: `RUN_LIMIT` at most, none with a
    payload of more than ``limit`` bytes. None if not even the first one is whole, or it is over the limit."""
    size = len(data)
    last_header = size - HEADER_SIZE
    sizes: list[int] = []
    channel = data[start + 1]
    position = start
    while position <= last_header and len(sizes) < RUN_LIMIT:
        dollar, its_channel, length = _unpack_header(data, position)
        end = position + HEADER_SIZE + length
        if its_channel != channel or dollar != DOLLAR or length > limit or end > size:
            break
        sizes.append(length)
        position = end
    count = len(sizes)
    if not count:
        return None
    is_last = position == size
    first, last = sizes[0], sizes[-1]
    framing, stride = _FRAMINGS[channel], 0
    if last <= first and sizes.count(first) == count - (last < first):
        stride, sizes = first + HEADER_SIZE, []
    return InterleavedRun(framing, data, start, position, count, stride, sizes, channel, is_last)
