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

from polycast.config import crypto, edits
from polycast.config.convert import parse_configuration
from polycast.config.env import KEY_VARIABLE
from polycast.config.fields import configuration_fields, path_fields
from polycast.config.files import UnreadableError, decode, digest_of, read_again
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
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
    edit: edits.Edit,
    configuration: Configuration,
    environment: Mapping[str, str],
) -> PreparedWrite:
    """Create the file's new content. ``configuration`` is the running one with the edit applied.

    An encrypted file (``RTSP_CONFKEY``) is encrypted again with a new nonce. Raises ConflictError if the file was
    changed since it was loaded, or PersistError if it cannot be read or edited.
    """
    try:
        raw = read_again(path)
    except UnreadableError as error:
        raise PersistError(str(error)) from error
    old_digest = digest_of(raw)
    if old_digest != expected_digest:
        raise ConflictError
    key = environment.get(KEY_VARIABLE)
    try:
        plain = raw if key is None else crypto.decrypt(raw, key)
        new = edit_content(plain, edit, configuration)
    except (ConfigurationError, UneditableError) as error:
        raise PersistError(f"the configuration file can't be edited: {error}") from error
    return PreparedWrite(path, old_digest, new if key is None else crypto.encrypt(new, key))


def edit_content(content: bytes, edit: edits.Edit, configuration: Configuration) -> bytes:
    """Return the content of a configuration file after an edit; see `prepare_write`.

    Raises UneditableError if the file has a form that does not allow it (for example an anchor that others use).
    """
    text, encoding = decode(content)
    tree = _tree(text)
    changes = _changes(tree, edit, configuration)
    new = edit_yaml(text, changes, _is_same)
    try:
        is_right = parse_configuration(_tree(new)) == parse_configuration(_applied(tree, changes))
    except ConfigurationError as error:
        raise UneditableError(f"its format does not allow this change ({error}); edit it by hand") from error
    if not is_right:
        raise UneditableError("its format does not allow this change; edit it by hand")
    return encoding.encode(new)


def _tree(text: str) -> dict[str, Any]:
    tree = read_yaml(text)[0] if text.strip() else None
    return tree or {}


def _changes(tree: Mapping[str, Any], edit: edits.Edit, configuration: Configuration) -> Changes:
    paths = tree.get("paths") or {}
    match edit:
        case edits.SetKeys(values):
            return {key: value for key, value in values.items() if key != "paths"}
        case edits.ReplacePaths(new):
            return {"paths": Patch(_replaced_paths(paths, new))}
        case edits.RemovePath(name):
            found = _name_in_file(paths, name)
            return {"paths": Patch({found: REMOVED})} if found is not None else {}
        case edits.AddPath(name, values):
            found = _name_in_file(paths, name)
            # One that is nevertheless in the file was removed while changes were not written.
            change = Patch(values) if found is None else Patch(_difference(paths[found] or {}, values))
            return {"paths": Patch({found or name: change})}
        case edits.EditPath(name, values):
            found = _name_in_file(paths, name)
            if found is not None:
                return {"paths": Patch({found: Patch(values)})}
            # It came from the environment or was added while changes were not written: written in full.
            return {"paths": Patch({name: Patch(_given(configuration.paths[edits.loaded_name(name)]))})}


def _replaced_paths(old: Mapping[str, Any], new: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    names = {name: _name_in_file(old, name) or name for name in new}
    kept = [name for name in old if name in names.values()]
    changes: dict[str, Any] = {name: REMOVED for name in old if name not in names.values()}
    if kept != [name for name in names.values() if name in old] or list(names.values())[: len(kept)] != kept:
        # The first expression that matches counts, so the requested order must be kept.
        raise UneditableError("the paths are in another order in the file")
    for name, values in new.items():
        found = names[name]
        changes[found] = Patch(_difference(old[found] or {}, values or {}) if found in old else values or {})
    return changes


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: REMOVED for key in old if key not in new}, **new}


def _name_in_file(paths: Mapping[str, Any], name: str) -> str | None:
    return next((known for known in paths if edits.loaded_name(known) == edits.loaded_name(name)), None)


def _given(path: PathConfiguration) -> dict[str, Any]:
    return {
        key: field.kind.dump(getattr(path, field.name))
        for key, field in path_fields().items()
        if getattr(path, field.name) != field.default
    }


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


def _is_same(key: str, old: Any, new: Any) -> bool:
    """Whether a new value is equal to the one in the file: then its spelling there stays."""
    field = configuration_fields().get(key) or path_fields().get(key)
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
