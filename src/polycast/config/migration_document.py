"""Generates the tables of ``docs/migrate.md``, which say what differs between the dialects.

``python -m polycast.config.migration_document docs``
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from polycast.config.dialects.base import Deprecated, Dialect, Unsupported
from polycast.config.dialects.registry import LEGACY, MEDIAMTX, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.document import default_text
from polycast.config.fields import Field
from polycast.config.generated import update_page, with_parts
from polycast.config.kinds import NEGATED, ORIGIN


def updated(text: str) -> str:
    """Return the page with its tables as they are now."""
    return with_parts(text, _TABLES)


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
    update_page("migrate.md", updated, arguments)


if __name__ == "__main__":
    main()
