"""Translates a configuration file of another server into Polycast's own dialect; comments and layout stay.

Only names, and values whose form differs, are replaced in the text. Defaults that differ are added, so that the server
does the same with the new file; what nevertheless changes its meaning is found by comparing both configurations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from polycast.config import yaml_text
from polycast.config.detect import chosen_dialect
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import POLYCAST
from polycast.config.dialects.views import View, view_of
from polycast.config.fields import Field
from polycast.config.kinds import BOOLEAN
from polycast.config.load import load_bytes
from polycast.config.names import ALL_PATHS, is_pattern
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.services import SERVICES
from polycast.config.yaml_edit import REMOVED, Changes, Patch, UneditableError, edit_yaml
from polycast.config.yaml_reader import read_yaml
from polycast.errors import ConfigurationError

_CAMERA: Final = "rpiCamera"
_USERS: Final = "authInternalUsers"
_SERVICE_ADDRESSES: Final = frozenset(f"{name}Address" for name in SERVICES)


class Migrated(msgspec.Struct, frozen=True):
    """A translated file."""

    text: str
    notes: list[str]
    """What the user should know, one line each."""


def migrate(text: str, name: str, dialect: Dialect | None = None) -> Migrated:
    """Translate the text of a file. ``name`` is its name, for errors, and to find out the dialect.

    Raises ConfigurationError if the file is not valid, or has a form that cannot be translated.
    """
    tree = (read_yaml(text)[0] if text.strip() else None) or {}
    dialect = dialect or chosen_dialect(name, tree, {})
    if isinstance(tree, Mapping):
        tree = {key: value for key, value in tree.items() if key != "include"}
    old = load_bytes(_without_include(text, tree).encode(), {}, name, dialect)
    # Former names are translated.
    notes = [warning for warning in old.warnings if not warning.startswith("parameter '")]
    try:
        new = _translated(text, tree, dialect)
        additions = _additions(old.configuration, tree, dialect)
        new = _with_additions(new, additions, dialect)
        result = load_bytes(_without_include(new, read_yaml(new)[0]).encode(), {}, name, POLYCAST).configuration
    except UneditableError as error:
        raise ConfigurationError(f"{name}: the form of the file cannot be translated: {error}") from error
    notes += [
        f"{_shown(key, value)} was added, because Polycast has another default" for key, value in additions.items()
    ]
    notes += _differences(old.configuration, result, dialect)
    return Migrated(new, list(dict.fromkeys(notes)))


def _without_include(text: str, tree: Any) -> str:
    """Return the text without its included files, which are translated one by one."""
    return edit_yaml(text, {"include": REMOVED}, _never_same) if tree and "include:" in text else text


def _never_same(key: str, old: Any, new: Any) -> bool:
    return False


# Names and values


class _Splice(msgspec.Struct, frozen=True):
    start: int
    end: int
    text: str


def _translated(text: str, tree: Mapping[str, Any], dialect: Dialect) -> str:
    """Return the text with the canonical names, and the values in their canonical form."""
    from polycast.config.yaml_scanner import parser

    overridden = _overridden(tree, dialect)
    if overridden:
        text = edit_yaml(text, overridden, _never_same)
    root = parser().compose(text) if text.strip() else None
    if root is None or type(root).__name__ != "MappingNode":
        return text
    splices = list(_Translator(text, view_of(dialect)).of_file(root))
    for splice in sorted(splices, key=lambda splice: splice.start, reverse=True):
        text = text[: splice.start] + splice.text + text[splice.end :]
    return text


def _overridden(tree: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return the changes that remove settings given under several names, except for the name that counts."""
    view = view_of(dialect)
    changes: dict[str, Any] = dict.fromkeys(_losers(tree, view.accepted), REMOVED)
    implied = _implied(tree, view)
    changes |= {key: REMOVED for key in tree if key in view.fields and view.fields[key].name in implied}
    paths = tree.get("paths")
    if isinstance(paths, Mapping):
        inner = {name: _losers(path, view.path_accepted) for name, path in paths.items() if isinstance(path, Mapping)}
        patches = {name: Patch(dict.fromkeys(keys, REMOVED)) for name, keys in inner.items() if keys}
        if patches:
            changes["paths"] = Patch(patches)
    defaults = tree.get("pathDefaults")
    removed = _losers(defaults, view.path_accepted) if isinstance(defaults, Mapping) else ()
    moved = {key: _plain(view, key, tree[key]) for key in tree if key in dialect.moved and tree[key] is not None}
    changes |= dict.fromkeys(dialect.moved & tree.keys(), REMOVED)
    if removed or moved:
        changes["pathDefaults"] = Patch({**dict.fromkeys(removed, REMOVED), **moved})
    return changes


