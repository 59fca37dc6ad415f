"""Stands for a program in the commands of the documents: runs it for a moment, or until the snippet has ended.

``python stand_in.py <name> <arguments>``. What publishes or serves goes on in the background, as it would in a
terminal of its own; what reads ends after some pictures. Otherwise the command line stays as it is written.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(os.environ.get("LABORATORY", "."))
PATIENCE = 60.0
"""Seconds that a command may take."""
SECONDS_READ = "0.5"
EVIDENCE = {"server.log": r"is (publishing to|reading from) path", "programs.log": r"buffering\.\.\. +[1-9]"}
"""What logs say once a client works; for readers of HLS, GStreamer's."""
SINKS_OF_GSTREAMER = ("rtspclientsink", "rtmp2sink", "srtsink")
ENDING_SINK = "fakesink num-buffers=5"
COMMANDS_OF_POLYCAST = {
    "completion", "decrypt", "discover", "doctor", "encrypt", "migrate", "service", "top", "--check", "--version",
}  # fmt: skip


def read(name: str) -> str:
    file = FOLDER / name
    return file.read_text(errors="replace") if file.exists() else ""


def hold(command: list[str], evidence: Callable[[], bool]) -> int:
    """Leave a program running once there is evidence that it works; the laboratory ends it."""
    with (FOLDER / "programs.log").open("ab") as log:
        log.write(f"$ {command}\n".encode())
        log.flush()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    with (FOLDER / "held").open("a") as held:
        print(process.pid, file=held)
    end = time.monotonic() + PATIENCE
    while not evidence():
        if process.poll() is not None:
            return process.returncode if not evidence() else 0
        if time.monotonic() > end:
            print(f"nothing was seen of {command}", file=sys.stderr)
            return 1
        time.sleep(0.05)
    return 0


def client(command: list[str]) -> int:
    """Hold a program until the server tells of it."""
    known = {name: len(read(name)) for name in EVIDENCE}
    return hold(command, lambda: any(re.search(words, read(name)[known[name] :]) for name, words in EVIDENCE.items()))


def run(command: list[str]) -> int:
    """Run a program to its end."""
    try:
        return subprocess.run(command, check=False, timeout=PATIENCE).returncode
    except subprocess.TimeoutExpired:
        print(f"{command} did not end within {PATIENCE:g} s", file=sys.stderr)
        return 1


def ffmpeg(program: str, arguments: list[str]) -> int:
    *options, output = arguments
    command = [program, "-hide_banner", "-nostats", "-y"]
    if "://" in output:
        return client([*command, *arguments])
    if "-t" in options:
        options[options.index("-t") + 1] = SECONDS_READ
    elif "://" in " ".join(options) and "-frames:v" not in options:
        options += ["-t", SECONDS_READ]
    return run([*command, *options, output])


def ffplay(program: str, arguments: list[str]) -> int:
    known = len(read("programs.log"))
    played = re.compile(r"\d\.\d+ (A-V|M-V|M-A):")  # the clock of what it plays; "nan" before
    return hold([program, "-stats", *arguments], lambda: bool(played.search(read("programs.log")[known:])))


def gst_launch(program: str, arguments: list[str]) -> int:
    if any(sink in arguments for sink in SINKS_OF_GSTREAMER):
        return client([program, *arguments])
    if arguments[0].startswith("playbin"):
        return client([program, *arguments, "video-sink=fakesink", "audio-sink=fakesink"])
    words = " ".join(ENDING_SINK if word == "autovideosink" else word for word in arguments)
    return run([program, "-q", *words.split()])


def gst_play(program: str, arguments: list[str]) -> int:
    return client([program, "--videosink=fakesink", "--audiosink=fakesink", *arguments])


def vlc(program: str, arguments: list[str]) -> int:
    quiet = ["-I", "dummy", "--vout=dummy", "--aout=dummy", "--run-time=1", "--play-and-exit"]
    # It does not run as root.
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run([*user, program, *quiet, *arguments], check=False, timeout=PATIENCE, capture_output=True)
    errors = done.stderr.decode(errors="replace")
    if done.returncode == 0 and "unable to open" not in errors:
        return 0
    print(errors, file=sys.stderr)
    return 1


def curl(program: str, arguments: list[str]) -> int:
    command = [program, "--fail-with-body", "--silent", "--show-error", *arguments]
    if "-N" in arguments:  # events, which do not end
        return int(run([*command, "--max-time", "0.5"]) != 28)
    return run(command)


def polycast(program: str, arguments: list[str]) -> int:
    if not COMMANDS_OF_POLYCAST.isdisjoint(arguments):
        if arguments[0] == "top" and "--once" not in arguments:
            arguments = [*arguments, "--once"]
        return run([program, *arguments])
    known = len(read("programs.log"))
    return hold([program, *arguments], lambda: "[RTSP] listener opened" in read("programs.log")[known:])


STAND_INS: dict[str, Callable[[str, list[str]], int]] = {
    "ffmpeg": ffmpeg,
    "ffplay": ffplay,
    "gst-launch-1.0": gst_launch,
    "gst-play-1.0": gst_play,
    "vlc": vlc,
    "curl": curl,
    "polycast": polycast,
    "srt-live-transmit": lambda program, arguments: client([program, *arguments]),
    "sudo": lambda program, arguments: run(arguments),
}


def main(name: str, arguments: list[str]) -> int:
    """Run the program of a name."""
    own, _, others = os.environ["PATH"].partition(os.pathsep)
    assert Path(own) == FOLDER / "bin"
    path = f"{FOLDER / 'real'}{os.pathsep}{others}"
    program = shutil.which(name, path=path)
    if program is None and name != "sudo":
        print(f"{name} is not installed", file=sys.stderr)
        return 127
    return STAND_INS[name](program or "", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
