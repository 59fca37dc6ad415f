"""Recordings of a running server: its settings, its disks, and who is told about them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import av
import pytest
from tests.protocols.hls.support import FramePublisher
from tests.support.running import Lines, application
from tests.support.waiting import until

from polycast.app import Application
from polycast.config import Configuration, LoadedConfiguration, from_mapping
from polycast.hub import path as hub_path
from polycast.hub.batch import FrameBatch
from polycast.hub.on_demand import Input
from polycast.hub.path import PathObserver
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader
from polycast.record import disk, memory, path_recorder, writer
from polycast.record import recorder as recorder_module
from polycast.record.store import SegmentStore

OFF = {"rtspDisable": True, "rtmpDisable": True, "hlsDisable": True}


class Segments(PathObserver):
    """Collects what is said about segments."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.completed: list[tuple[str, float]] = []
        self.failed: list[tuple[str, str]] = []
        """Paths and files that cannot be uploaded."""

    def on_segment_created(self, path: hub_path.Path, file: str) -> None:
        self.created.append(file)

    def on_segment_completed(self, path: hub_path.Path, file: str, duration: float) -> None:
        self.completed.append((file, duration))

    def on_upload_failed(self, name: str, file: str) -> None:
        self.failed.append((name, file))


class Viewer(FrameReader):
    """A client that reads the stream meanwhile."""

    def __init__(self) -> None:
        self.frames = 0
        self.closed = ""

    def deliver_frames(self, batch: FrameBatch) -> None:
        self.frames += len(batch.entries)

    def close_reader(self, reason: str) -> None:
        self.closed = reason

    def reference(self) -> Reference:
        return Reference("test", "1")


class Fixture:
    """A server with one path, which is published."""

    def __init__(self, app: Application, log: Lines, folder: Path, segments: Segments) -> None:
        self.app = app
        self.log = log
        self.folder = folder
        self.segments = segments
        self.publisher = FramePublisher(app.hub.path("cam"))
        self.viewer = Viewer()
        self.sent = 0
        self.path = self.publisher.path
        self.path.attach_reader(self.viewer, self.publisher.stream)

    async def reload(self, **path: Any) -> None:
        await self.app.reload(configuration(self.folder, **path))

    def play(self, seconds: int, *, size: int = 200) -> None:
        """Publish the next seconds at once."""
        frames = list(self.publisher.frames(seconds, size=size))
        self.sent += len(frames)
        self.publisher.write(frames)

    async def play_until(self, condition: Callable[[], object]) -> None:
        """Publish until a condition holds."""

        def is_done() -> object:
            if not condition():
                self.play(1)
            return condition()

        await until(is_done, self.log.lines)

    def files(self) -> list[str]:
        return sorted(str(name.relative_to(self.folder)) for name in self.folder.rglob("*") if name.is_file())

    def packets(self) -> int:
        """Return how many packets FFmpeg finds in all files."""
        count = 0
        for name in self.files():
            with av.open(str(self.folder / name)) as container:
                count += sum(packet.size > 0 for packet in container.demux())
        return count


def configuration(folder: Path, name: str = "cam", **path: Any) -> Configuration:
    settings = {"recordPath": f"{folder}/%path/%Y-%m-%d_%H-%M-%S-%f", "recordSegmentDuration": "2s"}
    return from_mapping({**OFF, "paths": {name: {"record": True, **settings, "recordDeleteAfter": "0s", **path}}})


@contextlib.asynccontextmanager
async def running(folder: Path, **path: Any) -> AsyncIterator[Fixture]:
    segments = Segments()
    loaded = LoadedConfiguration(configuration(folder, **path), None, [], frozenset())
    async with application(loaded, observers=[segments]) as (app, log):
        yield Fixture(app, log, folder, segments)


async def test_a_stream_is_recorded_from_its_start_to_its_end(tmp_path: Path) -> None:
    async with running(tmp_path) as fixture:
        fixture.play(5)
        fixture.publisher.stop()
        await until(lambda: len(fixture.segments.completed) == 3, fixture.log.lines)
        assert fixture.segments.created == [file for file, _ in fixture.segments.completed]
        assert [duration for _, duration in fixture.segments.completed] == pytest.approx([2, 2, 1], abs=0.03)
        assert [str(fixture.folder / name) for name in fixture.files()] == fixture.segments.created
        assert fixture.packets() == fixture.sent
        await fixture.log.wait("recording 2 tracks")
        await fixture.log.wait("recording stopped")


async def test_the_end_of_the_server_completes_the_files(tmp_path: Path) -> None:
    async with running(tmp_path) as fixture:
        fixture.play(3)
    assert [round(duration) for _, duration in fixture.segments.completed] == [2, 1]
    assert fixture.packets() == fixture.sent


