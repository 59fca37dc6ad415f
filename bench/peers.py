"""MediaMTX and rtsp-simple-server, measured alongside our server in the same run with the same load.

Their executables are named by environment variables, which `make bench` takes as arguments:

    make bench MEDIAMTX=./mediamtx RTSP_SIMPLE_SERVER=./rtsp-simple-server
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bench import srt_load
from bench.measure import SETTINGS
from bench.model import Setup, Subject
from bench.server import HOST

MEDIAMTX = "MEDIAMTX"
RTSP_SIMPLE_SERVER = "RTSP_SIMPLE_SERVER"

PREDECESSOR_PROTOCOLS = frozenset({"rtsp", "rtmp"})
MEDIAMTX_PROTOCOLS = PREDECESSOR_PROTOCOLS | {"srt", "srt-aes", "webrtc"}
"""Their HLS playlists have other names and other links than the viewers of the benchmark follow."""

_MEDIAMTX_SRT = (
    f"rtspAddress: {HOST}:{{port}}\nrtspTransports: [tcp]\nrtmp: no\nhls: no\nwebrtc: no\n"
    f"srt: yes\nsrtAddress: {HOST}:{{second_port}}\npaths:\n  all_others:\n"
)
_MEDIAMTX_SETTINGS = {
    "rtsp": (
        f"rtspAddress: {HOST}:{{port}}\nrtpAddress: {HOST}:{{rtp}}\nrtcpAddress: {HOST}:{{rtcp}}\n"
        "rtspTransports: [udp, tcp]\nrtmp: no\nhls: no\nwebrtc: no\nsrt: no\npaths:\n  all_others:\n"
    ),
    "srt": _MEDIAMTX_SRT,
    "srt-aes": _MEDIAMTX_SRT + f"    srtReadPassphrase: {srt_load.PASSPHRASE}\n",
    "webrtc": (
        f"rtspAddress: {HOST}:{{port}}\nrtspTransports: [tcp]\nrtmp: no\nhls: no\nsrt: no\n"
        f"webrtcAddress: {HOST}:{{second_port}}\nwebrtcLocalUDPAddress: {HOST}:{{rtp}}\n"
        f"webrtcIPsFromInterfaces: no\nwebrtcAdditionalHosts: [{HOST}]\npaths:\n  all_others:\n"
    ),
    "rtmp": (f"rtmpAddress: {HOST}:{{port}}\nrtsp: no\nhls: no\nwebrtc: no\nsrt: no\npaths:\n  all_others:\n"),
}


class PeerError(Exception):
    """The executable of a peer cannot be used. The text is for the user."""


def find_peers(environment: Mapping[str, str] = os.environ) -> list[Subject]:
    """Return the servers whose executables are named. Raises PeerError if one does not exist."""
    peers = []
    mediamtx = _executable(environment, MEDIAMTX)
    if mediamtx is not None:
        # Older releases refuse unknown keys, but ignore such a variable.
        environment_of_it = {"MTX_MOQ": "no"}
        peers.append(
            Subject("MediaMTX", [mediamtx, "{config}"], _configure_mediamtx, environment_of_it, MEDIAMTX_PROTOCOLS)
        )
    predecessor = _executable(environment, RTSP_SIMPLE_SERVER)
    if predecessor is not None:
        # Polycast has the settings of this server.
        command = [predecessor, "{config}"]
        peers.append(
            Subject(
                "rtsp-simple-server", command, _configure_predecessor, protocols=PREDECESSOR_PROTOCOLS, records=False
            )
        )
    return peers


def _executable(environment: Mapping[str, str], variable: str) -> str | None:
    name = environment.get(variable, "")
    if not name:
        return None
    found = shutil.which(name) or shutil.which(str(Path(name).expanduser()))
    if found is None:
        raise PeerError(f"{variable}={name}: there is no such executable")
    return str(Path(found).resolve())


def _configure_mediamtx(setup: Setup) -> str:
    return setup.fill(_MEDIAMTX_SETTINGS[setup.protocol])


def _configure_predecessor(setup: Setup) -> str:
    return setup.fill(SETTINGS[setup.protocol])
