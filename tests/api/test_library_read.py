"""Readers: the newest picture first, every frame with a buffer, coded frames, ends and comebacks."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import threading
import weakref
from typing import Any

import pytest
from tests.api.conftest import EMBEDDED, PATIENCE, Loop, picture, psnr, settle

import polycast


def publish(server: polycast.Server, name: str = "cam", **options: Any) -> polycast.Writer:
    return server.publish(name, size=(320, 240), rate=30, **options)


def test_a_picture_survives_the_round_trip(server: polycast.Server) -> None:
    image = picture()
    with publish(server) as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(image, time=1_700_000_000.25)
        frame = reader.read()
        assert frame is not None
        assert frame.image.shape == (240, 320, 3)
        assert frame.image.dtype == "uint8"
        assert psnr(image, frame.image) > 30
        assert frame.key
        assert frame.time == 1_700_000_000.25
        assert frame.datetime is not None
        assert frame.datetime.isoformat() == "2023-11-14T22:13:20.250000+00:00"
        assert (frame.width, frame.height, frame.skipped) == (320, 240, 0)
        assert frame.image is frame.image
        frame.image[:] = 0  # it belongs to the reader
        assert frame.to_array("gray").shape == (240, 320)


@pytest.mark.parametrize(("form", "shape"), [("rgb24", (240, 320, 3)), ("gray", (240, 320)), ("yuv420p", (360, 320))])
def test_formats(server: polycast.Server, form: str, shape: tuple[int, ...]) -> None:
    image = picture()
    with publish(server) as video, server.read("cam", timeout=PATIENCE, format=form) as reader:
        video.write(image)
        frame = reader.read()
        assert frame is not None
        assert frame.image.shape == shape
        if form == "rgb24":
            assert psnr(image[:, :, ::-1], frame.image) > 30


def test_the_newest_picture_is_read_first(server: polycast.Server) -> None:
    with publish(server) as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(picture())
        assert reader.read() is not None
        for seed in range(40):
            video.write(picture(seed=seed))
        settle(server)
        frame = reader.read()
        assert frame is not None
        assert psnr(picture(seed=39), frame.image) > 30
        assert frame.skipped == 39
        assert reader.skipped == 39
        video.write(picture(seed=40))
        frame = reader.read()
        assert frame is not None
        assert frame.skipped == 0


def test_the_memory_of_a_reader_that_does_not_read_stays_flat(server: polycast.Server) -> None:
    with publish(server, key_interval=100) as video, server.read("cam", timeout=PATIENCE) as reader:
        image = picture()
        for _ in range(650):
            video.write(image)
        settle(server)
        assert len(reader._inbox._entries) < 600
        assert reader.skipped > 500
        video.write(image, key=True)
        settle(server)
        assert len(reader._inbox._entries) <= 2  # the event that it is connected, and the key frame
        frame = reader.read()
        assert frame is not None
        assert frame.key
        assert frame.skipped == 650


def test_a_buffer_hands_out_every_frame(server: polycast.Server) -> None:
    with publish(server) as video, server.read("cam", buffer=30, timeout=PATIENCE) as reader:
        for seed in range(20):
            video.write(picture(seed=seed))
        frames = [reader.read() for _ in range(20)]
        assert [frame.skipped for frame in frames if frame is not None] == [0] * 20
        assert all(frame and psnr(picture(seed=seed), frame.image) > 30 for seed, frame in enumerate(frames))


def test_a_full_buffer_skips_up_to_a_key_frame(server: polycast.Server) -> None:
    with publish(server, key_interval=100) as video, server.read("cam", buffer=10, timeout=PATIENCE) as reader:
        for seed in range(15):
            video.write(picture(seed=seed))
        settle(server)
        first = [reader.read() for _ in range(10)]
        assert all(first)
        video.write(picture(seed=15))
        video.write(picture(seed=16), key=True)
        frame = reader.read()
        assert frame is not None
        assert psnr(picture(seed=16), frame.image) > 30
        assert (frame.skipped, reader.skipped) == (6, 6)


def test_coded_frames_can_be_published_again(server: polycast.Server) -> None:
    image = picture()
    with publish(server) as video, server.read("cam", decode=False, timeout=PATIENCE) as coded:
        video.write(image, time=1_700_000_000.0)
        first = coded.read()
        assert first is not None
        assert first.key
        assert first.track.codec.name == "H264"
        assert first.data.startswith(b"\x00\x00\x00\x01\x67")
        assert first.pts == first.dts > 0
        with server.publish("again", tracks=coded.tracks) as again, server.read("again", timeout=PATIENCE) as reader:
            again.write(first)
            frame = reader.read()
            assert frame is not None
            assert psnr(image, frame.image) > 30
            assert frame.pts == pytest.approx(first.pts)
            assert frame.time == 1_700_000_000.0


def test_coded_frames_as_bytes(server: polycast.Server) -> None:
    with publish(server) as video, server.read("cam", decode=False, timeout=PATIENCE) as coded:
        video.write(picture())
        first = coded.read()
        video.write(picture())
        second = coded.read()
        assert first is not None
        assert second is not None
    with (
        server.publish("again", tracks=[polycast.H264()]) as again,
        server.read("again", decode=False, timeout=PATIENCE) as reader,
    ):
        again.write(first.data, pts=1.0)
        again.write(second.data, pts=1.04, time=5.0)
        frames = [reader.read(), reader.read()]
        assert [(frame.units, frame.pts, frame.key, frame.time) for frame in frames if frame] == [
            (first.units, 1.0, True, None),
            (second.units, 1.04, False, 5.0),
        ]
        with pytest.raises(ValueError, match="pts"):
            again.write(second.data)
        with pytest.raises(ValueError, match="before that of the previous frame"):
            again.write(second.data, pts=0.5)
        with pytest.raises(ValueError, match="no track 3"):
            again.write(second.data, pts=2.0, track=3)


def test_coded_frames_need_no_media_library(monkeypatch: pytest.MonkeyPatch, server: polycast.Server) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(polycast.MissingDependency, match="pip install av numpy"):
        server.read("cam")
    with pytest.raises(ImportError):
        publish(server)
    with server.publish("cam", tracks=[polycast.VP8()]) as coded, server.read("cam", decode=False) as reader:
        coded.write(b"\x00\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00", pts=0.0)
        frame = reader.read(timeout=PATIENCE)
        assert frame is not None
        assert frame.key


def test_sound(server: polycast.Server) -> None:
    import numpy as np

    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype(np.float32)
    with (
        server.publish("mic", sample_rate=48_000, channels=1) as sound,
        server.read("mic", video=False, audio=True, buffer=100, timeout=PATIENCE) as reader,
    ):
        sound.write_audio(tone, time=1_700_000_000.0)
        frames = [reader.read() for _ in range(40)]
    samples = np.concatenate([frame.samples for frame in frames if frame is not None])
    assert samples.shape == (40 * 1024, 1)
    assert np.sqrt((samples[4096:] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    spectrum = np.abs(np.fft.rfft(samples[4096 : 4096 + 24_000, 0]))
    assert int(spectrum.argmax()) * 2 == pytest.approx(440, abs=4)
    first = frames[0]
    assert first is not None
    assert first.sample_rate == 48_000
    assert first.time == pytest.approx(1_700_000_000.0, abs=0.05)


def test_times_of_pictures_and_sound_agree(server: polycast.Server) -> None:
    import numpy as np

    with (
        publish(server, sample_rate=8_000, channels=1, audio_codec="pcmu") as both,
        server.read("cam", audio=True, buffer=100, timeout=PATIENCE) as reader,
    ):
        both.write(picture(), time=1000.0)
        both.write_audio(np.zeros(160, np.int16), time=1000.5)
        frames = [reader.read(), reader.read()]
        video = next(frame for frame in frames if isinstance(frame, polycast.VideoFrame))
        audio = next(frame for frame in frames if isinstance(frame, polycast.AudioFrame))
        assert (video.time, audio.time) == (1000.0, pytest.approx(1000.5, abs=1e-3))
        assert audio.pts - video.pts == pytest.approx(0.5, abs=1e-3)


def test_wrong_arguments(server: polycast.Server) -> None:
    with pytest.raises(ValueError, match="at least one"):
        server.read("cam", buffer=0)
    with pytest.raises(ValueError, match="video, audio or both"):
        server.read("cam", video=False, audio=False)  # type: ignore[call-overload]


def test_errors(server: polycast.Server) -> None:
    with pytest.raises(polycast.NotFound, match="no one is publishing to path 'nobody'"):
        server.read("nobody", reconnect=False).read()
    with pytest.raises(polycast.NotFound, match="invalid path name"):
        server.read("/wrong").read()
    with pytest.raises(polycast.ReadTimeout, match=r"within 0\.05 seconds"):
        server.read("nobody", timeout=0.05).read()
    with server.publish("mic", sample_rate=48_000), pytest.raises(polycast.UnsupportedCodec, match="no video"):
        server.read("mic").read()
    with polycast.Server({**EMBEDDED, "paths": {"only": {}}}) as strict:
        with pytest.raises(polycast.NotFound, match="not configured"):
            strict.read("other").read()
        with pytest.raises(polycast.NotFound, match="not configured"):
            strict.publish("other", size=(64, 64))


def test_the_iteration_ends_with_the_stream(server: polycast.Server) -> None:
    reader = server.read("cam", reconnect=False, buffer=10, timeout=PATIENCE)
    del reader
    with publish(server) as video:
        reader = server.read("cam", reconnect=False, buffer=10, timeout=PATIENCE)
        video.write(picture())
        video.write(picture())
    assert len(list(reader)) == 2
    assert reader.closed
    assert list(reader) == []


def test_a_reader_comes_back(server: polycast.Server) -> None:
    events: list[polycast.Event] = []
    reader = server.read("cam", timeout=PATIENCE, on_event=events.append)
    settle(server)
    for _ in range(2):
        with publish(server) as video:
            video.write(picture())
            assert reader.read() is not None
    reader.close()
    assert list(reader) == []
    assert (events[0].kind, events[0].reason) == ("waiting", "no one is publishing to path 'cam'")
    # Whether it had to wait in between depends on who was faster.
    assert [event.kind.value for event in events if event.kind != "waiting"] == [
        "connected",
        "disconnected",
        "connected",
    ]


def test_times_continue_if_readers_wait_for_the_next_publisher() -> None:
    configuration = {**EMBEDDED, "paths": {"all": {"publisherGrace": "10s"}}}
    events: list[str] = []
    with (
        polycast.Server(configuration) as server,
        server.read("cam", buffer=50, timeout=PATIENCE, on_event=lambda event: events.append(event.kind)) as reader,
    ):
        times = []
        for _ in range(2):
            with publish(server) as video:
                for _ in range(3):
                    video.write(picture())
                    frame = reader.read()
                    assert frame is not None
                    times.append(frame.pts)
        assert sorted(set(times)) == times
        assert events.count("connected") == 1


def test_another_size_after_a_reconnect(server: polycast.Server) -> None:
    with server.read("cam", timeout=PATIENCE) as reader:
        for size in ((320, 240), (160, 128)):
            with server.publish("cam", size=size) as video:
                video.write(picture(*size))
                frame = reader.read()
                assert frame is not None
                assert (frame.width, frame.height) == size


def test_a_server_that_stops_ends_readers_and_writers() -> None:
    with polycast.Server(EMBEDDED) as server:
        video = publish(server)
        reader, waiting = server.read("cam", timeout=PATIENCE), server.read("nobody")
        video.write(picture())
        assert reader.read() is not None
        got: list[Any] = []
        threads = [threading.Thread(target=lambda each=each: got.extend(each)) for each in (reader, waiting)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert got == []
    assert video.closed
    with pytest.raises(polycast.StreamEnded, match="server"):
        video.write(picture())
    video.close()
    for call in (server.statistics, lambda: server.read("cam"), lambda: publish(server), lambda: server.ports):
        with pytest.raises(polycast.StreamEnded, match="not started"):
            call()


def test_a_consumer_that_raises_leaves_nothing(server: polycast.Server) -> None:
    class MyError(Exception):
        pass

    def consume() -> None:
        for _ in server.read("cam", timeout=PATIENCE):
            raise MyError

    with publish(server) as video, Loop(lambda: video.write(picture())):
        with pytest.raises(MyError):
            consume()
        gc.collect()
        settle(server)
        assert server.statistics().streams["cam"].readers == ()


def test_a_thread_that_is_killed(server: polycast.Server) -> None:
    began = threading.Event()

    def consume() -> None:
        with contextlib.suppress(SystemExit), server.read("cam", timeout=PATIENCE) as reader:
            for _ in reader:
                began.set()

    with publish(server, pace=True) as video, Loop(lambda: video.write(picture())):
        thread = threading.Thread(target=consume, name="test-consumer")
        thread.start()
        assert began.wait(PATIENCE)
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert server.statistics().streams["cam"].readers == ()


def test_a_forgotten_reader_ends(server: polycast.Server) -> None:
    with publish(server) as video:
        reader = server.read("cam", timeout=PATIENCE)
        video.write(picture())
        assert reader.read() is not None
        assert server.statistics().streams["cam"].readers == ("pythonReader",)
        gone = weakref.ref(reader)
        del reader
        gc.collect()
        assert gone() is None
        assert server.statistics().streams["cam"].readers == ()


def test_close_wakes_a_reader_that_waits(server: polycast.Server) -> None:
    reader = server.read("nobody")
    thread = threading.Thread(target=list, args=(reader,), name="test-reader")
    thread.start()
    reader.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_several_threads_share_a_reader(server: polycast.Server) -> None:
    taken: list[float] = []
    with publish(server) as video:
        reader = server.read("cam", buffer=50, timeout=PATIENCE, reconnect=False)

        def consume() -> None:
            taken.extend(frame.pts for frame in reader)

        threads = [threading.Thread(target=consume) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            video.write(picture())
    for thread in threads:
        thread.join(PATIENCE)
    assert len(taken) == len(set(taken)) == 40


async def test_async_for_in_the_loop_of_the_server() -> None:
    async with polycast.Server(EMBEDDED) as server, publish(server) as video:
        await video.write_async(picture())
        reader = server.read("cam", timeout=PATIENCE)
        await asyncio.sleep(0)  # the reader attaches in the next turn of the loop
        for seed in range(5):
            await video.write_async(picture(seed=seed), key=True)
        async for frame in reader:
            assert psnr(picture(seed=4), frame.image) > 30
            break
        with pytest.raises(polycast.ReadTimeout):
            await reader.read_async(timeout=0.01)
        reader.close()
        assert [frame async for frame in reader] == []


async def test_async_for_with_a_server_in_a_thread() -> None:
    with polycast.Server(EMBEDDED) as server, publish(server) as video:
        async with server.read("cam", timeout=PATIENCE) as reader:
            settle(server)
            await video.write_async(picture())
            assert await anext(reader) is not None
            task = asyncio.ensure_future(reader.read_async())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await video.write_async(picture())
            assert await reader.read_async() is not None


async def test_a_server_that_stops_under_an_async_reader() -> None:
    async with polycast.Server(EMBEDDED) as server:
        task = asyncio.ensure_future(server.read("nobody").read_async())
        await asyncio.sleep(0)
    assert await task is None
