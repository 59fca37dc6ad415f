"""The order of the tests when several workers run them."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from tests.support.schedule import FIRST, SHARED, TESTS, TOGETHER, group, rank, sort


def test_slow_files_are_scheduled_first() -> None:
    names = ["interop/test_hls_players.py", "interop/test_copies.py", "control/test_api.py", "wire/test_sdp.py"]
    items = [SimpleNamespace(path=TESTS / name) for name in names]
    mixed = random.Random(1).sample(items, len(items))
    assert mixed != items
    sort(mixed)  # type: ignore[arg-type]
    assert mixed == items
    assert rank(TESTS / "test_cli.py") == rank(TESTS.parent / "other.py") == len(FIRST)


READERS = "tests/interop/test_hls_readers.py"
MATRIX = "tests/interop/test_rtmp_matrix.py"
SRT = "tests/interop/test_srt_programs.py"
COPIES = "tests/interop/test_rtmp_copies.py"


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("tests/wire/test_sdp.py::test_a[b-c]", "tests/wire/test_sdp.py"),
        ("tests/web/test_web_player.py::test_a[b-c]", "web"),
        ("tests/web/test_hls_end_to_end.py::test_a[b]", "tests/web/test_hls_end_to_end.py::test_a[b]"),
        ("tests/api/test_examples.py::test_a[b-c]", "tests/api/test_examples.py::test_a[b-c]"),
        (f"{READERS}::test_read[rtsp-mpegts-ffmpeg]", f"{READERS}::[rtsp-mpegts"),
        (f"{READERS}::test_copy[rtsp-mpegts]", f"{READERS}::[rtsp-mpegts"),
        (f"{MATRIX}::test_read[current-ffmpeg-rtmps-rtmp2src-rtmp]", f"{MATRIX}::[current-ffmpeg-rtmps-"),
        (f"{MATRIX}::test_other", MATRIX),
        (f"{SRT}::test_a_source[ffmpeg-caller-]", f"{SRT}::test_a_source"),
        (f"{SRT}::test_a_refused_program_says_why[a]", SRT),
        (f"{COPIES}::test_copies[h264-aac-b-frames-current-ffmpeg]", f"{COPIES}::[h264-aac-b-frames"),
        (f"{COPIES}::test_copies[h264-aac-ffmpeg]", f"{COPIES}::[h264-aac"),
    ],
)
def test_groups(test: str, expected: str) -> None:
    assert group(test) == expected


@pytest.mark.parametrize("name", [*FIRST, *SHARED, *TOGETHER])
def test_the_first_reference_exists(name: str) -> None:
    assert (TESTS / name).exists()
