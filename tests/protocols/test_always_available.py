"""Paths that are always available: readers stay while publishers come and go, and hooks and API say which is there."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.control.support import Server, running
from tests.protocols.rtsp.support import AUDIO, G711, VIDEO, RtspClient, sdp
from tests.protocols.sources.camera import camera
from tests.support.rtp import key_unit, rtp, slice_unit

from polycast.config import from_mapping
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.errors import ConfigurationError
from polycast.hub import slate
from polycast.hub.path import Path as HubPath
from polycast.hub.path import PathObserver
from polycast.slates import generated

PICTURES = {"alwaysAvailable": True, "alwaysAvailableTracks": [{"codec": "H264"}]}
BOTH = {
    "alwaysAvailable": True,
    "alwaysAvailableTracks": [
        {"codec": "H264"},
        {"codec": "MPEG4Audio", "sampleRate": 48_000, "channelCount": 2},
    ],
}


class Header:
    """The fields of an RTP packet."""

    def __init__(self, packet: bytes) -> None:
        second, self.sequence, self.timestamp, self.ssrc = struct.unpack_from("!xBHII", packet)
        self.payload_type = second & 0x7F
        self.payload = packet[12:]


async def packets(reader: RtspClient, until_payload: bytes) -> list[Header]:
    """Return the packets of the first track up to one with this payload."""
    found: list[Header] = []
    while not found or found[-1].payload != until_payload:
        channel, data = await reader.frame()
        if channel == 0:
            found.append(Header(data))
    return found


def check_continuity(received: Sequence[Header]) -> None:
    assert len({each.ssrc for each in received}) == 1
    assert len({each.payload_type for each in received}) == 1
    for before, after in itertools.pairwise(received):
        assert after.sequence == (before.sequence + 1) & 0xFFFF
        assert (after.timestamp - before.timestamp) & 0xFFFFFFFF < 90_000 * 30


async def state(server: Server, path: str = "cam") -> tuple[bool, bool, Any]:
    """Return what the API says: available, online, source."""
    found = await server.get(f"/v3/paths/get/{path}")
    assert found["ready"] == found["available"]
    first = await server.get(f"/v1/paths/get/{path}")
    assert (first["sourceReady"], first["online"]) == (found["available"], found["online"])
    assert (found["onlineTime"] is not None) == found["online"]
    return found["available"], found["online"], found["source"]


async def test_readers_stay_when_publishers_come_and_go() -> None:
    async with running(paths={"cam": PICTURES}) as server:
        assert await state(server) == (True, False, None)
        reader = await server.reader("cam")
        key = key_unit(40)
        received: list[Header] = []
        for number in range(2):
            publisher = await server.publisher("cam")
            available, online, source = await state(server)
            assert (available, online, source["type"]) == (True, True, "rtspSession")
            publisher.send_frame(0, rtp(5, slice_unit(), timestamp=1000))
            publisher.send_frame(0, rtp(6, key, timestamp=4000, ssrc=number))
            mark = slice_unit(30 + number)
            publisher.send_frame(0, rtp(7, mark, timestamp=7000, ssrc=number))
            received += await packets(reader, mark)
            last, before = received[-1], received[-2]
            assert (before.payload, last.timestamp - before.timestamp) == (key, 3000)
            assert slice_unit() not in [each.payload for each in received], "nothing before the key frame"
            await publisher.close()
            await server.until(lambda: not server.app.hub.paths["cam"].is_online)
            assert await state(server) == (True, False, None)
            channel, data = await reader.frame()
            while channel % 2:  # a report
                channel, data = await reader.frame()
            received.append(Header(data))
        check_continuity(received)
        assert server.log.find(r"\[path cam\] stream is available, 1 track \(H264\)")
        assert len([line for line in server.log.lines if "[path cam] stream is online" in line]) == 2
        assert len([line for line in server.log.lines if "[path cam] stream is offline" in line]) == 2


async def test_packets_pass_unchanged_if_nobody_has_read_the_slate() -> None:
    async with running(paths={"cam": PICTURES}) as server:
        publisher = await server.publisher("cam")
        reader = await server.reader("cam")
        publisher.send_frame(0, rtp(6, key_unit(40), timestamp=4000, ssrc=77))
        (received,) = await packets(reader, key_unit(40))
        assert (received.sequence, received.timestamp, received.ssrc) == (6, 4000, 77)


@pytest.mark.parametrize(
    ("description", "tracks", "reason"),
    [
        (sdp(VIDEO), 1, "wants to publish [H264], but stream expects [H264 AAC]"),
        (sdp(AUDIO, VIDEO), 2, "wants to publish [AAC H264], but stream expects [H264 AAC]"),
        (sdp(VIDEO, G711), 2, "wants to publish [H264 PCMU], but stream expects [H264 AAC]"),
        (
            sdp(VIDEO, AUDIO.replace("48000/2", "44100/2").replace("config=1190", "config=1210")),
            2,
            "AAC configuration does not match, is sampleRate=44100, channelCount=2, but stream expects "
            "sampleRate=48000, channelCount=2",
        ),
        (
            sdp(VIDEO, AUDIO.replace("sizelength=13; indexlength=3", "sizelength=6; indexlength=2")),
            2,
            "AAC configuration does not match, is 'MPEG4-GENERIC profile-level-id=1; mode=AAC-hbr; sizelength=6",
        ),
    ],
)
async def test_a_publisher_with_other_tracks_is_refused(description: str, tracks: int, reason: str) -> None:
    async with running(paths={"cam": BOTH}) as server:
        reader = await server.reader("cam")
        client = await server.rtsp()
        url = server.url("cam")
        await client.announce(url, description)
        for track in range(tracks):
            transport = f"RTP/AVP/TCP;unicast;interleaved={2 * track}-{2 * track + 1};mode=record"
            assert (await client.request("SETUP", f"{url}/trackID={track}", {"Transport": transport})).status == 200
        response = await client.request("RECORD", url)
        assert response.status == 400
        assert reason in " ".join(server.log.lines)
        assert await state(server) == (True, False, None)
        await reader.frame()


@pytest.mark.parametrize(
    "audio",
    [
        AUDIO.replace("config=1190", "config=119056E500"),
        AUDIO.replace("profile-level-id=1; ", "streamtype=5;profile-level-id=2;").replace("AAC-hbr", "aac-HBR"),
    ],
)
async def test_other_words_for_the_same_tracks(audio: str) -> None:
    async with running(paths={"cam": BOTH}) as server:
        client = await server.rtsp()
        await client.publish(server.url("cam"), sdp(VIDEO, audio), 2)
        assert (await state(server))[1]


async def test_another_publisher_takes_over() -> None:
    async with running(paths={"cam": PICTURES, "kept": {**PICTURES, "disablePublisherOverride": True}}) as server:
        reader = await server.reader("cam")
        await server.publisher("cam")
        second = await server.publisher("cam")
        second.send_frame(0, rtp(1, key_unit(40)))
        check_continuity(await packets(reader, key_unit(40)))
        await server.publisher("kept")
        client = await server.rtsp()
        assert (await client.request("ANNOUNCE", server.url("kept"), body=sdp(VIDEO))).status == 400


async def test_a_source_that_fails_is_replaced_by_the_slate() -> None:
    async with camera() as origin:
        path = {**PICTURES, "source": origin.url(), "sourceProtocol": "tcp", "sourceRetryPause": "10ms"}
        async with running(paths={"cam": path}) as server:
            reader = await server.reader("cam")
            await origin.asked("PLAY")
            await server.until(lambda: server.app.hub.paths["cam"].is_online)
            origin.send_key()
            port = origin.port
            await origin.close()
            await server.until(lambda: not server.app.hub.paths["cam"].is_online)
            assert (await server.get("/v1/paths/get/cam"))["sourceFailure"]["error"]
            assert (await state(server))[:2] == (True, False)
            await origin.open(port=port)
            await origin.asked("PLAY", 2)
            await server.until(lambda: server.app.hub.paths["cam"].is_online)
            assert (await server.get("/v1/paths/get/cam"))["sourceFailure"] is None
            await reader.frame()


async def test_a_pause_shows_the_slate() -> None:
    async with running(paths={"cam": PICTURES}) as server:
        reader = await server.reader("cam")
        publisher = await server.publisher("cam")
        assert (await publisher.request("PAUSE", server.url("cam"))).status == 200
        assert not (await state(server))[1]
        await reader.frame()
        assert (await publisher.request("RECORD", server.url("cam"))).status == 200
        assert (await state(server))[1]
        publisher.send_frame(0, rtp(1, key_unit(40)))
        check_continuity(await packets(reader, key_unit(40)))


class Events(PathObserver):
    """What happens to a path, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_path_ready(self, path: HubPath) -> None:
        self.names.append("ready")

    def on_path_online(self, path: HubPath) -> None:
        self.names.append("online")

    def on_path_offline(self, path: HubPath) -> None:
        self.names.append("offline")

    def on_path_not_ready(self, path: HubPath) -> None:
        self.names.append("not ready")


