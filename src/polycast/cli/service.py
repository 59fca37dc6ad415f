"""The command ``polycast service``: runs the server as a service of the operating system."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from polycast.errors import ConfigurationError
from polycast.service import systemd, winsw

SYSTEMD = "systemd"
WINSW = "winsw"

DEFAULT_FILES = ("rtsp-simple-server.yml", "polycast.yml")

HOME_DIRECTORIES = ("/home", "/root", "/run/user")
"""Directories hidden by systemd's ProtectHome."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        return _install(options)
    except ConfigurationError as error:
        print(f"ERR: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog="polycast service", description="Run the server as a service.")
    commands = parser.add_subparsers(required=True, metavar="install")
    install = commands.add_parser(
        "install",
        help="write a systemd unit, or the WinSW file on Windows",
        description="Write the file that makes the server start at boot: a systemd unit on Linux, "
        "the configuration of WinSW on Windows. Nothing is started.",
    )
    install.add_argument(
        "config",
        nargs="?",
        help=f"configuration file (default: {' or '.join(DEFAULT_FILES)} in the working directory, if it exists)",
    )
    install.add_argument("--print", action="store_true", help="print the file instead of writing it")
    install.add_argument("--output", help="where to write it (default: where the service manager expects it)")
    install.add_argument("--force", action="store_true", help="replace an existing file")
    install.add_argument("--format", choices=(SYSTEMD, WINSW), help="default: the service manager of this system")
    install.add_argument("--user", default="", help="systemd: run as this user (default: one created for the service)")
    install.add_argument("--group", default="", help="systemd: run with this group (default: that of the user)")
    install.add_argument(
        "--writable",
        action="append",
        default=[],
        metavar="DIRECTORY",
        help="systemd: a directory that the server and its commands may write to; repeatable",
    )
    return parser


def _install(options: argparse.Namespace) -> int:
    kind = options.format or _format_of_this_system()
    config = _configuration_file(options.config)
    if config is None:
        print("WAR: without a configuration file, anyone can publish to and read from every path", file=sys.stderr)
    command = (*_program(), *([str(config)] if config is not None else []))
    if kind == WINSW:
        directory = str(config.parent if config is not None else Path.cwd())
        text = winsw.render(command, directory)
        target = Path(options.output or winsw.FILE_NAME)
    else:
        text = systemd.render(_unit(options, command, config))
        target = Path(options.output or f"{systemd.UNIT_DIRECTORY}/{systemd.UNIT_NAME}")
    if options.print:
        print(text, end="")
        return 0
    if kind == SYSTEMD:
        _check_user(options.user)
    _write(target, text, force=options.force)
    print(f"Wrote {target}. Next:")
    for step in _next_steps(kind, target):
        print(f"    {step}")
    return 0


def _unit(options: argparse.Namespace, command: tuple[str, ...], config: Path | None) -> systemd.Unit:
    if options.group and not options.user:
        raise ConfigurationError("--group needs --user")
    writable = tuple(_absolute_directory(name) for name in options.writable)
    directory = str(config.parent) if config is not None else "/"
    paths = (*(argument for argument in command if argument.startswith("/")), directory, *writable)
    in_home = any(_is_in_home(path) for path in paths)
    if in_home and not options.user:
        print(
            "WAR: the program or the configuration is in a home directory, which the service's user may not be able to "
            "read; use --user, or move it to /opt and /etc",
            file=sys.stderr,
        )
    return systemd.Unit(
        command=command,
        working_directory=directory,
        user=options.user,
        group=options.group,
        writable=writable,
        in_home=in_home,
        starts_child=_is_single_executable(),
    )


def _format_of_this_system() -> str:
    if sys.platform == "win32":
        return WINSW
    if sys.platform == "linux":
        return SYSTEMD
    raise ConfigurationError(
        "no known service manager was found on this system; use --format to choose systemd or winsw"
    )


def _configuration_file(name: str | None) -> Path | None:
    if name is None:
        name = next((default for default in DEFAULT_FILES if Path(default).is_file()), None)
        if name is None:
            return None
    file = Path(os.path.abspath(name))  # links are kept, because their targets may change later
    if not file.is_file():
        raise ConfigurationError(f"the configuration file {file} does not exist")
    return file


def _absolute_directory(name: str) -> str:
    directory = os.path.abspath(name)
    if not Path(directory).is_dir():
        raise ConfigurationError(f"the directory {directory} does not exist")
    return directory


def _program() -> tuple[str, ...]:
    """Return the command that runs this program, with absolute paths."""
    if getattr(sys, "frozen", False):
        return (os.path.abspath(sys.executable),)
    script = Path(os.path.abspath(sys.argv[0]))
    if script.stem == "polycast" and script.is_file() and os.access(script, os.X_OK):
        return (str(script),)
    return (os.path.abspath(sys.executable), "-m", "polycast")


def _is_single_executable() -> bool:
    """Whether this is the self-extracting executable, which runs the server in a child process."""
    return bool(getattr(sys, "frozen", False))


def _is_in_home(path: str) -> bool:
    return any(path == home or path.startswith(f"{home}/") for home in HOME_DIRECTORIES)


def _check_user(user: str) -> None:
    if not user or sys.platform == "win32":
        return
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        raise ConfigurationError(f"there is no user '{user}' on this machine") from None


def _write(target: Path, text: str, *, force: bool) -> None:
    if not target.parent.is_dir():
        raise ConfigurationError(
            f"the directory {target.parent} does not exist; use --print to show the file, or --output for another path"
        )
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if target.read_text("utf-8") == text:
            return
    if target.exists() and not force:
        raise ConfigurationError(f"{target} already exists and differs; use --force to replace it")
    name = ""
    try:
        # Written completely or not at all.
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError as error:
        if name:
            with contextlib.suppress(OSError):
                os.unlink(name)
        hint = "; run this as root, or use --print" if isinstance(error, PermissionError) else ""
        raise ConfigurationError(f"{target} cannot be written: {error.strerror or error}{hint}") from error


def _next_steps(kind: str, target: Path) -> tuple[str, ...]:
    if kind == WINSW:
        return (
            f"put {winsw.FILE_NAME.replace('.xml', '.exe')} of WinSW v2 next to {target.name}, then, as administrator:",
            f"{winsw.FILE_NAME.replace('.xml', '')} install",
            f"{winsw.FILE_NAME.replace('.xml', '')} start",
        )
    return ("systemctl daemon-reload", f"systemctl enable --now {target.stem}", f"systemctl status {target.stem}")
