"""The client's side of RTMP: publishes to a server or plays from one, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.track import Track
from polycast.wire.rtmp.address import ServerAddress
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.capabilities import announce_capabilities, parse_capabilities
from polycast.wire.rtmp.chunks import MAXIMUM_PARTIAL_SIZE
from polycast.wire.rtmp.connection import WINDOW_SIZE, Connection
from polycast.wire.rtmp.demuxer import Demuxer
from polycast.wire.rtmp.events import (
    Capabilities,
    Event,
    LoginRequested,
    PeerClosedStream,
    RequestAccepted,
    RequestRefused,
)
from polycast.wire.rtmp.handshake import ClientHandshake
from polycast.wire.rtmp.login import ClientLogin
from polycast.wire.rtmp.messages import (
    Command,
    SetChunkSize,
    UserControl,
    UserControlEvent,
    WindowAcknowledgementSize,
    text_member,
)
from polycast.wire.rtmp.muxer import DATA_CHUNK_STREAM, OUTPUT_CHUNK_SIZE, Muxer
from polycast.wire.rtmp.states import CLIENT, Input, State
from polycast.wire.rtmp.supported import NOTHING_TO_CARRY, select_tracks

FLASH_VERSION_PLAY = "LNX 9,0,124,2"
FLASH_VERSION_PUBLISH = "FMLE/3.0 (compatible; FMSc/1.0)"
"""The name that all publishing clients use; some services check the first part."""

BUFFER_LENGTH = 3_000
"""In milliseconds, sent to the server like FFmpeg does; live servers ignore it."""

AUDIO_CODECS = 0x0FFF
VIDEO_CODECS = 0x00FC
"""The bit masks of legacy codecs in ``connect``: all (section 7.2.1.1)."""

MAXIMUM_TEXT_SIZE = 500
"""Characters of a server's error text that are used; it is logged at each attempt."""

_CONNECT_TRANSACTION = 1.0
_CREATE_STREAM_TRANSACTION = 4.0

_START_CODES = frozenset(("NetStream.Publish.Start", "NetStream.Play.Start"))
_END_CODES = frozenset(
    ("NetStream.Play.Stop", "NetStream.Play.Complete", "NetStream.Play.UnpublishNotify", "NetStream.Unpublish.Success")
)


class Mode(Enum):
    """Whether a client publishes or plays."""

    PUBLISH = "publish"
    PLAY = "play"


