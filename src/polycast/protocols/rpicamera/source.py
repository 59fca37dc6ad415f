"""The camera of a Raspberry Pi: the system's ``rpicam-vid`` as a helper process that writes H264 or JPEG to a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from typing import IO, ClassVar, Final

from polycast.codecs import h264
from polycast.config.path_schema import PathConfiguration
from polycast.errors import RemoteProtocolError
from polycast.hub.stream import Stream
from polycast.media.codec import H264, MJPEG, VideoCodec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.pull import PullContext, Puller, PullError, first_of
from polycast.protocols.rpicamera.access_units import AccessUnit, AccessUnitReader
from polycast.protocols.rpicamera.images import ImageReader
from polycast.protocols.rpicamera.options import arguments, overlay
from polycast.protocols.rpicamera.output import CameraOutput

PROGRAMS: Final = ("rpicam-vid", "libcamera-vid")
"""Names of the program, the current one first: Raspberry Pi OS renamed it with Debian 12."""

# Seconds without data after which the program has written a whole picture: it writes each one in one go, so this is
# longer than the system may delay it in between, and shorter than the time to the next picture.
PICTURE_END_SECONDS: Final = 0.02

# Seconds for the program to close the camera after each signal.
GRACE_SECONDS: Final = 2.0

# Lines of the program's output that are kept for the log.
REMEMBERED_LINES: Final = 20
MAXIMUM_LINE: Final = 500

# How quickly the timeline follows the clock: arrival times have jitter, the camera does not.
_SMOOTHING: Final = 16


class CameraClock:
    """Derives the times of pictures from their arrival: even steps that follow the clock."""

    def __init__(self, frame_rate: float) -> None:
        self._step = H264().clock_rate / frame_rate
        self._start: float | None = None
        self._last = 0.0

    def time_of(self, now: float) -> int:
        """Return the time of a picture that arrives at ``now`` (monotonic seconds), in monotonic 90 kHz ticks."""
        if self._start is None:
            self._start = now
            return 0
        arrival = (now - self._start) * H264().clock_rate
        expected = self._last + self._step
        if abs(arrival - expected) < self._step:
            arrival = expected + (arrival - expected) / _SMOOTHING
        self._last = max(self._last + 1, arrival)
        return round(self._last)


@contextlib.asynccontextmanager
async def _overlay_file(configuration: PathConfiguration) -> AsyncIterator[str]:
    """Yield the name of a temporary file that describes the text in the picture; empty without a text."""
    if not configuration.rpi_camera_text_overlay_enable:
        yield ""
        return
    name = await asyncio.to_thread(_write_temporary, overlay(configuration.rpi_camera_text_overlay))
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            await asyncio.shield(asyncio.to_thread(os.unlink, name))


def _write_temporary(text: str) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="polycast-", suffix=".json", delete=False) as file:
        file.write(text)
    return file.name


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, IO[bytes]]]:
    """Yield a pipe from a helper process: its end here, and the one for the process, to be closed once that has it.

    Both are closed at the end of the block, even if a child of the process still holds the pipe.
    """
    reader = asyncio.StreamReader()
    reading, writing = os.pipe()
    source = os.fdopen(reading, "rb", 0)
    with os.fdopen(writing, "wb", 0) as sink:
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), source
            )
        except BaseException:
            source.close()
            raise
        # From now on, the transport closes the file. Closing it once more could close another one with its number.
        try:
            yield reader, sink
        finally:
            transport.close()


def _find_program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class RpiCameraPuller(Puller):
    """The camera with the settings of the path."""

    label: ClassVar[str] = "rpicamera source"
    type_name: ClassVar[str] = "rpiCameraSource"

    async def pull(self, context: PullContext) -> None:
        program = await asyncio.to_thread(_find_program)
        if program is None:
            raise PullError(
                f"neither {PROGRAMS[0]} nor {PROGRAMS[1]} is installed; on a Raspberry Pi: apt install rpicam-apps"
            )
        settings = context.path_configuration
        if settings.rpi_camera_secondary:
            raise PullError(f"rpiCameraSecondary: {PROGRAMS[0]} has only one stream")
        async with _overlay_file(settings) as overlay_file, _pipe() as output, _pipe() as messages:
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments(settings, overlay_file),
                stdin=subprocess.DEVNULL,
                stdout=output[1],
                stderr=messages[1],
                start_new_session=os.name == "posix",
            )
            output[1].close()
            messages[1].close()
            run = _Run(context, process, output[0], messages[0])
            try:
                await run.pictures()
                raise PullError(await run.describe_end())
            finally:
                await asyncio.shield(run.end())


class _Run:
    """One run of the helper process."""

    def __init__(
        self,
        context: PullContext,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        messages: asyncio.StreamReader,
    ) -> None:
        """``output`` and ``messages`` are the standard output and the standard error of the process."""
        self._context = context
        self._process = process
        self._output = CameraOutput(output, process)
        self._clock = CameraClock(context.path_configuration.rpi_camera_fps)
        self._codec: VideoCodec = MJPEG() if context.path_configuration.rpi_camera_codec == "mjpeg" else H264()
        self._stream: Stream | None = None
        self._lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._messages = context.loop.create_task(self._read_messages(messages))

    async def pictures(self) -> None:
        """Publish the pictures until the program ends. Raises PullError."""
        reader = ImageReader() if isinstance(self._codec, MJPEG) else AccessUnitReader()
        longest = self._context.read_timeout
        try:
            while True:
                data = await self._output.read(PICTURE_END_SECONDS if reader.is_pending else longest)
                if data is None:
                    if not reader.is_pending:
                        raise PullError(f"no pictures for {longest:g} s")
                    self._write(reader.flush())
                    continue
                if not data:
                    self._write(reader.flush())
                    return
                self._context.counters.bytes_received += len(data)
                self._write(reader.receive(data))
        except RemoteProtocolError as error:
            raise PullError(f"invalid data: {error}") from error

    def _write(self, units_of_pictures: list[AccessUnit]) -> None:
        now = self._context.loop.time()
        for units in units_of_pictures:
            codec = self._codec
            if isinstance(codec, H264):
                codec = self._codec = h264.updated(codec, units)
            if self._stream is None:
                if isinstance(codec, H264) and not (codec.sps and codec.pps):
                    continue
                self._stream = self._context.publish((Track(0, codec),), False)
            time = self._clock.time_of(now)
            is_key = not isinstance(codec, H264) or h264.is_key(units)
            self._stream.publish_frame(0, Frame(units, time, time, key=is_key), now)
            self._context.counters.packets_received += 1
        if self._stream is not None and units_of_pictures:
            self._stream.end_of_read()

    async def _read_messages(self, pipe: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await pipe.readline()
            except ValueError:  # a line that is too long
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()[:MAXIMUM_LINE]
            if text:
                self._context.log.debug("%s", text)
                self._lines.append(text)

    async def describe_end(self) -> str:
        """Return why the program has ended, with its own error message if there is one."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await asyncio.shield(self._messages)
        errors = [line for line in self._lines if "error" in line.lower()] or list(self._lines)[-1:]
        return ": ".join([f"the camera program has ended with code {code}", *errors[-1:]])

    async def end(self) -> None:
        """Stop the program: it closes the camera on SIGINT."""
        process = self._process
        for name in ("SIGINT", "SIGTERM", "SIGKILL"):
            if process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.name == "posix":
                    os.killpg(process.pid, getattr(signal, name))
                else:
                    process.kill()
            # Its output must still be read, otherwise it could block while writing.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(first_of(_drain(self._output), _ended(process)), GRACE_SECONDS)
        self._messages.cancel()
        await self._output.close()


async def _drain(output: CameraOutput) -> None:
    await output.drain()
    await asyncio.Event().wait()


async def _ended(process: asyncio.subprocess.Process) -> None:
    await process.wait()
