"""Writes frames as an MPEG transport stream with one program (ISO/IEC 13818-1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polycast.errors import LocalProtocolError
from polycast.media.codec import Kind, label
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.codecs import CODECS, CodecMapping
from polycast.wire.mpegts.metadata import number_cells
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.pes import build_pes_header
from polycast.wire.mpegts.psi import ElementaryStream, ProgramMap, build_program_association, build_program_map

MAXIMUM_TRACKS = 8
"""Elementary streams of one program, so that the program map fits in one packet."""
DECODER_DELAY = 36_000
"""Ticks of 90 kHz (400 ms) by which the PTS and DTS are ahead of the PCR: time for a decoder to buffer a frame."""
MAXIMUM_PCR_INTERVAL = 9_000
"""Ticks of 90 kHz (100 ms) between two PCR (ISO/IEC 13818-1 section 2.7.2); longer gaps get a packet of their own."""


def _descriptors(mapping: CodecMapping[Any], track: Track) -> bytes:
    descriptors = mapping.descriptors(track.codec)
    language = (track.language or "").encode("ascii", "ignore")
    if len(language) == 3:  # ISO 639-2
        descriptors += bytes((ts.DESCRIPTOR_LANGUAGE, 4)) + language + b"\x00"
    return descriptors


class Muxer:
    """Writes the frames of some tracks as transport packets. The tables are written where the caller wants them.

    The PCR is on the first video track, or on the first track; it follows the decoding times of the frames, so the
    bytes do not depend on when they are made.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        """Make a muxer. Raises LocalProtocolError for no track, too many, or a codec that cannot be carried."""
        if not 0 < len(tracks) <= MAXIMUM_TRACKS:
            raise LocalProtocolError(f"a transport stream of {len(tracks)} tracks cannot be written")
        for track in tracks:
            if track.codec not in CODECS:
                raise LocalProtocolError(f"MPEG-TS cannot carry {label(track.codec)}")
        self._tracks = list(tracks)
        self._mappings = [CODECS[track.codec] for track in tracks]
        self._writers = [PacketWriter(ts.FIRST_ELEMENTARY_PID + index) for index in range(len(tracks))]
        self._table_writers = PacketWriter(ts.PROGRAM_ASSOCIATION_PID), PacketWriter(ts.PROGRAM_MAP_PID)
        videos = [index for index, track in enumerate(tracks) if track.codec.kind is Kind.VIDEO]
        self._pcr_index = videos[0] if videos else 0
        self._last_pcr: int | None = None
        self._cells = dict.fromkeys(range(len(tracks)), 0)
        """The number of the next metadata cell of each track."""
        self._build_tables()

    def _build_tables(self) -> None:
        streams = tuple(
            ElementaryStream(
                mapping.stream_type(track.codec), ts.FIRST_ELEMENTARY_PID + index, _descriptors(mapping, track)
            )
            for index, (mapping, track) in enumerate(zip(self._mappings, self._tracks, strict=True))
        )
        self._sections = (
            build_program_association(ts.PROGRAM_MAP_PID),
            build_program_map(ProgramMap(ts.FIRST_ELEMENTARY_PID + self._pcr_index, streams)),
        )

    def update_track(self, index: int, track: Track) -> None:
        """Take new codec parameters of a track, from its next frame on; the codec stays of its kind."""
        if type(track.codec) is not type(self._tracks[index].codec):
            raise LocalProtocolError("a track of a transport stream cannot change its codec")
        self._tracks[index] = track
        self._build_tables()

    def tables(self) -> bytes:
        """Return the PAT and the PMT, two packets. To be written at the start of each segment."""
        return self._table_writers[0].write_section(self._sections[0]) + self._table_writers[1].write_section(
            self._sections[1]
        )

    def write_frame(self, index: int, frame: Frame, pts: int, dts: int) -> bytes:
        """Return the packets of one frame of the track at ``index``; ``pts`` and ``dts`` in ticks of 90 kHz."""
        mapping = self._mappings[index]
        codec = self._tracks[index].codec
        payload, stream_id = mapping.payload(codec, frame), mapping.stream_id(codec)
        if stream_id == ts.STREAM_ID_METADATA:
            payload, self._cells[index] = number_cells(payload, self._cells[index])
        header = build_pes_header(stream_id, len(payload), pts + DECODER_DELAY, dts + DECODER_DELAY)
        writer = self._writers[index]
        if index == self._pcr_index:
            return writer.write(header, payload, pcr=self._advance_pcr(dts), random_access=frame.key)
        packets = writer.write(header, payload, random_access=frame.key)
        if self._last_pcr is not None and dts - self._last_pcr > MAXIMUM_PCR_INTERVAL:
            return self._writers[self._pcr_index].write_pcr(self._advance_pcr(dts)) + packets
        return packets

    def _advance_pcr(self, time: int) -> int:
        if self._last_pcr is None or time > self._last_pcr:
            self._last_pcr = time
        return self._last_pcr
