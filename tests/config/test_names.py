"""Path names and path patterns."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from polycast.config import check_path_name, compile_path_pattern
from polycast.config.re2 import MAXIMUM_STATES
from polycast.errors import ConfigurationError


@pytest.mark.parametrize("name", ["a", "my/path", "a-b_c.d~e", "0", "~", "a//b", "...", "a/..b/.c/d.", "a" * 512])
def test_good_names(name: str) -> None:
    check_path_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "cannot be empty"),
        ("/", "can't begin with a slash"),
        ("a/", "can't end with a slash"),
        *[(name, "can't contain dot path segments") for name in (".", "..", "a/../b", "../a", "a/.", "a/./b", "a/..")],
        ("a" * 513, "can't be longer than 512 characters"),
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


def test_names_do_not_displace_compiled_expressions() -> None:
    pattern = compile_path_pattern("~^cam")
    for number in range(5000):
        compile_path_pattern(f"cam{number}")
    assert compile_path_pattern("~^cam") is pattern


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


@pytest.mark.parametrize("expression", ["(", "[", "a**", "(?<x", "a{99999999999}", "\\", "(" * 5000, "(a{1000}){1000}"])
def test_bad_patterns(expression: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compile_path_pattern("~" + expression)
    assert str(caught.value).startswith(f"invalid regular expression: {expression} (")


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("(?=a)", "lookahead"),
        ("(?!a)", "negative lookahead"),
        ("(?<=a)", "lookbehind"),
        ("(?<!a)", "negative lookbehind"),
        ("(?>a)", "an atomic group"),
        ("(?#a)", "a comment"),
        ("a*+", "a possessive repetition"),
        ("(?P=a)", "a backreference"),
        (r"(a)\1", "a backreference"),
        (r"\C", "a single byte"),
        (r"a\Z", "the end of the text; write \\z"),
        (r"\p{Klingon}", "there is no character class"),
        ("[[:foo:]]", "there is no character class"),
        ("[b-a]", "a range goes backwards: b-a"),
    ],
)
def test_what_re2_lacks_is_refused_by_its_name(expression: str, what: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compile_path_pattern("~" + expression)
    assert what in str(caught.value)


def vectors() -> list[dict[str, Any]]:
    """What Go's regexp says: whether it takes an expression, and what the groups are for some texts."""
    return [json.loads(line) for line in (Path(__file__).parent / "re2_vectors.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["expression"])
def test_expressions_mean_what_they_mean_to_go(vector: dict[str, Any]) -> None:
    expression, texts = vector["expression"], vector["texts"]
    if texts is None:
        with pytest.raises(ConfigurationError):
            compile_path_pattern("~" + expression)
        return
    pattern = compile_path_pattern("~" + expression)
    assert pattern is not None
    for text, groups in texts.items():
        match = pattern.search(text)
        assert (None if match is None else [group or "" for group in match.groups()]) == groups, text


@pytest.mark.parametrize("expression", [r"^(\w+/?)+$", "^(a+)+$", "^(a|a)*$", "^(a?){50}a{50}$"])
def test_names_with_exponential_cost_in_other_engines(expression: str) -> None:
    pattern = compile_path_pattern("~" + expression)
    assert pattern is not None
    assert pattern.search("a" * 400 + "~") is None


def test_memory_for_expressions_is_limited() -> None:
    pattern = compile_path_pattern("~(a|b)*a(a|b){14}c")  # a state for each combination of the last 15 letters
    assert pattern is not None
    randomness = random.Random(1)
    for _ in range(40):
        text = "".join(randomness.choice("ab") for _ in range(400))
        assert pattern.search(text + "c") is not None or text[-15] == "b"
    assert len(pattern._automaton._states) <= MAXIMUM_STATES + 1
