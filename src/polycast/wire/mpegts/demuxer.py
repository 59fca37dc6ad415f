"""MPEG transport stream demuxer (ISO/IEC 13818-1): bytes in, frames of the first program out."""

from __future__ import annotations

from dataclasses import dataclass

from polycast.codecs.nal import MAXIMUM_FRAME_SIZE
from polycast.errors import ProtocolError
from polycast.media.codec import Kind
from polycast.media.frame import Frame
from polycast.media.timebase import TimestampExtender
from polycast.media.track import Track
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.codecs import make_parser
from polycast.wire.mpegts.continuation import count_continuations, payloads_of
from polycast.wire.mpegts.elementary import ElementaryParser, language_of
from polycast.wire.mpegts.pes import PesHeader, parse_pes_header
from polycast.wire.mpegts.psi import ElementaryStream, ProgramMap
from polycast.wire.mpegts.synchronization import Synchronization
from polycast.wire.mpegts.tables import ProgramTables

MAXIMUM_PROBE_SIZE = 8 * 1024 * 1024
"""Bytes read until the parameters of all tracks must be known; tracks that are still unknown then are omitted. A few
seconds of a broadcast stream, or a whole segment of a large one."""
MAXIMUM_PES_SIZE = MAXIMUM_FRAME_SIZE + 1024
"""Bytes of a PES packet: the largest frame with its headers."""


@dataclass(slots=True)
class DemuxerCounters:
    """Errors in a transport stream."""

    continuity_errors: int = 0
    """Gaps in the continuity counters: lost packets."""
    lost_sync: int = 0
    """How often bytes had to be skipped to find the next packet."""
    broken: int = 0
    """Packets, sections and frames that could not be parsed."""
    scrambled: int = 0
    """Packets that are encrypted."""


class _Stream:
    """One elementary stream and its incomplete PES packet."""

    __slots__ = ("chunks", "index", "language", "losses", "parser", "pid", "size", "stream_type", "wanted")

    def __init__(self, parser: ElementaryParser, stream: ElementaryStream) -> None:
        self.parser = parser
        self.pid = stream.pid
        self.stream_type = stream.stream_type
        self.language = language_of(stream)
        self.index: int | None = None
        """Index of the track; None until the tracks are known."""
        self.chunks: list[bytes] | None = None
        """Payloads of the incomplete PES packet, None between packets."""
        self.losses = 0
        self.size = 0
        self.wanted = 0
        """Size that completes the PES packet, 0 while unknown."""

    @property
    def has_stuffing(self) -> bool:
        """Whether the last transport packet of the incomplete PES packet is not full, as at its end."""
        return self.chunks is not None and len(self.chunks[-1]) < ts.PAYLOAD_SIZE


