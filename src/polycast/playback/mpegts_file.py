"""Recorded files in MPEG-TS: their frames become samples of MP4."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from polycast.errors import ProtocolError
from polycast.media.codec import H264, H265, Codec, Kind
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, TimestampExtender, rescale, rescale_nearest
from polycast.playback.files import Piece, UnreadableFile
from polycast.wire.mp4.boxes import read_header
from polycast.wire.mp4.file_codecs import CODECS
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization
from polycast.wire.mp4.recorded_movie import Place, RecordedTrack, read_recorded_movie
from polycast.wire.mp4.runs import Run
from polycast.wire.mpegts.codecs import make_parser
from polycast.wire.mpegts.constants import CLOCK_RATE, PACKET_SIZE, SYNC_BYTE, TIMESTAMP_BITS
from polycast.wire.mpegts.elementary import ElementaryParser
from polycast.wire.mpegts.psi import ElementaryStream, ProgramMap
from polycast.wire.mpegts.units import UnitStart, find_program, find_unit_starts, read_units

BLOCK: Final = 2048 * PACKET_SIZE
"""Bytes that are read at once."""
MAXIMUM_PROBE: Final = 32 * BLOCK
"""Bytes at the start of a file in which the parameters of all tracks must be: 12 MB."""
MAXIMUM_PIECE: Final = 256 * BLOCK
"""Bytes of a file that are in memory at once: 98 MB, which is ten seconds at 78 Mbit/s without a key frame."""
MARGIN: Final = CLOCK_RATE
"""Ticks around a piece in which the frames of other tracks may be that belong into it."""
PIECE: Final = CLOCK_RATE
"""Ticks that a piece has at least."""
MAXIMUM_UNITS: Final = 1 << 24
"""Frames of a file that are found: three days of 60 per second."""
_SYNC: Final = 0x02000000
_OTHER: Final = 0x01010000


class _Stream(NamedTuple):
    """One elementary stream of the file, as a track."""

    source: ElementaryStream
    track: RecordedTrack
    codec: Codec


class UnitTable:
    """Where the frames of the leading stream are, and when; times count from the start of the file."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.times = array("q")
        """Decoding times in ticks of 90 kHz."""
        self.keys = array("Q")
        """Indexes of the frames at which decoding can begin."""
        self.end = 0
        """Offset up to which the file was read."""

    def copy(self) -> UnitTable:
        """Return one that can be extended, while others use this one."""
        other = UnitTable()
        other.offsets, other.times, other.keys = self.offsets[:], self.times[:], self.keys[:]
        other.end = self.end
        return other


