"""Uploads of recorded files, to an S3 server of another project (moto)."""

from __future__ import annotations

import logging
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.record.test_recorder import Fixture, configuration, running
from tests.support.running import Lines
from tests.support.waiting import until

from polycast.log import Log
from polycast.record import uploads


class Storage:
    """The server."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"

    def request(self, method: str, name: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method=method)) as answer:
            body: bytes = answer.read()
        return body

    def read(self, name: str) -> bytes:
        """Return an object, as AWS's own client gets it."""
        boto3 = pytest.importorskip("boto3")
        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")
        body: bytes = client.get_object(Bucket="films", Key=name)["Body"].read()
        return body

    def names(self, bucket: str = "films") -> list[str]:
        tree = ElementTree.fromstring(self.request("GET", f"{bucket}?list-type=2"))
        return [element.text or "" for element in tree.iter() if element.tag.endswith("}Key")]

    def address(self, prefix: str = "cameras") -> str:
        return f"s3://films/{prefix}?endpoint={self.endpoint}"


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    pytest.importorskip("obstore")
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(uploads, "RETRY_PAUSES", uploads.RetryPauses(first=0.01, longest=0.01))
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        made = Storage(server.get_host_and_port()[1])
        made.request("POST", "moto-api/reset")
        yield made
    finally:
        server.stop()