class ClientConnection(Connection):
    """A connection to a server. See `Connection` for how to use it; start by sending `data_to_send`.

    `RequestAccepted` means that the server agreed. A publisher then calls `send_tracks`, and `send_frame` for each
    frame. A player gets `TracksKnown`, `FrameReceived` and so on, as from `ServerConnection`.
    """

    def __init__(
        self,
        address: ServerAddress,
        mode: Mode,
        now: float,
        *,
        seed: bytes,
        timeout: float = 10.0,
        login: ClientLogin | None = None,
    ) -> None:
        """``seed``: random bytes for the handshake. ``timeout``: how long the server may be silent, in seconds.
        ``login``: answers a server that requires a login. After `LoginRequested`, reconnect with the same one."""
        super().__init__(ClientHandshake(seed, int(now * 1000)), CLIENT, now, timeout)
        self.address = address
        self.mode = mode
        self.capabilities = Capabilities()
        """What the server announced."""
        self._login = login
        self._login_query = login.query if login is not None else ""
        self._stream = address.stream_without_credentials if self._login_query else address.stream
        self._stream_id = 0

    def _awaits_peer(self) -> bool:
        return self.state not in (State.PUBLISHING, State.CLOSED)

    def _on_handshake_done(self) -> None:
        address = self.address
        publishing = self.mode is Mode.PUBLISH
        values: dict[str, Value] = {
            "app": address.app + self._login_query,
            "type": "nonprivate",
            "flashVer": FLASH_VERSION_PUBLISH if publishing else FLASH_VERSION_PLAY,
            "tcUrl": address.tc_url + self._login_query,
        }
        if not publishing:
            values.update(
                fpad=False, capabilities=15.0, audioCodecs=float(AUDIO_CODECS), videoCodecs=float(VIDEO_CODECS)
            )
            values["videoFunction"] = 1.0
        values["objectEncoding"] = 0.0
        values.update(announce_capabilities())
        self._send(SetChunkSize(OUTPUT_CHUNK_SIZE))
        self._send(Command("connect", _CONNECT_TRANSACTION, values))

    def _on_command(self, command: Command, now: float) -> list[Event]:
        handler = _HANDLERS.get(command.name)
        return handler(self, command) if handler is not None else []

    def on_result(self, command: Command) -> list[Event]:
        if command.transaction_id == _CONNECT_TRANSACTION and self.state is State.CONNECT:
            self._on_connected(command)
        elif command.transaction_id == _CREATE_STREAM_TRANSACTION and self.state is State.CREATE_STREAM:
            self._on_stream_created(command)
        return []

    def _on_connected(self, command: Command) -> None:
        self._advance(Input.CONNECT)
        for value in (command.object, *command.arguments[:1]):
            if isinstance(value, dict) and not self.capabilities.enhanced:
                self.capabilities = parse_capabilities(value)
        self._send(WindowAcknowledgementSize(WINDOW_SIZE))
        if self.mode is Mode.PUBLISH:
            self._send(Command("releaseStream", 2.0, None, (self._stream,)))
            self._send(Command("FCPublish", 3.0, None, (self._stream,)))
        self._advance(Input.CREATE_STREAM)
        self._send(Command("createStream", _CREATE_STREAM_TRANSACTION, None))

    def _on_stream_created(self, command: Command) -> None:
        identifier = command.arguments[0] if command.arguments else None
        if isinstance(identifier, bool) or not isinstance(identifier, (int, float)) or not 0 <= identifier < 1 << 32:
            raise RemoteProtocolError("createStream was answered without a stream number")
        self._stream_id = int(identifier)
        stream = self._stream
        if self.mode is Mode.PUBLISH:
            self._advance(Input.PUBLISH)
            self._send(Command("publish", 5.0, None, (stream, "live")), DATA_CHUNK_STREAM, self._stream_id)
            return
        self._advance(Input.PLAY)
        self._expect_media(Demuxer(), MAXIMUM_PARTIAL_SIZE)
        self._send(Command("play", 5.0, None, (stream, -2000.0)), DATA_CHUNK_STREAM, self._stream_id)
        self._send(UserControl(UserControlEvent.SET_BUFFER_LENGTH, self._stream_id, BUFFER_LENGTH))

    def on_error(self, command: Command) -> list[Event]:
        if command.transaction_id not in (_CONNECT_TRANSACTION, _CREATE_STREAM_TRANSACTION):
            return []  # releaseStream and FCPublish: servers that do not support them return errors
        information = command.arguments[0] if command.arguments else None
        is_rejected = command.transaction_id == _CONNECT_TRANSACTION and self.state is State.CONNECT
        if is_rejected and self._login is not None and self._login.answer(text_member(information, "description")):
            self._advance(Input.REFUSED)
            return [LoginRequested()]
        return self._refused(text_member(information, "code"), text_member(information, "description"))

    def on_status(self, command: Command) -> list[Event]:
        information = command.arguments[0] if command.arguments else None
        code = text_member(information, "code")
        description = text_member(information, "description")
        if text_member(information, "level") == "error":
            return self._refused(code, description)
        if code in _START_CODES and self.state in (State.PUBLISH_REQUESTED, State.PLAY_REQUESTED):
            self._advance(Input.ACCEPTED)
            return [RequestAccepted()]
        if code in _END_CODES and self.state in (State.PLAYING, State.PUBLISHING):
            return self._ended(code)
        return []

    def on_close(self, command: Command) -> list[Event]:
        return self._ended(command.name) if self.state in (State.PLAYING, State.PUBLISHING) else []

    def _on_user_control(self, message: UserControl) -> list[Event]:
        if message.event == UserControlEvent.STREAM_EOF and self.state is State.PLAYING:
            return self._ended("end of stream")
        return []

    def _ended(self, reason: str) -> list[Event]:
        self._advance(Input.STREAM_CLOSED)
        return [PeerClosedStream(reason)]

    def _refused(self, code: str, description: str) -> list[Event]:
        self._advance(Input.REFUSED)
        return [RequestRefused(code[:MAXIMUM_TEXT_SIZE], description[:MAXIMUM_TEXT_SIZE])]

    def send_tracks(self, tracks: Sequence[Track], timestamp: int = 0) -> tuple[Track, ...]:
        """Announce the tracks to publish; return those that RTMP carries.

        Raises `LocalProtocolError` before `RequestAccepted`, and if there is nothing to carry.
        """
        if self.state is not State.PUBLISHING:
            raise LocalProtocolError(f"tracks cannot be sent in state '{self.state.value}'")
        # Servers hardly ever announce what they support, and ignore or forward what they do not know.
        four_ccs = self.capabilities.four_ccs or frozenset("*")
        selection = select_tracks(tracks, multitrack=self.capabilities.multitrack, four_ccs=four_ccs)
        if not selection.tracks:
            raise LocalProtocolError(NOTHING_TO_CARRY)
        # MediaMTX looks for the tracks in the first two seconds, counted from the sequence headers, which are at 0.
        self._muxer = Muxer(selection.tracks, begins_at_zero=True, stream_id=self._stream_id)
        self._output.append(self._muxer.initial(timestamp, data_handler="@setDataFrame"))
        return selection.tracks

    def close_stream(self) -> None:
        """Signal the end of the stream to the server, before the socket is closed."""
        if self.state not in (State.PUBLISHING, State.PLAYING):
            return
        if self.mode is Mode.PUBLISH:
            self._send(Command("FCUnpublish", 6.0, None, (self._stream,)))
        self._send(Command("deleteStream", 7.0, None, (float(self._stream_id),)))
        self._advance(Input.STREAM_CLOSED)


_HANDLERS: dict[str, Callable[[ClientConnection, Command], list[Event]]] = {
    "_result": ClientConnection.on_result,
    "_error": ClientConnection.on_error,
    "onStatus": ClientConnection.on_status,
    "close": ClientConnection.on_close,
}
