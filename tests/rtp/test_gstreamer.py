"""GStreamer's payloaders, for formats that FFmpeg cannot send, and for its use of what FFmpeg leaves out."""

from __future__ import annotations

import shutil
import socket
import subprocess
import zlib
from pathlib import Path

import pytest
from tests.rtp import ffmpeg
from tests.rtp.test_ffmpeg import check_round_trip, depacketize

from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import parse_packet
from polycast.rtp.payload.base import KEY
from polycast.rtp.payload.registry import codec_from_sdp, payload_of_codec

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="needs GStreamer"),
]

MTU = 400


def send(source: Path, pipeline: str) -> list[RtpPacket]:
    """Let GStreamer send a file through a pipeline without regard to time; return the RTP packets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ffmpeg.RECEIVE_BUFFER)
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        command = ["gst-launch-1.0", "-q", "filesrc", f"location={source}", "!", *pipeline.split(), "!", "udpsink"]
        with subprocess.Popen([*command, "host=127.0.0.1", f"port={port}"], stdout=subprocess.DEVNULL) as process:
            datagrams = ffmpeg.drain(receiver, process)
        assert process.returncode == 0
    return [parse_packet(data, 0, len(data)) for data in datagrams]


@pytest.mark.parametrize(
    ("description", "encode", "pipeline"),
    [
        (
            ("audio", 96, "AC3", 48_000, 2, ""),
            "-f lavfi -i sine=sample_rate=48000:duration=0.4 -ac 2 -c:a ac3 -b:a 192k",
            f"matroskademux ! ac3parse ! rtpac3pay mtu={MTU}",
        ),
        (
            ("video", 96, "VP9", 90_000, None, ""),
            "-f lavfi -i testsrc=size=320x240:rate=25:duration=0.4 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 4",
            f"matroskademux ! vp9parse ! rtpvp9pay mtu={MTU}",
        ),
        (
            ("video", 96, "VP8", 90_000, None, ""),
            "-f lavfi -i testsrc=size=320x240:rate=25:duration=0.4 -c:v libvpx -deadline realtime -cpu-used 8 -g 4",
            f"matroskademux ! rtpvp8pay picture-id-mode=2 mtu={MTU}",
        ),
    ],
    ids=lambda value: value[2] if isinstance(value, tuple) else "",
)
def test_frames(
    description: tuple[str, int, str, int, int | None, str], encode: str, pipeline: str, tmp_path: Path
) -> None:
    source = tmp_path / "source.mkv"
    ffmpeg.run(*encode.split(), str(source))
    packets = send(source, pipeline)
    codec, form = codec_from_sdp(*description)
    track = Track(0, codec, form)
    frames = depacketize(track, packets)
    truth = ffmpeg.list_packets(source)
    found = [(len(frame.units[0]), zlib.adler32(frame.units[0], 0)) for frame in frames]
    assert found == [(row.size, row.checksum) for row in truth]
    if track.kind == "video":
        peek = payload_of_codec(codec).peek_for(codec)
        keys = [packet for packet in packets if peek(packet.data, packet.payload, packet.end) & KEY]
        assert len(keys) == sum(frame.key for frame in frames) > 1
    check_round_trip(track, frames)
