"""Streams of other servers: publish to them and read from them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack, overload

from polycast.api.frames import AudioFrame, CodedFrame, VideoFrame
from polycast.api.inbox import Inbox
from polycast.api.options import (
    ArrayFormat,
    AudioCodecName,
    OnEvent,
    RecordedOptions,
    RemoteDecodeOptions,
    RemoteOptions,
    Transport,
    VideoCodecName,
    WebcamOptions,
)
from polycast.api.publishing import PublishOptions, open_coded_writer, open_writer
from polycast.api.reader import Reader
from polycast.api.reading import open_decoding, open_inbox, open_reader
from polycast.api.recorded import RecordedFrames, TimeLike
from polycast.api.recordings import is_file, read_file, read_playback
from polycast.api.remote_publishing import RemotePublishing, pusher_maker
from polycast.api.remote_reading import RemoteReading, without_credentials
from polycast.api.runtime import CLIENT_THREAD
from polycast.api.subscription import Subscription, SubscriptionOptions
from polycast.api.webcam import Webcam, WebcamDecoding, device_name
from polycast.api.writer import CodedWriter, Writer
from polycast.media.codec import Codec
from polycast.media.track import Track


@overload
def read(
    url: str,
    *,
    decode: Literal[True] = True,
    video: Literal[True] = True,
    audio: Literal[False] = False,
    **options: Unpack[RemoteDecodeOptions],
) -> Reader[VideoFrame]: ...


@overload
def read(
    url: str,
    *,
    decode: Literal[True] = True,
    video: Literal[False],
    audio: Literal[True],
    **options: Unpack[RemoteDecodeOptions],
) -> Reader[AudioFrame]: ...


@overload
def read(
    url: str,
    *,
    decode: Literal[True] = True,
    video: Literal[True] = True,
    audio: Literal[True],
    **options: Unpack[RemoteDecodeOptions],
) -> Reader[VideoFrame | AudioFrame]: ...


@overload
def read(url: str, *, decode: Literal[False], **options: Unpack[RemoteOptions]) -> Reader[CodedFrame]: ...


@overload
def read(url: int, **options: Unpack[WebcamOptions]) -> Reader[VideoFrame]: ...


@overload
def read(
    url: str | os.PathLike[str],
    *,
    start: TimeLike,
    end: TimeLike | None = None,
    video: bool = True,
    audio: bool = False,
    **options: Unpack[RecordedOptions],
) -> RecordedFrames[Any]: ...


@overload
def read(
    url: os.PathLike[str],
    *,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    video: bool = True,
    audio: bool = False,
    **options: Unpack[RecordedOptions],
) -> RecordedFrames[Any]: ...


def read(
    url: str | int | os.PathLike[str],
    *,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
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
    transport: Transport = "tcp",
    fingerprint: str = "",
    size: tuple[int, int] | None = None,
    rate: float | None = None,
) -> Reader[Any] | RecordedFrames[Any]:
    """Read a stream of another server or a camera, a webcam, a file or a recording. Iterate over the result.

    ``url``: ``rtsp://``, ``rtsps://``, ``rtmp://``, ``rtmps://``, ``srt://``, ``http://`` and ``https://`` for HLS, or
    ``whep://`` and ``wheps://`` for WebRTC over HTTP and HTTPS, or ``onvif://`` and ``onvifs://`` for cameras that are
    asked for their RTSP address; with ``user:password@`` if required, or ``:token@``, a
    bearer token for WHEP. ``transport`` of RTSP: ``tcp``, ``udp``, ``multicast``, or ``automatic``, which tries UDP
    first. ``fingerprint``: SHA-256 of the server's certificate, hexadecimal; then only this certificate is accepted,
    even if it is self-signed.

    A number, such as 0, or a name, such as ``/dev/video0``, opens a webcam (on Linux). ``size`` is (width, height) in
    pixels and ``rate`` in frames a second; a webcam takes the nearest that it has. Its frames have no tracks, and
    cannot be read with ``decode=False``. If there is no such webcam, ConnectionFailed is raised.

    A file (``clip.mp4``, or a `pathlib.Path`) is decoded from ``start`` to before ``end``, seconds from its beginning;
    if it is a recording, they may also be datetimes, or texts such as ``2026-11-30T14:00:00Z``. With ``start`` or
    ``end``, the address of a path on a playback server is read: ``http://localhost:9996/?path=cam``, with
    ``user:password@`` if required; numbers are seconds since 1970 then. Both give `RecordedFrames`: every frame, as
    fast as it is wanted; only ``video``, ``audio`` and ``format`` are for them.

    All other parameters are those of `Server.read`. With ``reconnect`` (the default), a server that is unreachable or
    does not have the stream yet is retried after half a second at first, later every ten seconds; each failure is
    reported as an `Event` and logged as a warning. With ``reconnect=False``, the iteration raises ConnectionFailed or
    NotFound. AccessRefused (wrong password) and UnsupportedCodec are always raised. Raises ValueError if the URL cannot
    be read, and MissingDependency if a package for it is not installed.
    """
    if is_file(url) or start is not None or end is not None:
        name = str(url) if isinstance(url, int) else os.fspath(url)
        return _open_recorded(name, start, end, decode=decode, video=video, audio=audio, pixel_format=format)
    device = device_name(url) if isinstance(url, str | int) else None
    if device is not None:
        if not decode or audio or not video:
            raise ValueError("a webcam is read as pictures, without audio")
        return _open_webcam(device, format, buffer, timeout, on_event, size=size, rate=rate, reconnect=reconnect)
    check_url(url, "read")
    if size is not None or rate is not None:
        raise ValueError("size and rate are for webcams: a stream has the size and rate that its publisher chose")
    remote = RemoteReading(str(url), transport, fingerprint, reconnect=reconnect)

    def subscribe(inbox: Inbox) -> Subscription:
        return remote.subscribe(
            inbox, SubscriptionOptions(video and decode, audio and decode, reconnect, history, True)
        )

    try:
        return open_reader(
            remote.runtime,
            subscribe,
            decoding=open_decoding(format, hardware=hardware) if decode else None,
            kinds=(video, audio),
            buffer=buffer,
            timeout=timeout,
            on_event=on_event,
            on_close=remote.close,
        )
    except BaseException:
        remote.close()
        raise


@overload
def publish(
    url: str,
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
    timeout: float = 10.0,
    reconnect: bool = True,
    on_event: OnEvent | None = None,
    fingerprint: str = "",
) -> Writer | CodedWriter:
    """Publish to another server: ``rtsp://`` and ``rtsps://`` (over TCP), ``rtmp://`` and ``rtmps://``, ``srt://``, and
    ``whip://`` and ``whips://`` (WebRTC over HTTP and HTTPS; with ``audio_codec="opus"``, since WebRTC does not carry
    AAC).

    ``url`` contains ``user:password@`` if required; for WHIP, ``:token@`` is a bearer token.

    The call returns once the server has accepted the stream, within ``timeout`` seconds. Otherwise it raises
    ConnectionFailed, AccessRefused, NotFound or PublishRefused. With ``reconnect`` (the default) an unreachable server
    is retried, within ``timeout`` at first, indefinitely later; frames written in the meantime are dropped, and
    ``on_event`` is called with each `Event`, in a thread of the library. With ``reconnect=False``, the next
    ``Writer.write`` raises an error with the reason the connection was lost. ``fingerprint`` is as in `read`; all other
    parameters are those of `Server.publish`. In an asyncio program, call it with ``asyncio.to_thread``. Raises
    ValueError if the URL cannot be published to, and MissingDependency if a package for it is not installed.
    """
    check_url(url, "publish")
    make_pusher = pusher_maker(url, fingerprint)

    def open_url(described: Sequence[Track]) -> RemotePublishing:
        return RemotePublishing(
            described, make_pusher, without_credentials(url), timeout=timeout, reconnect=reconnect, on_event=on_event
        )

    if tracks is not None:
        return open_coded_writer(open_url, tracks)
    options_given = PublishOptions(
        size, rate, format, codec, encoder, hardware, bitrate, key_interval, options,
        sample_rate, channels, audio_codec, audio_bitrate, pace,
    )  # fmt: skip
    return open_writer(open_url, options_given)


def check_url(url: object, function: str) -> None:
    """Raise TypeError for an argument that is not a URL, such as the number of a webcam to publish to."""
    if not isinstance(url, str):
        also = ", or the number of a webcam" if function == "read" else ""
        raise TypeError(f"polycast.{function} takes a URL, such as 'rtsp://camera/stream'{also}, not {url!r}")


def _open_recorded(
    name: str, start: TimeLike | None, end: TimeLike | None, *, decode: bool, **options: Any
) -> RecordedFrames[Any]:
    if not decode:
        raise ValueError("recordings and files are read as arrays: decode=False is for streams")
    if is_file(name):
        return read_file(name, start, end, **options)
    return read_playback(name, start, end, **options)


def _open_webcam(
    device: str,
    pixel_format: ArrayFormat,
    buffer: int | None,
    timeout: float | None,
    on_event: OnEvent | None,
    *,
    size: tuple[int, int] | None,
    rate: float | None,
    reconnect: bool,
) -> Reader[Any]:
    webcam = Webcam(device, inbox := open_inbox(buffer, decodes=True), size=size, rate=rate, reconnect=reconnect)
    try:
        return Reader(
            webcam.runtime,
            webcam,
            inbox,
            decoding=WebcamDecoding(webcam, pixel_format),
            has_video=True,
            newest=inbox.is_newest_first,
            timeout=timeout,
            on_event=on_event,
            on_close=CLIENT_THREAD.release,
        )
    except BaseException:
        CLIENT_THREAD.release()
        raise