class Demuxer:
    """Reads one program of a transport stream.

    The tracks are those of its first map. If the map changes later, their PIDs are those of streams of the same type.
    Frames are returned with the index of their track. The times of all tracks are on one timeline that keeps
    increasing across the 33-bit wrap-around; within a track, they are those of the stream.
    """

    def __init__(self, program: int | None = None) -> None:
        """``program``: its number; None for the first one with tracks that are supported."""
        self.counters = DemuxerCounters()
        self.tracks: tuple[Track, ...] | None = None
        """The tracks; None until the parameters of all their codecs are known. No frame is returned before."""
        self.skipped: tuple[int, ...] = ()
        """Stream types of elementary streams that are not supported."""
        self._buffer = b""
        self._synchronization = Synchronization()
        self._counters_by_pid: dict[int, int] = {}
        self._tables = ProgramTables(program)
        self._streams: dict[int, _Stream] = {}
        """By PID."""
        self._of_tracks: list[_Stream] = []
        """In the order of the tracks, once these are known."""
        self._extender = TimestampExtender(ts.TIMESTAMP_BITS)
        self._probed = 0
        self._waiting: list[tuple[_Stream, Frame]] = []

    @property
    def is_replaced(self) -> bool:
        """Whether the current map has, instead of a track, one of its kind with another codec: another stream has
        begun."""
        program = self._tables.program
        if self.tracks is None or program is None:
            return False
        missing = {each.parser.codec.kind for each in self._of_tracks if self._streams.get(each.pid) is not each}
        others = (make_parser(stream) for stream in program.streams if stream.pid not in self._streams)
        return any(parser is not None and parser.codec.kind in missing for parser in others)

    @property
    def losses(self) -> tuple[int, ...]:
        """How often transport packets of each track were missing; empty until the tracks are known."""
        return tuple(stream.losses for stream in self._of_tracks)

    def receive_data(self, data: bytes) -> list[tuple[int, Frame]]:
        """Process the next bytes; return the frames that they completed, each with the index of its track.

        Never raises because of invalid data: see ``counters``.
        """
        data = self._buffer + data if self._buffer else data
        output: list[tuple[_Stream, Frame]] = []
        synchronization = self._synchronization
        offset = synchronization.skip
        size = len(data)
        while offset + ts.PACKET_SIZE <= size:
            if data[offset] != ts.SYNC_BYTE or not synchronization.is_found:
                found = synchronization.check(data, offset)
                self.counters.lost_sync = synchronization.losses
                if found is None:
                    break
                if found + ts.PACKET_SIZE > size:
                    offset = found
                    break
                offset = found
            if synchronization.stride == ts.PACKET_SIZE:
                taken = self._receive_continuations(data, offset, output)
                if taken:
                    offset += taken * ts.PACKET_SIZE
                    continue
            self._receive_packet(data, offset, output)
            offset += synchronization.stride
        self._buffer = data[offset:]
        synchronization.skip = max(0, offset - size)
        self._probed += min(offset, size)
        return self._release(output)

    def flush(self, *, is_whole: bool = True) -> list[tuple[int, Frame]]:
        """Return the last frames, whose end is only known at the end of a segment or file.

        ``is_whole``: whether that end has certainly arrived. Otherwise, only those frames are returned whose last
        transport packet has stuffing, as it has but for one of 184 frames.
        """
        output: list[tuple[_Stream, Frame]] = []
        for stream in self._streams.values():
            if is_whole or stream.has_stuffing:
                self._finish_packet(stream, output)
        return self._release(output)

    @property
    def has_parameters(self) -> bool:
        """Whether the parameters of a track are known."""
        return any(stream.parser.ready for stream in self._streams.values())

    def end_analysis(self) -> list[tuple[int, Frame]]:
        """Consider the tracks known whose parameters are known by now, and omit the others; return frames that
        waited.

        The parameters may be in a frame that nothing has followed yet, because the frame rate is low.
        """
        output: list[tuple[_Stream, Frame]] = []
        for stream in self._streams.values():
            if not stream.parser.ready and stream.has_stuffing:
                self._finish_packet(stream, output)
        self._probed = max(self._probed, MAXIMUM_PROBE_SIZE)
        return self._release(output)

    def _receive_continuations(self, data: bytes, start: int, output: list[tuple[_Stream, Frame]]) -> int:
        """Process the packets at ``start`` that continue a unit, all at once; return how many were processed.

        0 if they have to be processed one by one. What comes of them is the same.
        """
        pid = (data[start + 1] & 0x1F) << 8 | data[start + 2]
        stream = self._streams.get(pid)
        last = self._counters_by_pid.get(pid)
        if stream is None or last is None:
            return 0
        count = count_continuations(data, start, (last + 1) & 0x0F)
        if stream.chunks is not None and count:
            if stream.wanted:
                count = min(count, -((stream.size - stream.wanted) // ts.PAYLOAD_SIZE))
            size = stream.size + count * ts.PAYLOAD_SIZE
            if size > MAXIMUM_PES_SIZE:
                return 0
            stream.chunks += payloads_of(data, start, count)
            stream.size = size
            if stream.wanted and size >= stream.wanted:
                self._finish_packet(stream, output)
        self._counters_by_pid[pid] = (last + count) & 0x0F
        return count

    def _receive_packet(self, data: bytes, start: int, output: list[tuple[_Stream, Frame]]) -> None:
        high, low, control = data[start + 1], data[start + 2], data[start + 3]
        pid = (high & 0x1F) << 8 | low
        if pid == ts.NULL_PID or high & 0x80 or not control & 0x10:
            return
        payload = start + 4
        end = start + ts.PACKET_SIZE
        discontinuity = False
        if control & 0x20:
            length = data[payload]
            discontinuity = length > 0 and bool(data[payload + 1] & 0x80)
            payload += 1 + length
            if payload > end:
                self.counters.broken += 1
                return
        stream = self._streams.get(pid)
        if stream is None and not self._tables.has(pid):
            return
        if control & 0xC0:
            self.counters.scrambled += 1
            return
        counter = control & 0x0F
        last = self._counters_by_pid.get(pid)
        self._counters_by_pid[pid] = counter
        lost = last is not None and not discontinuity and counter != (last + 1) & 0x0F
        if lost:
            if counter == last:  # a packet may be sent twice (section 2.4.3.3)
                return
            self.counters.continuity_errors += 1
        unit_start = bool(high & 0x40)
        if stream is not None:
            self._receive_elementary(stream, data[payload:end], unit_start, lost, output)
        else:
            self._receive_section(pid, data[payload:end], unit_start, lost)

    def _receive_section(self, pid: int, payload: bytes, unit_start: bool, lost: bool) -> None:
        try:
            program = self._tables.receive(pid, payload, unit_start=unit_start, lost=lost)
        except ProtocolError:
            self.counters.broken += 1
            return
        if program is None:
            return
        if self.tracks is None and self._streams:
            self._find_tracks()
        if self.tracks is None:
            self._begin(program)
        else:
            self._continue(program)

    def _begin(self, program: ProgramMap) -> None:
        """Take the streams of a program whose tracks are not known yet."""
        self._streams.clear()
        self._waiting.clear()
        skipped = []
        for stream in program.streams:
            parser = make_parser(stream)
            if parser is None:
                skipped.append(stream.stream_type)
            elif not self._tables.has(stream.pid):
                self._streams[stream.pid] = _Stream(parser, stream)
        self.skipped = tuple(skipped)
        if not self._streams:
            self._tables.reject()

    def _continue(self, program: ProgramMap) -> None:
        """The map has changed: find the streams of the tracks in it, by PID and type, then by type."""
        rest = list(self._of_tracks)
        self._streams = {}
        for is_exact in (True, False):
            for stream in program.streams:
                if stream.pid in self._streams or self._tables.has(stream.pid):
                    continue
                for each in rest:
                    if each.stream_type == stream.stream_type and (each.pid == stream.pid or not is_exact):
                        self._bind(each, stream.pid)
                        rest.remove(each)
                        break

    def _bind(self, stream: _Stream, pid: int) -> None:
        if stream.pid != pid:
            stream.pid = pid
            stream.chunks = None
            self._counters_by_pid.pop(pid, None)
        self._streams[pid] = stream

    def _receive_elementary(
        self, stream: _Stream, payload: bytes, unit_start: bool, lost: bool, output: list[tuple[_Stream, Frame]]
    ) -> None:
        if lost:
            stream.chunks = None
            stream.losses += 1
        if unit_start:
            self._finish_packet(stream, output)
            stream.chunks = [payload]
            stream.size = len(payload)
            length = payload[4] << 8 | payload[5] if len(payload) >= 6 else 0
            stream.wanted = 6 + length if length else 0
        elif stream.chunks is not None:
            stream.chunks.append(payload)
            stream.size += len(payload)
            if stream.size > MAXIMUM_PES_SIZE:
                self.counters.broken += 1
                stream.chunks = None
                return
        if stream.wanted and stream.chunks is not None and stream.size >= stream.wanted:
            self._finish_packet(stream, output)

    def _finish_packet(self, stream: _Stream, output: list[tuple[_Stream, Frame]]) -> None:
        chunks = stream.chunks
        if chunks is None:
            return
        stream.chunks = None
        data = b"".join(chunks)
        header = parse_pes_header(data)
        if header is None:
            self.counters.broken += 1
            return
        end = header.packet_size or len(data)
        if end > len(data):  # its end was lost
            self.counters.broken += 1
            return
        pts, dts = self._extend(header)
        if pts is None and stream.parser.codec.kind is Kind.DATA:  # asynchronous: it belongs to the pictures around it
            pts = dts = self._extender.last
        try:
            frames = stream.parser.parse(data[header.payload : end], pts, dts)
        except ProtocolError:
            self.counters.broken += 1
            return
        for frame in frames:
            output.append((stream, frame))

    def _extend(self, header: PesHeader) -> tuple[int | None, int | None]:
        if header.pts is None or header.dts is None:
            return None, None
        dts = self._extender.extend(header.dts)
        ahead = (header.pts - header.dts) & ts.TIMESTAMP_MASK
        # Some muxers write a PTS that is a little before the DTS, by rounding.
        return dts + (ahead if ahead <= ts.TIMESTAMP_MASK >> 1 else 0), dts

    def _release(self, output: list[tuple[_Stream, Frame]]) -> list[tuple[int, Frame]]:
        """Return the frames that can be returned: all, once the tracks are known."""
        if self.tracks is None:
            self._find_tracks()
        if self.tracks is None:
            self._waiting += output
            return []
        if not (output or self._waiting):
            return []
        if self._waiting:
            output = self._waiting + output
            self._waiting = []
        self._update_tracks()
        return [(stream.index, frame) for stream, frame in output if stream.index is not None]

    def _find_tracks(self) -> None:
        """Make the tracks if their parameters are known, or enough was read."""
        streams = list(self._streams.values())
        ready = [stream for stream in streams if stream.parser.ready]
        is_over = self._probed >= MAXIMUM_PROBE_SIZE
        if ready and (len(ready) == len(streams) or is_over):
            self._of_tracks = ready
            for index, stream in enumerate(ready):
                stream.index = index
            self._update_tracks()
        elif is_over:
            self._waiting.clear()

    def _update_tracks(self) -> None:
        streams, tracks = self._of_tracks, self.tracks
        if tracks is not None and all(
            track.codec is stream.parser.codec for track, stream in zip(tracks, streams, strict=True)
        ):
            return
        self.tracks = tuple(
            Track(index, stream.parser.codec, language=stream.language) for index, stream in enumerate(streams)
        )
