"""A path that is fed by another one: its readers see what those of the other path see, at the same times."""

from __future__ import annotations

import asyncio
import struct

import pytest
from tests.hub.support import AUDIO, VIDEO, Client, Frames, Packets, make_hub, publish_data

from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.hub.relay import PathRelay
from polycast.hub.stream import Stream
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, wall_time_to_ntp
from polycast.rtp.header import build_header
from polycast.rtp.rtcp import SenderReport

IDR = b"\x65\x88" + bytes(50)
SOUND = struct.pack("!HH", 16, 4 << 3) + b"\x21\x00\x03\x40"
MIDNIGHT = WallTime(1_700_000_000 * NANOSECONDS)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(PathRelay, "now", lambda _: clock.now)
    return clock


def send(stream: Stream, track: int, timestamp: int, now: float) -> None:
    sequence = (stream.tracks[track].next_sequence or 0) & 0xFFFF
    payload_type, payload = (96, IDR) if track == 0 else (97, SOUND)
    packet = build_header(payload_type, sequence, timestamp, 7 + track, marker=True) + payload
    publish_data(stream, track, packet, now)
    stream.flush()


async def relayed(hub: Hub) -> tuple[Stream, Path, Stream]:
    """Return a stream, and the path and stream that it is relayed to."""
    origin, path = hub.path("origin"), hub.path("cam")
    client = Client()
    origin.set_publisher(client)
    stream = origin.start_publishing(client, [VIDEO, AUDIO], publishes_packets=True)
    async with asyncio.timeout(60):
        return stream, path, await path.wait_ready(follows=True)


def first_times(reader: Frames) -> list[float]:
    """Return the time in seconds of the first frame of video and audio."""
    times: dict[int, float] = {}
    for index, entry in reader.entries:
        if isinstance(entry, Frame):
            times.setdefault(index, entry.pts / (90_000, 48_000)[index])
    return [times[0], times[1]]


async def test_a_later_track_has_later_times(clock: Clock) -> None:
    hub = make_hub({"origin": {}, "cam": {"fallback": "/origin"}})
    stream, path, own = await relayed(hub)
    direct, relay = Frames(), Frames()
    stream.add_reader(direct)
    own.add_reader(relay)
    send(stream, 0, 9000, clock.now)
    clock.now += 1.5
    send(stream, 1, 77, clock.now)
    video, audio = first_times(direct)
    assert audio - video == pytest.approx(1.5, abs=0.001)
    assert first_times(relay) == [video, audio]
    path.close("end")


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "a relay that begins later"])
async def test_sender_reports_put_the_tracks_in_sync(clock: Clock, late: bool) -> None:
    hub = make_hub({"origin": {}, "cam": {"fallback": "/origin"}})
    origin = hub.path("origin")
    client = Client()
    origin.set_publisher(client)
    stream = origin.start_publishing(client, [VIDEO, AUDIO], publishes_packets=True)
    path = hub.path("cam")
    if not late:
        async with asyncio.timeout(60):
            await path.wait_ready(follows=True)
    direct = Frames()
    stream.add_reader(direct)
    if late:  # what has been said before must not be lost
        send(stream, 0, 1_000_000, clock.now)
        send(stream, 1, 500_000, clock.now)
    # Sound of the same moment arrives 400 ms after the picture.
    stream.on_sender_report(0, SenderReport(7, wall_time_to_ntp(MIDNIGHT), 1_000_000, 1, 1), clock.now)
    stream.on_sender_report(1, SenderReport(8, wall_time_to_ntp(MIDNIGHT), 480_800, 1, 1), clock.now)
    async with asyncio.timeout(60):
        own = await path.wait_ready(follows=True)
    relay, packets = Frames(), Packets()
    own.add_reader(relay)
    own.add_reader(packets)
    direct.entries.clear()
    send(stream, 0, 1_009_000, clock.now)
    clock.now += 0.4
    send(stream, 1, 485_600, clock.now)
    video, audio = first_times(direct)
    relay_video, relay_audio = first_times(relay)
    assert audio - video == pytest.approx(0.0, abs=0.001)
    assert relay_audio - relay_video == pytest.approx(0.0, abs=0.001)
    # Readers over RTP are told the same by our sender reports.
    walls = [track.reports.wall_time_of(track.last_timestamp) for track in own.tracks]
    assert walls[0] is not None
    assert walls[1] is not None
    assert walls[1] - walls[0] == pytest.approx(0, abs=1_000_000)
    path.close("end")
