"""Changes through an API with the names of one dialect are written into a file with those of another."""

from __future__ import annotations

import pytest

from polycast.config import load_bytes
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY, MEDIAMTX, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.edits import AddPath, Edit, EditPath, RemovePath, ReplacePaths, SetKeys, SetPathDefaults
from polycast.config.persist import edit_content
from polycast.errors import ConfigurationError

FILE = """\
# Mine
rtspTransports: [udp, tcp]  # no multicast
hlsDisable: yes
apiAllowOrigins:
  - https://a.example
paths:
  cam:
    source: rtsp://h/
    sourceProtocol: tcp  # firewall
  all_others:
"""


def edited(edit: Edit, dialect: Dialect, text: str = FILE) -> str:
    """Return the file after an edit; it must mean what is in effect then."""
    after = edit.apply(load_bytes(text.encode(), {}, "", dialect).configuration)
    new = edit_content(text.encode(), edit, after)
    assert load_bytes(new, {}, "", dialect).configuration == after
    return new.decode()


@pytest.mark.parametrize("dialect", [MEDIAMTX, POLYCAST], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        (SetKeys({"protocols": ["tcp"]}), "[udp, tcp]  # no multicast", "[tcp]  # no multicast"),
        (SetKeys({"hlsDisable": False}), "hlsDisable: yes", "hlsDisable: no"),
        (SetKeys({"rtmpDisable": True}), "  all_others:\n", "  all_others:\nrtmp: no\n"),
        (SetKeys({"apiAllowOrigin": "https://b.example"}), "  - https://a.example", "  - https://b.example"),
        (SetKeys({"readBufferCount": 64}), "  all_others:\n", "  all_others:\nwriteQueueSize: 64\n"),
        (SetKeys({"readTimeout": "25h"}), "  all_others:\n", "  all_others:\nreadTimeout: 25h\n"),
        (EditPath("cam", {"sourceProtocol": "udp"}), "sourceProtocol: tcp", "sourceProtocol: udp"),
        (
            EditPath("cam", {"disablePublisherOverride": True}),
            "tcp  # firewall\n",
            "tcp  # firewall\n    overridePublisher: no\n",
        ),
        (
            EditPath("all", {"runOnReady": "x"}),
            "  all_others:\n",
            "  all_others:\n    runOnAvailable: x\n",
        ),
        (EditPath("~^.*$", {"fallback": "/x"}), "  all_others:\n", "  all_others:\n    fallback: /x\n"),
        (RemovePath("all"), "  all_others:\n", ""),
    ],
)
def test_names_and_forms_of_the_file_are_used(edit: Edit, old: str, new: str, dialect: Dialect) -> None:
    assert edited(edit, dialect) == FILE.replace(old, new)


def test_the_same_names_in_a_file_of_the_same_dialect() -> None:
    text = "rtmpDisable: no\npaths:\n  a:\n    sourceProtocol: tcp\n    source: rtsp://h/\n"
    assert edited(SetKeys({"rtmpDisable": True}), LEGACY, text) == text.replace("no", "yes")
    assert edited(EditPath("a", {"sourceProtocol": "udp"}), LEGACY, text) == text.replace("tcp", "udp")


def test_a_path_that_is_new_in_the_file() -> None:
    new = edited(AddPath("b", {"sourceProtocol": "udp", "source": "rtsp://h/"}), POLYCAST)
    assert new == FILE + "  b:\n    rtspTransport: udp\n    source: rtsp://h/\n"
    text = "pathDefaults: {publisherGrace: 1s}\npaths:\n  a:\n"
    new = edited(ReplacePaths({"a": None, "b": {"disablePublisherOverride": True}}), MEDIAMTX, text)
    assert new == text + "  b:\n    overridePublisher: no\n"


def test_a_setting_that_was_global_once_stays_where_it_is() -> None:
    text = "record: yes\npaths:\n  a:\n"
    assert edited(SetPathDefaults({"record": False}, MEDIAMTX), MEDIAMTX, text) == text.replace("yes", "no")
    new = edited(SetPathDefaults({"record": False, "maxReaders": 2}, MEDIAMTX), MEDIAMTX, text)
    assert new == text.replace("yes", "no") + "pathDefaults:\n  maxReaders: 2\n"


def test_a_setting_that_was_global_once_is_set_in_the_defaults_of_paths() -> None:
    edit = SetKeys({"record": True, "logLevel": "debug"}, MEDIAMTX)
    text = "paths:\n  a:\n"
    assert edit.apply(load_bytes(text.encode(), {}, "", MEDIAMTX).configuration).paths["a"].record
    assert edited(edit, MEDIAMTX, text) == text + "logLevel: debug\npathDefaults:\n  record: yes\n"
    assert edited(edit, MEDIAMTX, "record: no\n" + text) == "record: yes\n" + text + "logLevel: debug\n"
    with pytest.raises(ConfigurationError, match=r"non-existent parameter: 'record'"):
        SetKeys({"record": True}, LEGACY).apply(load_bytes(text.encode(), {}, "", LEGACY).configuration)


def test_the_order_matters_only_for_expressions() -> None:
    text = "paths:\n  a:\n  ~b:\n  c:\n"
    for dialect in (LEGACY, POLYCAST, MEDIAMTX):
        assert edited(ReplacePaths({"c": {}, "~b": {}, "a": {}, "d": {}}), dialect, text) == text + "  d:\n"
    text = "paths:\n  ~b:\n  ~a:\n"
    assert edited(ReplacePaths({"~a": {}, "~b": {}}), MEDIAMTX, text) == text, "they are sorted when the file is read"


def test_paths_inherit_the_defaults_of_the_file() -> None:
    loaded = load_bytes(b"pathDefaults: {publisherGrace: 1s}\npaths:\n  a:\n", {}, "", MEDIAMTX).configuration
    assert AddPath("b", {}).apply(loaded).paths["b"].publisher_grace == 1
    assert EditPath("a", {"publisherGrace": "2s"}).apply(loaded).paths["a"].publisher_grace == 2
    changed = EditPath("a", {"publisherGrace": "2s"}).apply(loaded)
    assert EditPath("a", {"publisherGrace": None}).apply(changed).paths["a"].publisher_grace == 1
    assert SetKeys({"hlsVariant": None}).apply(loaded) == loaded, "null is the default of the file's dialect"


@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        (LEGACY, ("~^.*$", "all")),
        (MEDIAMTX, ("all_others", "all")),
        (POLYCAST, ("all_others", "~^.*$")),
    ],
)
def test_all_paths_can_be_given_once(dialect: Dialect, names: tuple[str, str]) -> None:
    configuration = view_of(dialect).defaults
    with pytest.raises(ConfigurationError) as caught:
        ReplacePaths(dict.fromkeys(names)).apply(configuration)
    first, second = sorted(names)
    assert str(caught.value) == f"'{first}' and '{second}' are the same path"
