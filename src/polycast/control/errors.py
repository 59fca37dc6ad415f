"""Errors of the control services."""

from __future__ import annotations


class RequestError(Exception):
    """The request cannot be served; the text is sent to the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
