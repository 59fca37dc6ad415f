"""The frame of the frame lane: one access unit of video, one or several coded frames of audio."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polycast.media.timebase import WallTime

ANNEX_B_START_CODE = b"\x00\x00\x00\x01"


class Frame:
    """One coded frame with its time. Immutable once given to a track.

    ``units`` depends on the codec:

    * H264, H265: the NAL units of one access unit, without start codes or length prefixes, in decoding order,
      without access unit delimiters; parameter sets are left in place where the publisher sent them
      in-band (see `Codec` for the current ones);
    * AV1: the OBUs of one temporal unit, each with its size field removed, without temporal delimiters;
    * other video, MJPEG included: exactly one element, the coded frame;
    * audio: exactly one element, one coded audio frame (AAC raw_data_block, Opus packet, MPEG audio frame, AC-3
      syncframe, FLAC frame); for sample-based codecs (G711, LPCM: big-endian samples) any whole number of samples.

    Times are in ticks of the track's clock rate (`Track.clock_rate`), not wrapped, on one timeline for all tracks of
    the stream: equal times mean simultaneous.
    """

    __slots__ = ("_cache", "_sample", "discontinuity", "dts", "duration", "key", "pts", "units", "wall_time")

    def __init__(
        self,
        units: tuple[bytes, ...],
        pts: int,
        dts: int,
        *,
        key: bool,
        wall_time: WallTime | None = None,
        duration: int | None = None,
        discontinuity: bool = False,
    ) -> None:
        self.units = units
        self.pts = pts
        """Presentation time in ticks of the track's clock rate."""
        self.dts = dts
        """Decoding time in ticks; never decreases within a track, ``dts <= pts``."""
        self.key = key
        """Decoding can start here: IDR, IRAP, key frame. Always true for audio."""
        self.wall_time = wall_time
        """Capture time if the publisher sent it (RTCP sender reports), otherwise None."""
        self.duration = duration
        """In ticks, if known from the codec (audio), otherwise None."""
        self.discontinuity = discontinuity
        """Whether the publisher's timeline restarted between the previous frame and this one: its clock was set, or
        another publisher took over. The times of the frames continue nevertheless."""
        self._cache: dict[str, bytes] | None = None
        self._sample: memoryview | None = None

    def __repr__(self) -> str:
        return f"Frame(pts={self.pts}, dts={self.dts}, key={self.key}, {len(self.units)} units, {self.size} bytes)"

    @property
    def size(self) -> int:
        """Payload size in bytes, without any framing."""
        return sum(map(len, self.units))

    def avcc(self) -> bytes:
        """Return the units with 4-byte big-endian length prefixes (ISO/IEC 14496-15), computed once."""
        return self._cached("avcc", self._build_avcc)

    def keep_avcc(self, data: memoryview) -> None:
        """Set what `avcc` returns: the publisher sent the units in this form."""
        self._sample = data

    def avcc_parts(self) -> list[bytes | memoryview]:
        """Return what `avcc` returns in parts, to be joined with something else."""
        if self._sample is not None:
            return [self._sample]
        parts: list[bytes | memoryview] = []
        for unit in self.units:
            parts.append(len(unit).to_bytes(4, "big"))
            parts.append(unit)
        return parts

    def avcc_pieces(self) -> list[bytes]:
        """Return what `avcc` returns, in pieces that can be kept: none of them is a view of a larger buffer."""
        if self._sample is not None or (self._cache is not None and "avcc" in self._cache):
            return [self.avcc()]
        pieces: list[bytes] = []
        for unit in self.units:
            pieces.append(len(unit).to_bytes(4, "big"))
            pieces.append(unit)
        return pieces

    def annexb(self) -> bytes:
        """Return the units with Annex B start codes (Rec. ITU-T H.264 Annex B), computed once."""
        return self._cached("annexb", self._build_annexb)

    def _cached(self, name: str, build: Callable[[], bytes]) -> bytes:
        cache = self._cache
        if cache is None:
            cache = self._cache = {}
        value = cache.get(name)
        if value is None:
            value = cache[name] = build()
        return value

    def _build_avcc(self) -> bytes:
        return b"".join(self.avcc_parts())

    def _build_annexb(self) -> bytes:
        parts: list[bytes] = []
        for unit in self.units:
            parts.append(ANNEX_B_START_CODE)
            parts.append(unit)
        return b"".join(parts)
