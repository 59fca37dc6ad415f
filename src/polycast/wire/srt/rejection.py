"""The reasons for which a connection is refused, as handshakes carry them (draft-sharabayko-srt-01 section 4.3)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from polycast.errors import RemoteProtocolError

FIRST_REJECTION: Final = 1000
"""Handshake types from here on are rejections: this number plus the reason."""


class Rejection(IntEnum):
    """A reason. Those from 1400 on are the codes of HTTP, for what the draft leaves to applications (appendix B)."""

    UNKNOWN = 0
    SYSTEM = 1
    PEER = 2
    RESOURCE = 3
    ROGUE = 4
    BACKLOG = 5
    INTERNAL = 6
    CLOSE = 7
    VERSION = 8
    COOKIE = 9
    BAD_SECRET = 10
    UNSECURE = 11
    MESSAGE_API = 12
    CONGESTION = 13
    FILTER = 14
    GROUP = 15
    TIMEOUT = 16
    CRYPTO = 17
    BAD_REQUEST = 1400
    UNAUTHORIZED = 1401
    OVERLOAD = 1402
    FORBIDDEN = 1403
    NOT_FOUND = 1404
    BAD_MODE = 1405
    UNACCEPTABLE = 1406
    CONFLICT = 1409
    UNSUPPORTED_MEDIA = 1415
    LOCKED = 1423
    FAILED_DEPENDENCY = 1424
    SERVER_ERROR = 1500
    UNIMPLEMENTED = 1501
    GATEWAY = 1502
    DOWN = 1503
    NO_ROOM = 1507


_TEXTS: Final = {
    Rejection.SYSTEM: "a system call failed",
    Rejection.PEER: "refused by the application",
    Rejection.RESOURCE: "no resources",
    Rejection.ROGUE: "the handshake is invalid",
    Rejection.BACKLOG: "too many connections",
    Rejection.INTERNAL: "internal error",
    Rejection.CLOSE: "the server is closing",
    Rejection.VERSION: "the version is too old",
    Rejection.COOKIE: "both sides have the same cookie",
    Rejection.BAD_SECRET: "wrong passphrase",
    Rejection.UNSECURE: "one side has a passphrase, the other one has none",
    Rejection.MESSAGE_API: "one side transmits messages, the other one a file",
    Rejection.CONGESTION: "the congestion controls differ",
    Rejection.FILTER: "the packet filters differ",
    Rejection.GROUP: "groups of connections are not supported",
    Rejection.TIMEOUT: "timeout",
    Rejection.CRYPTO: "the ciphers differ",
    Rejection.BAD_REQUEST: "the stream id is invalid",
    Rejection.UNAUTHORIZED: "authentication failed",
    Rejection.OVERLOAD: "the server is overloaded",
    Rejection.FORBIDDEN: "forbidden",
    Rejection.NOT_FOUND: "there is no such stream",
    Rejection.BAD_MODE: "the mode is not supported",
    Rejection.UNACCEPTABLE: "the parameters are not acceptable",
    Rejection.CONFLICT: "somebody else is publishing",
    Rejection.UNSUPPORTED_MEDIA: "the media is not supported",
    Rejection.LOCKED: "the stream is locked",
    Rejection.FAILED_DEPENDENCY: "something that the stream needs is missing",
    Rejection.SERVER_ERROR: "internal error of the server",
    Rejection.UNIMPLEMENTED: "not implemented",
    Rejection.GATEWAY: "the source of the server has failed",
    Rejection.DOWN: "the server is down",
    Rejection.NO_ROOM: "the server has no room",
}


def describe_rejection(code: int) -> str:
    """Return a reason that a peer gave, for the log: its meaning, if it is known, and its number."""
    try:
        text = _TEXTS.get(Rejection(code), "no reason given")
    except ValueError:
        text = "a reason of the server's own"
    return f"{text} (SRT rejection {code})"


class RejectedError(RemoteProtocolError):
    """A handshake that is refused. ``reason`` is what the peer is told."""

    def __init__(self, reason: Rejection, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def refusal(code: int) -> RejectedError:
    """Return the error for a reason that a peer gave."""
    try:
        reason = Rejection(code)
    except ValueError:
        reason = Rejection.UNKNOWN
    return RejectedError(reason, f"refused: {describe_rejection(code)}")
