"""HLS servers that send too much, too little or for ever: memory is bounded, the loop goes on, the attempt ends."""

from __future__ import annotations

import asyncio
import functools
import gzip
import re
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

import pytest
from tests.protocols.rtsp.support import running
from tests.protocols.sources.test_hls_source import (
    assert_same,
    at_once,
    ffmpeg,
    media,
    package,
    pull_all,
    pull_from,
    pulling,
)
from tests.protocols.sources.web import Answer, web
from tests.support.listeners import serving
from tests.wire.hls.streams import AUDIO, VIDEO, audio, track

from polycast.protocols.hls import source
from polycast.protocols.hls.source_demuxer import PackedAudioDemuxer, PieceDemuxer
from polycast.protocols.hls.source_http import PIECE_SIZE, Fetcher
from polycast.protocols.hls.source_playlist import Piece
from polycast.protocols.pull import PullError
from polycast.wire.hls.parsed import ByteRange
from polycast.wire.mpegts.muxer import Muxer as TransportMuxer

__all__ = ["at_once", "media"]

LIVE = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfirst.ts\n#EXTINF:2,\nsecond.ts\n"
MEGABYTE = 1024 * 1024


@asynccontextmanager
async def dripping(head: bytes, piece: bytes, seconds: float) -> AsyncIterator[str]:
    """A server that answers each request with ``head`` and then a piece now and then, for ever; yields its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                if b".m3u8" in request.split(b" ")[1] and head:
                    body = LIVE
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                while True:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(seconds)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async with serving(serve) as port:
        yield f"http://127.0.0.1:{port}/stream.m3u8"


@pytest.mark.parametrize("in_playlist", [True, False])
async def test_a_byte_now_and_then_does_not_keep_a_source_connecting(
    in_playlist: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SHORTEST_START_SECONDS", 0.3)
    head = b"" if in_playlist else LIVE
    async with dripping(head, b"\x47", 0.05) as url, running(paths=pulling(url), readTimeout="100ms") as app:
        await app.log.wait(r"failed: (no stream within 0\.3 s|not received within 0\.2 s)")


async def test_a_large_segment_is_read_while_it_is_played(
    media: dict[str, Any], tmp_path: FilePath, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has its turn between slices, however large a segment is."""
    files = package(media, tmp_path, "-hls_time", "10")
    turns = 0
    seen: list[tuple[int, int]] = []
    feed = PieceDemuxer.feed

    def noting(self: PieceDemuxer, data: bytes) -> Any:
        seen.append((turns, len(data)))
        return feed(self, data)

    monkeypatch.setattr(PieceDemuxer, "feed", noting)
    loop = asyncio.get_running_loop()

    def count() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(count)

    count()
    assert_same(await pull_all(files, "stream.m3u8"), media)
    assert max(size for _, size in seen) <= source.LARGEST_SLICE_SIZE
    assert len({turn for turn, _ in seen}) == len(seen), "two slices without a turn between them"


