"""The two ends of a subscription, without I/O: `OwnerConnection` and `SubscriberConnection`.

1. The subscriber says which path it wants (HELLO), with the revision of the owner's claim as it knows it.
2. Both prove that they have the cluster's token, without sending it: each answers a random number of the other with a
   keyed hash (CHALLENGE, PROOF; RFC 2104). Over Unix sockets the token may be empty: their folder is private.
3. The owner describes the stream (START), or refuses (REFUSED).
4. Media, reports and changed descriptions follow until the stream ends (ENDED). ALIVE says that nothing else is to say.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum, auto
from typing import Final, NamedTuple

import msgspec

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.subscription.messages import (
    VERSION,
    Kind,
    Message,
    MessageReader,
    Report,
    Start,
    message,
    parse_frame,
    parse_packets,
    parse_report,
    parse_start,
    parse_track,
    start,
)

GREETING_SECONDS: Final = 10.0
"""For everything before the media, on either side; the wait for an on-demand source is not part of it."""
ALIVE_SECONDS: Final = 2.0
"""Between two signs of life of the owner."""
SILENCE_SECONDS: Final = 8.0
"""Without anything from the owner after which the subscriber gives it up."""
NONCE_SIZE: Final = 16
"""Bytes of each random number."""


class Reason(Enum):
    """Why a subscription is refused, or ends."""

    NOT_THE_OWNER = "not the owner"
    """The path is not published there (any more), or by an older claim than the subscriber knows of."""
    UNAUTHENTICATED = "unauthenticated"
    """The token is another one."""
    NO_STREAM = "no stream"
    """The owner has no stream now."""
    STREAM_ENDED = "stream ended"
    VERSION = "version"


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first message of a subscriber."""

    version: int
    node: str
    path: str
    revision: int
    """Of the owner's claim; 0 for a path whose source is to be started there."""
    nonce: bytes


class _Challenge(msgspec.Struct, frozen=True, array_like=True):
    nonce: bytes
    proof: bytes


class _End(msgspec.Struct, frozen=True, array_like=True):
    reason: Reason
    text: str


class Subscribed(NamedTuple):
    """A node of the cluster wants a path; it is answered with `OwnerConnection.accept` or `refuse`."""

    hello: Hello


class KeyFrameWanted(NamedTuple):
    """A reader of the subscriber needs a key frame."""


class Started(NamedTuple):
    """The owner has accepted; media follows."""

    start: Start


class PacketsReceived(NamedTuple):
    """Packets of one track, as they were received by the owner."""

    track: int
    run: InterleavedRun


class FrameReceived(NamedTuple):
    """A frame of a track."""

    track: int
    frame: Frame


class TrackChanged(NamedTuple):
    """The description of a track has changed."""

    track: Track


class ReportReceived(NamedTuple):
    """A sender report of the publisher."""

    track: int
    report: Report


class Ended(NamedTuple):
    """The owner has refused, or the stream has ended."""

    reason: Reason
    text: str


OwnerEvent = Subscribed | KeyFrameWanted
SubscriberEvent = Started | PacketsReceived | FrameReceived | TrackChanged | ReportReceived | Ended


class State(Enum):
    """The state of either end."""

    GREETING = auto()
    """HELLO is awaited, or its answer."""
    PROVING = auto()
    """PROOF is awaited, or its answer."""
    WAITING = auto()
    """Owner only: the stream is awaited."""
    STREAMING = auto()
    ENDED = auto()


_encoder: Final = msgspec.msgpack.Encoder()
_hello_decoder: Final = msgspec.msgpack.Decoder(Hello)
_challenge_decoder: Final = msgspec.msgpack.Decoder(_Challenge)
_end_decoder: Final = msgspec.msgpack.Decoder(_End)


def _proof(token: bytes, who: bytes, hello: Hello, nonce: bytes) -> bytes:
    return hmac.digest(token, who + hello.nonce + nonce + _encoder.encode(hello), hashlib.sha256)


