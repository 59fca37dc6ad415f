"""Every container has a row for every codec, and docs/codecs.md says what the rows say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from polycast.app.codec_document import COLUMNS, NO, Column, updated
from polycast.media import codec_table
from polycast.media.codec import CODEC_TYPES, Codec
from polycast.media.codec_table import CodecTable

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "codecs.md"
CELLS = [(column, codec_type) for column in COLUMNS for codec_type in CODEC_TYPES]


def missing_rows(columns: Iterable[Column]) -> list[str]:
    """Return which codecs a container has forgotten, neither carried nor with a reason, and where to add them."""
    return [
        f"{column.name}: {codec_type.__name__}; see CODECS in {column.module.__name__}"
        for column in columns
        for codec_type in CODEC_TYPES
        if codec_type not in column.table.carried and codec_type not in column.table.not_carried
    ]


def test_the_document_says_what_the_code_does() -> None:
    text = DOCUMENT.read_text()
    assert text == updated(text), "run: python -m polycast.app.codec_document docs/"


def test_no_container_has_forgotten_a_codec() -> None:
    assert len(CODEC_TYPES) >= 22
    assert missing_rows(COLUMNS) == []


def test_a_forgotten_codec_is_found() -> None:
    table = CodecTable(dict.fromkeys(CODEC_TYPES[1:-1]), {"a reason": CODEC_TYPES[-1:]})
    columns = [Column("X", codec_table, table, lambda codec: NO, table.reason)]
    assert missing_rows(columns) == [f"X: {CODEC_TYPES[0].__name__}; see CODECS in polycast.media.codec_table"]


@pytest.mark.parametrize(("column", "codec_type"), CELLS, ids=lambda item: getattr(item, "name", ""))
def test_what_is_not_carried_has_a_reason(column: Column, codec_type: type[Codec]) -> None:
    codec = codec_type()
    assert not (codec_type in column.table.carried and codec_type in column.table.not_carried)
    if column.cell(codec) == NO:
        assert column.reason(codec)
    if codec in column.table:
        assert column.table[codec].codec_type is codec_type
