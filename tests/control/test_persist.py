"""Changes written back into the file: what they touch, what stays, and what happens when others write too."""

from __future__ import annotations

import difflib
import functools
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.control.support import FILE_HEAD, running_file

from polycast.config import Configuration, crypto, load, load_bytes
from polycast.config.edits import AddPath, Edit, EditPath, RemovePath, ReplacePaths, SetKeys
from polycast.config.persist import ConflictError, PersistError, edit_content, prepare_write
from polycast.config.yaml_edit import UneditableError
from polycast.config.yaml_text import flow, scalar
from polycast.errors import ConfigurationError

GOLDEN = Path(__file__).parent / "golden"
BEFORE = (GOLDEN / "before.yml").read_bytes()

EDITS: dict[str, Edit] = {
    "set": SetKeys(
        {
            "logLevel": "debug",
            "readTimeout": "20s",
            "writeTimeout": "1m",
            "protocols": ["tcp"],
            "api": False,
            "metrics": True,
            "authMethods": ["digest"],
            "readBufferCount": 1024,
            "encryption": "optional",
            "apiUser": "admin",
            "rtspAddress": ":9554",
            "apiPass": "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        }
    ),
    "set_the_same": SetKeys(
        {"logLevel": "info", "readTimeout": "10s", "api": True, "protocols": ["tcp", "udp", "multicast"]}
    ),
    "add": AddPath("new/path_1", {"source": "rtsp://h/a?b=1&c", "sourceOnDemand": True, "readIPs": ["10.0.0.0/8"]}),
    "add_expression": AddPath("~^cam(\\d{1,3}): #x$", {}),
    "edit": EditPath(
        "yard/north", {"sourceOnDemand": False, "readPass": "007", "readIPs": ["1.2.3.4"], "fallback": "/door"}
    ),
    "edit_flow": EditPath("flow", {"readUser": "x", "disablePublisherOverride": False}),
    "edit_alias": EditPath("copy", {"readUser": "alice"}),
    "edit_merged": EditPath("merged", {"readUser": "alice", "fallback": ""}),
    "edit_folded": EditPath("1234", {"fallback": "/flow"}),
    "edit_empty": EditPath("empty", {"disablePublisherOverride": True}),
    "edit_null": EditPath("null_path", {"disablePublisherOverride": True}),
    "edit_last": EditPath("~^.*$", {"readUser": "u", "readPass": "p"}),
    "remove": RemovePath("yard/north"),
    "remove_last": RemovePath("all"),
    "remove_flow": RemovePath("flow"),
    "replace": ReplacePaths({"door": {"source": "rtsp://192.168.1.20/x"}, "flow": None, "all": {}, "new": {}}),
    "replace_nothing": ReplacePaths({}),
}


def edited(content: bytes, edit: Edit) -> bytes:
    return edit_content(content, edit, edit.apply(load_bytes(content, {}).configuration))


@functools.cache
def before() -> Configuration:
    return load_bytes(BEFORE, {}).configuration


def difference(old: bytes, new: bytes) -> str:
    lines = difflib.unified_diff(old.decode().splitlines(), new.decode().splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++"))) + "\n"


def test_the_file_is_a_large_one() -> None:
    assert len(BEFORE.splitlines()) >= 300
    load_bytes(BEFORE, {})


@pytest.mark.parametrize("name", EDITS)
def test_only_these_lines_change(name: str) -> None:
    edit = EDITS[name]
    after = edit.apply(before())
    new = edit_content(BEFORE, edit, after)
    golden = GOLDEN / f"{name}.diff"
    if os.environ.get("POLYCAST_WRITE_GOLDEN"):
        golden.write_text(difference(BEFORE, new))
    assert difference(BEFORE, new) == golden.read_text()
    loaded = load_bytes(new, {})
    assert loaded.configuration == after
    assert not loaded.warnings
    YAML(typ="rt").load(new.decode())


@pytest.mark.parametrize("name", EDITS)
def test_line_ends_and_byte_order_marks_stay(name: str) -> None:
    content = b"\xef\xbb\xbf" + BEFORE.replace(b"\n", b"\r\n")
    new = edited(content, EDITS[name])
    assert new == b"\xef\xbb\xbf" + edited(BEFORE, EDITS[name]).replace(b"\n", b"\r\n")


SMALL = [
    b"",
    b"# only a comment\n",
    b"paths:\n",
    b"paths: {}\n",
    b"{}\n",
    b"paths:",
    b"---\nlogLevel: info\n",
    b"paths: ~  # none\n",
]
SMALL_EDITS = [AddPath("cam", {"readUser": "a", "readPass": "b"}), SetKeys({"api": True}), AddPath("x", {})]


@pytest.mark.parametrize("content", SMALL)
@pytest.mark.parametrize("edit", SMALL_EDITS)
def test_small_files(content: bytes, edit: Edit) -> None:
    new = edited(content, edit)
    assert load_bytes(new, {}).configuration == edit.apply(load_bytes(content, {}).configuration)
    for comment in (b"# only a comment", b"# none"):
        assert (comment in new) == (comment in content)


def test_forms_that_cannot_be_edited_are_refused() -> None:
    anchored = b"paths:\n  a: &x\n    readUser: u\n    readPass: p\n  b: *x\n"
    with pytest.raises(UneditableError):
        edited(anchored, EditPath("a", {"readUser": "w"}))  # would change b, too
    with pytest.raises(UneditableError):
        edited(anchored, RemovePath("a"))
    with pytest.raises(UneditableError):
        edited(b"paths:\n  '~a':\n  '~b':\n", ReplacePaths({"~b": {}, "~a": {}}))
    with pytest.raises(UneditableError):
        edited(b"paths:\n  all:\n", ReplacePaths({"~b": {}, "all": {}}))  # would be added behind


TEXTS = [
    "", "yes", "No", "null", "~", "1", "0x1f", "1e3", ".5", "12:30", "2022-01-01", "- a", "a: b", "a #b", "#", "'",
    '"', "\\", "a\nb", "\t", " a", "a ", "\xe9", "\u2028", "\x7f", "\U0001f600", "@x", "%", "&a", "*a", "!t", "|",
    ">", "?", "? a", ":", "-", "[", "{}", "a,b", "a]", "=", "<<", ":8554", "127.0.0.1:80", "10s", "50M",
    "rtsp://u:p@h/p?q#f", "~^.*$", "~^a{2}\\d$", "on", "off", "y", "0", "-1", "+1",
]  # fmt: skip


@pytest.mark.parametrize("style", [None, "'", '"'])
@pytest.mark.parametrize("text", TEXTS)
def test_texts_read_back_the_same_in_both_versions_of_yaml(text: str, style: str | None) -> None:
    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(f"key: {scalar(text, style=style)}\n") == {"key": text}
        assert yaml.load(f"key: {flow([text, text])}\n") == {"key": [text, text]}
        assert yaml.load(f"{scalar(text)}: x\n") == {text: "x"}


def test_random_edits_of_random_files() -> None:
    """For any file, the change is either made exactly or refused."""
    randomness = random.Random(4)
    names = ["door", "yard/north", "flow", "copy", "merged", "empty", "null_path", "all", "n1", "~^x{1}", "1234"]
    paths: list[dict[str, Any]] = [
        {},
        {"fallback": "/a"},
        {"readUser": "a", "readPass": "1"},
        {"readIPs": ["::1", "10.0.0.0/8"]},
    ]
    content, refused = BEFORE, 0
    configuration = before()
    for number in range(120):
        name = randomness.choice(names)
        edit: Edit = randomness.choice(
            [
                AddPath(name, randomness.choice(paths)),
                EditPath(name, randomness.choice(paths)),
                RemovePath(name),
                SetKeys({"readTimeout": f"{number + 1}s", "rtmpDisable": randomness.random() < 0.5}),
            ]
        )
        try:
            after = edit.apply(configuration)
        except ConfigurationError:
            continue
        try:
            content = edit_content(content, edit, after)
        except UneditableError:
            refused += 1
            if randomness.random() >= 0.9:
                content, configuration = BEFORE, before()
            continue
        configuration = load_bytes(content, {}).configuration
        assert configuration == after
    assert refused < 30
    assert b"# The end. Do not write below." in content


# The running server


HEAD = FILE_HEAD + "apiPersist: yes\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.yml"


async def test_changes_are_written_and_not_loaded_again(file: Path) -> None:
    async with running_file(file, HEAD + "# cameras\npaths:\n  cam:   # one\n") as server:
        file.chmod(0o640)
        await server.changed("/v1/config/set", {"readTimeout": "20s"})
        await server.changed("/v1/config/paths/add/new", {"disablePublisherOverride": True})
        await server.changed("/v1/config/paths/edit/cam", {"fallback": "/new"})
        expected = HEAD + (
            "# cameras\npaths:\n  cam:   # one\n    fallback: /new\n  new:\n    disablePublisherOverride: yes\n"
            "readTimeout: 20s\n"
        )
        assert file.read_text() == expected
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert load(str(file), {}).configuration == server.app.configuration
        # A later change from outside comes through, so the watcher has seen ours by then.
        file.write_text(expected.replace("20s", "30s"))
        await server.until(lambda: float(server.app.configuration.read_timeout) == 30)
        assert sum("file changed" in line for line in server.log.lines) == 1
        assert [path.name for path in file.parent.iterdir()] == ["server.yml"]


async def test_without_the_setting_nothing_is_written(file: Path) -> None:
    async with running_file(file, FILE_HEAD) as server:
        await server.changed("/v1/config/paths/add/new")
        assert file.read_text() == FILE_HEAD
        await server.changed("/v1/config/set", {"apiPersist": True})
        assert file.read_text() == FILE_HEAD + "apiPersist: yes\n"
        # What was not written before is written in full when it changes.
        await server.changed("/v1/config/paths/edit/new", {"fallback": "/x"})
        assert file.read_text() == FILE_HEAD + "apiPersist: yes\npaths:\n  new:\n    fallback: /x\n"


async def test_a_change_of_the_file_meanwhile_is_not_lost(file: Path) -> None:
    async with running_file(file, HEAD) as server:
        await server.app.settings.close()  # the watcher is slow
        mine = HEAD + "readTimeout: 20s  # by hand\n"
        file.write_text(mine)
        refused = await server.post("/v1/config/set", {"writeTimeout": "30s"})
        assert refused.status_code == 409
        assert "the configuration file was changed" in refused.json()["error"]
        assert file.read_text() == mine
        assert float(server.app.configuration.write_timeout) == 10
        assert await server.reload()
        await server.changed("/v1/config/set", {"writeTimeout": "30s"})
        assert file.read_text() == mine + "writeTimeout: 30s\n"


async def test_a_bad_file_is_not_written_over(file: Path) -> None:
    async with running_file(file, HEAD) as server:
        file.write_text("nonsense: [")
        await server.log.wait("the configuration file has an error")
        assert (await server.post("/v1/config/set", {"writeTimeout": "30s"})).status_code == 409
        assert file.read_text() == "nonsense: ["


async def test_what_cannot_be_written_is_not_put_into_effect(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_file(file, HEAD) as server:

        def fail(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("polycast.config.persist._replace", fail)
        refused = await server.post("/v1/config/set", {"writeTimeout": "30s"})
        assert refused.status_code == 409
        assert refused.json()["error"] == "the configuration file can't be written: Permission denied"
        assert float(server.app.configuration.write_timeout) == 10
        assert file.read_text() == HEAD
        assert [path.name for path in file.parent.iterdir()] == ["server.yml"]


def test_a_change_at_the_last_moment_is_a_conflict(file: Path) -> None:
    file.write_text("logLevel: info\n")
    loaded = load(str(file), {})
    edit = SetKeys({"logLevel": "debug"})
    write = prepare_write(file, loaded.content_digest, edit, edit.apply(loaded.configuration), {})
    file.write_text("logLevel: warn\n")
    with pytest.raises(ConflictError):
        write.commit()
    assert file.read_text() == "logLevel: warn\n"
    with pytest.raises(ConflictError):
        prepare_write(file, loaded.content_digest, edit, edit.apply(loaded.configuration), {})
    file.unlink()
    with pytest.raises(PersistError, match="can't read"):
        prepare_write(file, loaded.content_digest, edit, edit.apply(loaded.configuration), {})


def test_links_stay_links_and_single_mounted_files_are_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, link = tmp_path / "real.yml", tmp_path / "link.yml"
    real.write_text("logLevel: info\n# more\n")
    link.symlink_to(real.name)
    edit = SetKeys({"logLevel": "warn"})

    def write() -> None:
        loaded = load(str(link), {})
        prepare_write(link, loaded.content_digest, edit, edit.apply(loaded.configuration), {}).commit()

    write()
    assert link.is_symlink()
    assert real.read_text() == "logLevel: warn\n# more\n"

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    inode = real.stat().st_ino
    real.write_text("logLevel: info\n# longer\n")
    monkeypatch.setattr(os, "replace", busy)
    write()
    assert real.read_text() == "logLevel: warn\n# longer\n"
    assert real.stat().st_ino == inode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.yml", "real.yml"]


async def test_an_encrypted_file_stays_encrypted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("RTSP_CONFKEY", key)
    file.write_bytes(crypto.encrypt((HEAD + "paths:\n  cam:\n").encode(), key))
    before = file.read_bytes()
    from tests.control.support import serving

    async with serving(load(str(file), os.environ)) as server:
        await server.changed("/v1/config/paths/add/new")
        after = file.read_bytes()
        assert crypto.decrypt(after, key).decode() == HEAD + "paths:\n  cam:\n  new:\n"
        assert after[:32] != before[:32], "a nonce must not be used twice"
        file.write_bytes(crypto.encrypt(HEAD.encode() + b"readTimeout: 33s\n", key))
        await server.until(lambda: float(server.app.configuration.read_timeout) == 33)
        file.write_bytes(crypto.encrypt(HEAD.encode(), "another key"))
        await server.log.wait("last good configuration stays in effect: .*: decryption error")