def _plain(view: View, key: str, text: Any) -> Any:
    """Return a value of a path's setting as it is written: the texts of booleans need no quotes."""
    kind = view.path_fields[key].kind
    return kind.dump(kind.parse(text)) if kind is BOOLEAN else text


def _implied(tree: Mapping[str, Any], view: View) -> set[str]:
    """Return the Python names of settings that former names of others determine."""
    return {name for key in tree if tree[key] for name in view.implied.get(key, ())}


def _losers(values: Mapping[str, Any], fields: Mapping[str, Field]) -> list[str]:
    given = [key for key in fields if key in values]  # later ones win
    winners = {fields[key].canonical: key for key in given}
    return [key for key in given if winners[fields[key].canonical] != key]


class _Translator:
    """Finds what to replace in the text."""

    def __init__(self, text: str, view: View) -> None:
        self._text = text
        self._view = view
        self._seen: set[int] = set()
        """Maps that were translated already: those with an anchor come again."""

    def of_file(self, root: Any) -> Iterator[_Splice]:
        own = view_of(POLYCAST)
        yield from self._of_map(root, self._view.accepted, own.fields)
        for key, value in root.value:
            if key.value == "pathDefaults":
                yield from self._of_path(value)
            elif key.value == "paths" and type(value).__name__ == "MappingNode":
                for _, path in value.value:
                    yield from self._of_path(path)
            elif key.value == "dialect":
                yield _Splice(value.start_mark.index, value.end_mark.index, POLYCAST.name)

    def _of_path(self, node: Any) -> Iterator[_Splice]:
        if type(node).__name__ == "MappingNode":
            yield from self._of_map(node, self._view.path_accepted, view_of(POLYCAST).path_fields)

    def _of_map(self, node: Any, fields: Mapping[str, Field], own: Mapping[str, Field]) -> Iterator[_Splice]:
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        for key, value in node.value:
            field = fields.get(key.value)
            if field is None:
                continue
            if key.value != field.canonical:
                yield _Splice(key.start_mark.index, key.end_mark.index, field.canonical)
            yield from self._of_value(key, value, field, own[field.canonical])

    def _of_value(self, key: Any, value: Any, field: Field, own: Field) -> Iterator[_Splice]:
        if field.kind.parse is own.kind.parse or type(value).__name__ != "ScalarNode":
            return
        if value.start_mark.index == value.end_mark.index or str(value.tag).endswith(":null"):
            return  # the default
        if value.start_mark.index < key.end_mark.index:
            raise UneditableError(f"'{key.value}' is an alias")
        new = own.kind.dump(field.kind.parse(value.value))
        if _is_same_form(value.value, new, own):
            return
        words = {True: "true", False: "false"} if value.value in ("true", "false") else {True: "yes", False: "no"}
        text = yaml_text.flow(new) if isinstance(new, list) else yaml_text.scalar(new, words=words)
        yield _Splice(value.start_mark.index, value.end_mark.index, text)


def _is_same_form(old: str, new: Any, own: Field) -> bool:
    """Whether the text of a value has the same meaning in the own dialect, and can stay."""
    try:
        return bool(own.kind.parse(old) == own.kind.parse(new))
    except ConfigurationError:
        return False


# Defaults


