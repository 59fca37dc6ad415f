"""Decides which files of a media playlist to download next, and when to reload the playlist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from polycast.wire.hls.parsed import (
    ByteRange,
    Initialization,
    Key,
    ParsedMediaPlaylist,
    ParsedMultivariantPlaylist,
    ParsedPart,
    ParsedRendition,
    ParsedSegment,
    ParsedVariant,
)
from polycast.wire.mp4.sample_entries import MAPPINGS

# Target durations before the live edge at which playback starts (RFC 8216 section 6.3.3).
HOLD_BACK_TARGETS: Final = 3

SHORTEST_RELOAD_SECONDS: Final = 0.1

# Seconds by which the sum of the durations of parts may differ from the duration of their segment, by rounding.
DURATION_TOLERANCE: Final = 0.001

# Segments by which the numbering may go back before the server is assumed to have restarted.
RESTART_DISTANCE: Final = 2

SUPPORTED_CODECS: Final = tuple(
    sorted({entry.decode("ascii").lower() for mapping in MAPPINGS for entry in mapping.entries})
)
"""Prefixes of codec strings (RFC 6381), in lower case: the sample entries of MP4, also for MPEG-TS."""

# The same, of subtitles (RFC 8216 section 3.5, ISO/IEC 14496-30): they have their own renditions, which are not played.
SUBTITLE_CODECS: Final = ("stpp", "wvtt")


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, or a part of one: a segment or a partial segment."""

    uri: str
    byte_range: ByteRange | None
    initialization: Initialization | None
    key: Key | None
    sequence: int
    """Media sequence number of the segment."""
    period: int
    """Changes with each discontinuity, where times and container restart."""
    duration: float
    """Seconds."""
    ends_segment: bool
    is_repeated: bool = False
    """Whether it may contain frames that pieces before it have contained."""


class _Position(NamedTuple):
    """Where the next piece starts."""

    sequence: int
    parts: int
    """Parts of that segment before it."""
    seconds: float
    """Their duration."""
    period: int | None


