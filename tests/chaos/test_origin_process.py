"""An origin that is killed, hangs, or comes back with something else: what becomes of the paths that pull from it."""

from __future__ import annotations

import signal

import pytest
from tests.chaos.origin_process import H264_PARAMETERS
from tests.chaos.support import Readers, all_ready, none_ready, origin, pulling, readers, source_paths
from tests.protocols.sources.test_supervision import Frames

from polycast.media.codec import H264
from polycast.wire.rtmp.events import TrackChanged

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="signals of POSIX")


async def test_it_is_killed_and_comes_back_as_it_was_or_with_another_codec() -> None:
    with origin() as source:
        async with pulling(source.sources()) as app, readers(app) as present:
            for codec in ("h264", "h265"):
                await all_ready(app)
                await present.join()
                source.kill()
                await none_ready(app)
                await present.have_ended()
                for kind in ("rtsp", "rtmp", "hls"):
                    await app.log.wait(rf"\[{kind} source\] .* failed: ")
                await source.start_again(codec)
            await all_ready(app)
            for name in source_paths(app):
                stream = app.path(name).stream
                assert stream is not None
                assert [str(track) for track in stream.descriptions] == ["H265"]
            await Readers(app, present.http).join()


async def test_readers_that_may_wait_stay_until_it_is_back() -> None:
    with origin() as source:
        paths = {name: {**path, "publisherGrace": "20s"} for name, path in source.sources().items()}
        async with pulling(paths) as app, readers(app) as present:
            await all_ready(app)
            await present.join()
            streams = {name: app.path(name).stream for name in source_paths(app)}
            source.kill()
            for name in source_paths(app):
                await app.log.wait(rf"\[path {name}\] the publisher left .* readers wait up to 20 s")
            await source.start_again()
            continued = "readers continue with the new publisher"
            await app.until(lambda: sum(continued in line for line in app.log.lines) == len(streams))
            await present.get_frames()
            assert {name: app.path(name).stream for name in source_paths(app)} == streams


async def test_it_hangs_and_recovers() -> None:
    with origin() as source:
        async with pulling(source.sources()) as app, readers(app) as present:
            await all_ready(app)
            await present.join()
            source.signal(signal.SIGSTOP)
            await none_ready(app)
            await present.have_ended()
            assert app.log.find(r"\[path rtsp\] \[rtsp source\] .* failed: no packets received for 1 s")
            assert app.log.find(r"\[path udp\] \[rtsp source\] .* failed: no packets received for 1 s")
            assert app.log.find(r"\[path rtmp\] \[rtmp source\] .* failed: no data for 1 seconds")
            assert app.log.find(r"\[path hls\] \[hls source\] .* failed: no answer within 1 s")
            # New connections also hang.
            await app.log.wait(r"failed: no answer to OPTIONS within 1 s")
            source.signal(signal.SIGCONT)
            await all_ready(app)
            await Readers(app, present.http).join()


def has_parameters(reader: Frames, pps: bytes) -> bool:
    return bool(reader.changes) and isinstance(codec := reader.changes[-1].codec, H264) and codec.pps == pps


async def test_the_parameters_of_the_codec_change() -> None:
    with origin() as source:
        async with pulling(source.sources()) as app, readers(app) as present:
            await all_ready(app)
            await present.join()
            streams = {name: app.path(name).stream for name in source_paths(app)}
            frames = {name: Frames() for name in streams}
            for name, stream in streams.items():
                assert stream is not None
                app.path(name).attach_reader(frames[name], stream)
            source.signal(signal.SIGUSR1)
            sps, pps = H264_PARAMETERS[1]
            await app.until(lambda: all(has_parameters(reader, pps) for reader in frames.values()))
            for name, reader in frames.items():
                # Everybody stays, and gets the new parameters in the form of the protocol.
                assert app.path(name).stream is streams[name]
                assert not reader.closed
                codec = reader.changes[-1].codec
                assert isinstance(codec, H264)
                assert (codec.sps, codec.pps) == (sps, pps)
                client = present.rtsp[name]
                while not any(
                    sps in packet for packet in await client.packets(1)
                ):  # alone, or among others of its time
                    pass
                rtmp = present.rtmp[name]
                await rtmp.until(lambda rtmp=rtmp: bool(rtmp.all(TrackChanged)))  # type: ignore[misc]
            await present.get_frames()
            await Readers(app, present.http).join()
