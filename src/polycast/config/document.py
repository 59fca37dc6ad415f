"""Generates the documents about the configuration from the schema: ``python -m polycast.config.document docs/``.

Writes ``configuration.md`` and ``configuration.schema.json`` into that directory, and ``polycast.yml`` next to it.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import DIALECTS, LEGACY, MEDIAMTX, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.fields import Field, paths_description
from polycast.config.kinds import BOOLEAN
from polycast.config.names import ALL_OTHERS
from polycast.config.spelling import environment_name
from polycast.config.values import Duration, Encryption

_PREFIX: Final = POLYCAST.prefixes[-1]
_DIALECT: Final = "The server whose names and defaults the file has, if its name does not tell."
_PATH_DEFAULTS: Final = """\
`pathDefaults`: settings of all paths that have no value of their own, such as `pathDefaults: {sourceOnDemand: yes}`.
The variable of one is `POLYCAST_PATHDEFAULTS_<SETTING>`.
"""

YAML_WIDTH: Final = 100  # characters; comment lines of polycast.yml are not longer

_YAML_HEAD: Final = """\
Configuration of Polycast. Every setting is listed with its default value; settings that you do not change can be
left out. Any setting can also be given as an environment variable, for example POLYCAST_RTSPADDRESS=:9554 for
rtspAddress or POLYCAST_PATHS_CAM1_SOURCE=rtsp://camera/stream for the source of the path 'cam1'. Durations have a unit
(200ms, 10s, 1m30s, 1d), as do sizes (512K, 50M, 1G; multiples of 1024). An address is host:port, or :port for every
interface.
"""

_PATHS_EXAMPLE: Final = """\
A path for one camera, in addition to 'all_others', looks like this:
  cam1:
    source: rtsp://user:password@192.168.1.20:554/stream
"""

_MARKDOWN_HEAD: Final = """\
# Configuration

This page is generated from the source by `python -m polycast.config.document docs/`; edit the descriptions there.
For editor support, there is also a JSON schema: [configuration.schema.json](configuration.schema.json).

The configuration is a YAML file. Settings missing from the file use their default values. Environment variables
override the file, and also work without one:

- The variable of a setting is `POLYCAST_` and the setting in upper case: `POLYCAST_HLSVARIANT=fmp4`.
- Lists are separated by commas: `POLYCAST_RTSPTRANSPORTS=tcp,udp`.
- Lists of maps are JSON: `POLYCAST_WEBRTCICESERVERS2=[{"url": "stun:stun.example.com"}]`. Each value of an item also
  has its own variable, with the number of the item from 0: `POLYCAST_WEBRTCICESERVERS2_0_URL=stun:stun.example.com`. It
  changes an item of the list, or adds the next one.
- The variable of a path's setting is `POLYCAST_PATHS_<NAME>_<SETTING>`:
  `POLYCAST_PATHS_CAM1_SOURCE=rtsp://camera/stream`. The name is converted to lower case and cannot contain underscores.
  `POLYCAST_PATHS_CAM1=` alone creates the path.

## Dialects

The names on this page are those of MediaMTX v1, and Polycast's own. A file may also be written as for the other
servers:

| dialect | file | variables |
|---|---|---|
| `polycast`: this page | `polycast.yml` | `POLYCAST_...` |
| `mediamtx`: MediaMTX v1 | `mediamtx.yml` | `MTX_...` (and, before them, `RTSP_...`) |
| `rtsp-simple-server`: rtsp-simple-server v0.20 | `rtsp-simple-server.yml` | `RTSP_...` |

The name of the file chooses the dialect; the setting `dialect: mediamtx` or the option `--dialect mediamtx` overrides
it.
The settings of a file with another name tell which one it is; if they can't, the prefix of the variables does, and
otherwise it is that of rtsp-simple-server. Without a file, the variables choose, and otherwise it is `polycast`.

Names and defaults that differ are listed here at each setting, and for each of the other servers in
[migrate.md](migrate.md). `polycast migrate old.yml` translates a file. The former names of settings are accepted with a
warning.

## Included files

