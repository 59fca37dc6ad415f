"""What both sides of an RTMP connection have in common: handshake, chunks, control messages, acknowledgements."""

from __future__ import annotations

from abc import ABC, abstractmethod

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp.chunks import (
    MAXIMUM_COMMAND_SIZE,
    ChunkReader,
    ChunkWriter,
    RawMessage,
)
from polycast.wire.rtmp.demuxer import Demuxer
from polycast.wire.rtmp.events import Event
from polycast.wire.rtmp.handshake import ClientHandshake, ServerHandshake
from polycast.wire.rtmp.messages import (
    TYPES,
    Acknowledgement,
    Command,
    Data,
    Message,
    MessageType,
    SetPeerBandwidth,
    UserControl,
    UserControlEvent,
    WindowAcknowledgementSize,
    parse_message,
    split_aggregate,
)
from polycast.wire.rtmp.metadata import parse_metadata
from polycast.wire.rtmp.muxer import Muxer
from polycast.wire.rtmp.states import Input, State, advance

WINDOW_SIZE = 2_500_000
"""In bytes: the acknowledgement window that is requested and, until the peer sends its own, used."""

MINIMUM_WINDOW_SIZE = 1_000
"""In bytes. A smaller window of a peer would require acknowledging single packets."""

CONTROL_CHUNK_STREAM = 2
COMMAND_CHUNK_STREAM = 3
STATUS_CHUNK_STREAM = 5

CONTROL_TYPES = frozenset(
    (
        MessageType.SET_CHUNK_SIZE,
        MessageType.ABORT,
        MessageType.ACKNOWLEDGEMENT,
        MessageType.USER_CONTROL,
        MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE,
        MessageType.SET_PEER_BANDWIDTH,
    )
)

WORK_LIMIT = 1_000
"""The cost that one call may have, in the units below, which are one or two microseconds each."""

MEDIA_COST = 4
CONTROL_COST = 30

MEDIA_BYTES_PER_COST = 16
"""A message may have hundreds of tracks, NAL units or audio frames; the shortest have about ten bytes."""

CONTROL_BYTES_PER_COST = 8
"""AMF values have one byte and more."""

MAXIMUM_EVENTS = 100
"""Events that one call returns. Each may be a frame, which costs its receiver as much again."""

MAXIMUM_IDLE_PARTIAL_SIZE = 2 * MAXIMUM_COMMAND_SIZE
"""Bytes of incomplete messages while no media is expected: the largest command, and part of another one."""

_MEDIA_STATES = (State.PUBLISHING, State.PLAYING)
_MEDIA_TYPES = (9, 8)
"""Video and audio as plain integers, for speed."""


