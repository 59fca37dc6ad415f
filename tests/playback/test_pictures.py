"""Pictures of recorded moments, and files of exactly a period, as FFmpeg reads them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from tests.api.test_recordings import numbers, record_path, shades
from tests.playback.support import Recorder, playing

import polycast

av = pytest.importorskip("av")
__all__ = ["record_path"]


def picture(body: bytes) -> tuple[int, int, int]:
    """Return width and height of a JPEG file, and the number of the picture that its brightness tells."""
    with av.open(io.BytesIO(body)) as container:
        frame = next(container.decode(video=0))
        return frame.width, frame.height, round((float(frame.to_ndarray(format="bgr24").mean()) - 17.2) / 3)


def moment(number: float) -> str:
    """Return when a picture was taken, as requests name it."""
    return f"2026-09-21T14:13:{20 + number / 25:09.6f}Z"


async def test_a_thumbnail_is_the_key_frame_before(record_path: str, tmp_path: Path) -> None:
    paths: dict[str, Any] = {"all": {"recordPath": record_path, "recordDeleteAfter": "0s"}}
    async with playing(Recorder(tmp_path), paths=paths) as (_, client):
        for number, expected in ((0, 0), (9.9, 0), (10, 10), (13, 10), (47, 40), (74, 70)):
            response = await client.get("/thumbnail", params={"path": "cam", "time": moment(number), "width": 32})
            assert response.status_code == 200, response.text
            assert response.headers["content-type"] == "image/jpeg"
            width, height, shown = picture(response.content)
            assert (width, height) == (32, 32)
            assert abs(shown - expected) <= 1
        again = await client.get("/thumbnail", params={"path": "cam", "time": moment(73), "width": 32})
        assert again.content == response.content
        whole = await client.get("/thumbnail", params={"path": "cam", "time": moment(73)})
        assert picture(whole.content)[:2] == (64, 64), "pictures are not enlarged"
        for query, status in (
            ({"path": "cam", "time": moment(200)}, 404),
            ({"path": "cam", "time": moment(-1)}, 404),
            ({"path": "other", "time": moment(0)}, 404),
            ({"path": "cam", "time": "now"}, 400),
            ({"path": "cam", "time": moment(0), "width": "4"}, 400),
            ({"path": "cam", "time": moment(0), "width": "99999"}, 400),
        ):
            assert (await client.get("/thumbnail", params=query)).status_code == status, query


async def test_an_exported_file_has_exactly_the_pictures_of_its_period(record_path: str, tmp_path: Path) -> None:
    paths: dict[str, Any] = {"all": {"recordPath": record_path, "recordDeleteAfter": "0s"}}
    async with playing(Recorder(tmp_path), paths=paths) as (_, client):
        query = {"path": "cam", "start": moment(13), "end": moment(60)}
        response = await client.get("/export", params=query)
        assert response.status_code == 200, response.text
        assert response.headers["content-disposition"] == 'attachment; filename="cam-2026-09-21T14-13-20.mp4"'
        assert int(response.headers["content-length"]) == len(response.content)
        file = tmp_path / "export.mp4"
        file.write_bytes(response.content)
        assert shades(polycast.read(file)) == numbers(13, 60)
        for microseconds in (-3, 3):
            about = moment(13 + microseconds * 25 / 1_000_000)
            other = await client.get("/export", params={"path": "cam", "start": about, "duration": "1.88"})
            file.write_bytes(other.content)
            assert shades(polycast.read(file)) == numbers(13, 60), "the ticks of pictures are longer"
        same = await client.get("/export", params={"path": "cam", "start": moment(13), "duration": "1.88"})
        assert same.content == response.content
        part = await client.get("/export", params=query, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, response.content[100:200])
        for wrong, status in (({"end": moment(13)}, 400), ({"end": ""}, 400), ({"start": moment(500)}, 400)):
            assert (await client.get("/export", params={**query, **wrong})).status_code == status
        later = {"path": "cam", "start": moment(500), "duration": "5"}
        assert (await client.get("/export", params=later)).status_code == 404


def test_only_some_pictures_are_kept(record_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from polycast.log import Log
    from polycast.playback import thumbnails
    from polycast.playback.recordings import Recordings

    monkeypatch.setattr(thumbnails, "MAXIMUM_KEPT", 3000)
    recordings = Recordings(Log())
    try:
        made = thumbnails.Thumbnails(recordings, lambda name: record_path)
        file = str(min(Path(record_path).parents[1].glob("cam/*.mp4")))
        for width in range(16, 64, 2):
            made._make(recordings.files, file, 0, width)
            assert made._size == sum(map(len, made._kept.values())) <= 3000
        assert made._kept
    finally:
        recordings.close()
