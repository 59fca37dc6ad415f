"""The rules of the architecture, held by reading the sources: who may import whom, who may name a protocol, sizes."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "polycast"

LEAVES = {"errors", "log", "security", "_version"}
"""Modules beside the layers that import nothing of ours and that every layer may import."""

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "log": {"errors"},
    "security": set(),
    "_version": set(),
    "media": set(LEAVES),
    "codecs": {"media", *LEAVES},
    "rtp": {"codecs", "media", *LEAVES},
    "hub": {"rtp", "codecs", "media", "config", *LEAVES},
    "wire": {"codecs", "media", "errors", "security"},
    "net": {"wire", *LEAVES},
    "config": set(LEAVES),
    "items": set(LEAVES),
    "web": set(LEAVES),
    "service": set(),
    "protocols": {"items", "web", "hub", "rtp", "codecs", "media", "wire", "net", "config", *LEAVES},
    "control": {"items", "hub", "media", "wire", "net", "config", *LEAVES},
    "demo": {"hub", "codecs", "media", *LEAVES},
}
"""What each layer may import besides itself. Those that are not listed (app, cli, api) put the layers together."""

NO_INPUT_OUTPUT = {"asyncio", "socket", "select", "selectors", "ssl", "time", "random", "secrets", "os", "logging",
                   "threading", "subprocess", "uvloop"}  # fmt: skip
SANS_IO_LAYERS = ("wire", "media", "codecs", "rtp", "security")

PROTOCOL_NAMES = re.compile(r"rtsp(?!-simple-server)|rtmp|hls|webrtc|srt", re.IGNORECASE)
"""The name of the server that Polycast stands in for is no protocol's."""
NAMELESS_LAYERS = ("hub", "control")

MODULE_LINES = 600
FUNCTION_LINES = 60
TOO_LONG_MODULES: set[str] = set()
TOO_LONG_FUNCTIONS: set[str] = {"codecs/h264_parameter_sets.py:parse_sps"}
"""Known to be over the limit (``path`` or ``path:function``). These two sets may only shrink."""


def modules(folder: str = "") -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py")) if folder else sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import of a module, those inside functions too."""
    package = ["polycast", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source == "polycast":
                for alias in node.names:
                    yield node.lineno, f"polycast.{alias.name}"
            else:
                yield node.lineno, source


def layered_modules() -> list[Path]:
    return [path for path in modules() if layer_of(path) in ALLOWED]


def test_there_are_modules_to_look_at() -> None:
    assert {"media", "codecs", "rtp", "hub", "wire", "net", "protocols"} <= {layer_of(path) for path in modules()}


@pytest.mark.parametrize("path", layered_modules(), ids=relative)
def test_imports_go_one_way(path: Path) -> None:
    layer = layer_of(path)
    allowed = ALLOWED[layer] | {layer}
    wrong = [
        f"{relative(path)}:{line}: {layer} imports {name}"
        for line, name in imported_modules(path)
        if name.split(".")[0] == "polycast" and (name.split(".")[1:2] or ["the whole package"])[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [path for folder in SANS_IO_LAYERS for path in modules(folder)], ids=relative)
def test_engines_do_no_input_output(path: Path) -> None:
    wrong = [
        f"{relative(path)}:{line}: imports {name}"
        for line, name in imported_modules(path)
        if name.split(".")[0] in NO_INPUT_OUTPUT
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [path for folder in NAMELESS_LAYERS for path in modules(folder)], ids=relative)
def test_the_generic_layers_name_no_protocol(path: Path) -> None:
    with path.open("rb") as file:
        wrong = [
            f"{relative(path)}:{token.start[0]}: {token.line.strip()}"
            for token in tokenize.tokenize(file.readline)
            if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT) and PROTOCOL_NAMES.search(token.string)
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("layer", ["net", "control"])
def test_the_network_knows_no_streaming_protocol(layer: str) -> None:
    wrong = [
        f"{relative(path)}:{line}: imports {name}"
        for path in modules(layer)
        for line, name in imported_modules(path)
        if name.startswith("polycast.wire") and not name.startswith("polycast.wire.http.")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_is_too_long() -> None:
    too_long = {relative(path) for path in modules() if len(path.read_text().splitlines()) > MODULE_LINES}
    assert too_long - TOO_LONG_MODULES == set(), f"over {MODULE_LINES} lines: split by subject"
    assert TOO_LONG_MODULES - too_long == set(), "no longer too long: take it off the list"


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield the qualified name and the number of lines, docstring and decorators aside, of every function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}{child.name}"
            assert child.end_lineno is not None
            lines = child.end_lineno - child.lineno + 1
            first = child.body[0]
            if ast.get_docstring(child) is not None and first.end_lineno is not None:
                lines -= first.end_lineno - first.lineno + 1
            yield name, lines
            yield from functions(child, f"{name}.")
        else:
            yield from functions(child, prefix)


def test_no_function_is_too_long() -> None:
    too_long = {
        f"{relative(path)}:{name}"
        for path in modules()
        for name, lines in functions(ast.parse(path.read_text()), "")
        if lines > FUNCTION_LINES
    }
    assert too_long - TOO_LONG_FUNCTIONS == set(), f"over {FUNCTION_LINES} lines: split"
    assert TOO_LONG_FUNCTIONS - too_long == set(), "no longer too long: take it off the list"


def test_the_rules_catch_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    bad = tmp_path / "hub" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("from ..net import tcp\nfrom polycast import wire\nimport asyncio\nx = 'RTSP'\n")
    assert list(imported_modules(bad)) == [(1, "polycast.net"), (2, "polycast.wire"), (3, "asyncio")]
    with pytest.raises(AssertionError, match=r"hub imports polycast\.net"):
        test_imports_go_one_way(bad)
    with pytest.raises(AssertionError, match="x = 'RTSP'"):
        test_the_generic_layers_name_no_protocol(bad)
    with pytest.raises(AssertionError, match="imports asyncio"):
        test_engines_do_no_input_output(bad)
    bad.write_text("def f():\n" + "    pass\n" * FUNCTION_LINES)
    with pytest.raises(AssertionError, match="split"):
        test_no_function_is_too_long()
