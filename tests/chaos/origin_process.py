"""The origin as a program: a server with RTSP, RTMP and HLS whose path ``cam`` gets 25 frames a second.

``python origin_process.py HOST RTSP_PORT RTMP_PORT HLS_PORT CODEC``: HOST may be empty, for all addresses; CODEC is
``h264`` or ``h265``. It prints ``ready`` when the stream is there. On SIGUSR1 the parameters of the codec change, in
the middle of the stream.
"""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.protocols.rtmp.support import running
from tests.protocols.rtsp.support import sdp
from tests.support.rtp import PPS, SPS, rtp

FRAMES_PER_SECOND = 25

# Baseline at 320x240, and High at 640x360, both of x264: NAL units of the parameters.
H264_PARAMETERS = (
    (SPS, PPS),
    (bytes.fromhex("6764001eacd940a02ff9610000030001000003003c8f162d96"), bytes.fromhex("68ebe3cb22c0")),
)
# 320x180, of x265: VPS, SPS, PPS.
H265_PARAMETERS = (
    bytes.fromhex("40010c01ffff01600000030090000003000003003c959409"),
    bytes.fromhex("42010101600000030090000003000003003ca00a080c1f3e595952930bc05a020000030002000003003210"),
    bytes.fromhex("4401c073c189"),
)


def description(codec: str) -> str:
    """Return the session description of the stream."""
    if codec == "h265":
        names = ("vps", "sps", "pps")
        sets = [
            f"sprop-{name}={base64.b64encode(unit).decode()}" for name, unit in zip(names, H265_PARAMETERS, strict=True)
        ]
        return sdp(f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=fmtp:96 {'; '.join(sets)}\r\n")
    sets = [base64.b64encode(unit).decode() for unit in H264_PARAMETERS[0]]
    media = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    return sdp(f"{media}a=fmtp:96 packetization-mode=1; sprop-parameter-sets={','.join(sets)}\r\n")


def frame_units(codec: str, parameters: int, number: int) -> list[bytes]:
    """Return the NAL units of frame ``number``: each is a key frame, with its parameters."""
    filler = number.to_bytes(4, "big").replace(b"\0", b"\xff") + b"\x55" * 300
    if codec == "h265":
        return [*H265_PARAMETERS, b"\x26\x01\xac" + filler]  # IDR_W_RADL, first slice
    return [*H264_PARAMETERS[parameters], b"\x65\x88\x84" + filler]


async def main(host: str, rtsp_port: str, rtmp_port: str, hls_port: str, codec: str) -> None:
    parameters = 0

    def change() -> None:
        nonlocal parameters
        parameters = 1

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, change)
    settings = {
        "rtspAddress": f"{host}:{rtsp_port}",
        "rtmpAddress": f"{host}:{rtmp_port}",
        "rtpAddress": f"{host}:0",
        "rtcpAddress": f"{host}:0",
        "protocols": ["udp", "tcp"],
        "hlsDisable": False,
        "hlsAddress": f"{host}:{hls_port}",
        "hlsVariant": "fmp4",
        "hlsAlwaysRemux": True,
        "hlsSegmentDuration": "200ms",
        "hlsSegmentCount": 150,
    }
    async with running(**settings) as app:
        client = await app.rtsp()
        await client.publish(app.rtsp_url("cam"), description(codec))
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        began, number, sequence = loop.time(), 0, 0
        while True:
            units = frame_units(codec, parameters, number)
            for unit in units:
                timestamp = number * 90_000 // FRAMES_PER_SECOND
                client.send_frame(0, rtp(sequence, unit, timestamp=timestamp, marker=unit is units[-1]))
                sequence += 1
            number += 1
            await asyncio.sleep(began + number / FRAMES_PER_SECOND - loop.time())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
