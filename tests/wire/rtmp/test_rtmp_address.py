"""Paths, queries and credentials of clients; URLs of servers."""

from __future__ import annotations

import pytest

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp.address import (
    MAXIMUM_QUERY_FIELDS,
    ServerAddress,
    Target,
    check_tc_url,
    parse_targets,
    parse_url,
)


@pytest.mark.parametrize(
    ("app", "name", "tc_url", "target"),
    [
        ("live", "key", "rtmp://h/live", Target("live/key", "")),
        ("mystream", "", "rtmp://h/mystream", Target("mystream", "")),
        ("", "key", "rtmp://h/", Target("key", "")),
        ("/a/b/", "/c/d/", "rtmp://h/a/b", Target("a/b/c/d", "")),
        ("live", "key?user=u&pass=p&x=1", "rtmp://h/live", Target("live/key", "user=u&pass=p&x=1", "u", "p")),
        ("live", "key", "rtmp://h/live?user=u&pass=p", Target("live/key", "user=u&pass=p", "u", "p")),
        ("live", "key", "rtmp://u:p%40@h/live", Target("live/key", "", "u", "p@")),
        ("live", "key?user=a%20b&pass=%C3%A9", "", Target("live/key", "user=a%20b&pass=%C3%A9", "a b", "é")),
    ],
)
def test_target(app: str, name: str, tc_url: str, target: Target) -> None:
    assert parse_targets(app, name, tc_url) == (target,)


@pytest.mark.parametrize(
    ("app", "name", "targets"),
    [
        # FFmpeg and librtmp split rtmp://h/cam?user=u&pass=ab/cd== at the slash of the password.
        (
            "cam?user=u&pass=ab",
            "cd==",
            (Target("cam", "user=u&pass=ab/cd==", "u", "ab/cd=="), Target("cam/cd==", "user=u&pass=ab", "u", "ab")),
        ),
        (
            "live/a?token=x/y",
            "z&user=u",
            (Target("live/a", "token=x/y/z&user=u", "u"), Target("live/a/z&user=u", "token=x/y")),
        ),
        # OBS with the query after the server, with and without a slash at its end.
        (
            "live?user=u&pass=p",
            "key",
            (Target("live", "user=u&pass=p/key", "u", "p/key"), Target("live/key", "user=u&pass=p", "u", "p")),
        ),
        (
            "live?user=u&pass=p/",
            "key",
            (Target("live", "user=u&pass=p//key", "u", "p//key"), Target("live/key", "user=u&pass=p", "u", "p")),
        ),
    ],
)
def test_a_query_in_the_middle_has_two_meanings(app: str, name: str, targets: tuple[Target, ...]) -> None:
    assert parse_targets(app, name, f"rtmp://h/{app}") == targets


@pytest.mark.parametrize(
    ("app", "name", "target"),
    [
        ("live?user=u&pass=p&", "key", Target("live/key", "user=u&pass=p&", "u", "p")),
        ("live?user=x&pass=y", "k?user=u", Target("live/k", "user=u&user=x&pass=y", "u", "y")),
        ("live?user=u&pass=p", "", Target("live", "user=u&pass=p", "u", "p")),
        ("live?user=u&pass=a/b", "", Target("live", "user=u&pass=a/b", "u", "a/b")),
        ("live?", "key", Target("live/key", "")),
        ("live?authmod=adobe&user=u", "key", Target("live/key", "authmod=adobe&user=u", "u")),
    ],
)
def test_a_query_in_the_middle_that_can_mean_one_thing_only(app: str, name: str, target: Target) -> None:
    assert parse_targets(app, name) == (target,)


def test_a_query_with_too_many_fields_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="fields"):
        parse_targets("live", "key?" + "a=1&" * (MAXIMUM_QUERY_FIELDS + 1))


@pytest.mark.parametrize("text", ["rtmp://[", "http://[::1"])
def test_a_broken_tc_url_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_targets("live", "key", text)


@pytest.mark.parametrize("text", ["live", "//host/app", "rtmp:///app", "rtmp://["])
def test_a_tc_url_needs_scheme_and_host(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        check_tc_url(text)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("rtmp://h/app/stream", ServerAddress(False, "h", 1935, "app", "stream", "rtmp://h:1935/app")),
        ("rtmp://h/app", ServerAddress(False, "h", 1935, "app", "", "rtmp://h:1935/app")),
        ("rtmps://h/app/s", ServerAddress(True, "h", 1935, "app", "s", "rtmps://h:1935/app")),
        ("rtmp://h:99/a/b/c", ServerAddress(False, "h", 99, "a/b", "c", "rtmp://h:99/a/b")),
        ("rtmp://h/a/b/c/d?x=1", ServerAddress(False, "h", 1935, "a/b", "c/d?x=1", "rtmp://h:1935/a/b")),
        (
            "rtmp://u:p@[::1]/a/s",
            ServerAddress(False, "::1", 1935, "a", "s?user=u&pass=p", "rtmp://[::1]:1935/a"),
        ),
        ("rtmp://h/a/b/c#key", ServerAddress(False, "h", 1935, "a/b/c", "key", "rtmp://h:1935/a/b/c")),
        ("rtmp://h/a/?x=1#k/2", ServerAddress(False, "h", 1935, "a", "k/2?x=1", "rtmp://h:1935/a")),
    ],
)
def test_url(url: str, address: ServerAddress) -> None:
    assert parse_url(url) == address


def test_the_port_of_encrypted_servers_depends_on_the_use() -> None:
    assert [parse_url(f"{scheme}://h/a", secure_port=443).port for scheme in ("rtmp", "rtmps")] == [1935, 443]


@pytest.mark.parametrize("url", ["http://h/a", "rtmp:///a", "rtmp://h:x/a", "rtmp://["])
def test_an_invalid_url_is_named(url: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a valid RTMP URL"):
        parse_url(url)
