"""A path that one node publishes is readable at all others, copied once to each, for as long as there are readers."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from tests.cluster.memory import Network
from tests.cluster.streams import NUMBERS, MediaNode, NumberedPublisher, Viewer, start
from tests.cluster.virtual import run
from tests.hub.support import VIDEO

from polycast.cluster import node as node_module
from polycast.config import from_mapping
from polycast.hub.errors import CannotPublish, NoOnePublishing
from polycast.hub.path import Path
from polycast.hub.publisher import Source
from polycast.hub.stats import Reference
from polycast.media.frame import Frame


def is_complete(pictures: list[tuple[int, int]], number: int) -> bool:
    """Whether all pictures of one publisher came, from the first one that came, in order and once."""
    own = [picture for publisher, picture in pictures if publisher == number]
    return bool(own) and own == list(range(own[0], own[0] + len(own)))


@pytest.mark.parametrize("publishes_frames", [False, True])
@pytest.mark.parametrize("reads_frames", [False, True])
def test_a_reader_at_another_node_gets_everything(publishes_frames: bool, reads_frames: bool) -> None:
    async def main() -> None:
        a, b = await start(Network(1), "a", "b")
        publisher = NumberedPublisher(a, "cam", frames=publishes_frames)
        await asyncio.sleep(0.5)
        near, far = Viewer(a, "cam", frames=reads_frames), Viewer(b, "cam", frames=reads_frames)
        await asyncio.sleep(10)
        assert len(near.sessions) == len(far.sessions) == 1
        assert is_complete(far.pictures, publisher.number)
        assert len(far.pictures) > 40
        common = set(near.pictures) & set(far.pictures)
        assert len(common) >= len(far.pictures) - 2
        if not publishes_frames and not reads_frames:
            # Sequence numbers, timestamps and SSRC are those of the publisher.
            assert set(far.sessions[0].packets) <= {*near.sessions[0].packets, *far.sessions[0].packets[-1:]}

    run(main())


def test_a_path_is_copied_once_and_only_while_it_is_read() -> None:
    async def main() -> None:
        a, b = await start(Network(2), "a", "b", sourceOnDemandCloseAfter="5s")
        NumberedPublisher(a, "cam")
        await asyncio.sleep(1)
        assert [path.name for path in b.hub] == []
        viewers = [Viewer(b, "cam") for _ in range(3)]
        await asyncio.sleep(3)
        assert len(a.hub.paths["cam"].readers) == 1
        assert len(b.hub.paths["cam"].readers) == 3
        assert b.hub.paths["cam"].is_copy
        assert not a.hub.paths["cam"].is_copy
        for viewer in viewers:
            viewer.leave()
        await asyncio.sleep(4)
        assert len(a.hub.paths["cam"].readers) == 1
        await asyncio.sleep(2)
        assert len(a.hub.paths["cam"].readers) == 0
        assert "cam" not in b.hub.paths
        again = Viewer(b, "cam")
        await asyncio.sleep(2)
        assert again.pictures

    run(main())


def test_readers_end_with_the_stream() -> None:
    async def main() -> None:
        a, b = await start(Network(3), "a", "b")
        publisher = NumberedPublisher(a, "cam")
        viewer = Viewer(b, "cam")
        await asyncio.sleep(3)
        publisher.leave()
        await asyncio.sleep(0.3)
        assert viewer.sessions[0].closed
        await asyncio.sleep(0.3)
        path = b.hub.path("cam")
        with pytest.raises(NoOnePublishing):
            await path.wait_ready()
        b.hub.release(path)

    run(main())


def test_a_publisher_that_moves_takes_its_readers_along() -> None:
    async def main() -> None:
        a, b, c = await start(Network(4), "a", "b", "c", publisherGrace="10s")
        first = NumberedPublisher(a, "cam")
        viewers = [Viewer(node, "cam") for node in (a, b, c)]
        await asyncio.sleep(3)
        second = NumberedPublisher(c, "cam")
        await asyncio.sleep(5)
        assert first.closed
        for viewer in viewers:
            assert len(viewer.sessions) == 1
            numbers = [number for number, _ in viewer.pictures]
            assert numbers == sorted(numbers)
            assert set(numbers) == {first.number, second.number}
            assert is_complete(viewer.pictures, first.number)
            assert is_complete(viewer.pictures, second.number)
        assert a.hub.paths["cam"].is_copy

    run(main())


def test_an_owner_that_does_not_know_that_it_was_replaced_is_not_read_any_more() -> None:
    async def main() -> None:
        a, b, c = await start(Network(14), "a", "b", "c", publisherGrace="10s")
        first = NumberedPublisher(a, "cam")
        viewer = Viewer(b, "cam")
        await asyncio.sleep(2)
        a.store.cut()
        second = NumberedPublisher(c, "cam")
        await asyncio.sleep(5)
        assert not first.closed, "it still publishes"
        numbers = [number for number, _ in viewer.pictures]
        assert numbers == sorted(numbers)
        assert numbers[-1] == second.number
        assert [name for name, _ in b.accepted] == ["a", "c"]
        a.store.heal()
        await asyncio.sleep(3)
        assert first.closed

    run(main())


def test_a_publisher_is_refused_if_another_node_has_one_that_may_not_be_replaced() -> None:
    async def main() -> None:
        a, b = await start(Network(5), "a", "b", disablePublisherOverride=True)
        NumberedPublisher(a, "cam")
        await asyncio.sleep(1)
        with pytest.raises(CannotPublish, match="someone is already publishing to path 'cam'"):
            NumberedPublisher(b, "cam")

    run(main())


def test_two_publishers_that_come_at_the_same_time_are_one_in_the_end() -> None:
    async def main() -> None:
        a, b, c = await start(Network(6), "a", "b", "c", disablePublisherOverride=True)
        both = [NumberedPublisher(a, "cam"), NumberedPublisher(b, "cam")]
        viewer = Viewer(c, "cam")
        await asyncio.sleep(5)
        left = [publisher for publisher in both if not publisher.closed]
        assert len(left) == 1
        assert viewer.pictures[-1][0] == left[0].number

    run(main())


def test_readers_wait_for_another_publisher_if_their_node_dies() -> None:
    async def main() -> None:
        a, b, c = await start(Network(7), "a", "b", "c", publisherGrace="20s")
        first = NumberedPublisher(a, "cam")
        viewer = Viewer(b, "cam")
        await asyncio.sleep(3)
        a.kill()
        await asyncio.sleep(3)
        second = NumberedPublisher(c, "cam")  # as an encoder does that reconnects through a load balancer
        await asyncio.sleep(5)
        assert len(viewer.sessions) == 1
        assert {number for number, _ in viewer.pictures} == {first.number, second.number}

    run(main())


def test_the_registry_is_not_needed_for_what_runs() -> None:
    async def main() -> None:
        network = Network(8)
        a, b = await start(network, "a", "b")
        publisher = NumberedPublisher(a, "cam")
        viewer = Viewer(b, "cam")
        await asyncio.sleep(3)
        for node in (a, b):
            node.store.cut()
        await asyncio.sleep(60)
        later = Viewer(b, "cam")
        fresh = NumberedPublisher(b, "fresh")
        await asyncio.sleep(5)
        assert later.pictures
        assert not fresh.closed
        for node in (a, b):
            node.store.heal()
        await asyncio.sleep(5)
        assert len(viewer.sessions) == 1
        assert is_complete(viewer.pictures, publisher.number)
        at_a = Viewer(a, "fresh")
        await asyncio.sleep(3)
        assert at_a.pictures

    run(main())


def test_a_slow_node_loses_whole_groups_of_pictures_and_slows_nobody() -> None:
    async def main() -> None:
        network = Network(9)
        a, b, c = await start(network, "a", "b", "c")
        publisher = NumberedPublisher(a, "cam")
        slow, fast = Viewer(b, "cam"), Viewer(c, "cam")
        await asyncio.sleep(2.5)
        outbox = next(
            iter(each for each in a.node.server.subscriptions.members if "[node b]" in each.log._prefix)
        ).outbox
        outbox.pause()
        await asyncio.sleep(1.5)
        assert is_complete(fast.pictures, publisher.number)
        await asyncio.sleep(2)
        own = [picture for _, picture in slow.pictures]
        gaps = [(before, after) for before, after in itertools.pairwise(own) if after != before + 1]
        assert len(gaps) == 1
        assert gaps[0][1] % 5 == 0, "it continues with a key frame"
        assert outbox.dropped

    run(main())


def test_nodes_with_different_tokens_do_not_copy_from_each_other() -> None:
    async def main() -> None:
        network = Network(10)
        a, b = MediaNode(network, "a", token=b"one"), MediaNode(network, "b", token=b"two")
        for node in (a, b):
            await node.start()
        NumberedPublisher(a, "cam")
        await asyncio.sleep(1)
        viewer = Viewer(b, "cam")
        await asyncio.sleep(3)
        assert not viewer.sessions
        assert any("the token of the cluster is another one" in line for line in b.log.lines)

    run(main())


class Camera(Source):
    """A source that delivers pictures while it runs."""

    def __init__(self, node: MediaNode, path: Path) -> None:
        self.node = node
        self.path = path
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self.task is None:
            self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(0.05)
        stream = self.path.start_publishing(self, [VIDEO], publishes_packets=False)
        for number in itertools.count():
            unit = b"\x65\x88" + NUMBERS.pack(ord(self.node.name), number) + bytes(100)
            stream.publish_frame(0, Frame((unit,), number * 18_000, number * 18_000, key=True), 0.0)
            stream.flush()
            await asyncio.sleep(0.2)

    def stop(self, reason: str) -> None:
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            self.path.remove_publisher(self, reason, for_good=True)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference("testSource")


async def start_cameras(network: Network, names: str, **settings: str) -> list[Camera]:
    """Start nodes that all have the same camera as the source of ``cam``."""
    cameras = []
    for name in names:
        node = MediaNode(network, name)
        node.hub.configure(from_mapping({"paths": {"cam": {"source": "rtsp://camera/", **settings}}}).paths)
        cameras.append(Camera(node, node.hub.paths["cam"]))
        await node.start()
        node.hub.paths["cam"].attach_source(cameras[-1])
    await asyncio.sleep(2)
    return cameras


def test_readers_that_wait_where_the_publisher_was_continue_with_it_elsewhere() -> None:
    async def main() -> None:
        a, b = await start(Network(13), "a", "b", publisherGrace="15s")
        first = NumberedPublisher(a, "cam")
        await asyncio.sleep(1)
        viewers = [Viewer(a, "cam"), Viewer(b, "cam")]
        await asyncio.sleep(2)
        first.leave()
        await asyncio.sleep(2)
        second = NumberedPublisher(b, "cam")
        await asyncio.sleep(2)
        for viewer in viewers:
            assert len(viewer.sessions) == 1
            assert {publisher for publisher, _ in viewer.pictures[-5:]} == {second.number}

    run(main())


def test_readers_of_a_source_stay_when_it_moves() -> None:
    async def main() -> None:
        network = Network(14)
        settings = {"source": "rtsp://camera/", "publisherGrace": "15s"}
        nodes = [MediaNode(network, name) for name in "ab"]
        cameras = []
        for node in nodes:
            node.hub.configure(from_mapping({"paths": {"cam": settings}}).paths)
            path = node.hub.paths["cam"]
            await node.start()
            cameras.append(Camera(node, path))
            path.attach_source(cameras[-1])
            await asyncio.sleep(1)
        viewers = [Viewer(node, "cam") for node in nodes]
        await asyncio.sleep(2)
        first, second = sorted(cameras, key=lambda camera: camera.task is None)
        assert second.task is None
        first.node.node.drain(is_draining=True)
        await asyncio.sleep(3)
        for viewer in viewers:
            assert len(viewer.sessions) == 1
            assert {name for name, _ in viewer.pictures[-5:]} == {ord(second.node.name)}
        assert (first.task is None, second.task is not None) == (True, True)

    run(main())


def test_a_source_moves_when_its_node_is_drained() -> None:
    async def main() -> None:
        cameras = await start_cameras(Network(12), "ab")
        first, second = sorted(cameras, key=lambda camera: camera.task is None)
        assert second.task is None
        first.node.node.drain(is_draining=True)
        await asyncio.sleep(3)
        assert first.task is None
        assert second.task is not None
        first.node.node.drain(is_draining=False)
        await asyncio.sleep(3)
        assert first.task is None, "it is left where it is"

    run(main())


def test_a_source_runs_on_one_node_and_moves_when_that_dies() -> None:
    async def main() -> None:
        cameras = await start_cameras(Network(11), "abc")
        running = [camera for camera in cameras if camera.task is not None]
        assert len(running) == 1
        owner = running[0].node
        others = [camera.node for camera in cameras if camera.node is not owner]
        viewer = Viewer(others[0], "cam")
        await asyncio.sleep(2)
        assert {number for number, _ in viewer.pictures} == {ord(owner.name)}
        running[0].stop("killed")
        owner.kill()
        await asyncio.sleep(8)
        assert [camera.task is not None for camera in cameras].count(True) == 1
        count = len(viewer.pictures)
        await asyncio.sleep(2)
        assert {number for number, _ in viewer.pictures[count:]} <= {ord(node.name) for node in others}
        assert len(viewer.pictures) > count

    run(main())


@pytest.mark.parametrize("delay", range(56, 68))
def test_a_source_that_starts_while_its_node_copies_already_ends(delay: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes start the source of a node that has died, some milliseconds apart, and the later one has a viewer."""

    async def main() -> None:
        cameras = await start_cameras(Network(11), "abc")
        assert [camera.task is not None for camera in cameras] == [True, False, False]
        viewer = Viewer(cameras[1].node, "cam")
        await asyncio.sleep(2)
        later = itertools.cycle((0.2 + delay / 1000, 0.2))
        monkeypatch.setattr(node_module.random, "uniform", lambda *_: next(later))
        cameras[0].stop("killed")
        cameras[0].node.kill()
        await asyncio.sleep(8)
        assert [camera.task is not None for camera in cameras].count(True) == 1
        assert viewer.pictures[-1][0] in (ord("b"), ord("c"))

    run(main())
