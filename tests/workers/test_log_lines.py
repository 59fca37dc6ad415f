"""The log of a worker in that of the supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from tests.support.waiting import PATIENCE, until

from polycast.workers.log_lines import MAXIMUM_LINE, LineHandler, LineReader


class Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def logger_with(handler: logging.Handler, level: int = logging.INFO) -> logging.Logger:
    logger = logging.Logger("polycast.test", level)
    logger.addHandler(handler)
    return logger


async def test_lines_keep_their_level_time_and_text() -> None:
    ends = socket.socketpair()
    collected = Collected()
    reader = LineReader(logger_with(collected), "[worker 3] ")
    await reader.open(ends[0])
    handler = LineHandler(ends[1])
    sender = logger_with(handler)
    sender.warning("100%% of %s", "it\nin two lines")
    try:
        raise ValueError("a bug")
    except ValueError:
        sender.exception("internal error")
    sender.info("\N{VIDEO CAMERA}" * MAXIMUM_LINE)
    sender.info("the file %s", os.fsdecode(b"\xff.mp4"))
    await until(lambda: len(collected.records) == 4)
    first, second, third, fourth = collected.records
    assert (first.levelno, first.getMessage()) == (logging.WARNING, "[worker 3] 100% of it\nin two lines")
    assert abs(first.created - second.created) < PATIENCE
    assert second.getMessage().startswith("[worker 3] internal error\nTraceback")
    assert second.getMessage().endswith("ValueError: a bug")
    assert 0 < len(third.getMessage().encode()) < MAXIMUM_LINE
    assert fourth.getMessage() == r"[worker 3] the file \udcff.mp4"
    await asyncio.to_thread(handler.end)
    ends[1].close()
    async with asyncio.timeout(PATIENCE):
        await reader.ended


async def test_levels_that_are_not_wanted_are_left_out() -> None:
    ends = socket.socketpair()
    collected = Collected()
    reader = LineReader(logger_with(collected, logging.ERROR), "")
    await reader.open(ends[0])
    handler = LineHandler(ends[1])
    sender = logger_with(handler)
    sender.info("not this")
    sender.error("this")
    await until(lambda: collected.records)
    assert [record.getMessage() for record in collected.records] == ["this"]
    await asyncio.to_thread(handler.end)
    ends[1].close()
    reader.close()


async def test_what_is_no_line_ends_the_connection() -> None:
    ends = socket.socketpair()
    reader = LineReader(logger_with(Collected()), "")
    await reader.open(ends[0])
    with ends[1]:
        ends[1].send(b"\xff\xff\xff\xff")
        async with asyncio.timeout(PATIENCE):
            await reader.ended


async def test_a_supervisor_that_has_gone_is_no_error() -> None:
    ends = socket.socketpair()
    handler = LineHandler(ends[1])
    ends[0].close()
    logger_with(handler).error("nobody reads this")
    await asyncio.to_thread(handler.end)
    ends[1].close()
