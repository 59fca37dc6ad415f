"""The settings as a dialect writes them: tables like those of ``fields.py``, with its keys, forms and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec

from polycast.config.declarations import declared_sections
from polycast.config.dialects.base import Deprecated, Dialect, Form
from polycast.config.fields import Field, configuration_fields, path_fields, replace
from polycast.config.kinds import ChoiceKind
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.config.section import Section


class View(msgspec.Struct, frozen=True, eq=False):
    """The tables of one dialect, by its keys."""

    fields: Mapping[str, Field]
    """The global settings, in the order of the documents."""
    path_fields: Mapping[str, Field]
    deprecated: Mapping[str, Field]
    """The settings under their former names."""
    path_deprecated: Mapping[str, Field]
    defaults: Configuration
    """What an empty file means."""
    implied: Mapping[str, Mapping[str, Any]]
    """The values that former names set in addition, by these names and Python names."""
    accepted: Mapping[str, Field]
    """The global settings under all names. Later ones win if a setting is given under several."""
    path_accepted: Mapping[str, Field]
    """The settings of a path under all names."""
    unknown_parameter: str
    """The error for a setting that does not exist, with %s for its name."""


def view_of(dialect: Dialect) -> View:
    """Return the tables of a dialect."""
    return _view(dialect, declared_sections())


@cache
def _view(dialect: Dialect, sections: tuple[type[Section], ...]) -> View:
    fields, of_path = configuration_fields(), path_fields()
    changed = {fields[key].name: fields[key].kind.parse(value) for key, value in dialect.defaults.items()}
    path = PathConfiguration(
        **{of_path[key].name: of_path[key].kind.parse(value) for key, value in dialect.path_defaults.items()}
    )
    defaults = replace(Configuration(dialect=dialect.name, path_defaults=path), **changed)
    globals_ = {key: _with_default(field, field.of(defaults)) for key, field in fields.items()}
    paths = {key: _with_default(field, field.of(path)) for key, field in of_path.items()}
    shown = _renamed(globals_, dialect.forms, dialect)
    path_shown = _renamed(paths, dialect.path_forms, dialect)
    deprecated = _former(globals_, dialect.deprecated, dialect)
    path_deprecated = _former(paths, dialect.path_deprecated, dialect)
    return View(
        fields=shown,
        path_fields=path_shown,
        deprecated=deprecated,
        path_deprecated=path_deprecated,
        accepted=MappingProxyType({**shown, **deprecated}),
        path_accepted=MappingProxyType({**path_shown, **path_deprecated}),
        unknown_parameter=dialect.unknown_parameter,
        defaults=defaults,
        implied={
            key: {fields[other].name: fields[other].kind.parse(value) for other, value in name.implied.items()}
            for key, name in dialect.deprecated.items()
            if name.implied
        },
    )


def _with_default(field: Field, default: object) -> Field:
    return field if default == field.default else msgspec.structs.replace(field, default=default)


def _renamed(fields: Mapping[str, Field], forms: Mapping[str, Form], dialect: Dialect) -> Mapping[str, Field]:
    made = [_in_form(field, forms.get(key, Form()), dialect) for key, field in fields.items()]
    return MappingProxyType({field.key: field for field in made})


def _in_form(field: Field, form: Form, dialect: Dialect) -> Field:
    kind = form.kind or dialect.kinds.get(field.kind, field.kind)
    if form.message and isinstance(kind, ChoiceKind):
        kind = kind.with_message(form.message)
    return msgspec.structs.replace(field, key=form.key or field.key, kind=kind)


def _former(fields: Mapping[str, Field], names: Mapping[str, Deprecated], dialect: Dialect) -> Mapping[str, Field]:
    made = {}
    for key, name in names.items():
        field = _in_form(fields[name.canonical], Form(key, name.kind), dialect)
        made[key] = msgspec.structs.replace(field, is_former=True)
    return MappingProxyType(made)
