"""A day of one viewer, and ten thousand viewers one after the other, without a network. libsrtp reads what is sent."""

from __future__ import annotations

import gc
import itertools
import random
import struct
import weakref
from types import SimpleNamespace
from typing import Any

import pylibsrtp

from polycast.hub.batch import FrameBatch
from polycast.hub.stats import CipherMeter, Counters, Reference
from polycast.media.codec import VP8
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.webrtc.outgoing_stream import OutgoingStream
from polycast.protocols.webrtc.viewer import Viewer, ViewerTrack
from polycast.wire.srtp.profiles import AEAD_AES_128_GCM, MasterKey
from polycast.wire.srtp.session import SrtpSender
from polycast.wire.webrtc.description import Format
from polycast.wire.webrtc.ice import CONSENT_SECONDS, LiteAgent, make_credentials
from polycast.wire.webrtc.stun import AttributeType, Message, MessageType, parse_message

DAY = 86_400
CLOCK_RATE = 90_000
SECONDS_PER_FRAME = 8
PACKETS_PER_FRAME = 8
FORMAT = Format(96, "VP8", CLOCK_RATE)
FRAME = Frame((b"\x10" + bytes(1_180 * PACKETS_PER_FRAME - 100),), 0, 0, key=True)

_RTP = struct.Struct("!BBHII")


class LibsrtpViewer:
    """A viewer whose packets libsrtp decrypts."""

    def __init__(self, streams: OutgoingStream, track: Track, seed: int) -> None:
        source = random.Random(seed)
        master = MasterKey(source.randbytes(AEAD_AES_128_GCM.key_size), source.randbytes(AEAD_AES_128_GCM.salt_size))
        policy = pylibsrtp.Policy(
            key=master.key + master.salt,
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
            srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
        )
        self._libsrtp = pylibsrtp.Session(policy)
        self.headers: list[tuple[int, int]] = []
        """Sequence number and timestamp of each packet."""
        self.reports = 0
        self.closed: list[str] = []
        peer: Any = SimpleNamespace(
            sender=SrtpSender(AEAD_AES_128_GCM, master),
            socket=SimpleNamespace(outbox=None, send_segments=self._receive),
            address=(),
            send_control=self._count_report,
            cipher_meter=CipherMeter(),
        )
        self.viewer = Viewer(
            peer,
            [ViewerTrack(streams.track(track), FORMAT)],
            Counters(),
            close=self.closed.append,
            reference=lambda: Reference("test"),
            request_key_frame=lambda: None,
            cname="test",
            now=0.0,
        )

    def _receive(self, data: memoryview, size: int, address: object) -> None:
        for start in range(0, len(data), size):
            packet = self._libsrtp.unprotect(bytes(data[start : start + size]))
            _, _, sequence, timestamp, _ = _RTP.unpack_from(packet)
            self.headers.append((sequence, timestamp))

    def _count_report(self, packet: bytes) -> None:
        self.reports += 1


def batch_at(second: int) -> FrameBatch:
    pts = second * CLOCK_RATE
    return FrameBatch([(0, Frame(FRAME.units, pts, pts, key=True))])


def check(headers: list[tuple[int, int]], frames: int) -> None:
    """Assert that packets are numbered without a gap, and have the times of so many frames."""
    assert len(headers) == frames * PACKETS_PER_FRAME
    for (sequence, _), (following, _) in itertools.pairwise(headers):
        assert following == sequence + 1 & 0xFFFF
    times = [timestamp for _, timestamp in headers[::PACKETS_PER_FRAME]]
    for time, later in itertools.pairwise(times):
        assert later == time + SECONDS_PER_FRAME * CLOCK_RATE & 0xFFFFFFFF


def test_a_day() -> None:
    """Sequence numbers start again twice or more often, and timestamps once, also for who has come at noon."""
    streams, track = OutgoingStream(), Track(0, VP8())
    first = LibsrtpViewer(streams, track, 1)
    late: LibsrtpViewer | None = None
    for second in range(0, DAY, SECONDS_PER_FRAME):
        if second == DAY // 2:
            late = LibsrtpViewer(streams, track, 2)
        batch = batch_at(second)
        for each in (first, late):
            if each is not None:
                each.viewer.deliver_frames(batch)
                each.viewer.tick(float(second))
    assert late is not None
    assert not first.closed
    assert not late.closed
    frames = DAY // SECONDS_PER_FRAME
    check(first.headers, frames)
    check(late.headers, frames // 2)
    for each, seen in ((first, frames), (late, frames // 2)):
        assert sum(sequence == 0 for sequence, _ in each.headers) >= seen * PACKETS_PER_FRAME // 65_536
        assert each.reports >= seen
    wraps = sum(later < earlier for (_, earlier), (_, later) in itertools.pairwise(first.headers))
    assert wraps in (1, 2), "90,000 ticks a second fill 32 bits in 13.3 hours"


def test_ten_thousand_viewers_leave_nothing() -> None:
    streams, track = OutgoingStream(), Track(0, VP8())
    frames = (FrameBatch([(0, Frame((b"\x10data",), pts, pts, key=True))]) for pts in itertools.count(0, 3_000))

    def come_and_go(count: int) -> list[weakref.ref[Viewer]]:
        gone = []
        for seed in range(count):
            visitor = LibsrtpViewer(streams, track, seed)
            visitor.viewer.deliver_frames(next(frames))
            assert len(visitor.headers) == 1
            gone.append(weakref.ref(visitor.viewer))
        return gone

    come_and_go(2_000)  # the packets that are kept for viewers who miss some are now as many as there will be
    gc.collect()
    before = len(gc.get_objects())
    gone = come_and_go(10_000)
    gc.collect()
    assert not any(each() for each in gone)
    del gone
    assert len(gc.get_objects()) < before + 100


def test_a_day_of_consent() -> None:
    """Checks every ten seconds keep a session, also when its network gives the peer another port every hour."""
    source = random.Random(7)
    own, peer = make_credentials(source.randbytes), make_credentials(source.randbytes)
    agent = LiteAgent(own, 0.0)
    for now in range(0, DAY, 10):
        assert not agent.has_expired(float(now))
        address = ("192.0.2.1", 10_000 + now // 3600)
        attributes = (
            (AttributeType.USERNAME, f"{own.ufrag}:{peer.ufrag}".encode()),
            (AttributeType.ICE_CONTROLLING, bytes(8)),
            (AttributeType.USE_CANDIDATE, b""),
        )
        request = Message(MessageType.REQUEST, source.randbytes(12), attributes)
        assert agent.answer(request_as_received(request, own.password), address, float(now)) is not None, now
        assert agent.selected == address
    assert agent.has_expired(DAY - 10 + CONSENT_SECONDS)


def request_as_received(message: Message, password: str) -> Message:
    return parse_message(message.serialize(password))
