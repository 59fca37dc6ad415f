"""The checks of ``polycast --check`` beyond the configuration itself: everything that could make a start fail.

Certificates, ports, files, and the programs of commands. Nothing stays open, and nothing is written.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec

from polycast.app.servers import StartError
from polycast.app.workers import check_workers, worker_count
from polycast.config import LogDestination
from polycast.config.dialects.registry import dialect_of
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.control.command_check import command_problems
from polycast.errors import ConfigurationError
from polycast.log.writer import find_syslog
from polycast.net.listen import open_tcp_listener, open_udp_socket
from polycast.net.tls import load_server_context, require_authority
from polycast.protocols.listening import listening_addresses
from polycast.protocols.registry import server_kinds
from polycast.security.addresses import parse_address
from polycast.slates.slates import file_slate


class Finding(msgspec.Struct, frozen=True):
    """A problem found by the checks."""

    text: str
    is_error: bool
    """Whether it prevents the server from starting."""


def preflight(configuration: Configuration, file: Path | None = None) -> list[Finding]:
    """Check everything that the configuration refers to; ``file`` is the file it was loaded from."""
    return [
        *_workers(configuration),
        *_packages(configuration),
        *_certificates(configuration),
        *_ports(configuration),
        *_files(configuration, file),
        *_slates(configuration),
        *(Finding(problem, is_error=False) for problem in command_problems(configuration)),
    ]


def _workers(configuration: Configuration) -> Iterator[Finding]:
    try:
        if worker_count(configuration) > 1:
            check_workers(configuration)
    except StartError as error:
        yield Finding(str(error), is_error=True)


def _packages(configuration: Configuration) -> Iterator[Finding]:
    for kind in server_kinds():
        if kind.is_enabled(configuration):
            try:
                kind.load_for(configuration)
            except OSError as error:
                yield Finding(str(error), is_error=True)


def _slates(configuration: Configuration) -> Iterator[Finding]:
    for name, path in configuration.paths.items():
        if path.always_available and path.always_available_file:
            try:
                file_slate(name, path)
            except ConfigurationError as error:
                yield Finding(str(error), is_error=True)


def used_certificates(configuration: Configuration) -> list[tuple[str, str, tuple[str, str]]]:
    """Return the keys of the certificates and private keys that are in use, each with the two files."""
    used: list[tuple[str, str, tuple[str, str]]] = []
    for kind in server_kinds():
        certificate = kind.certificate
        if certificate is not None and kind.is_enabled(configuration) and certificate.is_used(configuration):
            used.append((certificate.certificate, certificate.key, certificate.files(configuration)))
    for name, settings_of in SERVICES.items():
        service = settings_of(configuration)
        if service.is_enabled and service.is_encrypted:
            used.append((f"{name}ServerCert", f"{name}ServerKey", (service.certificate, service.key)))
    if configuration.cluster and configuration.cluster_encryption:
        files = configuration.cluster_server_cert, configuration.cluster_server_key
        used.append(("clusterServerCert", "clusterServerKey", files))
    return used


def _certificates(configuration: Configuration) -> Iterator[Finding]:
    dialect = dialect_of(configuration.dialect)
    for certificate_key, private_key, files in used_certificates(configuration):
        try:
            load_server_context(*files)
        except (OSError, ssl.SSLError) as error:
            keys = f"{dialect.key(certificate_key)}, {dialect.key(private_key)}"
            yield Finding(f"{keys}: {error.strerror or error}", is_error=True)
    if configuration.cluster and configuration.cluster_encryption:
        try:
            require_authority(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), configuration.cluster_ca)
        except (OSError, ssl.SSLError) as error:
            yield Finding(f"{dialect.key('clusterCA')}: {error.strerror or error}", is_error=True)


def _ports(configuration: Configuration) -> Iterator[Finding]:
    opened: dict[tuple[bool, int], str] = {}
    sockets: list[socket.socket] = []
    try:
        for key, is_datagram, address in listening_addresses(configuration):
            host, port = parse_address(address) if address else ("", 0)
            if not port:
                continue
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
    if LogDestination.SYSLOG in configuration.log_destinations:
        try:
            find_syslog()
        except OSError as error:
            yield Finding(f"logDestinations: {error}", is_error=True)
    if configuration.api_persist and file is not None and not os.access(file.parent, os.W_OK):
        yield Finding(f"apiPersist: changes cannot be saved, because '{file.parent}' is not writable", is_error=False)