`include: conf.d/*.yml`, or a list of names and patterns, adds the settings of other files. They are relative to the
file that includes them, have its dialect, and cannot include others. `paths` and `pathDefaults` are put together from
all files; otherwise, a setting, and the name of a path, can only be in one of them. A change of any file reloads all.
Changes through the API are not written into included files, and a text that the console or the API puts in the place
of the configuration can only include files in the folder of the configuration that end with `.yml` or `.yaml` (none if
that is the root directory), or those included before.

## Values

| type | format |
|---|---|
| boolean | `yes`, `no`, `true`, `false`, `on` or `off` |
| duration | numbers with units: `200ms`, `10s`, `1m30s`, `2h` |
| size | a number with a unit: `512K`, `50M`, `1.5G`; all units are multiples of 1024 |
| address | `host:port`, `[IPv6]:port`, or `:port` for every interface |
| credential | letters, digits and `!$()*+.;<=>[]^_-{}`, or [a hash](authentication.md#hashed-credentials) |
| list, set | `[one, two]`; an empty list means the default |
| list of maps | `[{key: value, ...}, ...]` |

`0`, `0s` and an empty string mean the default unless stated otherwise.

If the variable `POLYCAST_CONFKEY`, `MTX_CONFKEY` or `RTSP_CONFKEY` is set, the file is
[encrypted](encrypted-configuration.md).

Settings marked *new* do not exist in rtsp-simple-server v0.20.0, but are accepted in its dialect.
"""


def polycast_yml() -> str:
    """The text of the default configuration file."""
    lines = [_comment(_YAML_HEAD)]
    view = view_of(POLYCAST)
    for field in view.fields.values():
        if field.heading:
            lines.append(_yaml_section(field.heading, ""))
        lines.append(_yaml_setting(field, ""))
    lines.append(_yaml_section("Paths", ""))
    example = textwrap.indent(_PATHS_EXAMPLE, "# ")
    lines.append(f"{_comment(paths_description())}#\n{example}")
    lines.append(f"paths:\n  {ALL_OTHERS}:\n")
    for field in view.path_fields.values():
        if field.heading:
            lines.append(_yaml_section(field.heading, "    "))
        lines.append(_yaml_setting(field, "    "))
    return "\n".join(lines)


def configuration_markdown() -> str:
    """The text of ``configuration.md``."""
    sections = [_MARKDOWN_HEAD]
    view = view_of(POLYCAST)
    for field in view.fields.values():
        if field.heading:
            sections.append(f"## {field.heading}\n")
        sections.append(_markdown_setting(field, environment_name(field.key, _PREFIX)))
    sections.append(f"## Paths\n\n`paths`: {paths_description()}\n\n{_PATH_DEFAULTS}")
    for field in view.path_fields.values():
        if field.heading:
            sections.append(f"## Paths: {field.heading}\n")
        sections.append(_markdown_setting(field, f"{environment_name('paths', _PREFIX)}_<NAME>_{field.key.upper()}"))
    return "\n".join(sections)


def configuration_schema() -> dict[str, Any]:
    """The JSON Schema of configuration files."""
    view = view_of(POLYCAST)
    path = _object_schema(view.path_accepted.values())
    path["type"] = ["object", "null"]
    schema = _object_schema(view.accepted.values())
    schema["properties"]["dialect"] = {"description": _DIALECT, "enum": list(DIALECTS)}
    schema["properties"]["include"] = {
        "description": "Names or patterns of other files with settings, such as conf.d/*.yml.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    schema["properties"]["pathDefaults"] = {
        "description": "Settings of all paths that have no value of their own.",
        "$ref": "#/$defs/path",
    }
    schema["properties"]["paths"] = {
        "description": paths_description(),
        "type": ["object", "null"],
        "additionalProperties": {"$ref": "#/$defs/path"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Polycast",
        **schema,
        "$defs": {"path": path},
    }


def documents(directory: Path) -> dict[Path, str]:
    """The text of each document by its path; ``directory`` is the documentation folder."""
    return {
        directory / "configuration.md": configuration_markdown(),
        directory / "configuration.schema.json": json.dumps(configuration_schema(), indent=2, ensure_ascii=False)
        + "\n",
        directory.parent / "polycast.yml": polycast_yml(),
    }


def default_text(field: Field) -> str:
    """The default of a setting as written in a file."""
    value = field.kind.dump(field.default)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _flow(value)
    if isinstance(field.default, Duration):
        return re.sub(r"(?<=[hm])0[ms]", "", re.sub(r"(?<=m)0s", "", value))
    if (
        value == ""
        or isinstance(field.default, Encryption)
        or not re.match(r"[\w:.]", str(value))
        or field.canonical == "rpiCameraH264Level"
    ):
        return f'"{value}"' if value else ""
    return str(value)


def _flow(value: Any) -> str:
    """Return a list or map in YAML's flow style, without the keys whose values are empty."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(item)}' for key, item in value.items() if item not in ('', []))}}}"
    return str(value) if re.match(r"[\w:.]", str(value)) else json.dumps(value)