class MpegtsFile:
    """A file of MPEG-TS: written by Polycast, MediaMTX or another program."""

    is_complete = False
    """The files do not say whether they are."""
    place: Place | None = None
    """They do not say that either."""

    def __init__(self, name: str, known: object = None) -> None:
        """Open a file. ``known`` is that of the same file, when it may have been shorter.

        Raises OSError, or UnreadableFile if it is no transport stream or has no frame that can be played.
        """
        self._file = open(name, "rb", buffering=0)  # noqa: SIM115
        self._table = known if isinstance(known, UnitTable) else None
        self._kept = (-1, b"")
        """Number and samples of the piece that was read last."""
        try:
            size = os.fstat(self._file.fileno()).st_size
            self._size = size - size % PACKET_SIZE
            self._streams, self._start = self._probe()
        except BaseException:
            self._file.close()
            raise
        leading = [stream for stream in self._streams if stream.track.is_video] or self._streams
        self._leading = leading[0]

    @property
    def tracks(self) -> tuple[RecordedTrack, ...]:
        return tuple(stream.track for stream in self._streams)

    @property
    def known(self) -> UnitTable | None:
        return self._table

    @property
    def origin(self) -> int:
        return rescale(self._start, CLOCK_RATE, NANOSECONDS)

    @property
    def duration(self) -> int:
        """Nanoseconds to the end of the last frame of the leading stream, as far as its duration is known."""
        window = BLOCK
        while True:
            start = max(self._size - window, 0)
            units = list(find_unit_starts(self._read_at(start, window), self._leading.source.pid, start))
            if len(units) > 1 or not start or window >= MAXIMUM_PROBE:
                break
            window *= 4
        if not units:
            raise UnreadableFile("it has no frames at its end")
        times = [self._since_start(unit.time) for unit in units]
        last = max(times)
        if last < 0:
            raise UnreadableFile("its times go back")
        before = max((time for time in times if time < last), default=last)
        # a single frame lasts a moment
        return max(rescale(last + min(last - before, CLOCK_RATE), CLOCK_RATE, NANOSECONDS), 1)

    def close(self) -> None:
        self._file.close()

    def _read_at(self, position: int, size: int) -> bytes:
        self._file.seek(position)
        size = min(size, self._size - position)
        data = bytearray()
        while len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                break
            data += more
        return bytes(data)

    def _since_start(self, time: int) -> int:
        """Return a time of the stream, which has 33 bits, as ticks since the start of the file."""
        difference = (time - self._start) % (1 << TIMESTAMP_BITS)
        # a little before the start, rather than a day after it
        return difference - (1 << TIMESTAMP_BITS) if difference >= 1 << (TIMESTAMP_BITS - 1) else difference

    # The start of the file

    def _probe(self) -> tuple[list[_Stream], int]:
        """Return the streams and the time at which the first one begins, in ticks of 90 kHz."""
        data = self._read_at(0, BLOCK)
        if not data or data[0] != SYNC_BYTE or (len(data) > PACKET_SIZE and data[PACKET_SIZE] != SYNC_BYTE):
            raise UnreadableFile("it is empty" if not data else "it is no MPEG transport stream")
        while True:
            program = find_program(data)
            probed = self._probe_streams(program, data) if program is not None else None
            is_whole = len(data) >= min(self._size, MAXIMUM_PROBE)
            if probed is not None and (is_whole or not probed.missing):
                break
            if is_whole:
                raise UnreadableFile("it has no program")
            data = self._read_at(0, min(4 * len(data), MAXIMUM_PROBE))
        if not probed.found or probed.start is None:
            raise UnreadableFile("it has no frames of a codec that can be played")
        return _as_tracks(probed.found), probed.start

    @staticmethod
    def _probe_streams(program: ProgramMap, data: bytes) -> _Probed:
        parsers: dict[int, tuple[ElementaryStream, ElementaryParser]] = {}
        for stream in program.streams:
            parser = make_parser(stream)
            if parser is not None:
                parsers[stream.pid] = (stream, parser)
        start: int | None = None
        first: dict[int, Frame] = {}
        extender = TimestampExtender(TIMESTAMP_BITS)
        for unit in read_units(data, parsers.keys()):
            if unit.header.dts is None or unit.header.pts is None:
                continue
            time = extender.extend(unit.header.dts)
            start = time if start is None else min(start, time)
            parser = parsers[unit.pid][1]
            if not (parser.ready and unit.pid in first):
                try:
                    found = parser.parse(unit.payload, time, time)
                except ProtocolError:
                    continue
                key = next((frame for frame in found if frame.key), None)
                if key is not None:
                    first.setdefault(unit.pid, key)
        ready = [
            (stream, parser.codec, first[stream.pid])
            for stream, parser in parsers.values()
            if parser.ready and stream.pid in first
        ]
        return _Probed(ready, len(parsers) - len(ready), start)

    # The frames of the leading stream

    def table(self) -> UnitTable:
        """Return where all frames of the leading stream are."""
        table = self._table
        if table is not None and table.end >= self._size:
            return table
        self._table = table = table.copy() if table is not None else UnitTable()
        extender = TimestampExtender(TIMESTAMP_BITS, near=table.times[-1] + self._start if table.times else self._start)
        while table.end < self._size and len(table.offsets) < MAXIMUM_UNITS:
            data = self._read_at(table.end, BLOCK)
            if not data:
                break
            for unit in find_unit_starts(data, self._leading.source.pid, table.end):
                self._add(table, unit, extender.extend(unit.time) - self._start)
            table.end += len(data)
        return table

    def _add(self, table: UnitTable, unit: UnitStart, time: int) -> None:
        if table.times and time < table.times[-1]:
            time = table.times[-1]  # damaged
        if unit.random_access or not self._leading.track.is_video or not table.offsets:
            table.keys.append(len(table.offsets))
        table.offsets.append(unit.offset)
        table.times.append(time)

    def _next_piece(self, table: UnitTable, number: int) -> int:
        """Return the index of the frame at which the piece ends that begins with a frame."""
        wanted = table.times[number] + PIECE
        position = bisect_right(table.keys, number)
        while position < len(table.keys) and table.times[table.keys[position]] < wanted:
            position += 1
        return table.keys[position] if position < len(table.keys) else len(table.offsets)

    # Samples

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        table = self.table()
        if not table.keys:
            return
        first = rescale(start, NANOSECONDS, CLOCK_RATE)
        last = rescale(end, NANOSECONDS, CLOCK_RATE) + MARGIN
        position = bisect_right(table.keys, first, key=lambda key: table.times[key]) - 1
        number = table.keys[max(position, 0)]
        while number < len(table.offsets) and table.times[number] < last:
            runs, data = self._demultiplex(table, number)
            self._kept = (number, data)
            yield Piece(number, runs)
            number = self._next_piece(table, number)

    def key_times(self) -> list[int]:
        table = self.table()
        return [rescale(table.times[key], CLOCK_RATE, NANOSECONDS) for key in table.keys]

    def read(self, token: int, position: int, size: int) -> bytes:
        if self._kept[0] != token:
            self._kept = (token, self._demultiplex(self.table(), token)[1])
        data = self._kept[1][position : position + size]
        if len(data) < size:
            raise UnreadableFile("it became shorter")
        return data

    def _demultiplex(self, table: UnitTable, number: int) -> tuple[list[Run], bytes]:
        """Return the samples of the piece that begins with a frame, and their bytes."""
        end = self._next_piece(table, number)
        is_last = end == len(table.offsets)
        begin_time = table.times[number] if number else -(1 << 60)
        end_time = 1 << 60 if is_last else table.times[end]
        first = table.offsets[bisect_left(table.times, begin_time - MARGIN)] if number else 0
        after = bisect_left(table.times, end_time + MARGIN) + 1
        limit = table.offsets[after] if after < len(table.offsets) else self._size
        data = self._read_at(first, min(limit - first, MAXIMUM_PIECE))
        frames = self._frames(data, table.times[number])
        runs: list[Run] = []
        media = bytearray()
        for stream in self._streams:
            rate = stream.track.timescale
            begin, stop = (rescale_nearest(time, CLOCK_RATE, rate) for time in (begin_time, end_time))
            run = _make_run(stream, frames[stream.source.pid], begin, stop, media)
            if run is not None:
                runs.append(run)
        return runs, bytes(media)

    def _frames(self, data: bytes, near: int) -> dict[int, list[Frame]]:
        """Return the frames in a part of the file by PID; times are in ticks of the codecs, from the file's start."""
        parsers = {stream.source.pid: make_parser(stream.source) for stream in self._streams}
        rates = {stream.source.pid: stream.track.timescale for stream in self._streams}
        frames: dict[int, list[Frame]] = {pid: [] for pid in parsers}
        extender = TimestampExtender(TIMESTAMP_BITS, near=near + self._start)
        for unit in read_units(data, parsers.keys()):
            parser = parsers[unit.pid]
            pts = dts = None
            if unit.header.dts is not None and unit.header.pts is not None:
                dts = extender.extend(unit.header.dts) - self._start
                pts = dts + (unit.header.pts - unit.header.dts) % (1 << TIMESTAMP_BITS)
            assert parser is not None
            try:
                found = parser.parse(unit.payload, pts, dts)
            except ProtocolError:
                continue
            is_video = parser.codec.kind is Kind.VIDEO
            frames[unit.pid] += [_in_ticks(frame, rates[unit.pid]) for frame in found] if is_video else found
        return frames


