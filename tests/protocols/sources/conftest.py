"""Most cameras of these tests send their first packet when a reader has come; see `test_first_packets.py`."""

from __future__ import annotations

import pytest

from polycast.protocols.rtsp import requests


@pytest.fixture(autouse=True)
def play_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PLAY not wait for the first packets of a source."""
    monkeypatch.setattr(requests, "FIRST_PACKETS_SECONDS", 0.0)
