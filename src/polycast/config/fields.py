"""The settings as a table: one ``Field`` per key, derived from the annotations of the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from polycast.config.annotations import description_of, kind_of, metadata_of
from polycast.config.declarations import declared_sections
from polycast.config.kinds import Kind
from polycast.config.marks import NEW, OWN_RULE, PATH, ZERO_IS_A_VALUE, Change, Heading
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.config.section import Section

_NO_SETTINGS: Final = frozenset({"paths", "sections", "dialect", "written", "pathDefaults", "given"})
"""Fields of ``Configuration`` and ``PathConfiguration`` that are read in their own ways."""


class Field(msgspec.Struct, frozen=True, eq=False):
    """One key of the configuration."""

    key: str
    """The key in files and in the API, such as ``hlsVariant``; in the table of a dialect, its name there."""
    canonical: str
    """The canonical key."""
    name: str
    """The Python name, such as ``hls_variant``."""
    kind: Kind
    default: Any
    description: str
    change: Change
    """The effect of a new value on a running server."""
    heading: str = ""
    """Title of the section of the documents that starts with the key; mostly empty."""
    is_new: bool = False
    """Whether rtsp-simple-server lacks the key."""
    zero_is_a_value: bool = False
    """Whether an empty value does not stand for the default."""
    has_own_rule: bool = False
    """Whether a rule between keys validates the number."""
    is_former: bool = False
    """Whether the key is a former name of the setting, which wins over the present one."""
    section: type[Section] | None = None
    """The protocol settings that it belongs to."""

    def of(self, settings: Configuration | PathConfiguration) -> Any:
        """Return its value."""
        if self.section is None or isinstance(settings, PathConfiguration):
            return getattr(settings, self.name)
        return getattr(settings[self.section], self.name)


def configuration_fields() -> Mapping[str, Field]:
    """The global keys without ``paths``, in the order of the documents: those of the server, then of the protocols."""
    return _configuration_fields(declared_sections())


@cache
def _configuration_fields(sections: tuple[type[Section], ...]) -> Mapping[str, Field]:
    """Raises TypeError if two keys have the same name."""
    fields = fields_of(Configuration)
    for section in sections:
        own = fields_of(section)
        if taken := fields.keys() & own.keys():
            raise TypeError(f"{section.__name__} has keys that there are already: {', '.join(sorted(taken))}")
        fields |= own
    return fields


def field_value(configuration: Configuration, key: str) -> Any:
    """Return the value of a global key."""
    return configuration_fields()[key].of(configuration)


def replace(configuration: Configuration, **values: Any) -> Configuration:
    """Return a configuration with changed settings, by their Python names; including the settings of protocols."""
    changed: dict[type[Section], dict[str, Any]] = {}
    for field in configuration_fields().values():
        if field.section is not None and field.name in values:
            changed.setdefault(field.section, {})[field.name] = values.pop(field.name)
    sections = dict(configuration.sections)
    for section, its_values in changed.items():
        sections[section] = msgspec.structs.replace(configuration[section], **its_values)
    # Without default ones, so that equal configurations compare equal.
    sections = {section: settings for section, settings in sections.items() if settings != section()}
    return msgspec.structs.replace(configuration, **values, sections=sections)


@cache
def path_fields() -> Mapping[str, Field]:
    """The keys of one path, in the order of the documents."""
    return fields_of(PathConfiguration, PATH)


def restart_keys(name: str) -> frozenset[str]:
    """The global keys whose change restarts the server or service of this name."""
    return frozenset(key for key, field in configuration_fields().items() if name in field.change.restarts)


@cache
def paths_description() -> str:
    """The description of the key ``paths``."""
    info = next(info for info in msgspec.structs.fields(Configuration) if info.encode_name == "paths")
    return description_of(info)


def fields_of(struct: type[msgspec.Struct], change: Change | None = None) -> dict[str, Field]:
    """The fields of a struct by key. ``change`` applies to the keys that declare none.

    Raises TypeError for a key without either.
    """
    infos = [info for info in msgspec.structs.fields(struct) if info.encode_name not in _NO_SETTINGS]
    section = struct if issubclass(struct, Section) else None
    fields = {info.encode_name: _field(info, change, section) for info in infos}
    return {field.key: field for field in _in_order(infos, fields)}


def _in_order(infos: Sequence[msgspec.structs.FieldInfo], fields: Mapping[str, Field]) -> Iterator[Field]:
    """Yield the fields section by section; those of a base class may belong behind others (`Heading.after`)."""
    sections: dict[str, list[Field]] = {}
    following: dict[str, str] = {}
    title = ""
    for info in infos:
        heading = next((mark for mark in metadata_of(info) if isinstance(mark, Heading)), None)
        if heading is not None:
            title = heading.title
            if heading.after:
                following[heading.after] = title
        sections.setdefault(title, []).append(fields[info.encode_name])
    for title, members in sections.items():
        if title not in following.values():
            yield from members
            if title in following:
                yield from sections[following[title]]


def _field(info: msgspec.structs.FieldInfo, change: Change | None, section: type[Section] | None) -> Field:
    marks = metadata_of(info)
    changes = [mark for mark in marks if isinstance(mark, Change)]
    if not changes and change is not None:
        changes = [change]
    if len(changes) != 1:
        raise TypeError(f"'{info.encode_name}' must say what a change of it does: LIVE or restarts(...)")
    return Field(
        info.encode_name,
        info.encode_name,
        info.name,
        kind_of(info),
        info.default,
        description_of(info),
        changes[0],
        heading=next((mark.title for mark in marks if isinstance(mark, Heading)), ""),
        is_new=NEW in marks,
        zero_is_a_value=ZERO_IS_A_VALUE in marks,
        has_own_rule=OWN_RULE in marks,
        section=section,
    )
