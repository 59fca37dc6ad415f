"""Many clients that change the configuration at once, through both versions of the API, with ``apiPersist``."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from tests.control.support import Server, running_file

from polycast.config import load, load_bytes, path_to_jsonable
from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.edits import AddPath, EditPath, ReplacePath, SetPathDefaults

EDITORS = 40
SETS = 5
"""How often all paths are replaced, while others add some."""

HEAD = """\
# The settings of a test.
rtspAddress: 127.0.0.1:0
rtspTransports: [tcp]   # no ports for UDP
rtmp: no
hls: no
webrtc: no
srt: no
moq: no
api: yes
apiAddress: 127.0.0.1:0
apiPersist: yes
metrics: yes
metricsAddress: 127.0.0.1:0

# What paths have.
pathDefaults:
  maxReaders: 3   # the same as 'kept' has itself
paths:
{}  # It must stay.
  kept:
    maxReaders: 3  # its own
  # Somebody edits it.
  shared: # nothing yet

# The end.
""".format("".join(f"  own/{number}: # {number}\n    maxReaders: 1\n" for number in range(0, EDITORS, 2)))
"""Half of the editors have their paths already."""

COMMENTS = [line.partition("#")[2] for line in HEAD.splitlines() if "#" in line]
LASTING = [comment for comment in COMMENTS if not comment.strip().isdecimal()]
"""Those that do not belong to the path of an editor."""

GLOBALS: list[tuple[str, list[Any], str, list[Any]]] = [
    ("readTimeout", ["11s", "12s", "13s"], "readTimeout", ["14s", "15s", "16s"]),
    ("writeQueueSize", [64, 128, 256], "readBufferCount", [1024, 2048, 4096]),
    ("logLevel", ["warn", "error", "debug"], "logLevel", ["info", "warn", "debug"]),
    ("hlsSegmentCount", [8, 9, 10], "hlsSegmentCount", [11, 12, 13]),
    ("rtspAuthMethods", [["basic"]] * 3, "authMethods", [["basic"]] * 3),
    ("metricsAllowOrigins", [["https://a"], [], ["https://b"]], "metricsAllowOrigins", [["*"], ["https://c"], []]),
]
"""A setting and values, under the names of v3 and of v1. Each is changed by one editor."""


class Watcher:
    """Reads the file all the time: at every moment it must be valid, and have the comments that nobody removes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stopped = threading.Event()
        self.seen: dict[bytes, None] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.001):
            self.seen[self._file.read_bytes()] = None

    def check(self, comments: Collection[str]) -> None:
        """Check what was seen, once others no longer need the processor."""
        for content in self.seen:
            load_bytes(content, {}, str(self._file), MEDIAMTX)  # raises an error if it is not valid
            assert [comment for comment in comments if comment.encode() not in content] == []


def accepted(response: httpx2.Response) -> None:
    assert response.status_code == 200, response.text


