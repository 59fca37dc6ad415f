"""Movie fragments (ISO/IEC 14496-12 section 8.8): moof and mdat of some samples of some tracks."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

KEY_SAMPLE = 0x02000000
"""Sample flags: does not depend on other samples, is a sync sample (section 8.8.3.1)."""
OTHER_SAMPLE = 0x01010000
"""Sample flags: depends on other samples, is not a sync sample."""

_VERSION_1 = 0x01000000
_DEFAULT_BASE_IS_MOOF = 0x020000
_DEFAULT_SAMPLE_FLAGS = 0x000020
_DATA_OFFSET = 0x000001
_SAMPLE_DURATION = 0x000100
_SAMPLE_SIZE = 0x000200
_SAMPLE_FLAGS = 0x000400
_SAMPLE_COMPOSITION_OFFSET = 0x000800
_PLAIN_ROW = 2
"""Numbers of a sample in the table."""
_FULL_ROW = 4
_PLAIN_RUN = _DATA_OFFSET | _SAMPLE_DURATION | _SAMPLE_SIZE
_FULL_RUN = _PLAIN_RUN | _SAMPLE_FLAGS | _SAMPLE_COMPOSITION_OFFSET


class SampleRun:
    """Consecutive samples of one track, which become one track fragment.

    ``payloads`` are the samples' bytes, in pieces, ``table`` the rows of the run as flat numbers: duration and size for
    a plain run, duration, size, flags and composition offset (modulo 2**32) for a full one.
    """

    __slots__ = ("base_time", "full", "payloads", "size", "table", "track_id")

    def __init__(self, track_id: int, base_time: int, full: bool) -> None:
        self.track_id = track_id
        self.base_time = base_time
        """Decoding time of the first sample in ticks of the track, 0 or more."""
        self.full = full
        """Whether the samples have flags and composition offsets, as those of video do."""
        self.payloads: list[bytes] = []
        self.table: list[int] = []
        self.size = 0
        """Bytes of all payloads."""

    def append(self, payload: bytes, duration: int, composition_offset: int, key: bool) -> None:
        """Add a sample. ``duration`` and ``composition_offset`` (may be negative) in ticks of the track."""
        self.append_pieces((payload,), duration, composition_offset, key)

    def append_pieces(self, pieces: Sequence[bytes], duration: int, composition_offset: int, key: bool) -> int:
        """Add a sample without joining its pieces, and return its size."""
        size = sum(map(len, pieces))
        self.payloads += pieces
        self.size += size
        if self.full:
            flags = KEY_SAMPLE if key else OTHER_SAMPLE
            self.table += (duration, size, flags, composition_offset & 0xFFFFFFFF)
        else:
            self.table += (duration, size)
        return size


def build_fragment(sequence: int, runs: Sequence[SampleRun]) -> bytes:
    """Return moof and mdat with the given runs, each with at least one sample.

    ``sequence`` is the number of the fragment (section 8.8.5), counted from 1, written modulo 2**32.
    """
    return b"".join(fragment_pieces(sequence, runs))


def fragment_pieces(sequence: int, runs: Sequence[SampleRun]) -> list[bytes]:
    """Return what `build_fragment` returns in pieces: the moof box with the header of mdat, and the samples."""
    run_sizes = [20 + 4 * len(run.table) for run in runs]
    moof_size = 24 + sum(run_sizes) + 48 * len(runs)
    data_offset = moof_size + 8
    heads = [pack(">I4sI4sII", moof_size, b"moof", 16, b"mfhd", 0, sequence & 0xFFFFFFFF)]
    for run, run_size in zip(runs, run_sizes, strict=True):
        heads.append(_build_track_fragment(run, run_size, data_offset))
        data_offset += run.size
    heads.append(pack(">I4s", data_offset - moof_size, b"mdat"))
    pieces: list[bytes] = [b"".join(heads)]
    for run in runs:
        pieces += run.payloads
    return pieces


def _build_track_fragment(run: SampleRun, run_size: int, data_offset: int) -> bytes:
    return pack(
        f">I4sI4sIIII4sIQI4sIII{len(run.table)}I",
        48 + run_size,
        b"traf",
        20,
        b"tfhd",
        _DEFAULT_BASE_IS_MOOF | _DEFAULT_SAMPLE_FLAGS,
        run.track_id,
        OTHER_SAMPLE if run.full else KEY_SAMPLE,
        20,
        b"tfdt",
        _VERSION_1,
        run.base_time,
        run_size,
        b"trun",
        _VERSION_1 | (_FULL_RUN if run.full else _PLAIN_RUN),
        len(run.table) // (_FULL_ROW if run.full else _PLAIN_ROW),
        data_offset,
        *run.table,
    )
