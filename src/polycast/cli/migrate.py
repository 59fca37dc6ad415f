"""The command ``polycast migrate``: translates a configuration file of another server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from polycast.config import crypto
from polycast.config.detect import chosen_dialect, dialect_named
from polycast.config.dialects.registry import DIALECTS, POLYCAST
from polycast.config.env import is_setting_variable, key_variable
from polycast.config.files import decode, read_once
from polycast.config.includes import matching, patterns_of
from polycast.config.migrate import migrate
from polycast.config.yaml_reader import read_yaml
from polycast.errors import ConfigurationError
from polycast.log import printable


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        dialect = dialect_named(options.dialect) if options.dialect else None
        content, _ = read_once(options.file)
        key = os.environ.get(key_variable(os.environ))
        if key is not None and crypto.is_encrypted(content):
            content = crypto.decrypt(content, key)
        text, encoding = decode(content)
        migrated = migrate(text, options.file, dialect)
        tree = (read_yaml(text)[0] if text.strip() else None) or {}
        dialect = dialect or chosen_dialect(options.file, tree, {})
        included = matching(patterns_of(tree, options.file))
    except ConfigurationError as error:
        for line in error.report or (str(error),):
            print(f"ERR: {printable(line)}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(encoding.encode(migrated.text))
    sys.stdout.buffer.flush()
    notes = [*migrated.notes, *(f"'{name}' is included: migrate it as well" for name in included)]
    if dialect is not POLYCAST and any(is_setting_variable(name, dialect) for name in os.environ):
        notes.append(f"variables {dialect.prefixes[-1]}... are not translated: use {POLYCAST.prefixes[-1]}...")
    for note in notes:
        print(f"WAR: {printable(note)}", file=sys.stderr)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="polycast migrate",
        description="Print a configuration file of MediaMTX or rtsp-simple-server as a polycast.yml, with its "
        "comments. What changes its meaning is written to standard error.",
    )
    parser.add_argument("file", help="file to read, such as mediamtx.yml")
    parser.add_argument(
        "--dialect", metavar="NAME", help=f"what it is written in: {', '.join(DIALECTS)} (default: by its name)"
    )
    return parser
