"""The server's side of RTMP: one connection of a client that publishes or plays, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.track import Track
from polycast.wire.rtmp.address import check_tc_url, parse_targets
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.capabilities import announce_capabilities, parse_capabilities
from polycast.wire.rtmp.chunks import MAXIMUM_PARTIAL_SIZE, RawMessage
from polycast.wire.rtmp.connection import STATUS_CHUNK_STREAM, WINDOW_SIZE, Connection
from polycast.wire.rtmp.demuxer import Demuxer
from polycast.wire.rtmp.events import (
    Capabilities,
    ConnectRequested,
    Event,
    LoginRequested,
    PeerClosedStream,
    PlayRequested,
    PublishRequested,
)
from polycast.wire.rtmp.handshake import ServerHandshake
from polycast.wire.rtmp.login import Login, Response
from polycast.wire.rtmp.messages import (
    Command,
    LimitType,
    SetChunkSize,
    SetPeerBandwidth,
    UserControl,
    UserControlEvent,
    WindowAcknowledgementSize,
    number_member,
    on_status,
    status,
    text_member,
)
from polycast.wire.rtmp.muxer import OUTPUT_CHUNK_SIZE, STREAM_ID, Muxer
from polycast.wire.rtmp.states import SERVER, Input, State
from polycast.wire.rtmp.supported import NOTHING_TO_CARRY, Selection, select_tracks

FLASH_VERSION = "LNX 9,0,124,2"
"""The value of rtsp-simple-server; players derive the server's capabilities from it."""

FLASH_CAPABILITIES = 31

MAXIMUM_EARLY_SIZE = 4 << 20
"""Bytes of media held for clients that send before they are accepted (DJI): about two seconds."""

MESSAGE_OVERHEAD = 200
"""Bytes that a held message takes in addition to its payload, so that many empty ones count as well."""

MAXIMUM_STREAM_KEY_SIZE = 2_048
"""Characters of a stream key or an application name, including the query; browsers limit URLs similarly."""

MAXIMUM_USER_AGENT = 256
"""Characters of a client's name that are kept."""

PUBLISH_REFUSED = "NetStream.Publish.BadName"
"""GStreamer interprets it as "somebody is already publishing there"."""

PUBLISH_DENIED = "NetStream.Publish.Denied"
"""For clients that are not allowed to publish. OBS, GStreamer and FFmpeg know it."""

PUBLISH_UNAUTHORIZED = "NetStream.Publish.Unauthorized"

PLAY_REFUSED = "NetStream.Play.Failed"
PLAY_NOT_FOUND = "NetStream.Play.StreamNotFound"


