"""Included files: merged, each setting in one file only, errors that name file and line, changes that are noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from polycast.config import load
from polycast.config.edits import AddPath, EditPath, RemovePath, ReplacePaths, SetKeys
from polycast.config.includes import digest_of_included, matching
from polycast.config.persist import PersistError, prepare_write
from polycast.errors import ConfigurationError


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    file = tmp_path / "polycast.yml"
    file.write_text("include: conf.d/*.yml\nlogLevel: debug\npaths:\n  a:\n")
    return file


def add(main: Path, name: str, text: str) -> Path:
    file = main.parent / "conf.d" / name
    file.write_text(text)
    return file


def error_of(main: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(str(main), {})
    return "\n".join(caught.value.report)


def test_settings_of_all_files_apply(main: Path) -> None:
    add(main, "2.yml", "paths: {c: , b: {overridePublisher: no}}\n")
    add(main, "1.yml", "rtmp: no\npathDefaults: {publisherGrace: 3s}\npaths:\n  d:\n")
    add(main, "ignored.txt", "nonsense\n")
    add(main, "empty.yml", "# nothing\n")
    found = load(str(main), {})
    assert found.warnings == []
    assert list(found.configuration.paths) == ["a", "d", "c", "b"]
    assert {path.publisher_grace for path in found.configuration.paths.values()} == {3}
    assert not found.configuration.paths["b"].override_publisher
    assert {"rtmp", "logLevel", "paths.b.overridePublisher"} <= found.given


def test_a_key_that_is_repeated_in_an_included_file(main: Path) -> None:
    add(main, "1.yml", "rtmp: no\nrtmp: yes\n")
    (warning,) = load(str(main), {}).warnings
    assert (
        warning == f"{main.parent / 'conf.d' / '1.yml'}: line 2: 'rtmp' is written more than once; the last one counts"
    )
    strict = main.with_name("mediamtx.yml")
    main.rename(strict)
    assert error_of(strict).endswith('1.yml: line 2: mapping key "rtmp" already defined at line 1')


def test_a_file_may_be_named_and_patterns_may_match_nothing(main: Path) -> None:
    extra = main.parent / "extra.yml"
    extra.write_text("paths:\n  x:\n")
    main.write_text(f"include: [extra.yml, '{extra}', none/*.yml]\n")
    assert list(load(str(main), {}).configuration.paths) == ["x"]
    main.write_text("include: missing.yml\n")
    assert "can't read the configuration file" in error_of(main)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\nlogLevel: info\n", 2, "'logLevel' is also in the file that includes this one"),
        ("paths:\n  a:\n", 2, "the path 'a' is also in the file that includes this one"),
        ("include: x.yml\n", 1, "an included file can't include others"),
        ("\n\nrtsq: no\n", 3, "non-existent parameter: 'rtsq' (did you mean 'rtsp'?)"),
        ("rtmp: maybe\n", 1, "rtmp: 'maybe' is neither yes nor no"),
        ("paths:\n  c:\n    source: x\n", 3, "invalid source: 'x'"),
        ("paths:\n  c:\n    record: yes\n  c d:\n", 4, "invalid path name"),
        ("webrtcICEServers2:\n  - urll: a\n", 2, "non-existent parameter: 'urll'"),
        ("1: a\n", 1, "integer keys are not supported"),
        ("- a\n", 1, "not a map"),
    ],
)
def test_errors_name_the_file_and_the_line(main: Path, text: str, line: int, message: str) -> None:
    file = add(main, "1.yml", text)
    error = error_of(main)
    assert error.startswith(f"{file}: line {line}: ")
    assert message in error


def test_errors_of_syntax_name_the_file(main: Path) -> None:
    file = add(main, "1.yml", "a: [\n")
    assert error_of(main).startswith(f"{file}: invalid YAML: line ")


def test_two_included_files_with_the_same_path(main: Path) -> None:
    first, second = add(main, "1.yml", "paths:\n  x:\n"), add(main, "2.yml", "paths:\n  y:\n  x:\n")
    assert error_of(main) == f"{second}: line 3: the path 'x' is also in {first}"


@pytest.mark.parametrize("text", ["include: {a: b}\n", "include: [[a]]\n", "include: ['']\n"])
def test_bad_patterns(main: Path, text: str) -> None:
    main.write_text(f"\n{text}")
    assert error_of(main).startswith(f"{main}: line 2: include: not the name of a file")


def test_the_digest_changes_with_names_and_content(main: Path) -> None:
    digests = {load(str(main), {}).included_digest}
    file = add(main, "1.yml", "")
    digests.add(load(str(main), {}).included_digest)
    file.write_text("rtmp: no\n")
    digests.add(load(str(main), {}).included_digest)
    file.rename(file.with_name("2.yml"))
    digests.add(load(str(main), {}).included_digest)
    assert len(digests) == 4
    assert digest_of_included(()) == ""


@pytest.mark.parametrize(
    ("edit", "is_written"),
    [
        (SetKeys({"logLevel": "info"}), True),
        (SetKeys({"rtmpDisable": False}), False),
        (AddPath("new", {}), True),
        (EditPath("a", {"publisherGrace": "1s"}), True),
        (EditPath("x", {"publisherGrace": "1s"}), False),
        (RemovePath("a"), True),
        (RemovePath("x"), False),
        (ReplacePaths({"a": None}), False),
    ],
)
def test_the_api_does_not_change_what_is_in_an_included_file(
    main: Path, edit: SetKeys | AddPath | EditPath | RemovePath | ReplacePaths, is_written: bool
) -> None:
    add(main, "1.yml", "rtmp: no\npaths:\n  x:\n")
    loaded = load(str(main), {})
    configuration = edit.apply(loaded.configuration)
    if is_written:
        prepare_write(main, loaded.content_digest, edit, configuration, {}).commit()
        assert load(str(main), {}).configuration == configuration
    else:
        with pytest.raises(PersistError, match="in an included file"):
            prepare_write(main, loaded.content_digest, edit, configuration, {})


def test_a_pattern_that_matches_a_whole_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glob.iglob", lambda pattern, **_: (f"{number}.yml" for number in range(1_000_000_000)))
    with pytest.raises(ConfigurationError, match="include: more than 1000 files"):
        matching(("/*",))
