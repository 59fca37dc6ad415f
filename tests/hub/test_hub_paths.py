"""Paths of the hub: who publishes and reads them, who waits, when they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.hub.support import (
    AUDIO,
    VIDEO,
    Client,
    Frames,
    Observer,
    Packets,
    TestSource,
    make_hub,
    read,
)

from polycast.config import from_mapping
from polycast.hub import hub as hub_module
from polycast.hub.entries import PathEntries
from polycast.hub.errors import (
    CannotPublish,
    InvalidPathName,
    NoOnePublishing,
    PathClosed,
    PathNotConfigured,
    Redirected,
    SourceTimedOut,
    TooManyReaders,
)
from polycast.hub.hub import Hub
from polycast.hub.on_demand import State
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.rtp.header import packet_sizes_for
from polycast.rtp.repacketize import DEFAULT_SIZES


def publish(path: Path) -> tuple[Client, Stream]:
    client = Client()
    path.set_publisher(client)
    return client, path.start_publishing(client, [VIDEO, AUDIO], publishes_packets=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a b", "a?b", "a\n", "ä", "a\0"])
async def test_invalid_names(name: str) -> None:
    with pytest.raises(InvalidPathName):
        make_hub({"all": {}}).path(name)


def state_of(path: Path) -> State | None:
    """Return where the on-demand source of a path is; None for a path without one."""
    return path.on_demand.state if path.on_demand is not None else None


async def test_unknown_name() -> None:
    with pytest.raises(PathNotConfigured, match="path 'b' is not configured"):
        make_hub({"a": {}}).path("b")


async def test_named_paths_exist_from_the_start() -> None:
    hub = make_hub({"a": {}, "all": {}})
    assert set(hub.paths) == {"a"}
    assert [path.name for path in hub] == ["a"]


async def test_groups_and_the_first_match() -> None:
    hub = make_hub({"~^(.)(x)?": {}, "~^ab$": {}, "abc": {}})
    assert hub.path("ab").groups == ("a", "")
    assert hub.path("ab").entry.name == "~^(.)(x)?"
    assert hub.path("abc").groups == ()


async def test_order_of_the_observers_events() -> None:
    hub, observer = make_hub({"all": {}}), Observer()
    hub.observers.append(observer)
    path = hub.path("cam")
    client, _ = publish(path)

    class Leaving(Packets):
        """Does what sessions do: gives the path back when it is closed."""

        def close_reader(self, reason: str) -> None:
            super().close_reader(reason)
            path.remove_reader(self)
            hub.release(path)

    readers = [Leaving(), Leaving()]
    for reader in readers:
        await read(path, reader)
    path.remove_publisher(client, "gone")
    assert observer.events == [
        "cam created",
        "cam ready",
        "cam reader added",
        "cam reader added",
        "cam reader removed",
        "cam reader removed",
        "cam not ready",
        "cam closed",
    ]
    assert [reader.closed for reader in readers] == ["the publisher left: gone"] * 2
    assert not hub.paths


async def test_matched_path_stays_while_it_is_used() -> None:
    hub = make_hub({"all": {}})
    path = hub.path("cam")
    client, _ = publish(path)
    reader = Packets()
    await read(path, reader)
    hub.release(path)
    assert set(hub.paths) == {"cam"}
    path.remove_reader(reader)
    path.remove_reader(reader)
    hub.release(path)
    assert set(hub.paths) == {"cam"}
    path.remove_publisher(client, "gone")
    assert not hub.paths


async def test_request_that_was_abandoned() -> None:
    hub = make_hub({"all": {}})
    path = hub.path("cam")
    with pytest.raises(NoOnePublishing, match="no one is publishing to path 'cam'"):
        await path.wait_ready()
    hub.release(path)
    assert not hub.paths


async def test_released_path_of_another_time_is_left_alone() -> None:
    hub = make_hub({"all": {}})
    old = hub.path("cam")
    hub.release(old)
    new = hub.path("cam")
    publish(new)
    hub.release(old)
    assert hub.paths["cam"] is new


@pytest.mark.parametrize("paths", [{"all": {}}, {"cam": {}}])
async def test_second_publisher_replaces_the_first(paths: dict[str, dict[str, object]]) -> None:
    hub = make_hub(paths)
    path = hub.path("cam")
    first, _ = publish(path)

    def leave(reason: str) -> None:
        path.remove_publisher(first, reason)
        hub.release(path)

    first.close_publisher = leave  # type: ignore[method-assign]
    reader = Packets()
    await read(path, reader)
    second, stream = publish(path)
    assert reader.closed == "the publisher was replaced by another one"
    assert path.publisher is second
    assert path.stream is stream
    assert hub.paths["cam"] is path


async def test_publisher_override_disabled() -> None:
    path = make_hub({"cam": {"disablePublisherOverride": True}}).path("cam")
    first, stream = publish(path)
    with pytest.raises(CannotPublish, match="someone is already publishing to path 'cam'"):
        path.set_publisher(Client())
    assert path.publisher is first
    assert path.stream is stream
    path.set_publisher(first)  # itself is nobody else


async def test_publisher_that_lost_the_path() -> None:
    path = make_hub({"cam": {}}).path("cam")
    first = Client()
    path.set_publisher(first)
    publish(path)
    assert first.closed
    with pytest.raises(CannotPublish, match="publisher is not assigned to this path anymore"):
        path.start_publishing(first, [VIDEO], publishes_packets=True)
    path.remove_publisher(first, "gone")
    path.stop_publishing(first, "paused")
    assert path.stream is not None


async def test_redirect_and_fallback() -> None:
    hub = make_hub({"a": {"source": "redirect", "sourceRedirect": "rtsp://h/x"}, "b": {"fallback": "/c"}})
    for name, target in (("a", "rtsp://h/x"), ("b", "/c")):
        with pytest.raises(Redirected) as caught:
            await hub.path(name).wait_ready()
        assert caught.value.target == target
    with pytest.raises(CannotPublish, match="can't publish to path 'a' since 'source' is not 'publisher'"):
        hub.path("a").set_publisher(Client())


async def test_stream_that_ended_is_not_read() -> None:
    path = make_hub({"cam": {}}).path("cam")
    _, old = publish(path)
    publish(path)
    with pytest.raises(NoOnePublishing):
        path.attach_reader(Packets(), old)


def with_source(hub: Hub, *, start_timeout: float = 60, close_after: float = 60) -> tuple[Path, TestSource]:
    path = hub.path("cam")
    source = TestSource(path)
    path.source = source
    path.set_on_demand(start=source.start, stop=source.stop, start_timeout=start_timeout, close_after=close_after)
    return path, source


async def test_held_requests_get_the_stream() -> None:
    path, source = with_source(make_hub({"cam": {}}))
    held = [asyncio.create_task(path.wait_ready()) for _ in range(3)]
    await asyncio.sleep(0)
    assert source.events == ["start"]
    stream = path.start_publishing(source, [VIDEO], publishes_packets=False)
    assert await asyncio.gather(*held) == [stream] * 3
    assert not path._pending
    path.close("end")


class SlowWorkers:
    """The other worker processes, which take their time to say who starts what."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.asked = 0

    def is_run_here(self, path: str) -> bool:
        return True

    async def settle(self, path: str) -> None:
        self.asked += 1
        await self.answer.wait()

    def readers_of(self, path: str) -> int:
        return 0


