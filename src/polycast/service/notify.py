"""Notifies systemd that the server is ready, reloading, stopping, or alive: sd_notify(3), without a library.

A service manager passes the name of a datagram socket in the environment. Without one, nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import MutableMapping
from typing import Final

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PROCESS_VARIABLE: Final = "WATCHDOG_PID"

# sd_watchdog_enabled(3) recommends a ping after each half of the time that the service manager waits.
PINGS_PER_WATCHDOG_TIME: Final = 2


class ServiceManager:
    """The service manager that started this process, if any."""

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        """``address`` is that of a datagram socket: a path, or ``@name`` in Linux's abstract namespace."""
        self._address = address
        self._watchdog_seconds = watchdog_seconds
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """Remove the variables of the service manager from the environment, so that commands do not inherit them."""
        address = environment.pop(SOCKET_VARIABLE, "")
        microseconds = environment.pop(WATCHDOG_VARIABLE, "")
        process = environment.pop(WATCHDOG_PROCESS_VARIABLE, "")
        if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            return cls()
        is_for_us = not process or process in _own_process_ids()
        watched = is_for_us and microseconds.isascii() and microseconds.isdigit()
        return cls(address, int(microseconds) / 1_000_000 if watched else 0.0)

    @property
    def is_present(self) -> bool:
        """Whether there is a service manager."""
        return bool(self._address)

    @property
    def watchdog_seconds(self) -> float:
        """Time after which a silent server is considered dead; 0 without a watchdog."""
        return self._watchdog_seconds

    def ready(self, status: str = "") -> None:
        """The server accepts clients: at the start, and after a reload."""
        self._send("READY=1", *([f"STATUS={_one_line(status)}"] if status else []))

    def reloading(self) -> None:
        """The configuration is being changed; `ready` must follow."""
        # Type=notify-reload compares this with CLOCK_MONOTONIC.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The server is shutting down. The watchdog continues, because a shutdown may take a while."""
        self._send("STOPPING=1")

    def start_watchdog(self) -> None:
        """Ping the watchdog regularly from the running event loop, if there is one."""
        if self._watchdog_seconds > 0 and self.is_present:
            self._ping(asyncio.get_running_loop())

    def stop_watchdog(self) -> None:
        """Stop the pings."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ping(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer of the loop itself: if the loop is stuck, the pings stop, which is their purpose.
        self._timer = loop.call_later(self._watchdog_seconds / PINGS_PER_WATCHDOG_TIME, self._ping, loop)
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address or sys.platform == "win32":
            return
        # An abstract address is written with @ and starts with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), address)
        except OSError:
            return  # a service manager that does not listen must not affect streams


def _own_process_ids() -> tuple[str, ...]:
    """This process; the single executable runs in a child of the process that was started."""
    if getattr(sys, "frozen", False):
        return str(os.getpid()), str(os.getppid())
    return (str(os.getpid()),)


def _one_line(text: str) -> str:
    return " ".join(text.split())