class ServerConnection(Connection):
    """One client. See `Connection` for how to use it.

    After `PublishRequested` or `PlayRequested`, call `accept_publish`, `accept_play` or `refuse`; the client's media is
    not used, and it gets none, before that. Data of a client that plays is still read, so that its pings are answered.
    """

    def __init__(
        self,
        now: float,
        *,
        seed: bytes,
        timeout: float = 10.0,
        login: Login | None = None,
        starts_early: bool = True,
    ) -> None:
        """``seed``: random bytes for the handshake. ``timeout``: how long a client that has to send may be silent, in
        seconds. ``login``: how publishers log in when they connect. ``starts_early``: clients get a status before their
        request is accepted or refused, as from rtsp-simple-server, unless they announce themselves as encoders."""
        super().__init__(ServerHandshake(seed, int(now * 1000)), SERVER, now, timeout)
        self.seed = seed
        self.app = ""
        self.capabilities = Capabilities()
        self.user_agent = ""
        """The program of the client, as far as it tells (``flashVer``)."""
        self._tc_url = ""
        self._starts_early = starts_early
        self._is_encoder = False
        """Whether the client publishes as encoders do: it shows the reason if it is refused in place of the start."""
        self._login = login
        self._login_response: Response | None = None
        self._early: list[RawMessage] = []

    @property
    def _tells_early(self) -> bool:
        return self._starts_early and not self._is_encoder

    def _awaits_peer(self) -> bool:
        return self.state not in (State.PLAYING, State.PLAY_REQUESTED, State.PUBLISH_REQUESTED, State.CLOSED)

    def _on_command(self, command: Command, now: float) -> list[Event]:
        if self.state is State.CONNECT and command.name != "connect":
            raise RemoteProtocolError(f"the first command is {command.name[:50]!r} instead of 'connect'")
        handler = _HANDLERS.get(command.name)
        return handler(self, command) if handler is not None else []

    def on_connect(self, command: Command) -> list[Event]:
        values = command.object
        if not isinstance(values, dict) or not isinstance(values.get("app"), str):
            raise RemoteProtocolError("connect without 'app'")
        self.app = _checked(text_member(values, "app"))
        rejection = self._check_login(values)
        if rejection:
            self._advance(Input.REFUSED)
            information = status("error", "NetConnection.Connect.Rejected", rejection)
            self._send(Command("_error", command.transaction_id, None, (information,)))
            return [LoginRequested()]
        self._advance(Input.CONNECT)
        self._is_encoder = _is_publisher(values) or self._login_response is not None
        # Some encoders leave quotation marks around the URL.
        self._tc_url = _checked(text_member(values, "tcUrl", "tcurl")).strip("'\"")
        if self._tc_url:
            check_tc_url(self._tc_url)
        object_encoding = number_member(values, "objectEncoding") or 0.0
        self.capabilities = parse_capabilities(values)
        self._send(WindowAcknowledgementSize(WINDOW_SIZE))
        self._send(SetPeerBandwidth(WINDOW_SIZE, LimitType.DYNAMIC))
        self._send(SetChunkSize(OUTPUT_CHUNK_SIZE))
        properties: dict[str, Value] = {"fmsVer": FLASH_VERSION, "capabilities": float(FLASH_CAPABILITIES)}
        if self.capabilities.enhanced:
            properties.update(announce_capabilities())
        information = status(
            "status", "NetConnection.Connect.Success", "Connection succeeded.", objectEncoding=object_encoding
        )
        self._send(Command("_result", command.transaction_id, properties, (information,)))
        self.user_agent = text_member(values, "flashVer")[:MAXIMUM_USER_AGENT]
        encoding = int(object_encoding == 3) * 3
        return [ConnectRequested(self.app, self._tc_url, encoding, self.user_agent, self.capabilities, values)]

    def _check_login(self, values: dict[str, Value]) -> str:
        """Return the text that rejects a publisher that has to log in; empty if it does not have to, or has done so."""
        login = self._login
        if login is None or not login.methods:
            return ""
        outcome = login.check(self.app, self._now)
        if isinstance(outcome, Response):
            self._login_response = outcome
        elif outcome is not None:
            return outcome
        elif _is_publisher(values) and not _has_credentials(self.app):
            return login.request()
        return ""

    def on_create_stream(self, command: Command) -> list[Event]:
        self._advance(Input.CREATE_STREAM)
        self._send(Command("_result", command.transaction_id, None, (float(STREAM_ID),)))
        return []

    def on_publish(self, command: Command) -> list[Event]:
        self._advance(Input.PUBLISH)
        key = _checked(command.text(0))
        targets = parse_targets(self.app, key, self._tc_url)
        self._expect_media(Demuxer(), MAXIMUM_EARLY_SIZE)
        if self._tells_early:
            # Simple clients expect an immediate start, as from rtsp-simple-server. A refusal follows it.
            self._send_publish_start()
        return [PublishRequested(self.app, key, targets, command.text(1) or "live", self._login_response)]

    def on_play(self, command: Command) -> list[Event]:
        self._advance(Input.PLAY)
        key = _checked(command.text(0))
        return [PlayRequested(self.app, key, parse_targets(self.app, key, self._tc_url))]

    def on_close(self, command: Command) -> list[Event]:
        active = self.state not in (State.CONNECTED, State.CONNECT)
        self._advance(Input.STREAM_CLOSED)
        self._forget_stream()
        return [PeerClosedStream(command.name)] if active else []

    def on_unpublish(self, command: Command) -> list[Event]:
        # FFmpeg and OBS send FCUnpublish and deleteStream; the second has no effect.
        return self.on_close(command) if self.state is State.PUBLISHING else []

    def on_fc_publish(self, command: Command) -> list[Event]:
        # Some encoders wait for this before they create a stream; others ignore it.
        information = status("status", "NetStream.Publish.Start", _checked(command.text(0)))
        self._send(Command("onFCPublish", 0.0, None, (information,)))
        return []

    def on_fc_subscribe(self, command: Command) -> list[Event]:
        information = status("status", "NetStream.Play.Start", _checked(command.text(0)))
        self._send(Command("onFCSubscribe", 0.0, None, (information,)))
        return []

    def _on_media(self, raw: RawMessage, now: float) -> list[Event]:
        if self.state is State.PUBLISHING and self.demuxer is not None:
            return self.demuxer.receive(raw, now)
        if self.state is State.PUBLISH_REQUESTED:
            self._early_size += len(raw.payload) + MESSAGE_OVERHEAD
            if self._early_size > MAXIMUM_EARLY_SIZE:
                raise RemoteProtocolError(
                    f"more than {MAXIMUM_EARLY_SIZE} bytes of media before the stream was accepted"
                )
            self._early.append(raw)
        return []

    def abandon(self) -> None:
        super().abandon()
        self._forget_stream()

    def _forget_stream(self) -> None:
        self._expect_media(None)
        self._muxer = None
        self._early = []
        self._early_size = 0

    def _send_publish_start(self) -> None:
        self._send_status("status", "NetStream.Publish.Start", "publish start")

    def _send_status(self, level: str, code: str, description: str) -> None:
        self._send(on_status(status(level, code, description)), STATUS_CHUNK_STREAM, STREAM_ID)

    def accept_publish(self, now: float) -> list[Event]:
        """Let the client publish. Returns the events of media that it has sent already; see ``has_more``.

        Raises `LocalProtocolError` without a request, `RemoteProtocolError` if that media is invalid.
        """
        if self.state is not State.PUBLISH_REQUESTED:
            raise LocalProtocolError(f"nothing to accept in state '{self.state.value}'")
        self._now = now
        self._advance(Input.ACCEPTED)
        if not self._tells_early:
            self._send_publish_start()
        self._reader.partial_limit = MAXIMUM_PARTIAL_SIZE
        self._backlog[:0] = self._early
        self._early, self._early_size = [], 0
        try:
            return self._work(now)
        except RemoteProtocolError:
            self.abandon()
            raise

    def select_tracks(self, tracks: Iterable[Track], *, presumes_enhanced_audio: bool = True) -> Selection:
        """Return the tracks that the client can receive, according to what it announced when it connected.

        ``presumes_enhanced_audio`` is that of `supported.select_tracks`.
        """
        announced = self.capabilities
        return select_tracks(
            tracks,
            multitrack=announced.multitrack,
            four_ccs=announced.four_ccs,
            sound_formats=announced.sound_formats,
            presumes_enhanced_audio=presumes_enhanced_audio,
        )

    def accept_play(self, tracks: Sequence[Track]) -> tuple[Track, ...]:
        """Let the client play. Returns the tracks that it gets; `select_tracks` tells why others are skipped.

        Sends metadata and sequence headers. Then send frames with `send_frame`, or write the bytes of a muxer of these
        tracks, shared by all readers of the stream, directly to the socket.
        Raises `LocalProtocolError` without a request or if there is nothing to carry; then call `refuse`.
        """
        if self.state is not State.PLAY_REQUESTED:
            raise LocalProtocolError(f"nothing to accept in state '{self.state.value}'")
        selection = self.select_tracks(tracks)
        if not selection.tracks:
            raise LocalProtocolError(NOTHING_TO_CARRY)
        muxer = Muxer(selection.tracks)
        initial = muxer.initial(0, selection.tracks)
        self._advance(Input.ACCEPTED)
        self._muxer = muxer
        self._send(UserControl(UserControlEvent.STREAM_IS_RECORDED, STREAM_ID))
        self._send(UserControl(UserControlEvent.STREAM_BEGIN, STREAM_ID))
        self._send_status("status", "NetStream.Play.Reset", "play reset")
        self._send_status("status", "NetStream.Play.Start", "play start")
        self._send_status("status", "NetStream.Data.Start", "data start")
        self._send_status("status", "NetStream.Play.PublishNotify", "publish notify")
        self._output.append(initial)
        return selection.tracks

    def refuse(self, code: str, description: str) -> None:
        """Refuse the client's request with an ``onStatus`` error. Close the socket then."""
        if self.state not in (State.PUBLISH_REQUESTED, State.PLAY_REQUESTED):
            raise LocalProtocolError(f"nothing to refuse in state '{self.state.value}'")
        plays = self.state is State.PLAY_REQUESTED
        self._advance(Input.REFUSED)
        self._forget_stream()
        if plays and self._starts_early:
            # Some players take an error in place of the first status for a failed connection. Others go by the code.
            self._send_status("status", code, description)
        if code == PUBLISH_DENIED and not self._starts_early:
            self._send_status("error", PUBLISH_UNAUTHORIZED, description)  # MediaMTX's; OBS goes by the next one
        self._send_status("error", code, description)

    def end_play(self, description: str = "stream ended") -> None:
        """Signal the end of the stream to a client that plays. Close the socket then."""
        if self.state is not State.PLAYING:
            raise LocalProtocolError(f"nothing to end in state '{self.state.value}'")
        self._advance(Input.STREAM_CLOSED)
        self._forget_stream()
        self._send(UserControl(UserControlEvent.STREAM_EOF, STREAM_ID))
        self._send_status("status", "NetStream.Play.UnpublishNotify", description)
        self._send_status("status", "NetStream.Play.Stop", description)


