"""Cuts a period out of the samples of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from polycast.media.timebase import NANOSECONDS, rescale_nearest
from polycast.playback.files import Piece
from polycast.wire.mp4.recorded_movie import RecordedTrack
from polycast.wire.mp4.runs import NOT_SYNC, Run


class Cut(NamedTuple):
    """Samples within the period, and where their bytes are."""

    token: int
    """Of the piece that they are from."""
    source: Run
    """The samples as the file describes them."""
    run: Run
    """The same samples at times that count from the start of the period."""
    shown_from: int | None = None
    """For samples before the period: when the first one within it is due."""


class _TrackState:
    __slots__ = ("has_begun", "lead", "track")

    def __init__(self, track: RecordedTrack) -> None:
        self.track = track
        self.has_begun = False
        """Whether there was a sample within the period."""
        self.lead: list[Cut] = []
        """Samples of pictures before the period, from a key frame on, that decoders need."""


class Cutter:
    """Takes the pieces of files that continue each other.

    A sample belongs to the period in which its decoding time is. Pictures need those before them, back to a key frame:
    these come first, at times before 0.
    """

    def __init__(self, tracks: Sequence[RecordedTrack]) -> None:
        self._states = {track.track_id: _TrackState(track) for track in tracks}
        self.has_begun = False
        """Whether there was a sample within the period."""

    def cut(self, piece: Piece, base: int, end: int) -> Iterator[list[Cut]]:
        """Yield the samples of a piece that belong to the period, in groups of one run per track at most.

        ``base`` is when the file of the piece starts, ``end`` when the period ends, in nanoseconds from its start.
        """
        leads: list[list[Cut]] = []
        group: list[Cut] = []
        for run in piece.runs:
            state = self._states.get(run.track_id)
            if state is None:
                continue
            timescale = state.track.timescale
            shift = rescale_nearest(base, NANOSECONDS, timescale)
            last = run.index_at(rescale_nearest(end, NANOSECONDS, timescale) - shift)
            first = min(run.index_at(-shift), last)
            if first and not state.has_begun:
                self._keep_lead(state, _cut(piece, run.cut(0, first), shift))
            if first < last:
                cut = _cut(piece, run.cut(first, last), shift)
                if state.lead and cut.run.flags[0] & NOT_SYNC:
                    leads += [[lead._replace(shown_from=cut.run.time)] for lead in state.lead]
                state.lead = []
                state.has_begun = self.has_begun = True
                if any(other.run.track_id == run.track_id for other in group):
                    leads.append(group)
                    group = []
                group.append(cut)
        yield from leads
        if group:
            yield group

    @staticmethod
    def _keep_lead(state: _TrackState, cut: Cut) -> None:
        if not state.track.is_video:
            return
        key = cut.run.last_sync(len(cut.run))
        if key is not None:
            state.lead = []
            cut = Cut(cut.token, cut.source.cut(key, len(cut.run)), cut.run.cut(key, len(cut.run)))
        state.lead.append(cut)


def _cut(piece: Piece, run: Run, shift: int) -> Cut:
    return Cut(piece.token, run, run.at(run.time + shift))
