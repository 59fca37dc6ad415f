"""Path names and path patterns."""

from __future__ import annotations

import pytest

from polycast.config import check_path_name, compile_path_pattern
from polycast.errors import ConfigurationError


@pytest.mark.parametrize("name", ["a", "my/path", "a-b_c.d~e", "0", "~", "a//b"])
def test_good_names(name: str) -> None:
    check_path_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "cannot be empty"),
        ("/", "can't begin with a slash"),
        ("a/", "can't end with a slash"),
        *[
            (name, "can contain only alphanumeric characters, underscore, dot, tilde, minus or slash")
            for name in ("a b", "a\n", "\u00e9", "a?", "\u0661", "a%20")
        ],
    ],
)
def test_bad_names(name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_path_name(name)
    assert str(caught.value) == reason


def test_a_plain_name_has_no_pattern() -> None:
    assert compile_path_pattern("cam1") is None


@pytest.mark.parametrize(
    ("name", "matching", "other"),
    [
        ("~^.*$", "anything/here", None),
        ("~cam", "my/cam1", "kam"),
        ("~^(on)demand$", "ondemand", "xondemand"),
        (r"~^a\z", "a", "ab"),
        (r"~^\Qa.b\E$", "a.b", "axb"),
        (r"~^\Qa.b", "a.b/c", "axb"),
        ("~^[[:alpha:]]+$", "abc", "ab1"),
        ("~^[[:digit:]_-]+$", "1_-2", "a"),
        ("~^(?P<x>a)$", "a", "b"),
        ("~^(?<x>a)$", "a", "b"),
        (r"~^\d$", "1", "\u0661"),
        ("~^[]a]$", "]", "b"),
        ("~^[^]a]$", "b", "]"),
        ("~^[[a]$", "[", "b"),
        ("~^[+--]$", ",", "b"),
        ("~^[a&&b]$", "&", "c"),
        (r"~^[\]a]$", "]", "b"),
    ],
)
def test_patterns(name: str, matching: str, other: str | None) -> None:
    pattern = compile_path_pattern(name)
    assert pattern is not None
    assert pattern.search(matching)
    assert other is None or not pattern.search(other)


def test_groups_are_kept() -> None:
    pattern = compile_path_pattern("~^(a+)/(?<rest>.*)$")
    assert pattern is not None
    match = pattern.search("aa/bb")
    assert match is not None
    assert match.groups() == ("aa", "bb")


@pytest.mark.parametrize("expression", ["(", "[", "a**", "(?<x", "a{99999999999}", "\\", "(" * 5000])
def test_bad_patterns(expression: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compile_path_pattern("~" + expression)
    assert str(caught.value) == f"invalid regular expression: {expression}"
