"""Comparing users and passwords with those of the configuration, and reading Basic credentials."""

from __future__ import annotations

from base64 import b64encode

import pytest

from polycast.security.credentials import MAXIMUM_BASIC, is_hashed, parse_basic, secret_matches

HASHED_USER = "sha256:rl3rgi4NcZkpAEcacZnQ2VuOfJ0FxAqCRaKB/SwdZoQ="
"""testuser"""


@pytest.mark.parametrize(
    ("configured", "given", "matches"),
    [
        ("secret", "secret", True),
        ("secret", "Secret", False),
        ("secret", "secre", False),
        ("secret", "secret ", False),
        ("secret", "", False),
        ("", "", True),
        ("", "x", False),
        ("p\u00e4ssword", "p\u00e4ssword", True),
        ("p\u00e4ssword", "pa\u0308ssword", False),
        ("x", "\ud800", False),
        (HASHED_USER, "testuser", True),
        (HASHED_USER, "testpass", False),
        (HASHED_USER, "", False),
        (HASHED_USER, HASHED_USER, False),
        (HASHED_USER, HASHED_USER.removeprefix("sha256:"), False),
        (HASHED_USER.removesuffix("="), "testuser", False),
        (HASHED_USER.removeprefix("sha256:"), "testuser", False),
        ("sha256:", "", False),
        ("SHA256:" + HASHED_USER.removeprefix("sha256:"), "testuser", False),
    ],
)
def test_secrets(configured: str, given: str, matches: bool) -> None:
    assert secret_matches(configured, given) is matches


def test_hashed() -> None:
    assert is_hashed(HASHED_USER)
    assert not any(map(is_hashed, ("", "sha", "sha256", "SHA256:x", " sha256:x")))


def encoded(pair: str | bytes) -> str:
    return "Basic " + b64encode(pair if isinstance(pair, bytes) else pair.encode()).decode()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", ("Aladdin", "open sesame")),  # RFC 7617 section 2
        ("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", ("Aladdin", "open sesame")),
        ("  BASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ==  ", ("Aladdin", "open sesame")),
        ("Basic dGVzdDoxMjPCow==", ("test", "123\u00a3")),  # RFC 7617 section 2.1
        (encoded("test:123\u00a3".encode("latin-1")), ("test", "123\u00a3")),
        (encoded("user:"), ("user", "")),
        (encoded(":password"), ("", "password")),
        (encoded(":"), ("", "")),
        (encoded("user:a:b"), ("user", "a:b")),
    ],
)
def test_basic(header: str, expected: tuple[str, str]) -> None:
    assert parse_basic(header) == expected


@pytest.mark.parametrize("header", ["", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "BasicQWxhZGRpbg==", 'Digest realm="x"'])
def test_other_schemes(header: str) -> None:
    assert parse_basic(header) is None


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Basic",
            "Basic ",
            "Basic \u00e4",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "Basic QWxh ZGRpbjpvcGVu",
            "Basic Og==Og==",
        ),
        *("Basic -_-_", encoded("user"), encoded("user:pass\n"), encoded("us\0er:pass"), encoded("user:\x7f")),
        encoded("u:" + "p" * MAXIMUM_BASIC),
    ],
)
def test_broken_basic(header: str) -> None:
    with pytest.raises(ValueError, match="basic credentials are"):
        parse_basic(header)
