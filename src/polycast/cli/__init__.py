"""The command ``polycast``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from polycast._version import __version__
from polycast.cli.loading import DEFAULT_FILES, load_configuration
from polycast.config import LoadedConfiguration
from polycast.config.detect import dialect_named
from polycast.config.dialects.registry import DIALECTS
from polycast.demo import DEMO_PATH
from polycast.errors import ConfigurationError
from polycast.log import printable


def _encrypt(arguments: Sequence[str]) -> int:
    from polycast.cli.crypto import main

    return main("encrypt", arguments)


def _decrypt(arguments: Sequence[str]) -> int:
    from polycast.cli.crypto import main

    return main("decrypt", arguments)


def _top(arguments: Sequence[str]) -> int:
    from polycast.cli.top import main

    return main(arguments)


def _migrate(arguments: Sequence[str]) -> int:
    from polycast.cli.migrate import main

    return main(arguments)


def _doctor(arguments: Sequence[str]) -> int:
    from polycast.cli.doctor import main

    return main(arguments)


def _discover(arguments: Sequence[str]) -> int:
    from polycast.cli.discover import main

    return main(arguments)


def _completion(arguments: Sequence[str]) -> int:
    from polycast.cli.completion import main

    return main(arguments, make_parser())


def _service(arguments: Sequence[str]) -> int:
    from polycast.cli.service import main

    return main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "encrypt": _encrypt,
    "decrypt": _decrypt,
    "migrate": _migrate,
    "top": _top,
    "service": _service,
    "doctor": _doctor,
    "discover": _discover,
    "completion": _completion,
}
"""Subcommands; a file with such a name must be given as ./encrypt."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    if arguments in (["help"], ["version"]) and not Path(arguments[0]).exists():
        arguments = [f"--{arguments[0]}"]
    options = make_parser().parse_args(arguments)
    try:
        with _interruptible():
            dialect = dialect_named(options.dialect) if options.dialect else None
            loaded = load_configuration(options.config, demo=options.demo, dialect=dialect)
    except ConfigurationError as error:
        for text in error.report or (str(error),):
            print(f"ERR: {printable(text)}")
        return 1
    loader = functools.partial(load_configuration, options.config, demo=options.demo, again=True, dialect=dialect)
    if options.check:
        return _check(loaded)
    with _interruptible():
        from polycast.cli.serve import run  # imported late, so that --help and --check are fast

        return run(loaded, loader, demo=options.demo)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT end the process immediately: Python would miss one that arrives just before it waits for a pipe, and
    print a traceback otherwise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command without a subcommand."""
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
    parser.add_argument(
        "--dialect",
        metavar="NAME",
        help=f"the server whose names and defaults the file has: {', '.join(DIALECTS)} (default: by the file's name)",
    )
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument(
        "--demo", action="store_true", help=f"publish a test picture and tone on the path '{DEMO_PATH}' (needs PyAV)"
    )
    return parser


def _check(loaded: LoadedConfiguration) -> int:
    from polycast.cli.preflight import preflight

    for warning in loaded.warnings:
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