class _Probed(NamedTuple):
    found: list[tuple[ElementaryStream, Codec, Frame]]
    """Those whose parameters are known, with their first key frames."""
    missing: int
    """Streams whose parameters are not known yet."""
    start: int | None


def _in_ticks(frame: Frame, rate: int) -> Frame:
    """Return a frame of video, whose times are in ticks of 90 kHz, with those of its track."""
    if rate == CLOCK_RATE:
        return frame
    pts, dts = (rescale_nearest(time, CLOCK_RATE, rate) for time in (frame.pts, frame.dts))
    return Frame(frame.units, pts, dts, key=frame.key)


def _as_tracks(found: Sequence[tuple[ElementaryStream, Codec, Frame]]) -> list[_Stream]:
    """Return the streams that MP4 can carry. Raises UnreadableFile if there are none."""
    streams: list[_Stream] = []
    for source, codec, frame in found:
        mapping: Any = CODECS.get(codec)
        if mapping is None:
            continue
        track_id = len(streams) + 1
        try:
            description = mapping.describe(codec, frame)
            head = build_initialization(
                [InitializationTrack(track_id, codec, codec.clock_rate, description=description)]
            )
        except ProtocolError:
            continue
        file_type = read_header(head, 0, len(head))
        assert file_type is not None
        track = read_recorded_movie(head[file_type.end :]).tracks[0]
        streams.append(_Stream(source, track, codec))
    if not streams:
        raise UnreadableFile("it has no frames of a codec that can be played")
    return streams


def _make_run(stream: _Stream, frames: Sequence[Frame], begin: int, end: int, media: bytearray) -> Run | None:
    """Return the frames from ``begin`` to before ``end`` as samples, whose bytes are added to ``media``."""
    first = bisect_left(frames, begin, key=lambda frame: frame.dts)
    last = bisect_left(frames, end, key=lambda frame: frame.dts)
    if first == last:
        return None
    durations, sizes, flags, compositions = array("I"), array("I"), array("I"), array("I")
    mapping: Any = CODECS[stream.codec]
    position = len(media)
    nominal = stream.track.timescale // 25
    for index in range(first, last):
        frame = frames[index]
        following = frames[index + 1].dts if index + 1 < len(frames) else frame.dts + (frame.duration or nominal)
        nominal = min(max(following - frame.dts, 0), 0xFFFFFFFF)
        # parameter sets stay in the samples: those of the init segment may be of an earlier file
        in_band = isinstance(stream.codec, H264 | H265)
        sample = frame.avcc() if in_band else mapping.sample(stream.codec, frame)
        durations.append(nominal)
        sizes.append(len(sample))
        flags.append(_SYNC if frame.key else _OTHER)
        compositions.append((frame.pts - frame.dts) & 0xFFFFFFFF)
        media += sample
    return Run(stream.track.track_id, max(frames[first].dts, 0), position, (durations, sizes, flags, compositions))
