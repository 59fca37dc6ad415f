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

from polycast.config.fields import Field, configuration_fields, path_fields, paths_description
from polycast.config.kinds import BOOLEAN, ENCRYPTION
from polycast.config.names import ALL_PATHS_ALIAS
from polycast.config.spelling import environment_name
from polycast.config.values import Duration

YAML_WIDTH: Final = 100  # characters; comment lines of polycast.yml are not longer

_YAML_HEAD: Final = """\
Configuration of Polycast. Every setting is listed with its default value; settings that you do not change can be
left out. Any setting can also be given as an environment variable, for example RTSP_RTSPADDRESS=:9554 for rtspAddress
or RTSP_PATHS_CAM1_SOURCE=rtsp://camera/stream for the source of the path 'cam1'. Durations have a unit (200ms, 10s,
1m30s), as do sizes (512K, 50M, 1G; multiples of 1024). An address is host:port, or :port for every interface.
"""

_PATHS_EXAMPLE: Final = """\
A path for one camera, in addition to 'all', looks like this:
  cam1:
    source: rtsp://user:password@192.168.1.20:554/stream
"""

_MARKDOWN_HEAD: Final = """\
# Configuration

This page is generated from the source by `python -m polycast.config.document docs/`; edit the descriptions there.
For editor support, there is also a JSON schema: [configuration.schema.json](configuration.schema.json).

The configuration is a YAML file. Settings missing from the file use their default values. Environment variables
override the file, and also work without one:

- The variable of a setting is `RTSP_` and the setting in upper case: `RTSP_HLSVARIANT=fmp4`.
- Lists are separated by commas: `RTSP_PROTOCOLS=tcp,udp`.
- Lists of maps are JSON: `RTSP_WEBRTCICESERVERS2=[{"url": "stun:stun.example.com"}]`. Each value of an item also has
  its own variable, with the number of the item from 0: `RTSP_WEBRTCICESERVERS2_0_URL=stun:stun.example.com`. It changes
  an item of the list, or adds the next one.
- The variable of a path's setting is `RTSP_PATHS_<NAME>_<SETTING>`: `RTSP_PATHS_CAM1_SOURCE=rtsp://camera/stream`. The
  name is converted to lower case and cannot contain underscores. `RTSP_PATHS_CAM1=` alone creates the path.

Values:

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

If the variable `RTSP_CONFKEY` is set, the file is [encrypted](encrypted-configuration.md).

Settings marked *new* do not exist in rtsp-simple-server v0.20.0.
"""


def polycast_yml() -> str:
    """The text of the default configuration file."""
    lines = [_comment(_YAML_HEAD)]
    for field in configuration_fields().values():
        if field.heading:
            lines.append(_yaml_section(field.heading, ""))
        lines.append(_yaml_setting(field, ""))
    lines.append(_yaml_section("Paths", ""))
    example = textwrap.indent(_PATHS_EXAMPLE, "# ")
    lines.append(f"{_comment(paths_description())}#\n{example}")
    lines.append(f"paths:\n  {ALL_PATHS_ALIAS}:\n")
    for field in path_fields().values():
        if field.heading:
            lines.append(_yaml_section(field.heading, "    "))
        lines.append(_yaml_setting(field, "    "))
    return "\n".join(lines)


def configuration_markdown() -> str:
    """The text of ``configuration.md``."""
    sections = [_MARKDOWN_HEAD]
    for field in configuration_fields().values():
        if field.heading:
            sections.append(f"## {field.heading}\n")
        sections.append(_markdown_setting(field, environment_name(field.key)))
    sections.append(f"## Paths\n\n`paths`: {paths_description()}\n")
    for field in path_fields().values():
        if field.heading:
            sections.append(f"## Paths: {field.heading}\n")
        sections.append(_markdown_setting(field, f"{environment_name('paths')}_<NAME>_{field.key.upper()}"))
    return "\n".join(sections)


def configuration_schema() -> dict[str, Any]:
    """The JSON Schema of configuration files."""
    path = _object_schema(path_fields().values())
    path["type"] = ["object", "null"]
    schema = _object_schema(configuration_fields().values())
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
    if value == "" or field.kind is ENCRYPTION or not re.match(r"[\w:.]", str(value)) or field.key == "rpiCameraLevel":
        return f'"{value}"' if value else ""
    return str(value)


def _flow(value: Any) -> str:
    """Return a list or map in YAML's flow style, without the keys whose values are empty."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(item)}' for key, item in value.items() if item not in ('', []))}}}"
    return str(value)


def allowed_values(field: Field) -> list[str]:
    """The values that a choice, or an item of a list of choices, can have; empty for all other settings."""
    if field.kind is BOOLEAN:
        return []
    if field.kind is ENCRYPTION:
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
    return f"### `{field.key}`{new}\n\n{field.description}\n\n{'; '.join(facts)}.\n"


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