@pytest.mark.parametrize("knows_ranges", [True, False])
async def test_an_interrupted_download_resumes(
    knows_ranges: bool, media: dict[str, Any], tmp_path: FilePath, at_once: None
) -> None:
    files = package(media, tmp_path)
    whole = files["stream1.ts"]
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                name = head.split(" ")[1].removeprefix("/")
                body, status = files[name], 200
                found = re.search(r"\r\nrange: bytes=(\d+)-", head, re.IGNORECASE)
                if name == "stream1.ts":
                    asked.append(found[1] if found else "")
                if found and knows_ranges:
                    body, status = body[int(found[1]) :], 206
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
                if name == "stream1.ts" and len(asked) == 1:
                    writer.write(body[: len(body) // 2])
                    break
                writer.write(body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async with serving(serve) as port:
        assert_same(await pull_from(f"http://127.0.0.1:{port}/stream.m3u8"), media)
    assert asked == ["", str(len(whole) // 2)]


async def fetch(answer: Answer, read: Callable[[Fetcher, str], Any]) -> Any:
    async with web() as origin:
        origin.script = lambda path: answer
        fetcher = Fetcher(origin.url("file"), "", 5)
        try:
            return await read(fetcher, origin.url("file"))
        finally:
            await fetcher.close()


async def total(fetcher: Fetcher, url: str, limit: int = 1000 * MEGABYTE) -> int:
    size = 0
    async with fetcher.open(url, limit) as body:
        async for piece in body.pieces:
            assert 0 < len(piece) <= PIECE_SIZE
            size += len(piece)
    return size


@functools.cache
def bomb(megabytes: int) -> bytes:
    """Return zeros, compressed to a thousandth."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(squeeze.compress(bytes(MEGABYTE)) for _ in range(megabytes)), squeeze.flush()])


async def test_compressed_files_are_unpacked_piece_by_piece() -> None:
    answer = Answer(200, bomb(100), {"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        assert await fetch(answer, total) == 100 * MEGABYTE
        assert tracemalloc.get_traced_memory()[1] < 8 * MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("window", [None, ByteRange(10**15, 10)])
async def test_others_have_their_turn_while_a_file_is_unpacked(window: ByteRange | None) -> None:
    """A reader that waits for nothing, as for pieces that are thrown away, would hold the loop: 64 MiB in one read."""
    answer = Answer(200, bomb(50), {"Content-Encoding": "gzip"})
    loop = asyncio.get_running_loop()
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(count)

    async def read(fetcher: Fetcher, url: str) -> list[int]:
        seen = []
        async with fetcher.open(url, 100 * MEGABYTE, byte_range=window) as body:
            async for _ in body.pieces:
                seen.append(turns)
        return seen

    count()
    seen = await fetch(answer, read)
    assert len(seen) >= 50 * MEGABYTE // PIECE_SIZE, "the time that a download takes is checked between pieces"
    assert len(set(seen)) == len(seen), "two pieces without a turn between them"


async def test_limits_hold_for_what_was_unpacked() -> None:
    answer = Answer(200, bomb(50), {"Content-Encoding": "gzip"})
    with pytest.raises(PullError, match="larger than 1000000 bytes"):
        await fetch(answer, lambda fetcher, url: fetcher.get(url, 1_000_000))
    with pytest.raises(PullError, match="content coding 'br', which is not supported"):
        await fetch(Answer(200, b"x", {"Content-Encoding": "br"}), total)
    with pytest.raises(PullError):
        await fetch(Answer(200, b"no gzip at all", {"Content-Encoding": "gzip"}), total)


async def test_playlists_may_be_compressed() -> None:
    answer = Answer(200, gzip.compress(LIVE), {"Content-Encoding": "gzip"})
    download = await fetch(answer, lambda fetcher, url: fetcher.get_playlist(url))
    assert download.data == LIVE


@pytest.mark.parametrize(("start", "length"), [(0, 10), (100_000, 5), (65_530, 20), (199_990, 500)])
async def test_ranges_of_servers_that_do_not_know_them(start: int, length: int) -> None:
    data = bytes(index * 7 % 251 for index in range(200_000))
    window = ByteRange(start, length)
    download = await fetch(Answer(200, data), lambda fetcher, url: fetcher.get(url, 1000, byte_range=window))
    assert download.data == data[start : start + length]


async def test_what_failed_leaves_nothing_in_memory(at_once: None) -> None:
    """A traceback kept each failed segment until the collector ran."""
    segment = bytes((0x47,)) * MEGABYTE
    files = {"stream.m3u8": LIVE + b"#EXT-X-ENDLIST\n", "first.ts": segment, "second.ts": segment}
    async with web(files) as origin, running(paths=pulling(origin.url("stream.m3u8"))) as app:
        for _ in range(3):
            await app.log.wait("failed: ")
            app.log.lines.clear()
        tracemalloc.start()
        try:
            for _ in range(10):
                await app.log.wait("failed: ")
                app.log.lines.clear()
            # The server of the test holds a copy of what it sends.
            assert tracemalloc.get_traced_memory()[0] < 5 * MEGABYTE
        finally:
            tracemalloc.stop()


def test_packed_audio_in_small_pieces(tmp_path: FilePath) -> None:
    """A segment of packed audio has hundreds of frames; a parser takes a limited number at once."""
    file = tmp_path / "sound.aac"
    ffmpeg(*("-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "20", "-c:a", "aac", "-b:a", "16k", str(file)))
    time = b"com.apple.streaming.transportStreamTimestamp\0" + (900_000).to_bytes(8, "big")
    frame = b"PRIV" + len(time).to_bytes(4, "big") + b"\0\0" + time
    segment = b"ID3\x04\0\0" + bytes((0, 0, 0, len(frame))) + frame + file.read_bytes()
    found = []
    for size in (1, 10, 1000, len(segment)):
        demuxer = PieceDemuxer()
        piece = Piece("sound.aac", None, None, None, 0, 0, 20.0, ends_segment=True)
        demuxer.begin(piece, None)
        frames = []
        for start in range(0, len(segment), size):
            frames += demuxer.feed(segment[start : start + size])
        frames += demuxer.end(piece)
        found.append([(entry.dts, entry.units) for _, entry in frames])
    assert len(found[0]) == pytest.approx(20 * 48_000 / 1024, abs=3)
    assert found[0][0][0] == 480_000
    assert all(each == found[0] for each in found)


def test_tags_of_packed_audio_are_limited() -> None:
    demuxer = PackedAudioDemuxer()
    demuxer.begin_segment()
    with pytest.raises(Exception, match="too large"):
        demuxer.receive_data(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100))


SILENT_VIDEO = TransportMuxer([track(0, VIDEO), track(1, AUDIO)])
"""Its map announces pictures that never come."""


def sound(first: int, count: int) -> bytes:
    """A segment with sound alone."""
    frames = list(audio(1, first + count, rate=1, samples=1))[first:]
    times = [90_000 * frame.dts for _, frame in frames]
    packets = [SILENT_VIDEO.write_frame(1, frame, time, time) for (_, frame), time in zip(frames, times, strict=True)]
    return SILENT_VIDEO.tables() + b"".join(packets)


def test_a_track_that_is_silent_is_waited_for_only_for_seconds() -> None:
    demuxer = PieceDemuxer()
    found = []
    for number in range(4):
        piece = Piece(f"{number}.ts", None, None, None, number, 0, 2.0, ends_segment=True)
        found.append(len(demuxer.receive(piece, None, sound(2 * number, 2))))
    assert found == [0, 0, 6, 2]
    assert demuxer.tracks is not None
    assert [each.codec_name for each in demuxer.tracks] == ["AAC"]


async def test_a_short_recording_with_a_track_that_is_silent(at_once: None) -> None:
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n"
    recorder = await pull_all({"stream.m3u8": playlist.encode(), "a.ts": sound(0, 2)})
    assert recorder.descriptions == [["MPEG4Audio"]]
    assert len(recorder.frames.frames) == 2
