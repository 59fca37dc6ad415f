"""Streams of other servers: publish to them and read from them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload
from urllib.parse import urlsplit

from polycast.api.errors import ConnectionFailed, is_permanent, public_error
from polycast.api.feed import Feed
from polycast.api.frames import AudioFrame, CodedFrame, VideoFrame
from polycast.api.inbox import Event, EventKind, Inbox
from polycast.api.publication import Publication
from polycast.api.publishing import PublishOptions, open_coded_writer, open_writer
from polycast.api.reader import OnEvent, Reader
from polycast.api.runtime import LoopThread, release_shared, take_shared
from polycast.api.server import open_reader
from polycast.api.subscription import Subscription
from polycast.api.writer import CodedWriter, Writer
from polycast.config import Configuration, from_mapping, source_kind
from polycast.errors import PolycastError
from polycast.hub.access import AccessControl
from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.log import Log
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.publish.push import Push, Pusher

PATH = "stream"
"""The one path of each private hub."""

Transport = Literal["tcp", "udp", "multicast", "automatic"]


@overload
def read(
    url: str,
    *,
    decode: Literal[True] = True,
    video: Literal[True] = True,
    audio: Literal[False] = False,
    format: str = "bgr24",
    buffer: int | None = None,
    timeout: float | None = None,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    transport: Transport = "tcp",
    fingerprint: str = "",
) -> Reader[VideoFrame]: ...


@overload
def read(
    url: str,
    *,
    decode: Literal[True] = True,
    video: Literal[False],
    audio: Literal[True],
    format: str = "bgr24",
    buffer: int | None = None,
    timeout: float | None = None,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    transport: Transport = "tcp",
    fingerprint: str = "",
) -> Reader[AudioFrame]: ...


@overload
def read(
    url: str,
    *,
    decode: Literal[True] = True,
    video: Literal[True] = True,
    audio: Literal[True],
    format: str = "bgr24",
    buffer: int | None = None,
    timeout: float | None = None,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    transport: Transport = "tcp",
    fingerprint: str = "",
) -> Reader[VideoFrame | AudioFrame]: ...


@overload
def read(
    url: str,
    *,
    decode: Literal[False],
    buffer: int | None = None,
    timeout: float | None = None,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    transport: Transport = "tcp",
    fingerprint: str = "",
) -> Reader[CodedFrame]: ...


def read(
    url: str,
    *,
    decode: bool = True,
    video: bool = True,
    audio: bool = False,
    format: str = "bgr24",  # noqa: A002
    buffer: int | None = None,
    timeout: float | None = None,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    transport: Transport = "tcp",
    fingerprint: str = "",
) -> Reader[Any]:
    """Read a stream of another server or a camera. Iterate over the result.

    ``url``: ``rtsp://``, ``rtsps://``, ``rtmp://``, ``rtmps://``, or ``http://`` and ``https://`` for HLS; with
    ``user:password@`` where it is needed. ``transport`` of RTSP: ``tcp``, ``udp``, ``multicast``, or ``automatic``,
    which tries UDP first. ``fingerprint``: SHA-256 of the server's certificate, hexadecimal; then exactly this
    certificate is accepted, also one that it signed itself.

    Everything else is as in `Server.read`. With ``reconnect`` (the default) a server that is away, or has no such
    stream yet, is tried again, after half a second at first, later after ten; each failure is an `Event` and a warning
    in the log. With ``reconnect=False`` the iteration raises ConnectionFailed or NotFound. AccessRefused (wrong
    password) and UnsupportedCodec are raised in any case. Raises ValueError for an address that cannot be read.
    """
    puller = _make_puller(url)
    configuration = from_mapping(
        {"paths": {PATH: {"source": url, "sourceProtocol": transport, "sourceFingerprint": fingerprint}}}
    )
    runtime = take_shared()
    log = Log().child(f"reader of {_without_credentials(url)}")
    hubs: list[Hub] = []
    subscriptions: list[Subscription] = []

    def make_feed(path: Path) -> Feed:
        def on_error(error: PolycastError) -> None:
            for subscription in subscriptions:
                subscription.fail(error)

        return Feed(path, puller, configuration, log, reconnect=reconnect, on_error=on_error)

    def close() -> None:
        for hub in hubs:
            runtime.defer(hub.close, "closed")
        release_shared()

    def subscribe(inbox: Inbox) -> Subscription:
        hub = runtime.call(_make_hub, runtime, configuration, log)
        hubs.append(hub)
        subscription = _FedSubscription(
            runtime,
            hub,
            PATH,
            inbox,
            log,
            video=video and decode,
            audio=audio and decode,
            reconnect=reconnect,
            has_feed=True,
        )
        subscription.make_feed = make_feed
        subscriptions.append(subscription)
        return subscription

    try:
        return open_reader(
            runtime,
            subscribe,
            decode=decode,
            kinds=(video, audio),
            pixel_format=format,
            buffer=buffer,
            timeout=timeout,
            on_event=on_event,
            on_close=close,
        )
    except BaseException:
        close()
        raise


class _FedSubscription(Subscription):
    """Starts its feed when reading begins."""

    make_feed: Callable[[Path], Feed]

    def start(self) -> None:
        super().start()
        if not self._over:
            path = self._hub.path(self._name)
            if path.source is None:
                path.attach_source(self.make_feed(path))


def _make_hub(runtime: LoopThread, configuration: Configuration, log: Log) -> Hub:
    hub = Hub(loop=runtime.loop, log=log, access=AccessControl())
    hub.configure(configuration.paths)
    return hub


def _make_puller(url: str) -> Any:
    from polycast.protocols.sources import PULLERS

    kind = source_kind(url)
    if kind is None or kind not in PULLERS:
        raise ValueError(f"'{_without_credentials(url)}' cannot be read: an address begins with rtsp://, rtsps://...")
    return PULLERS[kind](url)


@overload
def publish(
    url: str,
    size: tuple[int, int] | None = None,
    rate: float = 30,
    *,
    format: str = "bgr24",
    codec: str = "h264",
    encoder: str | None = None,
    hardware: bool = False,
    bitrate: int | None = None,
    key_interval: float = 1.0,
    options: Mapping[str, str] | None = None,
    sample_rate: int | None = None,
    channels: int = 2,
    audio_codec: str = "aac",
    audio_bitrate: int | None = None,
    pace: bool = False,
    timeout: float = 10.0,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    fingerprint: str = "",
) -> Writer: ...


@overload
def publish(
    url: str,
    *,
    tracks: Sequence[Codec | Track],
    timeout: float = 10.0,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    fingerprint: str = "",
) -> CodedWriter: ...


def publish(
    url: str,
    size: tuple[int, int] | None = None,
    rate: float = 30,
    *,
    format: str = "bgr24",  # noqa: A002
    codec: str = "h264",
    encoder: str | None = None,
    hardware: bool = False,
    bitrate: int | None = None,
    key_interval: float = 1.0,
    options: Mapping[str, str] | None = None,
    sample_rate: int | None = None,
    channels: int = 2,
    audio_codec: str = "aac",
    audio_bitrate: int | None = None,
    pace: bool = False,
    tracks: Sequence[Codec | Track] | None = None,
    timeout: float = 10.0,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    fingerprint: str = "",
) -> Writer | CodedWriter:
    """Publish to another server: ``rtsp://`` and ``rtsps://`` (over TCP), ``rtmp://`` and ``rtmps://``.

    The call returns when the server has taken the stream, within ``timeout`` seconds. Else it raises ConnectionFailed,
    AccessRefused, NotFound or PublishRefused. With ``reconnect`` (the default) a server that is away is tried again,
    within ``timeout`` at first, without end later; frames that are written meanwhile are dropped, and ``on_event`` is
    called with each `Event`, in a thread of the library. With ``reconnect=False`` the next `Writer.write` raises why the
    connection was lost. ``fingerprint`` is as in `read`; everything else is as in `Server.publish`. In an asyncio
    program, call it with ``asyncio.to_thread``. Raises ValueError for an address that cannot be published to.
    """
    make_pusher = _pusher_maker(url, fingerprint)

    def open_url(described: Sequence[Track]) -> RemotePublishing:
        return RemotePublishing(
            described, make_pusher, _without_credentials(url), timeout=timeout, reconnect=reconnect, on_event=on_event
        )

    if tracks is not None:
        return open_coded_writer(open_url, tracks)
    options_given = PublishOptions(
        size, rate, format, codec, encoder, hardware, bitrate, key_interval, options,
        sample_rate, channels, audio_codec, audio_bitrate, pace,
    )  # fmt: skip
    return open_writer(open_url, options_given)


MakePusher = Callable[[Log], Pusher]


def _pusher_maker(url: str, fingerprint: str) -> MakePusher:
    scheme = url.partition("://")[0].lower()
    try:
        if scheme in ("rtsp", "rtsps"):
            from polycast.publish.rtsp import RtspPusher
            from polycast.wire.rtsp.url import RtspUrl

            rtsp_url = RtspUrl.parse(url)
            return lambda log: RtspPusher(rtsp_url, log, fingerprint)
        if scheme in ("rtmp", "rtmps"):
            from polycast.publish.rtmp import RtmpPusher
            from polycast.wire.rtmp.address import parse_url

            address = parse_url(url)
            return lambda log: RtmpPusher(address, log, fingerprint)
    except PolycastError as error:
        raise ValueError(str(error)) from error
    raise ValueError(
        f"'{_without_credentials(url)}' cannot be published to: an address begins with rtsp://, rtsps://, rtmp:// or"
        " rtmps://"
    )


class RemotePublishing:
    """What a writer for another server writes to: a path of a private hub, and the client that sends it on."""

    def __init__(
        self,
        tracks: Sequence[Track],
        make_pusher: MakePusher,
        name: str,
        *,
        timeout: float,
        reconnect: bool,
        on_event: OnEvent | None,
    ) -> None:
        self._log = Log().child(f"publisher to {name}")
        self._timeout = timeout
        self._reconnect = reconnect
        self._on_event = on_event
        self._connected: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._last_failure: PolycastError | None = None
        self._ended = threading.Event()
        self._runtime = take_shared()
        try:
            configuration = from_mapping({"paths": {PATH: {}}})
            self._hub = self._runtime.call(_make_hub, self._runtime, configuration, self._log)
            self._publication = Publication(self._runtime, self._hub, PATH, tracks)
            self._push = self._runtime.call(self._start, make_pusher)
            self._wait_for_connection()
        except BaseException as error:
            self.end(error if isinstance(error, PolycastError) else None)
            raise

    @property
    def wants_key(self) -> bool:
        """See `Publication.wants_key`."""
        return self._publication.wants_key

    @wants_key.setter
    def wants_key(self, value: bool) -> None:
        self._publication.wants_key = value

    @property
    def error(self) -> PolycastError | None:
        """See `Publication.error`."""
        return self._publication.error

    def write(self, frames: list[tuple[int, Frame]]) -> None:
        """See `Publication.write`."""
        self._publication.write(frames)

    def end(self, error: PolycastError | None = None) -> None:
        """Let what was written leave, close the connection. May be called several times."""
        if self._ended.is_set():
            return
        self._ended.set()
        publication = getattr(self, "_publication", None)
        if publication is not None and hasattr(self, "_push"):
            self._runtime.defer(self._stop, error)
        release_shared()

    def _start(self, make_pusher: MakePusher) -> Push:
        path = self._publication.path
        if path is None:
            raise ConnectionFailed("the stream has ended")
        push = Push(
            path,
            self._log,
            lambda: make_pusher(self._log),
            on_connected=self._on_connected,
            on_failed=self._on_failed,
        )
        push.start()
        return push

    def _stop(self, error: PolycastError | None) -> None:
        async def stop() -> None:
            await self._push.stop()
            self._publication.end(error)
            self._hub.close("closed")

        task = asyncio.get_running_loop().create_task(stop())
        self._stopping = task

    def _wait_for_connection(self) -> None:
        try:
            self._connected.result(self._timeout)
        except TimeoutError:
            raise self._last_failure or ConnectionFailed(f"no answer within {self._timeout:g} seconds") from None

    # In the loop's thread

    def _on_connected(self) -> None:
        if not self._connected.done():
            self._connected.set_result(None)
        self._tell(EventKind.CONNECTED, "")

    def _on_failed(self, failure: BaseException, was_connected: bool) -> bool:
        from polycast.net.dial import describe_failure

        error = public_error(failure if isinstance(failure, PolycastError) else OSError(describe_failure(failure)))
        self._last_failure = error
        goes_on = self._reconnect and not is_permanent(error)
        self._log.warning("%s%s", error, "; trying again" if goes_on else "")
        self._tell(EventKind.DISCONNECTED if was_connected else EventKind.WAITING, str(error))
        if not goes_on:
            if not self._connected.done():
                self._connected.set_exception(error)
            self._publication.end(error)
        return goes_on

    def _tell(self, kind: EventKind, reason: str) -> None:
        if self._on_event is not None:
            self._runtime.loop.run_in_executor(None, self._on_event, Event(kind, reason, time.time()))


def _without_credentials(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="").geturl()
    except ValueError:
        return "the address"
