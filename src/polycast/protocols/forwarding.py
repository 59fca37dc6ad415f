"""Forwarding: sends the streams of paths to other servers, each connection on its own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from polycast.config.forward import PATH_NAME, ForwardDestination, without_credentials
from polycast.config.path_schema import PathConfiguration
from polycast.errors import MissingDependency, PolycastError
from polycast.hub.path import Path, PathObserver
from polycast.hub.retry import Ended, RetryPauses
from polycast.items import ForwardItem, ForwardSettings, ForwardState
from polycast.log import Log
from polycast.protocols.base import Destination
from polycast.protocols.pull import END_SECONDS
from polycast.protocols.push import Push, Pusher
from polycast.protocols.registry import push_of
from polycast.protocols.sources import with_groups

RETRY_PAUSES: Final = RetryPauses(first=0.5, longest=4.0)
"""With its jitter, the longest one is that of MediaMTX, 5 s."""

TRIAL_SECONDS: Final = 5.0
"""A server that closes connections sooner is not asked again at once."""

HIDDEN: Final = "<redacted>"
"""What the API shows in place of a token."""


class ForwardError(PolycastError):
    """A destination cannot be used. The text is for the log."""


class Forward:
    """One destination of one path."""

    def __init__(
        self, path: Path, position: int, settings: ForwardDestination, forwarded_again: Callable[[str], str]
    ) -> None:
        """``forwarded_again``: `LoopCheck.forwarded_again`."""
        self._forwarded_again = forwarded_again
        self._path = path
        self.position = position
        """Its place in the list, from 1."""
        self.settings = settings
        self._id = str(uuid.uuid4())
        self._created = time.time()
        self._scheme = settings.dest.partition("://")[0].lower()
        self._push = Push(
            path,
            self._log,
            self._make_pusher,
            on_connected=self._on_connected,
            on_failed=self._on_failed,
            pauses=RETRY_PAUSES,
            trial=TRIAL_SECONDS,
        )
        self._told = ""
        """The failure that was logged last."""

    def start(self) -> None:
        """Start sending; the path has a stream."""
        self._told = ""
        address = self._address
        self._log().info("forwarding to '%s'", without_credentials(address))
        loop = self._forwarded_again(address)
        if loop:
            self._log().warning(
                "the destination is path '%s' of this server, which is forwarded, too: the stream may be sent again "
                "and again",
                loop,
            )
        self._push.start()

    def stop(self) -> asyncio.Task[None] | None:
        """Stop sending; return the task that closes the connection, None if there is none."""
        return self._push.begin_to_stop()

    @property
    def state(self) -> ForwardState:
        """Its state as the API has it."""
        if not self._push.is_running:
            return "idle"
        return "error" if self._error else "forwarding"

    def item(self) -> ForwardItem:
        """Return what the API says of it."""
        settings = self.settings
        return ForwardItem(
            id=self._id,
            pos=self.position,
            created=datetime.fromtimestamp(self._created, UTC).astimezone(),
            conf=ForwardSettings(
                dest=without_credentials(settings.dest),
                dest_fingerprint=settings.dest_fingerprint,
                whip_bearer_token=HIDDEN if settings.whip_bearer_token else "",
            ),
            protocol=self._scheme,
            state=self.state,
            last_error=self._error if self._push.is_running else "",
            outbound_bytes=self._push.bytes_sent,
        )

    @property
    def _error(self) -> str:
        """The failure between two attempts; empty during one, as its outcome is not known yet."""
        failure = self._push.failure
        return failure.error if failure is not None and failure.next_attempt is not None else ""

    @property
    def _address(self) -> str:
        return with_groups(self.settings.dest.replace(PATH_NAME, self._path.name), self._path.groups)

    def _log(self) -> Log:
        return self._path.log.child(f"{self._scheme.upper()} dest {self.position} {self._id[:8]}")

    def _make_pusher(self) -> Pusher:
        address = self._address
        push = push_of(address)
        if push is None:
            raise ForwardError(f"no protocol publishes to {self._scheme}://")
        destination = Destination(address, self.settings.dest_fingerprint, self.settings.whip_bearer_token)
        try:
            return push.open(destination)(self._log())
        except MissingDependency:
            raise
        except PolycastError as error:
            # The text may contain the password of the address.
            raise ForwardError(f"'{without_credentials(address)}' is not a valid address") from error

    def _on_connected(self) -> None:
        if self._told:
            self._told = ""
            self._log().info("forwarding again")

    def _on_failed(self, ended: Ended) -> bool:
        # A server that is down for long must not fill the log.
        write = self._log().debug if ended.reason == self._told else self._log().error
        write("%s", ended.reason)
        self._told = ended.reason
        return True


class Forwarding(PathObserver):
    """The destinations of all paths. An observer of the hub."""

    def __init__(self, forwarded_again: Callable[[str], str] = lambda address: "") -> None:
        """``forwarded_again``: `LoopCheck.forwarded_again`."""
        self._forwarded_again = forwarded_again
        self._forwards: dict[Path, list[Forward]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def items(self, path: Path) -> Sequence[ForwardItem]:
        """Return the destinations of a path, in the order of its settings."""
        return [forward.item() for forward in self._forwards.get(path, ())]

    async def wait_for_end(self) -> None:
        """Wait until all stopped connections are closed."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=END_SECONDS)

    # PathObserver

    def on_path_created(self, path: Path) -> None:
        destinations = path.configuration.forward
        if destinations:
            self._forwards[path] = [
                Forward(path, number, each, self._forwarded_again) for number, each in enumerate(destinations, 1)
            ]

    def on_path_closed(self, path: Path) -> None:
        for forward in self._forwards.pop(path, ()):
            self._stop(forward)

    def on_path_ready(self, path: Path) -> None:
        if path.is_copy:
            return
        for forward in self._forwards.get(path, ()):
            forward.start()

    def on_path_online(self, path: Path) -> None:
        # The same readers may get the stream from another node than before.
        for forward in self._forwards.get(path, ()):
            if path.is_copy:
                self._stop(forward)
            elif forward.state == "idle":
                forward.start()

    def on_path_not_ready(self, path: Path) -> None:
        for forward in self._forwards.get(path, ()):
            self._stop(forward)

    def on_path_reconfigured(self, path: Path, old: PathConfiguration) -> None:
        if path.configuration.forward == old.forward:
            return
        rest = self._forwards.pop(path, [])
        forwards: list[Forward] = []
        for number, settings in enumerate(path.configuration.forward, 1):
            forward = next((each for each in rest if each.settings == settings), None)
            if forward is None:
                forward = Forward(path, number, settings, self._forwarded_again)
            else:
                rest.remove(forward)
                forward.position = number
            forwards.append(forward)
        for forward in rest:
            self._stop(forward)
        if forwards:
            self._forwards[path] = forwards
        if path.stream is not None and not path.is_copy:
            for forward in forwards:
                if forward.state == "idle":
                    forward.start()

    def _stop(self, forward: Forward) -> None:
        task = forward.stop()
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
