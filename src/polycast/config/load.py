"""Loads the configuration: file, decryption, YAML, types, environment variables, rules."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from polycast.config.convert import Reading, given_keys, parse_configuration
from polycast.config.crypto import decrypt, is_encrypted
from polycast.config.detect import chosen_dialect
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import DIALECTS, LEGACY
from polycast.config.env import KEY_VARIABLE, KEY_VARIABLES, apply_environment, other_variables
from polycast.config.files import UnreadableError, decode, digest_of, empty_file, is_blank, read_again, read_once
from polycast.config.includes import Included, patterns_of, refuse_foreign
from polycast.config.places import locate
from polycast.config.questionable import questionable
from polycast.config.reports import ErrorCollector, TooManyErrors
from polycast.config.schema import Configuration
from polycast.config.validate import broken_rules, completed
from polycast.config.yaml_reader import RepeatedKey, read_yaml
from polycast.errors import ConfigurationError


class LoadedConfiguration(msgspec.Struct, frozen=True):
    """A configuration and where it was loaded from."""

    configuration: Configuration
    source_path: Path | None
    """The absolute path of the file, or None if there is none."""
    warnings: list[str]
    """One line each, for the log."""
    given: frozenset[str]
    """The keys that the user set: ``hlsVariant``, or ``paths.<name>.<key>``."""
    content_digest: str = ""
    """SHA-256 of the file as stored, hexadecimal; empty without a file."""
    included: tuple[str, ...] = ()
    """Absolute patterns of the names of included files."""
    included_digest: str = ""
    """What identifies the included files (``includes.digest_of_included``)."""
    is_rereadable: bool = True
    """False for a pipe, which can be read only once."""
    content: bytes = b""
    """The file as stored; empty without a file."""


def load(
    path: str | None, environment: Mapping[str, str], *, again: bool = False, dialect: Dialect | None = None
) -> LoadedConfiguration:
    """Load the file at ``path`` (None: no file) and apply ``environment``. Raises ConfigurationError.

    ``again``: the file is reloaded. A running server must never wait for a pipe, and a file that has become empty is
    no configuration. ``dialect``: what the file is written in, whatever its name.
    """
    if path is None:
        return _with_doubts(load_bytes(b"", environment, "", dialect))
    content, is_regular = (read_again(path), True) if again else read_once(path)
    if again and is_blank(content):
        raise UnreadableError(empty_file(path))
    plain = _decrypted(content, path, environment)
    loaded = load_bytes(plain, environment, path, dialect)
    return _with_doubts(
        msgspec.structs.replace(
            loaded,
            source_path=Path(path).absolute(),
            content_digest=digest_of(content),
            is_rereadable=is_regular,
            content=content,
        )
    )


def load_bytes(
    content: bytes,
    environment: Mapping[str, str],
    name: str = "",
    dialect: Dialect | None = LEGACY,
    *,
    known_includes: Sequence[str] | None = None,
) -> LoadedConfiguration:
    """Load a configuration whose (decrypted) file content is ``content``.

    Raises the first ConfigurationError; its ``report`` lists all errors that can be found without correcting one.

    ``name`` is the name of the file, for errors, and to find out the dialect if it is None.
    ``known_includes``: patterns of files that a text of uncertain origin may include (`includes.refuse_foreign`); None
    for a file, which may include any.
    """
    source = _Source(name, known_includes)
    collector = ErrorCollector(source.position)
    with contextlib.suppress(TooManyErrors):
        try:
            configuration = _read(content, environment, source, collector, dialect)
        except ConfigurationError as error:  # nothing can be read after it
            collector(error)
    if collector.errors:
        first = collector.errors[0]
        first.report = collector.lines()
        first.included = source.included.patterns
        raise first from first.__cause__
    return LoadedConfiguration(
        configuration=configuration,
        source_path=None,
        warnings=source.warnings,
        given=given_keys(source.values) | frozenset(source.variables),
        included=source.included.patterns,
        included_digest=source.included.digest,
    )


class _Source:
    """What is known about a file so far, for the positions of errors."""

    def __init__(self, name: str, known_includes: Sequence[str] | None = None) -> None:
        self.name = name
        self._known_includes = known_includes
        self.values: Any = {}
        self.warnings: list[str] = []
        self.variables: Mapping[str, str] = {}
        self.names_of_all: tuple[str, ...] = ()
        self.included = Included(())

    def include(self, environment: Mapping[str, str], collector: ErrorCollector) -> None:
        """Add the settings of included files."""
        patterns = patterns_of(self.values, self.name)
        if self._known_includes is not None:
            refuse_foreign(patterns, self._known_includes, self.name)
        self.included = Included(patterns)
        if self.included.patterns:
            self.values = self.included.merge_into(
                self.values, collector, lambda content, name: _decrypted(content, name, environment)
            )
            self.warnings += self.included.warnings

    def refuse_repeated_keys(self, collector: ErrorCollector) -> None:
        """Make errors of the warnings about keys that are written more than once."""
        for warning in self.warnings:
            if isinstance(warning, RepeatedKey):
                collector(warning.error)
        self.warnings = [warning for warning in self.warnings if not isinstance(warning, RepeatedKey)]

    def position(self, error: ConfigurationError) -> tuple[int, int]:
        if any(key[-1].endswith(("User", "Pass")) for key in error.keys):
            error.message += "".join(f"; {warning}" for warning in self.warnings if "begins with #" in warning)
        return locate(error, self.values, self.variables, self.name, self.names_of_all)


def _read(
    content: bytes,
    environment: Mapping[str, str],
    source: _Source,
    collector: ErrorCollector,
    dialect: Dialect | None,
) -> Configuration:
    """Read a configuration; it is valid if the collector has no errors afterwards."""
    text, _ = decode(content)
    tree, source.warnings = read_yaml(text, collector) if text.strip() else (None, [])
    source.values = {} if tree is None else tree
    if isinstance(tree, str) and is_encrypted(content):
        raise ConfigurationError(f"the file is encrypted; put its key into the environment variable {KEY_VARIABLE}")
    source.include(environment, collector)
    reading = Reading(dialect or chosen_dialect(source.name, source.values, environment), collector)
    source.names_of_all = reading.dialect.names_of_all
    if reading.dialect.is_strict:
        source.refuse_repeated_keys(collector)
    parsed = parse_configuration(source.values, reading)
    applied = apply_environment(parsed, environment, reading)
    source.variables = applied.variables
    source.warnings += [*reading.warnings, *other_variables(reading.dialect, DIALECTS, environment)]
    configuration = completed(applied.configuration)
    for error in broken_rules(configuration):
        error.keys = tuple(map(reading.as_written, error.keys))
        collector.add_rule(error)
    return configuration


def _with_doubts(loaded: LoadedConfiguration) -> LoadedConfiguration:
    doubts = questionable(loaded.configuration, has_file=loaded.source_path is not None)
    return msgspec.structs.replace(loaded, warnings=[*loaded.warnings, *doubts])


def _decrypted(content: bytes, path: str, environment: Mapping[str, str]) -> bytes:
    for variable in (name for name in KEY_VARIABLES if name in environment):
        try:
            content = decrypt(content, environment[variable])
        except ConfigurationError as error:
            error.message += (
                f" (is the key in {variable} the one that 'polycast encrypt' was given?)"
                if is_encrypted(content)
                else f" (the file is not encrypted: unset {variable}, or run 'polycast encrypt')"
            )
            error.place = path
            raise
    return content