class Editor:
    """Changes a path of its own and one global setting, and knows what they must be in the end."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._random = random.Random(number)
        self._number = number
        self.name = f"own/{number}"
        self.expected: dict[str, Any] | None = {"maxReaders": 1} if number % 2 == 0 else None
        """The settings of the path, under the names of v3; None while there is none."""
        self.setting: tuple[str, Any] | None = None

    async def edit(self) -> None:
        await self._random.choice(self._possible())()
        for step in range(3 if self._number < len(GLOBALS) else 0):
            await self._change_global(step)

    def _possible(self) -> list[Callable[[], Awaitable[None]]]:
        if self.expected is None:
            return [self._add, self._add, self._replace]
        return [self._patch, self._patch, self._replace, self._delete, self._edit_shared]

    @property
    def _is_v3(self) -> bool:
        return self._random.random() < 0.5

    def _settings(self) -> dict[str, Any]:
        """Return some settings of a path, under the names of v3."""
        every = {
            "maxReaders": self._random.randrange(1, 5),
            "overridePublisher": self._random.random() < 0.5,
            "rtspTransport": self._random.choice(["udp", "tcp", "automatic"]),
            "runOnDemandCloseAfter": f"{self._random.randrange(1, 60)}s",
            "fallback": f"rtsp://host/{self._number}?a=b&c={self._random.random()}",
        }
        return {key: every[key] for key in self._random.sample(sorted(every), self._random.randrange(1, 4))}

    @staticmethod
    def _in_v1(settings: dict[str, Any]) -> dict[str, Any]:
        names = {"overridePublisher": "disablePublisherOverride", "rtspTransport": "sourceProtocol"}
        return {
            names.get(key, key): not value if key == "overridePublisher" else value for key, value in settings.items()
        }

    async def _add(self) -> None:
        new = self._settings()
        if self._is_v3:
            accepted(await self._server.api.post(f"/v3/config/paths/add/{self.name}", json=new))
        else:
            accepted(await self._server.post(f"/v1/config/paths/add/{self.name}", self._in_v1(new)))
        self.expected = new

    async def _patch(self) -> None:
        new = self._settings()
        assert self.expected is not None
        if self._is_v3:
            accepted(await self._server.api.patch(f"/v3/config/paths/patch/{self.name}", json=new))
        else:
            accepted(await self._server.post(f"/v1/config/paths/edit/{self.name}", self._in_v1(new)))
        self.expected |= new

    async def _replace(self) -> None:
        self.expected = self._settings()
        accepted(await self._server.api.post(f"/v3/config/paths/replace/{self.name}", json=self.expected))

    async def _delete(self) -> None:
        if self._is_v3:
            accepted(await self._server.api.delete(f"/v3/config/paths/delete/{self.name}"))
        else:
            accepted(await self._server.post(f"/v1/config/paths/remove/{self.name}"))
        self.expected = None

    async def _edit_shared(self) -> None:
        new = {"runOnDemandStartTimeout": f"{self._number + 1}s"}
        if self._is_v3:
            accepted(await self._server.api.patch("/v3/config/paths/patch/shared", json=new))
        else:
            accepted(await self._server.post("/v1/config/paths/edit/shared", new))

    async def _change_global(self, step: int) -> None:
        key, values, key_of_v1, values_of_v1 = GLOBALS[self._number]
        if self._is_v3:
            accepted(await self._server.api.patch("/v3/config/global/patch", json={key: values[step]}))
            self.setting = key, values[step]
        else:
            accepted(await self._server.post("/v1/config/set", {key_of_v1: values_of_v1[step]}))
            self.setting = key, values_of_v1[step]


async def change_defaults(server: Server) -> None:
    for value in (5, 3, 7):
        accepted(await server.api.patch("/v3/config/pathdefaults/patch", json={"maxReaders": value}))


def is_written(server: Server, file: Path) -> bool:
    """Whether the file means what is in effect, also for later changes of the defaults."""
    written, running = load(str(file), {}).configuration, server.app.configuration
    own = [{name: set(path.given) for name, path in each.paths.items()} for each in (written, running)]
    return written == running and own[0] == own[1]


async def test_nothing_of_many_editors_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "mediamtx.yml"
    file.write_text(HEAD)
    watcher = Watcher(file)
    async with running_file(file) as server:
        server.api.timeout = httpx2.Timeout(None)  # the last one waits for all others
        editors = [Editor(server, number) for number in range(EDITORS)]
        with watcher.watching():
            await asyncio.gather(*(editor.edit() for editor in editors), change_defaults(server))
        shown = await server.get("/v3/config/global/get")
        paths = {
            path["name"]: path
            for path in (await server.get(f"/v3/config/paths/list?itemsPerPage={2 * EDITORS}"))["items"]
        }
        assert is_written(server, file)
        defaults = path_to_jsonable(server.app.configuration.path_defaults, MEDIAMTX)
    watcher.check(LASTING)
    assert len(watcher.seen) > EDITORS / 2, "the file was read while it changed"
    assert defaults["maxReaders"] == 7
    for editor in editors:
        if editor.expected is None:
            assert editor.name not in paths
        else:
            assert paths[editor.name] == {**defaults, **editor.expected, "name": editor.name}
        if editor.setting is not None:
            assert shown[editor.setting[0]] == editor.setting[1]
    assert paths["kept"] == {**defaults, "maxReaders": 3, "name": "kept"}, "it has its own value"
    assert {"kept", "shared"} < paths.keys()
    text = file.read_text()
    deleted = {f" {editor.name.removeprefix('own/')}" for editor in editors if editor.expected is None}
    assert [comment for comment in COMMENTS if f"#{comment}\n" not in text and comment not in deleted] == []


async def test_all_paths_are_replaced_while_others_add_some(tmp_path: Path) -> None:
    """Those of one replacement appear together, and what is added afterwards stays."""
    file = tmp_path / "mediamtx.yml"
    file.write_text(HEAD)
    watcher = Watcher(file)
    async with running_file(file) as server:
        server.api.timeout = httpx2.Timeout(None)
        accepted(await server.api.put("/v3/config/paths", json={}))

        async def replace(number: int) -> None:
            paths = {f"{number}/{index}": {"maxReaders": number + 1} for index in range(4)}
            accepted(await server.api.put("/v3/config/paths", json=paths))

        async def add(number: int) -> None:
            accepted(await server.post(f"/v1/config/paths/add/added/{number}"))

        with watcher.watching():
            await asyncio.gather(*map(replace, range(SETS)), *map(add, range(20)))
        await add(99)
        left = server.app.configuration.paths
        assert is_written(server, file)
    watcher.check(["The settings of a test.", "What paths have.", "The end."])
    replaced = {name: path.max_readers for name, path in left.items() if not name.startswith("added/")}
    (number,) = {int(name.partition("/")[0]) for name in replaced}
    assert replaced == {f"{number}/{index}": number + 1 for index in range(4)}
    assert "added/99" in left
    assert "# The end." in file.read_text()


def test_new_defaults_do_not_change_what_a_path_has_itself() -> None:
    loaded = load_bytes(HEAD.encode(), {"MTX_PATHS_CAM_MAXREADERS": "3"}, "mediamtx.yml", MEDIAMTX).configuration
    changed = AddPath("own", {"maxReaders": 3}, MEDIAMTX).apply(loaded)
    changed = ReplacePath("again", {"maxReaders": 3}, MEDIAMTX).apply(changed)
    changed = EditPath("shared", {"maxReaders": 3}, MEDIAMTX).apply(changed)
    changed = AddPath("not", {}, MEDIAMTX).apply(changed)
    changed = EditPath("not", {"maxReaders": 9}, MEDIAMTX).apply(changed)
    changed = EditPath("not", {"maxReaders": None}, MEDIAMTX).apply(changed)
    changed = SetPathDefaults({"maxReaders": 8}, MEDIAMTX).apply(changed)
    assert {name: path.max_readers for name, path in changed.paths.items() if "/" not in name} == {
        **dict.fromkeys(("kept", "shared", "cam", "own", "again"), 3),
        "not": 8,
    }