def with_workers() -> tuple[Hub, SlowWorkers]:
    hub, workers = make_hub({"all": {}}), SlowWorkers()
    hub._other_workers = workers
    return hub, workers


async def test_stream_that_begins_while_workers_are_asked() -> None:
    hub, workers = with_workers()
    path, source = with_source(hub)
    asking = asyncio.create_task(path.wait_ready())
    await until(lambda: workers.asked == 1)
    stream = path.start_publishing(source, [VIDEO], publishes_packets=False)
    workers.answer.set()
    async with asyncio.timeout(60):
        assert await asking is stream
    assert source.events == []
    path.close("end")


async def test_path_stays_while_workers_are_asked() -> None:
    hub, workers = with_workers()
    path, source = with_source(hub)
    asking = asyncio.create_task(path.wait_ready())
    await until(lambda: workers.asked == 1)
    hub.release(path)  # another client, which did not wait
    assert not path.is_closed
    workers.answer.set()
    await until(lambda: source.events == ["start"])
    asking.cancel()
    await asyncio.wait((asking,))
    path.close("end")


async def test_path_that_is_closed_while_workers_are_asked() -> None:
    hub, workers = with_workers()
    path, source = with_source(hub)
    asking = asyncio.create_task(path.wait_ready())
    await until(lambda: workers.asked == 1)
    path.close("end")
    workers.answer.set()
    with pytest.raises(PathClosed):
        async with asyncio.timeout(60):
            await asking
    assert source.events == ["stop (end)"]


