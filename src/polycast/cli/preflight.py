"""The checks of ``polycast --check`` beyond the configuration itself: everything that could make a start fail.

Certificates, ports, files, and the programs of commands. Nothing stays open, and nothing is written.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import socket
import ssl
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

from polycast.config import LogDestination, Protocol
from polycast.config.fields import configuration_fields, path_fields
from polycast.config.names import ALL_PATHS, ALL_PATHS_ALIAS
from polycast.config.schema import Configuration
from polycast.config.values import Encryption
from polycast.net.listen import open_tcp_listener, open_udp_socket
from polycast.net.tls import load_server_context
from polycast.protocols.registry import SERVER_KINDS
from polycast.security.addresses import parse_address

_SERVICES: Final = ("api", "metrics", "pprof")
_SYSLOG_PATHS: Final = ("/dev/log", "/var/run/syslog")

# UDP addresses of servers, in addition to those with UDP in their name.
_DATAGRAM_KEYS: Final = frozenset({"rtpAddress", "rtcpAddress"})

# A program name with variables is only known when the command runs.
_VARIABLE: Final = "$"


class Finding(msgspec.Struct, frozen=True):
    """A problem found by the checks."""

    text: str
    is_error: bool
    """Whether it prevents the server from starting."""


def preflight(configuration: Configuration, file: Path | None = None) -> list[Finding]:
    """Check everything that the configuration refers to; ``file`` is the file it was loaded from."""
    keys = list(_listening_keys(configuration))
    return [
        *_packages(configuration),
        *_certificates(configuration, keys),
        *_ports(configuration, keys),
        *_files(configuration, file),
        *_programs(configuration),
    ]


def _value(configuration: Configuration, key: str) -> object:
    return getattr(configuration, configuration_fields()[key].name)


def _listening_keys(configuration: Configuration) -> Iterator[str]:
    """The keys of the servers and services that would run: addresses, certificates and encryption."""
    known = configuration_fields()
    for kind in SERVER_KINDS:
        if kind.is_enabled(configuration):
            yield from sorted(kind.restart_keys & known.keys())
    for service in _SERVICES:
        if _value(configuration, service):
            yield from (f"{service}Address", f"{service}Encryption", f"{service}ServerCert", f"{service}ServerKey")


def _packages(configuration: Configuration) -> Iterator[Finding]:
    for kind in SERVER_KINDS:
        if kind.is_enabled(configuration) and kind.module:
            try:
                import_module(kind.module)
            except ModuleNotFoundError as error:
                yield Finding(f"{kind.name} needs a package that is not installed: {error.name}", is_error=True)


def _certificates(configuration: Configuration, keys: list[str]) -> Iterator[Finding]:
    for certificate_key in dict.fromkeys(keys):
        if not certificate_key.lower().endswith("servercert"):
            continue
        prefix = certificate_key[: -len("ServerCert")]
        encryption = _value(configuration, f"{prefix}Encryption" if prefix else "encryption")
        if encryption in (False, Encryption.NO):
            continue
        private_key = f"{certificate_key[:-4]}Key"
        try:
            load_server_context(str(_value(configuration, certificate_key)), str(_value(configuration, private_key)))
        except (OSError, ssl.SSLError) as error:
            yield Finding(f"{certificate_key}, {private_key}: {error.strerror or error}", is_error=True)


def _ports(configuration: Configuration, keys: list[str]) -> Iterator[Finding]:
    opened: dict[tuple[bool, int], str] = {}
    sockets: list[socket.socket] = []
    try:
        for key in dict.fromkeys(keys):
            if not key.endswith("Address") or (key in _DATAGRAM_KEYS and Protocol.UDP not in configuration.protocols):
                continue
            address = str(_value(configuration, key))
            host, port = parse_address(address) if address else ("", 0)
            if not port:
                continue
            is_datagram = key in _DATAGRAM_KEYS or "UDP" in key
            try:
                sockets.append((open_udp_socket if is_datagram else open_tcp_listener)(host, port))
            except OSError as error:
                other = opened.get((is_datagram, port))
                if error.errno == errno.EADDRINUSE and other is not None:
                    yield Finding(f"{key}: port {port} is also that of {other}", is_error=True)
                else:
                    # The port may be used by the running server, and the user of this command may have fewer
                    # privileges.
                    is_error = error.errno not in (errno.EADDRINUSE, errno.EACCES)
                    yield Finding(f"{key}: {error.strerror or error}", is_error=is_error)
            else:
                opened[is_datagram, port] = key
    finally:
        for each in sockets:
            each.close()


def _files(configuration: Configuration, file: Path | None) -> Iterator[Finding]:
    if LogDestination.FILE in configuration.log_destinations:
        log = Path(configuration.log_file)
        if log.is_dir():
            yield Finding(f"logFile: '{log}' is a directory", is_error=True)
        elif not log.absolute().parent.is_dir():
            yield Finding(f"logFile: the directory '{log.absolute().parent}' does not exist", is_error=True)
        elif not os.access(log if log.exists() else log.absolute().parent, os.W_OK):
            yield Finding(f"logFile: '{log}' cannot be written: Permission denied", is_error=True)
    if LogDestination.SYSLOG in configuration.log_destinations and not any(map(os.path.exists, _SYSLOG_PATHS)):
        yield Finding("logDestinations: there is no system log on this machine (no /dev/log)", is_error=True)
    if configuration.api_persist and file is not None and not os.access(file.parent, os.W_OK):
        yield Finding(f"apiPersist: changes cannot be saved, because '{file.parent}' is not writable", is_error=False)


def _programs(configuration: Configuration) -> Iterator[Finding]:
    commands = [("runOnConnect", configuration.run_on_connect)]
    for name, path in configuration.paths.items():
        shown = ALL_PATHS_ALIAS if name == ALL_PATHS else name
        commands += [
            (f"path '{shown}': {key}", getattr(path, field.name))
            for key, field in path_fields().items()
            if key.startswith("runOn") and isinstance(getattr(path, field.name), str)
        ]
    for where, command in commands:
        if not command:
            continue
        try:
            arguments = shlex.split(command, posix=os.name == "posix")
        except ValueError as error:
            yield Finding(f"{where}: the command cannot be parsed: {error}", is_error=False)
            continue
        if not arguments:
            yield Finding(f"{where}: the command is empty", is_error=False)
        elif _VARIABLE not in arguments[0] and shutil.which(arguments[0]) is None:
            yield Finding(f"{where}: the program '{arguments[0]}' does not exist", is_error=False)
