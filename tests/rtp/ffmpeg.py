"""FFmpeg as the other end of RTP: its packets into our sockets, and what it says was in them."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
from pathlib import Path

from tests.interop.tools import quick_program
from tests.support.ports import free_port

from polycast.media.codec import Codec
from polycast.media.packet import RtpPacket
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import parse_packet, ssrc_of
from polycast.rtp.payload.registry import codec_from_sdp, format_parameters
from polycast.rtp.rtcp import Goodbye, ReceiverReport, serialize_compound

RECEIVE_BUFFER = 4 * 1024 * 1024
MAXIMUM_DATAGRAM = 65_536
TIMEOUT = 20.0


@dataclasses.dataclass(frozen=True)
class Truth:
    """One packet of the elementary stream as FFmpeg's framecrc muxer lists it."""

    dts: int
    pts: int
    size: int
    checksum: int
    """Adler-32 that starts at 0."""


def run(*arguments: str) -> str:
    """Run the FFmpeg that starts fastest and has the encoder; return what it wrote to standard output."""
    program = "ffmpeg" if "libspeex" in arguments else quick_program()
    command = [program, "-v", "error", "-nostdin", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout


def list_packets(path: Path) -> list[Truth]:
    """Return the packets of a media file's only stream."""
    return _parse_framecrc(run("-i", str(path), "-c", "copy", "-f", "framecrc", "-"))


def _parse_framecrc(text: str) -> list[Truth]:
    rows = [line.split(",") for line in text.splitlines()]
    return [Truth(int(row[1]), int(row[2]), int(row[4]), int(row[5], 16)) for row in rows if not row[0].startswith("#")]


def send(path: Path, folder: Path, *options: str) -> tuple[Track, list[RtpPacket]]:
    """Let FFmpeg send a media file's only stream; return the track that its SDP describes and the RTP packets."""
    description = folder / "session.sdp"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        receiver.bind(("127.0.0.1", 0))
        # FFmpeg takes a refused RTCP packet for a failure.
        control.bind(("127.0.0.1", 0))
        address = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1472"
        address += f"&rtcpport={control.getsockname()[1]}"
        command = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-i", str(path), "-c", "copy", *options]
        command += ["-sdp_file", str(description), "-f", "rtp", address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            datagrams = drain(receiver, process)
        assert process.returncode == 0
    return read_description(description.read_text()), [parse_packet(data, 0, len(data)) for data in datagrams]


def drain(receiver: socket.socket, process: subprocess.Popen[bytes]) -> list[bytes]:
    """Return the datagrams that arrive until a process ends."""
    datagrams: list[bytes] = []
    receiver.settimeout(0.05)
    while True:
        ended = process.poll() is not None
        try:
            while True:
                datagrams.append(receiver.recv(MAXIMUM_DATAGRAM))
        except TimeoutError:
            if ended:
                return datagrams


def read_description(text: str) -> Track:
    """Return the track of an SDP with one media description."""
    lines = text.replace("\r", "").split("\n")
    media = next(line for line in lines if line.startswith("m="))[2:].split()
    payload_type = int(media[3])
    encoding, rate, channels, parameters = "", None, None, ""
    for line in lines:
        if line.startswith("a=rtpmap:"):
            parts = line.split(" ", 1)[1].split("/")
            encoding, rate = parts[0], int(parts[1])
            channels = int(parts[2]) if len(parts) > 2 else None
        elif line.startswith("a=fmtp:"):
            parameters = line.split(" ", 1)[1]
    codec, form = codec_from_sdp(media[0], payload_type, encoding, rate, channels, parameters)
    return Track(0, codec, form)


def describe(track: Track, port: int) -> str:
    """Return an SDP with which FFmpeg receives a track on a port."""
    form: RtpFormat | None = track.rtp
    assert form is not None
    codec: Codec = track.codec
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
    lines.append(f"m={codec.kind.value} {port} RTP/AVP {form.payload_type}")
    channels = f"/{form.channels}" if form.channels else ""
    if form.encoding:
        lines.append(f"a=rtpmap:{form.payload_type} {form.encoding}/{form.clock_rate}{channels}")
    if parameters := format_parameters(track):
        lines.append(f"a=fmtp:{form.payload_type} {parameters}")
    return "\r\n".join(lines) + "\r\n"


def receive(track: Track, packets: list[RtpPacket], folder: Path) -> list[Truth]:
    """Let FFmpeg receive packets of a track over UDP; return what its demuxer makes of them.

    It takes the end of the stream from an RTCP goodbye.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        port = free_port()
        description = folder / "received.sdp"
        description.write_text(describe(track, port))
        command = ["ffmpeg", "-v", "error", "-nostdin", "-protocol_whitelist", "file,rtp,udp"]
        command += [
            "-reorder_queue_size",
            "0",
            "-i",
            str(description),
            "-c",
            "copy",
            "-copyinkf",
            "-f",
            "framecrc",
            "-",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            _wait_until_bound(port, process)
            for packet in packets:
                sender.sendto(packet.data[packet.start : packet.end], ("127.0.0.1", port))
            goodbye = serialize_compound([ReceiverReport(ssrc_of(packets[0])), Goodbye((ssrc_of(packets[0]),))])
            while True:
                # The goodbye has no order with the packets, which have a socket of their own.
                try:
                    output, _ = process.communicate(timeout=0.3)
                    break
                except subprocess.TimeoutExpired:
                    sender.sendto(goodbye, ("127.0.0.1", port + 1))
        assert process.returncode == 0
    return _parse_framecrc(output)


def _wait_until_bound(port: int, process: subprocess.Popen[str]) -> None:
    wanted = f":{port + 1:04X} "
    while process.poll() is None:
        if wanted in Path("/proc/net/udp").read_text():
            return