async def test_held_requests_time_out() -> None:
    path, source = with_source(make_hub({"cam": {}}), start_timeout=0.005)
    with pytest.raises(SourceTimedOut, match="source of path 'cam' has timed out"):
        await path.wait_ready()
    assert source.events == ["start", "stop (timed out)"]
    assert state_of(path) is State.STOPPED


async def test_cancelled_request_leaves_the_queue() -> None:
    path, _ = with_source(make_hub({"cam": {}}))
    held = asyncio.create_task(path.wait_ready())
    await asyncio.sleep(0)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert not path._pending
    path.close("end")


async def test_closing_the_path_answers_held_requests() -> None:
    path, source = with_source(make_hub({"cam": {}}))
    held = asyncio.create_task(path.wait_ready())
    await asyncio.sleep(0)
    path.close("end")
    with pytest.raises(PathClosed):
        await held
    assert source.events == ["start", "stop (end)"]


async def test_source_runs_as_long_as_it_is_read() -> None:
    path, source = with_source(make_hub({"cam": {}}), close_after=0.005)
    reader = Packets()
    held = asyncio.create_task(read(path, reader))
    await asyncio.sleep(0)
    path.start_publishing(source, [VIDEO], publishes_packets=False)
    await held
    assert state_of(path) is State.READY
    path.remove_reader(reader)
    await until(lambda: state_of(path) is State.STOPPED)
    assert source.events == ["start", "stop (not in use anymore)"]
    assert path.stream is None


async def test_source_that_is_lost_can_be_wanted_again() -> None:
    path, source = with_source(make_hub({"cam": {}}))
    reader = Frames()
    held = asyncio.create_task(read(path, reader))
    await asyncio.sleep(0)
    path.start_publishing(source, [VIDEO], publishes_packets=False)
    await held
    path.remove_publisher(source, "connection lost")
    assert reader.closed == "the source ended: connection lost"
    assert state_of(path) is State.STOPPED
    again = asyncio.create_task(path.wait_ready())
    await asyncio.sleep(0)
    assert source.events[-1] == "start"
    again.cancel()
    path.close("end")


async def test_publisher_on_demand_that_pauses_is_stopped() -> None:
    """A request while the stream is paused must not wait for ever."""
    path = make_hub({"cam": {}}).path("cam")
    events: list[str] = []
    path.set_on_demand(start=lambda: events.append("start"), stop=events.append, start_timeout=0.005, close_after=0.005)
    held = asyncio.create_task(path.wait_ready())
    await asyncio.sleep(0)
    client, _ = publish(path)
    await held
    path.stop_publishing(client, "the publisher paused")
    assert state_of(path) is State.STOPPED
    with pytest.raises(SourceTimedOut):
        await path.wait_ready()


async def test_publisher_on_demand_that_is_replaced_and_never_starts() -> None:
    path = make_hub({"cam": {}}).path("cam")
    path.set_on_demand(start=lambda: None, stop=lambda _: None, start_timeout=1, close_after=0.005)
    reader = Packets()
    held = asyncio.create_task(read(path, reader))
    await asyncio.sleep(0)
    publish(path)
    await held
    path.set_publisher(Client())
    assert reader.closed
    async with asyncio.timeout(60):
        with pytest.raises(SourceTimedOut):
            await path.wait_ready()
    path.close("end")


