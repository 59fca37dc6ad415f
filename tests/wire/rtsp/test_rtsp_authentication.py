"""Credentials: vectors of the RFCs, of FFmpeg and GStreamer, and our client against our server."""

from __future__ import annotations

import pytest

from polycast.wire.rtsp.authentication import (
    ALL_METHODS,
    AuthenticationMethod,
    ClientAuthenticator,
    ServerAuthenticator,
    basic_credentials,
)

NONCE = "0123456789abcdef0123456789abcdef"
URL = "rtsp://127.0.0.1:38683/cam/a?x=1&y=2"

# What FFmpeg 5.1 and GStreamer 1.22 sent for user "us er" and password "p:w,x".
FFMPEG = (
    f'Digest username="us er", realm="IPCAM", nonce="{NONCE}", '
    'uri="rtsp://127.0.0.1:42363/cam/a?x=1&y=2/trackID=0", response="6eb2827fee1b01feb4b0e90e19a9f4e3"'
)
GSTREAMER = f'Digest username="us er", realm="IPCAM", nonce="{NONCE}", uri="{URL}", ' + (
    'response="b995108ef466b85d45249647cd272a76"'
)

# testuser and testpass
HASHED_USER = "sha256:rl3rgi4NcZkpAEcacZnQ2VuOfJ0FxAqCRaKB/SwdZoQ="
HASHED_PASSWORD = "sha256:E9JJ8stBJ7QM+nV4ZoUCeHk/gU3tPFh/5YieiJp6n2w="


BASIC, DIGEST = ALL_METHODS


def server(*methods: AuthenticationMethod, offer_sha256: bool = False) -> ServerAuthenticator:
    return ServerAuthenticator(NONCE, methods=methods or ALL_METHODS, offer_sha256=offer_sha256)


def test_challenges_are_sent_in_the_configured_order() -> None:
    basic = 'Basic realm="IPCAM"'
    digest = f'Digest realm="IPCAM", nonce="{NONCE}"'
    assert server(BASIC, DIGEST).challenges() == [basic, digest]
    assert server(DIGEST, BASIC).challenges() == [digest, basic]
    assert server(DIGEST).challenges() == [digest]
    assert server(DIGEST).challenges(hashed=True) == [basic]
    # FFmpeg takes the last Digest line, so MD5 has to be that.
    assert server(DIGEST, offer_sha256=True).challenges() == [digest + ", algorithm=SHA-256", digest]


def test_real_clients() -> None:
    assert server().verify(GSTREAMER, "DESCRIBE", URL, "us er", "p:w,x")
    setup = "rtsp://127.0.0.1:42363/cam/a?x=1&y=2/trackID=0"
    assert server().verify(FFMPEG, "SETUP", setup, "us er", "p:w,x")
    for method, url, user, password in (
        ("SETUP", URL, "us er", "p:w,x"),
        ("DESCRIBE", URL + "z", "us er", "p:w,x"),
        ("DESCRIBE", URL, "us", "p:w,x"),
        ("DESCRIBE", URL, "us er", "p:w,y"),
        ("DESCRIBE", URL, "us er", ""),
    ):
        assert not server().verify(GSTREAMER, method, url, user, password)
    assert not server(BASIC).verify(GSTREAMER, "DESCRIBE", URL, "us er", "p:w,x")
    assert not ServerAuthenticator("other").verify(GSTREAMER, "DESCRIBE", URL, "us er", "p:w,x")
    assert not ServerAuthenticator(NONCE, "other").verify(GSTREAMER, "DESCRIBE", URL, "us er", "p:w,x")


