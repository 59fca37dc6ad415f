"""Writes changes back into the configuration file: preserves comments, layout and concurrent changes by others."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from polycast.config import crypto, dump, edits
from polycast.config.convert import PATH_DEFAULTS, Reading, parse_configuration
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.env import key_variable
from polycast.config.fields import Field
from polycast.config.files import UnreadableError, decode, digest_of, read_again
from polycast.config.includes import Included, patterns_of
from polycast.config.names import is_pattern
from polycast.config.reports import raise_error
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.whole import ReplaceAll
from polycast.config.yaml_edit import REMOVED, Changes, Patch, UneditableError, edit_yaml
from polycast.config.yaml_reader import read_yaml
from polycast.errors import ConfigurationError, PolycastError


class PersistError(PolycastError):
    """The file cannot be written and was not changed. The text is for the user."""


class ConflictError(PersistError):
    """The file was changed since it was loaded."""

    def __init__(self) -> None:
        super().__init__(
            "the configuration file was changed and is not loaded yet (or cannot be, see /v1/config/status); "
            "nothing was changed"
        )


class PreparedWrite(msgspec.Struct, frozen=True):
    """New content for the file, ready to be written."""

    path: Path
    old_digest: str
    content: bytes

    @property
    def digest(self) -> str:
        """Identifies the new content."""
        return digest_of(self.content)

    def commit(self) -> None:
        """Replace the file atomically; its mode stays, and a link to it stays a link.

        Raises ConflictError if the file was changed meanwhile, or PersistError.
        """
        target = Path(os.path.realpath(self.path))
        try:
            status = target.stat()
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self.content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(name, status.st_mode & 0o7777)
                if hasattr(os, "chown"):
                    with contextlib.suppress(OSError):
                        os.chown(name, status.st_uid, status.st_gid)
                if digest_of(read_again(target)) != self.old_digest:
                    raise ConflictError
                _replace(name, target, self.content)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        except UnreadableError as error:
            raise PersistError(str(error)) from error
        except OSError as error:
            raise PersistError(f"the configuration file can't be written: {error.strerror or error}") from error


def prepare_write(
    path: Path,
    expected_digest: str,
    edit: edits.Edit | ReplaceAll,
    configuration: Configuration,
    environment: Mapping[str, str],
) -> PreparedWrite:
    """Create the file's new content. ``configuration`` is the running one with the edit applied.

    An encrypted file (see ``env.KEY_VARIABLES``) is encrypted again with a new nonce. Raises ConflictError if the
    file was changed since it was loaded, or PersistError if it cannot be read or edited.
    """
    try:
        raw = read_again(path)
    except UnreadableError as error:
        raise PersistError(str(error)) from error
    old_digest = digest_of(raw)
    if old_digest != expected_digest:
        raise ConflictError
    key = environment.get(key_variable(environment))
    try:
        plain = raw if key is None else crypto.decrypt(raw, key)
        if isinstance(edit, ReplaceAll):
            new = decode(plain)[1].encode(edit.text)
        else:
            new = edit_content(plain, edit, configuration, _included(path, plain, key))
    except (ConfigurationError, UneditableError) as error:
        raise PersistError(f"the configuration file can't be edited: {error}") from error
    return PreparedWrite(path, old_digest, new if key is None else crypto.encrypt(new, key))


def edit_content(
    content: bytes, edit: edits.Edit, configuration: Configuration, included: Mapping[str, Any] | None = None
) -> bytes:
    """Return the content of a configuration file after an edit; see `prepare_write`.

    ``included`` are the settings of the files that it includes, which are not edited.
    Raises UneditableError if the file has a form that does not allow it (for example an anchor that others use).
    """
    text, encoding = decode(content)
    tree = _tree(text)
    dialect = dialect_of(configuration.dialect)
    changes = _Changes(tree, configuration, dialect).of(edit)
    _check_included(included or {}, edit, changes)
    new = edit_yaml(text, changes, lambda key, old, new: _is_same(dialect, key, old, new))
    try:
        is_right = _parsed(_tree(new), dialect) == _parsed(_applied(tree, changes), dialect)
    except ConfigurationError as error:
        raise UneditableError(f"its format does not allow this change ({error}); edit it by hand") from error
    if not is_right:
        raise UneditableError("its format does not allow this change; edit it by hand")
    return encoding.encode(new)


def _tree(text: str) -> dict[str, Any]:
    tree = read_yaml(text)[0] if text.strip() else None
    return tree or {}


def _included(path: Path, content: bytes, key: str | None) -> dict[str, Any]:
    """Return the settings of the files that a file includes."""
    patterns = patterns_of(_tree(decode(content)[0]), str(path))
    if not patterns:
        return {}
    return Included(patterns).merge_into(
        {}, raise_error, lambda content, _: content if key is None else crypto.decrypt(content, key)
    )


def _check_included(included: Mapping[str, Any], edit: edits.Edit, changes: Changes) -> None:
    """Raise UneditableError if the edit concerns settings of an included file."""
    paths = included.get("paths") or {}
    changed = changes.get("paths")
    names = changed.changes if isinstance(changed, Patch) else {}
    found = next((f"the path '{name}'" for name in names if name in paths), "")
    found = found or next((f"'{key}'" for key in changes if key in included and key != "paths"), "")
    if paths and isinstance(edit, edits.ReplacePaths):
        found = "some of the paths"
    if paths and isinstance(edit, edits.RemovePath) and not names:
        found = f"the path '{edit.name}'"
    if found:
        verb = "are" if found.startswith("some") else "is"
        raise UneditableError(f"{found} {verb} in an included file; edit that by hand")


def _parsed(tree: Mapping[str, Any], dialect: Dialect) -> Configuration:
    return parse_configuration(tree, Reading(dialect))


class _Changes:
    """Makes changes of a file of an edit, whose names may be those of another dialect."""

    def __init__(self, tree: Mapping[str, Any], configuration: Configuration, dialect: Dialect) -> None:
        """``dialect`` is that of the file, ``tree`` its content."""
        self._tree = tree
        self._paths: Mapping[str, Any] = tree.get("paths") or {}
        self._configuration = configuration
        self._dialect = dialect
        self._view = view_of(dialect)

    def of(self, edit: edits.Edit) -> Changes:
        """Return what to change in the file."""
        match edit:
            case edits.SetKeys(values, dialect):
                values = {key: value for key, value in values.items() if key != "paths"}
                moved = {key: values.pop(key) for key in dialect.moved & values.keys()}
                changes = self._translated(values, view_of(dialect).accepted, self._view.accepted, self._tree)
                return {**changes, **self.of(edits.SetPathDefaults(moved, dialect))} if moved else changes
            case edits.ReplacePaths(new, dialect):
                return {"paths": Patch(self._replaced(new, dialect))}
            case edits.RemovePath(name):
                found = self._name_in_file(name)
                return {"paths": Patch({found: REMOVED})} if found is not None else {}
            case edits.AddPath(name, values, dialect):
                found = self._name_in_file(name)
                # One that is nevertheless in the file was removed while changes were not written.
                old = (self._paths[found] or {}) if found is not None else {}
                change = self._of_path(values, dialect, old)
                return {"paths": Patch({found or name: Patch(change if found is None else _difference(old, change))})}
            case edits.SetPathDefaults(values, dialect):
                if not self._dialect.has_path_defaults:
                    raise UneditableError("files of this kind have no pathDefaults")
                given: Mapping[str, Any] = self._tree.get(PATH_DEFAULTS) or {}
                changes = self._of_path(values, dialect, given)
                # A setting that the file has where it was once stays there: that one would win.
                moved = {key: changes.pop(key) for key in self._dialect.moved & changes.keys() & self._tree.keys()}
                return {**moved, **({PATH_DEFAULTS: Patch(changes)} if changes else {})}
            case edits.ReplacePath(name, values, dialect):
                found = self._name_in_file(name)
                before = (self._paths[found] or {}) if found is not None else {}
                new = self._of_path(values, dialect, before)
                return {"paths": Patch({found or name: Patch(new if found is None else _difference(before, new))})}
            case edits.EditPath(name, values, dialect):
                found = self._name_in_file(name)
                if found is not None:
                    return {"paths": Patch({found: Patch(self._of_path(values, dialect, self._paths[found] or {}))})}
                # It came from the environment or was added while changes were not written: written in full.
                path = self._configuration.paths[self._loaded_name(name)]
                return {"paths": Patch({name: Patch(self._given(path))})}

    def _of_path(self, values: Mapping[str, Any], dialect: Dialect, old: Mapping[str, Any]) -> dict[str, Any]:
        return self._translated(values, view_of(dialect).path_accepted, self._view.path_accepted, old)

    def _translated(
        self,
        values: Mapping[str, Any],
        origin: Mapping[str, Field],
        target: Mapping[str, Field],
        old: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return values under the names of the file; ``old`` is the map in the file that they are for."""
        new = {}
        for key, value in values.items():
            field = origin[key]
            # A setting that the file has under a former name stays there: that name would win.
            names = [name for name, each in target.items() if each.canonical == field.canonical]
            name = next((name for name in reversed(names) if name in old), names[0])
            kind = target[name].kind
            is_alike = kind is field.kind or value is None or (name == key and kind.label == field.kind.label)
            new[name] = value if is_alike else kind.dump(field.kind.parse(value))
        return new

    def _replaced(self, new: Mapping[str, Mapping[str, Any] | None], dialect: Dialect) -> dict[str, Any]:
        old = self._paths
        names = {name: self._name_in_file(name) or name for name in new}
        changes: dict[str, Any] = {name: REMOVED for name in old if name not in names.values()}
        if not self._dialect.sorts_expressions:
            self._check_order([name for name in names.values() if is_pattern(self._loaded_name(name))])
        for name, values in new.items():
            found = names[name]
            before = old.get(found) or {}
            change = self._of_path(values or {}, dialect, before)
            changes[found] = Patch(_difference(before, change)) if found in old else change
        return changes

    def _check_order(self, expressions: list[str]) -> None:
        """Raise UneditableError if the new order of the expressions is not possible: new paths come after the old ones.

        The first expression that matches a name counts.
        """
        kept = [name for name in self._paths if name in expressions]
        if expressions[: len(kept)] != kept:
            raise UneditableError("the regular expressions are in another order in the file")

    def _name_in_file(self, name: str) -> str | None:
        wanted = self._loaded_name(name)
        return next((known for known in self._paths if self._loaded_name(known) == wanted), None)

    def _loaded_name(self, name: str) -> str:
        return dump.loaded_name_in(self._dialect, name)

    def _given(self, path: PathConfiguration) -> dict[str, Any]:
        defaults = self._configuration.path_defaults
        return {
            key: field.kind.dump(field.of(path))
            for key, field in self._view.path_fields.items()
            if field.name in path.given or field.of(path) != field.of(defaults)
        }


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: REMOVED for key in old if key not in new}, **new}


def _applied(tree: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Return the tree that the changes should result in."""
    new: dict[str, Any] = dict(tree)
    for key, change in changes.items():
        if change is REMOVED:
            new.pop(key, None)
        elif isinstance(change, Patch):
            new[key] = _applied(new.get(key) or {}, change.changes)
        else:
            new[key] = change
    return new


def _is_same(dialect: Dialect, key: str, old: Any, new: Any) -> bool:
    """Whether a new value is equal to the one in the file: then its spelling there stays."""
    view = view_of(dialect)
    field = view.accepted.get(key) or view.path_accepted.get(key)
    if field is None or new is None:
        return bool(old == new)
    try:
        return bool(field.kind.parse(old) == field.kind.parse(new))
    except ConfigurationError:
        return False


def _replace(new: str, target: Path, content: bytes) -> None:
    try:
        os.replace(new, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A single file that is mounted into a container cannot be replaced, only written.
        with target.open("r+b") as file:
            file.write(content)
            file.truncate()