class _Connection:
    def __init__(self, token: bytes, nonce: bytes, now: float) -> None:
        if len(nonce) != NONCE_SIZE:
            raise LocalProtocolError(f"the random number must have {NONCE_SIZE} bytes")
        self._token = token
        self._nonce = nonce
        self._output: list[bytes] = []
        self._reader = MessageReader()
        self._deadline = now + GREETING_SECONDS
        self.state = State.GREETING

    @property
    def held_size(self) -> int:
        """Bytes of the message that is not complete yet."""
        return self._reader.held_size

    def data_to_send(self) -> bytes:
        """Return what is to be sent now."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def _send(self, kind: Kind, body: bytes = b"") -> None:
        self._output.append(message(kind, body))

    def _unexpected(self, received: Message) -> RemoteProtocolError:
        return RemoteProtocolError(f"{received.kind.name} is not expected in the state {self.state.name}")


class OwnerConnection(_Connection):
    """The owner's end. ``token``: of the cluster; ``nonce``: `NONCE_SIZE` random bytes; ``now``: monotonic seconds."""

    def __init__(self, token: bytes, nonce: bytes, now: float) -> None:
        super().__init__(token, nonce, now)
        self._hello: Hello | None = None

    def receive_data(self, data: bytes, now: float) -> list[OwnerEvent]:
        """Process received bytes. Raises RemoteProtocolError."""
        self._reader.feed(data)
        happened: list[OwnerEvent] = []
        while self.state is not State.ENDED and (received := self._reader.next()) is not None:
            happened += self._handle(received)
        return happened

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is to be called."""
        return None if self.state in (State.ENDED, State.WAITING) else self._deadline

    def handle_timeout(self, now: float) -> None:
        """Say that the owner lives. Raises RemoteProtocolError if the subscriber has not said what it wants."""
        due = self.next_timeout()
        if due is None or now < due:
            return
        if self.state is not State.STREAMING:
            raise RemoteProtocolError(f"the node has not said within {GREETING_SECONDS:g} s what it wants")
        self._send(Kind.ALIVE)
        self._deadline = now + ALIVE_SECONDS

    def accept(self, described: Start, now: float) -> None:
        """Accept the subscription; media may be sent after this."""
        if self.state is not State.WAITING:
            raise LocalProtocolError("there is no subscription to accept")
        self.state = State.STREAMING
        self._deadline = now + ALIVE_SECONDS
        self._output.append(start(described))

    def refuse(self, reason: Reason, text: str) -> None:
        """Refuse the subscription."""
        self._end(Kind.REFUSED, reason, text)

    def end(self, reason: Reason, text: str) -> None:
        """End the subscription."""
        self._end(Kind.ENDED, reason, text)

    def _end(self, kind: Kind, reason: Reason, text: str) -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._send(kind, _encoder.encode(_End(reason, text)))

    def _handle(self, received: Message) -> list[OwnerEvent]:
        kind = received.kind
        if kind is Kind.HELLO and self.state is State.GREETING:
            self._challenge(received.body)
            return []
        if kind is Kind.PROOF and self.state is State.PROVING and self._hello is not None:
            if not hmac.compare_digest(received.body, _proof(self._token, b"subscriber", self._hello, self._nonce)):
                self.refuse(Reason.UNAUTHENTICATED, "the token of the cluster is another one")
                return []
            self._reader.is_trusted = True
            self.state = State.WAITING
            return [Subscribed(self._hello)]
        if kind is Kind.KEY_FRAME and self.state is State.STREAMING:
            return [KeyFrameWanted()]
        raise self._unexpected(received)

    def _challenge(self, body: bytes) -> None:
        try:
            hello = _hello_decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise RemoteProtocolError(f"invalid HELLO: {error}") from error
        if len(hello.nonce) != NONCE_SIZE:
            raise RemoteProtocolError("invalid HELLO: the random number has the wrong size")
        if hello.version != VERSION:
            self.refuse(Reason.VERSION, f"this node speaks version {VERSION}, not {hello.version}")
            return
        self._hello = hello
        self.state = State.PROVING
        proof = _proof(self._token, b"owner", hello, self._nonce)
        self._send(Kind.CHALLENGE, _encoder.encode(_Challenge(self._nonce, proof)))


class SubscriberConnection(_Connection):
    """The subscriber's end. Arguments as for `OwnerConnection`; ``node`` is its own name, ``revision`` that of the
    owner's claim."""

    def __init__(self, token: bytes, nonce: bytes, now: float, *, node: str, path: str, revision: int) -> None:
        super().__init__(token, nonce, now)
        self._hello = Hello(VERSION, node, path, revision, nonce)
        self._track_count = 0
        self._send(Kind.HELLO, _encoder.encode(self._hello))

    def receive_data(self, data: bytes, now: float) -> list[SubscriberEvent]:
        """Process received bytes. Raises RemoteProtocolError."""
        self._reader.feed(data)
        if self.state is State.STREAMING:
            self._deadline = now + SILENCE_SECONDS
        happened: list[SubscriberEvent] = []
        while self.state is not State.ENDED and (received := self._reader.next()) is not None:
            happened += self._handle(received, now)
        return happened

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is to be called."""
        return None if self.state is State.ENDED else self._deadline

    def handle_timeout(self, now: float) -> None:
        """Raise RemoteProtocolError if the owner is silent."""
        if self.state is not State.ENDED and now >= self._deadline:
            raise RemoteProtocolError("the node that publishes the path does not answer")

    def wait_longer(self, seconds: float, now: float) -> None:
        """Give the owner more time for its answer: it may have to start a source first."""
        self._deadline = max(self._deadline, now + seconds)

    def request_key_frame(self) -> None:
        """Ask for a key frame."""
        if self.state is State.STREAMING:
            self._send(Kind.KEY_FRAME)

    def _handle(self, received: Message, now: float) -> list[SubscriberEvent]:
        kind, body = received.kind, received.body
        if self.state is State.STREAMING:
            return self._media(received)
        if kind is Kind.REFUSED:
            return self._ended(body)
        if kind is Kind.CHALLENGE and self.state is State.GREETING:
            self._prove(body)
            return []
        if kind is Kind.START and self.state is State.PROVING:
            described = parse_start(body)
            self._track_count = len(described.tracks)
            self.state = State.STREAMING
            self._deadline = now + SILENCE_SECONDS
            return [Started(described)]
        raise self._unexpected(received)

    def _prove(self, body: bytes) -> None:
        try:
            challenge = _challenge_decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise RemoteProtocolError(f"invalid CHALLENGE: {error}") from error
        if len(challenge.nonce) != NONCE_SIZE:
            raise RemoteProtocolError("invalid CHALLENGE: the random number has the wrong size")
        if not hmac.compare_digest(challenge.proof, _proof(self._token, b"owner", self._hello, challenge.nonce)):
            raise RemoteProtocolError("the token of the cluster is another one at the node that publishes the path")
        self._reader.is_trusted = True
        self.state = State.PROVING
        self._send(Kind.PROOF, _proof(self._token, b"subscriber", self._hello, challenge.nonce))

    def _ended(self, body: bytes) -> list[SubscriberEvent]:
        try:
            end = _end_decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise RemoteProtocolError(f"invalid end: {error}") from error
        self.state = State.ENDED
        return [Ended(end.reason, end.text)]

    def _media(self, received: Message) -> list[SubscriberEvent]:
        kind, track, body = received.kind, received.track, received.body
        if kind is Kind.ALIVE:
            return []
        if kind is Kind.ENDED:
            return self._ended(body)
        if track >= self._track_count:
            raise RemoteProtocolError(f"there is no track {track}")
        if kind is Kind.PACKETS:
            return [PacketsReceived(track, run) for run in parse_packets(body, received.count)]
        if kind is Kind.FRAME:
            return [FrameReceived(track, parse_frame(body, received.count))]
        if kind is Kind.TRACK:
            return [TrackChanged(parse_track(track, body))]
        if kind is Kind.REPORT:
            return [ReportReceived(track, parse_report(body))]
        raise self._unexpected(received)
