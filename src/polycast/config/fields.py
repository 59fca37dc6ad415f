"""The settings as a table: one ``Field`` per key, taken from the annotations of the schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin

import msgspec

from polycast.config.kinds import KIND_OF_TYPE, Kind
from polycast.config.marks import NEW, PATH, ZERO_IS_A_VALUE, Change, Heading
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration


class Field(msgspec.Struct, frozen=True, eq=False):
    """One key of the configuration."""

    key: str
    """The key in files and in the API, such as ``hlsVariant``."""
    name: str
    """The Python name, such as ``hls_variant``."""
    kind: Kind
    default: Any
    description: str
    change: Change
    """What a new value does to a server that runs."""
    heading: str = ""
    """Title of the section of the documents that begins with the key; mostly empty."""
    is_new: bool = False
    """Whether rtsp-simple-server does not have the key."""
    zero_is_a_value: bool = False
    """Whether an empty value is not a way to ask for the default."""


@cache
def configuration_fields() -> Mapping[str, Field]:
    """The global keys without ``paths``, in the order of the documents."""
    return fields_of(Configuration)


@cache
def path_fields() -> Mapping[str, Field]:
    """The keys of one path, in the order of the documents."""
    return fields_of(PathConfiguration, PATH)


@cache
def restart_keys(name: str) -> frozenset[str]:
    """The global keys whose change restarts the server or service of this name."""
    return frozenset(key for key, field in configuration_fields().items() if name in field.change.restarts)


@cache
def paths_description() -> str:
    """The description of the key ``paths``."""
    info = next(info for info in msgspec.structs.fields(Configuration) if info.encode_name == "paths")
    return _description(info)


def fields_of(struct: type[msgspec.Struct], change: Change | None = None) -> dict[str, Field]:
    """The fields of a struct by key. ``change`` is that of every key; None: each key says what its own is.

    Raises TypeError for a key that does not.
    """
    infos = [info for info in msgspec.structs.fields(struct) if info.encode_name != "paths"]
    return {info.encode_name: _field(info, change) for info in infos}


def _field(info: msgspec.structs.FieldInfo, change: Change | None) -> Field:
    marks = _metadata(info)
    changes = [mark for mark in marks if isinstance(mark, Change)] if change is None else [change]
    if len(changes) != 1:
        raise TypeError(f"'{info.encode_name}' must say what a change of it does: LIVE or restarts(...)")
    return Field(
        info.encode_name,
        info.name,
        _kind(info),
        info.default,
        _description(info),
        changes[0],
        heading=next((mark.title for mark in marks if isinstance(mark, Heading)), ""),
        is_new=NEW in marks,
        zero_is_a_value=ZERO_IS_A_VALUE in marks,
    )


def _metadata(info: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    return get_args(info.type) if get_origin(info.type) is Annotated else (info.type,)


def _kind(info: msgspec.structs.FieldInfo) -> Kind:
    plain_type, *metadata = _metadata(info)
    return next((item for item in metadata if isinstance(item, Kind)), None) or KIND_OF_TYPE[plain_type]


def _description(info: msgspec.structs.FieldInfo) -> str:
    return next(item.description or "" for item in _metadata(info) if isinstance(item, msgspec.Meta))
