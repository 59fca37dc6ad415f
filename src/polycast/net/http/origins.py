"""The web sites whose pages may read responses: ``Access-Control-Allow-Origin`` (Fetch standard, CORS protocol)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response

ANY: Final = "*"

# Origins of one response for which a copy is kept; more are only sent by somebody who makes them up.
MAXIMUM_VARIANTS: Final = 32

# Characters of an Origin header that are compared: a scheme, a host name and a port.
MAXIMUM_ORIGIN: Final = 300


class AllowedOrigins:
    """Origins such as ``https://example.com``, with ``*`` for any text: ``https://*.example.com``."""

    __slots__ = ("_expressions", "fixed", "is_varying", "patterns")

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns: Final = tuple(patterns)
        self._expressions = [
            re.compile(".*".join(map(re.escape, pattern.split(ANY))), re.IGNORECASE) for pattern in patterns
        ]
        one = self.patterns[0] if len(self.patterns) == 1 else ""
        self.fixed: Final = ANY if ANY in self.patterns else "" if ANY in one else one
        """The header's value if it is the same in all responses; empty if there is none, or if `adapt` must add it."""
        self.is_varying: Final = bool(self.patterns) and not self.fixed
        """Whether the header depends on the request."""

    def match(self, origin: str) -> str:
        """Return the header's value for a request from a page of this origin; empty if it is not allowed."""
        if not origin or len(origin) > MAXIMUM_ORIGIN:
            return ""
        return origin if any(expression.fullmatch(origin) for expression in self._expressions) else ""

    def headers(self, request: Request) -> list[Header]:
        """Return the headers for the response to a request."""
        if not self.patterns:
            return []
        origin = self.fixed or self.match(origin_of(request))
        found: list[Header] = [] if self.fixed == ANY else [(b"vary", b"Origin")]
        if origin:
            found.append((b"access-control-allow-origin", origin.encode("latin-1", "replace")))
            if origin != ANY:
                found.append((b"access-control-allow-credentials", b"true"))
        return found

    def adapt(self, request: Request, response: Response) -> Response:
        """Return a response with the headers for this request, if they vary."""
        if not self.is_varying:
            return response
        origin = self.match(origin_of(request))
        variants = response.variants
        if variants is None:
            variants = response.variants = {}
        found = variants.get(origin)
        if found is None:
            found = response.with_headers(self.headers(request))
            if len(variants) < MAXIMUM_VARIANTS:
                variants[origin] = found
        return found


@lru_cache(maxsize=64)
def allowed_origins(patterns: tuple[str, ...]) -> AllowedOrigins:
    """Return the compiled form of a setting."""
    return AllowedOrigins(patterns)


def origin_of(request: Request) -> str:
    """Return the origin of the page that made a request; empty for other programs."""
    return request.fields.get(b"origin", b"").decode("latin-1")
