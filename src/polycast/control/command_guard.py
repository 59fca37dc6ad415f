"""Terminates the external commands of a server that was killed: a separate process that outlives the server.

Run as a script with the read end of a pipe as standard input, and the mark of the server's commands as its argument.
Each line names a process group that starts (``+123``) or has ended (``-123``). When the pipe closes, the server is
gone: the remaining groups are terminated, and so are all processes with the mark in their environment; then this
process exits. It only imports a small part of the standard library, because it runs with every server that has
commands.
"""

from __future__ import annotations

import os
import signal
import sys
import time

# Seconds between one signal and the next, stronger one.
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05

# The variable that marks a server's commands and their children. A server that is killed while it starts commands has
# not announced their groups yet, and a process that starts its own session leaves its group.
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
    # A command that is being started holds the pipe until it has its own environment, so none is missed.
    end(groups, sys.argv[-1])


def end(groups: set[int], mark: str = "") -> None:
    """Terminate process groups, and those of the processes with the mark: with SIGINT, then SIGTERM, then SIGKILL."""
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
    """Return the process groups with living processes, and the groups of processes with the mark."""
    found, marked = survey(groups, mark)
    return found.union(*marked.values())


def survey(groups: set[int], mark: str = "") -> tuple[set[int], dict[str, set[int]]]:
    """Examine all processes once. Return the living groups among ``groups``, and groups by the mark of their processes.

    ``mark`` is the prefix of the marks; if empty, marks are not examined. Zombies do not count, because they remain
    forever if the init process of a container does not reap them. One pass serves all groups, because it examines every
    process of the machine.
    """
    existing = {group for group in groups if _exists(group)}
    marked: dict[str, set[int]] = {}
    if not existing and not mark:
        return existing, marked
    try:
        entries = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return existing, marked  # not Linux: the result of sending a signal must suffice
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
    """The process group of a process; 0 if it is not alive."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # proc(5): the name in parentheses, then the state, the parent and the group.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[2]) if len(fields) > 2 and fields[0] not in (b"Z", b"X") else 0


def _mark_of(process: str) -> str:
    """The mark in the environment of a process; empty if it has none, or cannot be read."""
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            _, found, rest = (b"\0" + file.read()).partition(f"\0{MARK_NAME}=".encode())
    except OSError:
        return ""
    return rest.partition(b"\0")[0].decode("ascii", "replace") if found else ""


if __name__ == "__main__":
    main()
