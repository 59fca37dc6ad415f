"""Clips: what `Reader.record` writes, as FFmpeg reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import PATIENCE, picture, psnr, settle

import polycast

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")


def pictures_of(file: str | Path) -> list[Any]:
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def publish(server: polycast.Server, **options: Any) -> polycast.Writer:
    return server.publish("cam", size=(320, 240), rate=30, **options)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
def test_a_clip_has_what_came_while_it_was_recorded(server: polycast.Server, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("what was there before")
    with publish(server) as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(picture(seed=0), time=1000.0)
        assert reader.read() is not None
        with reader.record(file) as clip:
            assert repr(clip) == f"<Clip {str(file)!r} recording>"
            for seed in range(1, 7):
                video.write(picture(seed=seed), time=1000.0 + seed / 30, key=seed == 1)
            settle(server)
        assert clip.wait(0) == (str(file),)
        assert clip.done
    found = pictures_of(file)
    assert len(found) == 6
    assert all(psnr(picture(seed=seed), image) > 30 for seed, image in enumerate(found, 1))


def test_a_clip_begins_before_it_is_asked_for(server: polycast.Server, tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    with publish(server, key_interval=100) as video, server.read("cam", timeout=PATIENCE, history=60) as reader:
        for seed in range(5):
            video.write(picture(seed=seed), key=seed == 0)
        settle(server)
        clip = reader.record(file, before=60)
        for seed in range(5, 8):
            video.write(picture(seed=seed))
        settle(server)
        assert clip.close() == (str(file),)
    found = pictures_of(file)
    assert len(found) == 8
    assert all(psnr(picture(seed=seed), image) > 30 for seed, image in enumerate(found))


def test_two_clips_share_what_is_remembered(server: polycast.Server, tmp_path: Path) -> None:
    with publish(server, key_interval=100) as video, server.read("cam", timeout=PATIENCE, history=60) as reader:
        for seed in range(3):
            video.write(picture(seed=seed), key=seed == 0)
        settle(server)
        clips = [reader.record(tmp_path / f"{name}.mp4", before=30) for name in "ab"]
        settle(server)
        for clip in clips:
            (file,) = clip.close()
            assert len(pictures_of(file)) == 3


def test_a_clip_ends_by_itself(server: polycast.Server, tmp_path: Path) -> None:
    with publish(server) as video, server.read("cam", timeout=PATIENCE, history=60) as reader:
        video.write(picture(), key=True)
        settle(server)
        clip = reader.record(tmp_path / "clip.mp4", before=60, after=0.01)
        (file,) = clip.wait(PATIENCE)
        assert len(pictures_of(file)) == 1


def test_a_stream_that_is_interrupted_makes_two_files(server: polycast.Server, tmp_path: Path) -> None:
    with server.read("cam", timeout=PATIENCE) as reader, reader.record(tmp_path / "clip.mp4") as clip:
        for seed in range(2):
            with publish(server) as video:
                video.write(picture(seed=seed), key=True)
                assert reader.read() is not None
                settle(server)
            settle(server)
    first, second = clip.wait(0)
    assert (first, second) == (str(tmp_path / "clip.mp4"), str(tmp_path / "clip-2.mp4"))
    for seed, file in enumerate((first, second)):
        (image,) = pictures_of(file)
        assert psnr(picture(seed=seed), image) > 30


def test_closing_the_reader_completes_the_clip(server: polycast.Server, tmp_path: Path) -> None:
    with publish(server) as video:
        reader = server.read("cam", timeout=PATIENCE)
        video.write(picture(), key=True)
        assert reader.read() is not None
        clip = reader.record(tmp_path / "clip.mp4")
        video.write(picture(seed=1), key=True)
        settle(server)
        reader.close()
        (file,) = clip.wait(PATIENCE)
        assert len(pictures_of(file)) == 1
        with pytest.raises(polycast.StreamEnded):
            reader.record(tmp_path / "another.mp4")


def test_sound_and_pictures_of_another_server(server: polycast.Server, tmp_path: Path) -> None:
    with (
        server.publish("cam", size=(320, 240), sample_rate=48000, channels=1) as video,
        polycast.read(server.url("cam"), timeout=PATIENCE, history=60) as reader,
    ):
        for count in range(20):
            video.write(picture(), time=1000.0 + count / 10, key=True)
            video.write_audio(np.zeros((4800, 1), np.float32), time=1000.0 + count / 10)
            if count == 10:
                assert reader.read() is not None
        (file,) = reader.record(tmp_path / "clip.mp4", before=60).close()
    with av.open(file) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}


async def test_clips_in_an_event_loop(tmp_path: Path) -> None:
    async with (
        polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server,
        server.publish("cam", size=(320, 240)) as video,
        server.read("cam", timeout=PATIENCE) as reader,
    ):
        await video.write_async(picture(), key=True)
        assert await reader.read_async() is not None
        async with reader.record(tmp_path / "clip.mp4") as clip:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clip.wait_async(), 0.01)
            await video.write_async(picture(seed=1), key=True)
            assert await reader.read_async() is not None
        assert len(pictures_of(tmp_path / "clip.mp4")) == 1
        assert await asyncio.wait_for(clip.wait_async(), PATIENCE) == (str(tmp_path / "clip.mp4"),)


def test_wrong_arguments(server: polycast.Server, tmp_path: Path) -> None:
    with publish(server) as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(picture())
        with pytest.raises(ValueError, match=r"pass history=5 to read"):
            reader.record(tmp_path / "clip.mp4", before=5)
        with pytest.raises(ValueError, match=r"must end in one of \.mp4"):
            reader.record(tmp_path / "clip.avi")
        with pytest.raises(FileNotFoundError, match="does not exist"):
            reader.record(tmp_path / "nowhere" / "clip.mp4")
        (tmp_path / "folder.mp4").mkdir()
        clip = reader.record(tmp_path / "folder.mp4")
        assert reader.read() is not None
        video.write(picture(), key=True)
        settle(server)
        with pytest.raises(OSError, match="folder"):
            clip.close()


def test_a_format_that_does_not_carry_the_codec(server: polycast.Server, tmp_path: Path) -> None:
    with publish(server, codec="vp8") as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(picture())
        assert reader.read() is not None
        with pytest.raises(polycast.UnsupportedCodec, match="VP8"):
            reader.record(tmp_path / "clip.ts").close()
