"""The two containers of HLS segments: MPEG-TS and fragmented MP4."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import h264
from polycast.errors import ProtocolError
from polycast.media.codec import H264, H265, Codec, Kind
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.wire.hls.codecs import is_complete
from polycast.wire.mp4 import sample_entries as mp4
from polycast.wire.mp4.fragment import SampleRun, build_fragment
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization
from polycast.wire.mpegts.constants import CLOCK_RATE
from polycast.wire.mpegts.muxer import Muxer as TransportMuxer


class MpegtsPackager:
    """Writes segments as MPEG-TS; each begins with PAT and PMT (RFC 8216 section 3.2)."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._muxer = TransportMuxer(tracks)
        self._rates = [track.clock_rate for track in tracks]
        self._pieces: list[bytes] = []

    def start_segment(self) -> None:
        """Write the tables."""
        self._pieces.append(self._muxer.tables())

    def write(self, position: int, frame: Frame, pts: int, dts: int, duration: int) -> None:
        """Write the packets of a frame."""
        rate = self._rates[position]
        if rate != CLOCK_RATE:
            pts = rescale(pts, rate, CLOCK_RATE)
            dts = rescale(dts, rate, CLOCK_RATE)
        try:
            self._pieces.append(self._muxer.write_frame(position, frame, pts, dts))
        except ProtocolError:  # an AAC frame too large for ADTS, which no decoder would accept either
            return

    def flush(self) -> bytes:
        """Return what was written since the last call."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    def update_track(self, position: int, track: Track) -> None:
        """Set new codec parameters."""
        self._muxer.update_track(position, track)


class _TrackState:
    __slots__ = ("expected", "full", "has_changed", "run", "sample", "track")

    def __init__(self, track: Track) -> None:
        self.track = track
        self.has_changed = False
        """Whether an earlier init segment had other parameters."""
        self.sample = mp4.CODECS[track.codec].sample
        self.full = track.codec.kind is Kind.VIDEO
        self.run: SampleRun | None = None
        self.expected = 0
        """Decoding time that continues the run."""


def _parameter_sets(codec: Codec) -> bytes:
    """Return the parameter sets of a codec as the beginning of a sample; empty if it has none."""
    units: Sequence[bytes] = ()
    if isinstance(codec, H264):
        units = h264.parameter_sets(codec)
    elif isinstance(codec, H265):
        units = [unit for unit in (codec.vps, codec.sps, codec.pps) if unit]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


class Fmp4Packager:
    """Writes segments and parts as movie fragments, and their init segment."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._states = [_TrackState(track) for track in tracks]
        self._runs: list[SampleRun] = []
        self._sequence = 0
        self._has_initialization = False
        """Whether an init segment was created."""
        self.initialization_changed = True
        """Whether the next segment needs a new init segment; cleared when it is created."""

    def start_segment(self) -> None:
        """Do nothing: a fragment needs no preparation."""

    def write(self, position: int, frame: Frame, pts: int, dts: int, duration: int) -> None:
        """Add a sample."""
        state = self._states[position]
        run = state.run
        if run is None or dts != state.expected:
            run = state.run = SampleRun(position + 1, dts, state.full)
            self._runs.append(run)
        sample = state.sample(state.track.codec, frame)
        if state.has_changed and frame.key:
            # FFmpeg ignores all init segments but the first one.
            sample = _parameter_sets(state.track.codec) + sample
        run.append(sample, duration, pts - dts, frame.key)
        state.expected = dts + duration

    def flush(self) -> bytes:
        """Return the fragment with the samples since the last call."""
        self._sequence += 1
        self._runs.sort(key=lambda run: run.track_id)
        body = build_fragment(self._sequence, self._runs)
        self._runs = []
        for state in self._states:
            state.run = None
        return body

    def update_track(self, position: int, track: Track) -> None:
        """Set new codec parameters, which need a new init segment."""
        state = self._states[position]
        state.has_changed |= self._has_initialization
        state.track = track
        self.initialization_changed = True

    def initialization(self) -> bytes:
        """Return the init segment for the tracks whose parameters are known."""
        self._has_initialization = True
        tracks = [
            InitializationTrack(position + 1, state.track.codec, state.track.clock_rate, state.track.language)
            for position, state in enumerate(self._states)
            if is_complete(state.track.codec)
        ]
        return build_initialization(tracks)