async def test_hooks(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.touch()
    hooks = {
        "runOnReady": f"sh -c 'echo Available [$MTX_SOURCE_TYPE] >> {lines}'",
        "runOnNotReady": f"sh -c 'echo Unavailable [$MTX_SOURCE_TYPE] >> {lines}'",
        "runOnOnline": f"sh -c 'echo Online [$MTX_SOURCE_TYPE] $MTX_QUERY >> {lines}'",
        "runOnOffline": f"sh -c 'echo Offline [$MTX_SOURCE_TYPE] $MTX_QUERY >> {lines}'",
    }

    def written(count: int) -> bool:
        return len(lines.read_text().splitlines()) == count

    async with running(paths={"cam": {**PICTURES, **hooks}}) as server:
        observer = Events()
        server.app.hub.observers.append(observer)
        await server.until(lambda: written(1))
        for number in range(2):
            publisher = await server.publisher("cam?a=b")
            await server.until(lambda number=number: written(2 + 2 * number))
            await publisher.close()
            await server.until(lambda number=number: written(3 + 2 * number))
        assert observer.names == ["online", "offline"] * 2
    assert lines.read_text().splitlines() == [
        "Available []",
        *["Online [rtspSession] a%3Db", "Offline [rtspSession] a%3Db"] * 2,
        "Unavailable []",
    ]
    assert observer.names[4:] == ["not ready"]


async def test_changes_of_the_configuration(tmp_path: Path) -> None:
    async with running(paths={"cam": {}}) as server:
        await server.changed("/v1/config/paths/edit/cam", PICTURES)
        assert await state(server) == (True, False, None)
        reader = await server.reader("cam")
        file = {"alwaysAvailableFile": str(tmp_path / "none.mp4"), "alwaysAvailableTracks": []}
        response = await server.post("/v1/config/paths/edit/cam", file)
        assert response.status_code == 400
        assert "invalid 'alwaysAvailableFile': No such file or directory" in response.json()["error"]
        await reader.sync(server.url("cam"))
        await server.changed("/v1/config/paths/edit/cam", {"alwaysAvailable": False})
        assert await reader.ended()
        assert (await state(server))[0] is False


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, "'alwaysAvailableTracks' must contain at least one track"),
        (
            {"alwaysAvailableTracks": [{"codec": "H264"}], "alwaysAvailableFile": "x.mp4"},
            "'alwaysAvailableFile' and 'alwaysAvailableTracks' cannot be used together",
        ),
        ({**PICTURES, "source": "rtsp://h/", "sourceOnDemand": True}, "'sourceOnDemand' is not compatible with"),
        ({**PICTURES, "runOnDemand": "x"}, "'runOnDemand' and 'runOnUnDemand' cannot be used with 'alwaysAvailable'"),
        ({**PICTURES, "runOnUnDemand": "x"}, "'runOnDemand' and 'runOnUnDemand' cannot be used with"),
        ({"alwaysAvailableTracks": [{"codec": "VP8"}]}, "unsupported codec 'VP8'"),
        ({"alwaysAvailableTracks": [{}]}, "codec is missing"),
        (
            {"alwaysAvailableTracks": [{"codec": "Opus", "sampleRate": 48000}]},
            "sampleRate must not be specified for codec 'Opus'",
        ),
        ({"alwaysAvailableTracks": [{"codec": "G711"}]}, "sampleRate is mandatory for codec 'G711'"),
        (
            {"alwaysAvailableTracks": [{"codec": "LPCM", "sampleRate": 8000}]},
            "channelCount is mandatory for codec 'LPCM'",
        ),
        (
            {"alwaysAvailableTracks": [{"codec": "MPEG4Audio", "sampleRate": 8000, "channelCount": 1}]},
            "sampleRate must be greater than or equal to 22050 for codec 'MPEG4Audio'",
        ),
        (
            {"alwaysAvailableTracks": [{"codec": "LPCM", "sampleRate": 8000, "channelCount": 99}]},
            "channelCount of codec 'LPCM' must be one of 1, 2, 3, 4, 5, 6, 7, 8",
        ),
        (
            {"alwaysAvailableTracks": [{"codec": "LPCM", "sampleRate": 10**9, "channelCount": 1}]},
            "sampleRate must not exceed 192000",
        ),
    ],
)
def test_errors(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_mapping({"paths": {"cam": {"alwaysAvailable": True, **settings}}}, MEDIAMTX)
    assert error in str(caught.value)


def test_not_for_expressions() -> None:
    with pytest.raises(
        ConfigurationError, match="'alwaysAvailable' cannot be used in a path with a regular expression"
    ):
        from_mapping({"paths": {"~^x": PICTURES}}, MEDIAMTX)


async def test_a_slate_that_cannot_be_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slate, "RETRY_SECONDS", 0.01)
    read = generated._Reader.read
    failures = 2

    async def failing(reader: generated._Reader) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise FileNotFoundError(2, "No such file or directory")
        return await read(reader)

    monkeypatch.setattr(generated._Reader, "read", failing)
    async with running(paths={"cam": PICTURES}) as server:
        reader = await server.reader("cam")
        await reader.frame()
        assert server.log.find("ERROR .*the slate cannot be read: No such file or directory")
