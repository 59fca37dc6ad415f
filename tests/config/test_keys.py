"""Every setting by the table ``keys.yml``: type, default, valid values and those that are refused, former names."""

from __future__ import annotations

from typing import Any

import pytest
from tests.config.key_table import FORMER, FORMER_OF_PATH, ROWS, SERVERS, Row, file_of, yaml_of

from polycast.config import load_bytes, path_to_jsonable, to_jsonable
from polycast.config.annotations import kind_of
from polycast.config.dialects.base import Unsupported
from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.dialects.views import view_of
from polycast.config.fields import Field
from polycast.config.load import LoadedConfiguration
from polycast.config.struct_lists import StructListKind
from polycast.config.unsupported import plain
from polycast.errors import ConfigurationError

VIEW = view_of(MEDIAMTX)


def field_of(row: Row) -> Field | None:
    """Return the setting; None if it has no feature."""
    return (VIEW.path_fields if row.of_path else VIEW.fields).get(row.key)


def name_of(row: Row) -> str:
    return f"{'path-' if row.of_path else ''}{row.key}"


SUPPORTED = [row for row in ROWS if field_of(row) is not None]
OTHERS = [row for row in ROWS if field_of(row) is None]


def loaded(text: str) -> LoadedConfiguration:
    return load_bytes(text.encode(), {}, "mediamtx.yml", MEDIAMTX)


def shown(found: LoadedConfiguration, key: str, *, of_path: bool) -> Any:
    """Return a value as the API shows it."""
    values = to_jsonable(found.configuration, MEDIAMTX)
    return (values["paths"]["a"] if of_path else values)[key]


def test_every_setting_has_a_row() -> None:
    rows = [(row.of_path, row.key) for row in ROWS]
    assert len(rows) == len(set(rows))
    settings = {(False, key) for key in VIEW.fields} | {(True, key) for key in VIEW.path_fields}
    assert settings - set(rows) == set(), "write a row for each into tests/config/keys.yml (CONTRIBUTING.md says how)"
    without = {(row.of_path, row.key) for row in OTHERS}
    unsupported = {(False, key) for key in MEDIAMTX.unsupported} | {(True, key) for key in MEDIAMTX.path_unsupported}
    former = {(False, key) for key in FORMER} | {(True, key) for key in FORMER_OF_PATH}
    assert without - unsupported == set(), "neither a setting, nor one without a feature"
    assert {row.key for row in OTHERS if row.is_own} == set()
    assert unsupported - without - former == {(True, "playback")}, "it had only another place once"


@pytest.mark.parametrize("row", SUPPORTED, ids=name_of)
def test_type_default_and_what_a_change_restarts(row: Row) -> None:
    field = field_of(row)
    assert field is not None
    assert field.kind.label == row.type
    parsed = field.kind.parse(row.default)
    assert field.default == (parsed or field.default if row.key == "udpReadBufferSize" else parsed)
    assert field.change.restarts == row.restarts
    assert row.restarts <= ({"path"} if row.of_path else SERVERS)


@pytest.mark.parametrize("row", SUPPORTED, ids=name_of)
def test_valid_values(row: Row) -> None:
    for value in row.accepts:
        text = row.file(value.write)
        found = loaded(text)
        written = shown(found, row.key, of_path=row.of_path)
        assert written == (sorted(value.show) if row.type == "set" else value.show)
        sent_back = row.file(written)
        if sent_back != text:
            assert loaded(sent_back).configuration == found.configuration, "what the API shows can be sent back"


@pytest.mark.parametrize("row", [row for row in SUPPORTED if row.of_path], ids=name_of)
def test_values_in_the_defaults_of_paths(row: Row) -> None:
    for value in row.accepts:
        text = yaml_of({"pathDefaults": {**row.needs, row.key: value.write}, "paths": {"a": {}}})
        assert shown(loaded(text), row.key, of_path=True) == value.show