async def test_recording_is_switched_on_and_off_without_disturbing_anyone(tmp_path: Path) -> None:
    async with running(tmp_path, record=False) as fixture:
        fixture.play(2)
        assert fixture.files() == []
        await fixture.reload(record=True)
        fixture.play(2)
        await fixture.reload(record=False)
        await until(lambda: len(fixture.segments.completed) == 1, fixture.log.lines)
        fixture.play(2)
        await fixture.reload(record=True)
        fixture.play(1)
        await fixture.reload(record=True, recordFormat="mpegts")
        fixture.play(1)
        fixture.publisher.stop()
        await until(lambda: len(fixture.segments.completed) == 3, fixture.log.lines)
        assert [Path(name).suffix for name in fixture.files()] == [".mp4", ".mp4", ".ts"]
        assert fixture.viewer.frames == fixture.sent
        assert fixture.path.readers == ()
        assert fixture.viewer.closed


async def test_settings_of_deletion_do_not_begin_a_new_file(tmp_path: Path) -> None:
    async with running(tmp_path, recordSegmentDuration="1h", recordDeleteAfter="2h") as fixture:
        fixture.play(1)
        await fixture.reload(recordSegmentDuration="1h", recordDeleteAfter="3h", recordMaxSize="1G")
        fixture.play(1)
        fixture.publisher.stop()
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        assert len(fixture.files()) == 1


async def test_an_on_demand_source_is_not_kept_by_the_recorder(tmp_path: Path) -> None:
    async with running(tmp_path, maxReaders=2) as fixture:
        unused: list[str] = []
        fixture.path.set_on_demand(start=lambda: None, stop=unused.append, start_timeout=10, close_after=0)
        assert fixture.path.on_demand is not None
        fixture.path.on_demand.handle(Input.WANTED)
        fixture.path.on_demand.handle(Input.BECAME_READY)
        other = Viewer()
        fixture.path.attach_reader(other, fixture.publisher.stream)
        fixture.path.remove_reader(other)
        assert unused == []
        fixture.path.remove_reader(fixture.viewer)
        await until(lambda: unused, fixture.log.lines)


async def test_commands_are_told_about_files(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    command = f"sh -c 'echo \"$0 $MTX_PATH $MTX_SEGMENT_PATH $MTX_SEGMENT_DURATION $RTSP_PORT\" >> {seen}'"
    folder = tmp_path / "recordings"
    settings = {"runOnRecordSegmentCreate": f"{command} created", "runOnRecordSegmentComplete": f"{command} completed"}
    async with running(folder, recordSegmentDuration="1h", **settings) as fixture:
        fixture.play(3)
        await until(lambda: seen.exists() and "created" in seen.read_text(), fixture.log.lines)
        fixture.publisher.stop()
        await until(lambda: "completed" in seen.read_text(), fixture.log.lines)
    (file,) = fixture.segments.created
    created, completed = seen.read_text().splitlines()
    assert created.split() == ["created", "cam", file, "8554"]
    kind, path, name, duration, port = completed.split()
    assert (kind, path, name, port) == ("completed", "cam", file, "8554")
    assert float(duration) == pytest.approx(3, abs=0.03)


# What was before the recording.


async def test_a_recording_begins_with_what_was_remembered(tmp_path: Path) -> None:
    """The time of the frames is not that of the clock, which the memory goes by: all of them are kept."""
    settings = {"recordBefore": "10s", "recordSegmentDuration": "1h"}
    async with running(tmp_path, record=False, **settings) as fixture:
        fixture.play(5)
        await fixture.reload(record=True, **settings)
        fixture.play(2)
        fixture.publisher.stop()
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        assert [duration for _, duration in fixture.segments.completed] == [pytest.approx(7, abs=0.03)]
        assert fixture.packets() == fixture.sent


async def test_it_remembers_again_after_a_recording(tmp_path: Path) -> None:
    settings = {"recordBefore": "10s", "recordSegmentDuration": "1h"}
    async with running(tmp_path, recordSegmentDuration="1h", recordBefore="10s") as fixture:
        fixture.play(2)
        await fixture.reload(record=False, **settings)
        fixture.play(2)
        await fixture.reload(record=True, **settings)
        fixture.publisher.stop()
        await until(lambda: len(fixture.segments.completed) == 2, fixture.log.lines)
        assert fixture.packets() == fixture.sent


async def test_only_so_much_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAXIMUM_MEMORY", 100_000)
    settings = {"recordBefore": "1h", "recordSegmentDuration": "1h"}
    async with running(tmp_path, record=False, **settings) as fixture:
        fixture.play(20, size=1000)
        await fixture.reload(record=True, **settings)
        fixture.publisher.stop()
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        ((_, duration),) = fixture.segments.completed
        assert duration == pytest.approx(2, abs=0.1)  # whole seconds of 30 KB and some sound


async def test_what_is_too_old_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_000
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000 + now)
    settings = {"recordBefore": "3s", "recordSegmentDuration": "1h"}
    async with running(tmp_path, record=False, **settings) as fixture:
        for _ in range(10):
            fixture.play(1)
            now += 1_000_000_000
        await fixture.reload(record=True, **settings)
        fixture.publisher.stop()
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        ((_, duration),) = fixture.segments.completed
        assert duration == pytest.approx(4, abs=0.1)  # 3 s, and what is needed to begin with a key frame