class Connection(ABC):
    """Base of `ServerConnection` and `ClientConnection`.

    Call `receive_data` with received bytes, `handle_timeout` when `next_timeout` is due, and after each of these and
    every other method, write `data_to_send` to the socket. `RemoteProtocolError` means that the peer violated the
    protocol: write what is left to send, close, and log its text. After it, the connection is closed.

    One call does a limited amount of work, whatever the peer sends. While ``has_more`` is true, serve other
    connections, then call `receive_data` without bytes; do not read from the socket until then.
    """

    def __init__(
        self,
        handshake: ServerHandshake | ClientHandshake,
        table: dict[tuple[State, Input], State],
        now: float,
        timeout: float,
    ) -> None:
        self.state = State.HANDSHAKE
        self.bytes_received = 0
        self.acknowledged = 0
        """The sequence number of the peer's last acknowledgement: bytes it has received, modulo 2^32."""
        self.demuxer: Demuxer | None = None
        """The demuxer of the stream that the peer sends."""
        self._handshake: ServerHandshake | ClientHandshake | None = handshake
        self._table = table
        self._timeout = timeout
        self._now = now
        self._silent_since = now
        """When the peer last made progress: a new state, or any data while media is expected."""
        self._reader = ChunkReader()
        self._reader.partial_limit = MAXIMUM_IDLE_PARTIAL_SIZE
        self.has_more = False
        """Whether received data waits for another call of `receive_data`."""
        self._backlog: list[RawMessage] = []
        """Complete messages that wait for a later call."""
        self._early_size = 0
        """Bytes of media received before the peer was accepted."""
        self._late_events: list[Event] = []
        self._writer = ChunkWriter()
        self._output: list[bytes] = []
        self._window = WINDOW_SIZE
        self._last_acknowledged = 0
        self._muxer: Muxer | None = None

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` may return something."""
        return bool(self._output) or self._handshake is not None

    def data_to_send(self) -> bytes:
        """Return the bytes to write to the socket, and remove them. They end at the end of a message."""
        if self._handshake is not None:
            return self._handshake.data_to_send()
        output = self._output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data

    @property
    def held_size(self) -> int:
        """Received bytes that are held because something is missing: the end of a message, or of the analysis."""
        demuxer = self.demuxer
        return self._reader.partial_size + self._early_size + (demuxer.held_size if demuxer is not None else 0)

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Process received bytes; return events. Raises `RemoteProtocolError`."""
        if self.state is State.CLOSED:
            return []
        self._now = now
        if data:
            self.bytes_received += len(data)
            if self.state in _MEDIA_STATES:
                self._silent_since = now
        try:
            if self._handshake is not None:
                data = self._receive_handshake(data)
            if self._backlog or self._late_events:
                self._reader.hold(data)
            else:
                self._backlog = self._reader.receive(data)
            events = self._work(now) if self._backlog or self.has_more or self._reader.has_more else []
            if self.bytes_received - self._last_acknowledged >= self._window:
                self._acknowledge()
        except RemoteProtocolError:
            self.abandon()
            raise
        return events

    def _work(self, now: float) -> list[Event]:
        """Handle messages in the order in which they arrived, as many as one call may."""
        events = self._late_events
        backlog = self._backlog
        index = cost = 0
        while index < len(backlog) and cost < WORK_LIMIT and len(events) < MAXIMUM_EVENTS:
            raw = backlog[index]
            index += 1
            if raw.type in _MEDIA_TYPES:
                cost += MEDIA_COST
                if self.state in _MEDIA_STATES:
                    cost += len(raw.payload) // MEDIA_BYTES_PER_COST
                events += self._on_media(raw, now)
                continue
            cost += CONTROL_COST + len(raw.payload) // CONTROL_BYTES_PER_COST
            if raw.type == MessageType.AGGREGATE:
                if self.demuxer is not None:
                    backlog[index:index] = split_aggregate(raw)
                continue
            message = parse_message(raw)
            if message is not None:
                events += self._on_message(message, now)
        self._backlog = backlog[index:]
        self._late_events = events[MAXIMUM_EVENTS:]
        self.has_more = bool(self._backlog or self._late_events or self._reader.has_more)
        return events[:MAXIMUM_EVENTS] if self._late_events else events

    def abandon(self) -> None:
        """Abandon the connection, and release the memory of received data."""
        self.state = State.CLOSED
        self.demuxer = None
        self._backlog = []
        self._late_events = []
        self.has_more = False
        self._reader = ChunkReader()

    def _receive_handshake(self, data: bytes) -> bytes:
        handshake = self._handshake
        if handshake is None:
            return data
        data = handshake.receive(data)
        if handshake.done:
            self._output.append(handshake.data_to_send())
            self._handshake = None
            self._advance(Input.HANDSHAKE_DONE)
            self._on_handshake_done()
        return data

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, in the time of ``now``; None for never."""
        deadlines: list[float] = []
        if self._awaits_peer():
            deadlines.append(self._silent_since + self._timeout)
        if self.demuxer is not None and (analysis := self.demuxer.next_timeout()) is not None:
            deadlines.append(analysis)
        return min(deadlines, default=None)

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due. Raises `RemoteProtocolError` if the peer was silent for too long."""
        try:
            if self._awaits_peer() and now >= self._silent_since + self._timeout:
                raise RemoteProtocolError(f"no data for {self._timeout:g} seconds in state '{self.state.value}'", 408)
            if self.demuxer is not None:
                self._late_events += self.demuxer.handle_timeout(now)
            return self._work(now)
        except RemoteProtocolError:
            self.abandon()
            raise

    @abstractmethod
    def _awaits_peer(self) -> bool:
        """Whether silence of the peer is an error in this state."""

    def _on_handshake_done(self) -> None:
        """Send the first messages of the session."""

    @abstractmethod
    def _on_command(self, command: Command, now: float) -> list[Event]:
        """Handle a command of the peer."""

    def _on_user_control(self, message: UserControl) -> list[Event]:
        """Handle a user control message other than a ping."""
        return []

    def _on_media(self, raw: RawMessage, now: float) -> list[Event]:
        return self.demuxer.receive(raw, now) if self.demuxer is not None else []

    def _on_message(self, message: Message, now: float) -> list[Event]:
        if isinstance(message, Command):
            return self._on_command(message, now)
        if isinstance(message, Data):
            metadata = parse_metadata(message.values)
            if metadata is not None and self.demuxer is not None:
                return self.demuxer.receive_metadata(metadata, now)
        elif isinstance(message, UserControl):
            if message.event == UserControlEvent.PING_REQUEST:
                self._send(UserControl(UserControlEvent.PING_RESPONSE, message.value))
                return []
            return self._on_user_control(message)
        elif isinstance(message, WindowAcknowledgementSize):
            self._window = max(message.size, MINIMUM_WINDOW_SIZE)
        elif isinstance(message, SetPeerBandwidth):
            self._send(WindowAcknowledgementSize(message.size))
        elif isinstance(message, Acknowledgement):
            self.acknowledged = message.sequence_number
        return []

    def _acknowledge(self) -> None:
        """Acknowledge the bytes received, each time that a window is full (section 5.4.3)."""
        self._last_acknowledged = self.bytes_received
        self._send(Acknowledgement(self.bytes_received))

    def _advance(self, trigger: Input) -> None:
        self.state = advance(self._table, self.state, trigger)
        self._silent_since = self._now

    def _expect_media(self, demuxer: Demuxer | None, partial_limit: int = MAXIMUM_IDLE_PARTIAL_SIZE) -> None:
        """Set the demuxer for the media of the peer, and how many bytes of incomplete messages may be held."""
        self.demuxer = demuxer
        self._reader.partial_limit = partial_limit

    def _send(self, message: Message, chunk_stream_id: int | None = None, stream_id: int = 0) -> None:
        message_type = TYPES[type(message)]
        if chunk_stream_id is None:
            chunk_stream_id = CONTROL_CHUNK_STREAM if message_type in CONTROL_TYPES else COMMAND_CHUNK_STREAM
        self._output.append(self._writer.write(message_type, message.payload(), chunk_stream_id, stream_id))

    def send_frame(self, track: int, frame: Frame) -> None:
        """Send a frame of a track. For many readers, write `Muxer.message` to their sockets instead."""
        if self._muxer is None:
            raise LocalProtocolError("there are no tracks to send")
        self._output.append(self._muxer.message(track, frame))

    def update_track(self, track: Track, timestamp: int = 0) -> None:
        """Send the new parameters of a track whose codec changed."""
        if self._muxer is None:
            raise LocalProtocolError("there are no tracks to send")
        self._output.append(self._muxer.update(track, timestamp))
