"""Header blocks against hpack as encoder and decoder; what connections share of them, and what they must not."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.http.cases import START, get
from tests.wire.http.support import converse

from polycast.wire.http import http2_headers
from polycast.wire.http.http2 import Http2Connection
from polycast.wire.http.http2_headers import KNOWN_SIZE, HeaderBlockCache, Table, decode
from polycast.wire.http.message import Request

NAMES = [b"a", b"cookie", b"user-agent", b":path", b":authority", b"x" * 300]
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=200)), max_size=12)
REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/a")]


@settings(deadline=None)
@given(st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=6))
def test_header_blocks_decode_like_hpack(blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]]) -> None:
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    table = HeaderBlockCache().empty
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=huffman)
        found, table = decode(table, block)
        assert found == fields
        assert decoder.decode(block, raw=True) == fields
        assert list(table.entries) == list(decoder.header_table.dynamic_entries)
        assert table.size == sum(len(name) + len(value) + 32 for name, value in table.entries) <= table.limit


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_block_ends_well(block: bytes) -> None:
    table = Table((), 4096, 0)
    try:
        found, after = decode(table, block)
    except hpack.HPACKError:
        return
    assert table.entries == ()
    assert hpack.Decoder().decode(block, raw=True) == found
    assert after.size <= after.limit


def ask(engine: Http2Connection, encoder: hpack.Encoder, stream: int, fields: list[tuple[bytes, bytes]]) -> Request:
    block = encoder.encode(fields)
    data = (START if stream == 1 else b"") + get(stream, block)
    [event], _, _ = converse(engine, [data])
    assert isinstance(event, Request)
    assert event.stream == stream
    return event


def test_connections_share_requests_and_tables() -> None:
    known = HeaderBlockCache()
    told = []
    tables = []
    for _ in range(2):
        engine, encoder = Http2Connection(known), hpack.Encoder()
        told.append([ask(engine, encoder, stream, [*REQUEST, (b"a", b"b")]) for stream in (1, 3, 5)])
        tables.append(engine._headers.table)
    for one, other in zip(*told, strict=True):
        assert one.headers is other.headers
        assert (one.method, one.target) == ("GET", b"/a")
        assert one is not other
    assert tables[0] is tables[1]
    alone, encoder = Http2Connection(HeaderBlockCache()), hpack.Encoder()
    assert ask(alone, encoder, 1, [*REQUEST, (b"a", b"b")]).headers == told[0][0].headers


@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"proxy-authorization"])
def test_secrets_stay_with_their_connection(name: bytes) -> None:
    known = HeaderBlockCache()
    tables = []
    for _ in range(2):
        engine, encoder = Http2Connection(known), hpack.Encoder()
        for stream in (1, 3):
            assert ask(engine, encoder, stream, [*REQUEST, (name, b"secret")]).fields[name] == b"secret"
        ask(engine, encoder, 5, REQUEST)
        tables.append(engine._headers.table)
    assert not known.empty.known
    assert not known._tables
    assert tables[0] is not tables[1]
    assert not tables[0].known


def test_what_is_known_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_headers, "KNOWN_LIMIT", 8)
    known = HeaderBlockCache()
    engine, encoder = Http2Connection(known), hpack.Encoder()
    for number in range(50):
        ask(engine, encoder, 1 + 2 * number, [*REQUEST[:3], (b":path", b"/%d" % number)])
        assert len(known._tables) <= 8
        assert sum(len(table.known) for table in (known.empty, *known._tables.values())) <= 8


def test_large_blocks_are_not_kept() -> None:
    known = HeaderBlockCache()
    engine, encoder = Http2Connection(known), hpack.Encoder()
    ask(engine, encoder, 1, [*REQUEST, (b"a", b"\xff" * KNOWN_SIZE)])
    assert not known.empty.known


def test_requests_with_bodies_are_not_cached() -> None:
    known = HeaderBlockCache()
    engine, encoder = Http2Connection(known), hpack.Encoder()
    converse(engine, [START + get(1, encoder.encode([*REQUEST, (b"content-length", b"3")]))])
    assert not known.empty.known
