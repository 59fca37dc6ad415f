"""The systemd unit of a server: system.service(5), systemd.exec(5)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

UNIT_NAME: Final = "polycast.service"
UNIT_DIRECTORY: Final = "/etc/systemd/system"

# Seconds without a ping after which systemd restarts the server. A loop that is busy for a second is only slow.
WATCHDOG_SECONDS: Final = 30

# Every reader needs one or more sockets.
FILE_LIMIT: Final = 1_048_576

# Seconds for commands of the configuration to end after SIGINT, SIGTERM and SIGKILL (5 each).
STOP_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Unit:
    """The machine-specific values of the unit."""

    command: tuple[str, ...]
    """Program and arguments, with absolute paths."""
    working_directory: str
    """For relative paths in the configuration: certificates, the log."""
    user: str = ""
    """Empty for a dynamic user of systemd."""
    group: str = ""
    writable: tuple[str, ...] = ()
    """Directories that the server may write to: for apiPersist, a log file, recordings by commands."""
    in_home: bool = False
    """Whether any of the paths above lies below a home directory."""
    starts_child: bool = False
    """Whether the server runs in a child of the command, as the single executable does."""


def render(unit: Unit) -> str:
    """Return the unit file."""
    lines = [
        "[Unit]",
        "Description=Polycast live media server",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=notify",
        *(["NotifyAccess=all"] if unit.starts_child else []),
        f"ExecStart={' '.join(_quote(argument) for argument in unit.command)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={_escape(unit.working_directory)}",
        "Restart=on-failure",
        "RestartSec=2",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        f"TimeoutStopSec={STOP_SECONDS}",
        f"LimitNOFILE={FILE_LIMIT}",
        "",
        *_identity(unit),
        "",
        *_hardening(unit),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _identity(unit: Unit) -> list[str]:
    # Cameras and sound cards of commands and of the Raspberry Pi, where the groups exist: SupplementaryGroups= with a
    # missing group would keep the service from starting, so it is left to the administrator.
    if not unit.user:
        lines = ["DynamicUser=yes", "StateDirectory=polycast"]
    else:
        lines = [f"User={unit.user}", *([f"Group={unit.group}"] if unit.group else [])]
    # Ports below 1024, as rtspAddress: :554.
    return [*lines, "AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"]


def _hardening(unit: Unit) -> list[str]:
    """Restrictions that are compatible with multicast and commands (FFmpeg with a GPU, a camera, a sound card)."""
    # Omitted on purpose: PrivateDevices and ProtectClock remove /dev/video0, MemoryDenyWriteExecute breaks programs
    # that compile code, IPAddressDeny and PrivateNetwork depend on the clients, SystemCallFilter on the commands.
    return [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        f"ProtectHome={'read-only' if unit.in_home else 'yes'}",
        "PrivateTmp=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        # Netlink provides the addresses of the interfaces.
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        *(f"ReadWritePaths={_escape(directory)}" for directory in unit.writable),
    ]


def _escape(path: str) -> str:
    """Escape a path in the value of a setting: % starts a specifier."""
    return path.replace("%", "%%")


def _quote(argument: str) -> str:
    """Escape an argument of a command line, in which specifiers and variables are replaced."""
    escaped = argument.replace("%", "%%").replace("$", "$$")
    if shlex.quote(argument) == argument:
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
