"""The configuration in API v3: read and changed under MediaMTX's names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_network
from typing import Any, Final

from polycast.config import path_to_jsonable
from polycast.config.dialects.base import Unsupported
from polycast.config.dialects.registry import MEDIAMTX, dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.dump import global_to_jsonable
from polycast.config.edits import (
    AddPath,
    Edit,
    EditPath,
    RemovePath,
    ReplacePath,
    ReplacePaths,
    SetKeys,
    SetPathDefaults,
)
from polycast.config.fields import Field
from polycast.config.names import ALL_PATHS, loaded_name
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.unsupported import has_effect
from polycast.control.errors import RequestError

HIDDEN: Final = "<redacted>"
"""Shown in place of a password; in a change, it stands for the present one."""

_PASSWORDS: Final = ("publishPass", "readPass")
_USERS: Final = "authInternalUsers"


def global_settings(configuration: Configuration) -> dict[str, Any]:
    """Return the global settings."""
    values = global_to_jsonable(configuration, MEDIAMTX)
    values.update(_under_former_names(configuration, configuration.written, view_of(MEDIAMTX).deprecated))
    values[_USERS] = [_as_shown(user) for user in values[_USERS]]
    return values


def path_defaults(configuration: Configuration) -> dict[str, Any]:
    """Return the defaults of paths."""
    return {"name": "", **_path_settings(path_to_jsonable(configuration.path_defaults, MEDIAMTX))}


def names(configuration: Configuration) -> list[str]:
    """Return the names of all paths as the file has them, sorted."""
    return sorted(shown_name(configuration, name) for name in configuration.paths)


def path(configuration: Configuration, name: str) -> dict[str, Any] | None:
    """Return the settings of a path, with the defaults; None if it does not exist."""
    found = configuration.paths.get(_loaded(configuration, name))
    if found is None:
        return None
    former = _under_former_names(found, found.given, view_of(MEDIAMTX).path_deprecated)
    return {"name": name, **_path_settings(path_to_jsonable(found, MEDIAMTX)), **former}


def _under_former_names(
    configuration: Configuration | PathConfiguration, names: Collection[str], former: Mapping[str, Field]
) -> dict[str, Any]:
    """Return the settings that were given under former names, under these: programs look for what they have set."""
    return {key: former[key].kind.dump(former[key].of(configuration)) for key in names if key in former}


def shown_name(configuration: Configuration, name: str) -> str:
    """Return the name of an entry of ``paths`` as its file has it."""
    if name != ALL_PATHS:
        return name
    names = dialect_of(configuration.dialect).names_of_all
    return next((name for name in names if name in configuration.written), names[0])


def _loaded(configuration: Configuration, name: str) -> str:
    return loaded_name(name, dialect_of(configuration.dialect).names_of_all)


def set_globals(configuration: Configuration, values: Mapping[str, Any]) -> Edit:
    """Return the edit for new global settings."""
    changes = _with_effect(values, MEDIAMTX.unsupported)
    if isinstance(changes.get(_USERS), list):
        changes[_USERS] = _with_passwords(changes[_USERS], global_to_jsonable(configuration, MEDIAMTX)[_USERS])
    return SetKeys(changes, MEDIAMTX)


def set_path_defaults(values: Mapping[str, Any]) -> Edit:
    """Return the edit for new defaults of paths."""
    return SetPathDefaults(_changed(values), MEDIAMTX)


def add_path(configuration: Configuration, name: str, values: Mapping[str, Any]) -> Edit:
    """Return the edit that adds a path. Raises RequestError."""
    if _loaded(configuration, name) in configuration.paths:
        raise RequestError(400, "path already exists")
    return AddPath(name, _changed(values), MEDIAMTX)


def edit_path(configuration: Configuration, name: str, values: Mapping[str, Any]) -> Edit:
    """Return the edit that changes some settings of a path. Raises RequestError."""
    _check_exists(configuration, name)
    return EditPath(name, _changed(values), MEDIAMTX)


def replace_path(configuration: Configuration, name: str, values: Mapping[str, Any]) -> Edit:
    """Return the edit that gives a path exactly these settings; it is added if it does not exist."""
    return ReplacePath(name, _whole(configuration, name, values), MEDIAMTX)


def replace_paths(configuration: Configuration, paths: Mapping[str, Any]) -> Edit:
    """Return the edit after which there are exactly these paths."""
    return ReplacePaths(
        {
            name: _whole(configuration, name, values) if isinstance(values, Mapping) else values
            for name, values in paths.items()
        },
        MEDIAMTX,
    )


def delete_path(configuration: Configuration, name: str) -> Edit:
    """Return the edit that removes a path. Raises RequestError."""
    _check_exists(configuration, name)
    return RemovePath(name)


def _check_exists(configuration: Configuration, name: str) -> None:
    if _loaded(configuration, name) not in configuration.paths:
        raise RequestError(404, "path not found")


def _whole(configuration: Configuration, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a path; a hidden password is the present one."""
    whole = _with_effect(values, MEDIAMTX.path_unsupported)
    whole.pop("name", None)
    old = configuration.paths.get(_loaded(configuration, name))
    for key in _PASSWORDS:
        if whole.get(key) == HIDDEN and old is not None:
            whole[key] = path_to_jsonable(old, MEDIAMTX)[key]
    return whole


def _changed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a body changes: null and a hidden password mean that the present value stays."""
    return {
        key: value
        for key, value in _with_effect(values, MEDIAMTX.path_unsupported).items()
        if key != "name" and not (key in _PASSWORDS and value == HIDDEN)
    }


def _with_effect(values: Mapping[str, Any], unsupported: Mapping[str, Unsupported]) -> dict[str, Any]:
    """Return a body without null, and without settings whose feature does not exist and is not used either: programs
    send back everything that MediaMTX has shown them."""
    return {
        key: value
        for key, value in values.items()
        if value is not None and (key not in unsupported or has_effect(value, unsupported[key]))
    }


def _path_settings(values: dict[str, Any]) -> dict[str, Any]:
    for key in _PASSWORDS:
        if values.get(key):
            values[key] = HIDDEN
    return values


def _as_shown(user: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user without the password; addresses are networks, as in MediaMTX."""
    shown = {**user, "pass": HIDDEN} if user.get("pass") else dict(user)
    return {**shown, "ips": [str(ip_network(address)) for address in user.get("ips", ())]}


def _with_passwords(users: list[Any], old: Any) -> list[Any]:
    """Return a list of users whose hidden passwords are those of the users of the same name before."""
    known = {user.get("user"): user.get("pass", "") for user in old}
    return [
        {**user, "pass": known.get(user.get("user"), "")}
        if isinstance(user, Mapping) and user.get("pass") == HIDDEN
        else user
        for user in users
    ]