def as_variable(value: Any) -> str | None:
    """Return a value as it is written in a variable; None for lists of maps, which have variables of their own."""
    if isinstance(value, list):
        return ",".join(map(str, value)) if all(not isinstance(item, dict | list) for item in value) else None
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("row", SUPPORTED, ids=name_of)
def test_values_in_variables(row: Row) -> None:
    prefix = "MTX_PATHS_A_" if row.of_path else "MTX_"
    needs = file_of(row.needs, of_path=row.of_path)
    for value in row.accepts:
        written = as_variable(value.write)
        if written is not None:
            found = load_bytes(needs.encode(), {f"{prefix}{row.key.upper()}": written}, "mediamtx.yml", MEDIAMTX)
            assert shown(found, row.key, of_path=row.of_path) == (
                sorted(value.show) if row.type == "set" else value.show
            )


def keys_in(value: Any) -> set[str]:
    """Return the keys of all maps in a value."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, list) else set()


def keys_of(kind: StructListKind[Any]) -> set[str]:
    """Return the keys of a list of maps, and of the lists in them."""
    inside = (kind_of(info) for info in kind.keys.values())
    return set(kind.keys).union(*(keys_of(each) for each in inside if isinstance(each, StructListKind)))


@pytest.mark.parametrize("row", [row for row in SUPPORTED if row.type == "list of maps"], ids=name_of)
def test_every_key_of_a_list_of_maps_is_tried(row: Row) -> None:
    field = field_of(row)
    assert field is not None
    assert isinstance(field.kind, StructListKind)
    assert keys_of(field.kind) == keys_in([value.show for value in row.accepts])


@pytest.mark.parametrize("row", SUPPORTED, ids=name_of)
def test_wrong_values(row: Row) -> None:
    assert row.refuses
    for value in row.refuses:
        with pytest.raises(ConfigurationError) as caught:
            loaded(row.file(value.write))
        text = str(caught.value)
        assert value.error in text
        assert text.startswith("mediamtx.yml: line "), "the error has its place"
        assert row.key in text


def unsupported(row: Row) -> Unsupported:
    return (MEDIAMTX.path_unsupported if row.of_path else MEDIAMTX.unsupported)[row.key]


@pytest.mark.parametrize("row", OTHERS, ids=name_of)
def test_what_has_no_feature_is_said(row: Row) -> None:
    """The default says nothing about the user; other values are reported."""
    setting = unsupported(row)
    assert row.change is None, "it has no effect"
    assert plain(setting.default) == plain(row.default) or setting.is_detail
    assert loaded(file_of({row.key: row.default}, of_path=row.of_path)).warnings == []
    for value in row.accepts:
        if plain(value.write) in (plain(row.default), *map(plain, setting.harmless)):
            continue
        text = file_of({row.key: value.write}, of_path=row.of_path)
        if not setting.is_detail:
            (warning,) = loaded(text).warnings
            assert f"'{row.key}' has no effect: this version does not support it" in warning


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize(
    ("key", "of_path"),
    [*((key, False) for key in FORMER), *((key, True) for key in FORMER_OF_PATH)],
    ids=lambda value: value if isinstance(value, str) else "path" if value else "global",
)
def test_former_names_win(key: str, of_path: bool, order: str) -> None:
    row = (FORMER_OF_PATH if of_path else FORMER)[key]
    accepted = MEDIAMTX.moved if "." in row["now"] else VIEW.path_accepted if of_path else VIEW.accepted
    new = row["now"].removeprefix("pathDefaults.")
    if key not in accepted:
        assert key in (MEDIAMTX.path_unsupported if of_path else MEDIAMTX.unsupported)
        return
    (default,) = (each.default for each in ROWS if each.key == new and each.of_path == (of_path or "." in row["now"]))
    other = {new: other_than(row["write"], default)}
    other = {"pathDefaults": other} if "." in row["now"] else other
    values = {**other, key: row["write"]} if order == "before" else {key: row["write"], **other}
    found = loaded(file_of(values, of_path=of_path))
    if "." in row["now"]:
        value = path_to_jsonable(found.configuration.path_defaults, MEDIAMTX)[new]
    else:
        value = shown(found, new, of_path=of_path)
    assert value == row["show"]
    if key not in SILENT:
        assert f"parameter '{key}' is deprecated and has been replaced with '{row['now']}'" in found.warnings


SILENT = {"rtspUDPReadBufferSize"}
"""It sets something more special."""


def other_than(written: Any, default: Any) -> Any:
    """Return a value of the present name that must lose."""
    return default if default != written else not default if isinstance(default, bool) else "other"
