"""Field blocks that belong to no connection: integers and strings of RFC 7541, and what hpack reads."""

from __future__ import annotations

import hpack
import pytest
from tests.wire.http.support import DATE

from polycast.wire.http import response
from polycast.wire.http.response import Response


@pytest.mark.parametrize(
    ("value", "prefix", "expected"),
    [
        (10, 5, bytes([0b01010])),  # RFC 7541 appendix C.1.1
        (1337, 5, bytes([0b11111, 0b10011010, 0b00001010])),  # C.1.2
        (42, 8, bytes([0b00101010])),  # C.1.3
        (30, 5, bytes([30])),
        (31, 5, bytes([31, 0])),
        (127 + 127, 7, bytes([127, 127])),
        (127 + 128, 7, bytes([127, 128, 1])),
    ],
)
def test_integers(value: int, prefix: int, expected: bytes) -> None:
    assert response._integer(value, prefix) == expected


def test_a_literal_without_indexing() -> None:
    # RFC 7541 appendix C.2.2 has the name of entry 4 of the static table; C.2.1 a string.
    assert response._literal_name(4) + response._string(b"/sample/path") == bytes.fromhex(
        "040c2f73616d706c652f70617468"
    )
    assert response._string(b"custom-key") == bytes.fromhex("0a637573746f6d2d6b6579")


@pytest.mark.parametrize("status", [200, 204, 206, 301, 304, 400, 401, 404, 416, 500, 503])
def test_hpack_reads_the_block(status: int) -> None:
    headers = [
        (name, b"value of " + name) for name in response._NAME_INDEXES if name not in (b"date", b"content-length")
    ]
    headers += [(b"access-control-allow-credentials", b"true"), (b"location", b"/" * 5000), (b"x", b"")]
    made = Response(status, headers, b"body")
    decoder = hpack.Decoder()
    expected = [(b":status", b"%d" % status), *headers]
    if status not in (204, 304):
        expected.append((b"content-length", b"4"))
    for date in (DATE, b"another"):
        found = decoder.decode(made.http2_head(date), raw=True)
        assert found == [*expected, (b"date", date)]
    assert not decoder.header_table.dynamic_entries


def test_the_table_of_names() -> None:
    for name, index in response._NAME_INDEXES.items():
        assert hpack.table.HeaderTable.STATIC_TABLE[index - 1][0] == name
    for status, index in response._STATUS_INDEXES.items():
        assert hpack.table.HeaderTable.STATIC_TABLE[index - 1] == (b":status", b"%d" % status)