def _additions(old: Configuration, tree: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return the settings to add because their defaults differ, in their JSON form."""
    if dialect is POLYCAST:
        return {}
    view, own = view_of(dialect), view_of(POLYCAST)
    given = {view.accepted[key].canonical for key in tree if key in view.accepted}
    implied = _implied(tree, view)
    given -= {key for key, field in own.fields.items() if field.name in implied}
    unused = {name for name, settings_of in SERVICES.items() if not settings_of(old).is_enabled}
    added = {}
    # Users cannot be combined with the credentials of paths.
    has_other_credentials = bool(old.external_authentication_url) or any(map(_has_credentials, old.paths.values()))
    for key, field in own.fields.items():
        value = field.of(old)
        if key == _USERS and has_other_credentials:
            continue
        if has_other_credentials and key in _SERVICE_ADDRESSES and key not in given:
            continue  # that of this machine is the default
        if key in given or value == field.default or any(key.startswith(name) for name in unused):
            continue
        added[key] = _brief(field.kind.dump(value))
    if any(_CAMERA in path.sources for path in old.paths.values()):
        defaults = _path_additions(old, tree, dialect)
        if defaults:
            added["pathDefaults"] = defaults
    return added


def _has_credentials(path: PathConfiguration) -> bool:
    return bool(path.publish_user or path.publish_ips or path.read_user or path.read_ips)


def _path_additions(old: Configuration, tree: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    given = tree.get("pathDefaults") or {}
    view, own = view_of(dialect), view_of(POLYCAST)
    names = {view.path_accepted[key].canonical for key in given if key in view.path_accepted}
    return {
        key: field.kind.dump(field.of(old.path_defaults))
        for key, field in own.path_fields.items()
        if key not in names and field.of(old.path_defaults) != field.default
    }


def _brief(value: Any) -> Any:
    """Return lists of maps without the keys whose values are empty."""
    if isinstance(value, list):
        return [_brief(item) for item in value]
    if isinstance(value, dict):
        return {key: _brief(item) for key, item in value.items() if item not in ("", [], None)}
    return value


def _with_additions(text: str, additions: Changes, dialect: Dialect) -> str:
    if not additions:
        return text
    plain = {key: value for key, value in additions.items() if key != "pathDefaults"}
    defaults = additions.get("pathDefaults")
    changes = {**plain, **({"pathDefaults": Patch(defaults)} if defaults else {})}
    comment = f"# Defaults of {dialect.name}\n"
    lines = "".join(yaml_text.entry(key, value, 0, 2, "\n") for key, value in plain.items())
    head = text if not text or text.endswith("\n") else f"{text}\n"
    commented = f"{head}\n{comment}{lines}"
    if defaults or not _is_block_map(text):
        return edit_yaml(text, changes, _never_same)
    return commented if _reads_as(commented, text, plain) else edit_yaml(text, changes, _never_same)


def _is_block_map(text: str) -> bool:
    from polycast.config.yaml_scanner import parser

    root: Any = parser().compose(text) if text.strip() else None
    return type(root).__name__ == "MappingNode" and not root.flow_style and root.start_mark.column == 0


def _reads_as(new: str, old: str, added: Mapping[str, Any]) -> bool:
    try:
        tree = read_yaml(new)[0]
    except ConfigurationError:
        return False
    return isinstance(tree, Mapping) and set(tree) == {*read_yaml(old)[0], *added}


# What changes


def _differences(old: Configuration, new: Configuration, dialect: Dialect) -> Iterator[str]:
    """Yield a line for each setting whose meaning changes."""
    own = view_of(POLYCAST)
    unused = {name for name, settings_of in SERVICES.items() if not settings_of(old).is_enabled}
    for key, field in own.fields.items():
        if field.of(old) != field.of(new) and not any(key.startswith(name) for name in unused):
            yield _changed(key, field, field.of(old), field.of(new))
    for name in old.paths:
        if name not in new.paths:
            yield f"the path '{name}' is another one now: this name stands for every path in Polycast's dialect"
    for name, path in new.paths.items():
        if name in old.paths:
            yield from _path_differences(name, old.paths[name], path)
    expressions = [name for name in old.paths if is_pattern(name)]
    if expressions != [name for name in new.paths if is_pattern(name)]:
        order = ", ".join("all_others" if name == ALL_PATHS else name for name in expressions)
        yield f"expressions are tried in the order of the file; {dialect.name} tried them in this one: {order}"


def _path_differences(name: str, old: PathConfiguration, new: PathConfiguration) -> Iterator[str]:
    is_camera = _CAMERA in old.sources
    for key, field in view_of(POLYCAST).path_fields.items():
        if field.of(old) != field.of(new) and (is_camera or not key.startswith(_CAMERA)):
            yield f"path '{name}': {_changed(key, field, field.of(old), field.of(new))}"


def _changed(key: str, field: Field, old: Any, new: Any) -> str:
    return f"{key} changes: it was {_value_text(field.kind.dump(old))}, and is {_value_text(field.kind.dump(new))}"


def _shown(key: str, value: Any) -> str:
    text = _value_text(value) if isinstance(value, list | tuple | Mapping) else yaml_text.scalar(value)
    return f"'{key}: {text}'"


def _value_text(value: Any) -> str:
    return yaml_text.flow(value)
