"""Ends the external commands of a server that was killed: a process of its own that outlives it.

Run as a script with the reading end of a pipe as standard input, and the mark of the server's commands as argument.
Each line names a process group that begins (``+123``) or has ended (``-123``). When the pipe closes, the server is
gone: the groups that are left are ended, and so are all processes whose environment has the mark, then this one.
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

# The variable that marks what a server's commands are and start. A server that is killed while it starts commands has
# not told their groups yet; what is started in a session of its own leaves its group.
MARK_NAME = "POLYCAST_COMMANDS"


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
    # A command that is just being started holds the pipe until it has its own environment: none is missed.
    end(groups, sys.argv[-1])


def end(groups: set[int], mark: str = "") -> None:
    """End process groups, and those of the processes that have the mark: with SIGINT, then SIGTERM, then SIGKILL."""
    groups = living(groups, mark)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if not groups:
            return
        for group in groups:
            try:
                os.killpg(group, number)
            except OSError:
                continue
        deadline = time.monotonic() + GRACE_SECONDS
        while (groups := living(groups, mark)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def living(groups: set[int], mark: str = "") -> set[int]:
    """Return those of the process groups that have processes that live, and the groups of processes with the mark."""
    found, marked = survey(groups, mark)
    return found.union(*marked.values())


def survey(groups: set[int], mark: str = "") -> tuple[set[int], dict[str, set[int]]]:
    """Look at all processes once. Return those of the groups that live, and groups by the mark of their processes.

    ``mark`` is what the marks begin with; empty: nobody looks for marks. Dead processes may stay for ever where the
    first process of a container does not collect them, so they do not count. One look serves all groups: it reads about
    every process of the machine.
    """
    existing = {group for group in groups if _exists(group)}
    marked: dict[str, set[int]] = {}
    if not existing and not mark:
        return existing, marked
    try:
        entries = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return existing, marked  # no Linux: the answer to the signal has to do
    found: set[int] = set()
    for entry in entries:
        group = _group_of(entry)
        if not group:
            continue
        if group in existing:
            found.add(group)
        if mark:
            own = _mark_of(entry)
            if own.startswith(mark):
                marked.setdefault(own, set()).add(group)
    return found, marked


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _group_of(process: str) -> int:
    """The process group of a process; 0 for one that does not live."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # proc(5): the name in parentheses, then the state, the parent and the group.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[2]) if len(fields) > 2 and fields[0] not in (b"Z", b"X") else 0


def _mark_of(process: str) -> str:
    """The mark in the environment of a process; empty when it has none, or is not ours to look at."""
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            _, found, rest = (b"\0" + file.read()).partition(f"\0{MARK_NAME}=".encode())
    except OSError:
        return ""
    return rest.partition(b"\0")[0].decode("ascii", "replace") if found else ""


if __name__ == "__main__":
    main()
