"""The source of a reader of another server: a path of a private hub, fed by a client."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from polycast.api.feed import Feed
from polycast.api.inbox import Inbox
from polycast.api.runtime import CLIENT_THREAD
from polycast.api.subscription import Subscription, SubscriptionOptions
from polycast.config import from_mapping
from polycast.config.dialects.polycast import POLYCAST
from polycast.errors import PolycastError
from polycast.hub.access import AccessControl
from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.log import Log
from polycast.protocols.pull import Puller
from polycast.protocols.registry import protocols

PATH = "stream"
"""The one path of each private hub."""


class RemoteReading:
    """A private hub and its client. Raises ValueError if the URL cannot be read."""

    def __init__(self, url: str, transport: str, fingerprint: str, *, reconnect: bool) -> None:
        self._puller = _make_puller(url)
        self._configuration = from_mapping(
            {"paths": {PATH: {"source": url, "rtspTransport": transport, "sourceFingerprint": fingerprint}}}, POLYCAST
        )
        self._reconnect = reconnect
        self._log = Log().child(f"reader of {without_credentials(url)}")
        self._subscription: Subscription | None = None
        self._closed = False
        self.runtime = CLIENT_THREAD.acquire()
        self._hub = self.runtime.call(self._make_hub)

    def subscribe(self, inbox: Inbox, options: SubscriptionOptions) -> Subscription:
        """Return the subscription that fills the inbox, once it is started."""
        self._subscription = _FedSubscription(
            self.runtime,
            self._hub,
            PATH,
            inbox,
            self._log,
            options,
            feed=self,
        )
        return self._subscription

    def close(self) -> None:
        """End the connection. May be called several times."""
        if not self._closed:
            self._closed = True
            self.runtime.defer(self._hub.close, "closed")
            CLIENT_THREAD.release()

    def attach(self, path: Path) -> None:
        """Start feeding the path. Called in the loop's thread."""
        if path.source is None:
            feed = Feed(
                path,
                self._puller,
                self._configuration,
                self._log,
                reconnect=self._reconnect,
                on_error=self._on_error,
            )
            path.attach_source(feed)

    def _on_error(self, error: PolycastError) -> None:
        if self._subscription is not None:
            self._subscription.fail(error)

    def _make_hub(self) -> Hub:
        hub = Hub(loop=self.runtime.loop, log=self._log, access=AccessControl())
        hub.configure(self._configuration.paths)
        return hub


class _FedSubscription(Subscription):
    """Starts the client that feeds its path when reading starts."""

    def __init__(self, *arguments: Any, feed: RemoteReading, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._feed = feed

    def start(self) -> None:
        super().start()
        if not self._over:
            self._feed.attach(self._hub.path(self._name))


def _make_puller(url: str) -> Puller:
    pulls = [pull for protocol in protocols() for pull in protocol.pulls if pull.kind.schemes and pull.is_for_library]
    for pull in pulls:
        if url.partition("://")[0] in pull.kind.schemes:
            return pull.load()(url)
    schemes = ", ".join(scheme for pull in pulls for scheme in pull.kind.schemes)
    raise ValueError(f"'{without_credentials(url)}' cannot be read: the URL must start with one of {schemes}")


def without_credentials(url: str) -> str:
    """Return an address without credentials, for logs."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="").geturl()
    except ValueError:
        return "the address"
