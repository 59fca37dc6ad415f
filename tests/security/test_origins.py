"""Where credentials may go when a server names another address."""

from __future__ import annotations

import pytest

from polycast.security.origins import Origin, may_send_credentials, origin_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://host/x", Origin("http", "host", 80)),
        ("https://HOST/x", Origin("https", "host", 443)),
        ("HTTP://user:p%40ss@host:8080", Origin("http", "host", 8080)),
        ("http://[::1]:80/", Origin("http", "::1", 80)),
    ],
)
def test_origin(url: str, origin: Origin) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["", "/x", "host", "ftp://host/", "http:///x", "http://", "http://h:99999/", "http://[::1/"]
)
def test_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin_of(url)


@pytest.mark.parametrize(
    ("written", "target", "may"),
    [
        ("http://host/a", "http://host/b?c", True),
        ("http://host/", "http://host:80/", True),
        ("http://host/", "http://HOST./", True),
        ("http://host/", "http://user:other@host/", True),
        ("http://host/", "http://host:8080/", False),
        ("http://host/", "https://host/", False),
        ("https://host/", "http://host/", False),
        ("http://host:443/", "https://host/", False),
        ("http://host/", "http://other/", False),
        ("http://host/", "http://sub.host/", False),
        ("http://host/", "http://host.evil.example/", False),
        ("http://host/", "http://host@evil.example/", False),
        ("http://host/", "http://evil.example/host", False),
        ("http://[::1]/", "http://[::1]/", True),
        ("http://[::1]/", "http://[::2]/", False),
    ],
)
def test_http(written: str, target: str, may: bool) -> None:
    assert may_send_credentials(origin_of(written), origin_of(target)) is may


CAMERA = Origin("rtsp", "camera.example", 554)


@pytest.mark.parametrize(
    ("origin", "target", "remote_host", "may"),
    [
        (CAMERA, CAMERA, "", True),
        (CAMERA, Origin("rtsp", "Camera.Example", 8554), "", True),
        (CAMERA, Origin("rtsps", "camera.example", 322), "", True),
        (CAMERA._replace(scheme="rtsps"), CAMERA._replace(scheme="rtsps", port=8322), "", True),
        (CAMERA._replace(scheme="rtsps"), CAMERA, "", False),
        (CAMERA, CAMERA._replace(host="192.0.2.1"), "192.0.2.1", True),
        (CAMERA, CAMERA._replace(host="192.0.2.1"), "192.0.2.2", False),
        (CAMERA, CAMERA._replace(host="192.0.2.1"), "", False),
        (CAMERA, CAMERA._replace(host=""), "", False),
        (CAMERA, CAMERA._replace(host="other.example"), "192.0.2.1", False),
        (CAMERA._replace(scheme="rtsps"), CAMERA._replace(host="192.0.2.1"), "192.0.2.1", False),
    ],
)
def test_any_port(origin: Origin, target: Origin, remote_host: str, may: bool) -> None:
    assert may_send_credentials(origin, target, remote_host=remote_host, any_port=True) is may
