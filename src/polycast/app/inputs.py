"""What the paths of a server get their streams from, besides clients: sources, slates, the demo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from polycast.app.cluster import ClusterMember
from polycast.config.schema import Configuration
from polycast.hub.path import Path, Source
from polycast.hub.slate import Slate
from polycast.protocols.pull import SourceSettings
from polycast.protocols.sources import make_source
from polycast.slates.slates import Slates


class Inputs:
    """Makes them for the paths of one server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        configuration: Callable[[], Configuration],
        demo_path: str | None,
    ) -> None:
        """``configuration`` returns the current one. ``demo_path`` is the path of the demo; None if there is none."""
        self._settings = SourceSettings(loop, configuration)
        self._demo_path = demo_path
        self._slates = Slates()
        self.cluster: ClusterMember
        """What copies streams from other servers. Set once there is a hub."""

    def prepare(self, configuration: Configuration) -> None:
        """Read the slates of a configuration that will be applied; called in a thread. Raises ConfigurationError."""
        self._slates.prepare(configuration)

    def source_of(self, path: Path) -> Source | None:
        """Return the source of a path; None if clients publish."""
        if path.name == self._demo_path:
            from polycast.demo.publisher import DemoPublisher  # needs PyAV, and is slow to import

            return DemoPublisher(path, self._settings.loop)
        return make_source(path, path.configuration.sources, self._settings)

    def fallback_of(self, path: Path, url: str) -> Source | None:
        """Return a source that pulls from the target of a redirection."""
        return make_source(path, (url,), self._settings)

    def slate_of(self, path: Path) -> Slate | None:
        """Return what readers of a path get while nobody publishes; None if that is nothing."""
        return self._slates.slate_of(path)

    async def wait_for_end(self) -> None:
        """Wait until all stopped sources have closed their connections and processes."""
        await self._settings.wait_for_end()
