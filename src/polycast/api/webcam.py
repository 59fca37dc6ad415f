"""Webcams as sources of readers: a thread that takes pictures from the device and puts them into the inbox."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polycast.api.errors import ConnectionFailed
from polycast.api.frames import AudioFrame, PictureConverter, VideoFrame
from polycast.api.inbox import Arrival, End, Event, EventKind, Inbox
from polycast.api.rate import RateMeter
from polycast.api.runtime import CLIENT_THREAD
from polycast.media.codec import MJPEG
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.media.track import Track
from polycast.transcode.pyav import import_av

DEVICE_DIRECTORY: Final = "/dev/video"
RETRY_SECONDS: Final = 2.0
"""Until a webcam that was unplugged is looked for again."""
OPEN_SECONDS: Final = 10.0
"""For the device to deliver its first picture."""
READ_SECONDS: Final = 5.0
"""Between two pictures, before the webcam counts as lost."""

_PICTURES: Final = Track(0, MJPEG())
"""The track that entries of the inbox belong to. Not all webcams send Motion JPEG; only its kind matters."""


@dataclass(frozen=True, slots=True)
class DeviceFormat:
    """What a webcam sends."""

    codec: str
    """FFmpeg's name: ``rawvideo``, ``mjpeg``, ``h264``."""
    width: int
    height: int
    pixel_format: str | None


def device_name(device: int | str) -> str | None:
    """Return the file of a webcam given by number or name; None if it is the address of a stream."""
    if isinstance(device, int) and not isinstance(device, bool) and device >= 0:
        return f"{DEVICE_DIRECTORY}{device}"
    if isinstance(device, str) and device.startswith(DEVICE_DIRECTORY):
        return device
    return None


def open_device(av: Any, device: str, options: Mapping[str, str]) -> Any:
    """Open a webcam through Video4Linux2; return the container. Raises OSError."""
    return av.open(device, format="v4l2", options=dict(options), timeout=(OPEN_SECONDS, READ_SECONDS))


class Webcam:
    """The source of one reader. Raises MissingDependency without PyAV."""

    def __init__(
        self, device: str, inbox: Inbox, *, size: tuple[int, int] | None, rate: float | None, reconnect: bool
    ) -> None:
        self._av = import_av("reading webcams")
        self._device = device
        self._inbox = inbox
        self._options: dict[str, str] = {}
        if size is not None:
            self._options["video_size"] = f"{size[0]}x{size[1]}"
        if rate is not None:
            self._options["framerate"] = f"{rate:g}"
        self._reconnect = reconnect
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._epoch = 0
        self.meter = RateMeter()
        self.format: DeviceFormat | None = None
        """What it sends; None until it is open."""
        self.runtime = CLIENT_THREAD.acquire()

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Empty: the pictures of a webcam are not a stream."""
        return ()

    def start(self) -> None:
        """Start the thread."""
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._run, name="polycast-webcam", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End: the device is closed after its next picture. May be called several times."""
        if not self._stop.is_set():
            self._stop.set()
            self._inbox.put_event(End(None))

    def record(self, *_: object) -> Any:
        """Raise ValueError: there are no encoded frames."""
        raise ValueError("the pictures of a webcam are not encoded: publish them, and record that stream")

    def _run(self) -> None:
        has_worked = False
        while not self._stop.is_set():
            try:
                container = open_device(self._av, self._device, self._options)
            except (OSError, self._av.error.FFmpegError) as error:
                reason = self._describe(error)
            else:
                has_worked = True
                try:
                    with container:
                        self._read(container)
                    reason = f"the webcam {self._device} has stopped"
                except (OSError, self._av.error.FFmpegError) as error:
                    reason = self._describe(error)
            if self._stop.is_set():
                break
            if not has_worked or not self._reconnect:
                self._end(ConnectionFailed(reason))
                return
            self._inbox.put_event(Event(EventKind.WAITING, reason, time.time()))
            self._stop.wait(RETRY_SECONDS)
        self._end(None)

    def _end(self, error: ConnectionFailed | None) -> None:
        self.meter.end(error or ConnectionFailed("the webcam was closed"))
        self._inbox.put_event(End(error))

    def _read(self, container: Any) -> None:
        stream = container.streams.video[0]
        context = stream.codec_context
        self.format = DeviceFormat(context.name, context.width, context.height, context.pix_fmt)
        self._epoch += 1
        if stream.average_rate:
            self.meter.set(float(stream.average_rate))
        self._inbox.begin(_PICTURES.index)
        self._inbox.put_event(Event(EventKind.CONNECTED, "", time.time()))
        begin = time.monotonic_ns()
        for packet in container.demux(stream):
            if self._stop.is_set():
                return
            if packet.size:
                now = time.monotonic_ns() - begin
                self.meter.add(now, NANOSECONDS)
                frame = Frame((bytes(packet),), now, now, key=True, wall_time=WallTime(time.time_ns()))
                self._inbox.put([Arrival(_PICTURES, frame, self._epoch, 0)])

    def _describe(self, error: Exception) -> str:
        advice = {
            errno.ENOENT: "there is no such webcam",
            errno.EACCES: "permission denied; add your user to the group video: sudo usermod -aG video $USER",
            errno.EBUSY: "another program uses it",
        }.get(getattr(error, "errno", None) or 0, str(error))
        return f"the webcam {self._device} cannot be read: {advice}"


class WebcamDecoding:
    """Makes pictures of what a webcam sends. Used by one thread at a time."""

    def __init__(self, webcam: Webcam, pixel_format: str) -> None:
        self._av = import_av("reading webcams")
        self._webcam = webcam
        self._convert = PictureConverter(self._av, pixel_format)
        self._context: Any = None
        self._epoch = 0
        self.errors = 0
        """Pictures that could not be decoded."""

    def decode(self, arrival: Arrival) -> list[VideoFrame | AudioFrame]:
        """Return the pictures that are ready."""
        sent = self._webcam.format
        if sent is None:
            return []
        if arrival.epoch != self._epoch:
            self._epoch = arrival.epoch
            self._context = self._open(sent)
        frame = arrival.frame
        try:
            natives = self._context.decode(self._av.Packet(frame.units[0]))
        except self._av.error.FFmpegError:
            self.errors += 1
            return []
        seconds, wall_time = frame.pts / NANOSECONDS, frame.wall_time
        captured = None if wall_time is None else wall_time / NANOSECONDS
        return [VideoFrame(native, self._convert, pts=seconds, time=captured, key=True) for native in natives]

    def _open(self, sent: DeviceFormat) -> Any:
        context = self._av.CodecContext.create(sent.codec, "r")
        context.width, context.height = sent.width, sent.height
        if sent.pixel_format is not None:
            context.pix_fmt = sent.pixel_format
        context.thread_type = "SLICE"  # frame threads would delay by one picture each
        return context