async def test_unchanged_entries_keep_their_sessions() -> None:
    hub = make_hub({"a": {}, "b": {}, "c": {}, "all": {}})
    clients = {name: publish(hub.path(name))[0] for name in ("a", "b", "c", "d")}
    before = dict(hub.paths)
    hub.configure(from_mapping({"paths": {"a": {}, "b": {"readUser": "u", "readPass": "p"}, "all": {}}}).paths)
    assert hub.paths["a"] is before["a"]
    assert clients["a"].closed == ""
    assert hub.paths["d"] is before["d"]
    assert clients["d"].closed == ""
    assert clients["b"].closed == "the configuration of the path changed"
    assert hub.paths["b"] is not before["b"]
    # "c" is no longer configured by name, but the settings that apply to it are the same.
    assert hub.paths["c"] is before["c"]
    assert clients["c"].closed == ""
    assert set(hub.paths) == {"a", "b", "c", "d"}


async def test_another_entry_applies_to_a_path() -> None:
    hub = make_hub({"~^cam(.)$": {}, "all": {}})
    clients = {name: publish(hub.path(name))[0] for name in ("live", "cam1", "cam2")}
    hub.configure(from_mapping({"paths": {"live": {"record": True}, "cam1": {}, "~^cam(.)$": {}, "all": {}}}).paths)
    assert clients["live"].closed == ""
    assert hub.paths["live"].entry.name == "live"
    assert hub.paths["live"].configuration.record
    assert clients["cam1"].closed == "the configuration of the path changed", "its groups did"
    assert clients["cam2"].closed == ""
    hub.configure(from_mapping({"paths": {"all": {"record": True}}}).paths)
    assert clients["live"].closed == ""
    assert hub.paths["live"].entry.name == "~^.*$"
    assert "cam1" not in hub.paths, "nobody uses it, and it has no entry of its own any more"


async def test_new_settings_are_applied_path_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get their turn in between: for them, all new entries are there at once."""
    monkeypatch.setattr(hub_module, "SLICE_SECONDS", 0.0)
    hub = make_hub({"same": {}, "live": {}, "restarted": {}, "removed": {}, "~^x": {}, "~^y": {}})
    names = ("same", "live", "restarted", "removed", "x1", "x2", "y1", "y2")
    clients = {name: publish(hub.path(name))[0] for name in names}
    before = dict(hub.paths)
    live, restarting = {"record": True}, {"fallback": "/same"}
    new = {"same": {}, "live": live, "restarted": restarting, "~^x": restarting, "~^y": live, "more": {}, "most": {}}
    entries = hub.entries_of(from_mapping({"paths": new}).paths, DEFAULT_SIZES)
    change = asyncio.create_task(hub.reconfigure(entries))
    await asyncio.sleep(0)
    assert hub.is_named("more")
    assert hub.paths == before, "none has new settings yet"
    with pytest.raises(PathNotConfigured):
        hub.find_entry("removed")
    for name in ("x2", "y2"):
        before[name].remove_publisher(clients[name], "gone")
    second, _ = publish(hub.path("x2"))
    early, _ = publish(hub.path("most"))
    turns = 0
    while not change.done():
        await asyncio.sleep(0)
        turns += 1
    await change
    assert turns > len(before)
    assert set(hub.paths) == {"same", "live", "restarted", "x2", "y1", "more", "most"}
    assert hub.paths["y1"].configuration.record
    assert not before["y2"].configuration.record, "it had ended"
    assert hub.paths["live"] is before["live"]
    assert hub.paths["live"].configuration.record
    closed = {name: client.closed for name, client in clients.items() if client.closed}
    assert closed == {
        "restarted": "the configuration of the path changed",
        "x1": "the configuration of the path changed",
        "removed": "the path was removed from the configuration",
    }
    assert second.closed == early.closed == "", "their paths were made with the new settings"


async def test_an_entry_with_the_same_settings_is_kept() -> None:
    entries = from_mapping({"paths": {"a": {}, "~^b": {}, "c": {}}}).paths
    old = PathEntries(entries)
    changed = {**entries, "c": from_mapping({"paths": {"c": {"record": True}}}).paths["c"]}
    new = PathEntries(changed, DEFAULT_SIZES, old)
    assert [new.find(name)[0] is old.find(name)[0] for name in ("a", "b", "c")] == [True, True, False]
    sizes = packet_sizes_for(1200)
    assert PathEntries(entries, sizes, old).find("a")[0].packet_sizes == sizes


class NamedPackets(Packets):
    """A client's reader; internal ones have no id."""

    def reference(self) -> Reference:
        return Reference("test", str(id(self)))


