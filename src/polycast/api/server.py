"""The server as part of a Python program."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from polycast.api.errors import StreamEnded, public_error
from polycast.api.frames import AudioFrame, CodedFrame, VideoFrame
from polycast.api.hooks import WORKER_NAME, Authenticate, Hooks, OnRead, OnStream
from polycast.api.inbox import Inbox
from polycast.api.options import (
    ArrayFormat,
    AudioCodecName,
    DecodeOptions,
    OnEvent,
    ReadOptions,
    VideoCodecName,
)
from polycast.api.publication import Publication
from polycast.api.publishing import PublishOptions, open_coded_writer, open_writer
from polycast.api.reader import Reader
from polycast.api.reading import open_decoding, open_reader
from polycast.api.recordings import RecordingRequest, Recordings
from polycast.api.runtime import STOPPED, LoopThread, Runtime
from polycast.api.settings import load_settings
from polycast.api.statistics import ServerStatistics, session_statistics, stream_statistics
from polycast.api.subscription import Subscription, SubscriptionOptions
from polycast.api.writer import CodedWriter, Writer
from polycast.errors import ConfigurationError, PolycastError
from polycast.media.codec import Codec
from polycast.media.track import Track
from polycast.net.coalescing import coalesce_reads
from polycast.protocols.registry import protocols

if TYPE_CHECKING:
    from polycast.app import Application


class Server:
    """A whole server in this process: ``with Server() as server``, or ``async with`` in an asyncio program.

    Used with ``with`` (or `start`), it runs in a separate thread; with ``async with`` (or `start_async`), in the
    caller's event loop. All methods except `start` and `stop` work the same in both cases, and from any thread.

    ``configuration``: keys of the configuration file as a mapping, or the name of such a file. A file is used exactly
    as the command uses it. A mapping, or nothing, starts from defaults for embedding: RTSP at port 8554, RTMP and HLS
    disabled (enable them with ``{"rtmp": True, "hls": True}``), and every path may be published and read. Any address
    may have port 0: the system then picks one, see `ports`. With port 0 for ``rtspAddress``, the UDP ports are picked
    as well.

    ``authenticate``: is called with an ``AuthenticationRequest`` for every network client, and returns whether the
    client may do what it wants; an exception is logged, and refuses the client as well. Clients of an address that is
    refused again and again have to wait. It is not called for this program's own ``publish`` and ``read``.
    ``on_ready`` and ``on_close``: are called with a ``StreamStatistics`` when a stream starts and ends; ``on_read`` is
    called when a reader starts, with the kind of reader as well. All four may be coroutine functions, which run in the
    event loop of the server; others run in worker threads, so they may block and may use the server.

    Raises ConfigurationError if the configuration is invalid.
    """

    def __init__(
        self,
        configuration: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        authenticate: Authenticate | None = None,
        on_ready: OnStream | None = None,
        on_read: OnRead | None = None,
        on_close: OnStream | None = None,
    ) -> None:
        self._loaded = load_settings(configuration)
        self._functions = {"on_ready": on_ready, "on_read": on_read, "on_close": on_close}
        self._authenticate = authenticate
        self._lock = threading.RLock()
        self._runtime: Runtime | None = None
        self._application: Application | None = None
        self._hooks: Hooks | None = None
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._stopped = threading.Event()
        self._stopped.set()

    def __repr__(self) -> str:
        if not self.running:
            return "<Server stopped>"
        try:
            return f"<Server running at {self.url()}>"
        except ConfigurationError:
            return "<Server running>"

    # Lifecycle

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped yet."""
        return self._application is not None

    @property
    def ports(self) -> dict[str, int]:
        """The ports it listens on, by configuration key: ``{"rtspAddress": 8554, ...}``."""
        application, _ = self._running()
        ports = {key: port for server in application.servers.values() for key, port in server.ports.items()}
        return ports | application.control.ports

    def url(self, path: str = "", *, host: str = "127.0.0.1", protocol: str = "RTSP") -> str:
        """Return the address of a path; for HLS and WebRTC, that of the page that plays it.

        ``protocol``: ``RTSP``, ``RTMP``, ``HLS``, ``WebRTC`` or ``SRT``.

        Raises StreamEnded if the server is not running, ConfigurationError if the protocol is disabled.
        """
        application, _ = self._running()
        for kind in (kind for each in protocols() if each.name == protocol for kind in each.servers):
            if kind.name in application.servers and kind.address is not None:
                port = application.servers[kind.name].ports[kind.listeners[0].key]
                return kind.address.url(application.configuration, host, port, path)
        raise ConfigurationError(f"the server has no {protocol}: it is disabled in the configuration")

    def start(self) -> Self:
        """Start in a separate thread; does nothing if it is already running.

        Raises StartError if a port is in use or a certificate cannot be read.
        """
        with self._lock:
            if self._application is None:
                runtime = LoopThread("polycast-server")
                coalesce_reads(runtime.loop)
                try:
                    runtime.run(self._open(runtime))
                except BaseException:
                    runtime.stop()
                    raise
        return self

    def stop(self) -> None:
        """Stop: clients are disconnected, readers and writers of this program end. Does nothing if it is not running.

        Not for a server that runs in the event loop of the caller: see `stop_async`. A hook may call it.
        """
        with self._lock:
            runtime = self._runtime
            if runtime is None:
                return
            if self._hooks is not None and threading.current_thread().name.startswith(WORKER_NAME):
                self._hooks.stops_itself = True
            runtime.run(self._close())
            self._forget(runtime)

    async def start_async(self) -> Self:
        """Start in the caller's event loop; does nothing if it is already running. Raises StartError."""
        if self._application is None:
            await self._open(Runtime(asyncio.get_running_loop(), threading.get_ident()))
        return self

    async def stop_async(self) -> None:
        """Stop; may be awaited in any event loop."""
        runtime = self._runtime
        if runtime is not None:
            await runtime.run_async(self._close())
            self._forget(runtime)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server is stopped, by another thread or by Ctrl-C (KeyboardInterrupt); return True if it was.

        ``timeout``: maximum time in seconds.
        """
        if timeout is not None:
            return self._stopped.wait(timeout)
        while not self._stopped.wait(1.0):  # a wait without a timeout would not notice Ctrl-C on Windows
            pass
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await self.start_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_async()

    # Streams

    @overload
    def publish(
        self,
        name: str,
        size: tuple[int, int] | None = None,
        rate: float = 30,
        *,
        format: ArrayFormat = "bgr24",
        codec: VideoCodecName = "h264",
        encoder: str | None = None,
        hardware: bool = False,
        bitrate: int | None = None,
        key_interval: float = 1.0,
        options: Mapping[str, str] | None = None,
        sample_rate: int | None = None,
        channels: int = 2,
        audio_codec: AudioCodecName = "aac",
        audio_bitrate: int | None = None,
        pace: bool = False,
    ) -> Writer: ...

    @overload
    def publish(self, name: str, *, tracks: Sequence[Codec | Track]) -> CodedWriter: ...

    def publish(
        self,
        name: str,
        size: tuple[int, int] | None = None,
        rate: float = 30,
        *,
        format: ArrayFormat = "bgr24",  # noqa: A002
        codec: VideoCodecName = "h264",
        encoder: str | None = None,
        hardware: bool = False,
        bitrate: int | None = None,
        key_interval: float = 1.0,
        options: Mapping[str, str] | None = None,
        sample_rate: int | None = None,
        channels: int = 2,
        audio_codec: AudioCodecName = "aac",
        audio_bitrate: int | None = None,
        pace: bool = False,
        tracks: Sequence[Codec | Track] | None = None,
    ) -> Writer | CodedWriter:
        """Publish to the path ``name`` directly, without a socket.

        Pictures: ``size`` is (width, height) in pixels, both even; ``rate`` in frames a second; ``format`` of the
        arrays: ``bgr24`` (as in OpenCV), ``rgb24``, ``gray``, ``bgra``, ``rgba``, ``yuv420p`` or ``nv12``.
        ``codec``: ``h264``, ``h265``, ``vp8``, ``vp9``, ``av1`` or ``mjpeg``; ``encoder``: one of FFmpeg's by name
        (``h264_nvenc``); ``hardware``: use the first working hardware encoder, otherwise the CPU. ``bitrate`` in bit/s;
        default: 0.1 bit per pixel. ``key_interval``: seconds between key frames; one is also inserted when a reader
        joins. ``options``: further options of the encoder, by FFmpeg's names. There are no B-frames and no delay.
        ``pace``: make ``Writer.write`` block so that pictures are sent at ``rate``.

        Audio: with a ``sample_rate`` in Hz and 1 or 2 ``channels``; ``audio_codec``: ``aac``, ``opus`` (48000 Hz),
        ``pcmu`` or ``pcma`` (8000 Hz, one channel); ``audio_bitrate`` in bit/s.

        Encoded frames: ``tracks`` are codecs, such as ``polycast.H264()``, or the tracks of a reader; does not need
        PyAV.

        Raises ValueError for wrong arguments, MissingDependency without PyAV, UnsupportedCodec if no encoder can be
        opened, PublishRefused if the path accepts no publisher, NotFound if it is not configured, StreamEnded if the
        server is not running.
        """
        application, runtime = self._running()

        def open_path(described: Sequence[Track]) -> Publication:
            return Publication(runtime, application.hub, name, described)

        if tracks is not None:
            return open_coded_writer(open_path, tracks)
        options_given = PublishOptions(
            size, rate, format, codec, encoder, hardware, bitrate, key_interval, options,
            sample_rate, channels, audio_codec, audio_bitrate, pace,
        )  # fmt: skip
        return open_writer(open_path, options_given)

    @overload
    def read(
        self,
        name: str,
        *,
        decode: Literal[True] = True,
        video: Literal[True] = True,
        audio: Literal[False] = False,
        **options: Unpack[DecodeOptions],
    ) -> Reader[VideoFrame]: ...

    @overload
    def read(
        self,
        name: str,
        *,
        decode: Literal[True] = True,
        video: Literal[False],
        audio: Literal[True],
        **options: Unpack[DecodeOptions],
    ) -> Reader[AudioFrame]: ...

    @overload
    def read(
        self,
        name: str,
        *,
        decode: Literal[True] = True,
        video: Literal[True] = True,
        audio: Literal[True],
        **options: Unpack[DecodeOptions],
    ) -> Reader[VideoFrame | AudioFrame]: ...

    @overload
    def read(self, name: str, *, decode: Literal[False], **options: Unpack[ReadOptions]) -> Reader[CodedFrame]: ...

    def read(
        self,
        name: str,
        *,
        decode: bool = True,
        video: bool = True,
        audio: bool = False,
        format: ArrayFormat = "bgr24",  # noqa: A002
        hardware: bool = False,
        buffer: int | None = None,
        timeout: float | None = None,
        reconnect: bool = True,
        history: float = 0.0,
        on_event: OnEvent | None = None,
    ) -> Reader[Any]:
        """Read the path ``name`` directly, without a socket. Iterate over the result.

        ``video`` and ``audio``: the kinds of track to decode; ``format`` of the arrays, as in `publish`, or another of
        FFmpeg's pixel formats that NumPy can represent. ``hardware``: decode on the first device that can (NVIDIA,
        VAAPI, Quick Sync, VideoToolbox; as PyAV was built), otherwise on the CPU. With ``decode=False``, encoded
        frames of all tracks are returned; this does not need PyAV.

        You always get the newest picture: a slow loop skips those in between, see `VideoFrame.skipped` and
        `Reader.skipped`. ``buffer``: return every frame instead, queueing at most this many; when the queue is full,
        frames up to the next key frame are skipped. The default for encoded frames is 600.

        ``timeout``: maximum time to wait for a frame, in seconds. ``reconnect``: if the stream ends or is not live yet,
        wait for it; ``on_event`` is called with each `Event`, in the thread that reads. With ``reconnect=False`` the
        iteration ends with the stream. ``history``: seconds of the stream that are kept in memory, as it was received,
        so that `Reader.record` can begin before it is called.

        The iteration raises NotFound (no such path, or nobody publishes and ``reconnect`` is off), UnsupportedCodec,
        ReadTimeout. This call raises MissingDependency without PyAV and StreamEnded if the server is not running.
        """
        application, runtime = self._running()

        def subscribe(inbox: Inbox) -> Subscription:
            wanted = SubscriptionOptions(video and decode, audio and decode, reconnect, history)
            log = application.log.child(f"reader of {name}")
            subscription = Subscription(runtime, application.hub, name, inbox, log, wanted)
            self._subscriptions.add(subscription)
            return subscription

        return open_reader(
            runtime,
            subscribe,
            decoding=open_decoding(format, hardware=hardware) if decode else None,
            kinds=(video, audio),
            buffer=buffer,
            timeout=timeout,
            on_event=on_event,
        )

    def record(self, name: str, duration: float | None = None) -> RecordingRequest:
        """Record the path ``name`` to disk, whenever it has a stream, whatever its setting ``record`` is.

        It goes on until the result is stopped, or for ``duration`` seconds; calling it again prolongs it. The files are
        those that the settings of the path describe (``recordPath``, ``recordFormat``...); with ``recordBefore``, they
        begin earlier. Raises NotFound if the path is not configured, and StreamEnded if the server is not running.
        """
        application, runtime = self._running()

        def start() -> None:
            application.hub.find_entry(name)
            application.recorder.start(name, duration)

        try:
            runtime.call(start)
        except PolycastError as error:
            raise public_error(error) from error
        return RecordingRequest(runtime, application.recorder, name)

    def recordings(self, name: str) -> Recordings:
        """Return the recordings of the path ``name``, which are where its settings say: ``recordPath``.

        Raises NotFound if the path is not configured, and StreamEnded if the server is not running.
        """
        application, runtime = self._running()
        try:
            entry, _ = runtime.call(lambda: application.hub.find_entry(name))
        except PolycastError as error:
            raise public_error(error) from error
        return Recordings(name, entry.configuration.record_path)

    def statistics(self) -> ServerStatistics:
        """Return statistics about all paths and clients. Raises StreamEnded if the server is not running."""
        application, runtime = self._running()

        def collect() -> ServerStatistics:
            return ServerStatistics(
                {path.name: stream_statistics(path) for path in application.hub},
                tuple(session for server in application.servers.values() for session in session_statistics(server)),
            )

        return runtime.call(collect)

    def disconnect(self, session_id: str) -> bool:
        """Close a client's session by its id, see `SessionStatistics.id`; False if there is no such session."""
        application, runtime = self._running()
        return runtime.call(lambda: any(server.kick(session_id) for server in application.servers.values()))

    # Inside

    def _running(self) -> tuple[Application, Runtime]:
        application, runtime = self._application, self._runtime
        if application is None or runtime is None:
            raise StreamEnded("the server is not started" if self._runtime is None else STOPPED)
        return application, runtime

    async def _open(self, runtime: Runtime) -> None:
        from polycast.app import Application

        hooks: Hooks | None = None

        async def authenticate(request: Any) -> bool:
            return hooks is not None and await hooks.authenticate(request)

        application = Application(self._loaded, authenticate=authenticate if self._authenticate is not None else None)
        hooks = Hooks(runtime.loop, application.log, authenticate=self._authenticate, **self._functions)  # type: ignore[arg-type]
        application.hub.observers.append(hooks)
        try:
            await application.start()
        except BaseException:
            await hooks.close()
            raise
        self._application, self._runtime, self._hooks = application, runtime, hooks
        self._stopped.clear()

    async def _close(self) -> None:
        application, hooks = self._application, self._hooks
        self._application = self._hooks = None
        if application is None or hooks is None:
            return
        for subscription in list(self._subscriptions):
            subscription.stop()
        await application.stop()
        await hooks.close()

    def _forget(self, runtime: Runtime) -> None:
        if self._runtime is not runtime:
            return
        self._runtime = None
        if isinstance(runtime, LoopThread):
            runtime.stop()
        else:
            runtime.end()
        self._stopped.set()
