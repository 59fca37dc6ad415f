"""The settings as a table: one ``Field`` per key, taken from the annotations of the schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin

import msgspec

from polycast.config.kinds import KIND_OF_TYPE, Kind
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


@cache
def configuration_fields() -> Mapping[str, Field]:
    """The global keys without ``paths``, in the order of the documents."""
    return _fields(Configuration)


@cache
def path_fields() -> Mapping[str, Field]:
    """The keys of one path, in the order of the documents."""
    return _fields(PathConfiguration)


@cache
def paths_description() -> str:
    """The description of the key ``paths``."""
    info = next(info for info in msgspec.structs.fields(Configuration) if info.encode_name == "paths")
    return _description(info)


def _fields(struct: type[msgspec.Struct]) -> dict[str, Field]:
    return {
        info.encode_name: Field(info.encode_name, info.name, _kind(info), info.default, _description(info))
        for info in msgspec.structs.fields(struct)
        if info.encode_name != "paths"
    }


def _metadata(info: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    return get_args(info.type) if get_origin(info.type) is Annotated else (info.type,)


def _kind(info: msgspec.structs.FieldInfo) -> Kind:
    plain_type, *metadata = _metadata(info)
    return next((item for item in metadata if isinstance(item, Kind)), None) or KIND_OF_TYPE[plain_type]


def _description(info: msgspec.structs.FieldInfo) -> str:
    return next(item.description or "" for item in _metadata(info) if isinstance(item, msgspec.Meta))
