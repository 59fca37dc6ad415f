"""Included files: ``include: conf.d/*.yml``. They contain settings like the file that includes them."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from polycast.config.files import decode, digest_of, read_again
from polycast.config.reports import Report
from polycast.config.yaml_reader import Line, RepeatedKey, read_yaml
from polycast.errors import ConfigurationError

INCLUDE: Final = "include"
_MERGED: Final = ("paths", "pathDefaults")
"""Keys whose maps are put together from all files."""

ENDINGS: Final = (".yml", ".yaml")
"""Of the files that texts from the API can include."""
MAXIMUM_FILES: Final = 1_000
"""Included files; more are a mistake, such as a pattern that matches a whole disk."""

Decrypt = Callable[[bytes, str], bytes]
"""Decrypts the content of the file of this name, if a key is set."""


def patterns_of(values: Any, name: str) -> tuple[str, ...]:
    """Return the absolute patterns of the files that a file includes, in order. Raises ConfigurationError.

    They are relative to the folder of the file; ``name`` is its name, empty for the working directory.
    """
    given = values.get(INCLUDE) if isinstance(values, Mapping) else None
    if given is None:
        return ()
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _at_key(values, "not the name of a file, or a list of them (write include: conf.d/*.yml)")
    folder = Path(name).absolute().parent
    return tuple(os.path.join(folder, text) for text in texts)


def refuse_foreign(patterns: Sequence[str], known: Sequence[str], name: str) -> None:
    """Raise ConfigurationError if a text from the API includes files that do not belong to the configuration.

    Otherwise, its errors would tell what is in any file of this machine. Allowed are the ``known`` patterns, and files
    in the folder of the configuration file ``name`` or below whose names are those of configurations: private keys and
    passwords may be beside them. Everything is below the root directory, where containers have the file.
    """
    folder = os.path.join(Path(name).absolute().parent, "")
    for pattern in patterns:
        if pattern in known:
            continue
        if folder == os.sep or not pattern.startswith(folder) or os.pardir in Path(pattern).parts:
            raise ConfigurationError(
                f"include: {pattern} is not in the folder of the configuration; only the file itself can include it"
            )
        if not all(file.endswith(ENDINGS) for file in matching([pattern])):
            raise ConfigurationError(
                f"include: {pattern} has other files than {' and '.join(ENDINGS)}; only the file itself can include it"
            )


def matching(patterns: Sequence[str]) -> list[str]:
    """Return the names of the files that the patterns match, each pattern's sorted. Raises ConfigurationError."""
    found: dict[str, None] = {}
    for pattern in patterns:
        names = sorted(islice(glob.iglob(pattern), MAXIMUM_FILES + 1)) if glob.has_magic(pattern) else [pattern]
        found.update(dict.fromkeys(os.path.normpath(name) for name in names))
    if len(found) > MAXIMUM_FILES:
        raise ConfigurationError(f"include: more than {MAXIMUM_FILES} files")
    return list(found)


def digest_of_included(patterns: Sequence[str]) -> str:
    """Return what identifies names and content of all included files; empty if there are no patterns."""
    if not patterns:
        return ""
    parts = []
    try:
        for name in matching(patterns):
            parts.append(f"{name}\0{digest_of(read_again(name))}")
    except ConfigurationError as error:
        parts.append(str(error))
    return digest_of("\0".join(parts).encode("utf-8", "surrogateescape"))


class Included:
    """The content of the included files."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns: Final = tuple(patterns)
        self.digest: Final = digest_of_included(patterns)  # first, so that later changes are noticed
        self.warnings: list[str] = []

    def merge_into(self, values: Mapping[str, Any], report: Report, decrypt: Decrypt) -> dict[str, Any]:
        """Return the settings of a file together with those of the files that it includes.

        A setting, or the name of a path, can only be in one of the files: ``report`` is called with others.
        """
        merged = dict(values)
        origins: dict[tuple[str, ...], str] = {}
        for name in matching(self.patterns):
            self._merge_file(name, merged, origins, report, decrypt)
        return merged

    def _merge_file(
        self,
        name: str,
        merged: dict[str, Any],
        origins: dict[tuple[str, ...], str],
        report: Report,
        decrypt: Decrypt,
    ) -> None:
        text, _ = decode(decrypt(read_again(name), name))
        try:
            tree, warnings = read_yaml(text, report, name) if text.strip() else (None, [])
        except ConfigurationError as error:
            error.place = name
            raise
        self.warnings += [
            warning.of_file(name) if isinstance(warning, RepeatedKey) else f"{name}: {warning}" for warning in warnings
        ]
        if tree is None:
            return
        if not isinstance(tree, Mapping):
            wrong = ConfigurationError("not a map (write settings as 'key: value', one a line)")
            wrong.line = Line(1, name)
            report(wrong)
            return
        for key, value in tree.items():
            if key == INCLUDE:
                report(_error(key, "an included file can't include others"))
            elif key in _MERGED and isinstance(value, Mapping) and isinstance(merged.get(key) or {}, Mapping):
                merged[key] = dict(merged.get(key) or {})
                for inner, content in value.items():
                    self._put(merged[key], inner, content, (str(key), str(inner)), origins, name, report)
            elif value is not None or key not in _MERGED:
                self._put(merged, key, value, (str(key),), origins, name, report)

    def _put(
        self,
        target: dict[str, Any],
        key: str,
        value: Any,
        place: tuple[str, ...],
        origins: dict[tuple[str, ...], str],
        name: str,
        report: Report,
    ) -> None:
        if key in target:
            other = origins.get(place, "the file that includes this one")
            what = f"the path '{key}'" if place[0] == "paths" and len(place) == 2 else f"'{key}'"
            report(_error(key, f"{what} is also in {other}"))
            return
        target[key] = value
        origins[place] = name


def _error(key: str, text: str) -> ConfigurationError:
    error = ConfigurationError(text)
    error.line = getattr(key, "line", 0)
    return error


def _at_key(values: Mapping[str, Any], text: str) -> ConfigurationError:
    error = _error(next(key for key in values if key == INCLUDE), text)
    error.keys = ((INCLUDE,),)
    return error
