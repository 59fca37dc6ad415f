"""Several cameras at once, and frames in batches."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.api.conftest import EMBEDDED, PATIENCE, picture, settle

import polycast

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")

START = 1_700_000_000.0


def times(pictures: list[polycast.VideoFrame | None] | None) -> list[float | None]:
    assert pictures is not None
    return [None if frame is None or frame.time is None else round(frame.time - START, 3) for frame in pictures]


class Cameras:
    """Publishes pictures with given capture times, and reads them together."""

    def __init__(self, server: polycast.Server, count: int, **options: Any) -> None:
        self._server = server
        self.writers = [server.publish(f"cam{index}", size=(64, 64)) for index in range(count)]
        readers = [server.read(f"cam{index}", buffer=100, reconnect=False) for index in range(count)]
        self.together = polycast.together(readers, **{"timeout": PATIENCE, "patience": PATIENCE, **options})

    def write(self, index: int, *moments: float) -> None:
        for moment in moments:
            self.writers[index].write(picture(64, 64), time=START + moment, key=True)
        settle(self._server)

    def __enter__(self) -> Cameras:
        return self

    def __exit__(self, *_: object) -> None:
        self.together.close()
        for writer in self.writers:
            writer.close()


def test_pictures_of_the_same_moment(server: polycast.Server) -> None:
    with Cameras(server, 3) as cameras:
        cameras.write(0, 0.00)
        cameras.write(1, 0.01)
        cameras.write(2, 0.02)
        assert times(cameras.together.read()) == [0.0, 0.01, 0.02]
        assert len(repr(cameras.together)) < 200


def test_a_camera_whose_picture_is_of_another_moment(server: polycast.Server) -> None:
    with Cameras(server, 2) as cameras:
        cameras.write(0, 10.0)
        cameras.write(1, 0.0)
        assert times(cameras.together.read()) == [None, 0.0]
        cameras.write(1, 10.02)
        assert times(cameras.together.read()) == [10.0, 10.02]


def test_a_camera_that_is_silent_is_not_waited_for(server: polycast.Server) -> None:
    with Cameras(server, 2, patience=0.05) as cameras:
        cameras.write(0, 1.0)
        assert times(cameras.together.read()) == [1.0, None]


def test_the_time_of_arrival_for_cameras_with_wrong_clocks(server: polycast.Server) -> None:
    with Cameras(server, 2, clock="arrival", tolerance=PATIENCE) as cameras:
        cameras.write(0, 0.0)
        cameras.write(1, 3600.0)
        assert times(cameras.together.read()) == [0.0, 3600.0]


def test_the_end_of_all_cameras(server: polycast.Server) -> None:
    with Cameras(server, 2) as cameras:
        cameras.write(0, 0.0)
        cameras.write(1, 0.0)
        assert times(cameras.together.read()) == [0.0, 0.0]
        for writer in cameras.writers:
            writer.close()
        assert list(cameras.together) == []
        assert cameras.together.errors == {}


def test_a_reader_that_fails_does_not_end_the_others(server: polycast.Server) -> None:
    with server.publish("cam", size=(64, 64)) as video:
        readers = [server.read("cam", buffer=10), server.read("nobody", reconnect=False)]
        with polycast.together(readers, timeout=PATIENCE) as both:
            video.write(picture(64, 64), time=START, key=True)
            assert times(both.read())[0] == 0.0
            error = both.errors.get(1)
            while error is None:
                video.write(picture(64, 64), time=START, key=True)
                both.read()
                error = both.errors.get(1)
            assert isinstance(error, polycast.NotFound)


def test_errors_once_all_have_ended(server: polycast.Server) -> None:
    nobody = polycast.together([server.read("nobody", reconnect=False)], timeout=PATIENCE)
    with nobody as one, pytest.raises(polycast.NotFound):
        one.read()
    with pytest.raises(ValueError, match="at least one"):
        polycast.together([])
    with polycast.together([server.read("nobody")]) as one, pytest.raises(polycast.ReadTimeout):
        one.read(0.01)


def test_close_while_another_thread_reads(server: polycast.Server) -> None:
    both = polycast.together([server.read("nobody")])
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(both.read()))
    thread.start()
    both.close()
    thread.join(PATIENCE)
    assert results == [None]


async def test_together_in_an_event_loop() -> None:
    async with (
        polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server,
        server.publish("cam", size=(64, 64)) as video,
        polycast.together([server.read("cam", buffer=5)], timeout=PATIENCE) as one,
    ):
        await video.write_async(picture(64, 64), time=START, key=True)
        async for pictures in one:
            assert times(pictures) == [0.0]
            break


def test_batches(server: polycast.Server) -> None:
    with server.publish("cam", size=(64, 64)) as video:
        reader = server.read("cam", buffer=30, timeout=PATIENCE, reconnect=False)
        for _ in range(7):
            video.write(picture(64, 64), key=True)
    assert [len(batch) for batch in reader.batches(3)] == [3, 3, 1]
    with pytest.raises(ValueError, match="at least one"):
        next(reader.batches(0))


async def test_batches_in_an_event_loop() -> None:
    async with polycast.Server(EMBEDDED) as server:
        async with server.publish("cam", size=(64, 64)) as video:
            reader = server.read("cam", buffer=30, timeout=PATIENCE, reconnect=False)
            for _ in range(7):
                await video.write_async(picture(64, 64), key=True)
        batches = reader.batches(3)
        assert repr(batches).startswith("<Batches of 3 from <Reader")
        assert [len(batch) async for batch in batches] == [3, 3, 1]
        with pytest.raises(ValueError, match="at least one"):
            reader.batches(0)
