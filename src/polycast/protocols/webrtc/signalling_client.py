"""The HTTP side of a session with a WHIP or WHEP server (RFC 9725)."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from polycast.config.redact import redact
from polycast.net.dial import client_context
from polycast.net.http_client import (
    MAXIMUM_ANSWER,
    describe_http_failure,
    dumping_transport,
    read_beginning,
    skip_body,
)
from polycast.protocols.http_addresses import MAXIMUM_REDIRECTIONS, redirected
from polycast.protocols.pull import PullError
from polycast.security.origins import may_send_credentials, origin_of

if TYPE_CHECKING:
    import httpx2

USER_AGENT: Final = "polycast"
_SCHEMES: Final = {"whep": "http", "wheps": "https", "whip": "http", "whips": "https"}
_SDP: Final = "application/sdp"
_REDIRECTIONS: Final = (307, 308)
"""Those that keep the method (RFC 9110 section 15.4)."""


def http_address(url: str) -> str:
    """Return the HTTP address of a ``whep://``, ``wheps://``, ``whip://`` or ``whips://`` URL, without credentials.

    Raises PullError if the URL is invalid.
    """
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise PullError(f"invalid URL: '{redact(url)}'")
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(scheme=_SCHEMES[parts.scheme], netloc=netloc, fragment=""))


class SignallingClient:
    """One session: its offer, its answer and its end."""

    def __init__(self, url: str, fingerprint: str, bearer_token: str, timeout: float, dump_prefix: str = "") -> None:
        """``dump_prefix``: beginning of the names of files with its packets; empty: there are none.

        A password without a user is a bearer token. ``timeout``: seconds for each request with its whole answer.

        Raises PullError if the URL or the fingerprint is invalid.
        """
        import httpx2  # slow to import, and only needed for this kind of source

        self._library = httpx2
        self._address = http_address(url)
        self._session = ""
        self._timeout = timeout
        parts = urlsplit(url)
        try:
            context = client_context(fingerprint)
        except ValueError as error:
            raise PullError(str(error)) from error
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        token = bearer_token or (password if not user else "")
        login = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""
        self._login = {"Authorization": f"Bearer {token}" if token else login} if token or login else {}
        """The header with the credentials."""
        self._origin = origin_of(self._address)
        self._client = httpx2.AsyncClient(
            verify=context,
            transport=dumping_transport(context, dump_prefix),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},  # bodies are used as they are sent
            timeout=timeout,
            trust_env=False,
        )

    async def offer(self, sdp: bytes) -> bytes:
        """Send an offer; return the answer. Raises PullError."""
        response, body = await self._post(sdp)
        if response.status_code != 201:
            raise PullError(f"bad status code: {response.status_code}{_reason(body)}")
        kind = response.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != _SDP:
            raise PullError(f"bad Content-Type: expected '{_SDP}', got '{kind}'")
        if len(body) > MAXIMUM_ANSWER:
            raise PullError(f"the answer is larger than {MAXIMUM_ANSWER} bytes")
        self._session = self._own_address(response.headers.get("location", ""))
        return body

    async def links(self) -> list[str]:
        """Return the Link headers of the server, which may name STUN servers; none if it answers in another way."""
        try:
            headers = self._login_for(self._address)
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("OPTIONS", self._address, headers=headers) as response,
            ):
                await skip_body(response)
                return response.headers.get_list("link") if response.status_code in (200, 204) else []
        except (self._library.HTTPError, self._library.InvalidURL, TimeoutError):
            return []  # the offer will tell why

    async def close(self) -> None:
        """End the session on the server if it was created; errors no longer matter."""
        try:
            if self._session:
                headers = self._login_for(self._session)
                async with (
                    asyncio.timeout(self._timeout),
                    self._client.stream("DELETE", self._session, headers=headers) as response,
                ):
                    await skip_body(response)
        except (self._library.HTTPError, self._library.InvalidURL, TimeoutError):
            pass
        finally:
            await self._client.aclose()

    def _login_for(self, address: str) -> dict[str, str]:
        """Return the header with the credentials, if a server may have them."""
        return self._login if may_send_credentials(self._origin, origin_of(address)) else {}

    def _own_address(self, location: str) -> str:
        """Return the address of the session; empty if it is on another server than the one that has answered."""
        if not location:
            return ""
        try:
            address = urljoin(self._address, location)
            return address if may_send_credentials(origin_of(self._address), origin_of(address)) else ""
        except ValueError:  # no HTTP address
            return ""

    async def _post(self, sdp: bytes) -> tuple[httpx2.Response, bytes]:
        """Return the response to an offer and its body, or the beginning of one that is too large.

        Redirections are followed (RFC 9725 section 4.5), but not out of TLS: the answer tells where the media goes.
        """
        library, address = self._library, self._address
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(MAXIMUM_REDIRECTIONS + 1):
                    headers = {"Content-Type": _SDP, **self._login_for(address)}
                    async with self._client.stream("POST", address, content=sdp, headers=headers) as response:
                        location = response.headers.get("location", "")
                        if response.status_code not in _REDIRECTIONS or not location:
                            self._address = address
                            return response, await read_beginning(response)
                        await skip_body(response)
                    former, address = address, redirected(address, location)
                    if former.startswith("https:") and not address.startswith("https:"):
                        raise PullError(f"the server redirects from TLS to {address}")
            raise PullError(f"too many redirections ({self._address})")
        except (library.TimeoutException, TimeoutError) as error:
            raise PullError(f"no answer in time ({address})") from error
        except (library.HTTPError, library.InvalidURL) as error:
            raise PullError(f"{describe_http_failure(error)} ({address})") from error


def _reason(body: bytes) -> str:
    """The server's error text, if it has the same format as Polycast's."""
    try:
        text = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" ({str(text)[:200]})"
