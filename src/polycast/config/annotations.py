"""What the annotation of a field says: ``Annotated[type, kind and marks, Meta(description="...")]``."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from msgspec import Meta
from msgspec.structs import FieldInfo

from polycast.config.kinds import KIND_OF_TYPE, Kind


def metadata_of(info: FieldInfo) -> tuple[Any, ...]:
    """Return the type and everything that the annotation adds to it."""
    return get_args(info.type) if get_origin(info.type) is Annotated else (info.type,)


def kind_of(info: FieldInfo) -> Kind:
    """Return the kind in the annotation, otherwise the one of the type."""
    plain_type, *metadata = metadata_of(info)
    return next((item for item in metadata if isinstance(item, Kind)), None) or KIND_OF_TYPE[plain_type]


def description_of(info: FieldInfo) -> str:
    """Return the description for the documents and schemas."""
    return next(item.description or "" for item in metadata_of(info) if isinstance(item, Meta))