async def test_a_recording_that_is_asked_for_begins_earlier(tmp_path: Path) -> None:
    async with running(tmp_path, record=False, recordBefore="10s", recordSegmentDuration="1h") as fixture:
        fixture.play(3)
        recorder = fixture.app.recorder
        recorder.start("cam")
        fixture.play(2)
        assert recorder.stop("cam")
        assert not recorder.stop("cam")
        sent = fixture.sent
        fixture.play(2)
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        assert fixture.packets() == sent
        recorder.start("cam", 3600)
        recorder.start("cam", 0.01)  # the longer one counts
        recorder.start("cam", 0.01)
        fixture.play(1)
        recorder.stop("cam")
        recorder.start("other")  # which has no stream yet
        await until(lambda: len(fixture.segments.completed) == 2, fixture.log.lines)
        assert fixture.packets() == fixture.sent


async def test_a_recording_that_is_asked_for_ends_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, record=False, recordSegmentDuration="1h") as fixture:
        fixture.app.recorder.start("cam", 0.01)
        fixture.play(2)
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        assert not fixture.app.recorder.stop("cam")


async def test_what_the_settings_say_goes_on_after_what_was_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path, recordSegmentDuration="1h") as fixture:
        fixture.app.recorder.start("cam")
        fixture.play(1)
        fixture.app.recorder.stop("cam")
        fixture.play(1)
        fixture.publisher.stop()
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        assert len(fixture.segments.completed) == 1
        assert fixture.packets() == fixture.sent


async def test_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        minute_of_day = 9 * 60 + 59

        @classmethod
        def now(cls, zone: tzinfo | None = None) -> Clock:
            return cls(2026, 11, 30, *divmod(cls.minute_of_day, 60))  # a Monday

    monkeypatch.setattr(recorder_module, "datetime", Clock)
    monkeypatch.setattr(recorder_module, "MINUTE", 0.001)
    schedule = {"recordSchedule": ["Mon 10:00-11:00"], "recordSegmentDuration": "1h"}
    async with running(tmp_path, **schedule) as fixture:
        fixture.play(1)
        Clock.minute_of_day = 10 * 60
        await fixture.play_until(lambda: fixture.segments.created)
        Clock.minute_of_day = 11 * 60
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        await fixture.reload(recordSegmentDuration="1h")  # always
        await fixture.play_until(lambda: len(fixture.segments.created) == 2)


# Disks.


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(path_recorder, "RETRY_PAUSES", path_recorder.RetryPauses(first=0.001, longest=0.001))


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=lambda number: errno.errorcode[number])
async def test_a_disk_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    written = disk.write_all
    broken = threading.Event()

    def write(descriptor: int, pieces: Sequence[bytes]) -> int:
        if broken.is_set():
            os.write(descriptor, b"".join(pieces)[:1000])
            raise OSError(number, os.strerror(number))
        return written(descriptor, pieces)

    monkeypatch.setattr(disk, "write_all", write)
    async with running(tmp_path, recordSegmentDuration="1h") as fixture:
        fixture.play(3)
        await until(lambda: fixture.segments.created, fixture.log.lines)
        broken.set()
        fixture.play(2)
        await fixture.log.wait(f"ERROR .*recorder. cannot write {tmp_path}/cam/.*mp4: {os.strerror(number)}")
        fixture.play(2)
        broken.clear()
        await fixture.play_until(lambda: len(fixture.segments.created) == 2)
        await fixture.log.wait("INFO .*recording continues")
        assert sum("ERROR" in line for line in fixture.log.lines) == 1
        fixture.publisher.stop()
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        assert fixture.viewer.frames == fixture.sent
        assert fixture.packets() > 0  # also of the file that was given up: what is incomplete was cut off
        assert len(fixture.files()) == 2