def _is_publisher(values: dict[str, Value]) -> bool:
    """Whether a client will publish, judging by what only publishers send when they connect."""
    return text_member(values, "type") == "nonprivate" or text_member(values, "flashVer").startswith("FMLE/")


def _has_credentials(app: str) -> bool:
    query = app.partition("?")[2]
    return query.startswith("user=") or "&user=" in query


def _checked(text: str) -> str:
    if len(text) > MAXIMUM_STREAM_KEY_SIZE:
        raise RemoteProtocolError(f"name of {len(text)} characters (the limit is {MAXIMUM_STREAM_KEY_SIZE})")
    return text


_HANDLERS: dict[str, Callable[[ServerConnection, Command], list[Event]]] = {
    "connect": ServerConnection.on_connect,
    "createStream": ServerConnection.on_create_stream,
    "publish": ServerConnection.on_publish,
    "play": ServerConnection.on_play,
    "deleteStream": ServerConnection.on_close,
    "closeStream": ServerConnection.on_close,
    "FCUnpublish": ServerConnection.on_unpublish,
    "FCPublish": ServerConnection.on_fc_publish,
    "FCSubscribe": ServerConnection.on_fc_subscribe,
}
"""Other commands are ignored, as in rtsp-simple-server. These include ``releaseStream``, ``getStreamLength`` and
``_checkbw``: nobody waits for their results, and clients that ignore transaction numbers assume that the first
``_result`` after ``connect`` is that of ``createStream``."""
