"""The command ``polycast``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from polycast import __version__
from polycast.config import LoadedConfiguration, PathConfiguration, load, unavailable_keys
from polycast.config.names import ALL_PATHS
from polycast.errors import ConfigurationError, PolycastError
from polycast.log import Log, LogOutput, printable
from polycast.net.coalescing import coalesce_reads
from polycast.net.loop import new_event_loop
from polycast.service.notify import ServiceManager

if TYPE_CHECKING:
    from polycast.app import Application

DEFAULT_FILES = ("rtsp-simple-server.yml", "polycast.yml")
"""Looked for in the working directory when no file is named."""

DEMO_PATH = "demo"

# Allocations between two runs of the garbage collector's youngest generation. Packets die by reference counting; the
# default of 700 would only make it look at the living ones over and over.
GC_THRESHOLD = 10_000

# Ctrl+C reaches the whole process group, and a program that started this one may pass it on: signals that come together
# are one.
SAME_SIGNAL_SECONDS = 0.5

# Seconds for a shutdown in good order. Commands get up to 15, sources 8.
STOP_SECONDS = 40.0


def _encrypt(arguments: Sequence[str]) -> int:
    from polycast.cli_crypto import main

    return main("encrypt", arguments)


def _decrypt(arguments: Sequence[str]) -> int:
    from polycast.cli_crypto import main

    return main("decrypt", arguments)


def _top(arguments: Sequence[str]) -> int:
    from polycast.cli_top import main

    return main(arguments)


def _service(arguments: Sequence[str]) -> int:
    from polycast.cli_service import main

    return main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "encrypt": _encrypt,
    "decrypt": _decrypt,
    "top": _top,
    "service": _service,
}
"""What the first argument may be besides a file; a file with such a name is reached as ./encrypt."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    if arguments in (["help"], ["version"]) and not Path(arguments[0]).exists():
        arguments = [f"--{arguments[0]}"]
    options = _parser().parse_args(arguments)
    try:
        with _interruptible():
            loaded = _load(options.config, demo=options.demo)
    except ConfigurationError as error:
        print(f"ERR: {printable(str(error))}")
        return 1
    loader = functools.partial(_load, options.config, demo=options.demo, again=True)
    if options.check:
        return _check(loaded)
    _raise_file_limit()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    with _interruptible(), asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(loaded, loader, demo=options.demo))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT end the process at once: Python would miss one that comes right before a pipe is waited for, and would
    show a traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="polycast",
        description="Live media server and proxy: publish a stream once, read it over every protocol.",
        epilog="Without a configuration file, anyone can publish to and read from any path: "
        "ffmpeg -re -i file.mp4 -c copy -f rtsp rtsp://localhost:8554/mystream. "
        f"Other commands: {', '.join(COMMANDS)}; each has --help.",
    )
    parser.add_argument(
        "config",
        nargs="?",
        help=f"configuration file (default: {' or '.join(DEFAULT_FILES)} in the working directory, if it exists)",
    )
    parser.add_argument("--version", action="version", version=f"v{__version__}")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument(
        "--demo", action="store_true", help=f"publish a test picture and tone on the path '{DEMO_PATH}' (needs PyAV)"
    )
    return parser


def _load(config: str | None, *, demo: bool, again: bool = False) -> LoadedConfiguration:
    if config is not None and not (config == DEFAULT_FILES[0] and not Path(config).exists()):
        found: str | None = config
    else:
        found = next((name for name in DEFAULT_FILES if Path(name).is_file()), None)
    loaded = load(found, os.environ, again=again)
    warnings = list(loaded.warnings)
    configuration = loaded.configuration
    if found is None:
        warnings.insert(0, "configuration file not found, using the default configuration")
        if not configuration.paths:
            configuration = msgspec.structs.replace(configuration, paths={ALL_PATHS: PathConfiguration()})
    if demo and DEMO_PATH not in configuration.paths:
        paths = {DEMO_PATH: PathConfiguration(), **configuration.paths}
        configuration = msgspec.structs.replace(configuration, paths=paths)
    return msgspec.structs.replace(loaded, configuration=configuration, warnings=warnings)


