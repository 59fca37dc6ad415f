"""Many sources of one origin: its death and its return are not followed by a storm of connections."""

from __future__ import annotations

import asyncio
import logging
import random
import selectors
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from tests.protocols.rtsp.support import Fixture, running
from tests.protocols.sources.camera import camera

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.hub.path import Path, PathEntry
from polycast.log import Log
from polycast.media.codec import H264
from polycast.media.track import Track
from polycast.protocols.pull import PullContext, Puller, PullError, SourceSettings, SupervisedSource

SOURCES = 500
MINUTE = 60.0


class ScriptedSelector(selectors.SelectSelector):
    """Instead of waiting it moves the clock on: hours pass at once."""

    time = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everything waits for something that never happens"
            self.time += max(timeout, 0.0)
        return found


class ScriptedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._scripted = ScriptedSelector()
        super().__init__(self._scripted)

    def time(self) -> float:
        return self._scripted.time


class Origin:
    """Whether it lives, and when somebody tried to reach it."""

    def __init__(self) -> None:
        self.died = asyncio.get_running_loop().create_future()
        self.attempts: list[float] = []
        self.connected = 0

    def die(self) -> None:
        self.died.set_result(None)

    def live(self) -> None:
        self.died = asyncio.get_running_loop().create_future()

    def attempts_between(self, first: float, last: float) -> list[float]:
        return [time for time in self.attempts if first <= time < last]


class OriginPuller(Puller):
    label: ClassVar[str] = "test source"
    type_name: ClassVar[str] = "testSource"

    def __init__(self, origin: Origin) -> None:
        super().__init__("test://origin")
        self._origin = origin

    async def pull(self, context: PullContext) -> None:
        origin = self._origin
        origin.attempts.append(context.loop.time())
        if origin.died.done():
            raise PullError("Connection refused")
        context.publish([Track(0, H264())], False)
        origin.connected += 1
        try:
            await asyncio.shield(origin.died)
        finally:
            origin.connected -= 1
        raise PullError("closed by the server")


def peak(times: list[float], seconds: float = 1.0) -> int:
    """The largest number of attempts within ``seconds``."""
    ordered = sorted(times)
    first = found = 0
    for last, time in enumerate(ordered):
        while ordered[first] <= time - seconds:
            first += 1
        found = max(found, last - first + 1)
    return found


def scripted(scenario: Callable[[Origin, list[SupervisedSource]], Any]) -> None:
    """Run a scenario of `SOURCES` sources by the scripted clock."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        log = Log(logging.Logger("polycast.test", logging.CRITICAL))
        origin = Origin()
        settings = SourceSettings(loop, Configuration)
        sources = []
        for number in range(SOURCES):
            entry = PathEntry(f"cam{number}", PathConfiguration())
            path = Path(entry.name, entry, (), loop=loop, log=log, observers=(), on_unused=lambda _: None)
            source = SupervisedSource(path, [OriginPuller(origin)], settings)
            path.attach_source(source)
            sources.append(source)
        try:
            await scenario(origin, sources)
        finally:
            for source in sources:
                source.stop("the test ends")
            await asyncio.sleep(0)

    random.seed(11)
    with asyncio.Runner(loop_factory=ScriptedLoop) as runner:
        runner.run(run())


def test_death_and_return_by_the_clock() -> None:
    async def scenario(origin: Origin, sources: list[SupervisedSource]) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(MINUTE)
        assert origin.connected == SOURCES
        assert len(origin.attempts) == SOURCES

        # It dies: all lose it in one moment, and none comes back in that moment.
        died = loop.time()
        origin.die()
        await asyncio.sleep(10 * MINUTE)
        assert not origin.attempts_between(died, died + 4.0)
        # The first round is spread over the jitter of 5 s, 2 s; later ones over more and more.
        assert peak(origin.attempts_between(died, died + 7.0)) < 0.65 * SOURCES
        assert peak(origin.attempts_between(died + 7.0, died + 15.0)) < 0.4 * SOURCES
        # 5, 10, 20, 40 and then 60 s: when it has been away for long, a steady trickle of 500 each minute.
        assert peak(origin.attempts_between(died + 5 * MINUTE, loop.time())) < 0.1 * SOURCES
        minutes = Counter(int((time - died) // MINUTE) for time in origin.attempts_between(died, loop.time()))
        assert all(minutes[minute] <= 1.3 * SOURCES for minute in range(2, 10))
        assert len(origin.attempts_between(died, loop.time())) < 14 * SOURCES

        # It returns: all are back within the longest pause and its jitter, not all at once.
        returned = loop.time()
        origin.live()
        await asyncio.sleep(1.2 * MINUTE + 1)
        assert origin.connected == SOURCES
        assert len(origin.attempts_between(returned, loop.time())) == SOURCES
        assert peak(origin.attempts_between(returned, loop.time())) < 0.1 * SOURCES

        # A short absence after that begins with the short pause again.
        origin.die()
        await asyncio.sleep(2.0)
        origin.live()
        returned = loop.time()
        await asyncio.sleep(6.0)
        assert origin.connected == SOURCES
        assert len(origin.attempts_between(returned, loop.time())) == SOURCES

    scripted(scenario)


async def ready(app: Fixture, *, count: int) -> None:
    async with asyncio.timeout(60):
        while sum(path.stream is not None for path in app.app.hub) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_death_and_return_of_a_real_origin() -> None:
    runs = 100
    settings = {"sourceProtocol": "tcp", "sourceRetryPause": "400ms", "sourceRetryPauseMax": "800ms"}
    async with camera() as origin:
        paths = {f"cam{number}": {"source": origin.url(f"cam{number}"), **settings} for number in range(runs)}
        async with running(paths=paths) as app:
            await ready(app, count=runs)
            assert origin.connections == runs
            await origin.close()
            await ready(app, count=0)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.sleep(1.0)
            refused = sum("failed: Connection refused" in line for line in app.log.lines)
            # One attempt after 0.32 s or later, the next one 0.64 s later, and so on.
            assert 0 < refused <= runs * (1 + int((loop.time() - began) / 0.64))
            await origin.open(port=origin.port)
            await ready(app, count=runs)
            # Nobody came twice.
            assert origin.connections == 2 * runs
            assert len(origin.clients) == runs
