"""The server as a process that is told to read its configuration again, and ``polycast top``."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from tests.control.support import FILE_HEAD, running
from tests.support.rtp import key_unit, rtp
from tests.support.waiting import PATIENCE

from polycast.cli import main
from polycast.cli.top import Rates, age, bit_rate


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
async def test_a_hangup_signal_reloads(tmp_path: Path) -> None:
    file = tmp_path / "server.yml"
    file.write_text(FILE_HEAD)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "polycast",
        str(file),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")},
    )
    assert process.stdout is not None

    async def wait_for(text: str) -> None:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while text not in (line := (await process.stdout.readline()).decode()):
                assert line, f"the server ended before it wrote {text!r}"

    try:
        await wait_for("[API] listener opened")
        await asyncio.sleep(0.2)  # the handler is set right after
        process.send_signal(signal.SIGHUP)
        await wait_for("reloading configuration (signal)")
        process.send_signal(signal.SIGTERM)
        await wait_for("shutting down gracefully")
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_top_shows_paths_and_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    async with running(apiUser="u", apiPass="p") as server:
        publisher = await server.publisher("yard/north")
        await server.reader("yard/north")
        publisher.send_frame(0, rtp(1, key_unit()))
        url = f"http://127.0.0.1:{server.app.control.ports['apiAddress']}"
        arguments = ["top", "--once", "--interval", "0.2", url]
        assert await asyncio.to_thread(main, [*arguments, "--user", "u", "--password", "p"]) == 0
        shown = capsys.readouterr().out
        assert "yard/north" in shown
        assert "H264" in shown
        assert len(re.findall(r"\bRTSP\b", shown)) == 2
        assert await asyncio.to_thread(main, arguments) == 1
        assert "requires credentials" in capsys.readouterr().err


async def test_top_shows_a_long_failure_in_full_beside_readable_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "120")
    address = f"http://127.0.0.1:1/{'very/' * 30}index.m3u8"
    async with running(paths={"floor2/door": {"source": address}}) as server:
        await server.until(lambda: server.app.hub.paths["floor2/door"].source_failure)
        url = f"http://127.0.0.1:{server.app.control.ports['apiAddress']}"
        assert await asyncio.to_thread(main, ["top", "--once", "--interval", "0.2", url]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^floor2/door +failed +hlsSource +0 +0 bit/s", shown, re.MULTILINE)
    assert address in shown.replace("\n", "").replace(" ", "")


def test_top_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    assert main(["top", "--once", "http://127.0.0.1:1"]) == 1
    assert "is the server running" in capsys.readouterr().err


def test_top_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["top"]) == 1
    assert "pip install rich" in capsys.readouterr().err


def test_rates_and_units() -> None:
    rates = Rates()
    assert rates.of("a", 1000, 1.0) == 0
    assert rates.of("a", 2000, 3.0) == 4000
    assert rates.of("a", 0, 4.0) == 0  # began again
    assert (bit_rate(999), bit_rate(20_000), bit_rate(2_500_000)) == ("999 bit/s", "20 kbit/s", "2.5 Mbit/s")
    assert age(3661) == "01:01:01"