def _check(loaded: LoadedConfiguration) -> int:
    from polycast.preflight import preflight

    for warning in (*loaded.warnings, *unavailable_keys(loaded.configuration, loaded.given)):
        print(f"WAR: {printable(warning)}")
    findings = preflight(loaded.configuration, loaded.source_path)
    for finding in findings:
        print(f"{'ERR' if finding.is_error else 'WAR'}: {printable(finding.text)}")
    where = loaded.source_path or "the default configuration"
    count = len(loaded.configuration.paths)
    if any(finding.is_error for finding in findings):
        print(f"{where} is valid, but the server cannot start with it")
        return 1
    print(f"{where} is valid, with {count} {'path' if count == 1 else 'paths'}")
    return 0


async def _serve(loaded: LoadedConfiguration, loader: Callable[[], LoadedConfiguration], *, demo: bool) -> int:
    from polycast.app import Application  # imported late: --help and --check stay quick

    coalesce_reads(asyncio.get_running_loop())
    logger = logging.getLogger("polycast")
    output = LogOutput(logger, logging.getLogger())
    log = Log(logger)
    stop = asyncio.Event()
    _on_signals(stop, log)
    service_manager = ServiceManager.from_environment(os.environ)
    service_manager.start_watchdog()
    application = Application(loaded, log=log, log_output=output, demo_path=DEMO_PATH if demo else None, loader=loader)
    started = asyncio.Event()
    _reload_on_signal(application, service_manager, started)
    try:
        await application.start()
    except PolycastError as error:
        if logger.handlers:
            log.error("%s", error)
        else:
            print(f"ERR: {error}")
        output.close()
        return 1
    if demo:
        _print_demo_urls(
            {key: port for server in application.servers.values() for key, port in server.ports.items()},
            web_scheme="https" if loaded.configuration.hls_encryption else "http",
        )
    started.set()
    gc.collect()
    gc.freeze()
    service_manager.ready()
    try:
        await stop.wait()
        log.info("shutting down gracefully")
    finally:
        service_manager.stopping()
        await application.stop()
        service_manager.stop_watchdog()
        output.close()
    return 0


def _print_demo_urls(ports: Mapping[str, int], *, web_scheme: str) -> None:
    """Tell where the demo stream is, for the servers that run; ``ports`` by configuration key."""
    addresses = (
        ("in a browser", f"{web_scheme}://", "hlsAddress", "/"),
        ("in VLC, FFmpeg...", "rtsp://", "rtspAddress", ""),
        ("", "rtsps://", "rtspsAddress", ""),
        ("", "rtmp://", "rtmpAddress", ""),
    )
    lines = [
        f"    {where:20}{scheme}localhost:{ports[key]}/{DEMO_PATH}{end}"
        for where, scheme, key, end in addresses
        if key in ports
    ]
    print("\n".join(["", "The demo stream plays. Open it", *lines, ""]), flush=True)


def _give_up() -> None:
    """End the process: a thread hangs in the system (a network file system, say), or something keeps the loop busy."""
    with contextlib.suppress(OSError):
        os.write(2, b"polycast: the server did not stop in time, so it was ended\n")
    os._exit(1)


def _on_signals(stop: asyncio.Event, log: Log) -> None:
    """Stop on SIGINT and SIGTERM; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()

    first = 0.0

    def on_signal() -> None:
        nonlocal first
        if not stop.is_set():
            first = loop.time()
            stop.set()
            last_resort = threading.Timer(STOP_SECONDS, _give_up)
            last_resort.daemon = True
            last_resort.start()
        elif loop.time() - first > SAME_SIGNAL_SECONDS:
            log.warning("stopped by a second signal")
            os._exit(1)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal))


def _reload_on_signal(application: Application, service_manager: ServiceManager, started: asyncio.Event) -> None:
    """Read the configuration again on SIGHUP, where there is such a signal; one that is early waits for the start."""
    from polycast.control.settings import ChangeSource

    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[bool]] = set()

    async def reload_file() -> bool:
        await started.wait()
        service_manager.reloading()
        try:
            return await application.settings.reload_file(ChangeSource.SIGNAL)
        finally:
            # What came of it is for `systemctl status`; a bad file does not stop the server.
            service_manager.ready(application.settings.status.error or "running")

    def on_hangup() -> None:
        reload = loop.create_task(reload_file())
        reloads.add(reload)
        reload.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)


def _raise_file_limit() -> None:
    """Let the process have as many sockets as the system allows."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (999_999, hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(hard, limit) if limit != hard else hard))
            return
