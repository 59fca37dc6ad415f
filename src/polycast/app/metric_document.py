"""The tables of metrics in ``docs/metrics.md``, from what the protocols declare and from what all servers have.

``python -m polycast.app.metric_document docs`` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from polycast.config.generated import update_page, with_parts
from polycast.control.metrics import own
from polycast.control.metrics.exposition import Family
from polycast.control.metrics.mediamtx import (
    FORWARD_GROUP,
    FORWARD_LABELS,
    MOQ_GROUP,
    PATH_GROUPS,
    PATH_LABELS,
    READER_LABELS,
    READERS,
    groups_of,
)
from polycast.items import MetricBlock
from polycast.protocols.registry import metric_blocks, server_kinds


def updated(text: str) -> str:
    """Return the page with its tables as they are now."""
    return with_parts(text, _TABLES)


def _mediamtx() -> str:
    return "\n".join([_paths(), _forwards(), *_blocks(), _moq()])


def _paths() -> str:
    current, former = PATH_GROUPS
    rows = [
        _row([current.families[0]], PATH_LABELS),
        _row([READERS], READER_LABELS),
        *(_row([family]) for family in (*current.families[1:], *former.families)),
    ]
    return f"**Paths**; one of them: `path=mystream`\n\n{_table(rows)}"


def _forwards() -> str:
    first, *others = FORWARD_GROUP.families
    rows = [_row([first], FORWARD_LABELS), *(_row([family]) for family in others)]
    filters = "one of them: `forward_dest=<id>`, those of a path: `path=mystream`"
    return f"**{FORWARD_GROUP.title}**; {filters}\n\n{_table(rows)}"


def _moq() -> str:
    return f"**{MOQ_GROUP.title}**\n\n{_table([_row([family]) for family in MOQ_GROUP.families])}"


def _blocks() -> Iterator[str]:
    # Servers with and without TLS have the same.
    alike: list[list[MetricBlock]] = []
    for block in metric_blocks():
        same = next((found for found in alike if _shape(found[0]) == _shape(block)), None)
        if same is None:
            alike.append([block])
        else:
            same.append(block)
    for found in alike:
        yield _block(found)


def _shape(block: MetricBlock) -> tuple[object, ...]:
    kind = block.name.rpartition("_")[2]
    return kind, tuple(block.labels), block.columns, block.former


def _block(blocks: Sequence[MetricBlock]) -> str:
    families = [
        [
            family
            for group in groups_of(block.title, block.name, block.columns, block.former)
            for family in group.families
        ]
        for block in blocks
    ]
    titles = ", ".join(block.title for block in blocks)
    filters = ", ".join(f"`{block.parameter}=<{block.key}>`" for block in blocks)
    rows = [
        _row(same, tuple(blocks[0].labels) if not index else ())
        for index, same in enumerate(zip(*families, strict=True))
    ]
    return f"**{titles}**; one of them: {filters}\n\n{_table(rows)}"


def _own() -> str:
    parts = list(own.parts(kind.item for kind in server_kinds()))
    return _table(
        [
            _row([family], part.labels if not index else ())
            for part in parts
            for index, family in enumerate(part.families)
        ]
    )


def _table(rows: Sequence[str]) -> str:
    return "\n".join(["| metric | type | value |", "|---|---|---|", *rows]) + "\n"


def _row(families: Sequence[Family], labels: Sequence[str] = ()) -> str:
    """Return the row of metrics that differ only in the name of the server; the first one of a table has its labels."""
    named = "{" + ", ".join(sorted(labels)) + "}" if labels else ""
    names = ", ".join(f"`{family.name}{named}`" for family in families)
    first = families[0]
    return f"| {names} | {'counter' if first.grows else 'gauge'} | {first.meaning.removesuffix('.')} |"


_TABLES: Final = {"mediamtx": _mediamtx, "own": _own}


def main(arguments: list[str] | None = None) -> None:
    """Update the page."""
    update_page("metrics.md", updated, arguments)


if __name__ == "__main__":
    main()
