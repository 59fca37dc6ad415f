"""The command ``polycast doctor``: checks the machine and the configuration, and says what to type."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from polycast.cli.loading import load_configuration
from polycast.cli.preflight import preflight, used_certificates
from polycast.cli.system_checks import Check, State, system_checks
from polycast.config import LoadedConfiguration
from polycast.config.detect import dialect_named
from polycast.config.dialects.registry import DIALECTS, dialect_of
from polycast.config.schema import Configuration
from polycast.errors import ConfigurationError
from polycast.log import printable
from polycast.protocols.listening import listening_addresses
from polycast.security.addresses import parse_address

SOON: Final = timedelta(days=14)
"""Until a certificate expires."""
LITTLE_SPACE: Final = 1024**3
"""Bytes that should be free where recordings go."""
LOCAL: Final = ("localhost", "127.0.0.1", "::1")
"""Hosts that other machines cannot reach."""
WIDTH: Final = 18
"""Characters of the names of checks."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status: 1 if there is an error."""
    options = make_parser().parse_args(arguments)
    checks = list(system_checks())
    try:
        dialect = dialect_named(options.dialect) if options.dialect else None
        loaded = load_configuration(options.config, dialect=dialect)
    except ConfigurationError as error:
        text = "; ".join(error.report) if error.report else str(error)
        checks.append(Check("configuration", State.ERROR, text, "correct the file; polycast --check checks only it"))
    else:
        checks += configuration_checks(loaded)
    for check in checks:
        print(f"{check.state:8} {check.name:{WIDTH}} {printable(check.text)}")
        for line in check.remedy.splitlines():
            print(f"{'':8} {'':{WIDTH}} -> {line}")
    counts = {state: sum(check.state is state for check in checks) for state in State}
    print(f"{_counted(counts[State.ERROR], 'error')}, {_counted(counts[State.WARNING], 'warning')}")
    return 1 if counts[State.ERROR] else 0


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="polycast doctor",
        description="Check this machine and the configuration, and say what to do about what is not right. "
        "Nothing is changed.",
    )
    parser.add_argument("config", nargs="?", help="configuration file (default: the one that polycast would use)")
    parser.add_argument(
        "--dialect", metavar="NAME", choices=tuple(DIALECTS), help="whose names and defaults the file has"
    )
    return parser


def configuration_checks(loaded: LoadedConfiguration) -> Iterator[Check]:
    """Yield the results of everything that the configuration refers to."""
    configuration = loaded.configuration
    file = loaded.source_path
    name = str(file) if file is not None else "none: the defaults are used"
    dialect = dialect_of(configuration.dialect).name
    yield Check("configuration", State.OK, f"{name} (dialect {dialect}), {_counted(len(configuration.paths), 'path')}")
    for warning in loaded.warnings:
        yield Check("configuration", State.WARNING, warning)
    for finding in preflight(configuration, file):
        yield Check("configuration", State.ERROR if finding.is_error else State.WARNING, finding.text)
    if file is not None:
        yield from _readable_by_others(file, configuration)
    yield from _ports(configuration)
    yield from _certificates(configuration)
    yield from _recordings(configuration)


def _readable_by_others(file: Path, configuration: Configuration) -> Iterator[Check]:
    if sys.platform == "win32" or not file.stat().st_mode & stat.S_IROTH:
        return
    paths = (configuration.path_defaults, *configuration.paths.values())
    has_secrets = any(path.publish_pass or path.read_pass or "@" in str(path.source) for path in paths)
    if has_secrets or configuration.api_pass:
        text = f"{file} contains passwords, and every user of this machine may read it"
        yield Check("permissions", State.WARNING, text, f"chmod o= {file}")


def _ports(configuration: Configuration) -> Iterator[Check]:
    used = []
    for key, is_datagram, address in listening_addresses(configuration):
        host, port = parse_address(address) if address else ("", 0)
        if not port:
            continue
        if host not in LOCAL:
            used.append(f"{port}/{'udp' if is_datagram else 'tcp'} ({key})")
        if port < first_free_port() and not _may_use_low_ports():
            remedy = "in the unit of the service: AmbientCapabilities=CAP_NET_BIND_SERVICE, or use a port from 1024 on"
            yield Check("ports", State.WARNING, f"{key}: port {port} needs privileges", remedy)
    yield Check("ports", State.OK, f"to open in a firewall: {', '.join(used) or 'none'}")


def first_free_port() -> int:
    """Return the first port that needs no privileges."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024 if sys.platform != "win32" else 0


def _may_use_low_ports() -> bool:
    return sys.platform == "win32" or os.geteuid() == 0


def _certificates(configuration: Configuration) -> Iterator[Check]:
    from cryptography import x509

    dialect = dialect_of(configuration.dialect)
    for key, _, (file, _) in used_certificates(configuration):
        try:
            certificate = x509.load_pem_x509_certificate(Path(file).read_bytes())
        except (OSError, ValueError):
            continue  # `preflight` has said so
        name, left = dialect.key(key), certificate.not_valid_after_utc - datetime.now(UTC)
        date = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        if left <= timedelta():
            yield Check("certificates", State.ERROR, f"{name}: {file} expired on {date}", "renew it: certbot renew")
        elif left < SOON:
            yield Check("certificates", State.WARNING, f"{name}: {file} expires on {date}", "renew it: certbot renew")
        else:
            yield Check("certificates", State.OK, f"{name}: {file} is valid until {date}")


def _recordings(configuration: Configuration) -> Iterator[Check]:
    folders: dict[Path, list[str]] = {}
    for name, path in configuration.paths.items():
        if path.record:
            start = path.record_path.partition("%")[0]
            folders.setdefault(_existing(Path(start if start.endswith("/") else os.path.dirname(start))), []).append(
                name
            )
    for folder, names in folders.items():
        where = f"{folder}, for {', '.join(names[:5])}{'...' if len(names) > 5 else ''}"
        if not os.access(folder, os.W_OK):
            yield Check("recordings", State.ERROR, f"cannot write to {where}", f"sudo chown $USER {folder}")
            continue
        free = shutil.disk_usage(folder).free
        text = f"{free / 1024**3:.0f} GiB free in {where}"
        if free < LITTLE_SPACE:
            yield Check("recordings", State.WARNING, text, "set recordDeleteAfter or recordMaxTotalSize, or free some")
        else:
            yield Check("recordings", State.OK, text)


def _existing(folder: Path) -> Path:
    """Return the nearest folder that exists: those below it are created when they are needed."""
    folder = folder.absolute()
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)
