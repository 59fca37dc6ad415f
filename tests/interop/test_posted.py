"""Configurations of the kind that users post (``tests/config/posted``): what FFmpeg and programs see of the server."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ruamel.yaml import YAML
from tests.config.key_table import shipped
from tests.control.support import Server, serving
from tests.interop import tools
from tests.interop.test_authentication import TOKEN, decider
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

from polycast.config import LoadedConfiguration, load
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY, MEDIAMTX
from polycast.config.dialects.views import view_of
from polycast.errors import ConfigurationError

pytestmark = pytest.mark.interop

FOLDER = Path(__file__).resolve().parents[1] / "config" / "posted"
EXPECTED: dict[str, Any] = YAML(typ="safe", pure=True).load((FOLDER / "expected.yml").read_text())
FILES = {path.stem for path in FOLDER.glob("*.yml")} - {"expected"}
WITHOUT_FILE = {name for name, each in EXPECTED.items() if "none" in each.get("environment", {})}

PORTS = {
    **{name: (name.upper(), f"{name}Address") for name in ("rtsp", "rtsps", "rtmp", "rtmps", "hls")},
    "webrtc": ("WebRTC", "webrtcAddress"),
    "srt": ("SRT", "srtAddress"),
}
"""The server and its address, by the name of its port in ``expected.yml``."""


CAMERA = re.compile(r"192\.168\.1\.[57]0|conf\.d|\{camera\}")
"""What a configuration, or what happens with it, mentions if it needs the camera."""


def test_every_file_has_expectations() -> None:
    assert EXPECTED.keys() - WITHOUT_FILE == FILES
    assert len(EXPECTED) >= 30


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory, media: dict[str, Path]) -> Iterator[tools.Server]:
    """A server that has stream1 and stream2, and takes other streams."""
    folder = tmp_path_factory.mktemp("camera")
    settings = "protocols: [tcp]\npaths:\n  stream2:\n    source: rtsp://127.0.0.1:{port}/stream1\n  all:\n"
    with tools.run_server(folder, settings, rtmp=True, hls="mpegts") as server:
        url = f"rtsp://127.0.0.1:{server.port}/stream1"
        endless = ("-re", "-stream_loop", "-1", "-i", media["h264+aac"], "-c", "copy", "-f", "rtsp")
        with tools.start("camera", tools.quick_ffmpeg(*endless, "-rtsp_transport", "tcp", url), folder) as publisher:
            server.wait_for_publisher("stream1", publisher)
            yield server


@dataclass
class Scene:
    """A server with one of the configurations, and what happens with it."""

    server: Server
    values: Mapping[str, str]
    """What names in braces stand for."""
    media: Path
    folder: Path
    programs: list[asyncio.subprocess.Process] = field(default_factory=list)

    def filled(self, value: Any) -> Any:
        """Return a value of the expectations with the ports and the like in it."""
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda found: self.values[found[1]], value)
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        return value

    async def play(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            ((verb, what),) = step.items()
            try:
                await getattr(self, verb)(self.filled(what))
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"{step}: {error}\n" + "\n".join(self.server.log.lines[-40:])) from error

    async def start(self, command: Iterable[str | Path]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
        )
        self.programs.append(process)
        return process

    async def end(self) -> None:
        for process in self.programs:
            if process.returncode is None:
                process.kill()
            await process.wait()

    # Steps

    async def publish(self, what: dict[str, str]) -> None:
        url = what["url"]
        forms = {"rtmp": ("-f", "flv"), "rtsp": ("-f", "rtsp", "-rtsp_transport", "tcp"), "srt": ("-f", "mpegts")}
        output = next(form for scheme, form in forms.items() if url.startswith(scheme))
        process = await self.start(
            ffmpeg_for(url)("-re", "-stream_loop", "-1", "-i", self.media, "-c", "copy", *output, url)
        )
        if "fails" in what:
            assert what["fails"] in await failure(process)
        else:
            await self.ready(what["path"])

    async def read(self, what: dict[str, Any]) -> None:
        status, codecs, errors = await self.probe(what["url"])
        if "fails" in what:
            assert status != 0
            assert what["fails"] in errors
            return
        # What is forwarded to another server is there a moment later.
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while status and "404" in errors and asyncio.get_running_loop().time() < deadline:
            status, codecs, errors = await self.probe(what["url"])
        assert status == 0, errors
        assert sorted(codecs) == what["codecs"]

    async def probe(self, url: str) -> tuple[int | None, list[str], str]:
        """Let FFmpeg read a packet; return its exit status, the codecs of the tracks, and what it complained about."""
        options = ("-rtsp_transport", "tcp") if url.startswith("rtsp") else ()
        copy = ("-map", "0", "-c", "copy", "-copyinkf", "-frames:v", "1", "-frames:a", "1", "-f", "framecrc", "-")
        command = map(str, ffmpeg_for(url)(*options, "-i", url, *copy))
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=self.folder
        )
        self.programs.append(process)
        async with asyncio.timeout(2 * PATIENCE):
            output, errors = await process.communicate()
        return process.returncode, re.findall(r"#codec_id \d+: (\w+)", output.decode()), errors.decode()

    async def stay(self, url: str) -> None:
        """Read without end."""
        readers = len(self.server.app.servers["RTSP"].items())
        await self.start(tools.quick_ffmpeg("-rtsp_transport", "tcp", "-i", url, "-c", "copy", "-f", "null", "-"))
        await self.server.until(lambda: len(self.server.app.servers["RTSP"].items()) > readers)
        await self.server.log.wait("is reading from path")

    async def ready(self, path: str) -> None:
        def is_ready() -> bool:
            found = self.server.app.hub.path(path)
            return found is not None and found.stream is not None

        await self.server.until(is_ready)

    async def log(self, pattern: str) -> None:
        await self.server.log.wait(pattern)

    async def servers(self, names: list[str]) -> None:
        assert sorted(self.server.app.servers) == names

    async def recorded(self, pattern: str) -> None:
        await self.server.until(lambda: any(path.stat().st_size for path in self.folder.glob(pattern)))

    async def http(self, what: dict[str, Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await self._http(what)
                except AssertionError:
                    if "waits" not in what:
                        raise
                    await asyncio.sleep(0.01)

    async def _http(self, what: dict[str, Any]) -> None:
        method = next(each for each in ("get", "post", "delete", "options") if each in what)
        async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=PATIENCE, follow_redirects=True) as client:
            headers = what.get("headers", {})
            response = await client.request(method.upper(), what[method], json=what.get("json"), headers=headers)
        assert response.status_code == what.get("status", 200), response.text
        assert what.get("text", "") in response.text
        assert what.get("linked", "") in response.headers.get("link", "")
        if "allowed" in what:
            assert response.headers["access-control-allow-origin"] == what["allowed"]
        if "contains" in what:
            body = response.json()
            assert {key: body.get(key) for key in what["contains"]} == what["contains"]


def ffmpeg_for(url: str) -> Callable[..., list[str | Path]]:
    """Return the function that makes command lines for an address: a current FFmpeg verifies certificates."""
    return tools.ffmpeg if url.startswith(("rtsps", "rtmps", "https")) else tools.quick_ffmpeg


async def failure(process: asyncio.subprocess.Process) -> str:
    """Return what a program says that has to fail."""
    async with asyncio.timeout(2 * PATIENCE):
        _, errors = await process.communicate()
    assert process.returncode != 0
    return errors.decode()


def variables(expected: Mapping[str, Any], camera: tools.Server | None) -> dict[str, str]:
    """Return the environment: that of the user, and other ports."""
    dialect = dialect_of(expected)
    rtp = free_port()
    ports = {"rtpAddress": rtp, "rtcpAddress": rtp + 1, "srtpAddress": rtp + 4, "srtcpAddress": rtp + 5}
    addresses = {
        f"{dialect.prefixes[-1]}{key.upper()}": f"127.0.0.1:{ports.get(key, 0)}"
        for key, field in view_of(dialect).fields.items()
        if field.kind.label == "address" and field.default
    }
    own = {key: in_test(value, camera, "") for key, value in expected.get("environment", {}).items() if key != "none"}
    return {**addresses, **own}


def dialect_of(expected: Mapping[str, Any]) -> Dialect:
    return LEGACY if expected.get("file") == LEGACY.file else MEDIAMTX


def in_test(text: str, camera: tools.Server | None, decider: str) -> str:
    """Return a text with the addresses that there are here."""
    here = {"http://192.168.1.60:9000": decider.removesuffix("/auth")}
    if camera is not None:
        here |= {
            "192.168.1.50:554": f"127.0.0.1:{camera.port}",
            "192.168.1.50:1935": f"127.0.0.1:{camera.rtmp_port}",
            "192.168.1.50:8080": f"127.0.0.1:{camera.hls_port}",
            "192.168.1.70:1935": f"127.0.0.1:{camera.rtmp_port}",
        }
    for posted, address in here.items():
        text = text.replace(posted, address)
    return text


def posted(name: str) -> str | None:
    """Return the content of a file; None for a configuration without one."""
    return None if name in WITHOUT_FILE else (FOLDER / f"{name}.yml").read_text()


def prepared(text: str, expected: Mapping[str, Any], folder: Path, camera: tools.Server | None, decider: str) -> str:
    """Write the files as the user has them; return the path of the main one."""
    tools.make_certificate(folder)
    (folder / "conf.d").mkdir()
    for included in (FOLDER / "conf.d").iterdir():
        (folder / "conf.d" / included.name).write_text(in_test(included.read_text(), camera, decider))
    text = in_test(text, camera, decider)
    for posted, here in (("/etc/mediamtx/", ""), ("/recordings/", "recordings/"), ("./recordings/", "recordings/")):
        text = text.replace(posted, f"{folder}/{here}")
    path = folder / dialect_of(expected).file
    path.write_text(text)
    return str(path)


@contextlib.asynccontextmanager
async def scene(
    text: str | None, expected: Mapping[str, Any], folder: Path, media: Path, camera: tools.Server | None = None
) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        decides = await stack.enter_async_context(decider())
        path = None if text is None else prepared(text, expected, folder, camera, decides.url)
        loaded = load(path, variables(expected, camera), dialect=dialect_of(expected) if path is None else None)
        check_warnings(expected, loaded)
        server = await stack.enter_async_context(serving(loaded))
        running = server.app.servers
        ports = {name: running[kind].ports[key] for name, (kind, key) in PORTS.items() if kind in running}
        ports |= {key.removesuffix("Address"): port for key, port in server.app.control.ports.items()}
        if camera is not None:
            ports["camera"] = camera.port
        values = {"token": TOKEN, **{name: str(port) for name, port in ports.items()}}
        played = Scene(server, values, media, folder)
        try:
            yield played
        finally:
            await played.end()


def check_warnings(expected: Mapping[str, Any], loaded: LoadedConfiguration) -> None:
    lacking = [
        key for key in expected.get("lacks", ()) if key in MEDIAMTX.unsupported or key in MEDIAMTX.path_unsupported
    ]
    lacks = [line for line in loaded.warnings if "has no effect: this version does not support it" in line]
    assert sorted(re.findall(r"'(\w+)' has no effect", "\n".join(lacks))) == sorted(lacking)
    assert sorted(set(loaded.warnings) - set(lacks)) == sorted(expected.get("warnings", ()))


def valid(*, with_camera: bool) -> list[str]:
    """Return the names of the configurations without a mistake that need the camera, or do not."""
    return [
        name
        for name, each in EXPECTED.items()
        if "error" not in each and bool(CAMERA.search(f"{posted(name)}{each}")) == with_camera
    ]


@pytest.mark.parametrize("name", valid(with_camera=False))
async def test_configuration(name: str, tmp_path: Path, media: dict[str, Path]) -> None:
    async with scene(posted(name), EXPECTED[name], tmp_path, media["h264+aac"]) as it:
        await it.play(EXPECTED[name]["steps"])


@pytest.mark.parametrize("name", valid(with_camera=True))
async def test_configuration_with_camera(
    name: str, tmp_path: Path, media: dict[str, Path], camera: tools.Server
) -> None:
    async with scene(posted(name), EXPECTED[name], tmp_path, media["h264+aac"], camera) as it:
        await it.play(EXPECTED[name]["steps"])


async def test_the_shipped_file(tmp_path: Path, media: dict[str, Path]) -> None:
    async with scene(shipped(), {}, tmp_path, media["h264+aac"]) as it:
        await it.play(EXPECTED["defaults"]["steps"])


@pytest.mark.parametrize("name", [name for name, each in EXPECTED.items() if "error" in each])
def test_configuration_with_a_mistake(name: str, tmp_path: Path) -> None:
    path = tmp_path / MEDIAMTX.file
    shutil.copy(FOLDER / f"{name}.yml", path)
    with pytest.raises(ConfigurationError) as caught:
        load(str(path), {})
    assert EXPECTED[name]["error"] in str(caught.value)
