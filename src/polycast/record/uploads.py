"""Uploads recorded files to object storages, once they are complete.

What is still to be uploaded is kept in a database beside the files, so that nothing is forgotten when the server ends.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple

from polycast.config.schema import Configuration
from polycast.config.upload import parse_upload_address
from polycast.config.values import InvalidValueError
from polycast.errors import missing_packages
from polycast.hub.path import Path, PathObserver
from polycast.hub.retry import Backoff, RetryPauses
from polycast.log import Log
from polycast.media.timebase import WallTime
from polycast.record.store import EXTENSIONS, Segment, SegmentStore

NAME: Final = ".polycast-uploads.sqlite3"
"""File of the database, in the directory that all files of a ``recordPath`` are in."""
RETRY_PAUSES: Final = RetryPauses(first=2.0, longest=300.0)
"""After an error of a destination."""
REQUEST_SECONDS: Final = 60
"""How long a request may take; large files are uploaded in parts."""
BUSY_SECONDS: Final = 5.0
"""How long another process may use the database."""

TRIES: Final = 3
"""Attempts after which other files are tried before a file is tried again."""
REFUSALS: Final = 2
"""Times that a file fails while others can be uploaded until it is set aside: the first time, the destination may just
have recovered."""
ASIDE_SECONDS: Final = 3600.0
"""Seconds after which a file that was set aside is tried again."""

_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
"""Primary result codes, the low byte of the extended ones. The last one means that it has other columns."""

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS uploads (file TEXT, address TEXT, removes INTEGER, record_path TEXT, "
    "record_format TEXT, PRIMARY KEY (file, address)) WITHOUT ROWID"
)


class Upload(NamedTuple):
    """A file that is to be uploaded."""

    file: str
    address: str
    removes: bool
    """Whether the file is deleted afterwards."""
    record_path: str
    record_format: str

    @property
    def store(self) -> SegmentStore:
        """The files of its recording."""
        return SegmentStore(self.record_path, self.record_format)


class Uploader(PathObserver):
    """All uploads, one after the other to each destination. Used only from the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        configuration: Callable[[], Configuration],
        notify: Callable[[Callable[[PathObserver], None]], None],
    ) -> None:
        """``notify`` calls a function with each observer of paths."""
        self._loop = loop
        self._notify = notify
        self._log = log.child("upload")
        self._configuration = configuration
        self._destinations: dict[str, _Destination] = {}
        self._known: set[Upload] = set()
        self._journal = _Journal(self._log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._notes: set[asyncio.Task[None]] = set()
        """Those that must not be cancelled: a file would be forgotten."""
        self.uploaded = 0
        """Files since the start."""
        self.pass_on: Callable[[Upload], None] = self.add
        """Called with a file that is to be uploaded, once it is in the database; another process may upload it."""

    @property
    def waiting(self) -> int:
        """Files that are still to be uploaded."""
        return len(self._known)

    @property
    def set_aside(self) -> int:
        """Files among them that cannot be uploaded, although others can."""
        return sum(len(destination.aside) for destination in self._destinations.values())

    def start(self) -> None:
        """Go on with what an earlier run of the server has left."""
        paths = self._configuration().paths.values()
        stores = {SegmentStore(each.record_path, each.record_format.value).root for each in paths if each.record_upload}
        if stores:
            self._keep(self._loop.create_task(self._load(stores)))

    async def _load(self, roots: Iterable[str]) -> None:
        for root in roots:
            for upload in await self._journal.run(self._journal.read, root):
                self.add(upload)

    def on_segment_completed(self, path: Path, file: str, duration: float) -> None:
        configuration = path.configuration
        if configuration.record_upload:
            upload = Upload(
                file,
                configuration.record_upload,
                configuration.record_upload_delete,
                configuration.record_path,
                configuration.record_format.value,
            )
            task = self._loop.create_task(self._note(upload))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def _note(self, upload: Upload) -> None:
        await self._journal.run(self._journal.add, upload)
        self.pass_on(upload)

    def add(self, upload: Upload) -> None:
        """Upload a file that is in the database."""
        if upload in self._known:
            return
        self._known.add(upload)
        destination = self._destinations.get(upload.address)
        if destination is None:
            destination = self._destinations[upload.address] = _Destination(upload.address)
        self._enqueue(destination, upload)

    def _enqueue(self, destination: _Destination, upload: Upload) -> None:
        destination.queue.append(upload)
        if not destination.is_running:
            destination.is_running = True
            self._keep(self._loop.create_task(self._serve(destination)))

    async def _serve(self, destination: _Destination) -> None:
        """Upload everything for a destination."""
        try:
            while destination.queue:
                upload = destination.queue[0]
                if not await self._try(destination, upload):
                    if destination.failures[upload].refusals >= REFUSALS:
                        self._set_aside(destination, upload)
                        continue
                    await asyncio.sleep(destination.backoff.pause(RETRY_PAUSES))
                    failure = destination.failures[upload]
                    if failure.tries >= TRIES or failure.refusals:
                        destination.queue.rotate(-1)  # others may succeed
                    continue
                destination.queue.popleft()
                destination.failures.pop(upload, None)
                await self._journal.run(self._journal.remove, upload)
                self._known.discard(upload)
        finally:
            destination.is_running = False

    async def _try(self, destination: _Destination, upload: Upload) -> bool:
        """Return whether nothing more is to be done for a file."""
        if not await asyncio.to_thread(os.path.isfile, upload.file):
            self._log.warning("%s was deleted before it was uploaded", upload.file)
            return True
        try:
            await destination.put(upload)
        except Exception as error:  # those of the library differ by server and kind of failure
            text, last_error = _first_line(error), destination.error
            if text != destination.error:
                self._log.error("%s cannot be uploaded to %s: %s", upload.file, upload.address, text)
            destination.error = text
            failure = destination.failures.setdefault(upload, _Failure())
            failure.tries, failure.error = failure.tries + 1, text
            if not last_error and failure.refusals:  # it failed right after another one was uploaded
                failure.refusals += 1
            return False
        if destination.error:
            self._log.info("uploads to %s continue", upload.address)
        destination.error, destination.backoff = "", Backoff()
        self.uploaded += 1
        self._log.debug("%s was uploaded to %s", upload.file, upload.address)
        destination.failures.pop(upload, None)
        for other, failure in [*destination.failures.items()]:
            failure.refusals += failure.tries > 0
            failure.tries = 0
            if failure.refusals >= REFUSALS:
                self._set_aside(destination, other)
        if upload.removes:
            await asyncio.to_thread(self._remove, upload)
        return True

    def _set_aside(self, destination: _Destination, upload: Upload) -> None:
        """Try a file again later, since others could be uploaded meanwhile."""
        error = destination.failures.pop(upload).error
        self._log.error(
            "%s is set aside, as it cannot be uploaded to %s, while others can: %s", upload.file, upload.address, error
        )
        destination.queue.remove(upload)
        destination.aside[upload] = self._loop.call_later(ASIDE_SECONDS, self._try_again, destination, upload)
        segment = upload.store.parse(upload.file)
        name = segment.path if segment is not None else ""
        self._notify(lambda observer: observer.on_upload_failed(name, upload.file))

    def _try_again(self, destination: _Destination, upload: Upload) -> None:
        del destination.aside[upload]
        destination.failures[upload] = _Failure(refusals=REFUSALS - 1)
        self._enqueue(destination, upload)

    def _remove(self, upload: Upload) -> None:
        try:
            upload.store.remove(Segment("", WallTime(0), upload.file))
        except OSError as error:
            self._log.warning("%s cannot be deleted: %s", upload.file, error.strerror or error)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop. What is not uploaded is uploaded when the server runs again."""
        for destination in self._destinations.values():
            for timer in destination.aside.values():
                timer.cancel()
        if self._notes:
            await asyncio.wait(set(self._notes))
        for task in [*self._tasks]:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        self._journal.close()


@dataclass(slots=True)
class _Failure:
    tries: int = 0
    """Since something was uploaded to the destination."""
    refusals: int = 0
    """How often others were uploaded after such tries."""
    error: str = ""
    """The last one."""


class _Destination:
    """A bucket with a prefix."""

    def __init__(self, address: str) -> None:
        self._address = parse_upload_address(address)
        self._store: Any = None
        self.queue: deque[Upload] = deque()
        self.failures: dict[Upload, _Failure] = {}
        """Files of the queue that could not be uploaded so far."""
        self.aside: dict[Upload, asyncio.TimerHandle] = {}
        """Files that are tried again later."""
        self.is_running = False
        self.error = ""
        """The last error, if uploads fail."""
        self.backoff = Backoff()

    async def put(self, upload: Upload) -> None:
        """Upload a file, and make sure that all of it arrived. Raises an error of the library, or OSError."""
        try:
            import obstore
        except ImportError as error:
            raise OSError(missing_packages("recordUpload", "obstore")) from error
        if self._store is None:
            self._store = self._open()
        file = FilePath(upload.file)
        name = file.relative_to(upload.store.root).as_posix()
        kind = "video/mp4" if file.suffix == ".mp4" else "video/mp2t"
        size = (await asyncio.to_thread(file.stat)).st_size
        await obstore.put_async(self._store, name, file, attributes={"Content-Type": kind})
        found = (await obstore.head_async(self._store, name))["size"]
        if found != size:
            raise OSError(f"{found} of {size} bytes have arrived")

    def _open(self) -> Any:
        from obstore.store import S3Store

        address = self._address
        options: dict[str, Any] = {"checksum_algorithm": "sha256"}  # the server compares it with what it got
        if address.endpoint:
            options["endpoint"] = address.endpoint
        if address.region:
            options["region"] = address.region
        return S3Store(
            address.bucket,
            prefix=address.prefix or None,
            config=options,  # type: ignore[arg-type]
            client_options={
                "allow_http": address.endpoint.startswith("http://"),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
            },
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)},
        )


class _Journal:
    """What is to be uploaded, in a database in each directory of recordings. Its methods run in a thread of its own."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="uploads")

    async def run(self, function: Callable[..., Any], argument: object) -> Any:
        """Call one of the other methods in the thread; an error of the database is logged."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, argument)
        except (sqlite3.Error, OSError) as error:
            self._log.warning("the list of uploads cannot be kept: %s", error)
            return []

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False)

    def read(self, root: str) -> list[Upload]:
        """Return what is to be uploaded of a directory."""
        name = os.path.join(root, NAME)
        if not os.path.exists(name):
            return []
        rows = self._execute(name, f"SELECT {', '.join(Upload._fields)} FROM uploads ORDER BY file")
        uploads = [Upload(file, address, bool(removes), *rest) for file, address, removes, *rest in rows]
        valid = [upload for upload in uploads if _is_valid(upload)]
        if len(valid) < len(uploads):
            self._log.warning("%d entries of %s are not valid", len(uploads) - len(valid), name)
        return valid

    def add(self, upload: Upload) -> list[Upload]:
        """Remember a file."""
        fields = ", ".join(Upload._fields)
        statement = f"INSERT OR REPLACE INTO uploads ({fields}) VALUES (?, ?, ?, ?, ?)"
        self._execute(os.path.join(upload.store.root, NAME), statement, upload)
        return []

    def remove(self, upload: Upload) -> list[Upload]:
        """Forget a file."""
        name = os.path.join(upload.store.root, NAME)
        self._execute(name, "DELETE FROM uploads WHERE file = ? AND address = ?", upload[:2])
        return []

    def _execute(self, name: str, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement. A database that turns out to be damaged is made again."""
        try:
            return self._try(name, statement, values)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:  # in use, or full: nothing may be lost
                raise
            self._log.warning("%s is made again, files may be missing in it: %s", name, error)
            for suffix in ("", "-journal"):
                with suppress(OSError):
                    os.unlink(name + suffix)
            return self._try(name, statement, values)

    @staticmethod
    def _try(name: str, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(name, timeout=BUSY_SECONDS, isolation_level=None)) as database:
            database.execute(_TABLE)
            return database.execute(statement, values).fetchall()


def _is_valid(upload: Upload) -> bool:
    """Return whether something of a database, which others may have changed, can be uploaded."""
    texts = (upload.file, upload.address, upload.record_path, upload.record_format)
    if not all(isinstance(text, str) for text in texts):
        return False
    try:
        parse_upload_address(upload.address)
    except InvalidValueError:
        return False
    return upload.record_format in EXTENSIONS


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).split("\n", 1)[0]