class PlaylistFollower:
    """Follows one media playlist from download to download."""

    def __init__(self) -> None:
        self._next_sequence: int | None = None
        self._next_part = 0
        """Parts of that segment that were already returned."""
        self._part_seconds = 0.0
        """Their duration."""
        self._positions: dict[Piece, _Position] = {}
        """Of the pieces that `update` returned last."""
        self._missing: tuple[int, str, ByteRange | None] | None = None
        """Sequence number and address of the last piece that was put back."""
        self._was_put_back = False
        self._last_state: tuple[int, int, bool] | None = None
        self._period: int | None = None
        """Counted here, because servers do not update EXT-X-DISCONTINUITY-SEQUENCE when segments leave the playlist."""
        self.skipped = 0
        """Segments that left the playlist before they were downloaded."""
        self.has_changed = False
        """Whether the last playlist contained something new."""

    def update(self, playlist: ParsedMediaPlaylist) -> list[Piece]:
        """Return the new pieces of a playlist, in order."""
        edge = playlist.segments[-1].sequence + 1 if playlist.segments else playlist.media_sequence
        state = (edge, len(playlist.open_parts), playlist.ended)
        self.has_changed = state != self._last_state
        self._last_state = state
        if self._next_sequence is None or self._next_sequence > edge + RESTART_DISTANCE:
            self._next_sequence, self._next_part, self._part_seconds = _start_of(playlist, edge), 0, 0.0
            if self._period is not None:
                self._period += 1
        first = playlist.media_sequence + playlist.skipped_segments
        if self._next_sequence < first:
            self.skipped += first - self._next_sequence
            self._next_sequence, self._next_part, self._part_seconds = first, 0, 0.0
        self._was_put_back = False
        self._positions.clear()
        pieces: list[Piece] = []
        for segment in playlist.segments:
            if segment.sequence >= (self._next_sequence or 0):
                self._add_segment(segment, pieces)
        if playlist.part_target is not None and self._next_sequence == edge:
            self._add_open_parts(playlist, pieces)
        return pieces

    def put_back(self, piece: Piece) -> bool:
        """Go back to a piece that the server no longer has: the next playlist has the whole segment or later ones
        instead. Return False if that piece was already put back."""
        position = self._positions.get(piece)
        address = (piece.sequence, piece.uri, piece.byte_range)
        if position is None or address == self._missing:
            return False
        self._missing = address
        self._was_put_back = True
        self._next_sequence, self._next_part, self._part_seconds, self._period = position
        return True

    def reload_address(self, url: str, playlist: ParsedMediaPlaylist) -> str:
        """Return the address of the next playlist: a blocking request, if the server supports it."""
        if not playlist.control.can_block_reload or playlist.ended or self._next_sequence is None:
            return url
        parts = urlsplit(url)
        query = [
            (name, value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if not name.startswith("_HLS_")
        ]
        query.append(("_HLS_msn", str(self._next_sequence)))
        if playlist.part_target is not None:
            query.append(("_HLS_part", str(self._next_part)))
        return urlunsplit(parts._replace(query=urlencode(query)))

    def reload_delay(self, playlist: ParsedMediaPlaylist, elapsed: float) -> float:
        """Return the seconds to wait, ``elapsed`` seconds after the last download started (RFC 8216 section 6.3.4)."""
        if self._was_put_back:
            return SHORTEST_RELOAD_SECONDS
        if playlist.control.can_block_reload and self.has_changed:
            return 0.0
        interval = playlist.target_duration if self.has_changed else playlist.target_duration / 2
        return max(SHORTEST_RELOAD_SECONDS, interval - elapsed)

    def _add_segment(self, segment: ParsedSegment, pieces: list[Piece]) -> None:
        taken, self._next_part = self._next_part, 0
        seconds, self._part_seconds = self._part_seconds, 0.0
        is_begun = segment.sequence == self._next_sequence and taken > 0
        position = _Position(segment.sequence, taken, seconds, self._period)
        self._next_sequence = segment.sequence + 1
        if self._period is None:
            self._period = segment.discontinuity_sequence
        elif segment.discontinuity:
            self._period += 1
        if segment.gap:
            return
        # Parts leave the playlist before their segment. What is missing of it then is only there as a whole.
        is_cut = is_begun and len(segment.parts) < taken and seconds < segment.duration - DURATION_TOLERANCE
        if is_cut or not is_begun:
            piece = self._piece(segment, segment.uri, segment.byte_range, segment.duration, is_repeated=is_begun)
            self._add(piece, position, pieces)
            return
        rest = segment.parts[taken:]
        for number, part in enumerate(rest, 1):
            if not part.gap:
                is_last = number == len(rest)
                piece = self._piece(segment, part.uri, part.byte_range, part.duration, ends_segment=is_last)
                self._add(piece, position, pieces)
            position = position._replace(parts=position.parts + 1, seconds=position.seconds + part.duration)

    def _add_open_parts(self, playlist: ParsedMediaPlaylist, pieces: list[Piece]) -> None:
        last = playlist.segments[-1] if playlist.segments else None
        new: tuple[ParsedPart, ...] = playlist.open_parts[self._next_part :]
        sequence = self._next_sequence or 0
        for part in new:
            if not part.gap:
                piece = Piece(
                    part.uri,
                    part.byte_range,
                    last.initialization if last is not None else None,
                    last.key if last is not None else None,
                    sequence,
                    self._period or 0,
                    part.duration,
                    ends_segment=False,
                    is_repeated=self._is_missing(sequence),
                )
                self._add(piece, _Position(sequence, self._next_part, self._part_seconds, self._period), pieces)
            self._next_part += 1
            self._part_seconds += part.duration

    def _add(self, piece: Piece, position: _Position, pieces: list[Piece]) -> None:
        self._positions[piece] = position
        pieces.append(piece)

    def _is_missing(self, sequence: int) -> bool:
        """Whether a piece of this segment was put back, perhaps after a part of it was received."""
        return self._missing is not None and self._missing[0] == sequence

    def _piece(
        self,
        segment: ParsedSegment,
        uri: str,
        byte_range: ByteRange | None,
        duration: float,
        *,
        ends_segment: bool = True,
        is_repeated: bool = False,
    ) -> Piece:
        return Piece(
            uri,
            byte_range,
            segment.initialization,
            segment.key,
            segment.sequence,
            self._period or 0,
            duration,
            ends_segment,
            is_repeated or self._is_missing(segment.sequence),
        )


def _start_of(playlist: ParsedMediaPlaylist, edge: int) -> int:
    """The first segment to play: the first one of a recording, or one before the edge of a live stream."""
    if playlist.ended:
        return playlist.segments[0].sequence if playlist.segments else edge
    control = playlist.control
    hold_back = control.part_hold_back if playlist.part_target is not None else control.hold_back
    if hold_back is None:
        hold_back = float(HOLD_BACK_TARGETS * playlist.target_duration)
    distance = sum(part.duration for part in playlist.open_parts)
    for segment in reversed(playlist.segments):
        distance += segment.duration
        if distance >= hold_back:
            return segment.sequence
    return playlist.segments[0].sequence if playlist.segments else edge


def choose_variant(playlist: ParsedMultivariantPlaylist) -> tuple[ParsedVariant, ParsedRendition | None]:
    """Return the supported variant with the highest bit rate, and its audio rendition if that has its own playlist."""
    readable = [variant for variant in playlist.variants if all(map(_is_supported, variant.codecs))]
    variant = max(readable or playlist.variants, key=lambda variant: variant.bandwidth)
    renditions = [
        rendition
        for rendition in playlist.renditions
        if rendition.kind == "AUDIO" and rendition.group == variant.audio_group and rendition.group
    ]
    chosen = next((rendition for rendition in renditions if rendition.default), renditions[0] if renditions else None)
    return variant, chosen if chosen is not None and chosen.uri is not None else None


def _is_supported(codec: str) -> bool:
    return codec.lower().startswith(SUPPORTED_CODECS + SUBTITLE_CODECS)
