"""Files of streams that a worker passes on: each of them once, and only to those who may have it."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import until

from polycast.log import Log
from polycast.net.http.server import HttpServer
from polycast.net.http.transaction import Transaction
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response
from polycast.workers import kept
from polycast.workers.kept import KeptFiles, Key
from polycast.workers.neighbours import Neighbours, PassedResponse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

BODY = bytes(range(256)) * 64
IMMUTABLE = [(b"cache-control", b"private, max-age=31536000, immutable"), (b"etag", b'"1_seg7.mp4"')]


class Handler:
    """Answers requests when it is told to."""

    body_limit = 0

    def __init__(self) -> None:
        self.transactions: list[Transaction] = []

    def handle(self, transaction: Transaction) -> None:
        self.transactions.append(transaction)

    async def answer(self, count: int, *responses: Response) -> None:
        """Answer the next requests, as soon as there are ``count``."""
        await until(lambda: len(self.transactions) >= count)
        transactions, self.transactions = self.transactions, []
        for transaction, response in zip(transactions, responses, strict=True):
            transaction.respond(response)


class Client:
    """The connection of a client (`Responder`)."""

    peer = local_address = ("127.0.0.1", 1)
    is_encrypted = False
    trusted_proxies = ()


class Pair:
    """Two workers: what the first one asks the second one for, and how many bytes of files come back."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        log = Log(logging.getLogger("test"))
        self.handler = Handler()
        servers: dict[str, Any] = {"HLS": HttpServer(self.handler, "127.0.0.1:0", log)}
        self.one = Neighbours(1, str(folder), dict, lambda _: True, log)
        self.other = Neighbours(2, str(folder), lambda: servers, lambda _: True, log)
        self.sizes: list[int] = []
        answer = self.other._answer

        async def counted(*arguments: Any) -> PassedResponse:
            made = await answer(*arguments)
            self.sizes.append(len(made.body))
            return made

        monkeypatch.setattr(self.other, "_answer", counted)

    async def __aenter__(self) -> Pair:
        await self.one.open()
        await self.other.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.one.close()
        self.other.close()

    def ask(self, target: bytes, method: str = "GET") -> asyncio.Task[Response]:
        client: Any = Client()
        transaction = Transaction(client, Request(0, method, target, []), 0.0)
        return asyncio.create_task(self.one.pass_on(2, "HLS", transaction))


async def test_a_file_is_passed_on_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LONGEST_WAIT", 60.0)
    async with Pair(tmp_path, monkeypatch) as pair:
        answers = [pair.ask(b"/cam/1_seg7.mp4") for _ in range(3)]
        file = Response(200, IMMUTABLE, BODY)
        await pair.handler.answer(1, file)
        # The others have waited; each is asked for, as not everybody may have the file.
        await pair.handler.answer(2, file, Response(401, [], b"no"))
        done = [await answer for answer in answers]
        assert [(response.status, response.body) for response in done] == [(200, BODY), (200, BODY), (401, b"no")]
        later = pair.ask(b"/cam/1_seg7.mp4?session=abc")
        await pair.handler.answer(1, file.with_headers([(b"x-of-this-client", b"1")]))
        response = await later
        assert (response.body, dict(response.headers)[b"x-of-this-client"]) == (BODY, b"1")
        assert pair.sizes == [len(BODY), 0, 2, 0]


async def test_what_may_change_is_passed_on_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is another file under a known name, and the answer to another method."""
    async with Pair(tmp_path, monkeypatch) as pair:
        for headers, body in (
            ([(b"cache-control", b"no-cache"), (b"etag", b'"a"')], BODY),
            ([(b"cache-control", b"no-cache"), (b"etag", b'"a"')], BODY[1:]),
            ([IMMUTABLE[0], (b"etag", b'W/"a"')], BODY),
            ([IMMUTABLE[0], (b"etag", b'W/"a"')], BODY[1:]),
            (IMMUTABLE, BODY),
            ([IMMUTABLE[0], (b"etag", b'"2_seg7.mp4"')], BODY[1:]),
        ):
            answer = pair.ask(b"/cam/seg7.mp4")
            await pair.handler.answer(1, Response(200, headers, body))
            assert (await answer).body == body
        head = pair.ask(b"/cam/other.mp4", "HEAD")
        await pair.handler.answer(1, Response(200, IMMUTABLE, b""))
        assert (await head).body == b""
        assert pair.sizes == [len(BODY), len(BODY) - 1] * 3 + [0]


async def test_one_that_is_given_up_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pair(tmp_path, monkeypatch) as pair:
        first, second = pair.ask(b"/cam/1_seg7.mp4"), pair.ask(b"/cam/1_seg7.mp4")
        await until(lambda: len(pair.handler.transactions) == 1)
        first.cancel()
        await pair.handler.answer(2, Response(503, []), Response(200, IMMUTABLE, BODY))
        assert (await second).body == BODY


async def test_one_that_is_answered_slowly_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server lets those wait who guess passwords. A playlist waits for nobody."""
    for target, longest in ((b"/cam/1_seg7.mp4", 0.01), (b"/cam/main_stream.m3u8", 60.0)):
        monkeypatch.setattr(kept, "LONGEST_WAIT", longest)
        async with Pair(tmp_path, monkeypatch) as pair:
            first, second = pair.ask(target), pair.ask(target)
            await until(lambda pair=pair: len(pair.handler.transactions) == 2)
            guess, viewer = pair.handler.transactions
            viewer.respond(Response(200, [], BODY))
            assert (await second).body == BODY
            assert not first.done()
            guess.respond(Response(401, [], b"no"))
            assert (await first).status == 401


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAXIMUM_KEPT", 3 * len(BODY))
    files = KeptFiles()
    keys = [Key(1, "HLS", b"/%d" % number) for number in range(6)]
    for now, key in enumerate(keys[:4]):
        files.keep(key, IMMUTABLE, BODY, float(now))
    assert [files.find(key) is not None for key in keys[:4]] == [False, True, True, True]
    files.keep(keys[3], IMMUTABLE, BODY, 3.0)
    assert files.size == 3 * len(BODY)
    files.keep(keys[4], IMMUTABLE, BODY, 2.5 + kept.KEPT_SECONDS)
    assert [files.find(key) is not None for key in keys[1:5]] == [False, False, True, True]
    files.keep(keys[5], IMMUTABLE, bytes(4 * len(BODY)), 40.0)
    files.keep(keys[5], IMMUTABLE, b"small", 40.0)
    assert files.find(keys[5]) is None
    assert files.size == 2 * len(BODY)
