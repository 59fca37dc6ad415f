"""What a viewer with a slow connection misses, and how it continues."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from polycast.hub.batch import FrameBatch
from polycast.hub.stats import CipherMeter, Counters, Reference
from polycast.media.codec import VP8, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.webrtc import viewer as viewer_module
from polycast.protocols.webrtc.outgoing_stream import OutgoingStream
from polycast.protocols.webrtc.viewer import Viewer, ViewerTrack
from polycast.wire.webrtc.description import Format

VIDEO, AUDIO = 0, 1


class SlowConnection:
    """A viewer of pictures and sound over TCP, whose queue is full while ``is_full``."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self._outbox = SimpleNamespace(ready=True, dropped=0, has_drained=lambda: not self.is_full)
        self.is_full = False
        socket = SimpleNamespace(outbox=self._outbox, send_segments=lambda data, size, address: None)
        sender = SimpleNamespace(profile=SimpleNamespace(tag_size=0), protect_all=lambda sealings: None)
        peer: Any = SimpleNamespace(
            sender=sender, socket=socket, address=(), send_control=lambda packet: None, cipher_meter=CipherMeter()
        )
        streams = OutgoingStream()
        formats = (Format(96, "VP8", 90_000), Format(111, "opus", 48_000))
        tracks = (Track(VIDEO, VP8()), Track(AUDIO, Opus(2)))
        self.tracks = [ViewerTrack(streams.track(track), chosen) for track, chosen in zip(tracks, formats, strict=True)]
        self._pts = itertools.count()
        self._viewer = Viewer(
            peer,
            self.tracks,
            Counters(),
            close=self.closed.append,
            reference=lambda: Reference("test"),
            request_key_frame=lambda: None,
            cname="test",
            now=0.0,
        )

    def deliver(self, *indexes: int) -> None:
        """Deliver a batch with one frame of each of these tracks; a frame is one packet, and a key frame."""
        pts = next(self._pts) * 1000
        self._viewer.deliver_frames(
            FrameBatch([(index, Frame((b"\x10data",), pts, pts, key=True)) for index in indexes])
        )

    def drop_sound(self, count: int) -> None:
        """Deliver packets with sound while the queue is full."""
        self._outbox.ready, self.is_full = False, True
        for _ in range(count):
            self.deliver(AUDIO)
        self.is_full = False


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> SlowConnection:
    monkeypatch.setattr(viewer_module, "MAXIMUM_GAP", 10)
    connection = SlowConnection()
    connection.deliver(VIDEO)
    connection.deliver(AUDIO)
    assert all(track.packets == 1 for track in connection.tracks)
    return connection


def test_sound_dropped_long_ago_does_not_close_a_viewer(connection: SlowConnection) -> None:
    """The sound continues in a batch after that of the key frame."""
    connection.drop_sound(1)
    connection.deliver(VIDEO)
    for _ in range(20):
        connection.deliver(AUDIO)
    connection.drop_sound(1)
    connection.deliver(VIDEO, AUDIO)
    assert not connection.closed
    assert connection.tracks[AUDIO].packets == 1 + 20 + 1


@pytest.mark.parametrize("batches", [[(VIDEO, AUDIO)], [(VIDEO,), (AUDIO,)]], ids=["together", "apart"])
def test_too_much_dropped_sound_closes_a_viewer(connection: SlowConnection, batches: list[tuple[int, ...]]) -> None:
    """SRTP would not follow the sequence numbers."""
    connection.drop_sound(11)
    for batch in batches:
        connection.deliver(*batch)
    assert connection.closed == ["the viewer was too slow for too long"]
