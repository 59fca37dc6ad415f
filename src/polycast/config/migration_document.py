"""Generates the tables of ``docs/migrate.md``, which say what differs between the dialects.

``python -m polycast.config.migration_document docs``
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from polycast.config.dialects.base import Deprecated, Dialect, Unsupported
from polycast.config.dialects.registry import LEGACY, MEDIAMTX, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.document import default_text
from polycast.config.fields import Field
from polycast.config.kinds import NEGATED, ORIGIN

_MARKS: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def updated(text: str) -> str:
    """Return the page with its generated parts as they are now. They are between marks with the name of a table."""
    return _MARKS.sub(lambda match: f"{match[1]}\n{_TABLES[match[2]]()}\n{match[3]}", text)


def _table(head: str, rows: Iterable[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows]) + "\n"


def _names() -> str:
    view = view_of(LEGACY)
    rows = []
    for field in (*view.fields.values(), *view.path_fields.values()):
        if field.key != field.canonical:
            form = {NEGATED: ", with the opposite value", ORIGIN: " (a list)"}.get(field.kind, "")
            rows.append(f"| `{field.key}` | `{field.canonical}`{form} |")
    return _table("| rtsp-simple-server v0.20 | Polycast, MediaMTX |", rows)


def _defaults_of(dialect: Dialect) -> str:
    own, other = view_of(POLYCAST), view_of(dialect)
    rows = [
        *_differing(own.fields, other.fields),
        *_differing(own.path_fields, other.path_fields),
    ]
    return _table(f"| setting | in `{dialect.file}` | in `{POLYCAST.file}` |", rows)


def _differing(own: Mapping[str, Field], other: Mapping[str, Field]) -> Iterator[str]:
    theirs = {field.canonical: field for field in other.values()}
    for key, field in own.items():
        if field.default != theirs[key].default:
            yield f"| `{key}` | {_default(theirs[key])} | {_default(field)} |"


def _default(field: Field) -> str:
    text = default_text(field)
    return f"`{text}`" if text else "empty"


def _former() -> str:
    return _table(
        "| former name | now |",
        [
            *_former_rows(MEDIAMTX.deprecated),
            *_former_rows(MEDIAMTX.path_deprecated),
            *(f"| `{key}`, as a global setting | `pathDefaults.{key}` |" for key in sorted(MEDIAMTX.moved)),
        ],
    )


def _former_rows(names: Mapping[str, Deprecated]) -> Iterator[str]:
    for key, name in names.items():
        opposite = ", with the opposite value" if name.kind is NEGATED else ""
        yield f"| `{key}` | `{name.canonical}`{opposite} |"


def _unsupported() -> str:
    rows = [*_unsupported_rows(MEDIAMTX.unsupported, ""), *_unsupported_rows(MEDIAMTX.path_unsupported, " of a path")]
    return _table("| setting | if it is used |", rows)


def _unsupported_rows(settings: Mapping[str, Unsupported], where: str) -> Iterator[str]:
    for key, setting in settings.items():
        what = "no effect" if setting.is_detail else "warning"
        text = f": {setting.text}" if setting.text else ""
        yield f"| `{key}`{where} | {what}{text} |"


_TABLES: Final = {
    "names": _names,
    "defaults_legacy": lambda: _defaults_of(LEGACY),
    "defaults_mediamtx": lambda: _defaults_of(MEDIAMTX),
    "former": _former,
    "unsupported": _unsupported,
}


def main(arguments: list[str] | None = None) -> None:
    """Update the page."""
    parser = argparse.ArgumentParser(description="Update the tables of the page about migration.")
    parser.add_argument("directory", type=Path, help="directory of the documentation")
    page = parser.parse_args(arguments).directory / "migrate.md"
    page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
