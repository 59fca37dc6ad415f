"""Log lines: format, prefixes, destinations, and what peers cannot do to them."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import logging.config
import os
import re
import socket
import sys
import termios
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from polycast.log import Log, LogOutput
from polycast.log import writer as log_writer

LINE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (DEB|INF|WAR|ERR) (.*)", re.DOTALL)


@pytest.fixture
def logger() -> logging.Logger:
    return logging.Logger("polycast.test")


@pytest.fixture
def output(logger: logging.Logger) -> Iterator[LogOutput]:
    output = LogOutput(logger)
    yield output
    output.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "polycast.log"


def lines(file: Path, output: LogOutput) -> list[str]:
    output.flush()
    return file.read_text().splitlines()


def test_format_and_prefixes(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("debug", ["file"], str(file))
    log = Log(logger).child("RTSP").child("conn 1.2.3.4:5")
    log.debug("a")
    log.info("opened")
    log.warning("%d packets", 5)
    log.error("100%")
    Log(logger).info("plain")
    found = [LINE.fullmatch(line) for line in lines(file, output)]
    assert [(match[1], match[2]) for match in found if match is not None] == [
        ("DEB", "[RTSP] [conn 1.2.3.4:5] a"),
        ("INF", "[RTSP] [conn 1.2.3.4:5] opened"),
        ("WAR", "[RTSP] [conn 1.2.3.4:5] 5 packets"),
        ("ERR", "[RTSP] [conn 1.2.3.4:5] 100%"),
        ("INF", "plain"),
    ]


def test_prefix_with_percent_signs(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("info", ["file"], str(file))
    log = Log(logger).child("path 100%s")
    log.info("x")
    log.info("%s", "y")
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("internal error %d", 1)
    output.flush()
    text = file.read_text()
    assert "[path 100%s] x\n" in text
    assert "[path 100%s] y\n" in text
    assert "[path 100%s] internal error 1\n" in text


@pytest.mark.parametrize(
    ("level", "labels"),
    [("debug", "DEB INF WAR ERR"), ("info", "INF WAR ERR"), ("warn", "WAR ERR"), ("error", "ERR")],
)
def test_levels(logger: logging.Logger, output: LogOutput, file: Path, level: str, labels: str) -> None:
    output.configure(level, ["file"], str(file))
    log = Log(logger)
    for write in (log.debug, log.info, log.warning, log.error):
        write("x")
    assert [line.split(" ")[2] for line in lines(file, output)] == labels.split(" ")
    assert log.is_debug() is (level == "debug")


def test_control_characters_of_peers(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("info", ["file"], str(file))
    Log(logger).info("name: %s", "a\x1b[31mb\rc\0d\x7f\x9b\u2028e")
    output.flush()
    (line,) = file.read_text().split("\n")[:-1]
    assert line.endswith("name: a\\x1b[31mb\\x0dc\\x00d\\x7f\\x9b\\u2028e")


def test_forged_lines(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("info", ["file"], str(file))
    Log(logger).info("name: %s", "a\n2026/01/01 00:00:00 INF forged")
    assert [line for line in lines(file, output) if LINE.fullmatch(line)] == lines(file, output)[:1]
    assert lines(file, output)[1] == "    2026/01/01 00:00:00 INF forged"


def test_traceback_of_our_own_bugs(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("info", ["file"], str(file))
    try:
        raise ZeroDivisionError("boom")
    except ZeroDivisionError:
        Log(logger).exception("internal error")
    first, *rest = lines(file, output)
    assert first.endswith("ERR internal error")
    assert rest[-1].endswith("ZeroDivisionError: boom")
    assert all(line.startswith("    ") for line in rest)


def test_standard_output(logger: logging.Logger, output: LogOutput, capsys: pytest.CaptureFixture[str]) -> None:
    output.configure("info", ["stdout"], "")
    Log(logger).info("hello")
    output.flush()
    assert LINE.fullmatch(capsys.readouterr().out.removesuffix("\n"))


def test_colours_only_on_a_terminal(logger: logging.Logger, output: LogOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.configure("info", ["stdout"], "")
    Log(logger).info("hello")
    output.flush()
    assert "\x1b[32mINF\x1b[0m hello" in terminal.getvalue()


def test_several_destinations(
    logger: logging.Logger, output: LogOutput, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.configure("info", ["stdout", "file"], str(file))
    Log(logger).info("hello")
    output.flush()
    assert capsys.readouterr().out == file.read_text()


def test_file_is_appended_to_and_reopened_when_it_is_moved(
    logger: logging.Logger, output: LogOutput, file: Path
) -> None:
    file.write_text("before\n")
    output.configure("info", ["file"], str(file))
    Log(logger).info("one")
    output.flush()
    file.rename(file.with_suffix(".1"))
    Log(logger).info("two")
    assert len(lines(file, output)) == 1
    assert len(lines(file.with_suffix(".1"), output)) == 2


def test_destination_that_cannot_be_opened_leaves_the_old_ones(
    logger: logging.Logger, output: LogOutput, file: Path, tmp_path: Path
) -> None:
    output.configure("info", ["file"], str(file))
    with pytest.raises(OSError, match="No such file"):
        output.configure("error", ["file", "stdout"], str(tmp_path / "missing" / "x.log"))
    Log(logger).info("still here")
    assert len(lines(file, output)) == 1


def test_new_settings_replace_the_old_ones(
    logger: logging.Logger, output: LogOutput, file: Path, tmp_path: Path
) -> None:
    output.configure("info", ["file"], str(file))
    other = tmp_path / "other.log"
    output.configure("warn", ["file"], str(other))
    Log(logger).info("no")
    Log(logger).warning("yes")
    assert lines(file, output) == []
    assert len(lines(other, output)) == 1


def test_close_takes_the_destinations_away(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("info", ["file"], str(file))
    output.close()
    output.close()
    assert logger.handlers == []


def test_libraries_that_configure_logging_close_nothing(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("info", ["file"], str(file))
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    Log(logger).info("still here")
    assert lines(file, output)[-1].endswith("INF still here")


def test_no_system_log(logger: logging.Logger, output: LogOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.log.writer.Path.exists", lambda _: False)
    with pytest.raises(OSError, match="no system log"):
        output.configure("info", ["syslog"], "")


def wait_until_full(pipe: BinaryIO) -> None:
    """Wait until no other batch of lines fits into a pipe."""
    waiting = bytearray(4)
    while int.from_bytes(waiting, sys.byteorder) < log_writer.WRITE_SIZE - 4096:
        time.sleep(0.001)
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)


def test_a_pipe_without_a_reader_blocks_nothing(
    logger: logging.Logger, output: LogOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as writer:
        monkeypatch.setattr(sys, "stdout", writer)
        output.configure("info", ["stdout"], "")
        log = Log(logger)
        for number in range(2 * log_writer.QUEUE_LIMIT // 1000):
            log.info("%04d %s", number, "x" * 1000)
            if number == 200:
                wait_until_full(reader)  # so that the thread takes no lines while others are dropped
        log.info("the last one")

        text = bytearray()

        def read() -> None:
            while b"are missing here" not in text:
                text.extend(os.read(reader.fileno(), 65536))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(60)
        log.info("afterwards")
        output.flush()
        output.close()
        text += os.read(reader.fileno(), 65536)
    written = text.decode().splitlines()
    numbers = [int(line.split(" ")[3]) for line in written if "xxx" in line]
    assert numbers == list(range(len(numbers)))  # what came first is whole
    (notice,) = [line for line in written if "missing" in line]
    dropped = 2 * log_writer.QUEUE_LIMIT // 1000 + 1 - (len(written) - 2)
    assert notice.endswith(f"WAR {dropped} log lines are missing here: they were not written fast enough")
    assert written[-1].endswith("afterwards")


def test_closing_a_log_waits_only_briefly(
    logger: logging.Logger, output: LogOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as writer:
        monkeypatch.setattr(sys, "stdout", writer)
        monkeypatch.setattr(log_writer, "CLOSE_SECONDS", 0.05)
        output.configure("info", ["stdout"], "")
        Log(logger).info("%s", "x" * 200_000)
        output.close()
        assert logger.handlers == []


def test_a_full_disk_is_reported_once(
    logger: logging.Logger, output: LogOutput, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "RETRY_SECONDS", 0.001)
    output.configure("info", ["file"], "/dev/full")
    for number in range(400):
        Log(logger).info("line %d", number)
    output.close()
    assert capfd.readouterr().err == (
        "polycast: the log cannot be written to the file '/dev/full': No space left on device\n"
    )


def test_lines_are_kept_until_a_file_can_be_written_again(
    logger: logging.Logger, output: LogOutput, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    output.configure("info", ["file"], str(directory / "log"))
    directory.rename(tmp_path / "moved")
    Log(logger).info("one")
    while not (told := capfd.readouterr().err):
        pass
    assert "No such file or directory" in told
    directory.mkdir()
    Log(logger).info("two")
    assert next(iter(output._current.handlers)).writer.flush(30)
    assert [line[-3:] for line in lines(directory / "log", output)] == ["one", "two"]


def test_the_reader_of_a_pipe_has_gone(
    logger: logging.Logger, output: LogOutput, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as writer:
        monkeypatch.setattr(sys, "stdout", writer)
        output.configure("info", ["stdout"], "")
        os.close(reading)
        for _ in range(100):
            Log(logger).info("x")
            output.flush()
    assert capfd.readouterr().err == "polycast: the log cannot be written to standard output: Broken pipe\n"


def test_the_system_log(
    logger: logging.Logger, output: LogOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "log")
    monkeypatch.setattr(log_writer, "_SYSLOG_PATHS", (path,))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system_log:
        system_log.bind(path)
        output.configure("info", ["syslog"], "")
        Log(logger).warning("hello")
        assert re.fullmatch(rb"<28>rtsp-simple-server: \S+ \S+ WAR hello", system_log.recv(1000))
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system_log:  # restarted
        system_log.bind(path)
        Log(logger).error("again")
        assert b"<27>" in system_log.recv(1000)


def test_structured_lines_are_json(logger: logging.Logger, output: LogOutput, file: Path) -> None:
    output.configure("info", ["file"], str(file), structured=True)
    before = datetime.now().astimezone()
    Log(logger).child("conn 1.2.3.4:5").warning('said "%s"', "a\n\x1b[31mb")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        Log(logger).exception("internal error")
    first, second = map(json.loads, lines(file, output))
    assert set(first) == {"timestamp", "level", "message"}
    assert first["level"] == "WAR"
    assert first["message"] == '[conn 1.2.3.4:5] said "a\n    \\x1b[31mb"'
    assert before <= datetime.fromisoformat(first["timestamp"]) <= datetime.now().astimezone()
    assert second["message"].startswith("internal error\n    Traceback")
