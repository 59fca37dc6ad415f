"""Reads fragmented MP4 (ISO/IEC 14496-12 section 8.8): bytes in, frames out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from struct import unpack_from

from polycast.errors import ProtocolError, RemoteProtocolError
from polycast.media.frame import Frame
from polycast.media.timebase import rescale_nearest
from polycast.media.track import Track
from polycast.wire.mp4.boxes import Box, iterate, read_header
from polycast.wire.mp4.tracks import InputTrack, read_movie

MAXIMUM_MEDIA_SIZE = 52 * 1024 * 1024
"""Bytes of the samples of one fragment, which are held until the last one has arrived: 8 s at 50 Mbit/s, and a segment
of the default `hlsSegmentMaxSize`."""
MAXIMUM_METADATA_SIZE = 512 * 1024
"""Bytes of a moov or moof box; a moof box has at most 16 bytes per sample. Other boxes are skipped."""
MAXIMUM_SAMPLES = 8_192
"""Samples of one fragment: a minute of 60 frames/s with audio."""
MAXIMUM_RUNS = 256
"""Track runs of one fragment; most files have one per track."""
_MAXIMUM_TIME = 1 << 62
"""Ticks: larger times are considered invalid."""

_BASE_DATA_OFFSET = 0x000001
_SAMPLE_DESCRIPTION = 0x000002
_DEFAULT_DURATION = 0x000008
_DEFAULT_SIZE = 0x000010
_RUN_DATA_OFFSET = 0x000001
_RUN_FIRST_FLAGS = 0x000004
_RUN_DURATION = 0x000100
_RUN_SIZE = 0x000200
_RUN_FLAGS = 0x000400
_RUN_COMPOSITION = 0x000800


@dataclass(slots=True)
class DemuxerCounters:
    """Errors in the samples of a file."""

    broken: int = 0
    """Samples that could not be parsed or had no data."""


@dataclass(slots=True)
class _Sample:
    state: _TrackState
    start: int
    """Offset of its bytes from the start of the moof box."""
    size: int
    dts: int
    duration: int
    composition: int


class _TrackState:
    __slots__ = ("index", "last", "next_time", "shift", "track")

    def __init__(self, index: int, track: InputTrack) -> None:
        self.index = index
        self.track = track
        self.next_time = 0
        """Decoding time after the last sample, in ticks of the timescale."""
        self.shift = 0
        """How far decoding times are shifted back so that none is after its presentation time."""
        self.last: int | None = None


class Demuxer:
    """Reads an init segment and the fragments after it; further init segments replace the previous one."""

    def __init__(self) -> None:
        self.counters = DemuxerCounters()
        self.tracks: tuple[Track, ...] | None = None
        """The tracks; None until the init segment has been read."""
        self.skipped = 0
        """Number of tracks whose codec is not supported."""
        self._buffer = bytearray()
        self._states: dict[int, _TrackState] = {}
        self._samples: deque[_Sample] = deque()
        """Samples of the last moof box, by position, whose bytes have not been read yet."""
        self._frames: list[tuple[float, int, Frame]] = []
        """(decoding time in seconds, track index, frame) of the current mdat box."""
        self._distance = 0
        """Bytes from the start of the last moof box to the start of the buffer."""
        self._media_start = 0
        """The same for the content of the current mdat box."""
        self._media_rest = 0
        """Bytes of it that have not been read yet."""
        self._skip = 0
        """Bytes to skip."""

    def receive_data(self, data: bytes) -> list[tuple[int, Frame]]:
        """Process the next bytes; return the frames that they completed, each with the index of its track.

        Frames of one mdat box are returned together at its end, in the order of their decoding times. Times are in
        ticks of `Track.clock_rate`. Raises RemoteProtocolError if the boxes are invalid or too large; an invalid sample
        is counted and omitted.
        """
        buffer = self._buffer
        buffer += data
        output: list[tuple[int, Frame]] = []
        while buffer:
            if self._skip:
                passed = min(self._skip, len(buffer))
                self._skip -= passed
                self._drop(passed)
            elif self._media_rest:
                if not self._receive_media(output):
                    break
            elif not self._receive_box():
                break
        return output

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._distance += size

    def _receive_box(self) -> bool:
        """Process the box at the start of the buffer, or its header; False if more bytes are needed."""
        buffer = self._buffer
        header = read_header(bytes(buffer[:16]), 0, min(len(buffer), 16))
        if header is None:
            return False
        size = header.end
        if int.from_bytes(buffer[:4], "big") == 0:
            raise RemoteProtocolError("an MP4 box of unknown size cannot be read from a stream")
        if header.kind == b"mdat":
            if size > MAXIMUM_MEDIA_SIZE:
                raise RemoteProtocolError("an MP4 box is too large")
            self._drop(header.content)
            self._media_start = self._distance
            self._media_rest = size - header.content
            return True
        if header.kind not in (b"moov", b"moof"):
            self._skip = size
            return True
        if size > MAXIMUM_METADATA_SIZE:
            raise RemoteProtocolError("an MP4 box is too large")
        if len(buffer) < size:
            return False
        content = bytes(buffer[:size])
        box = Box(header.kind, 0, header.content, size)
        if header.kind == b"moov":
            self._receive_movie(content, box)
        else:
            self._distance = 0
            samples = self._read_fragment(content, box)
            for sample in samples:
                sample.state.shift = max(sample.state.shift, -sample.composition)
            self._samples = deque(sorted(samples, key=lambda sample: sample.start))
        self._drop(size)
        return True

    def _receive_movie(self, data: bytes, box: Box) -> None:
        found, self.skipped = read_movie(data, box)
        self._states = {track.track_id: _TrackState(index, track) for index, track in enumerate(found)}
        self._samples.clear()
        self.tracks = tuple(Track(index, track.codec, language=track.language) for index, track in enumerate(found))

    def _read_fragment(self, data: bytes, box: Box) -> list[_Sample]:
        samples: list[_Sample] = []
        runs = 0
        for fragment in iterate(data, box.content, box.end):
            if fragment.kind != b"traf":
                continue
            state: _TrackState | None = None
            duration = size = 0
            position = 0
            for child in iterate(data, fragment.content, fragment.end):
                if child.kind == b"tfhd":
                    state, duration, size = self._read_fragment_header(data, child)
                elif child.kind == b"tfdt" and state is not None:
                    state.next_time = self._read_decode_time(data, child)
                elif child.kind == b"trun" and state is not None:
                    runs += 1
                    if runs > MAXIMUM_RUNS:
                        raise RemoteProtocolError("a movie fragment has too many track runs")
                    position = self._read_run(data, child, state, (duration, size, position), samples)
        return samples

    def _read_fragment_header(self, data: bytes, box: Box) -> tuple[_TrackState | None, int, int]:
        content = data[box.content : box.end]
        if len(content) < 8:
            raise RemoteProtocolError("a track fragment header is too short")
        flags = int.from_bytes(content[1:4], "big")
        state = self._states.get(int.from_bytes(content[4:8], "big"))
        if state is None:
            return None, 0, 0
        if flags & _BASE_DATA_OFFSET:
            raise RemoteProtocolError("a track fragment has an absolute data offset")
        offset = 8 + (4 if flags & _SAMPLE_DESCRIPTION else 0)
        defaults = state.track.defaults
        duration, size = defaults.duration, defaults.size
        if flags & _DEFAULT_DURATION:
            duration = int.from_bytes(content[offset : offset + 4], "big")
            offset += 4
        if flags & _DEFAULT_SIZE:
            size = int.from_bytes(content[offset : offset + 4], "big")
        return state, duration, size

    def _read_decode_time(self, data: bytes, box: Box) -> int:
        content = data[box.content : box.end]
        wide = len(content) >= 12 and content[0] == 1
        time = int.from_bytes(content[4:12] if wide else content[4:8], "big")
        if len(content) < 8 or time > _MAXIMUM_TIME:
            raise RemoteProtocolError("a decoding time is not valid")
        return time

    def _read_run(
        self, data: bytes, box: Box, state: _TrackState, defaults: tuple[int, int, int], samples: list[_Sample]
    ) -> int:
        """Append the samples of a track run; return the offset after its last one."""
        if box.end - box.content < 8:
            raise RemoteProtocolError("a track run is too short")
        version = data[box.content]
        flags = int.from_bytes(data[box.content + 1 : box.content + 4], "big")
        count = int.from_bytes(data[box.content + 4 : box.content + 8], "big")
        default_duration, default_size, position = defaults
        offset = box.content + 8
        fixed = 4 * (bool(flags & _RUN_DATA_OFFSET) + bool(flags & _RUN_FIRST_FLAGS))
        columns = [bool(flags & bit) for bit in (_RUN_DURATION, _RUN_SIZE, _RUN_FLAGS, _RUN_COMPOSITION)]
        row_size = 4 * sum(columns)
        if count > MAXIMUM_SAMPLES - len(samples) or offset + fixed + count * row_size > box.end:
            raise RemoteProtocolError("a track run has too many samples")
        if flags & _RUN_DATA_OFFSET:
            position = unpack_from(">i", data, offset)[0]
        elif position == 0:
            position = len(data) + 8  # the first byte of the mdat box that follows
        offset += fixed
        time = state.next_time
        for _ in range(count):
            duration, size, composition = default_duration, default_size, 0
            if columns[0]:
                duration = int.from_bytes(data[offset : offset + 4], "big")
                offset += 4
            if columns[1]:
                size = int.from_bytes(data[offset : offset + 4], "big")
                offset += 4
            offset += 4 * columns[2]
            if columns[3]:
                composition = int.from_bytes(data[offset : offset + 4], "big", signed=version != 0)
                offset += 4
            samples.append(_Sample(state, position, size, time, duration, composition))
            position += size
            time += duration
        state.next_time = time
        return position

    def _receive_media(self, output: list[tuple[int, Frame]]) -> bool:
        """Process the bytes of an mdat box; False if the next sample needs more of them."""
        available = min(len(self._buffer), self._media_rest)
        end = self._distance + available
        is_whole = available == self._media_rest
        taken = 0
        while self._samples:
            sample = self._samples[0]
            if sample.start >= end and not is_whole:
                taken = available
                break
            place = sample.start - self._distance
            if sample.start + sample.size > end and not is_whole:
                taken = max(min(place, available), taken)
                break
            self._samples.popleft()
            if place < taken or sample.start < self._media_start or sample.start + sample.size > end:
                self.counters.broken += 1  # outside the box, or overlapping another sample
                continue
            self._process_sample(sample, bytes(self._buffer[place : place + sample.size]))
            taken = place + sample.size
        else:
            taken = available
        if is_whole:
            taken = available
        self._media_rest -= taken
        self._drop(taken)
        if not self._media_rest:
            self._frames.sort(key=lambda entry: entry[0])
            output += [(index, frame) for _, index, frame in self._frames]
            self._frames = []
            self._samples.clear()
            return True
        return taken > 0 and bool(self._buffer)

    def _process_sample(self, sample: _Sample, data: bytes) -> None:
        try:
            frame = self._make_frame(sample, data)
        except ProtocolError:
            self.counters.broken += 1
            return
        if frame is not None:
            self._frames.append((sample.dts / sample.state.track.timescale, sample.state.index, frame))

    def _make_frame(self, sample: _Sample, data: bytes) -> Frame | None:
        state = sample.state
        track = state.track
        units, key = track.samples(data)
        if not units:
            return None
        rate = track.codec.clock_rate
        pts = sample.dts + sample.composition + track.time_offset
        dts = sample.dts - state.shift + track.time_offset
        pts = rescale_nearest(pts, track.timescale, rate)
        dts = rescale_nearest(dts, track.timescale, rate)
        if state.last is not None and dts < state.last <= pts:
            dts = state.last
        state.last = dts
        duration = rescale_nearest(sample.duration, track.timescale, rate) if sample.duration else None
        return Frame(units, max(pts, dts), dts, key=key, duration=duration)