async def test_a_disk_that_hangs_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = disk.write_all
    works = threading.Event()

    def write(descriptor: int, pieces: Sequence[bytes]) -> int:
        works.wait()
        return written(descriptor, pieces)

    monkeypatch.setattr(disk, "write_all", write)
    monkeypatch.setattr(writer, "MAXIMUM_QUEUE", 200_000)
    async with running(tmp_path, recordSegmentDuration="1h") as fixture:
        fixture.play(10, size=5000)
        await fixture.log.wait("WARNING .*the disk does not keep up")
        (recording,) = fixture.app.recorder.recordings
        segmenter = recording.segmenter
        assert segmenter is not None
        assert segmenter.counters.dropped > 0
        assert recording.writer.queued <= 200_000
        works.set()
        await until(lambda: recording.writer.queued == 0, fixture.log.lines)
        fixture.play(2)
        fixture.publisher.stop()
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        assert fixture.viewer.frames == fixture.sent
        assert fixture.packets() == fixture.sent - segmenter.counters.dropped
        assert sum("WARNING" in line for line in fixture.log.lines) == 1


async def test_the_server_ends_although_a_disk_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = threading.Event()
    monkeypatch.setattr(disk, "write_all", lambda descriptor, pieces: works.wait() and 0)
    monkeypatch.setattr("polycast.record.recorder.CLOSE_SECONDS", 0.01)
    async with running(tmp_path) as fixture:
        fixture.play(3)
    await fixture.log.wait("ERROR .*a disk does not respond")
    works.set()


@pytest.mark.usefixtures("soon")
async def test_a_directory_that_is_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    async with running(folder, recordSegmentDuration="1h") as fixture:
        fixture.play(3)
        await until(lambda: fixture.segments.created, fixture.log.lines)
        shutil.rmtree(folder)
        await fixture.play_until(lambda: len(fixture.segments.created) == 2)
        assert fixture.log.find("the file was deleted while it was written")
        assert len(fixture.files()) == 1


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("obstacle", ["file", "link"])
async def test_what_is_in_the_way_is_told_and_left_alone(tmp_path: Path, obstacle: str) -> None:
    """Also the name of a path may be that of a file of another path."""
    folder, outside = tmp_path / "recordings", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    if obstacle == "file":
        (folder / "cam").write_bytes(b"important")
    else:
        (folder / "cam").symlink_to(outside)
    async with running(folder) as fixture:
        fixture.play(3)
        await fixture.log.wait("ERROR .*cannot write .*cam")
        fixture.play(1)
        assert fixture.viewer.frames == fixture.sent
    assert list(outside.iterdir()) == []
    assert obstacle == "link" or (folder / "cam").read_bytes() == b"important"


async def test_an_error_that_lasts_is_told_once_and_tried_ever_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_recorder, "RETRY_PAUSES", path_recorder.RetryPauses(first=0.001, longest=0.1))
    pauses: list[float] = []
    chosen = path_recorder.Backoff.pause

    def pause(backoff: path_recorder.Backoff, limits: path_recorder.RetryPauses) -> float:
        pauses.append(chosen(backoff, limits))
        return pauses[-1]

    monkeypatch.setattr(path_recorder.Backoff, "pause", pause)
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "cam").symlink_to(tmp_path)
    async with running(folder) as fixture:
        await fixture.play_until(lambda: len(pauses) == 4)  # each for a file of another name
        assert pauses[3] > 2 * pauses[0]
        assert sum("ERROR" in line for line in fixture.log.lines) == 1


async def test_files_are_never_overwritten(tmp_path: Path) -> None:
    async with running(tmp_path, recordPath=f"{tmp_path}/%path_%s", recordSegmentDuration="1s") as fixture:
        fixture.play(1)
        await fixture.reload(recordPath=f"{tmp_path}/%path_%s", recordSegmentDuration="2s")
        fixture.play(1)
        await fixture.reload(recordPath=f"{tmp_path}/%path_%s", recordSegmentDuration="1s")
        fixture.play(1)
        fixture.publisher.stop()
        await until(lambda: len(fixture.segments.completed) == 3, fixture.log.lines)
    assert len(fixture.files()) == 3
    store = SegmentStore(f"{tmp_path}/%path_%s", "fmp4")
    assert len(store.segments("cam")) == 3


async def test_a_stream_without_a_track_that_can_be_recorded(tmp_path: Path) -> None:
    from polycast.media.codec import G722
    from polycast.media.track import Track

    async with application(LoadedConfiguration(configuration(tmp_path), None, [], frozenset())) as (app, log):
        FramePublisher(app.hub.path("cam"), [Track(0, G722())])
        await log.wait(r"WARNING .*track 1 \(G722\) is skipped: players do not play it in MP4")
        await log.wait("WARNING .*no track that can be recorded")
        assert list(app.recorder.recordings) == []


async def test_parts_are_on_the_disk_if_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronized: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synchronized.append)
    async with running(tmp_path, recordSync=True, recordSegmentDuration="1h") as fixture:
        fixture.play(5)
        await until(lambda: len(synchronized) >= 4, fixture.log.lines)
