"""Ends the external commands of a server that was killed: a process of its own that outlives it.

Run as a script with the reading end of a pipe as standard input. Each line names a process group that begins (``+123``)
or has ended (``-123``). When the pipe closes, the server is gone: the groups that are left are ended, and so is this.
It imports only the standard library, and little of it, as it runs beside every server that has commands.
"""

from __future__ import annotations

import os
import signal
import sys
import time

# Seconds between one signal and the next, stronger one.
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05


def main() -> None:
    """Watch the pipe until it closes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    end(groups)


def end(groups: set[int]) -> None:
    """End process groups: with SIGINT, then SIGTERM, then SIGKILL."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            try:
                os.killpg(group, number)
            except OSError:
                continue
        deadline = time.monotonic() + GRACE_SECONDS
        groups = {group for group in groups if has_members(group)}
        while groups and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            groups = {group for group in groups if has_members(group)}


def has_members(group: int) -> bool:
    """Whether a process group has processes that live.

    Dead ones may stay for ever where the first process of a container does not collect them, so they do not count.
    """
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    try:
        entries = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return True  # no Linux: the answer to the signal has to do
    return any(_is_living_member(entry, group) for entry in entries)


def _is_living_member(process: str, group: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # proc(5): the name in parentheses, then the state, the parent and the group.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return len(fields) > 2 and int(fields[2]) == group and fields[0] not in (b"Z", b"X")


if __name__ == "__main__":
    main()
