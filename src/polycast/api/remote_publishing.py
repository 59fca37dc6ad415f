"""The destination of a writer for another server: a path of a private hub, and a client that forwards it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence

from polycast.api.errors import ConnectionFailed, is_permanent, public_error
from polycast.api.inbox import Event, EventKind
from polycast.api.options import OnEvent
from polycast.api.publication import Publication
from polycast.api.remote_reading import PATH, without_credentials
from polycast.api.runtime import CLIENT_THREAD
from polycast.config import from_mapping
from polycast.config.declarations import destination_kinds
from polycast.errors import MissingDependency, PolycastError
from polycast.hub.access import AccessControl
from polycast.hub.hub import Hub
from polycast.hub.retry import Ended
from polycast.log import Log
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.base import Destination
from polycast.protocols.push import Push, Pusher
from polycast.protocols.registry import push_of

MakePusher = Callable[[Log], Pusher]


def pusher_maker(url: str, fingerprint: str) -> MakePusher:
    """Return the factory of the client for an address.

    Raises ValueError if it cannot be published to, MissingDependency if a package is missing.
    """
    push = push_of(url)
    if push is None:
        *schemes, last = (f"{scheme}://" for kind in destination_kinds() for scheme in kind.schemes)
        raise ValueError(
            f"'{without_credentials(url)}' cannot be published to: "
            f"the URL must start with {', '.join(schemes)} or {last}"
        )
    try:
        return push.open(Destination(url, fingerprint))
    except MissingDependency:
        raise
    except PolycastError as error:
        raise ValueError(str(error)) from error


class RemotePublishing:
    """The destination of a writer for another server: a path of a private hub, and the client that forwards it."""

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
        self._runtime = CLIENT_THREAD.acquire()
        try:
            self._hub = self._runtime.call(self._make_hub)
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
        """Send everything that was written, and close the connection. May be called several times."""
        if self._ended.is_set():
            return
        self._ended.set()
        publication = getattr(self, "_publication", None)
        if publication is not None and hasattr(self, "_push"):
            self._runtime.defer(self._stop, error)
        CLIENT_THREAD.release()

    def _make_hub(self) -> Hub:
        hub = Hub(loop=self._runtime.loop, log=self._log, access=AccessControl())
        hub.configure(from_mapping({"paths": {PATH: {}}}).paths)
        return hub

    def _start(self, make_pusher: MakePusher) -> Push:
        path = self._publication.path
        if path is None:
            raise ConnectionFailed("the stream has ended")
        push = Push(
            path,
            lambda: self._log,
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
        self._emit(EventKind.CONNECTED, "")

    def _on_failed(self, ended: Ended) -> bool:
        error = public_error(ended.error if isinstance(ended.error, PolycastError) else OSError(ended.reason))
        self._last_failure = error
        goes_on = self._reconnect and not is_permanent(error)
        self._log.warning("%s%s", error, "; trying again" if goes_on else "")
        self._emit(EventKind.DISCONNECTED if ended.has_worked else EventKind.WAITING, str(error))
        if not goes_on:
            if not self._connected.done():
                self._connected.set_exception(error)
            self._publication.end(error)
        return goes_on

    def _emit(self, kind: EventKind, reason: str) -> None:
        if self._on_event is not None:
            self._runtime.loop.run_in_executor(None, self._on_event, Event(kind, reason, time.time()))