async def record(fixture: Fixture, seconds: int = 5) -> list[str]:
    """Record some files; return their names."""
    fixture.play(seconds)
    fixture.publisher.stop()
    await until(lambda: len(fixture.segments.completed) == (seconds + 1) // 2, fixture.log.lines)
    return [str(Path(name).relative_to(fixture.folder)) for name, _ in fixture.segments.completed]


async def test_complete_files_are_uploaded(storage: Storage, tmp_path: Path) -> None:
    storage.request("PUT", "films")
    async with running(tmp_path, recordUpload=storage.address("a/b")) as fixture:
        names = await record(fixture)
        uploader = fixture.app.recorder.uploader
        await until(lambda: uploader.uploaded == 3 and not uploader.waiting, fixture.log.lines)
        assert storage.names() == [f"a/b/{name}" for name in names]
        for name in names:
            assert storage.read(f"a/b/{name}") == (tmp_path / name).read_bytes()


async def test_uploaded_files_are_deleted_if_that_is_wanted(storage: Storage, tmp_path: Path) -> None:
    storage.request("PUT", "films")
    settings: dict[str, Any] = {"recordUpload": storage.address(""), "recordUploadDelete": True}
    async with running(tmp_path, **settings) as fixture:
        names = await record(fixture)
        await until(lambda: fixture.app.recorder.uploader.uploaded == 3, fixture.log.lines)
        await until(lambda: not fixture.app.recorder.uploader.waiting, fixture.log.lines)
        assert storage.names() == names
        assert fixture.files() == [uploads.NAME]


async def test_another_process_uploads(storage: Storage, tmp_path: Path) -> None:
    storage.request("PUT", "films")
    async with running(tmp_path, recordUpload=storage.address()) as fixture:
        uploader = fixture.app.recorder.uploader
        passed: list[uploads.Upload] = []
        uploader.pass_on = passed.append
        names = await record(fixture)
        await until(lambda: len(passed) == 3, fixture.log.lines)
        assert [str(Path(upload.file).relative_to(tmp_path)) for upload in passed] == names
        assert uploader.waiting == 0
        with closing(sqlite3.connect(tmp_path / uploads.NAME)) as database:
            assert database.execute("SELECT count(*) FROM uploads").fetchone() == (3,)
        assert storage.names() == []
        for upload in passed:
            uploader.add(upload)
        await until(lambda: uploader.uploaded == 3 and not uploader.waiting, fixture.log.lines)


async def test_an_upload_is_tried_again(storage: Storage, tmp_path: Path) -> None:
    async with running(tmp_path, recordUpload=storage.address()) as fixture:
        names = await record(fixture)
        await fixture.log.wait("ERROR .*cannot be uploaded to s3://films/cameras")
        await until(lambda: fixture.app.recorder.uploader.waiting == 3, fixture.log.lines)
        assert all((tmp_path / name).exists() for name in names)
        storage.request("PUT", "films")
        await until(lambda: not fixture.app.recorder.uploader.waiting, fixture.log.lines)
        await fixture.log.wait("INFO .*continue")
        assert sum("ERROR" in line for line in fixture.log.lines) == 1
        assert storage.names() == [f"cameras/{name}" for name in names]


async def test_what_did_not_arrive_as_a_whole_is_tried_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    storage.request("PUT", "films")
    put, tries = obstore.put_async, 0

    async def put_half(store: Any, name: str, file: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        return await put(store, name, file.read_bytes()[:1000] if tries == 1 else file, **options)

    monkeypatch.setattr(obstore, "put_async", put_half)
    async with running(tmp_path, recordUpload=storage.address(), recordUploadDelete=True) as fixture:
        fixture.play(1)
        fixture.publisher.stop()
        await fixture.log.wait("ERROR .*1000 of [0-9]+ bytes have arrived")
        await until(lambda: fixture.app.recorder.uploader.uploaded == 1, fixture.log.lines)
        assert tries == 2


async def test_the_next_run_of_the_server_uploads_the_rest(storage: Storage, tmp_path: Path) -> None:
    async with running(tmp_path, recordUpload=storage.address()) as fixture:
        fixture.play(3)
        await until(lambda: fixture.segments.completed, fixture.log.lines)
        await fixture.log.wait("ERROR .*cannot be uploaded")
    names = [str(Path(name).relative_to(tmp_path)) for name, _ in fixture.segments.completed]
    assert len(names) == 2, "the end of the server completes the last file"
    storage.request("PUT", "films")
    (tmp_path / names[0]).unlink()
    async with running(tmp_path, recordUpload=storage.address()) as fixture:
        await until(lambda: fixture.app.recorder.uploader.uploaded == 1, fixture.log.lines)
        await until(lambda: not fixture.app.recorder.uploader.waiting, fixture.log.lines)
        await fixture.log.wait("WARNING .*was deleted before it was uploaded")
        assert storage.names() == [f"cameras/{names[1]}"]


async def test_a_damaged_list_of_uploads_is_made_again(storage: Storage, tmp_path: Path) -> None:
    storage.request("PUT", "films")
    (tmp_path / uploads.NAME).write_bytes(b"this is no database" * 100)
    async with running(tmp_path, recordUpload=storage.address()) as fixture:
        names = await record(fixture, 1)
        await until(lambda: fixture.app.recorder.uploader.uploaded == 1, fixture.log.lines)
        assert storage.names() == [f"cameras/{name}" for name in names]


def journal_with_log() -> tuple[Any, Lines]:
    logger, lines = logging.Logger("uploads"), Lines()
    logger.addHandler(lines)
    return uploads._Journal(Log(logger)), lines


@pytest.mark.parametrize("damage", ["pages", "columns"])
def test_a_list_that_turns_out_to_be_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    name, recording = tmp_path / uploads.NAME, f"{tmp_path}/%path/%s"
    journal, log = journal_with_log()
    for number in range(200):
        journal.add(uploads.Upload(f"{tmp_path}/cam/{number}.mp4", "s3://films", False, recording, "fmp4"))
    if damage == "pages":
        content = name.read_bytes()
        assert len(content) > 2 * 4096
        name.write_bytes(content[:4096].ljust(len(content), b"?"))  # all but the first page
    else:
        with closing(sqlite3.connect(name, isolation_level=None)) as database:
            database.execute("DROP TABLE uploads")
            database.execute("CREATE TABLE uploads (file TEXT)")
    new = uploads.Upload(f"{tmp_path}/cam/new.mp4", "s3://films", True, recording, "fmp4")
    journal.add(new)
    assert journal.read(str(tmp_path)) == [new]
    assert log.find("WARNING .*is made again, files may be missing in it")


def test_what_others_wrote_into_the_list_is_skipped(tmp_path: Path) -> None:
    journal, log = journal_with_log()
    right = uploads.Upload(f"{tmp_path}/cam/0.mp4", "s3://films", False, f"{tmp_path}/%path/%s", "fmp4")
    journal.add(right)
    with closing(sqlite3.connect(tmp_path / uploads.NAME, isolation_level=None)) as database:
        for row in (("a", "nonsense", 0, "", "fmp4"), ("b", "s3://films", 0, None, "fmp4"), (b"c", "s3://x", 0, "", 5)):
            database.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", row)
    assert journal.read(str(tmp_path)) == [right]
    assert log.find("WARNING .*3 entries of .* are not valid")


async def test_a_list_that_another_program_uses_is_not_lost(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(tmp_path / uploads.NAME, isolation_level=None)) as database:
        database.execute(uploads._TABLE)
        database.execute("INSERT INTO uploads VALUES ('other.mp4', 's3://others', 0, '', 'fmp4')")
        database.execute("BEGIN EXCLUSIVE")
        async with running(tmp_path, recordUpload=storage.address()) as fixture:
            await fixture.log.wait("WARNING .*the list of uploads cannot be kept: database is locked")
        database.execute("ROLLBACK")
    with closing(sqlite3.connect(tmp_path / uploads.NAME)) as database:
        assert database.execute("SELECT file FROM uploads").fetchall() == [("other.mp4",)]


async def test_a_file_that_is_refused_holds_up_no_others(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set aside with an error, a number and an event, and tried again later."""
    import obstore

    storage.request("PUT", "films")
    put, refused = obstore.put_async, True

    async def put_others(store: Any, name: str, file: Any, **options: Any) -> Any:
        names.append(name)
        if refused and name == names[0]:
            raise PermissionError("403 Forbidden")
        return await put(store, name, file, **options)

    monkeypatch.setattr(obstore, "put_async", put_others)
    monkeypatch.setattr(uploads, "ASIDE_SECONDS", 0.3)
    names: list[str] = []
    async with running(tmp_path, recordUpload=storage.address("")) as fixture:
        await record(fixture, 7)
        uploader = fixture.app.recorder.uploader
        await until(lambda: uploader.uploaded == 3 and uploader.waiting == uploader.set_aside == 1, fixture.log.lines)
        await fixture.log.wait(f"ERROR .*{names[0]} is set aside.*403 Forbidden")
        assert fixture.segments.failed == [("cam", fixture.segments.created[0])]
        assert names[0] not in storage.names()
        refused = False
        await until(lambda: uploader.uploaded == 4 and not uploader.waiting, fixture.log.lines)
        assert uploader.set_aside == 0
        assert names[0] in storage.names()


async def test_after_an_outage_nothing_is_set_aside(storage: Storage, tmp_path: Path) -> None:
    async with running(tmp_path, recordUpload=storage.address()) as fixture:
        await record(fixture)
        destinations = fixture.app.recorder.uploader._destinations
        await until(lambda: destinations, fixture.log.lines)
        (destination,) = destinations.values()
        failures = destination.failures
        await until(lambda: len(failures) == 3 and min(each.tries for each in failures.values()) >= uploads.TRIES)
        storage.request("PUT", "films")
        await until(lambda: not fixture.app.recorder.uploader.waiting, fixture.log.lines)
        assert fixture.segments.failed == []


def test_the_settings_are_loaded(tmp_path: Path) -> None:
    entry = configuration(tmp_path, recordUpload="s3://films/cameras").paths["cam"]
    assert entry.record_upload == "s3://films/cameras"
    assert not entry.record_upload_delete