async def test_more_readers_than_allowed_are_refused() -> None:
    hub = make_hub({"cam": {"maxReaders": 2}})
    path = hub.path("cam")
    _, stream = publish(path)
    first, second = NamedPackets(), NamedPackets()
    path.attach_reader(Packets(), stream)  # does not count
    path.attach_reader(first, stream)
    path.attach_reader(second, stream)
    with pytest.raises(TooManyReaders, match="maximum reader count reached: path 'cam' allows 2"):
        path.attach_reader(NamedPackets(), stream)
    path.remove_reader(first)
    path.attach_reader(NamedPackets(), stream)
    hub.configure(from_mapping({"paths": {"cam": {"maxReaders": 1}}}).paths)
    assert second in path.readers
    hub.configure(from_mapping({"paths": {"cam": {}}}).paths)
    path.attach_reader(NamedPackets(), stream)


async def test_removed_entries_close_their_paths() -> None:
    hub = make_hub({"a": {}, "~^b": {}})
    first, second = publish(hub.path("a"))[0], publish(hub.path("bb"))[0]
    hub.configure(from_mapping({"paths": {"c": {}}}).paths)
    assert {first.closed, second.closed} == {"the path was removed from the configuration"}
    assert set(hub.paths) == {"c"}


async def test_groups_follow_the_expression() -> None:
    hub = make_hub({"~^(a)b": {}})
    path = hub.path("ab")
    publish(path)
    hub.configure(from_mapping({"paths": {"~^(a)b": {}, "~^(ab)": {}}}).paths)
    assert hub.paths["ab"] is path
    assert path.groups == ("a",)


async def test_close_ends_everything() -> None:
    hub, observer = make_hub({"a": {}, "all": {}}), Observer()
    hub.observers.append(observer)
    client, _ = publish(hub.path("b"))
    reader = Packets()
    await read(hub.path("b"), reader)
    hub.close("the server stops")
    assert client.closed == reader.closed == "the server stops"
    assert not hub.paths
    assert observer.events[-3:] == ["b reader removed", "b not ready", "b closed"]


class FailingObserver:
    """Raises whatever it is told."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise ZeroDivisionError(name)

        return fail


async def test_an_observer_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    hub = make_hub({"~^cam": {}})
    observer = Observer()
    hub.observers += [FailingObserver(), observer]  # type: ignore[list-item]
    path = hub.path("cam1")
    client, stream = publish(path)
    reader = Packets()
    path.attach_reader(reader, stream)
    other = Packets()
    path.attach_reader(other, stream)
    path.remove_reader(other)
    path.remove_publisher(client, "gone")
    assert reader.closed == "the publisher left: gone"
    assert observer.events == [
        "cam1 created",
        "cam1 ready",
        "cam1 reader added",
        "cam1 reader added",
        "cam1 reader removed",
        "cam1 reader removed",
        "cam1 not ready",
        "cam1 closed",
    ]
    assert not hub.paths


async def test_a_reader_that_fails_when_it_is_closed_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    class FailingReader(Packets):
        def close_reader(self, reason: str) -> None:
            raise ZeroDivisionError(reason)

    hub = make_hub({"all": {}})
    path = hub.path("a")
    client, stream = publish(path)
    failing, reader = FailingReader(), Packets()
    path.attach_reader(failing, stream)
    path.attach_reader(reader, stream)
    path.remove_publisher(client, "gone")
    assert reader.closed == "the publisher left: gone"
    assert not hub.paths
    assert "a reader failed as it was closed" in capsys.readouterr().err
