"""Runs the server until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from polycast.app.application import Application
from polycast.app.workers import worker_count
from polycast.config import LoadedConfiguration
from polycast.control.settings import ChangeSource
from polycast.demo import DEMO_PATH
from polycast.errors import PolycastError
from polycast.log import Log, LogOutput
from polycast.net.coalescing import coalesce_reads
from polycast.net.loop import new_event_loop
from polycast.service.notify import ServiceManager

if TYPE_CHECKING:
    from polycast.workers.supervisor import Supervisor

# Allocations between two runs of the garbage collector's youngest generation. Packets are freed by reference counting;
# with the default of 700, it would only examine the remaining ones again and again.
GC_THRESHOLD = 10_000

# Ctrl+C reaches the whole process group, and a parent process may forward it: signals in quick succession count as one.
SAME_SIGNAL_SECONDS = 0.5

# Seconds for an orderly shutdown. Commands get up to 15, sources 8.
STOP_SECONDS = 40.0


def run(loaded: LoadedConfiguration, loader: Callable[[], LoadedConfiguration], *, demo: bool) -> int:
    """Run the server; return the exit status. ``loader`` reloads the configuration."""
    _raise_file_limit()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(loaded, loader, demo=demo))


async def _serve(loaded: LoadedConfiguration, loader: Callable[[], LoadedConfiguration], *, demo: bool) -> int:
    coalesce_reads(asyncio.get_running_loop())
    logger = logging.getLogger("polycast")
    output = LogOutput(logger, logging.getLogger())
    log = Log(logger)
    stop = asyncio.Event()
    _on_signals(stop, log)
    service_manager = ServiceManager.from_environment(os.environ)
    service_manager.start_watchdog()
    started = asyncio.Event()
    try:
        application = _make(loaded, loader, log, output, demo=demo)
        _reload_on_signal(application, service_manager, started)
        await application.start()
    except PolycastError as error:
        if logger.handlers:
            log.error("%s", error)
        else:
            print(f"ERR: {error}")
        output.close()
        return 1
    if demo:
        print("\n".join(["", "The demo stream is running. Open it", *demo_addresses(application), ""]), flush=True)
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


def _make(
    loaded: LoadedConfiguration, loader: Callable[[], LoadedConfiguration], log: Log, output: LogOutput, *, demo: bool
) -> Application | Supervisor:
    """Return the server, with one process or several. Raises StartError."""
    demo_path = DEMO_PATH if demo else None
    count = worker_count(loaded.configuration)
    if count == 1:
        return Application(loaded, log=log, log_output=output, demo_path=demo_path, loader=loader)
    from polycast.workers.supervisor import Supervisor

    return Supervisor(loaded, count, log=log, log_output=output, demo_path=demo_path, loader=loader)


def demo_addresses(application: Application | Supervisor) -> list[str]:
    """Return a line for each address of the demo stream on the running servers, pages first."""
    lines: list[str] = []
    for is_page, where in ((True, "in a browser"), (False, "in VLC, FFmpeg...")):
        label = where
        for server in application.servers.values():
            address = server.kind.address
            if address is not None and address.is_shown and address.is_page is is_page:
                port = server.ports[server.kind.listeners[0].key]
                lines.append(f"    {label:20}{address.url(application.configuration, 'localhost', port, DEMO_PATH)}")
                label = ""
    return lines


def _give_up() -> None:
    """End the process: a thread hangs in a system call (a network file system, for example), or the loop is blocked."""
    with contextlib.suppress(OSError):
        os.write(2, b"polycast: the server did not stop in time and was terminated\n")
    os._exit(1)


def _on_signals(stop: asyncio.Event, log: Log) -> None:
    """Stop on SIGINT and SIGTERM; a second signal ends the process immediately."""
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


def _reload_on_signal(
    application: Application | Supervisor, service_manager: ServiceManager, started: asyncio.Event
) -> None:
    """Reload the configuration on SIGHUP, if the platform has it; a signal during the start is deferred."""
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
            # The result is shown by `systemctl status`; an invalid file does not stop the server.
            service_manager.ready(application.settings.status.error or "running")

    def on_hangup() -> None:
        reload = loop.create_task(reload_file())
        reloads.add(reload)
        reload.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)


def _raise_file_limit() -> None:
    """Raise the limit of open files as far as the system allows."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (999_999, hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(hard, limit) if limit != hard else hard))
            return