def allowed_values(field: Field) -> list[str]:
    """The values that a choice, or an item of a list of choices, can have; empty for all other settings."""
    if field.kind.label == BOOLEAN.label:
        return []
    if isinstance(field.default, Encryption):
        return ["no", "optional", "strict"]
    values: list[str] = field.kind.schema.get("enum") or field.kind.schema.get("items", {}).get("enum") or []
    return values


def _comment(text: str, indent: str = "") -> str:
    width = YAML_WIDTH - len(indent)
    lines = textwrap.wrap(" ".join(text.split()), width, initial_indent="# ", subsequent_indent="# ")
    return "".join(f"{indent}{line}\n" for line in lines)


def _yaml_section(title: str, indent: str) -> str:
    rule = "#" * (YAML_WIDTH - len(indent) - len(title) - 4)
    return f"{indent}## {title} {rule}\n"


def _yaml_setting(field: Field, indent: str) -> str:
    return _comment(field.description, indent) + f"{indent}{field.key}: {default_text(field)}".rstrip() + "\n"


def _markdown_setting(field: Field, variable: str) -> str:
    facts = [f"Type: {field.kind.label}"]
    facts.append(f"default: `{default_text(field)}`" if default_text(field) else "default: empty")
    if allowed_values(field):
        facts.append("values: " + ", ".join(f"`{value}`" for value in allowed_values(field)))
    facts.append(f"variable: `{variable}`")
    new = " *(new)*" if field.is_new else ""
    elsewhere = "".join(f" {text}" for dialect in (LEGACY, MEDIAMTX) if (text := _elsewhere(field, dialect)))
    return f"### `{field.key}`{new}\n\n{field.description}\n\n{'; '.join(facts)}.{elsewhere}\n"


def _elsewhere(field: Field, dialect: Dialect) -> str:
    """Return what differs in another dialect; empty if nothing does."""
    other = in_dialect(field, dialect)
    facts = [f"`{other.key}`"] if other.key != field.key else []
    if default_text(other) != default_text(field) or (facts and other.kind.dump is not field.kind.dump):
        facts.append(f"default: {f'`{default_text(other)}`' if default_text(other) else 'empty'}")
    return f"In `{dialect.file}`: {', '.join(facts)}." if facts else ""


def in_dialect(field: Field, dialect: Dialect) -> Field:
    """Return the same setting in another dialect."""
    view = view_of(dialect)
    is_global = any(each.canonical == field.canonical and each.name == field.name for each in view.fields.values())
    fields = view.fields if is_global else view.path_fields
    return next(each for each in fields.values() if each.canonical == field.canonical)


def _object_schema(fields: Iterable[Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.key: _property_schema(field) for field in fields},
    }


def _property_schema(field: Field) -> dict[str, Any]:
    return {
        "description": field.description,
        "default": field.kind.dump(field.default),
        "anyOf": [dict(field.kind.schema), {"type": "null"}],
        **({"deprecated": True} if field.is_former else {}),
    }


def main(arguments: list[str] | None = None) -> None:
    """Write the documents."""
    parser = argparse.ArgumentParser(description="Make the documents about the configuration.")
    parser.add_argument(
        "directory", type=Path, help="directory of the documentation; polycast.yml is written beside it"
    )
    for path, text in documents(parser.parse_args(arguments).directory.resolve()).items():
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