def test_rfc_2617_section_3_5() -> None:
    given = (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", '
        'response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    authenticator = ServerAuthenticator("dcd98b7102dd2f0e8b11d0f600bfb0c093", "testrealm@host.com")
    assert authenticator.verify(given, "GET", "/dir/index.html", "Mufasa", "Circle Of Life")
    assert not authenticator.verify(given, "GET", "/dir/index.html", "Mufasa", "Circle of Life")


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616_section_3_9_1(algorithm: str, response: str) -> None:
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    challenge = f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, nonce="{nonce}"'
    client = ClientAuthenticator("Mufasa", "Circle of Life")
    given = client.authorize([challenge], "GET", "/dir/index.html", cnonce)
    assert given is not None
    assert f'response="{response}"' in given
    assert "nc=00000001" in given
    authenticator = ServerAuthenticator(nonce, "http-auth@example.org")
    assert authenticator.verify(given, "GET", "/dir/index.html", "Mufasa", "Circle of Life")
    assert not authenticator.verify(given, "PUT", "/dir/index.html", "Mufasa", "Circle of Life")
    again = client.authorize([challenge], "GET", "/dir/index.html", cnonce)
    assert again is not None
    assert "nc=00000002" in again


def test_hashed_credentials_need_basic() -> None:
    basic = "Basic dGVzdHVzZXI6dGVzdHBhc3M="
    wrong = "Basic dGVzdHVzZXI6dGVzdHBhc3Q="
    for user in (HASHED_USER, "testuser"):
        assert server(DIGEST).verify(basic, "SETUP", URL, user, HASHED_PASSWORD)
        assert not server(DIGEST).verify(wrong, "SETUP", URL, user, HASHED_PASSWORD)
    # Who knows the hash alone does not get in.
    digest = ClientAuthenticator(HASHED_USER, HASHED_PASSWORD).authorize(server().challenges(), "SETUP", URL)
    assert not server().verify(digest, "SETUP", URL, HASHED_USER, HASHED_PASSWORD)


@pytest.mark.parametrize(
    ("signed", "requested", "method", "accepted"),
    [
        ("rtsp://h/p", "rtsp://h/p/", "PLAY", True),
        ("rtsp://h/p/", "rtsp://h/p", "DESCRIBE", True),
        ("rtsp://h/p", "rtsp://h/p/trackID=1", "SETUP", True),
        ("rtsp://h/p/", "rtsp://h/p/trackID=1", "SETUP", True),
        ("rtsp://h/p?q", "rtsp://h/p/trackID=1?q", "SETUP", True),
        ("rtsp://h/p", "rtsp://h/p/trackID=1", "PLAY", False),
        ("rtsp://h/p", "rtsp://h/other", "SETUP", False),
        ("rtsp://h/p", "rtsp://h/p//", "PLAY", False),
        ("/p", "rtsp://h/p", "DESCRIBE", True),
        ("/p/", "rtsp://h/p", "DESCRIBE", True),
        ("/", "rtsp://h/p", "DESCRIBE", False),
        ("*", "rtsp://h/p", "DESCRIBE", False),
        ("", "rtsp://h/p", "DESCRIBE", False),
        ("/p?q=1", "rtsp://h/p?q=1", "DESCRIBE", True),
        ("/p", "rtsp://h/p?q=1", "DESCRIBE", True),
        ("rtsp://h/p", "rtsp://h/p?q=1", "DESCRIBE", True),
        ("rtsp://h/p?q=1", "rtsp://h/p", "DESCRIBE", True),
        ("rtsp://h/p?q=1", "rtsp://h/p?q=2", "DESCRIBE", False),
        ("rtsp://inside:8554/p", "rtsp://outside/p", "DESCRIBE", True),
        ("rtsps://h/p", "rtsp://h/p", "DESCRIBE", True),
        ("rtsp://h/other", "rtsp://h/p", "DESCRIBE", False),
        ("rtsp://h/a%20b", "rtsp://h/a b", "DESCRIBE", True),
        ("/p/trackID=1", "rtsp://h/p/trackID=1", "SETUP", True),
        ("/p/trackID=0", "rtsp://h/p/trackID=1", "SETUP", False),
        ("rtsp://h/p/trackID=1?q", "rtsp://h/p?q/trackID=1", "SETUP", True),
        ("rtsp://h/p?q/", "rtsp://h/p?q/trackID=1", "SETUP", True),
        ("/other", "rtsp://h/p/trackID=1", "SETUP", False),
        ("rtsp://h", "rtsp://h/p", "DESCRIBE", False),
    ],
)
def test_urls_that_clients_sign(signed: str, requested: str, method: str, accepted: bool) -> None:
    given = ClientAuthenticator("u", "p").authorize(server(DIGEST).challenges(), method, signed)
    assert server().verify(given, method, requested, "u", "p") is accepted


@pytest.mark.parametrize("given", [None, "", "Basic", "Basic ä", "Digest x", "Bearer y", 'Digest username="'])
def test_invalid_credentials(given: str | None) -> None:
    assert not server().verify(given, "PLAY", URL, "", "")
    assert basic_credentials(given) is None


def test_basic_credentials() -> None:
    assert basic_credentials("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==") == ("Aladdin", "open sesame")
    assert basic_credentials(GSTREAMER) is None
    assert not server(DIGEST).verify("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "PLAY", URL, "Aladdin", "open sesame")
    assert server(BASIC).verify("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "PLAY", URL, "Aladdin", "open sesame")


@pytest.mark.parametrize(
    ("challenges", "begins", "contains"),
    [
        (server(BASIC, DIGEST, offer_sha256=True).challenges(), "Digest ", "algorithm=SHA-256"),
        (server(BASIC, DIGEST).challenges(), "Digest ", 'username="u"'),
        (server(BASIC).challenges(), "Basic ", "dTpw"),
        (['Digest realm="r", nonce="n", algorithm=MD9', 'Basic realm="r"'], "Basic ", "dTpw"),
        (['Digest realm="r", nonce="n", opaque="o", qop="auth"'], "Digest ", 'opaque="o"'),
    ],
)
def test_the_client_takes_the_strongest(challenges: list[str], begins: str, contains: str) -> None:
    given = ClientAuthenticator("u", "p").authorize(challenges, "PLAY", URL)
    assert given is not None
    assert given.startswith(begins)
    assert contains in given


def test_the_client_gives_up() -> None:
    assert ClientAuthenticator("u", "p").authorize([], "PLAY", URL) is None
    assert ClientAuthenticator("u", "p").authorize(["Bearer x", "Digest a"], "PLAY", URL) is None
